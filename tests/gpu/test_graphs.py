"""Hybridized blocks on a GPU: with static memory and shapes, runs are captured as CUDA graphs and launched as a whole.

Everything is compared with the same net run imperatively, over several steps: the first is the warm-up, then graphs are
captured, then replayed. Graphs on any device: ../test_hybridize.py, ../test_graph.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

STATIC = {"static_alloc": True, "static_shape": True}
OPTIONS = pytest.mark.parametrize("options", [{}, {"static_alloc": True}, STATIC], ids=["plain", "alloc", "captured"])


def values(*shape: int, seed: int = 0) -> mx.np.ndarray:
    """Inputs."""
    return mx.np.array(np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32"))


def dense(dropout: float = 0.0) -> nn.HybridSequential:
    """(N, 6) -> (N, 3)."""
    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="relu", in_units=6), nn.Dropout(dropout), nn.Dense(16, "tanh", in_units=16))
    net.add(nn.LayerNorm(in_channels=16), nn.Dense(3, in_units=16))
    return net


def convolutional() -> nn.HybridSequential:
    """(N, 3, H, W) -> (N, 3)."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, 1, 1, in_channels=3), nn.BatchNorm(in_channels=8), nn.Activation("relu"), nn.MaxPool2D())
    net.add(nn.Conv2D(16, 3, in_channels=8), nn.BatchNorm(in_channels=16), nn.Activation("relu"))
    net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3, in_units=16))
    return net


def initialized(make, seed: int = 0):
    """A net with values that depend on the seed only."""
    net = make()
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier())
    return net


def pair(make, options=STATIC, seed: int = 0):
    """The same net twice: imperative, and hybridized with ``options``."""
    plain, hybrid = initialized(make, seed), initialized(make, seed)
    hybrid.hybridize(**options)
    return plain, hybrid


def captured(net) -> int:
    """CUDA graphs that the net's programs hold."""
    programs = [p for e in net._cached.entries.values() for p in (e.forward, e.last_backward) if p is not None]
    return sum(p.captured_graphs for p in programs)


class Training:
    """A net with its trainer and what it has seen."""

    def __init__(self, net, optimizer: str = "sgd", **settings):
        self.net, settings = net, settings or {"learning_rate": 0.05, "momentum": 0.9}
        self.trainer = gluon.Trainer(net.collect_params(), optimizer, settings)
        self.losses: list = []

    def step(self, x) -> None:
        """One step on the mean square of the outputs."""
        with autograd.record():
            y = self.net(x)
            loss = ((y - 1) ** 2).mean()
        loss.backward()
        self.trainer.step(1)
        self.losses.append(loss)

    def numbers(self) -> dict[str, np.ndarray]:
        """Losses and parameters."""
        found = {name: p.data().asnumpy() for name, p in self.net.collect_params().items()}
        return found | {"losses": np.array([x.item() for x in self.losses])}


def agree(a: dict, b: dict, tolerance: float = 2e-5) -> None:
    """All numbers, relative to the largest of each array."""
    assert a.keys() == b.keys()
    for name in a:
        scale = max(abs(a[name]).max(initial=0), 1e-2)
        np.testing.assert_allclose(b[name], a[name], rtol=0, atol=tolerance * scale, err_msg=name)


# --- the same numbers --------------------------------------------------------------------------------------------


@OPTIONS
@pytest.mark.parametrize("make, shape", [(dense, (5, 6)), (convolutional, (4, 3, 12, 12))], ids=["dense", "conv"])
def test_training(make, shape, options):
    """Twelve steps, each on other inputs of one shape, in other memory."""
    sides = [Training(net) for net in pair(make, options)]
    inputs = [values(*shape, seed=k) for k in range(12)]
    for side in sides:
        for k, x in enumerate(inputs):
            side.step(x.copy())
            if k == 2:
                assert mx.rtc.wait(100), "graphs are captured when their kernels are there"
    agree(*(side.numbers() for side in sides), 2e-4)
    if options == STATIC:
        assert captured(sides[1].net) >= 2, "forward and backward are captured"


@OPTIONS
def test_dropout_draws_anew_in_every_replay(options):
    """And draws what imperative code draws: the random stream goes on inside of graphs."""
    results = []
    for net in pair(lambda: dense(0.5), options):
        mx.random.seed(9)
        side = Training(net)
        for _ in range(8):
            side.step(values(5, 6))
        results.append(side.numbers())
    agree(*results, 2e-4)
    _, net = pair(lambda: dense(0.5), options)
    x = values(5, 6)
    with autograd.train_mode():
        made = [net(x).asnumpy().tobytes() for _ in range(6)]
    assert len(set(made)) == 6 and mx.rtc.wait(100)
    mx.random.seed(2)
    with autograd.train_mode():
        first = [net(x).asnumpy() for _ in range(4)]
        mx.random.seed(2)
        for y in first:
            np.testing.assert_array_equal(net(x).asnumpy(), y)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_learning_rate_may_change(optimizer):
    """From step to step, and to zero."""
    sides = [Training(net, optimizer, learning_rate=0.01) for net in pair(dense)]
    for side in sides:
        for k in range(9):
            side.trainer.set_learning_rate(0.01 / (k + 1))
            side.step(values(5, 6, seed=k))
    agree(*(side.numbers() for side in sides), 2e-4)
    for side in sides:
        for k in range(3):
            side.trainer.set_learning_rate(0.0)
            kept = side.numbers()
            side.step(values(5, 6, seed=k))
            agree({k: v for k, v in kept.items() if k != "losses"},
                  {k: v for k, v in side.numbers().items() if k != "losses"}, 0)  # fmt: skip


def test_batches_of_other_sizes():
    """Each signature has programs of its own; coming back to one replays its graphs."""
    sides = [Training(net) for net in pair(convolutional)]
    for side in sides:
        for k in range(12):
            side.step(values((4, 7, 4, 1)[k % 4], 3, 12, 12, seed=k))
    agree(*(side.numbers() for side in sides), 1e-3)


def test_two_nets_in_turn():
    """Their graphs and memory do not mix."""
    sides = [[Training(net) for net in pair(make, seed=n)] for n, make in enumerate((dense, dense))]
    for which in (0, 1):
        for k in range(8):
            for n, side in enumerate(sides):
                side[which].step(values(5, 6, seed=10 * n + k))
    for plain, hybrid in sides:
        agree(plain.numbers(), hybrid.numbers(), 2e-4)


def test_one_net_feeds_another():
    """Outputs of one captured program are inputs of the next, forward and backward."""
    results = []
    for first, second in zip(pair(dense, seed=1), pair(lambda: nn.Dense(4, in_units=3), seed=2), strict=True):
        both = Training(first, learning_rate=0.01), Training(second, learning_rate=0.01)
        for k in range(8):
            with autograd.record():
                loss = (second(first(values(5, 6, seed=k)) * 2) ** 2).mean()
            loss.backward()
            for side in both:
                side.trainer.step(1)
                side.losses.append(loss)
        results.append({**both[0].numbers(), **{f"second {k}": v for k, v in both[1].numbers().items()}})
    agree(*results, 2e-4)


def test_outputs_stay_as_they_are():
    """A later replay leaves the results of earlier ones alone."""
    plain, hybrid = pair(dense)
    inputs = [values(5, 6, seed=k) for k in range(10)]
    kept = [hybrid(x) for x in inputs]
    for x, y in zip(inputs, kept, strict=True):
        np.testing.assert_allclose(y.asnumpy(), plain(x).asnumpy(), rtol=1e-5, atol=1e-6)


def test_two_forwards_before_one_backward():
    """Each run keeps what its backward pass needs."""
    grads = []
    for net in pair(dense):
        found = []
        for k in range(6):
            a, b = values(5, 6, seed=k), values(5, 6, seed=k + 100)
            with autograd.record():
                ya, yb = net(a), net(b)
                loss = (ya * yb).sum() + (yb * yb * 3).sum()
            loss.backward()
            found += [p.grad().asnumpy() for p in net.collect_params().values()]
        grads.append(dict(enumerate(found)))
    agree(*grads, 1e-4)


def test_inference_after_training():
    """Train and predict mode are signatures of their own, and predict mode sees the newest statistics."""
    sides = [Training(net) for net in pair(convolutional)]
    outputs: list[list] = [[], []]
    for side, seen in zip(sides, outputs, strict=True):
        for k in range(8):
            side.step(values(4, 3, 12, 12, seed=k))
            seen.append(side.net(values(4, 3, 12, 12, seed=50)).asnumpy())
    agree(*({str(k): y for k, y in enumerate(seen)} for seen in outputs), 1e-3)
    agree(*(side.numbers() for side in sides), 1e-3)


def test_parameters_written_from_outside():
    """set_data between replays is seen by the next."""
    plain, hybrid = pair(dense)
    x = values(5, 6)
    for k in range(6):
        for net in (plain, hybrid):
            for n, p in enumerate(net.collect_params().values()):
                p.set_data(values(*p.shape, seed=100 * k + n))
        np.testing.assert_allclose(hybrid(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_gradients_are_added_up():
    """grad_req "add" over replays."""
    grads = []
    for net in pair(dense):
        for p in net.collect_params().values():
            p.grad_req = "add"
        net.zero_grad()
        for k in range(6):
            with autograd.record():
                loss = (net(values(5, 6, seed=k)) ** 2).sum()
            loss.backward()
        grads.append({name: p.grad().asnumpy() for name, p in net.collect_params().items()})
    agree(*grads, 1e-4)


def test_many_addresses():
    """Inputs in ever new memory: graphs are updated or runs stay plain, and numbers are right either way."""
    plain, hybrid = pair(dense)
    keep = []
    for k in range(60):
        x = values(5, 6, seed=k)
        y = hybrid(x)
        keep.append((x, y))
    for x, y in keep:
        np.testing.assert_allclose(y.asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-6)
    assert captured(hybrid) <= 8


def test_synchronous_mode_between_replays():
    """mx.engine.sync() runs the steps one by one; replays go on after it."""
    plain, hybrid = pair(dense)
    for k in range(9):
        x = values(5, 6, seed=k)
        if k % 3 == 1:
            with mx.engine.sync():
                y = hybrid(x).asnumpy()
        else:
            y = hybrid(x).asnumpy()
        np.testing.assert_allclose(y, plain(x).asnumpy(), rtol=1e-4, atol=1e-6)


def test_work_on_the_host_in_between():
    """Replays are ordered with copies to and from the host."""
    plain, hybrid = pair(dense)
    x = values(5, 6)
    host = mx.np.zeros((5, 3), device=mx.cpu())
    for k in range(10):
        mx.np.array(np.full((5, 6), k / 10, "float32"), device=mx.cpu()).copyto(x)
        hybrid(x).copyto(host)
        np.testing.assert_allclose(host.asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-6)


# --- what cannot be captured -------------------------------------------------------------------------------------


class WithHostRow(gluon.HybridBlock):
    """An inverse, which CuPy computes in the middle of the graph."""

    def __init__(self):
        super().__init__()
        self.weight = gluon.Parameter("weight", shape=(4, 4))

    def forward(self, x):
        square = x @ self.weight.data() * 0.1 + mx.np.eye(4) * 2
        return mx.npx.relu(mx.np.linalg.inv(square)) * 2


@OPTIONS
def test_a_graph_with_an_operator_on_cupy(options):
    """Runs step by step where it cannot be captured, with the same numbers."""
    pytest.importorskip("cupy")
    plain, hybrid = pair(WithHostRow, options)
    for k in range(6):
        x = values(4, 4, seed=k)
        np.testing.assert_allclose(hybrid(x).asnumpy(), plain(x).asnumpy(), rtol=1e-4, atol=1e-5)
    y = dense()
    y.initialize()
    assert y(values(2, 6)).shape == (2, 3), "what was tried left the stream as it was"


def test_a_loss_in_the_graph():
    """Net and loss as one graph, cross-entropy with labels that change."""

    class Loss(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.net, self.loss = convolutional(), gluon.loss.SoftmaxCrossEntropyLoss()

        def forward(self, x, labels):
            return self.loss(self.net(x), labels).mean()

    results = []
    for net in pair(Loss):
        trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
        found = []
        for k in range(10):
            labels = mx.np.array(np.random.default_rng(k).integers(0, 3, 4))
            with autograd.record():
                loss = net(values(4, 3, 12, 12, seed=k), labels)
            loss.backward()
            trainer.step(1)
            found.append(loss.item())
        results.append({"losses": np.array(found)})
    agree(*results, 1e-3)
