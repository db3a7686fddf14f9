"""Convolution, deconvolution and pooling: the library's kernels against the plain ones, layouts, shapes, and errors."""

import numpy as np
import pytest

import minimx as mx
from minimx import autograd
from minimx.errors import ArgumentError, ShapeError
from minimx.ops.table import f

CASES = [  # data, filters, kernel, attributes
    ((2, 4, 9), 6, (3,), {"stride": 2, "pad": 1}),
    ((2, 4, 7, 6), 6, (3, 2), {"stride": (2, 1), "pad": (1, 0), "num_group": 2}),
    ((1, 3, 8, 8), 5, (3, 3), {"dilate": (2, 2), "pad": (2, 2)}),
    ((2, 6, 5, 5), 6, (3, 3), {"num_group": 6, "pad": (1, 1)}),
    ((1, 2, 4, 5, 6), 3, (2, 3, 2), {"stride": (1, 2, 1)}),
]
FIRST = {3: "NCW", 4: "NCHW", 5: "NCDHW"}
LAST = {3: "NWC", 4: "NHWC", 5: "NDHWC"}


def run(dtype, layout, x, w, b, kernel, attrs):
    """Output and gradients, channels first, whatever the layout they were made in."""
    last = layout.endswith("C")
    to = (lambda a: np.moveaxis(a, 1, -1)) if last else (lambda a: a)
    back = (lambda a: np.moveaxis(a, -1, 1)) if last else (lambda a: a)
    variables = [
        mx.np.array(to(x).copy(), dtype=dtype),
        mx.np.array(to(w).copy(), dtype=dtype),
        mx.np.array(b, dtype=dtype),
    ]
    for v in variables:
        v.attach_grad()
    with autograd.record():
        y = mx.npx.convolution(*variables, kernel=kernel, num_filter=w.shape[0], layout=layout, **attrs)
        loss = f.sum(y * y)
    loss.backward()
    gx, gw, gb = (v.grad.asnumpy() for v in variables)
    return [back(y.asnumpy()), back(gx), back(gw), gb]


@pytest.mark.parametrize(("shape", "filters", "kernel", "attrs"), CASES)
def test_library_and_plain_kernels_agree_in_both_layouts(shape, filters, kernel, attrs):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    w = rng.standard_normal((filters, shape[1] // attrs.get("num_group", 1), *kernel))
    b = rng.standard_normal(filters)
    plain = run("float64", FIRST[x.ndim], x, w, b, kernel, attrs)
    for dtype, layout in (("float64", LAST[x.ndim]), ("float32", FIRST[x.ndim]), ("float32", LAST[x.ndim])):
        for got, want in zip(run(dtype, layout, x, w, b, kernel, attrs), plain, strict=True):
            limit = 1e-9 if dtype == "float64" else 2e-4
            np.testing.assert_allclose(got, want, rtol=limit, atol=limit * abs(want).max())


@pytest.mark.parametrize(
    "options", [{"pool_type": "max"}, {"pool_type": "avg"}, {"pool_type": "avg", "count_include_pad": False}]
)
@pytest.mark.parametrize("convention", ["valid", "full"])
def test_pools_agree(options, convention):
    data = np.random.default_rng(0).standard_normal((2, 3, 8, 7))
    results = []
    for dtype, layout in (("float64", "NCHW"), ("float32", "NCHW"), ("float32", "NHWC")):
        last = layout == "NHWC"
        x = mx.np.array(np.moveaxis(data, 1, -1).copy() if last else data, dtype=dtype)
        x.attach_grad()
        with autograd.record():
            y = mx.npx.pooling(
                x, (3, 3), stride=(2, 2), pad=(1, 1), layout=layout, pooling_convention=convention, **options
            )
            loss = f.sum(y * y)
        loss.backward()
        made = [y.asnumpy(), x.grad.asnumpy()]
        results.append([np.moveaxis(a, -1, 1) if last else a for a in made])
    for made in results[1:]:
        for got, want in zip(made, results[0], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stride", "pad", "adj"), [(1, 0, 0), (2, 1, 1), (3, 0, 2)])
def test_deconvolution_is_the_transpose_of_convolution(stride, pad, adj):
    """<conv(x), y> = <x, deconv(y)> with the same weight."""
    rng = np.random.default_rng(0)
    w = mx.np.array(rng.standard_normal((4, 3, 3, 3)), dtype="float64")
    y = mx.np.array(rng.standard_normal((2, 4, 5, 5)), dtype="float64")
    back = mx.npx.deconvolution(y, w, kernel=(3, 3), stride=(stride,) * 2, pad=(pad,) * 2, adj=(adj,) * 2, num_filter=3)
    assert back.shape == (2, 3, *((5 - 1) * stride + 3 - 2 * pad + adj,) * 2)
    x = mx.np.array(rng.standard_normal(back.shape), dtype="float64")
    forward = mx.npx.convolution(
        x, w, None, kernel=(3, 3), stride=(stride,) * 2, pad=(pad,) * 2, num_filter=4, no_bias=True
    )
    part = forward.asnumpy()[:, :, :5, :5]
    np.testing.assert_allclose((part * y.asnumpy()).sum(), (x.asnumpy() * back.asnumpy()).sum(), rtol=1e-9)


def test_second_derivative_of_max_pool():
    x = mx.np.array(np.random.default_rng(0).standard_normal((1, 1, 4, 4)), dtype="float64")
    x.attach_grad()
    with autograd.record():
        y = mx.npx.pooling(x, (2, 2), stride=(2, 2))
        g = autograd.grad(f.sum(y * y * y), [x], create_graph=True)[0]
        f.sum(g * g).backward()
    top = y.asnumpy()
    expected = np.where(x.asnumpy() == top.repeat(2, 2).repeat(2, 3), 36 * x.asnumpy() ** 3, 0)
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-9)


def test_errors_say_what_to_do():
    x, w = mx.np.zeros((2, 3, 6, 6)), mx.np.zeros((4, 3, 3, 3))
    with pytest.raises(ShapeError, match=r"weight \(filters, 3 / 1 channels"):
        mx.npx.convolution(x, mx.np.zeros((4, 2, 3, 3)), None, kernel=(3, 3), num_filter=4)
    with pytest.raises(ShapeError, match="no larger than the padded data"):
        mx.npx.convolution(mx.np.zeros((2, 3, 2, 2)), w, None, kernel=(3, 3), num_filter=4)
    with pytest.raises(ArgumentError, match="layout NCHW or NHWC"):
        mx.npx.convolution(x, w, None, kernel=(3, 3), num_filter=4, layout="CHWN")
    with pytest.raises(ArgumentError, match="stride of 2 integers"):
        mx.npx.pooling(x, (2, 2), stride=(1, 2, 3))


@pytest.mark.parametrize("shape", [(2, 5), (1, 3)])
def test_adaptive_average(shape):
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 6))
    y = mx.npx.adaptive_avg_pool2d(mx.np.array(x, dtype="float64"), shape).asnumpy()
    for i in range(shape[0]):
        for j in range(shape[1]):
            rows = slice(i * 7 // shape[0], -(-(i + 1) * 7 // shape[0]))
            columns = slice(j * 6 // shape[1], -(-(j + 1) * 6 // shape[1]))
            np.testing.assert_allclose(y[:, :, i, j], x[:, :, rows, columns].mean((2, 3)), rtol=1e-12)
