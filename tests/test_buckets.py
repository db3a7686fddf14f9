"""Gradients over several devices, summed while backward runs: order, numbers, and what makes a bucket void."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import buckets, nn
from minimx.ndarray import _core

DEVICES = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture(autouse=True)
def one_parameter_a_bucket(monkeypatch):
    monkeypatch.setattr(buckets, "BYTES", 1)


def made(devices, grad_req="write"):
    mx.random.seed(0)
    net = nn.Sequential()
    net.add(*(nn.Dense(5, activation="tanh", in_units=5, use_bias=False) for _ in range(4)))
    net.initialize(mx.init.Xavier(), device=mx.cpu())
    net.reset_device(devices)
    net.setattr("grad_req", grad_req)
    return net, gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})


def backward(net, rng, devices):
    x = mx.np.array(rng.normal(size=(8, 5)).astype("f"))
    with autograd.record():
        losses = [(net(part) ** 2).sum() for part in gluon.utils.split_and_load(x, devices)]
    autograd.backward(losses)


def begun(trainer):
    return sum(bucket.sums is not None for bucket in trainer._buckets._buckets)


def train(devices, change, passes):
    """Weights after some steps, and how many sums had begun by the end of each one's backward."""
    net, trainer = made(devices, "add" if max(passes) > 1 else "write")
    rng, early = onp.random.default_rng(0), []
    for step, count in enumerate(passes):
        for _ in range(count):
            backward(net, rng, devices)
        early.append(begun(trainer))
        change(step, net)
        trainer.step(8)
        trainer.zero_grad()
    return [[w.asnumpy() for w in p.list_data()] for p in net.collect_params().values()], early


def nothing(step, net):
    pass


def halve(step, net):
    for p in net.collect_params().values():
        for g in p.list_grad():
            g *= 0.5


@pytest.mark.cpu_only("is about devices of the CPU")
@pytest.mark.parametrize(
    ("change", "passes", "want"),
    [
        pytest.param(nothing, [1] * 5, [0, 0, 4, 4, 4], id="plain"),
        pytest.param(nothing, [2] * 5, [0, 0, 4, 4, 4], id="two passes a step"),
        pytest.param(nothing, [2, 2, 3, 1, 2], [0, 0, 4, 0, 4], id="now more, now fewer"),
        pytest.param(halve, [1] * 6, [0, 0, 4, 4, 4, 0], id="changed before the step"),
    ],
)
def test_numbers_are_those_of_one_device(change, passes, want):
    two, early = train(DEVICES, change, passes)
    one, _ = train(DEVICES[:1], change, passes)
    assert early == want
    for copies, (w,) in zip(two, one, strict=True):
        onp.testing.assert_array_equal(copies[0], copies[1])
        onp.testing.assert_allclose(copies[0], w, rtol=2e-4, atol=1e-5)


@pytest.mark.cpu_only("is about devices of the CPU")
def test_the_last_layers_come_first_and_devices_take_turns():
    net, _ = made(DEVICES)
    order = []
    for i, p in enumerate(net.collect_params().values()):
        for k, w in enumerate(p.list_data()):
            _core.set_grad_hook(w, lambda i=i, k=k: order.append((i, k)))
    backward(net, onp.random.default_rng(0), DEVICES)
    assert [i for i, _ in order] == [3, 3, 2, 2, 1, 1, 0, 0]
    assert all(order[n][1] != order[n + 1][1] for n in range(0, 8, 2))


@pytest.mark.cpu_only("is about devices of the CPU")
def test_gradients_stay_local_until_the_step():
    net, trainer = made(DEVICES)
    rng = onp.random.default_rng(0)
    for _ in range(3):
        backward(net, rng, DEVICES)
        local = [g.asnumpy() for g in net[3].weight.list_grad()]
        assert not (local[0] == local[1]).all()
        trainer.allreduce_grads()
        for g in net[3].weight.list_grad():
            onp.testing.assert_allclose(g.asnumpy(), local[0] + local[1], rtol=1e-5)
        trainer.update(8)


@pytest.mark.cpu_only("is about devices of the CPU")
def test_a_layer_that_is_left_out_and_a_backward_that_fails():
    net, trainer = made(DEVICES)
    rng = onp.random.default_rng(0)
    for _ in range(3):
        backward(net, rng, DEVICES)
        trainer.step(8)

    class Fails(autograd.Function):
        def forward(self, x):
            return x * 1

        def backward(self, dy):
            raise LookupError("in the middle")

    x = mx.np.ones((2, 5))
    with autograd.record():
        losses = [net[3](Fails()(net[0](part))).sum() for part in gluon.utils.split_and_load(x, DEVICES)]
    with pytest.raises(LookupError):
        autograd.backward(losses)
    backward(net, rng, DEVICES)
    local = [[g.asnumpy() for g in p.list_grad()] for p in net.collect_params().values()]
    trainer.allreduce_grads()
    for (a, b), p in zip(local, net.collect_params().values(), strict=True):
        assert all(onp.allclose(g.asnumpy(), a + b, rtol=1e-5) for g in p.list_grad())


def test_a_graph_that_outlives_a_backward_adds_to_what_was_written_early():
    w = mx.np.array([2.0])
    w.attach_grad()
    seen = []
    with autograd.record():
        first, second = w * 3, w * 5
    first.backward()
    _core.set_grad_hook(w, lambda: seen.append(w.grad.item()))
    with autograd.record():
        third = w * 7
    autograd.backward([second, third])
    assert w.grad.item() == 12 and seen[-1] == 12
