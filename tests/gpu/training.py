"""A small net in training, for tests that compare its losses."""

from __future__ import annotations

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn


def losses(hybridize: bool = True) -> list[float]:
    """Of six steps of Adam on the current GPU, which the data reach from the host; the seed is fixed."""
    mx.random.seed(2)
    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="relu"), nn.BatchNorm(), nn.Dense(1))
    net.initialize()
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    trainer, seen = gluon.Trainer(net.collect_params(), "adam"), []
    for k in range(6):
        x = mx.np.array([[k, 1], [2, 3]], device=mx.cpu()).to_device(mx.gpu(0))
        with autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
        trainer.step(2)
        seen.append(loss.item())
    return seen
