"""Inference: a batch norm by given statistics moves into the convolution before it, and so do the residual sum and the
ReLU behind.

    batch_norm_infer(conv(x, w)) = conv(x, w * s) + (beta - mean * s),   s = gamma / sqrt(var + eps) by output channel
    relu(conv(x, w) + z)         = convolution_relu(x, w, z)

Where nothing is recorded the new weights are kept until a parameter changes (prepare.py). Else they are computed at
every run, in a few fused passes over the weights instead of two over the activations, and in float32 only. In 16 bits
all is computed in float32 and each weight is rounded once more, by at most 2^-11 (float16) or 2^-8 (bfloat16) of it;
the sum over k of them loses about that over sqrt(k). Unfolded code rounds the convolution's result instead, each by as
much. A weight must fit: s beyond 65504 / |w| is infinite in float16. TensorRT folds in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir import Arg, Graph, Node, Value
from ..prepare import lasting_values
from .asking import answered
from .reading import Reading, rewritten

FLOATS = ("float32", "float16", "bfloat16")
IMAGE_CHANNELS = 4  # up to so many cuDNN has engines in 16 bits that are several times as fast, and take nothing in
_KEPT = ("stride", "dilate", "pad", "num_group", "layout")


def fold_norm(g: Graph) -> Graph:
    """Rewrites every convolution whose only reader is a batch_norm_infer."""
    producers, uses, results, lasting = g.producers(), g.uses(), set(g.results()), lasting_values(g)
    nodes: list[Node] = []
    folding = {n: c for n in g.nodes if (c := _foldable(n, producers, uses, results, lasting, g.gpu >= 0)) is not None}
    gone = set(folding.values())
    for n in g.nodes:
        if n in folding:
            nodes.extend(_folded(folding[n], n, producers))
        elif n not in gone:
            nodes.append(n)
    g.nodes = nodes
    return absorb_into_convolutions(g)


def _foldable(n: Node, producers: dict, uses: dict, results: set[Value], lasting: set[Value], gpu: bool) -> Node | None:
    """The convolution that a norm folds into."""
    y = n.inputs[0] if n.op == "batch_norm_infer" else None
    if not isinstance(y, Value) or len(uses[y]) != 1 or y in results:
        return None
    c = producers.get(y)
    if c is None or c.op != "convolution" or len({v.dtype for v in (y, *c.values)}) != 1:
        return None
    kept = all(v in lasting for v in (*c.values[1:], *n.values[1:]))
    if not kept and (y.dtype != "float32" or math.prod(c.values[1].shape) > math.prod(y.shape)):
        return None  # scaling the weights at every run would cost more than the norm
    if y.dtype not in FLOATS or any(v.dtype not in (y.dtype, "float32") for v in n.values[1:]):
        return None
    last = (c.attrs.get("layout") or "NC").endswith("C") and c.attrs.get("layout") is not None
    if gpu and y.dtype != "float32" and c.values[0].shape[-1 if last else 1] <= IMAGE_CHANNELS:
        return None
    return c if n.attrs["axis"] % len(y.shape) == (len(y.shape) - 1 if last else 1) else None


def _folded(c: Node, norm: Node, producers: dict[Value, Node]) -> list[Node]:
    """The nodes that compute the new weights, and the convolution with them; its bias is float32 in any case."""
    made: list[Node] = []

    def cast(v: Arg, dtype: str) -> Value:
        assert isinstance(v, Value)
        if v.dtype == dtype:
            return v
        p = producers.get(v)
        if p is not None and p.op == "cast" and p.values[0].dtype == dtype:  # mixed precision: as it was before
            return p.values[0]
        made.append(Node("cast", [v], [v.like(dtype=dtype)], {"dtype": dtype}, norm.site))
        return made[-1].outputs[0]

    x, w = c.inputs[0], cast(c.inputs[1], "float32")
    bias = cast(c.inputs[2], "float32") if len(c.inputs) > 2 and not c.attrs.get("no_bias") else None
    gamma, beta, mean, var = (cast(v, "float32") for v in norm.inputs[1:])

    def call(op: str, *inputs: Arg, shape: tuple[int, ...] = gamma.shape) -> Value:
        out = Value(shape, "float32")
        made.append(Node(op, list(inputs), [out], {}, norm.site))
        return out

    scale = call("multiply", gamma, call("rsqrt", call("add", var, norm.attrs["eps"])))
    column = (gamma.shape[0], *(1,) * (len(w.shape) - 1))
    wide = Value(column, "float32")
    made.append(Node("reshape", [scale], [wide], {"shape": column, "order": "C", "newshape": None}, norm.site))
    weight = call("multiply", w, wide, shape=w.shape)
    centred = mean if bias is None else call("subtract", mean, bias)
    shift = call("subtract", beta, call("multiply", centred, scale))
    attrs = {k: v for k, v in c.attrs.items() if k != "no_bias"} | {"no_bias": False}
    weight = cast(weight, c.outputs[0].dtype)
    made.append(Node("convolution", [x, weight, shift], list(norm.outputs), attrs, c.site))
    return made


def absorb_into_convolutions(g: Graph) -> Graph:
    """A convolution whose only reader is a relu, or a sum that only a relu reads, takes them in.

    On a GPU where cuDNN has an engine for it: else the sum and the relu are one fused kernel.
    """
    found = [(path, with_relu(*path)) for path in paths_of(g)]
    fuse = engines_fuse([made for _, made in found], g.gpu) if g.gpu >= 0 and found else [True] * len(found)
    merged = {path[-1]: made for (path, made), yes in zip(found, fuse, strict=True) if yes}
    gone = {n for (path, _), yes in zip(found, fuse, strict=True) if yes for n in path[:-1] if n is not None}
    return rewritten(g, merged, gone)


def engines_fuse(nodes: Sequence[Node], gpu: int) -> Sequence[bool]:
    """Asks cuDNN about convolution_relu nodes."""
    return answered("conv_fuses", nodes, gpu)


def paths_of(g: Graph) -> list[tuple[Node, Node | None, Node]]:
    """(convolution, sum or None, relu); of two convolutions that are added up the later one has the sum."""
    reading, taken = Reading(g), set()
    found: list[tuple[Node, Node | None, Node]] = []
    for c in reversed(g.nodes):
        y = c.outputs[0]
        if c.op != "convolution" or y.dtype not in FLOATS:
            continue
        follower, add = reading.only(y), None
        if follower is not None and follower.op == "add" and len(follower.values) == 2 and follower not in taken:
            if all((v.shape, v.dtype) == (y.shape, y.dtype) for v in follower.values):
                add, follower = follower, reading.only(follower.outputs[0])
        if follower is not None and follower.op == "relu":
            found.append((c, add, follower))
            taken.add(add)
    return found


def with_relu(c: Node, add: Node | None, relu: Node) -> Node:
    """A convolution with a ReLU, and with a sum."""
    x, w, bias = (*c.inputs, None)[:3]
    residual = [v for v in add.values if v is not c.outputs[0]] if add is not None else []
    inputs = [x, w, None if c.attrs.get("no_bias") else bias, *residual]
    return Node("convolution_relu", inputs, relu.outputs, {k: c.attrs.get(k) for k in _KEPT}, c.site)
