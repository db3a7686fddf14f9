"""Gradients that are added up (grad_req "add"): right however often and wherever a variable is used.

That it takes no kernels of its own is counted in tests/played/test_grad_add.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon, settings
from minimx.gluon import nn


class Scaled(nn.HybridBlock):
    """tanh(x w) + b, pointwise, with a parameter that is used twice."""

    def __init__(self, dtype="float32"):
        super().__init__()
        self.weight = gluon.Parameter("weight", shape=(3, 4), init=mx.init.Normal(1), dtype=dtype)
        self.bias = gluon.Parameter("bias", shape=(3, 4), init=mx.init.Normal(1), dtype=dtype)

    def forward(self, x):
        """x: (3, 4)."""
        return mx.np.tanh(x * self.weight.data()) + self.bias.data() * self.weight.data()


def mlp():
    """Two layers, of which the second is used twice."""
    net = nn.HybridSequential()
    net.add(nn.Dense(4, activation="tanh", in_units=4), inner := nn.Dense(4, in_units=4), nn.LayerNorm(in_channels=4))
    net.add(inner)
    return net


def grads(net, hybrid, passes, x, **backward):
    """The gradients after some passes with grad_req "add", as arrays of NumPy."""
    net.initialize(force_reinit=True)
    for i, p in enumerate(net.collect_params().values()):
        values = np.random.default_rng(i).normal(size=p.shape)
        p.set_data(mx.np.array(values, dtype=p.dtype))
    net.setattr("grad_req", "add")
    net.hybridize(hybrid, **({"static_alloc": True, "static_shape": True} if hybrid else {}))
    for _ in range(passes):
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward(**backward)
        if backward.get("retain_graph"):
            loss.backward()
    return {name: p.grad().asnumpy() for name, p in net.collect_params().items()}


def assert_same(got, want, rtol=1e-4):
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("make", [Scaled, mlp])
def test_compiled_sums_are_those_of_imperative_code(monkeypatch, make, retain, fusion):
    monkeypatch.setattr(settings, "fusion", fusion)
    x = mx.np.random.normal(size=(3, 4))
    want = grads(make(), False, 1, x)
    got = grads(net := make(), True, 3, x, retain_graph=retain)
    assert_same(got, {k: v * (6 if retain else 3) for k, v in want.items()})
    (entry,) = (e for e in net._cached.entries.values() if e.last_backward is not None)
    assert {last for last, _ in entry.adding} == ({False, True} if retain else {True})
    variables = set(net.collect_params().values())
    assert all(len(places) == len(variables) for _, places in entry.adding)


class Tied(nn.HybridBlock):
    """Products with two weights, of which one is used three times, and a norm."""

    def __init__(self, dtype="float32"):
        super().__init__()
        self.dense = nn.Dense(40, in_units=40, activation="relu", flatten=False, dtype=dtype)
        self.out = nn.Dense(24, in_units=40, use_bias=False, flatten=False, dtype=dtype)
        self.norm = nn.LayerNorm(in_channels=40)

    def forward(self, x):
        """x: (*batch, 40)."""
        return self.out(self.norm(self.dense(self.dense(self.dense(x)))))


@pytest.mark.parametrize("rows", [(3,), (2, 33)])
def test_products_add_to_gradients(rows):
    """No sum of weights' gradients is left, nor a copy."""
    x = mx.np.random.normal(size=(*rows, 40))
    want = grads(Tied(), False, 1, x)
    net = Tied()
    got = grads(net, True, 3, x)
    assert_same(got, {k: 3 * v for k, v in want.items()}, 2e-4)
    (entry,) = (e for e in net._cached.entries.values() if e.last_backward is not None)
    (program,) = entry.adding.values()
    assert program.steps.count("matmul_onto") + program.steps.count("matmul_sums") == 4
    assert "copy" not in program.steps
    assert entry.last_backward.steps.count("matmul_onto") + entry.last_backward.steps.count("matmul_sums") >= 2


def test_float16_with_masters():
    x = mx.np.random.normal(size=(3, 4)).astype("float16")
    want = grads(Scaled("float16"), False, 1, x)
    net = Scaled("float16")
    assert_same(grads(net, True, 2, x), {k: 2 * v for k, v in want.items()}, 1e-2)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5, "multi_precision": True})
    before = net.bias.data().asnumpy()
    trainer.step(1)
    np.testing.assert_allclose(net.bias.data().asnumpy(), before - 0.5 * 2 * want["bias"], rtol=1e-2, atol=1e-2)


def test_a_step_wants_a_backward_and_zero_grad_starts_anew():
    x = mx.np.ones((3, 4))
    once = grads(Scaled(), True, 1, x)
    net = Scaled()
    grads(net, True, 3, x)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0})
    trainer.step(1)
    with pytest.raises(mx.errors.AutogradError, match="reaches parameter"):
        trainer.step(1)
    trainer.zero_grad()
    with autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    trainer.step(1)
    assert_same({k: p.grad().asnumpy() for k, p in net.collect_params().items()}, once)


def test_mixed_wishes():
    """One parameter adds, one writes; then one has no gradient."""
    x = mx.np.ones((3, 4))
    once = grads(Scaled(), True, 1, x)
    net = Scaled()
    grads(net, True, 1, x)
    net.bias.grad_req = "write"
    for _ in range(2):
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
    assert_same({"bias": net.bias.grad().asnumpy()}, {"bias": once["bias"]})
    assert_same({"weight": net.weight.grad().asnumpy()}, {"weight": 3 * once["weight"]})
    net.bias.grad_req = "null"
    with autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    assert_same({"weight": net.weight.grad().asnumpy()}, {"weight": 4 * once["weight"]})


def test_two_blocks_and_imperative_code_share_a_variable():
    x = mx.np.ones((3, 4))
    once = grads(Scaled(), True, 1, x)
    first, second = Scaled(), Scaled()
    second.share_parameters(first.collect_params())
    grads(first, True, 1, x)
    second.hybridize()
    first.zero_grad()
    with autograd.record():
        loss = (first(x) ** 2).sum() + (second(x) ** 2).sum() + 3 * first.bias.data().sum()
    loss.backward()
    want = {"weight": 2 * once["weight"], "bias": 2 * once["bias"] + 3}
    assert_same({k: p.grad().asnumpy() for k, p in first.collect_params().items()}, want)


def test_two_variables_share_a_gradient():
    """Both sums go to one array: not in place."""
    x = mx.np.ones((3, 4))
    once = grads(Scaled(), True, 1, x)
    net = Scaled()
    grads(net, True, 1, x)
    shared = mx.np.zeros((3, 4))
    autograd.mark_variables([net.weight.data(), net.bias.data()], [shared, shared], "add")
    net.hybridize()
    with autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    assert_same({"both": shared.asnumpy()}, {"both": once["weight"] + once["bias"]})


def test_grad_and_gradients_of_gradients_leave_the_sum_alone():
    x = mx.np.ones((3, 4))
    net = Scaled()
    once = grads(net, True, 1, x)
    with autograd.record():
        loss = (net(x) ** 2).sum()
    (g,) = autograd.grad(loss, [net.bias.data()])
    assert_same({"bias": g.asnumpy()}, {"bias": once["bias"]})
    assert_same({"bias": net.bias.grad().asnumpy()}, {"bias": once["bias"]})
    with autograd.record():
        loss = (net(x) ** 2).sum()
        (g,) = autograd.grad(loss, [net.bias.data()], create_graph=True)
        loss = (g**2).sum()
    loss.backward()
    other = Scaled()
    grads(other, False, 1, x)
    with autograd.record():
        loss = (other(x) ** 2).sum()
        (g,) = autograd.grad(loss, [other.bias.data()], create_graph=True)
        loss = (g**2).sum()
    loss.backward()
    assert_same(*({k: p.grad().asnumpy() for k, p in n.collect_params().items()} for n in (net, other)))


def test_a_head_gradient_may_be_the_sum_itself():
    x, net = mx.np.ones((3, 4)), Scaled()
    grads(net, True, 1, x)
    before = net.bias.grad().asnumpy()
    with autograd.record():
        out = net(x) + net.bias.data()
    out.backward(net.bias.grad())
    want = before + before * (1 + net.weight.data().asnumpy())
    assert_same({"bias": net.bias.grad().asnumpy()}, {"bias": want})
