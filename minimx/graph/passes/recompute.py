"""Saved or computed again: what the backward half reads of forward's pointwise results, by bytes.

A pointwise result that only pointwise operators and reductions of the backward half read is made there once more,
inside their kernel, where that moves no more memory than to save it would: its operands are read by them anyway, or are
smaller. ``x * sigmoid(x)`` then saves x alone, and a cast of a 16-bit array that array. Only for GPUs, where arithmetic
hides behind memory. Who calls it: cut() of minimx/graph/compile.py, and late.py.
"""

from __future__ import annotations

from collections.abc import Collection

from ...ops.table import OPS
from ..ir import Node, Value, shown

MOST_NODES = 16  # that one value is made of again


def recomputed(
    late: list[Node], early: list[Node], inputs: Collection[Value], results: Collection[Value]
) -> list[Node]:
    """The backward nodes, with copies of forward nodes before them. inputs: of the forward graph; results: values that
    the backward graph returns.
    """
    producers = {v: n for n in early for v in n.outputs}
    readers: dict[Value, list[Node]] = {}
    for n in late:
        for v in n.values:
            readers.setdefault(v, []).append(n)
    stored = {shown(v, producers) for n in early if not _fuses(n) for v in n.values}
    there = {s for v in readers if (s := shown(v, producers)) in producers or s in inputs}  # what backward has
    again: dict[Value, Value] = {}
    copies: list[Node] = []
    for n in reversed(early):
        v = n.outputs[0]
        mine = readers.get(v, [])
        if not mine or v in results or v.layout or not _is_pointwise(n) or not all(_takes(m, v) for m in mine):
            continue
        there.discard(v)
        needed = _needed(n, producers, there, inputs)
        near = {shown(u, producers) for m in mine for u in m.values}
        if needed is None or not _pays(v, needed, there, near, v in stored):
            there.add(v)
            continue
        again[v] = v.like()
        copies.append(Node(n.op, list(n.inputs), [again[v]], n.attrs, n.site))
        for u in n.values:  # made again in turn, or saved
            readers.setdefault(u, []).append(copies[-1])
            if (s := shown(u, producers)) in producers:
                there.add(s)
    for n in (*late, *copies):
        n.inputs = [again.get(x, x) if isinstance(x, Value) else x for x in n.inputs]
    return [*reversed(copies), *late]


def _needed(n: Node, producers: dict[Value, Node], there: set[Value], inputs: Collection[Value]) -> set[Value] | None:
    """What a pointwise node is made of: values that backward has, and others that no pointwise node makes. None where
    that are too many nodes, or inputs that backward does not read: it would mind writes to them in between.
    """
    needed: set[Value] = set()
    stack, seen = [n], {n}
    while stack:
        for u in {shown(x, producers) for x in stack.pop().values}:
            p = producers.get(u)
            if u in there or (p is not None and not _is_pointwise(p)):
                needed.add(u)
            elif u in inputs:
                return None
            elif p is not None and p not in seen:
                seen.add(p)
                stack.append(p)
    return needed if len(seen) <= MOST_NODES else None


def _pays(v: Value, needed: set[Value], there: set[Value], near: set[Value], stored: bool) -> bool:
    """True if making ``v`` again keeps fewer bytes, and moves no more than writing, unless it is, and reading it."""
    kept = sum(u.bytes for u in needed - there)
    moved = sum(u.bytes for u in needed - near)
    return kept < v.bytes and moved <= v.bytes * (1 if stored else 2)


def _fuses(n: Node) -> bool:
    """True if what a node reads need not be in memory for it."""
    return n.body is None and (_is_pointwise(n) or OPS[n.op].kind in ("view", "reduce"))


def _is_pointwise(n: Node) -> bool:
    return n.body is None and (OPS[n.op].kind == "elemwise" or n.op == "cast") and len(n.outputs) == 1


def _takes(reader: Node, v: Value) -> bool:
    """True if the reader's kernel can have the node that makes ``v`` inside."""
    if reader.body is not None or reader.op not in OPS:
        return False
    return (_is_pointwise(reader) and reader.outputs[0].shape == v.shape) or OPS[reader.op].kind == "reduce"
