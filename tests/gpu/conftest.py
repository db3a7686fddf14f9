"""What tests on a GPU share: a reason to skip where there is none, and the GPU as the current device for who asks."""

from __future__ import annotations

import pytest

import minimx as mx


@pytest.fixture(autouse=True)
def _gpu():
    """Skips where there is no GPU, with the words of why."""
    if why := mx.device.why_no_gpu():
        pytest.skip(why)


@pytest.fixture
def on_gpu(_gpu):
    """GPU 0 as the current device."""
    with mx.gpu(0) as device:
        yield device
