"""Rows that look at many arrays (ops/rows/multi.py) look at what the arrays are made of, where that is the same.

In a whole training step gradients are cast to float32, and maybe transposed, on their way to the update. A sum of
squares, or whether all is finite, does not depend on either: asked of the source, it leaves the cast to be fused into
the update, and float32 gradients are never stored.
"""

from __future__ import annotations

from typing import Any

from ..ir import Graph, Node, Value

LOOKS = ("multi_all_finite", "multi_sum_squares")
MOVES = ("transpose", "reshape", "expand_dims", "squeeze", "reorder", "copy")  # the same elements in another order


def look_at_sources(g: Graph) -> Graph:
    """The graph with the operands of such rows replaced by what they are copies of."""
    producers = g.producers()
    for n in g.nodes:
        if n.op in LOOKS:
            n.inputs = [source(x, producers) for x in n.inputs]
    return g


def source(x: Any, producers: dict[Value, Node]) -> Any:
    """The array that ``x`` has the elements of."""
    while (n := producers.get(x)) is not None and (n.op in MOVES or widens(n)):
        x = n.inputs[0]
    return x


def widens(n: Node) -> bool:
    """True for a cast from 16 bits to float32, which changes no value."""
    return n.op == "cast" and n.outputs[0].dtype == "float32" and n.values[0].dtype in ("float16", "bfloat16")
