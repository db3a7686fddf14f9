"""Domains: which nodes may share a kernel, by form. A node is in one kernel only, so nothing is ever computed twice.

    pointwise   elementwise rows, casts and trivial views over one space
    rows        these, and reductions of the space over its last axes: a row stays on the chip, so a node may read what
                was reduced of its row (softmax, layer norm, and the pointwise nodes around them)
    fold        these, and reductions over any axes, whose results only small nodes of the same kernel read (a bias'
                gradient, losses, norms): what is pointwise is computed on the way, and stored if others want it

Rules of cost. A pointwise node that leads to one fold only is the fold's. Others go to the rows of their space if they
are connected to a reduction there, then to a fold that reads them, and the rest among themselves: each step saves
reading or storing whole arrays, and the order puts first what saves most. Nodes that update a value that the graph
writes back stay pointwise: they run in place, and those of many parameters in one launch (../together.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...rtc import folds, rows
from ...rtc.compiler import find_compiler
from ..ir import Graph, Node, Value
from .spaces import VIEWS, Reduction, places, reduction_of, space_of, without_ones


class Domain:
    """Nodes with keys: those of one key may be in one kernel where ``joins`` lets them."""

    def __init__(self, g: Graph, keys: dict[Node, Any], **attrs: str) -> None:
        self.keys, self.attrs, self.again = keys, attrs, g.again

    def joins(self, producer: Node, reader: Node) -> bool:
        """True if both may be in one kernel, given that one reads the other."""
        late = reader not in self.again or producer in self.again
        return late and producer in self.keys and self.keys[producer] == self.keys.get(reader)

    def is_full(self, v: Value, n: Node) -> bool:
        """True if node ``n`` of the domain reads an element of ``v`` for each that it makes."""
        return v.shape == n.outputs[0].shape

    def takes(self, key: Any, reads: Sequence[Value]) -> bool:
        """True if a kernel may read these arrays."""
        return True

    def worth(self, group: Sequence[Node]) -> bool:
        """True if a kernel for the group saves something."""
        return sum(n.op not in VIEWS for n in group) > 1


def pointwise(g: Graph) -> Domain:
    """Pointwise nodes by their spaces."""
    return Domain(g, {n: s for n in g.nodes if (s := space_of(n)) is not None})


# ---- with reductions ------------------------------------------------------------------------------------------------


def fuses_reductions(gpu: bool) -> bool:
    """True if reductions are fused at all. On the CPU members run until they are compiled: not where nothing can."""
    return gpu or find_compiler() is not None


FEW = 1 << 14  # elements up to which a reduction of the CPU stays as it is: a compiler's run would not pay


def has_enough(r: Reduction, gpu: bool) -> bool:
    """True if the reduction is fused where its form allows it."""
    return fuses_reductions(gpu) and (gpu or math.prod(r.space) > FEW)


def rows_take(r: Reduction, reads: Sequence[Value], gpu: bool) -> bool:
    """True if there is a kernel for rows of the space that reads these arrays (those that vary along a row count)."""
    extent = math.prod(r.space[i] for i in r.folded)
    long = sum(without_ones(v.shape) == r.space for v in reads)
    return r.is_suffix and has_enough(r, gpu) and rows.takes(extent, long, {v.dtype for v in reads}, gpu)


def folds_take(r: Reduction, reads: Sequence[Value], gpu: bool) -> bool:
    """True if there is a kernel that folds the space so, and reads these arrays."""
    folded = tuple(r.space[i] for i in r.folded)
    return has_enough(r, gpu) and folds.takes(r.result, folded, {v.dtype for v in reads}, gpu)


class Reducing(Domain):
    """Form "rows" or "fold". Keys are Reductions; ``reduced``: the nodes whose results have the result's shape."""

    def __init__(self, g: Graph, form: str) -> None:
        super().__init__(g, {}, form=form)
        self.gpu, self.can = g.gpu >= 0, rows_take if form == "rows" else folds_take
        self.crosses = form == "rows"  # what was reduced may be read along the row that it comes from
        self.reduced: set[Node] = set()
        self.g, self.uses, self.producers, self.results = g, g.uses(), g.producers(), set(g.results())
        self.reductions = {n: r for n in g.nodes if (r := reduction_of(n)) and self.can(r, n.values, self.gpu)}
        fixed = updates(g) if self.reductions else set()
        self.spaces = {n: s[1] for n in g.nodes if n not in fixed and (s := space_of(n)) is not None and s[0] == ""}

    def joins(self, producer: Node, reader: Node) -> bool:
        return super().joins(producer, reader) and self.fits(producer, reader)

    def fits(self, producer: Node, reader: Node) -> bool:
        """True if ``reader`` sees the value of ``producer`` element by element, or row by row."""
        if producer not in self.reduced:
            return True
        if reader in self.reduced:
            return reader not in self.reductions
        return self.crosses and self.along(producer.outputs[0], reader.outputs[0], self.keys[producer])

    def along(self, v: Value, out: Value, r: Reduction) -> bool:
        """True if ``v``, which broadcasts to ``out``, varies along the axes that ``r`` keeps."""
        return without_ones(out.shape) == r.space and places(v.shape, out.shape) == r.kept

    def is_full(self, v: Value, n: Node) -> bool:
        r = self.keys[n]
        return (n in self.reductions or n not in self.reduced) and without_ones(v.shape) == r.space

    def takes(self, key: Any, reads: Sequence[Value]) -> bool:
        return self.can(key, reads, self.gpu)

    def worth(self, group: Sequence[Node]) -> bool:
        return super().worth(group) and any(n in self.reductions for n in group)

    def add_reduction(self, n: Node, r: Reduction) -> None:
        self.keys[n] = r
        self.reduced.add(n)

    def follow(self, n: Node) -> bool:
        """Takes in a pointwise node over what was reduced, that reads such a value."""
        for p in self.makers(n):
            if p in self.reduced and self.keys[p].result == self.spaces[n]:
                self.keys[n] = self.keys[p]
                self.reduced.add(n)
                return True
        return False

    def makers(self, n: Node) -> list[Node]:
        """The producers of what a node reads."""
        return [self.producers[v] for v in n.values if v in self.producers]


def updates(g: Graph) -> set[Node]:
    """Pointwise nodes that lead, within their space, to a value that is stored where the graph also reads."""
    uses = g.uses()
    stored = {v for target, v in g.writes if uses.get(target)}
    found: dict[Node, tuple] = {}
    for n in reversed(g.nodes) if stored else ():
        space = space_of(n)
        out = n.outputs[0]
        if space is not None and (out in stored or any(found.get(c) == space for c in uses.get(out, []))):
            found[n] = space
    return set(found)


def by_rows(g: Graph) -> Reducing:
    """The domain of rows: for each space the last axes that most reductions of it fold."""
    d = Reducing(g, "rows")
    votes = Counter(d.reductions.values())
    chosen: dict[tuple[int, ...], Reduction] = {}
    for r, _ in votes.most_common():
        chosen.setdefault(r.space, r)
    others = Reducing(g, "fold")
    lead = leading(others, {n for n, r in d.reductions.items() if chosen[r.space] == r})
    for n in g.nodes:
        if n in d.reductions and chosen[d.reductions[n].space] == d.reductions[n]:
            d.add_reduction(n, d.reductions[n])
        elif n in d.spaces and not d.follow(n):
            if d.spaces[n] in chosen and n not in lead:
                d.keys[n] = chosen[d.spaces[n]]
        elif n.op == "broadcast_to" and n not in d.spaces:
            for p in d.makers(n):
                if p in d.reduced and d.along(n.values[0], n.outputs[0], d.keys[p]):
                    d.keys[n] = d.keys[p]
    for n in reversed(g.nodes):
        precede(d, n)
    return d


def precede(d: Reducing, n: Node) -> None:
    """Takes in a node over the rows that is read along rows of one key only: it is computed once a row there too."""
    out = n.outputs[0]
    if n in d.keys or out in d.results or not (n in d.spaces or n.op == "broadcast_to"):
        return
    readers = d.uses.get(out, [])
    keys = {d.keys.get(c) for c in readers}
    r = keys.pop() if len(keys) == 1 else None
    if r is None:
        return
    if n not in d.spaces:
        if d.along(n.values[0], out, r) and not any(c in d.reduced and c not in d.reductions for c in readers):
            d.keys[n] = r
    elif r.result == d.spaces[n]:
        if all((c in d.reduced and c not in d.reductions) or d.along(out, c.outputs[0], r) for c in readers):
            d.keys[n] = r
            d.reduced.add(n)


def by_folds(g: Graph) -> Reducing:
    """The domain of folds: what leads to one, what one reads, what reads that, and what is left of its result."""
    d = Reducing(g, "fold")
    d.keys.update(leading(d))
    for n, r in d.reductions.items():
        d.add_reduction(n, r)
    for n in reversed(g.nodes):
        if n in d.spaces and n not in d.keys:
            keys = [d.keys.get(c) for c in d.uses.get(n.outputs[0], []) if c in d.reductions or c not in d.reduced]
            mine = next((k for k in keys if k is not None and k.space == d.spaces[n]), None)
            if mine is not None:
                d.keys[n] = mine
    for n in g.nodes:
        if n in d.spaces and n not in d.keys and not d.follow(n):
            keys = [d.keys.get(p) for p in d.makers(n) if p not in d.reduced]
            mine = next((k for k in keys if k is not None and k.space == d.spaces[n]), None)
            if mine is not None:
                d.keys[n] = mine
    return d


def leading(d: Reducing, but: set[Node] | None = None) -> dict[Node, Reduction]:
    """Pointwise nodes all of whose readers are reductions of one key, or lead to those only. but: not these."""
    found: dict[Node, Reduction] = {}
    for n in reversed(d.g.nodes):
        if n not in d.spaces or n.outputs[0] in d.results:
            continue
        readers = d.uses.get(n.outputs[0], [])
        keys = {None if but and c in but else d.reductions.get(c, found.get(c)) for c in readers}
        r = keys.pop() if len(keys) == 1 else None
        if r is not None and r.space == d.spaces[n]:
            found[n] = r
    return found
