"""Steps under a loss scale as captured graphs: only with ``--device played``, whose counters say what was captured."""

from __future__ import annotations

import pytest

import minimx as mx
from minimx import amp, gluon
from minimx.gluon import nn


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_one_capture_serves_good_steps_and_skipped_ones(counts, dtype):
    """The scale and what it decides are on the device: neither an overflow nor a new scale asks for another graph."""
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="tanh", in_units=8), nn.Dense(4, in_units=16))
    net.initialize(mx.init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
    x, y = mx.np.random.normal(size=(32, 8)), mx.np.array([i % 4 for i in range(32)])
    with amp.autocast(dtype):
        amp.init_trainer(trainer, amp.LossScaler(2.0**17, scale_window=8) if dtype == "float16" else None)
        step = gluon.TrainStep(net, gluon.loss.SoftmaxCrossEntropyLoss(), trainer)
        losses = [step(x, y).mean().item() for _ in range(6)]
        before = counts()
        losses += [step(x, y).mean().item() for _ in range(40)]
        after = counts()
    scaler = trainer._amp_loss_scaler
    assert after["captures"] == before["captures"] and after["replays"] == before["replays"] + 40
    assert losses[-1] < 0.8 * losses[0]
    assert scaler.skipped > 3 if dtype == "float16" else scaler.skipped == 0
