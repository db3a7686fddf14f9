"""Training in 16 bits gets where float32 gets, on the CPU: a small net on digits. A ResNet: gpu/test_convergence.py."""

from __future__ import annotations

import pytest
from job import accuracy

from minimx.gluon import nn


def make():
    """Norms and dropout between dense layers."""
    net = nn.HybridSequential()
    net.add(nn.Dense(96), nn.LayerNorm(), nn.GELU(), nn.Dropout(0.1), nn.Dense(48, activation="relu"), nn.Dense(10))
    return net


def reached(way, dtype, **settings):
    return accuracy(make, way, dtype, epochs=8, rate=0.1, **settings)


@pytest.fixture(scope="module")
def wide():
    """What float32 reaches."""
    found = reached("float32", "float32")
    assert found > 0.94
    return found


@pytest.mark.parametrize("whole", [False, True], ids=["by halves", "whole steps"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision(wide, dtype, whole):
    assert abs(reached("amp", dtype, whole=whole) - wide) < 0.02


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(wide, dtype):
    """All of the net, with float32 copies of the weights in the optimizer."""
    assert abs(reached("cast", dtype) - wide) < 0.02


def test_operator_by_operator(wide):
    """Not hybridized: nothing is fused."""
    assert abs(reached("amp", "float16", hybridize=False) - wide) < 0.02
