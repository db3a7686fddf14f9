"""Computed again in a graph that is not cut: what a step's gradient nodes read of forward's pointwise results.

A whole training step saves nothing, but what forward makes and the gradient reads is written and lies in memory in
between. As at a cut (recompute.py) some of it is better made again by who reads it. Copies must not run with what makes
their operands, where the originals run (``Graph.again``); they are kept if the kernels then move fewer bytes: at the
loss forward and gradient may share a kernel, which costs nothing.
"""

from __future__ import annotations

from ..ir import Graph, Node
from .cleanup import dead_code
from .fusion import fuse
from .grouping import is_random
from .recompute import recomputed


def recompute_late(g: Graph) -> Graph:
    """The graph with such copies, or as it is. Runs right before ``fuse``."""
    if g.gpu < 0:
        return g
    made = g.copy()
    early, late = divided(made)
    made.nodes = early + recomputed(late, early, set(made.inputs), set(made.results()))
    made.again = frozenset(made.nodes).difference(early, late)
    if not made.again:
        return g
    made = dead_code(made)
    return made if moved(fuse(made)) < moved(fuse(g)) else g


def divided(g: Graph) -> tuple[list[Node], list[Node]]:
    """What the outputs need, and the rest: gradients and updates."""
    live, needed = set(g.outputs), set[Node]()
    for n in reversed(g.nodes):
        if is_random(n) or any(v in live for v in n.outputs):
            live.update(n.values)
            needed.add(n)
    return [n for n in g.nodes if n in needed], [n for n in g.nodes if n not in needed]


def moved(g: Graph) -> int:
    """Bytes that kernels read and write, views apart."""
    return sum(v.bytes for n in g.nodes if not n.is_view for v in {*n.values, *n.outputs})
