"""Checked mode on a GPU: training as it should be passes, and an undeclared write of its memory is found.

Faults of streams are planted on played GPUs (tests/played/test_checked.py).
"""

from __future__ import annotations

import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import EngineError

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


@pytest.mark.parametrize("hybridize", [True, False])
def test_training_is_clean(hybridize):
    """Captured graphs, copies up and down, and two streams; the losses are those of the mode off."""

    def train() -> list[float]:
        mx.random.seed(2)
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Dense(16, activation="relu"), gluon.nn.BatchNorm(), gluon.nn.Dense(1))
        net.initialize()
        if hybridize:
            net.hybridize(static_alloc=True, static_shape=True)
        trainer, losses = gluon.Trainer(net.collect_params(), "adam"), []
        for k in range(6):
            x = mx.np.array([[k, 1], [2, 3]], device=mx.cpu()).to_device(mx.gpu(0))
            with autograd.record():
                loss = (net(x) ** 2).sum()
            loss.backward()
            trainer.step(2)
            losses.append(loss.item())
        return losses

    plain = train()
    with mx.engine.checked():
        assert train() == pytest.approx(plain, rel=1e-4)


def test_an_undeclared_write():
    """Fingerprints of a GPU's memory, which CuPy writes to."""
    cupy = pytest.importorskip("cupy")
    with pytest.raises(EngineError, match=r"got changes in a float32 array of shape \(2, 3\)"), mx.engine.checked():
        x = mx.np.ones((2, 3))
        view = cupy.from_dlpack(x)

        def scale() -> None:
            view[0, 1] = 9
            cupy.cuda.runtime.deviceSynchronize()

        mx.engine.push(scale, reads=[x], name="scale")
