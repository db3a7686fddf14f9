"""Fusion: nodes that run over one iteration space become "fused" nodes, each one kernel (minimx/rtc).

Which nodes may share a kernel is said in domains.py, which do in grouping.py; here groups become nodes of a new graph.
Three rounds: around reductions of rows, around folds, and what is pointwise only. A fused node's ``attrs`` are {} or
{"form": "rows"} or {"form": "fold"}. Time is linear in the graph. Kernels: minimx/rtc/group.py. Essay: docs/fusion.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..ir import Graph, Node, Value
from .domains import by_folds, by_rows, pointwise
from .grouping import MAX_OPERANDS, MAX_PRIMITIVES, groups_of, is_random
from .reading import in_order
from .spaces import VIEWS, space_of, without_ones

__all__ = ["MAX_OPERANDS", "MAX_PRIMITIVES", "fuse", "rebuilt", "space_of"]


def fuse(g: Graph) -> Graph:
    """The graph with its groups as fused nodes."""
    for find in (by_rows, by_folds, pointwise):
        domain = find(g)
        groups = groups_of(g, domain)
        if groups:
            g = rebuilt(g, {n: group for group in groups for n in group}, domain.attrs)
    return g


# ---- the new graph --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Unit:
    """What the new graph holds in one place: a node as it was, or a fused one with the views that leave it."""

    nodes: list[Node]
    values: list[Value]  # read


def rebuilt(g: Graph, group_at: dict[Node, list[Node]], attrs: dict[str, str] | None = None) -> Graph:
    """The graph with each group replaced by one node with ``attrs``, in an order that runs."""
    uses, results = g.uses(), set(g.results())
    units: list[Unit] = []
    last = {id(group): group[-1] for group in group_at.values()}
    for n in g.nodes:
        group = group_at.get(n)
        if group is None:
            units.append(Unit([n], n.values))
        elif last[id(group)] is n:
            units.append(fused(group, uses, results, attrs or {}))
    return Graph(g.name, g.inputs, sorted_units(units), g.outputs, g.writes, g.constants, g.gpu, again=g.again)


def fused(group: list[Node], uses: dict[Value, list[Node]], results: set[Value], attrs: dict[str, str]) -> Unit:
    """The fused node of a group.

    A view that leaves alone stands for what it shows; else views are free outside a kernel and come again behind it.
    """
    inside = set(group)
    made = {v: n for n in group for v in n.outputs}
    leaving = [v for v in made if v in results or any(c not in inside for c in uses.get(v, []))]
    shown: dict[Value, list[Value]] = {}  # what the kernel makes -> the views of it that leave, or itself
    behind: set[Node] = set()
    for v in leaving:
        shown.setdefault(source(v, made), []).append(v)
    outputs: dict[Value, None] = {}
    for v, looks in shown.items():
        if v in made and len(looks) == 1 and without_ones(looks[0].shape) == without_ones(v.shape):
            outputs[looks[0]] = None
            continue
        outputs |= {v: None} if v in made else {}
        for x in looks:
            while x in made and made[x].op in VIEWS:
                behind.add(made[x])
                x = made[x].values[0]
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
    node = Node("fused", list(inputs), list(outputs), dict(attrs), group[-1].site, body)
    return Unit([node, *views], [*inputs, *read])


def source(v: Value, made: dict[Value, Node]) -> Value:
    """What a view shows, looked for in the nodes of a group: something that has a kernel, or that they read."""
    while v in made and made[v].op in VIEWS:
        v = made[v].values[0]
    return v


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


def sorted_units(units: list[Unit]) -> list[Node]:
    """The units' nodes in an order that runs; random nodes draw in the order given."""
    unit_of = {v: u for u in units for n in u.nodes for v in n.outputs}
    random = [u for u in units if any(map(is_random, u.nodes))]
    after = dict(zip(random[1:], random, strict=False))

    def before(u: Unit) -> list[Unit]:
        return [unit_of[v] for v in u.values if v in unit_of] + ([after[u]] if u in after else [])

    return [n for u in in_order(units, before) for n in u.nodes]
