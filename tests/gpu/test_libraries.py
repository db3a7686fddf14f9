"""cuDNN and cuBLASLt on a GPU: channels that are filled up, views, settings that change between calls, many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minimx as mx
from minimx.ops.table import f

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

CPU = mx.cpu()


@pytest.fixture
def settings():
    """Sets library_settings for a test."""
    before = mx.device.library_settings()
    yield mx.device.library_settings
    mx.device.library_settings(**before)


def numbers(shape, dtype, most=1):
    """Small whole numbers, of which all sums are exact: on the CPU and on the GPU."""
    x = mx.np.array(np.random.default_rng(shape).integers(-most, most + 1, shape), dtype="float32", device=CPU)
    return x.astype(dtype), x.astype(dtype).to_device(mx.gpu(0))


# --- few channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("view", ["whole", "a slice of the batch", "reversed"])
def test_few_channels(channels, dtype, view, settings):
    """Images large enough that x and w are filled up with zeros (csrc/cuda/conv.cc): the results do not show it."""
    settings(allow_tf32=True)
    seen = {"whole": lambda x: x, "a slice of the batch": lambda x: x[1:], "reversed": lambda x: x[:, ::-1]}[view]
    window = {"stride": (2, 2), "pad": (3, 3), "layout": "NHWC"}
    w = numbers((64, 7, 7, channels), dtype)
    x = tuple(map(seen, numbers((9, 112, 112, channels), dtype)))
    dy, b = numbers((x[0].shape[0], 56, 56, 64), dtype), numbers((64,), dtype)
    made = [
        (
            mx.npx.convolution(x[i], w[i], b[i], kernel=(7, 7), num_filter=64, **window),
            f.convolution_data_grad(dy[i], w[i], shape=x[i].shape, **window),
            f.convolution_weight_grad(x[i], dy[i], shape=w[i].shape, **window),
        )
        for i in (0, 1)
    ]
    scale = 8e-3 if dtype == "bfloat16" else 1e-3
    for want, got in zip(*made, strict=True):
        want, got = (r.astype("float32").asnumpy() for r in (want, got))
        np.testing.assert_allclose(got, want, rtol=scale, atol=scale)


def test_an_unaligned_view_in_a_graph():
    """A batch that begins at an odd element, first seen while a graph is captured."""
    net = mx.gluon.nn.Conv2D(3, 3, in_channels=1, use_bias=False)
    net.initialize(device=mx.gpu(0))
    host = mx.np.array(np.arange(6 * 25).reshape(6, 1, 5, 5) % 7, dtype="float32", device=CPU)
    x, w = host.to_device(mx.gpu(0)), net.weight.data().to_device(CPU)
    want = mx.npx.convolution(host, w, kernel=(3, 3), num_filter=3, no_bias=True).asnumpy()
    net.hybridize()
    for i in (0, 0, 0, 1, 3, 1, 2, 3):
        np.testing.assert_allclose(net(x[i : i + 2]).asnumpy(), want[i : i + 2], rtol=1e-5, atol=1e-5)


# --- what comes with a convolution or a product ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [3, 32])
def test_convolution_with_residual(channels, layout, dtype):
    """Fused or in steps, on operands that lie well and on views; the bias of the others' type and in float32."""
    last = layout == "NHWC"
    x = numbers((5, 14, 14, channels) if last else (5, channels, 14, 14), dtype)
    w = numbers((64, 3, 3, channels) if last else (64, channels, 3, 3), dtype)
    z, b = numbers((5, 14, 14, 64) if last else (5, 64, 14, 14), dtype), numbers((64,), dtype)
    attrs = {"pad": (1, 1), "layout": layout}
    for seen in (lambda v: v, lambda v: v[1:], lambda v: v[::-1]):
        for bias in (b, (None, None)):
            made = [f.convolution_relu(seen(x[i]), w[i], bias[i], seen(z[i]), **attrs) for i in (0, 1)]
            want, got = (y.astype("float32").asnumpy() for y in made)
            np.testing.assert_allclose(got, want, rtol=8e-3 if dtype == "bfloat16" else 1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(64, 128, 96), (5, 7, 3), (33, 64, 1), (1, 8, 16)])
def test_products_with_epilogues(shape, dtype):
    m, k, n = shape
    x, w, b = numbers((m, k), dtype), numbers((n, k), dtype), numbers((n,), dtype)
    a, c = numbers((k, m), dtype), numbers((k, n), dtype)
    scale = 8e-3 if dtype == "bfloat16" else 1e-3
    for act in ("relu", "gelu_tanh"):
        for bias in (b, (None, None)):
            want, got = (f.fully_connected_act(x[i], w[i], bias[i], act=act) for i in (0, 1))
            np.testing.assert_allclose(got.astype("float64").asnumpy(), want.astype("float64").asnumpy(), rtol=scale,
                                       atol=scale)  # fmt: skip
    z = numbers((m, n), dtype)
    for ins in ([(a[i].T, c[i]) for i in (0, 1)], [(a[i].T, c[i], z[i]) for i in (0, 1)]):
        for want, got in zip(*(f.matmul_sums(*ins[i]) for i in (0, 1)), strict=True):
            np.testing.assert_allclose(got.astype("float64").asnumpy(), want.astype("float64").asnumpy(), rtol=scale)
    for lies in (lambda v: v, lambda v: v.T.copy().T):
        want, got = (f.matmul_onto(a[i].T, c[i], lies(z[i])).astype("float64").asnumpy() for i in (0, 1))
        np.testing.assert_allclose(got, want, rtol=scale, atol=scale)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_folded_inference(dtype):
    """A norm, a residual and a ReLU inside the convolution; weights that change are noticed by captured graphs."""
    nn = mx.gluon.nn

    class Block(nn.HybridSequential):
        def forward(self, x):
            return mx.npx.relu(super().forward(x) + x)

    net = Block()
    net.add(nn.Conv2D(64, 3, padding=1, use_bias=False, layout="NHWC", in_channels=64), nn.BatchNorm(axis=-1))
    net.initialize(mx.init.Xavier(), device=mx.gpu(0))
    x = mx.np.random.normal(size=(8, 28, 28, 64))
    with mx.autograd.record():
        net(x)
    net.cast(dtype)
    x = x.astype(dtype)
    net.hybridize(static_alloc=True, static_shape=True)
    for change in (1.0, 2.0):
        net[1].gamma.set_data(net[1].gamma.data() * change)
        for _ in range(4):
            y = net(x)
        want, y = net._call_eager(x).astype("float32").asnumpy(), y.astype("float32").asnumpy()
        np.testing.assert_allclose(y, want, atol=(0.04 if dtype == "bfloat16" else 5e-3) * np.abs(want).max())
    (entry,) = (e for e in net._cached.entries.values() if e.prepared is not None)
    assert [n.op for n in entry.compiled.forward.nodes] == ["convolution_relu"]


# --- settings and threads ----------------------------------------------------------------------------------------


def test_settings_are_heeded_by_operators_that_ran_before(settings):
    random = np.random.default_rng(0)
    a = mx.np.array(random.standard_normal((256, 256)), dtype="float32")
    x = mx.np.array(random.standard_normal((8, 64, 20, 20)), dtype="float32")
    w = mx.np.array(random.standard_normal((64, 64, 3, 3)), dtype="float32")
    for run in (lambda: a @ a, lambda: mx.npx.convolution(x, w, kernel=(3, 3), num_filter=64, no_bias=True)):
        made = []
        for tf32 in (False, True, False):
            settings(allow_tf32=tf32)
            made.append(run().asnumpy())
        np.testing.assert_array_equal(made[0], made[2])
        worst = np.abs(made[0] - made[1]).max() / np.abs(made[0]).max()
        assert 1e-6 < worst < 5e-3, "TF32 has ten bits of mantissa"


def test_threads_ask_the_libraries_at_once():
    """Kernels of new shapes, made and run by several threads."""

    def product(n):
        with mx.gpu(0):
            x, w = mx.np.ones((2, 4, n, n)), mx.np.ones((8, 4, 3, 3))
            y = mx.npx.convolution(x, w, kernel=(3, 3), num_filter=8, no_bias=True)
            return y.asnumpy(), (mx.np.ones((n, n)) @ mx.np.ones((n, n))).asnumpy()

    with ThreadPoolExecutor(8) as pool:
        for n, (y, c) in zip(range(11, 35), pool.map(product, range(11, 35)), strict=True):
            assert (y == 36).all() and (c == n).all()
