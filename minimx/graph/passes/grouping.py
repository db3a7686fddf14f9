"""Grouping in linear time: which nodes of a domain (domains.py) run as one kernel.

Every node gets a stage: it may share its producer's stage if the domain lets both be in one kernel, and otherwise comes
a stage later. All nodes of one stage and one key of the domain can then run together, since a path that leaves them
comes back at a later stage: no cycle is possible and none is searched for. Members of a group are connected, by an edge
or by an operand that both read; groups are cut, in the order of the graph, where a kernel would have too many operands
or steps. A cut piece is a run of that order, so no cycle arises among the pieces either.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ...ops.expr import topological
from ...ops.table import OPS
from ..ir import Graph, Node, Value
from .domains import Domain

MAX_OPERANDS = 24  # arrays of one kernel
MAX_PRIMITIVES = 256  # scalar operations of one kernel


def groups_of(g: Graph, domain: Domain) -> list[list[Node]]:
    """The groups of a domain, each in the order of the graph and worth a kernel."""
    if len(domain.keys) < 2:
        return []
    stages = stages_of(g, domain)
    uses, results = g.uses(), set(g.results())
    parts = [part for group in connected(g, domain, stages) for part in bounded(group, domain, uses, results)]
    return [part for part in parts if domain.worth(part)]


# ---- stages ---------------------------------------------------------------------------------------------------------


def stages_of(g: Graph, domain: Domain) -> dict[Node, int]:
    """Stage of every node: edges inside a kernel keep it, all others raise it. Random nodes keep their order."""
    stages: dict[Node, int] = {}
    producers = g.producers()
    given = {*g.inputs, *g.constants}  # and looks at them: there before anything runs
    last_random: Node | None = None
    for n in g.nodes:
        stage = 0
        if n not in domain.keys and n.is_view and all(v in given for v in n.values):
            given.update(n.outputs)
        for p in {producers[v] for v in n.values if v in producers and v not in given}:
            stage = max(stage, stages[p] + (not domain.joins(p, n)))
        if is_random(n):
            stage = max(stage, 0 if last_random is None else stages[last_random] + 1)
            last_random = n
        stages[n] = stage
    sink(g, domain, stages)
    return stages


def sink(g: Graph, domain: Domain, stages: dict[Node, int]) -> None:
    """Moves a node down to the stage where it is read, so that it joins its reader: ``conv(x) * sigmoid(z)``.

    Not where its own operands would then have to be stored: a node that joins its producers may sink only if it reads
    one full array, and a reduction that does so may not.
    """
    uses, results, producers = g.uses(), set(g.results()), g.producers()
    for n in reversed(g.nodes):
        if n not in domain.keys or any(v in results for v in n.outputs):
            continue
        readers = [c for v in n.outputs for c in uses.get(v, [])]
        latest = min((stages[c] - (not domain.joins(n, c)) for c in readers), default=0)
        if latest <= stages[n] or not any(domain.joins(n, c) for c in readers):
            continue
        full = [v for v in dict.fromkeys(n.values) if domain.is_full(v, n)]
        sources = [producers[v] for v in full if v in producers]
        rooted = any(domain.joins(p, n) and stages[p] == stages[n] for p in sources)
        if not rooted or (len(full) <= 1 and OPS[n.op].kind != "reduce"):
            stages[n] = latest


def is_random(n: Node) -> bool:
    """True if the node takes a number of the random stream."""
    return n.body is None and n.op in OPS and OPS[n.op].random


# ---- groups ---------------------------------------------------------------------------------------------------------


def connected(g: Graph, domain: Domain, stages: dict[Node, int]) -> list[list[Node]]:
    """The nodes of one stage and key that an edge, or an operand that both read whole, connects."""
    sets = _Sets(domain.keys)
    producers = g.producers()
    reader_of: dict[tuple, Node] = {}
    for n in g.nodes:
        if n not in domain.keys:
            continue
        for v in n.values:
            p = producers.get(v)
            if p is not None and domain.joins(p, n) and stages[p] == stages[n]:
                sets.join(p, n)
            if domain.is_full(v, n):
                sets.join(n, reader_of.setdefault((v, stages[n], domain.keys[n]), n))
    groups: dict[Node, list[Node]] = {}
    for n in g.nodes:
        if n in domain.keys:
            groups.setdefault(sets.root(n), []).append(n)
    return list(groups.values())


class _Sets:
    """Disjoint sets of nodes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.parent = {n: n for n in nodes}

    def root(self, n: Node) -> Node:
        while self.parent[n] is not n:
            self.parent[n] = self.parent[self.parent[n]]
            n = self.parent[n]
        return n

    def join(self, a: Node, b: Node) -> None:
        self.parent[self.root(a)] = self.root(b)


def bounded(group: list[Node], domain: Domain, uses: dict[Value, list[Node]], results: set[Value]) -> list[list[Node]]:
    """Cuts a group into parts within the bounds: runs of the graph's order, so that no cycle arises among them."""
    parts: list[list[Node]] = []
    part = _Part(domain, uses, results)
    for n in group:
        if part.nodes and not part.takes(n):
            parts.append(part.nodes)
            part = _Part(domain, uses, results)
        part.add(n)
    return [*parts, part.nodes]


class _Part:
    """A part of a group while it grows: what it reads, and what it has made that somebody outside still wants."""

    def __init__(self, domain: Domain, uses: dict[Value, list[Node]], results: set[Value]) -> None:
        self.domain, self.uses, self.results = domain, uses, results
        self.nodes: list[Node] = []
        self.reads: set[Value] = set()
        self.wanted: dict[Value, int] = {}  # made here -> reads to come
        self.primitives = 0

    def takes(self, n: Node) -> bool:
        """True if the kernel stays within the bounds with ``n``."""
        reads = self.reads.union(v for v in n.values if v not in self.wanted)
        done = {v for v in n.values if v not in self.results and self.wanted.get(v) == n.values.count(v)}
        made = [v for v, c in self.wanted.items() if c > 0 and v not in done] + n.outputs
        small = len(reads) + len(made) <= MAX_OPERANDS and self.primitives + _primitives(n) <= MAX_PRIMITIVES
        return small and self.domain.takes(self.domain.keys[n], list(reads))

    def add(self, n: Node) -> None:
        self.nodes.append(n)
        self.primitives += _primitives(n)
        for v in n.values:
            if v in self.wanted:
                self.wanted[v] -= 1
            else:
                self.reads.add(v)
        for v in n.outputs:
            self.wanted[v] = len(self.uses.get(v, [])) + (v in self.results)


def _primitives(n: Node) -> int:
    return _primitives_of(n.op)


@functools.cache
def _primitives_of(op: str) -> int:
    expr = getattr(OPS[op], "expr", None)
    return len(topological([expr])) if expr is not None else 1
