"""Prepared values: what an inference graph computes from parameters and constants alone is computed once, and kept.

Batch norms folded into weights, weights in the layout or type that a library wants: ``split`` takes these nodes out
into a graph of their own, whose results the rest reads as further inputs. ``Prepared`` keeps them, always in the same
memory (captured graphs of a GPU hold addresses), and computes them anew once a parameter was written to. A graph tells
by ``lasting`` which of its inputs are parameters; one whose call is recorded has none.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from ..device import cpu, gpu
from ..ndarray import _core, ndarray
from ..ops.arguments import c_strides
from ..ops.table import OPS
from .ir import Graph, Node, Value, spec_of
from .lower import is_dense, lower, outer_type
from .passes.cleanup import dead_code

GROWTH = 4  # a node may make that many times the bytes it reads; what grows more is cheaper to make than to keep
PACKED = frozenset({"convolution", "convolution_relu"})  # whose kernels would copy a transposed weight at every run


def lasting_values(g: Graph) -> set[Value]:
    """What stays the same from run to run: lasting inputs, constants, and all that is made from them alone."""
    found = {*g.lasting, *g.constants} if g.lasting else set()
    size = {v: v.bytes for v in found}
    for n in g.nodes if found else ():
        if n.body is not None or OPS[n.op].random or not n.values or not all(v in found for v in n.values):
            continue
        read = sum(size[v] for v in set(n.values))
        if n.is_view or sum(v.bytes for v in n.outputs) <= GROWTH * read:
            found.update(n.outputs)
            size |= {v: min(v.bytes, read) if n.is_view else v.bytes for v in n.outputs}
    return found


@dataclass
class Split:
    """Two graphs for one. sources: of ``prepare``'s inputs, places among the whole's; inputs: the same of the rest's,
    which are followed by the prepared values.
    """

    prepare: Graph
    sources: list[int]
    rest: Graph
    inputs: list[int]


def split(g: Graph) -> Split | None:
    """Takes the lasting values out; None where there is nothing to take out."""
    lasting = lasting_values(g)
    early = [n for n in g.nodes if all(v in lasting for v in n.outputs)]
    if not early:
        return None
    late = _with_views([n for n in g.nodes if n.outputs[0] not in lasting], early)
    given, made = {*g.inputs, *g.constants}, {v for n in late for v in n.outputs}
    read = dict.fromkeys(v for n in late for v in n.values)
    wanted = [v for v in read | dict.fromkeys(g.results()) if v not in given and v not in made]
    if not wanted:
        return None
    constants = dict(g.constants)
    prepare = dead_code(replace(g, name=g.name + ".prepare", nodes=early, outputs=wanted, writes=[]))
    needed = {v for n in prepare.nodes for v in n.values}
    sources = [i for i, v in enumerate(g.inputs) if v in needed]
    prepare.inputs = [g.inputs[i] for i in sources]
    used = {*read, *g.results(), *(target for target, _ in g.writes)}
    inputs = [i for i, v in enumerate(g.inputs) if v in used or v not in g.lasting]
    rest = replace(g, nodes=late, inputs=[*(g.inputs[i] for i in inputs), *wanted], constants=constants)
    return Split(prepare.verify(), sources, dead_code(rest).verify(), inputs)


def _with_views(late: list[Node], early: list[Node]) -> list[Node]:
    """Views of lasting values that ``late`` reads are made again there: they cost nothing, and their copies would.

    Not where making them is a copy, nor where the reader would copy them.
    """
    producers = {v: n for n in early for v in n.outputs}
    again: dict[Value, Value] = {}
    strides: dict[Value, tuple[int, ...]] = {}
    added: list[Node] = []

    def remade(v: Value) -> Value:
        """``v`` as a look at something that is there, with its strides; or itself, to be kept."""
        n = producers.get(v)
        if v in again:
            return again[v]
        strides[v] = c_strides(v.shape)
        if n is None or not n.is_view or v.layout:
            return v
        source = remade(n.inputs[0])  # type: ignore[arg-type]
        plan = OPS[n.op].plan([spec_of(x, strides.get(source, ())) for x in [source, *n.inputs[1:]]], n.attrs)
        if plan.view is None or (plan.contiguous and not is_dense(source.shape, strides[source])):
            return v
        again[v] = v.like()
        strides[again[v]] = tuple(plan.view[0])
        added.append(Node(n.op, [source, *n.inputs[1:]], [again[v]], n.attrs, n.site))
        return again[v]

    def seen(n: Node, x: Any) -> Any:
        if not isinstance(x, Value):
            return x
        look = remade(x)
        return x if n.op in PACKED and not is_dense(look.shape, strides[look]) else look

    return added + [replace(n, inputs=[seen(n, x) for x in n.inputs]) for n in late]


class Prepared:
    """The kept arrays of one ``prepare`` graph, for the parameters ``sources``. Threads may share one."""

    def __init__(self, graph: Graph, sources: Sequence[ndarray]) -> None:
        """``graph`` has been through the passes."""
        targets = [v.like() for v in graph.outputs]
        inputs, writes = [*graph.inputs, *targets], list(zip(targets, graph.outputs, strict=True))
        self.program = lower(replace(graph, inputs=inputs, outputs=[], writes=writes))
        self.sources = list(sources)
        with gpu(graph.gpu) if graph.gpu >= 0 else cpu():
            self.kept = [_core.empty(*outer_type(v)) for v in graph.outputs]
        self.versions: bytes | None = None
        self.lock = Lock()

    def __call__(self) -> list[ndarray]:
        """The arrays, as the parameters are now."""
        if (now := _core.versions(self.sources)) is None or now != self.versions:
            with self.lock:
                self.program.run([*self.sources, *self.kept], False)
                self.versions = now
        return self.kept


class Store:
    """The Prepared of a block's signatures: those that prepare the same share one. It goes with its last user."""

    def __init__(self) -> None:
        self.shared: weakref.WeakValueDictionary[Any, Prepared] = weakref.WeakValueDictionary()

    def prepared(self, graph: Graph, sources: Sequence[ndarray]) -> Prepared:
        """That for a graph and its parameters."""
        constants = [a.tobytes() for a in graph.constants.values()]
        dense = all(_core.is_contiguous(a) for a in sources)
        key = (graph.pretty(), tuple(map(_core.address, sources)), tuple(constants), None if dense else object())
        found = self.shared.get(key)
        if found is None:
            found = self.shared[key] = Prepared(graph, sources)
        return found
