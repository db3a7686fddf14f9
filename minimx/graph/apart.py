"""Why neighbours did not become one kernel: said of a graph after fusion, from spaces and stages, edge by edge.

An edge counts where pointwise work or a reduction (of a fused node or alone) is at one end, or where a library was
asked to join what is there, since only these a pass could have joined. The rules themselves: passes/domains.py and
passes/grouping.py; here they are told. Of libraries and kernels that no group takes in: refused.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..ops.table import OPS
from .ir import Graph, Node, Value
from .passes.domains import folds_take, has_enough, rows_take
from .passes.expand import EXPANSIONS, row_of
from .passes.grouping import MAX_OPERANDS, MAX_PRIMITIVES
from .passes.spaces import VIEWS, Reduction, reduction_of, space_of, without_ones
from .refused import fed, left_out, refusals


class Apart(NamedTuple):
    """An edge between two kernels: the rows at its ends, what goes over memory there, and why."""

    producer: str
    reader: str
    type: str
    bytes: int
    why: str


def apart(g: Graph) -> list[Apart]:
    """All edges of a graph after fusion that might have been inside a kernel, the largest first."""
    ways, refused = _Ways(g), refusals(g)
    found = []
    for e in edges(g):
        p, r = maker_of(e.source, e.producer), reader_of(e.shown, e.reader)
        if _runs(p) or _runs(r) or (e.source, r.op) in refused:
            why = refused.get((e.source, r.op)) or why_apart(p, r, e, ways)
            found.append(Apart(p.op, r.op, e.source.type(), min(e.source.bytes, e.shown.bytes), why))
    return sorted(found, key=lambda a: -a.bytes)


class Edge(NamedTuple):
    """``reader`` reads ``shown``: what ``producer`` makes, ``source``, or a look at it through ``views``."""

    source: Value
    shown: Value
    views: tuple[Node, ...]
    producer: Node
    reader: Node


def edges(g: Graph) -> Iterator[Edge]:
    """Those between nodes that have kernels."""
    producers = g.producers()
    for reader in g.nodes:
        for v in dict.fromkeys(reader.values) if reader.form != "view" else ():
            source, views = v, list[Node]()
            while (producer := producers.get(source)) is not None and producer.form == "view":
                views.append(producer)
                source = producer.values[0]
            if producer is not None:
                yield Edge(source, v, tuple(views), producer, reader)


def maker_of(v: Value, n: Node) -> Node:
    """The member of ``n`` that makes its output ``v``; of a node that is not fused itself."""
    if n.body is None:
        return n
    made, inner = n.body.producers(), n.body.outputs[n.outputs.index(v)]
    while made[inner].op in VIEWS and made[inner].values[0] in made:
        inner = made[inner].values[0]
    return made[inner]


def reader_of(v: Value, n: Node) -> Node:
    """A member of ``n`` that reads ``v``, behind views that only change axes of extent 1."""
    if n.body is None:
        return n
    seen = {n.body.inputs[n.values.index(v)]}
    for m in n.body.nodes:
        if any(x in seen for x in m.values):
            if m.op not in VIEWS:
                return m
            seen.update(m.outputs)
    return n.body.nodes[-1]


def _runs(n: Node) -> bool:
    """True for what may be a member of a kernel."""
    return n.op not in VIEWS and (n.op in EXPANSIONS or space_of(n) is not None or reduction_of(n) is not None)


def why_apart(p: Node, r: Node, e: Edge, ways: _Ways) -> str:
    """Why row ``p`` of an edge's producer and row ``r`` of its reader are two kernels."""
    made, read = reduction_of(p), reduction_of(r)
    reason = ""
    if not _runs(r):
        return fed(r)
    if moved := next((n for n in e.views if n.op != "broadcast_to" and space_of(n) is None), None):
        return f"read through {moved.op}, as {_shape(e.shown.shape)}: not where, or in the shape, in which it is made"
    if not _runs(p):
        return left_out(p, e.source, r)
    if p.op in EXPANSIONS or r.op in EXPANSIONS:
        return _not_written_out(p if p.op in EXPANSIONS else r, ways.gpu)
    if made is not None and read is not None:
        reason = _two_reductions(made, read)
    elif made is not None:
        reason = _reads_what_was_reduced(made, r, e.source, ways.gpu)
    elif read is not None:
        reason = _is_reduced(read, p, ways.gpu)
    elif space_of(p) != space_of(r):
        reason = _other_space(p, r)
    if reason:
        return reason
    between = ways.between(e.producer, e.reader)
    if between is not None:
        return f"another way between them leads through {between}, which has to be done first"
    return _bounds(e.producer, e.reader) or _one_kernel_only(e.producer, e.reader)


def _not_written_out(n: Node, gpu: bool) -> str:
    shape = n.values[0].shape
    if n.op != "dropout_train" and shape and not row_of(n):
        axis = n.attrs["axis"] % len(shape)
        return f"{n.op} is written out for groups along the last axis only, not along axis {axis} of {_shape(shape)}"
    return f"{n.op} over {_shape(shape)} is a kernel of its own {_where(gpu)}"


def _two_reductions(made: Reduction, read: Reduction) -> str:
    if made.result and without_ones(made.result) == read.space:
        return f"a reduction of what a reduction over {_shape(made.space)} left: the second waits for all of the first"
    return ""


def _reads_what_was_reduced(made: Reduction, r: Node, v: Value, gpu: bool) -> str:
    space = space_of(r)
    if space is not None and space[1] == made.result:
        return "" if _has_kernel(made, [v], gpu) else _no_kernel(made, gpu)
    if not made.is_suffix:
        return f"what is reduced over other axes than the last of {_shape(made.space)} is complete only at its end"
    if not rows_take(made, [v], gpu):
        return f"rows of {math.prod(made.space[i] for i in made.folded)} elements have no kernel {_where(gpu)}"
    if space is not None and space[1] != made.space:
        return f"rows of {_shape(made.space)} are read over another space, {_shape(space[1])}"
    return ""


def _is_reduced(read: Reduction, p: Node, gpu: bool) -> str:
    space = space_of(p)
    if space is not None and (space[0] or space[1] != read.space):
        return f"made over {_shape(space[1])}, reduced as part of {_shape(read.space)}"
    return "" if _has_kernel(read, p.values, gpu) else _no_kernel(read, gpu)


def _has_kernel(r: Reduction, reads: list[Value], gpu: bool) -> bool:
    return rows_take(r, reads, gpu) or folds_take(r, reads, gpu)


def _no_kernel(r: Reduction, gpu: bool) -> str:
    if not has_enough(r, gpu):
        return f"a reduction of {_shape(r.space)} is too small for a kernel of a group to pay {_where(gpu)}"
    axes = ", ".join(map(str, r.folded))
    return f"a reduction of {_shape(r.space)} over axes {axes} has no kernel that takes pointwise work {_where(gpu)}"


def _other_space(p: Node, r: Node) -> str:
    (layout, mine), (other, theirs) = space_of(p), space_of(r)  # type: ignore[misc]
    if layout != other:
        return f"other layout: {layout or 'plain'} and {other or 'plain'}"
    times = math.prod(theirs) // max(math.prod(mine), 1)
    if times > 1:
        return f"made over {_shape(mine)}, read over {_shape(theirs)}: inside, it would be computed {times} times"
    return f"other space: {_shape(mine)} and {_shape(theirs)}"


def _bounds(producer: Node, reader: Node) -> str:
    """The bounds of one kernel, if both together exceed one."""
    inside = set(producer.outputs)
    arrays = {*producer.values, *producer.outputs, *reader.outputs, *(v for v in reader.values if v not in inside)}
    if len(arrays) > MAX_OPERANDS:
        return f"a kernel has {MAX_OPERANDS} arrays at most"
    members = [m for n in (producer, reader) for m in (n.body.nodes if n.body is not None else [n])]
    if sum(_primitives(m) for m in members) > MAX_PRIMITIVES:
        return f"a kernel has {MAX_PRIMITIVES} scalar operations at most"
    return ""


def _one_kernel_only(producer: Node, reader: Node) -> str:
    names = {"kernel": "alone", "pointwise": "in a pointwise group"}
    ends = [names.get(n.form, f"in a {n.form} group") for n in (producer, reader)]
    return f"a row is in one kernel only: the first is {ends[0]}, the second {ends[1]}, where more is saved"


def _primitives(n: Node) -> int:
    from .passes.grouping import _primitives_of

    return _primitives_of(n.op) if n.op in OPS else 1


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one element"


def _where(gpu: bool) -> str:
    return "on a GPU" if gpu else "on the CPU"


class _Ways:
    """Ways through a graph."""

    def __init__(self, g: Graph) -> None:
        self.gpu, self.uses = g.gpu >= 0, g.uses()
        self.order = {n: i for i, n in enumerate(g.nodes)}

    def between(self, first: Node, last: Node) -> str | None:
        """The row of a node on a way from the one to the other that is not the edge itself."""
        before: dict[Node, Node | None] = {}
        todo: list[tuple[Node, Node | None]] = [
            (c, None) for v in first.outputs for c in self.uses.get(v, []) if c is not last
        ]
        while todo:
            n, came = todo.pop()
            if n is last:
                while came is not None and came.form == "view" and before[came] is not None:
                    came = before[came]
                return came.op if came is not None and came.form != "view" else None
            if n not in before and self.order[n] < self.order[last]:
                before[n] = came
                todo += [(c, n) for v in n.outputs for c in self.uses.get(v, [])]
        return None
