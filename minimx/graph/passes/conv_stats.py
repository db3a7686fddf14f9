"""On a GPU a convolution may add up what it writes, and the batch norm behind it then reads its data once, not twice.

    y = convolution(x, w)                     becomes   y, sum, squares = convolution_stats(x, w)
    z, mean, var = batch_norm_train(y)        becomes   z, mean, var = batch_norm_sums(y, sum, squares)
    r, mean, var, mask = batch_norm_relu(y)   likewise, with relu=True
    ... of y and z = batch_norm_sums(y2)      becomes   r, mask, ... = batch_norm_pair(y, y2): z is never written

The first only where cuDNN has an engine for it that costs less than the pass it saves (csrc/cuda/conv.cc,
conv_statistics_pay): float16, channels last, no bias. The last is what a block with a projection on its shortcut has,
as in ResNet. Gradients and running statistics read the same values as before. Runs behind norm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Graph, Node, Value
from .asking import answered
from .norm import Reading, in_order

NORMS = ("batch_norm_train", "batch_norm_relu")
ATTRIBUTES = ("stride", "dilate", "pad", "num_group", "layout")

Sites = list[tuple[Node, Node]]  # a convolution and a norm that reads it


def absorb_statistics(g: Graph, pay: Callable[[Sequence[Node], int], Sequence[bool]] | None = None) -> Graph:
    """Rewrites the sites where ``pay(convolution_stats nodes, gpu)`` says so; by default cuDNN is asked."""
    if g.gpu < 0:
        return g
    sites = sites_of(g)
    made = {conv: _convolution(conv) for conv, _ in sites}
    paid = dict(zip(made, (pay or statistics_pay)(list(made.values()), g.gpu), strict=True)) if made else {}
    swapped: dict[Node, Node] = {}
    for conv, norm in sites:
        if paid[conv]:
            swapped[conv] = made[conv]
            swapped[norm] = _norm(norm, made[conv].outputs[1:])
    g.nodes = [swapped.get(n, n) for n in g.nodes]
    return absorb_pairs(g)


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


def _convolution(conv: Node) -> Node:
    y = conv.outputs[0]
    sums = [Value((y.shape[-1],), "float32") for _ in range(2)]
    attrs = {k: conv.attrs[k] for k in ATTRIBUTES if k in conv.attrs}
    return Node("convolution_stats", conv.inputs[:2], [y, *sums], attrs, conv.site)


def _norm(norm: Node, sums: list[Value]) -> Node:
    x, gamma, beta, *residual = norm.inputs
    attrs = {**norm.attrs, "relu": norm.op == "batch_norm_relu"}
    return Node("batch_norm_sums", [x, gamma, beta, *sums, *residual], norm.outputs, attrs, norm.site)


def absorb_pairs(g: Graph) -> Graph:
    """The norm that gives another its residual, and that nobody else reads, joins it."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    for n in g.nodes:
        z = n.inputs[5] if n.op == "batch_norm_sums" and n.attrs["relu"] and len(n.inputs) > 5 else None
        if not isinstance(z, Value) or reading.only(z) is not n:
            continue
        other = reading.producers.get(z)
        if other is None or other.op != "batch_norm_sums" or other.attrs["relu"]:
            continue
        plain = len(other.inputs) == 5 and other.attrs["axis"] % len(z.shape) == n.attrs["axis"] % len(z.shape)
        if plain and not any(reading.depends(v, other) for v in n.values if v is not z):
            swapped[n] = _pair(n, other)
            gone.add(other)
    g.nodes = [swapped.get(n, n) for n in g.nodes if n not in gone]
    return in_order(g) if gone else g


def _pair(norm: Node, other: Node) -> Node:
    y, mean, var, mask = norm.outputs
    attrs = {"eps": norm.attrs["eps"], "eps2": other.attrs["eps"], "axis": norm.attrs["axis"]}
    attrs["mask_bytes"] = norm.attrs["mask_bytes"]
    outs = [y, mask, mean, var, *other.outputs[1:]]
    return Node("batch_norm_pair", norm.inputs[:5] + other.inputs, outs, attrs, norm.site)


def statistics_pay(nodes: Sequence[Node], gpu: int) -> Sequence[bool]:
    """Asks cuDNN, for operands that lie in C order."""
    return answered("conv_statistics_pay", nodes, gpu)
