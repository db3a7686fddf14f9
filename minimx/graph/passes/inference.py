"""Inference: a batch norm by given statistics moves into the convolution before it, and so does the ReLU behind.

    batch_norm_infer(conv(x, w)) = conv(x, w * s) + (beta - mean * s),   s = gamma / sqrt(var + eps) by output channel

The new weights are computed at every run, in a few fused passes over the weights instead of two over the activations;
so parameters may change between runs. float32 only: in 16 bits scaled weights would lose accuracy.
"""

from __future__ import annotations

import math

from ..ir import Arg, Graph, Node, Value

_KEPT = ("stride", "dilate", "pad", "num_group", "layout")


def fold_norm(g: Graph) -> Graph:
    """Rewrites every convolution whose only reader is a batch_norm_infer."""
    producers, uses, results = g.producers(), g.uses(), set(g.results())
    nodes: list[Node] = []
    gone = {producers[n.inputs[0]] for n in g.nodes if _folds(n, producers, uses, results)}  # type: ignore[index]
    for n in g.nodes:
        if n in gone:
            continue
        if _folds(n, producers, uses, results):
            nodes.extend(_folded(producers[n.inputs[0]], n))  # type: ignore[index]
        else:
            nodes.append(n)
    g.nodes = nodes
    return _with_relu(g)


def _folds(n: Node, producers: dict, uses: dict, results: set[Value]) -> bool:
    if n.op != "batch_norm_infer":
        return False
    y = n.inputs[0]
    if not isinstance(y, Value) or len(uses[y]) != 1 or y in results or y.dtype != "float32":
        return False
    c = producers.get(y)
    if c is None or c.op != "convolution" or any(v.dtype != "float32" for v in (*c.values, *n.values)):
        return False
    if math.prod(c.values[1].shape) > math.prod(y.shape):  # scaling the weights would cost more than the norm
        return False
    last = (c.attrs.get("layout") or "NC").endswith("C") and c.attrs.get("layout") is not None
    return n.attrs["axis"] % len(y.shape) == (len(y.shape) - 1 if last else 1)


def _folded(c: Node, norm: Node) -> list[Node]:
    """The nodes that compute the new weights, and the convolution with them."""
    x, w = c.inputs[:2]
    bias = c.inputs[2] if len(c.inputs) > 2 and not c.attrs.get("no_bias") else None
    _, gamma, beta, mean, var = norm.inputs
    assert isinstance(w, Value) and isinstance(gamma, Value)
    made: list[Node] = []

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
    made.append(Node("convolution", [x, weight, shift], list(norm.outputs), attrs, c.site))
    return made


def _with_relu(g: Graph) -> Graph:
    """A convolution whose only reader is a relu takes it in."""
    uses, results = g.uses(), set(g.results())
    taken: dict[Node, Node] = {}
    for n in g.nodes:
        if n.op == "convolution" and n.outputs[0].dtype == "float32" and n.outputs[0] not in results:
            readers = uses.get(n.outputs[0], [])
            if len(readers) == 1 and readers[0].op == "relu":
                taken[n] = readers[0]
    merged = {
        relu: Node("convolution_relu", c.inputs, relu.outputs, {k: c.attrs.get(k) for k in _KEPT}, c.site)
        for c, relu in taken.items()
    }
    g.nodes = [merged.get(n, n) for n in g.nodes if n not in taken]
    return g
