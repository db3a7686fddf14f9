"""Python threads that train nets of their own at once get exactly what each gets alone, imperative and hybridized."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn

THREADS = 4


def net_of(k: int, hybrid: bool) -> nn.HybridSequential:
    """A small net whose parameters depend on `k` only; each has other shapes, so that plans are made meanwhile."""
    net = nn.HybridSequential()
    net.add(
        nn.Dense(8 + k, in_units=6, activation="relu"), nn.LayerNorm(in_channels=8 + k), nn.Dense(3, in_units=8 + k)
    )
    net.initialize()
    rng = np.random.default_rng(k)
    for p in net.collect_params().values():
        p.set_data(mx.np.array(rng.normal(scale=0.3, size=p.shape).astype("float32")))
    if hybrid:
        net.hybridize(static_alloc=True, static_shape=True)
    return net


def train(k: int, net: nn.HybridSequential, device: mx.Device) -> list[np.ndarray]:
    """Losses and parameters after some steps on a device; new threads begin with the CPU as theirs."""
    with device:
        return train_here(k, net)


def train_here(k: int, net: nn.HybridSequential) -> list[np.ndarray]:
    """The same on the current device."""
    rng = np.random.default_rng(100 + k)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
    seen = []
    for _ in range(12):
        x = mx.np.array(rng.normal(size=(5 + k, 6)).astype("float32"))
        with autograd.record():
            loss = (net(x) ** 2).mean()
        loss.backward()
        trainer.step(1)
        seen.append(loss.asnumpy())
    return seen + [p.data().asnumpy() for p in net.collect_params().values()]


@pytest.mark.parametrize("hybrid", [False, True], ids=["imperative", "hybridized"])
def test_threads_train_as_each_would_alone(hybrid, device):
    with ThreadPoolExecutor(1) as pool:  # what the main thread repeats is put off
        alone = [pool.submit(train, k, net_of(k, hybrid), device).result() for k in range(THREADS)]
    assert all(np.isfinite(a).all() for seen in alone for a in seen)
    for _ in range(3):
        nets = [net_of(k, hybrid) for k in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(train, range(THREADS), nets, [device] * THREADS))
        for k in range(THREADS):
            assert all((a == b).all() for a, b in zip(alone[k], together[k], strict=True)), f"thread {k}"
