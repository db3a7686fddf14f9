"""Plain matrix products and convolutions on the emulator, against NumPy and the CPU's plain kernels."""

from __future__ import annotations

import itertools

import numpy as np
from rtc import emulator

rng = np.random.default_rng(3)


def drawn(shape, dtype):
    """Whole numbers, so that sums are exact."""
    values = rng.integers(-3, 4, shape)
    return (np.abs(values) if dtype in ("uint8", "bool") else values).astype(emulator.numpy_type(dtype))


def launched(calls):
    """The outputs of each (name, ins, outs, attrs); all are compiled at once."""
    recipes = [emulator.made(*call) for call in calls]
    emulator.prepare(recipes)
    return [emulator.launch(*call, recipe=recipe) for call, recipe in zip(calls, recipes, strict=True)]


def test_products():
    shapes = [((3, 4), (4, 5), ()), ((17, 33), (33, 40), ()), ((2, 3, 5, 7), (3, 7, 2), (2, 3)), ((4, 1), (1, 2), ()),
              ((1, 20, 3), (5, 3, 18), (5,))]  # fmt: skip
    calls, want = [], []
    for t, (a, b, batch) in itertools.product(("float64", "float16", "int8", "int64", "bool"), shapes):
        x, y, bias = drawn(a, t), drawn(b[:-2] + b[:-3:-1], t).swapaxes(-1, -2), drawn((b[-1],), t)
        out = [((*batch, a[-2], b[-1]), t)]
        product = (x.astype("float32") @ y.astype("float32")).astype(t) if t == "float16" else x @ y
        calls += [("matmul_plain", [x, y], out, {}), ("matmul_plain", [x, y, bias], out, {})]
        want += [product, product + bias]
    for (got,), exact in zip(launched(calls), want, strict=True):
        np.testing.assert_array_equal(got, exact)


GEOMETRY = [((2, 4, 9), (6, 2, 3), {"stride": (2,), "pad": (1,), "dilate": (1,), "groups": 2}),
            ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (1, 2), "pad": (1, 0), "dilate": (2, 1), "groups": 1}),
            ((1, 4, 4, 5, 6), (8, 1, 2, 3, 1), {"stride": (2, 1, 3), "pad": (0, 1, 0), "dilate": (1, 1, 1),
                                              "groups": 4})]  # fmt: skip


def test_convolutions():
    calls = []
    for (x_shape, w_shape, attrs), t in itertools.product(GEOMETRY, ("float64", "float32")):
        lines = zip(x_shape[2:], w_shape[2:], attrs["pad"], attrs["dilate"], attrs["stride"], strict=True)
        spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, d, s in lines]
        y_shape = (x_shape[0], w_shape[0], *spatial)
        x, w, dy, b = (drawn(s, t) for s in (x_shape, w_shape, y_shape, w_shape[:1]))
        last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        calls += [(f"conv_{name}_plain", ins, [(s, t) for s in outs], attrs) for name, ins, outs in (
            ("fwd", [x, w], [y_shape]), ("fwd", [last, w, b], [y_shape]), ("bwd_data", [dy, w], [x_shape]),
            ("bwd_weights", [x, dy], [w_shape]), ("bwd_weights", [last, dy], [w_shape, w_shape[:1]]))]  # fmt: skip
    for call, got in zip(calls, launched(calls), strict=True):
        for g, w in zip(got, emulator.cpu(*call), strict=True):
            np.testing.assert_array_equal(g, w, call[0])
    name, ins, outs, attrs = calls[1]
    ((got,),), (want,) = launched([(name, ins, outs, {**attrs, "relu": 1})]), emulator.cpu(name, ins, outs, attrs)
    np.testing.assert_array_equal(got, np.maximum(want, 0))
    z = calls[2][1][0]  # of y's shape
    half = [*(a.astype("float16") for a in ins[:2]), ins[2].astype("float32"), z.astype("float16")]
    ((got,),) = launched([(name, half, [(z.shape, "float16")], {**attrs, "relu": 1, "residual": 1})])
    np.testing.assert_array_equal(got, np.maximum(want + z, 0))
