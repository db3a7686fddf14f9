"""Graphs in which batch norm has absorbed ReLU, residual and gradient sum, in the form that a GPU gets.

The plain graph runs operator by operator on the CPU; of the other, the absorbed operators run on the emulator.
"""

from __future__ import annotations

import numpy as np
import pytest
from rtc.emulator import launch

import minimx as mx
from minimx import autograd
from minimx.gluon import HybridBlock, nn
from minimx.graph.ir import Value
from minimx.graph.passes.cleanup import call, common_subexpressions, dead_code, identities
from minimx.graph.passes.norm import absorb_relu
from minimx.ops.table import OPS, Spec
from minimx.rtc.compiler import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
ABSORBED = ("batch_norm_relu", "batch_norm_relu_grad")


class Blocks(HybridBlock):
    """As in a ResNet: relu(norm(conv(relu(norm(conv(x))))) + branch), the branch a norm, then what came before."""

    def __init__(self, layout):
        super().__init__()
        self.parts = nn.HybridSequential()
        for _ in range(4):
            net = nn.HybridSequential()
            net.add(nn.Conv2D(12, 1, use_bias=False, layout=layout), nn.BatchNorm(axis=layout.index("C")))
            self.parts.add(net)

    def forward(self, x):
        side, first, second, last = self.parts
        y = mx.npx.relu(second(mx.npx.relu(first(x))) + side(x))
        return mx.npx.relu(y + last(y))


def step(layout, dtype, make=Blocks):
    """The joint graph of a training step, as traced, and arrays for its inputs."""
    net = make(layout)
    x = mx.np.random.normal(size=(3, 12, 5, 3) if layout == "NCHW" else (3, 5, 3, 12)).astype(dtype)
    net.initialize(mx.init.Xavier())
    net.cast(dtype)
    net(x)
    x.attach_grad()
    net.hybridize()
    with autograd.record():
        y = net(x)
    y.backward()
    entry = list(net._cached.entries.values())[-1]
    return entry.compiled.joint, [x.detach(), *entry.captures, mx.np.random.normal(size=y.shape).astype(dtype)]


def run(graph, inputs):
    """Results of a graph; what only passes make runs on the emulator."""
    env = dict(zip(graph.inputs, inputs, strict=True)) | graph.constants
    for n in graph.nodes:
        args = [env[x] if isinstance(x, Value) else x for x in n.inputs]
        if n.op in ABSORBED:
            plan = OPS[n.op].plan([x and Spec(x.shape, str(x.dtype), _strides(x.shape)) for x in n.inputs], n.attrs)
            outs = launch(plan.kernel, [a.asnumpy() for a in args], plan.outs, plan.attrs)
            made = [mx.np.array(o, dtype=o.dtype.name) for o in outs]
        else:
            made = call(n.op, args, n.attrs)
        env.update(zip(n.outputs, made if isinstance(made, (tuple, list)) else (made,), strict=True))
    return [env[v].astype("float32").asnumpy() for v in graph.results()]


def _strides(shape):
    return tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_training_step(layout, dtype):
    plain, inputs = step(layout, dtype)
    graph = plain.copy()
    graph.gpu = 0
    for p in (dead_code, identities, common_subexpressions, absorb_relu, dead_code):
        graph = p(graph).verify()
    assert [n.op for n in graph.nodes].count("batch_norm_relu") == 3
    grads = [n for n in graph.nodes if n.op == "batch_norm_relu_grad"]
    assert sorted((n.attrs["residual"], len(n.inputs) == 7) for n in grads) == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert not {"relu", "relu.grad0"} & {n.op for n in graph.nodes}
    big = [n for n in graph.nodes if n.op == "add" and len(n.outputs[0].shape) > 1]
    assert [len(n.values) for n in big] == [2], "but for the gradient of x, sums are absorbed"
    tolerance = 1e-4 if dtype == "float32" else 2e-2
    for got, want in zip(run(graph, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, abs(want).max()))


def test_sums_that_fuse_are_left_alone():
    """A gradient that a pointwise operator makes is added up in its kernel."""

    class Scaled(HybridBlock):
        def __init__(self, layout):
            super().__init__()
            self.norm, self.conv = nn.BatchNorm(axis=layout.index("C")), nn.Conv2D(12, 1, layout=layout)

        def forward(self, x):
            y = mx.npx.relu(self.norm(x))
            return self.conv(y) + mx.np.tanh(y)

    graph, _ = step("NHWC", "float32", Scaled)
    graph.gpu = 0
    graph = absorb_relu(dead_code(graph))
    assert [len(n.inputs) for n in graph.nodes if n.op == "batch_norm_relu_grad"] == [6]
