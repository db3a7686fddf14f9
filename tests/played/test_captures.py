"""Captured graphs where addresses repeat: only with ``--device played``, whose counters say what was captured."""

from __future__ import annotations

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn


def test_a_training_loop_is_captured_once(counts):
    """The addresses of what a graph saves and of its gradients come again, step after step."""
    net = nn.HybridSequential()
    net.add(*(nn.Dense(8, activation="tanh", in_units=8) for _ in range(12)))
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    x = mx.np.ones((4, 8))

    def step():
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
        trainer.step(4)
        return loss.item()

    with mx.engine.replay(False):  # what is not hybridized would become a graph of its own
        losses = [step() for _ in range(6)]
        before = counts()
        losses += [step() for _ in range(20)]
        after = counts()
    assert after["captures"] == before["captures"] and after["replays"] == before["replays"] + 40
    assert losses[0] > losses[6] > losses[-1] > 0
