"""Fixtures of the tests that need GPUs which the CPU plays."""

from __future__ import annotations

import pytest

import played


@pytest.fixture
def counts(request):
    """What the played GPUs have counted. Skips without ``--device played``."""
    if request.config.getoption("--device") != "played":
        pytest.skip("needs --device played")
    return played.install().counts
