"""Checked mode on a GPU: faults of streams and kernels are planted, and found; only with ``--device played``."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import pytest
from gpu.training import losses

import minimx as mx
from minimx.errors import EngineError
from minimx.ndarray import _core


@pytest.fixture
def copy_aside(counts) -> Callable[..., None]:
    """Copies from x to y on the copy stream, as an operator that tells neither of it."""
    from . import install

    def copy(x: mx.np.ndarray, y: mx.np.ndarray, after: bool) -> None:
        to, source, size = _core.address(y), _core.address(x), x.nbytes
        work = lambda: install().copy_aside(_core.gpu_backend(), to, source, size, after)  # noqa: E731
        mx.engine.push(work, reads=[x], writes=[y], name="copy aside")

    return copy


def test_streams_in_no_order(copy_aside):
    with pytest.raises(EngineError) as caught, mx.engine.checked(), mx.gpu(0):
        copy_aside(mx.np.ones((50,)), mx.np.zeros((50,)), after=False)
    text = str(caught.value)
    assert text.startswith("copy aside (pushed at ") and "test_checked.py:" in text
    assert "expected work on the copy stream to come after what the compute stream does with the same" in text


def test_what_comes_after_must_wait_as_well(copy_aside):
    """The copy is behind the compute stream, but what then reads its result is not behind the copy."""
    with pytest.raises(EngineError, match="multiply.*work on the compute stream to come after what the copy stream"):
        with mx.engine.checked(), mx.gpu(0):
            x, y = mx.np.ones((50,)), mx.np.zeros((50,))
            copy_aside(x, y, after=True)
            (y * 2).wait_to_read()


def test_use_after_free_in_stream_order(copy_aside):
    """The allocator is not told of the copy, and hands the block to the compute stream while the copy may read it."""
    with pytest.raises(EngineError, match="before they were freed") as caught, mx.engine.checked(), mx.gpu(0):
        x, y = mx.np.ones((5000,)), mx.np.zeros((5000,))
        copy_aside(x, y, after=True)
        while _core.in_flight()[0]:  # waitall would wait for the streams
            time.sleep(0.001)
        del x
        z = mx.np.zeros((5000,))
        z.wait_to_read()
    assert str(caught.value).startswith("zeros (pushed at ")


def test_an_undeclared_write(counts):
    """Fingerprints of a GPU's memory."""
    with pytest.raises(EngineError, match=r"got changes in a float32 array of shape \(2, 3\)"):
        with mx.engine.checked(), mx.gpu(0):
            x = mx.np.ones((2, 3))
            elements = (ctypes.c_float * 6).from_address(_core.address(x))

            def scale():
                elements[1] = 9

            mx.engine.push(scale, reads=[x], name="scale")


def test_training_is_clean(counts):
    """Captured graphs, copies up and down, and two streams; the losses are those of the mode off."""
    with mx.gpu(0):
        plain, before = losses(), counts()
        with mx.engine.checked():
            assert losses() == plain
    assert counts()["replays"] > before["replays"]
