"""A hybridized training step in Gluon's default layout, whose convolutions run with channels last: only with ``--device
played``, on whose kernels the results are those of single operators.
"""

from __future__ import annotations

import pytest
from test_passes import Branches, block, check_close, dense, ops, preactivation, trained


@pytest.fixture(autouse=True)
def on_played(request):
    if request.config.getoption("--device") != "played":
        pytest.skip("needs --device played")


def graphs(net):
    """Forward and backward as compiled."""
    compiled = list(net._cached.entries.values())[-1].compiled
    return compiled.forward, compiled.backward


@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_training(make):
    _, plain = trained(make("NCHW"), False, "NCHW", "float16")
    net, made = trained(make("NCHW"), True, "NCHW", "float16")
    check_close(made, plain, "float16")
    last, _ = trained(make("NHWC"), True, "NHWC", "float16")
    assert sorted(set(ops(net)) - {"reorder", "reshape", "transpose"}) == sorted(set(ops(last)) - {"reshape"})
    convolutions = [n for g in graphs(net) for n in g.nodes if n.op.startswith("convolution")]
    assert all(n.attrs["layout"] == "NHWC" for n in convolutions) and bool(convolutions) == (make is not dense)
