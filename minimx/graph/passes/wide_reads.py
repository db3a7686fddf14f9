"""Cross-entropy reads 16-bit logits itself, where mixed precision casts them to float32 first.

    loss, lse = cross_entropy(cast(x))          becomes   loss, lse = cross_entropy(x), with wide=True
    dx = cast(cross_entropy_backward(g, cast(x), ..))     becomes   dx = cross_entropy_backward(g, x, ..)

The kernels compute in float32 anyway, so the numbers are the same; float32 logits are neither written nor saved. Other
rows that want float32 (softmax, sums) are written out and take the cast into their group (expand.py, fusion.py).
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from .reading import Reading, rewritten


def absorb_casts(g: Graph) -> Graph:
    """Rewrites both; the casts are dead where nobody else reads them."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    for n in g.nodes:
        if n.op == "cross_entropy" and (x := narrow(n.values[0], reading)) is not None:
            attrs = {**n.attrs, "wide": True}
            swapped[n] = Node(n.op, [x, *n.inputs[1:]], n.outputs, attrs, n.site)
        elif n.op == "cross_entropy_backward" and (x := narrow(n.values[1], reading)) is not None:
            back = reading.only(n.outputs[0])
            if back is not None and back.op == "cast" and back.outputs[0].dtype == x.dtype:
                swapped[back] = Node(n.op, [n.inputs[0], x, *n.inputs[2:]], back.outputs, n.attrs, n.site)
                gone.add(n)
    return rewritten(g, swapped, gone)


def narrow(v: Value, reading: Reading) -> Value | None:
    """What ``v``, float32, was cast from, if it has 16 bits."""
    n = reading.producers.get(v)
    x = n.values[0] if n is not None and n.op == "cast" else None
    return x if x is not None and v.dtype == "float32" and x.dtype in ("float16", "bfloat16") else None
