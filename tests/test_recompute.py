"""What is saved for backward and what is computed again: counted in bytes, for graphs taken for a GPU's."""

from __future__ import annotations

import math

import numpy as onp
import pytest

import minimx as mx
from minimx.graph import compile as compiling
from minimx.graph.cached import interpret
from minimx.graph.ir import Node
from minimx.graph.passes.cleanup import common_subexpressions, dead_code
from minimx.graph.passes.fusion import fuse
from minimx.graph.passes.late import moved, recompute_late
from minimx.graph.trace import differentiate, trace
from minimx.ops.dtypes import BY_NAME

npx = mx.npx


def halves(function, *args, gpu=0):
    """Forward and backward of the function, neither fused; the GPU is only said."""
    t = trace("f", function, args, True)
    gradient = differentiate(t, [True] * len(t.graph.inputs), True)
    g = dead_code(common_subexpressions(compiling.join(t, gradient)))
    g.gpu = gpu
    return compiling.cut(t, g, gradient)


def saved(c):
    """Bytes that cross, and operators that made them."""
    values = c.forward.outputs[c.outputs :]
    producers = c.forward.producers()
    return sum(math.prod(v.shape) * BY_NAME[v.dtype].size for v in values), sorted(producers[v].op for v in values)


@pytest.fixture(autouse=True)
def unfused(monkeypatch):
    monkeypatch.setitem(mx.config.settings.__dict__, "fusion", False)


def array(*shape, dtype="float32"):
    return mx.np.array(onp.random.default_rng(3).normal(size=shape).astype("float32")).astype(dtype)


def swish(x):
    return x * npx.sigmoid(x)


def chain(x):
    return mx.np.exp(mx.np.sin(x * 2) * x).sum(axis=0)


def widened(x):
    y = npx.sigmoid(x * 2).astype("float32")
    return (y * y * mx.np.exp(y)).mean()


def product(x):
    y = mx.np.tanh(x)
    return mx.np.dot(y, y) + 1


def broadcast(x):
    return (x - x.mean(axis=1, keepdims=True)) * mx.np.exp(x)


@pytest.mark.parametrize("function", [swish, chain, widened, product, broadcast])
def test_gradients_stay(function):
    x = array(8, 8, dtype="float16" if function is widened else "float32")
    both = []
    for gpu in (0, -1):
        c = halves(function, x, gpu=gpu)
        made = interpret(c.forward, [x, *c.traced.captures], (0, 0))
        heads = [mx.np.ones(made[i].shape, dtype=str(made[i].dtype)) for i in c.heads]
        both.append((interpret(c.backward, [*[x][: len(c.kept)], *made[c.outputs :], *heads], (0, 0)), saved(c)))
    for a, b in zip(both[0][0], both[1][0], strict=True):
        onp.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    assert both[0][1][0] <= both[1][1][0]


def test_what_is_saved():
    x = array(8, 8)
    assert saved(halves(swish, x)) == (0, []) and saved(halves(swish, x, gpu=-1))[0] == 256
    assert saved(halves(chain, x))[0] == 0
    assert saved(halves(product, x)) == (256, ["tanh"])  # a product reads it: in memory anyway, and again
    assert saved(halves(widened, array(8, 8, dtype="float16")))[0] <= 128  # as float16 if at all


def updated(function, x):
    """A graph of the function's value and, written to x, x less its gradient; not cut."""
    t = trace("f", function, [x], True)
    gradient = differentiate(t, [True] * len(t.graph.inputs), True)
    g = compiling.join(t, gradient)
    g.outputs, (dx,) = g.outputs[:1], g.outputs[1:]
    g.nodes.append(Node("subtract", [g.inputs[0], dx], [new := dx.like()]))
    g.writes.append((g.inputs[0], new))
    g = dead_code(common_subexpressions(g))
    g.gpu = 0
    return g


def layers(x):
    """What is between products."""
    return mx.np.dot(swish(mx.np.dot(swish(mx.np.dot(x, x)), x)), x)


def test_a_graph_that_is_not_cut():
    """Kernels move fewer bytes, the values are the same; where forward and gradient share a kernel it gains nothing."""
    x = array(8, 8)
    g = updated(layers, x)
    made = recompute_late(g.copy())
    assert [n.op for n in made.again] == ["sigmoid"] * 2
    assert moved(fuse(g)) - moved(fuse(made)) == 2 * 256  # the first neither written nor read
    kernels = [[m.op for m in n.body.nodes] for n in fuse(made).nodes if n.body is not None]
    assert kernels[0] == ["sigmoid", "multiply"] and len(kernels) == 4
    results = []
    for h in (g, made):
        h.outputs = h.results()
        results.append(interpret(h, [x, mx.np.ones((8, 8))], (0, 0)))
    for a, b in zip(*results, strict=True):
        onp.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    alone = updated(swish, x)
    assert recompute_late(alone) is alone


def test_inputs_that_backward_does_not_read_stay_free():
    """x may be written to between forward and backward where the gradient does not depend on it."""
    x = array(8, 8)
    x.attach_grad()
    assert saved(halves(lambda x: mx.np.exp(x), x))[1] == ["exp"]
