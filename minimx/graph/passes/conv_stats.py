"""On a GPU a convolution may add up what it writes, and the batch norm behind it then reads its data once, not twice.

    y = convolution(x, w)                     becomes   y, sum, squares = convolution_stats(x, w)
    z, mean, var = batch_norm_train(y)        becomes   z, mean, var = batch_norm_sums(y, sum, squares)
    r, mean, var, mask = batch_norm_relu(y)   likewise, with relu=True

Only where cuDNN has an engine for it that costs less than the pass it saves (csrc/cuda/conv.cc, conv_statistics_pay):
float16, channels last, no bias. Gradients and running statistics read the same values as before. Runs behind norm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Graph, Node, Value
from .asking import answered
from .reading import rewritten

NORMS = ("batch_norm_train", "batch_norm_relu")
ATTRIBUTES = ("stride", "dilate", "pad", "num_group", "layout")

Sites = list[tuple[Node, Node]]  # a convolution and a norm that reads it


def absorb_statistics(g: Graph, pay: Callable[[Sequence[Node], int], Sequence[bool]] | None = None) -> Graph:
    """Rewrites the sites where ``pay(convolution_stats nodes, gpu)`` says so; by default cuDNN is asked."""
    if g.gpu < 0:
        return g
    sites = sites_of(g)
    made = {conv: with_sums(conv) for conv, _ in sites}
    paid = dict(zip(made, (pay or statistics_pay)(list(made.values()), g.gpu), strict=True)) if made else {}
    swapped: dict[Node, Node] = {}
    for conv, norm in sites:
        if paid[conv]:
            swapped[conv] = made[conv]
            swapped[norm] = _norm(norm, made[conv].outputs[1:])
    return rewritten(g, swapped)


def sites_of(g: Graph) -> Sites:
    """The pairs that have the form."""
    producers, found = g.producers(), []
    for n in g.nodes:
        x = n.inputs[0] if n.op in NORMS else None
        conv = producers.get(x) if isinstance(x, Value) else None
        if conv is not None and conv.op == "convolution" and _fits(conv, n):
            found.append((conv, n))
    return found


def _fits(conv: Node, norm: Node) -> bool:
    y, biased = conv.outputs[0], len(conv.inputs) > 2 and conv.inputs[2] is not None
    layout, last = conv.attrs.get("layout"), norm.attrs.get("axis", 1) % len(y.shape) == len(y.shape) - 1
    arrays = all(isinstance(v, Value) and v.dtype == "float16" for v in (*conv.inputs[:2], y))
    return arrays and last and not biased and layout is not None and layout.endswith("C")


def with_sums(conv: Node) -> Node:
    """A convolution that adds up what it writes."""
    y = conv.outputs[0]
    sums = [Value((y.shape[-1],), "float32") for _ in range(2)]
    attrs = {k: conv.attrs[k] for k in ATTRIBUTES if k in conv.attrs}
    return Node("convolution_stats", conv.inputs[:2], [y, *sums], attrs, conv.site)


def _norm(norm: Node, sums: list[Value]) -> Node:
    x, gamma, beta, *residual = norm.inputs
    attrs = {**norm.attrs, "relu": norm.op == "batch_norm_relu"}
    return Node("batch_norm_sums", [x, gamma, beta, *sums, *residual], norm.outputs, attrs, norm.site)


def statistics_pay(nodes: Sequence[Node], gpu: int) -> Sequence[bool]:
    """Asks cuDNN, for operands that lie in C order."""
    return answered("conv_statistics_pay", nodes, gpu)
