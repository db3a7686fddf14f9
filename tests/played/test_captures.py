"""Captured graphs where addresses repeat: only with ``--device played``, whose counters say what was captured."""

from __future__ import annotations

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn


def stack(layers: int = 12) -> nn.HybridSequential:
    """A hybridized net."""
    net = nn.HybridSequential()
    net.add(*(nn.Dense(8, activation="tanh", in_units=8) for _ in range(layers)))
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def outside(net, data):
    """What the net gives where nothing is captured."""
    with mx.engine.sync():
        return [net(x).asnumpy() for x in data]


def test_a_training_loop_is_captured_once(counts):
    """The addresses of what a graph saves and of its gradients come again, step after step."""
    net = stack()
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


@pytest.mark.parametrize("rows", [4, 1 << 17])
def test_results_that_are_all_kept(counts, rows):
    """No output finds the place of an earlier one: it is made in the graph's own memory, and copied from there. Unless
    it is too large: then the program runs plainly in the end.
    """
    net = stack(layers=2)
    data = [mx.np.full((rows, 8), k / 60) for k in range(60)]  # nor is an input where the one before was
    want = outside(net, data)
    got = [net(x) for x in data[:45]]
    before = counts()
    got += [net(x) for x in data[45:]]
    after = counts()
    assert after["captures"] == before["captures"]
    assert after["replays"] == before["replays"] + (15 if rows == 4 else 0)
    for a, b in zip(got, want, strict=True):
        onp.testing.assert_array_equal(a.asnumpy(), b)


def test_gradients_of_results_that_are_all_kept():
    """What is saved for them stays where it is."""
    net = stack()
    data = [mx.np.full((4, 8), k / 60) for k in range(60)]

    def gradients() -> list[onp.ndarray]:
        with autograd.record():
            losses = [(net(x) ** 2).sum() for x in data]
        found = []
        for loss in losses:
            loss.backward()
            found.append(net[0].weight.grad().asnumpy())
        return found

    got = gradients()
    with mx.engine.sync():
        want = gradients()
    for a, b in zip(got, want, strict=True):
        onp.testing.assert_array_equal(a, b)
