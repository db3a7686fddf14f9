"""A dozen small graphs, and the fused groups that they are cut into: what a GPU compiles for hybridized blocks.

``groups()`` runs each block once forward and backward, hybridized, on the CPU, and notes what fusion asks for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.graph.passes import domains
from minimx.models import get_model
from minimx.models.bert import BERTLayer
from minimx.rtc import compile as compiling
from minimx.rtc import kernel as kernels


class Fused(NamedTuple):
    """A fused node: its group, the Specs of its arrays and outputs (shape, dtype, strides), and the CPU's kernel."""

    graph: str
    group: Any
    ins: list[tuple]
    outs: list[tuple]
    kernel: Any


class Of(gluon.HybridBlock):
    """A block that is a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *xs: Any) -> Any:
        return self.function(*xs)


def chain(*layers: gluon.Block) -> nn.HybridSequential:
    """Layers one after the other."""
    net = nn.HybridSequential()
    net.add(*layers)
    return net


def conv_net(layout: str) -> nn.HybridSequential:
    """Two convolutions with what follows them."""
    axis = 1 if layout == "NCHW" else -1
    return chain(
        nn.Conv2D(8, 3, padding=1, layout=layout), nn.BatchNorm(axis=axis), nn.Activation("relu"),
        nn.Conv2D(8, 3, padding=1, layout=layout), nn.BatchNorm(axis=axis), nn.Swish(),
        nn.GlobalAvgPool2D(layout=layout), nn.Flatten(), nn.Dense(5),
    )  # fmt: skip


def gates(x: Any, h: Any, c: Any) -> tuple:
    """A step of a long short-term memory, its four gates side by side in x + h."""
    i, f, g, o = mx.np.split(x + h, 4, axis=1)
    c = mx.npx.sigmoid(f) * c + mx.npx.sigmoid(i) * mx.np.tanh(g)
    return mx.npx.sigmoid(o) * mx.np.tanh(c), c


def attention(q: Any, k: Any, v: Any) -> Any:
    """Scaled, causal."""
    scores = mx.np.matmul(q, mx.np.swapaxes(k, 1, 2)) * 0.35
    n = scores.shape[-1]
    scores = mx.np.where(mx.np.tril(mx.np.ones((n, n))) > 0, scores, -1e9)
    return mx.np.matmul(mx.npx.softmax(scores), v)


def mixed(x: Any, y: Any, z: Any) -> Any:
    """Comparisons, choices, integers, broadcasts of all sides."""
    near = mx.np.abs(x - y) < 0.5
    whole = (x * 10).astype("int32") % 7
    return mx.np.where(near, x * z + whole, mx.np.maximum(y, z) ** 2) / (1 + mx.np.exp(-z))


def narrow(dtype: str) -> Callable[..., Any]:
    """A chain in a 16-bit float, with a sum of float32."""

    def function(x: Any, y: Any) -> Any:
        z = mx.npx.gelu(x.astype(dtype) * 2 + y.astype(dtype))
        return (z.astype("float32") + mx.np.tanh(y)).astype(dtype)

    return function


GRAPHS: dict[str, tuple[Callable[[], gluon.Block], list[tuple[int, ...]]]] = {
    "dense": (lambda: chain(nn.Dense(32), nn.GELU(), nn.Dropout(0.3), nn.Dense(7), nn.ELU()), [(6, 20)]),
    "conv": (lambda: conv_net("NCHW"), [(2, 3, 9, 9)]),
    "conv_last": (lambda: conv_net("NHWC"), [(2, 9, 9, 3)]),
    "resnet": (lambda: get_model("resnet18_v1", classes=5), [(2, 3, 32, 32)]),
    "preactivation": (lambda: get_model("resnet18_v2", classes=5), [(2, 3, 32, 32)]),
    "norms": (lambda: chain(nn.LayerNorm(), nn.SiLU(), nn.RMSNorm(), nn.GroupNorm(2), nn.LeakyReLU(0.1)), [(4, 6, 8)]),
    "activations": (lambda: chain(nn.PReLU(), nn.SELU(), nn.Mish(), nn.Activation("softsign")), [(4, 6, 5)]),
    "lstm": (lambda: Of(gates), [(5, 24), (5, 24), (5, 6)]),
    "attention": (lambda: Of(attention), [(2, 7, 8)] * 3),
    "bert": (lambda: BERTLayer(32, 64, 4, 0.3), [(6, 2, 32)]),
    "mixed": (lambda: Of(mixed), [(4, 5, 6), (5, 1), (6,)]),
    "float16": (lambda: Of(narrow("float16")), [(6, 40), (40,)]),
    "bfloat16": (lambda: Of(narrow("bfloat16")), [(6, 40), (6, 1)]),
    "cross_entropy": (gluon.loss.SigmoidBinaryCrossEntropyLoss, [(8, 5), (8, 5)]),
    "huber": (gluon.loss.HuberLoss, [(8, 5), (8, 5)]),
}


def _train(make: Callable[[], gluon.Block], shapes: list[tuple[int, ...]]) -> None:
    net = make()
    net.initialize(mx.init.Xavier())
    rng = np.random.default_rng(0)
    xs = [mx.np.array(rng.uniform(0, 1, s).astype("float32")) for s in shapes]
    for x in xs:
        x.attach_grad()
    net(*xs)
    net.hybridize()
    with autograd.record():
        made = net(*xs)
        loss = sum((y.astype("float32") ** 2).sum() for y in (made if isinstance(made, (list, tuple)) else [made]))
    loss.backward()
    net(*xs)
    mx.waitall()


@functools.cache
def groups() -> tuple[Fused, ...]:
    """Every fused node of all graphs; nothing is compiled."""
    found: list[Fused] = []
    right, submit, enabled, name = kernels.fused_kernel, compiling.submit, mx.settings.fusion, ""

    def noting(node: Any, in_specs: Any, out_specs: Any, *rest: Any, **more: Any) -> Any:
        body = kernels.Body(node.body, [kernels.flat(s) for s in in_specs])
        made = right(node, in_specs, out_specs, *rest, **more)
        flat = [[kernels.flat(s) for s in specs] for specs in (in_specs, out_specs)]
        found.append(Fused(name, kernels.described(node.attrs.get("form", ""), body), *flat, made))
        return made

    import minimx.rtc

    minimx.rtc.fused_kernel, compiling.submit, mx.settings.fusion = noting, lambda *a: None, True
    few, domains.FEW = domains.FEW, 0
    try:
        for name, (make, shapes) in GRAPHS.items():  # noqa: B007 - noting reads it
            _train(make, shapes)
    finally:
        minimx.rtc.fused_kernel, compiling.submit, mx.settings.fusion = right, submit, enabled
        domains.FEW = few
    return tuple(found)
