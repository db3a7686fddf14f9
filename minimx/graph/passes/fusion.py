"""Fusion: chains of pointwise nodes over one iteration space become "fused" nodes, each one kernel (minimx/rtc).

Time is linear in the graph. Every node gets a stage: a pointwise node may share its producer's stage if both run over
the same space, and otherwise comes a stage later. All nodes of one stage and space can then run together, since a path
that leaves them comes back at a later stage: no cycle is possible and none is searched for. Members of a group are
connected, by an edge or by an operand that both read; groups are cut, in the order of the graph, where a kernel would
have too many operands or steps. Read next: minimx/rtc/group.py; essay: docs/fusion.md.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import GraphError
from ...ops.expr import topological
from ...ops.table import OPS
from ..ir import Graph, Node, Value

MAX_OPERANDS = 24  # arrays of one kernel
MAX_PRIMITIVES = 256  # scalar operations of one kernel
# Where they only change axes of extent 1.
VIEWS = frozenset({"broadcast_to", "expand_dims", "squeeze", "reshape", "stop_gradient"})

Space = tuple  # (layout, shape): over which a pointwise node runs


def fuse(g: Graph) -> Graph:
    """The graph with its pointwise groups as fused nodes."""
    spaces = {n: s for n in g.nodes if (s := space_of(n)) is not None}
    if len(spaces) < 2:
        return g
    stages = stages_of(g, spaces)
    group_at = {n: group for group in grouped(g, spaces, stages) for n in group}
    return rebuilt(g, group_at) if group_at else g


# ---- which nodes ----------------------------------------------------------------------------------------------------


def space_of(n: Node) -> Space | None:
    """The iteration space of a node that may be fused, else None.

    Axes of extent 1 do not count, and views that only change those are members. In a blocked layout the elements are
    taken as they lie, so every operand must have that layout or be one number.
    """
    if n.body is not None or n.op not in OPS or not all(n.outputs[0].shape):
        return None
    out = n.outputs[0]
    shape = _without_ones(out.shape)
    if n.op in VIEWS:
        source = n.inputs[0]
        if not isinstance(source, Value) or source.layout or out.layout:
            return None
        return ("", shape) if _without_ones(source.shape) == shape else None
    if OPS[n.op].kind != "elemwise" and n.op not in ("cast", "copy"):
        return None
    if not out.layout:
        return ("", shape) if not any(v.layout for v in n.values) else None
    fits = all((v.layout, v.shape) == (out.layout, out.shape) for v in n.values)
    return (out.layout, out.shape) if fits else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)


def stages_of(g: Graph, spaces: dict[Node, Space]) -> dict[Node, int]:
    """Stage of every node: edges inside a space keep it, all others raise it. Random nodes keep their order."""
    stages: dict[Node, int] = {}
    producers = g.producers()
    given = {*g.inputs, *g.constants}  # and looks at them: there before anything runs
    last_random: Node | None = None
    for n in g.nodes:
        stage = 0
        if n not in spaces and n.body is None and OPS[n.op].kind == "view" and all(v in given for v in n.values):
            given.update(n.outputs)
        for p in {producers[v] for v in n.values if v in producers and v not in given}:
            stage = max(stage, stages[p] + (not _joined(p, n, spaces)))
        if _is_random(n):
            stage = max(stage, 0 if last_random is None else stages[last_random] + 1)
            last_random = n
        stages[n] = stage
    sink(g, spaces, stages)
    return stages


def sink(g: Graph, spaces: dict[Node, Space], stages: dict[Node, int]) -> None:
    """Moves a pointwise node down to the stage where it is read, so that it joins its reader: ``conv(x) * sigmoid(z)``.

    Not where its own operands would then have to be stored: a node that joins its producers may sink only if it reads
    one full array.
    """
    uses, results, producers = g.uses(), set(g.results()), g.producers()
    for n in reversed(g.nodes):
        if n not in spaces or any(v in results for v in n.outputs):
            continue
        readers = [c for v in n.outputs for c in uses.get(v, [])]
        latest = min((stages[c] - (not _joined(n, c, spaces)) for c in readers), default=0)
        full = [v for v in dict.fromkeys(n.values) if v.shape == n.outputs[0].shape]
        sources = [producers[v] for v in full if v in producers]
        rooted = any(_joined(p, n, spaces) and stages[p] == stages[n] for p in sources)
        if latest > stages[n] and any(_joined(n, c, spaces) for c in readers) and (len(full) <= 1 or not rooted):
            stages[n] = latest


def _joined(producer: Node, reader: Node, spaces: dict[Node, Space]) -> bool:
    """True if both may be in one kernel."""
    return producer in spaces and spaces[producer] == spaces.get(reader)


def _is_random(n: Node) -> bool:
    return n.body is None and n.op in OPS and OPS[n.op].random


# ---- groups ---------------------------------------------------------------------------------------------------------


def grouped(g: Graph, spaces: dict[Node, Space], stages: dict[Node, int]) -> list[list[Node]]:
    """The groups, each in the order of the graph, of at least two nodes that have kernels."""
    sets = _Sets(spaces)
    producers = g.producers()
    reader_of: dict[tuple, Node] = {}
    for n in spaces:
        for v in n.values:
            p = producers.get(v)
            if p is not None and _joined(p, n, spaces) and stages[p] == stages[n]:
                sets.join(p, n)
            if v.shape == n.outputs[0].shape:
                sets.join(n, reader_of.setdefault((v, stages[n], spaces[n]), n))
    groups: dict[Node, list[Node]] = {}
    for n in g.nodes:
        if n in spaces:
            groups.setdefault(sets.root(n), []).append(n)
    uses, results = g.uses(), set(g.results())
    parts = [part for group in groups.values() for part in bounded(group, uses, results)]
    return [part for part in parts if sum(n.op not in VIEWS for n in part) > 1]


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


def bounded(group: list[Node], uses: dict[Value, list[Node]], results: set[Value]) -> list[list[Node]]:
    """Cuts a group into parts within the bounds: runs of the graph's order, so that no cycle arises among them."""
    parts: list[list[Node]] = []
    part = _Part(uses, results)
    for n in group:
        if part.nodes and not part.takes(n):
            parts.append(part.nodes)
            part = _Part(uses, results)
        part.add(n)
    return [*parts, part.nodes]


class _Part:
    """A part of a group while it grows: what it reads, and what it has made that somebody outside still wants."""

    def __init__(self, uses: dict[Value, list[Node]], results: set[Value]) -> None:
        self.uses, self.results = uses, results
        self.nodes: list[Node] = []
        self.reads: set[Value] = set()
        self.wanted: dict[Value, int] = {}  # made here -> reads to come
        self.primitives = 0

    def takes(self, n: Node) -> bool:
        """True if the kernel stays within the bounds with ``n``."""
        reads = len(self.reads.union(v for v in n.values if v not in self.wanted))
        done = sum(v not in self.results and self.wanted.get(v) == n.values.count(v) for v in set(n.values))
        made = sum(c > 0 for c in self.wanted.values()) - done + len(n.outputs)
        return reads + made <= MAX_OPERANDS and self.primitives + _primitives(n) <= MAX_PRIMITIVES

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


# ---- the new graph --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Unit:
    """What the new graph holds in one place: a node as it was, or a fused one with the views that leave it."""

    nodes: list[Node]
    values: list[Value]  # read


def rebuilt(g: Graph, group_at: dict[Node, list[Node]]) -> Graph:
    """The graph with each group replaced by one node, in an order that runs."""
    uses, results = g.uses(), set(g.results())
    units: list[Unit] = []
    last = {id(group): group[-1] for group in group_at.values()}
    for n in g.nodes:
        group = group_at.get(n)
        if group is None:
            units.append(Unit([n], n.values))
        elif last[id(group)] is n:
            units.append(fused(g, group, uses, results))
    return Graph(g.name, g.inputs, in_order(units), g.outputs, g.writes, g.constants, g.gpu)


def fused(g: Graph, group: list[Node], uses: dict[Value, list[Node]], results: set[Value]) -> Unit:
    """The fused node of a group. Views are free outside a kernel: those that others read come again behind it."""
    inside = set(group)
    made = {v: n for n in group for v in n.outputs}
    leaving = [v for v in made if v in results or any(c not in inside for c in uses.get(v, []))]
    behind: set[Node] = set()
    outputs: dict[Value, None] = {}
    for v in leaving:
        n = made[v]
        while n.op in VIEWS:
            behind.add(n)
            if n.inputs[0] not in made:
                break
            n = made[n.inputs[0]]
        else:
            outputs[n.outputs[0]] = None
    views = [n for n in group if n in behind]
    read = [v for n in views for v in n.values]
    if not outputs:  # dead code
        return Unit(views, read)
    body_nodes = needed(group, outputs)
    within = {v for n in body_nodes for v in n.outputs}
    inputs = list(dict.fromkeys(v for n in body_nodes for v in n.values if v not in within))
    twins = {v: v.like() for v in (*inputs, *within)}
    inner = [twin(n, twins) for n in body_nodes]
    body = Graph("fused", [twins[v] for v in inputs], inner, [twins[v] for v in outputs])
    node = Node("fused", list(inputs), list(outputs), {}, group[-1].site, body)
    return Unit([node, *views], [*inputs, *read])


def twin(n: Node, values: dict[Value, Value]) -> Node:
    """The node over other values."""
    inputs = [values[x] if isinstance(x, Value) else x for x in n.inputs]
    return Node(n.op, inputs, [values[v] for v in n.outputs], n.attrs, n.site)


def needed(group: list[Node], outputs: Iterable[Value]) -> list[Node]:
    """The nodes of a group that its outputs depend on."""
    live = set(outputs)
    kept = []
    for n in reversed(group):
        if any(v in live for v in n.outputs):
            live.update(n.values)
            kept.append(n)
    return kept[::-1]


def in_order(units: list[Unit]) -> list[Node]:
    """The units' nodes with producers first, otherwise in the order given; random nodes draw in that order too."""
    unit_of = {v: u for u in units for n in u.nodes for v in n.outputs}
    random = [u for u in units if any(map(_is_random, u.nodes))]
    after = dict(zip(random[1:], random, strict=False))
    done: set[Unit] = set()
    opened: set[Unit] = set()  # whose producers have been asked for
    order: list[Node] = []
    for root in units:
        stack = [root]
        while stack:
            u = stack[-1]
            first = {unit_of[v]: None for v in u.values if v in unit_of} | ({after[u]: None} if u in after else {})
            waiting = [w for w in first if w is not u and w not in done] if u not in done else []
            if waiting and u in opened:
                raise GraphError("fusion", "groups without a cycle", f"one through {u.nodes[0].op}", "A stage is wrong")
            opened.add(u)
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if u not in done:
                done.add(u)
                order.extend(u.nodes)
    return order
