"""Max pools that apply the batch norm and ReLU before them: the kernel, and the pass that puts it in."""

from __future__ import annotations

import numpy as np
import pytest
from rtc.emulator import cpu, launch
from rtc.test_absorbed import ABSORBED, run, step
from rtc.test_batch_norm import channels_last, close, drawn, strides, vectors

import minimx as mx
from minimx.gluon import HybridBlock, nn
from minimx.graph.passes.cleanup import common_subexpressions, dead_code, identities
from minimx.graph.passes.conv_stats import absorb_statistics
from minimx.graph.passes.norm import absorb_relu
from minimx.graph.passes.norm_pool import absorb_pools
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import norm_pool

POOLED = ("batch_norm_max_pool", "batch_norm_max_pool_grad", "max_pool_grad")
pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
GAPS = ((2, 32, 9, 9), (2, 2), (3, 3), (0, 0), (3, 3))  # elements that no window has
WINDOWS = [((2, 16, 9, 7), (3, 3), (2, 2), (1, 1), (5, 4)), ((3, 5, 8), (2,), (2,), (0,), (4,))]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_kernel(window, dtype, last):
    """As batch norm with ReLU and then the pool; windows of zeros have no tap."""
    shape, kernel, stride, pad, size = window
    x, pooled = drawn(shape, dtype, last, shift=-1), (*shape[:2], *size)
    gamma, beta = vectors(shape[1])
    beta -= 1.5
    lies = strides(drawn(pooled, dtype, last))
    vector, attrs = (shape[1:2], "float32"), {"kind": "max", "kernel": [*kernel], "stride": [*stride], "pad": [*pad]}
    sums = cpu("channel_sums", [x], [vector] * 2, {})
    outs = [(pooled, dtype, lies), (pooled, "uint8", lies), vector, vector]
    y, taps, mean, var = launch("batch_norm_pool", [x, gamma, beta, *sums], outs, {**attrs, "eps": 1e-3})
    relu, *statistics = launch("batch_norm_fwd_sums", [x, gamma, beta, *sums],
                               [(shape, dtype, strides(x)), vector, vector], {"eps": 1e-3, "relu": 1})  # fmt: skip
    want, places = launch("pool_fwd", [relu], outs[:2], attrs)
    close(y, want, dtype)
    assert (mean == statistics[0]).all() and (var == statistics[1]).all()
    on = np.asarray(want, "f4") > 0
    assert on.any() and not on.all() and (taps[~on] == 255).all()
    assert (taps[on] == places[on]).mean() > (0.999 if dtype == "float32" else 0.8), "places differ only in ties"


@pytest.mark.parametrize("most", [1, 792])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("window", [WINDOWS[0], ((3, 8, 8), (2,), (2,), (0,), (4,)), GAPS], ids=str)
def test_gradient(window, dtype, most, monkeypatch):
    """As the pool's gradient and then the norm's, of which the sums are in another order."""
    monkeypatch.setattr(norm_pool, "SUM_BLOCKS", most)
    shape, kernel, stride, pad, size = window
    x, dy = drawn(shape, dtype, True, shift=-1), drawn((*shape[:2], *size), dtype, True, 1, shift=0)
    volume, (gamma, beta), vector = int(np.prod(kernel)), vectors(shape[1]), (shape[1:2], "float32")
    taps = np.random.default_rng(0).integers(0, volume + 1, dy.shape)
    taps = channels_last(np.where(taps == volume, 255, taps).astype("u1"))
    attrs = {"kind": "max", "kernel": [*kernel], "stride": [*stride], "pad": [*pad], "eps": 1e-3}
    _, mean, var = launch("batch_norm_fwd_train", [x, gamma, beta], [(shape, dtype, strides(x)), vector, vector], attrs)
    outs = [(shape, dtype, strides(x)), vector, vector]
    (g,) = launch("pool_bwd", [dy, taps], outs[:1], attrs)
    want = launch("batch_norm_bwd", [x, g, mean, var, gamma], outs, {"eps": 1e-3})
    got = launch("batch_norm_bwd_pool", [x, dy, taps, mean, var, gamma], outs, attrs)
    for a, b, what in zip(got, want, ("dx", "dgamma", "dbeta"), strict=True):
        close(a, b, dtype, what)


class Stem(HybridBlock):
    """As a ResNet begins; ``also``: another reads what the pool reads."""

    def __init__(self, layout, also=False):
        super().__init__()
        self.conv, self.norm = nn.Conv2D(16, 1, use_bias=False, layout=layout), nn.BatchNorm(axis=layout.index("C"))
        self.pool, self.also = nn.MaxPool2D(3, 2, 1, layout=layout), also

    def forward(self, x):
        y = mx.npx.relu(self.norm(self.conv(x)))
        return self.pool(y) * (y.sum() if self.also else 1)


def passed(plain, statistics):
    """The graph as a GPU gets it."""
    graph = plain.copy()
    graph.gpu = 0
    passes = absorb_relu, lambda g: absorb_statistics(g, lambda nodes, gpu: [statistics] * len(nodes)), absorb_pools
    for p in (dead_code, identities, common_subexpressions, *passes, dead_code):
        graph = p(graph).verify()
    return graph


@pytest.mark.parametrize("layout, dtype, statistics", [("NHWC", "float16", True), ("NCHW", "bfloat16", False)])
def test_training_step(monkeypatch, layout, dtype, statistics):
    monkeypatch.setattr("rtc.test_absorbed.ABSORBED", (*ABSORBED, *POOLED))
    plain, inputs = step(layout, dtype, Stem)
    graph = passed(plain, statistics)
    ops = [n.op for n in graph.nodes]
    last = layout == "NHWC"
    assert ops.count("batch_norm_max_pool") == 1 and ops.count("batch_norm_max_pool_grad") == last
    assert ops.count("batch_norm_grad") == ops.count("max_pool_grad") == 1 - last
    assert ops.count("convolution_stats" if statistics else "channel_sums") == 1
    assert not {"batch_norm_relu", "batch_norm_relu_grad", "batch_norm_sums", "max_pool"} & set(ops)
    tolerance = 2e-2 if dtype == "float16" else 1e-1
    for got, want in zip(run(graph, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, abs(want).max()))


def test_what_others_read_is_written():
    plain, _ = step("NHWC", "float16", lambda layout: Stem(layout, True))
    assert "batch_norm_max_pool" not in [n.op for n in passed(plain, False).nodes]


def test_other_types_are_left_alone():
    plain, _ = step("NHWC", "float32", Stem)
    assert "batch_norm_max_pool" not in [n.op for n in passed(plain, False).nodes]
