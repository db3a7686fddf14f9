"""Bodies of "rows" nodes, written by hand: what passes make of softmax, norms and reductions with their neighbours.

``Draft`` writes a graph call by call; ``BODIES`` are functions (shape, dtype) -> Graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minimx.graph.ir import Graph, Value
from minimx.graph.ir import Node as IrNode
from minimx.ops.table import OPS, Spec
from minimx.rtc.group import c_strides


class Draft:
    """A graph to be. ``draft.add(x, y)`` adds a node and gives its value."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.nodes: list[IrNode] = []

    def given(self, shape: tuple[int, ...], dtype: str) -> Value:
        """One more input."""
        self.inputs.append(Value(tuple(shape), dtype))
        return self.inputs[-1]

    def __getattr__(self, op: str) -> Callable[..., Value]:
        return lambda *args, **attrs: self.call(op, args, attrs)

    def call(self, op: str, args: tuple, attrs: dict[str, Any]) -> Value:
        """One more node, typed by its row of the table."""
        attrs = {p.name: p.default for p in OPS[op].attributes if not p.required} | attrs
        specs = [Spec(x.shape, x.dtype, c_strides(x.shape)) if isinstance(x, Value)
                 else Spec((), "int64" if isinstance(x, int) else "float64", (), True) for x in args]  # fmt: skip
        plan = OPS[op].plan(specs, attrs)
        out = Value(*plan.outs[0])
        self.nodes.append(IrNode(op, list(args), [out], attrs))
        return out

    def graph(self, *outputs: Value) -> Graph:
        return Graph("fused", self.inputs, self.nodes, list(outputs)).verify()


def as_node(body: Graph, gpu: int = -1, form: str = "rows") -> Graph:
    """A graph whose one node is fused and has this body."""
    ins, outs = [v.like() for v in body.inputs], [v.like() for v in body.outputs]
    node = IrNode("fused", list(ins), list(outs), {"form": form} if form else {}, "", body)
    return Graph("whole", ins, [node], outs, gpu=gpu)


def wide(dtype: str) -> str:
    """What kernels compute in."""
    return dtype if dtype in ("float32", "float64") else "float32"


def softmax(shape, dtype):
    """Of 16-bit floats in float32, as the kernel computes it."""
    d = Draft()
    x = d.cast(d.given(shape, dtype), dtype=wide(dtype))
    e = d.exp(d.subtract(x, d.max(x, axis=-1, keepdims=True)))
    return d.graph(d.cast(d.divide(e, d.sum(e, axis=-1, keepdims=True)), dtype=dtype))


def masked_log_softmax(shape, dtype):
    """With a temperature, and a mask that is broadcast along the second axis from the end."""
    d = Draft()
    x = d.cast(d.given(shape, dtype), dtype=wide(dtype))
    mask = d.given((*shape[:-2], 1, shape[-1]), "bool")
    x = d.where(mask, d.divide(x, 0.7), -1e9)
    z = d.subtract(x, d.max(x, axis=-1, keepdims=True))
    total = d.log(d.sum(d.exp(z), axis=-1))
    y = d.subtract(z, d.expand_dims(total, axis=-1))
    return d.graph(d.cast(y, dtype=dtype), total)


def layer_norm(shape, dtype):
    """dropout(x) + residual, normalised, with gamma and beta; the sum, mean and 1 / deviation are stored too."""
    d, n = Draft(), shape[-1]
    x, residual, mask = d.given(shape, dtype), d.given(shape, dtype), d.given(shape, "uint8")
    gamma, beta = d.given((n,), wide(dtype)), d.given((n,), wide(dtype))
    s = d.add(d.where(mask, d.multiply(x, 1 / 0.9), 0.0), residual)
    w = d.cast(s, dtype=wide(dtype))
    mean = d.mean(w, axis=-1, keepdims=True)
    c = d.subtract(w, mean)
    rstd = d.rsqrt(d.add(d.mean(d.multiply(c, c), axis=-1, keepdims=True), 1e-5))
    y = d.add(d.multiply(d.multiply(c, rstd), gamma), beta)
    return d.graph(s, d.cast(y, dtype=dtype), mean, d.squeeze(rstd, axis=-1))


def layer_norm_dx(shape, dtype):
    """Its backward, with the gradient of a ReLU in front."""
    d, n = Draft(), shape[-1]
    x, dy = (d.cast(d.given(shape, dtype), dtype=wide(dtype)) for _ in range(2))
    mean, rstd = (d.given((*shape[:-1], 1), wide(dtype)) for _ in range(2))
    g = d.multiply(d.where(d.greater(x, 0), dy, 0.0), d.given((n,), wide(dtype)))
    hat = d.multiply(d.subtract(x, mean), rstd)
    m1 = d.mean(g, axis=-1, keepdims=True)
    m2 = d.mean(d.multiply(g, hat), axis=-1, keepdims=True)
    dx = d.multiply(d.subtract(d.subtract(g, m1), d.multiply(hat, m2)), rstd)
    return d.graph(d.cast(dx, dtype=dtype))


def rms_norm(shape, dtype):
    """Over the last two axes, where there are as many."""
    d = Draft()
    axes = tuple(range(max(0, len(shape) - 2), len(shape)))
    x = d.cast(d.given(shape, dtype), dtype=wide(dtype))
    gamma = d.given(tuple(shape[a] for a in axes), wide(dtype))
    square = d.mean(d.multiply(x, x), axis=axes, keepdims=True)
    return d.graph(d.cast(d.multiply(d.multiply(x, d.rsqrt(d.add(square, 1e-6))), gamma), dtype=dtype))


def sums(shape, dtype):
    """Several reductions in one walk, then one that depends on them, and numbers of the rows only."""
    d = Draft()
    x, y = d.given(shape, dtype), d.given(shape, dtype)
    total, top, low = d.sum(x, axis=-1), d.max(x, axis=-1), d.min(d.multiply(x, y), axis=-1)
    close = d.less(d.subtract(d.broadcast_to(d.expand_dims(top, axis=-1), shape=shape), x), 1)
    count = d.sum(close, axis=-1)
    return d.graph(d.add(d.multiply(total, 2), low), d.any(d.equal(x, y), axis=-1), count)


BODIES = {f.__name__: f for f in (softmax, masked_log_softmax, layer_norm, layer_norm_dx, rms_norm, sums)}
