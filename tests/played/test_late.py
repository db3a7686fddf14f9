"""What a whole step makes again instead of keeping it: bytes and bits. Only with ``--device played``."""

from __future__ import annotations

import minimx as mx
from minimx import gluon
from minimx.gluon import nn
from minimx.graph.passes import late


class Swish(nn.HybridBlock):
    """x sigmoid(x)."""

    def forward(self, x):
        return x * mx.npx.sigmoid(x)


def test_steps_keep_less(counts, monkeypatch):
    """Memory, and the bytes that kernels move, of a step; losses are the same to the bit."""
    found = []
    for again in (True, False):
        if not again:
            monkeypatch.setattr(late, "recompute_late", lambda g: g)
        mx.random.seed(1)
        net = nn.HybridSequential()
        for _ in range(4):
            net.add(nn.Dense(64, in_units=64, flatten=False), Swish())
        net.initialize()
        x, y = mx.np.random.normal(size=(256, 64)), mx.np.random.normal(size=(256, 64))
        step = gluon.TrainStep(net, gluon.loss.L2Loss(), gluon.Trainer(net.collect_params(), "sgd"))
        losses = [step(x, y).asnumpy().tobytes() for _ in range(4)]
        (program,) = step._steps.values()
        moved = sum(k.moved for k in step.fusion_report().kernels)
        found.append((losses, program.program.arena_bytes, moved, len(program.graph.again)))
    assert found[0][0] == found[1][0]
    assert found[0][1] < found[1][1] and found[0][2] < found[1][2]
    assert found[0][3] >= 4 and found[1][3] == 0
