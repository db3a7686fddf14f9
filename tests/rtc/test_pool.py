"""Pooling's CUDA kernels against the CPU's: windows, padding, ceil sizes, layouts, 1d to 3d, every float type."""

from __future__ import annotations

import numpy as np
import pytest
from rtc.emulator import cpu, launch, numpy_type, prepare
from rtc.emulator import made as recipe

TOLERANCE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}
WINDOWS = [  # data, kernel, stride, pad, output
    ((2, 16, 9, 7), (3, 3), (2, 2), (1, 1), (5, 4)),
    ((1, 3, 6, 8), (2, 3), (2, 2), (0, 1), (3, 5)),  # the last windows reach beyond the padding: ceil sizes
    ((2, 8, 11), (4,), (3,), (2,), (4,)),
    ((1, 16, 5, 4, 6), (2, 1, 3), (1, 1, 2), (1, 0, 1), (6, 4, 3)),
    ((2, 5, 20, 18), (17, 16), (3, 5), (0, 0), (2, 1)),  # more taps than a byte counts
    ((2, 24, 9, 9), (2, 2), (3, 3), (0, 0), (3, 3)),  # elements that no window has
    ((2, 8, 9, 7), (2, 1), (3, 2), (1, 0), (4, 4)),
]


def channels_last(x):
    """The same elements, channels fastest in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def out(shape, dtype, last):
    x = np.empty(shape, numpy_type(dtype))
    strides = (channels_last(x) if last else x).strides
    return shape, dtype, tuple(s // x.itemsize for s in strides)


def drawn(shape, dtype, last, seed=0):
    """Numbers from few, so that there are ties."""
    x = (np.random.default_rng(seed).integers(-40, 40, shape) / 8).astype(numpy_type(dtype))
    return channels_last(x) if last else x


def close(got, want, dtype):
    np.testing.assert_allclose(np.asarray(got, "f8"), np.asarray(want, "f8"), TOLERANCE[dtype], TOLERANCE[dtype])


def case(window, kind):
    data, kernel, stride, pad, size = window
    attrs = {"kind": kind, "kernel": list(kernel), "stride": list(stride), "pad": list(pad)}
    return data, (*data[:2], *size), attrs, "uint8" if np.prod(kernel) <= 255 else "int32"


CASES = [  # window, kind, dtype, whether channels are last: every window in float32, every type with one window
    (window, kind, dtype, last)
    for i, window in enumerate(WINDOWS)
    for dtype in (TOLERANCE if i == 0 else ["float32"])
    for kind in ("max", "avg_include" if i % 2 else "avg_exclude")
    for last in (False, True)
]


def calls(window, kind, dtype, last):
    """The kernels to be called: name, shape of the data, result, attributes; of a max pool the last two need taps."""
    data, pooled, attrs, index = case(window, kind)
    name, y, x = "_plain" if dtype == "float64" else "", out(pooled, dtype, last), out(data, dtype, last)
    if kind != "max":
        return [("pool_fwd" + name, data, [y], attrs), ("pool_bwd" + name, pooled, [x], attrs)]
    outs = [y, out(pooled, index, last)]
    made = [("pool_fwd" + name, data, outs, attrs), ("pool_bwd" + name, pooled, [x], attrs)]
    return made + [("pool_gather", data, [y], attrs)] * (dtype in ("float32", "float64"))


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Compiles the kernels of all cases together, which is faster."""
    made = []
    for c in CASES:
        taps = np.empty(case(*c[:2])[1], case(*c[:2])[3])
        for i, (name, shape, outs, attrs) in enumerate(calls(*c)):
            ins = [drawn(shape, *c[2:])] + [channels_last(taps) if c[3] else taps] * (c[1] == "max" and i > 0)
            made.append(recipe(name, ins, outs, attrs))
    prepare(made)


@pytest.mark.parametrize("window, kind, dtype, last", [c for c in CASES if c[1] == "max"], ids=str)
def test_max(window, kind, dtype, last):
    (forward, data, outs, attrs), (backward, pooled, result, _), *gather = calls(window, kind, dtype, last)
    x, wide = drawn(data, dtype, last), "float64" if dtype == "float64" else "float32"
    y, taps = launch(forward, [x], outs, attrs)
    close(y, cpu(forward, [x], outs, attrs)[0], dtype)
    want = cpu("pool_fwd_plain", [x.astype(wide)], [out(pooled, wide, last), outs[1]], attrs)
    assert (taps == want[1]).all()  # of equal elements the first
    dy = drawn(pooled, dtype, last, 1)
    (dx,) = launch(backward, [dy, taps], result, attrs)
    close(dx, cpu("pool_bwd_plain", [dy.astype(wide), taps], [out(data, wide, last)], attrs)[0], dtype)
    for name, _, places, _ in gather:
        (again,) = launch(name, [x, taps], places, attrs)
        assert (again == y).all()


@pytest.mark.parametrize("window, kind, dtype, last", [c for c in CASES if c[1] != "max"], ids=str)
def test_average(window, kind, dtype, last):
    for name, shape, outs, attrs in calls(window, kind, dtype, last):
        x = drawn(shape, dtype, last)
        (got,), (want,) = (f(name, [x], outs, attrs) for f in (launch, cpu))
        close(got, want, dtype)


def test_inference_makes_no_taps():
    data, pooled, attrs, index = case(WINDOWS[0], "max")
    x, outs = drawn(data, "float32", True), [out(pooled, "float32", True), out(pooled, index, True)]
    (only,), (y, _) = launch("pool_fwd", [x], outs[:1], attrs), launch("pool_fwd", [x], outs, attrs)
    assert (only == y).all()


def test_strides_of_views_and_mixed_layouts():
    """Slices, a gradient of stride 0 and a result in another order than its operand."""
    data, pooled, attrs, index = case(WINDOWS[0], "max")
    x = drawn((4, 16, 18, 7), "float32", True)[::2, :, ::-2]
    outs = [out(pooled, "float32", False), out(pooled, index, True)]
    (y, taps), (want, places) = (f("pool_fwd_plain", [x], outs, attrs) for f in (launch, cpu))
    assert (y == want).all() and (taps == places).all()
    dy = np.broadcast_to(np.float32(2), pooled)
    got, want = (f("pool_bwd_plain", [dy, taps], [out(data, "float32", True)], attrs)[0] for f in (launch, cpu))
    assert (got == want).all()


def test_nan_is_the_maximum():
    data, pooled, attrs, index = case(WINDOWS[0], "max")
    x = drawn(data, "float32", True)
    x[0, 3, 4, 2] = np.nan
    outs = [out(pooled, "float32", True), out(pooled, index, True)]
    (y, taps), (want, places) = (f("pool_fwd_plain", [x], outs, attrs) for f in (launch, cpu))
    assert np.isnan(y).any() and np.array_equal(y, want, equal_nan=True) and (taps == places).all()


@pytest.mark.parametrize("last", [False, True])
def test_nothing_but_padding(last):
    x, attrs = np.empty((2, 8, 0, 4), "f4"), {"kind": "avg_include", "kernel": [2, 2], "stride": [1, 1], "pad": [1, 1]}
    (y,) = launch("pool_fwd", [channels_last(x) if last else x], [out((2, 8, 1, 5), "float32", last)], attrs)
    assert not y.any()
