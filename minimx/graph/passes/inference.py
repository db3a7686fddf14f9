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

from ...device import library_settings
from ..ir import Arg, Graph, Node, Value
from ..prepare import lasting_values

FLOATS = ("float32", "float16", "bfloat16")
_KEPT = ("stride", "dilate", "pad", "num_group", "layout")


def fold_norm(g: Graph) -> Graph:
    """Rewrites every convolution whose only reader is a batch_norm_infer."""
    producers, uses, results, lasting = g.producers(), g.uses(), set(g.results()), lasting_values(g)
    nodes: list[Node] = []
    folding = {n: c for n in g.nodes if (c := _foldable(n, producers, uses, results, lasting)) is not None}
    gone = set(folding.values())
    for n in g.nodes:
        if n in folding:
            nodes.extend(_folded(folding[n], n))
        elif n not in gone:
            nodes.append(n)
    g.nodes = nodes
    return absorb_into_convolutions(g)


def _foldable(n: Node, producers: dict, uses: dict, results: set[Value], lasting: set[Value]) -> Node | None:
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
    return c if n.attrs["axis"] % len(y.shape) == (len(y.shape) - 1 if last else 1) else None


def _folded(c: Node, norm: Node) -> list[Node]:
    """The nodes that compute the new weights, and the convolution with them; its bias is float32 in any case."""
    made: list[Node] = []

    def cast(v: Arg, dtype: str) -> Value:
        assert isinstance(v, Value)
        if v.dtype == dtype:
            return v
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
    """A convolution whose only reader is a relu, or a sum that only a relu reads, takes them in."""
    uses, results = g.uses(), set(g.results())
    merged: dict[Node, Node] = {}  # relu -> what stands in its place
    gone: set[Node] = set()

    def only(v: Value) -> Node | None:
        readers = uses.get(v, [])
        return readers[0] if len(readers) == 1 and v not in results else None

    for c in reversed(g.nodes):  # of two convolutions that are added up the later one takes the sum
        if c.op != "convolution" or c.outputs[0].dtype not in FLOATS:
            continue
        y = c.outputs[0]
        follower, residual, path = only(y), [], [c]
        if follower is not None and follower.op == "add" and follower not in gone and adds_up(g, y):
            residual = [v for v in follower.values if v is not y and (v.shape, v.dtype) == (y.shape, y.dtype)]
            path.append(follower)
            follower = only(follower.outputs[0]) if residual else None
        if follower is None or follower.op != "relu" or follower in merged:
            continue
        inputs = [*c.inputs[:3], *[None] * (3 - len(c.inputs)), *residual]
        if c.attrs.get("no_bias"):
            inputs[2] = None
        attrs = {k: c.attrs.get(k) for k in _KEPT}
        merged[follower] = Node("convolution_relu", inputs, follower.outputs, attrs, c.site)
        gone.update(path)
    g.nodes = [merged.get(n, n) for n in g.nodes if n not in gone]
    return g


def adds_up(g: Graph, y: Value) -> bool:
    """True where the convolution's kernel can add a residual to ``y``: cuDNN's tensor cores can, its others not."""
    return g.gpu < 0 or y.dtype != "float32" or bool(library_settings()["allow_tf32"])
