"""Checked mode on a GPU: training as it should be passes, and an undeclared write of its memory is found.

Faults of streams are planted on played GPUs (tests/played/test_checked.py).
"""

from __future__ import annotations

import pytest

import minimx as mx
from minimx.errors import EngineError

from .training import losses

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


@pytest.mark.parametrize("hybridize", [True, False])
def test_training_is_clean(hybridize):
    """Captured graphs, copies up and down, and two streams; the losses are those of the mode off."""
    plain = losses(hybridize)
    with mx.engine.checked():
        assert losses(hybridize) == pytest.approx(plain, rel=1e-4)


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
