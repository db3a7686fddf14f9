"""Plain matrix products and convolutions on the emulator, against NumPy and the CPU's plain kernels."""

from __future__ import annotations

import numpy as np
import pytest
from rtc import emulator

rng = np.random.default_rng(3)


def drawn(shape, dtype):
    """Whole numbers, so that sums are exact."""
    values = rng.integers(-3, 4, shape)
    return (np.abs(values) if dtype in ("uint8", "bool") else values).astype(emulator.numpy_type(dtype))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int64", "bool"])
def test_products(dtype):
    shapes = [((3, 4), (4, 5), ()), ((17, 33), (33, 40), ()), ((2, 3, 5, 7), (3, 7, 2), (2, 3)), ((4, 1), (1, 2), ()),
              ((1, 20, 3), (5, 3, 18), (5,))]  # fmt: skip
    for a, b, batch in shapes:
        x, y = drawn(a, dtype), drawn(b[:-2] + b[:-3:-1], dtype).swapaxes(-1, -2)
        out = (*batch, a[-2], b[-1])
        (got,) = emulator.launch("matmul_plain", [x, y], [(out, dtype)])
        np.testing.assert_array_equal(got, (x.astype("float32") @ y.astype("float32")).astype(got.dtype)
                                      if dtype == "float16" else x @ y)  # fmt: skip
        bias = drawn((b[-1],), dtype)
        (got,) = emulator.launch("matmul_plain", [x, y, bias], [(out, dtype)])
        np.testing.assert_array_equal(got, x @ y + bias)


GEOMETRY = [((2, 4, 9), (6, 2, 3), {"stride": (2,), "pad": (1,), "dilate": (1,), "groups": 2}),
            ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (1, 2), "pad": (1, 0), "dilate": (2, 1), "groups": 1}),
            ((1, 4, 4, 5, 6), (8, 1, 2, 3, 1), {"stride": (2, 1, 3), "pad": (0, 1, 0), "dilate": (1, 1, 1),
                                              "groups": 4})]  # fmt: skip


@pytest.mark.parametrize(("x_shape", "w_shape", "attrs"), GEOMETRY)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_convolutions(x_shape, w_shape, attrs, dtype):
    spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, d, s in
               zip(x_shape[2:], w_shape[2:], attrs["pad"], attrs["dilate"], attrs["stride"], strict=True)]  # fmt: skip
    y_shape = (x_shape[0], w_shape[0], *spatial)
    x, w, dy, b = (drawn(s, dtype) for s in (x_shape, w_shape, y_shape, w_shape[:1]))
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for name, ins, outs in (("conv_fwd_plain", [x, w], [y_shape]), ("conv_fwd_plain", [last, w, b], [y_shape]),
                            ("conv_bwd_data_plain", [dy, w], [x_shape]),
                            ("conv_bwd_weights_plain", [x, dy], [w_shape]),
                            ("conv_bwd_weights_plain", [last, dy], [w_shape, w_shape[:1]])):  # fmt: skip
        specs = [(s, dtype) for s in outs]
        for got, want in zip(emulator.launch(name, ins, specs, attrs), emulator.cpu(name, ins, specs, attrs),
                             strict=True):  # fmt: skip
            np.testing.assert_array_equal(got, want, name)
    (y,) = emulator.cpu("conv_fwd_plain", [x, w, b], [(y_shape, dtype)], attrs)
    (got,) = emulator.launch("conv_fwd_plain", [x, w, b], [(y_shape, dtype)], {**attrs, "relu": 1})
    np.testing.assert_array_equal(got, np.maximum(y, 0))
