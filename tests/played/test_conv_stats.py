"""A network in float16, channels last, whose convolutions add up what they write: only with ``--device played``."""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.graph.passes import conv_stats


@pytest.fixture
def only_played(request):
    """Skips elsewhere."""
    if request.config.getoption("--device") != "played":
        pytest.skip("needs --device played")


def train(monkeypatch, pay):
    """Losses and running statistics of some steps, and how many convolutions were changed."""
    asked = []

    def answer(nodes, gpu):
        asked.extend(nodes)
        return [pay] * len(nodes)

    monkeypatch.setattr(conv_stats, "statistics_pay", answer)
    mx.random.seed(1)
    net = nn.HybridSequential()
    for channels in (8, 16):
        net.add(nn.Conv2D(channels, 3, padding=1, use_bias=False, layout="NHWC", in_channels=8))
        net.add(nn.BatchNorm(axis=-1, in_channels=channels), nn.Activation("relu"))
    net.add(nn.Flatten(), nn.Dense(4, in_units=16 * 36))
    net.initialize(mx.init.Xavier())
    net.cast("float16")
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "multi_precision": True})
    x, losses = mx.np.array(np.random.default_rng(0).normal(size=(4, 6, 6, 8)), dtype="float16"), []
    for _ in range(8):
        with autograd.record():
            loss = (net(x).astype("float32") ** 2).mean()
        loss.backward()
        trainer.step(1)
        losses.append(loss.item())
    running = [p.data().astype("float32").asnumpy() for k, p in net.collect_params().items() if "running" in k]
    return losses, running, len(asked)


def test_training_is_the_same(only_played, monkeypatch):
    want, got = train(monkeypatch, False), train(monkeypatch, True)
    assert got[2] == want[2] == 2
    np.testing.assert_allclose(got[0], want[0], rtol=2e-2)
    assert got[0][-1] < got[0][0]
    for a, b in zip(got[1], want[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
