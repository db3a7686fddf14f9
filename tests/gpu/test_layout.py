"""Networks written for NCHW, hybridized on a GPU, where their convolutions run with channels last: the numbers of
single operators, forward and backward.
"""

from __future__ import annotations

import numpy as onp
import pytest
import test_layout_gpu
from test_layout_gpu import NETS

import minimx as mx
from minimx import autograd, gluon

pytestmark = pytest.mark.gpu

# These have ReLUs, and a value near 0 may be on the other side of it in TF32: their numbers are whole, so that what
# ReLUs see is exact.
KINKED = (test_layout_gpu.residual, test_layout_gpu.dense_block, test_layout_gpu.shuffled)


def whole(*shape):
    """Small enough for products and sums to fit into the mantissas."""
    return mx.np.array(test_layout_gpu.RNG.integers(-4, 5, shape).astype("float32"))


class Net(gluon.HybridBlock):
    """What a function of test_layout_gpu.py gives, as a list."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        made = self.function(x)
        return [y.astype("float32") for y in (made if isinstance(made, tuple) else (made,))]


def stepped(net, x, weights):
    for w in weights:
        w.attach_grad()
    x.attach_grad()
    with autograd.record():
        outs = net(x)
        loss = sum((y * (i + 1)).mean() for i, y in enumerate(outs))
    loss.backward()
    return [y.asnumpy() for y in (*outs, x.grad, *(w.grad for w in weights))]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("function", NETS)
def test_hybridized_is_imperative(function, dtype, monkeypatch):
    """In TF32 and float16, within what their mantissas leave."""
    before = mx.device.library_settings(allow_tf32=True)
    made = whole if function in KINKED else test_layout_gpu.array
    try:
        with mx.gpu():
            monkeypatch.setattr(test_layout_gpu, "array", lambda *shape: made(*shape).astype(dtype))
            test_layout_gpu.weights.clear()
            x = test_layout_gpu.array(4, 8, 6, 6)
            net = Net(function)
            with autograd.pause():
                net(x)
            weights = list(test_layout_gpu.weights.values())
            plain = stepped(net, x, weights)
            net.hybridize()
            found = stepped(net, x, weights)
            (entry,) = [e for e in net._cached.entries.values() if e.last_backward is not None]
            convolutions = [n for n in entry.compiled.forward.nodes if n.op.startswith("convolution")]
            assert convolutions and all((n.attrs["layout"] or "").endswith("C") for n in convolutions)
    finally:
        mx.device.library_settings(**before)
        test_layout_gpu.weights.clear()
    for a, b in zip(found, plain, strict=True):
        if function is not test_layout_gpu.mixed:  # it sorts: what is nearly equal may trade places
            onp.testing.assert_allclose(a, b, rtol=0, atol=1e-2 * max(1e-3, abs(b.astype("float32")).max()))
