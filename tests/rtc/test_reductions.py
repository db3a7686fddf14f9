"""Reductions, scans, softmax, norms and sorting on the emulator, where they may go wrong on their own: rows held in
registers and longer ones, elements cut into segments, columns, ends that do not fill a pack, infinities and NaN.

Every row, type and view is the business of test_recipes.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from rtc import emulator

from minimx.ops.table import OPS
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda.fold import Axis, cut_columns, cut_rows, merged

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

rng = np.random.default_rng(3)
ERROR = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def drawn(shape, dtype="float32", low=-2.0, high=2.0):
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    values = rng.uniform(low, high, shape)
    return values.astype(emulator.numpy_type(dtype)) if "float" in dtype else (values * 5).astype(dtype)


def agree(calls, errors=ERROR):
    """Each (name, ins, outs, attrs) gives what the CPU's kernel gives. Returns the number of launches of each."""
    recipes = [emulator.made(*call) for call in calls]
    emulator.prepare(recipes)
    for call, recipe in zip(calls, recipes, strict=True):
        name, ins, outs, attrs = call
        with np.errstate(all="ignore"):
            pairs = zip(emulator.launch(*call, recipe=recipe), emulator.cpu(*call), outs, strict=True)
        for got, want, (_, dtype) in pairs:
            said = f"{name} {attrs} of {[(x.shape, x.dtype.name, x.strides) for x in ins]}"
            error = errors.get(dtype, 0)
            np.testing.assert_allclose(got.astype("float64"), want.astype("float64"), error, error, err_msg=said)
    return [len(r.launches) for r in recipes]


def planned(row, x, **attrs):
    """The call of a row on one operand."""
    plan = OPS[row].plan([emulator.spec_of(x)], attrs)
    return plan.kernel, [x], [tuple(o) for o in plan.outs], plan.attrs


# ---- reductions -----------------------------------------------------------------------------------------------------

SHAPES = [((300, 7), 1), ((300, 7), 0), ((3, 1001), 1), ((9, 2048), 0), ((40, 64, 3, 8), (0, 2)),
          ((4, 8, 16, 16), (0, 2, 3)), ((64, 100, 2), (0, 2)), ((0, 3), 0), ((3, 0), 1), ((2, 3), ()),
          ((1, 1), (0, 1))]  # fmt: skip


@pytest.mark.parametrize("row", ["sum", "argmax"])
def test_reductions_of_every_shape(row):
    axes = [(s, a) for s, a in SHAPES if row == "sum" or (isinstance(a, int) and s[a])]
    agree([planned(row, drawn(s, t), axis=a) for s, a in axes for t in ("float32", "float16", "int32", "bool")])


@pytest.mark.parametrize("row", ["mean", "max", "nanprod", "any", "argmin"])
def test_operands_of_any_strides(row):
    x = drawn((20, 30, 6), low=0.9, high=1.1)
    views = [x[::2], x[:, ::-1], x[:, :, ::-2], x.transpose(2, 0, 1), np.broadcast_to(x[:1], (5, 30, 6)), x[1:, 1:, 1:]]
    axes = [0, 1, 2] if row == "argmin" else [0, 1, 2, (0, 1), (0, 2), (1, 2), None]
    agree([planned(row, v, axis=a) for v in views for a in axes])


def test_few_results_are_made_of_segments():
    calls = [planned("sum", drawn((70_000,), t)) for t in ("float32", "float16", "int32")]
    calls += [planned("max", drawn((5000, 16)), axis=0), planned("sum", drawn((2, 6000, 3)), axis=1, keepdims=True)]
    assert agree([*calls, planned("argmax", drawn((70_000,)))]) == [2] * 6


def test_sums_do_not_drift():
    x = np.full(300_000, np.float32(0.1))
    (got,) = emulator.launch(*planned("sum", x))
    np.testing.assert_allclose(got, x.astype("float64").sum(), rtol=1e-6)


def test_axes_that_go_on_become_one():
    assert merged([Axis(2, 12, 12), Axis(1, 5, 5), Axis(3, 4, 4), Axis(4, 1, 1)]) == [Axis(24, 1, 1)]
    assert merged([Axis(2, 1), Axis(3, 2)]) == [Axis(6, 1)]
    assert merged([Axis(3, 0), Axis(4, -2)]) == [Axis(3, 0), Axis(4, -2)]


@pytest.mark.parametrize("elements", [1, 1000, 10**6, 3 * 10**8])
@pytest.mark.parametrize("results", [1, 37, 50_000])
def test_launches_cover_everything_and_keep_the_device_busy(elements, results):
    for cut in (cut_rows([Axis(results, elements, 1)], [Axis(elements, 1)], 2),
                cut_columns([Axis(results, 1, 1)], [Axis(elements, results)], 2)):  # fmt: skip
        assert cut.segments * cut.segment >= elements > (cut.segments - 1) * cut.segment
        assert cut.threads[0] * cut.threads[1] <= 256 and cut.segments < 65536
        assert elements * results < 10**6 or cut.blocks * cut.segments >= 120


def test_argmax_takes_the_first_and_nan():
    x = np.zeros((4, 3000), np.float32)
    x[0, [700, 2900]] = 1
    x[1, [40, 41]] = np.nan
    x[2, 5] = np.inf
    agree([planned(row, v, axis=a) for row in ("argmax", "argmin") for v in (x, x.T.copy(), x.T) for a in (0, 1)])


# ---- scans ----------------------------------------------------------------------------------------------------------


def test_scans_by_rows_by_columns_and_in_segments():
    shapes = [((5,), 0), ((300, 7), 1), ((7, 300), 1), ((300, 7), 0), ((3, 1001), 1), ((30_000,), 0), ((2, 10_000), 1),
              ((4, 5000), 0), ((64, 40, 2), 1), ((2, 3, 4), None), ((0, 3), 1), ((3, 0), 1)]  # fmt: skip
    types = ("float32", "float16", "int32")
    launches = agree([planned("cumsum", drawn(s, t, 0.9, 1.1), axis=a) for s, a in shapes for t in types])
    assert set(launches) == {0, 1, 2}
    agree([planned("cumprod", drawn((3, 4000), t, 0.999, 1.001), axis=1) for t in ("float32", "float64")])
    x = drawn((20, 30, 6))
    agree([planned("cumsum", v, axis=a) for v in (x[::2], x[:, :, ::-2], x.transpose(2, 0, 1)) for a in (0, 1, 2)])


# ---- softmax --------------------------------------------------------------------------------------------------------

LANES = [(300, 32, 1), (3, 1000, 1), (2, 1001, 1), (2, 20_000, 1), (1, 20_001, 1), (2, 3, 8), (3, 21, 50), (2, 300, 7),
         (1, 17, 1024), (0, 3, 1), (2, 1, 1)]  # fmt: skip


def softmax_calls(shape, dtype, log):
    outer, n, inner = shape
    attrs = {"outer": outer, "n": n, "inner": inner, "log": log}
    y = drawn(shape, dtype, -2, 0)
    return [("softmax", [drawn(shape, dtype)], [(shape, dtype)], attrs),
            ("softmax_bwd", [y if log else np.exp(y), drawn(shape, dtype)], [(shape, dtype)], attrs)]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_softmax_and_gradient(dtype):
    agree([c for shape in LANES for log in (0, 1) for c in softmax_calls(shape, dtype, log)])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cross_entropy_and_gradient(dtype):
    calls = []
    for outer, n, inner in LANES[:-2]:
        x, labels = drawn((outer, n, inner), dtype), rng.integers(-n, n, (outer, inner))
        lse = np.log(np.exp(x.astype("float64")).sum(1)).astype("float32")
        for smoothing in (0.0, 0.1):
            attrs = {"outer": outer, "n": n, "inner": inner, "smoothing": smoothing}
            for of_loss in dict.fromkeys((dtype, "float32")):
                outs = [((outer, inner), of_loss), ((outer, inner), "float32")]
                calls.append(("cross_entropy", [x, labels], outs, attrs))
                g = drawn((outer, inner), of_loss)
                calls.append(("cross_entropy_bwd", [g, x, labels, lse], [(x.shape, dtype)], attrs))
    agree(calls)


def test_a_label_out_of_range_is_nan():
    x, labels = drawn((3, 5, 1)), np.array([[5], [-6], [-5]])
    attrs = {"outer": 3, "n": 5, "inner": 1, "smoothing": 0.0}
    loss, lse = emulator.launch("cross_entropy", [x, labels], [((3, 1), "float32")] * 2, attrs)
    assert np.isnan(loss[:, 0]).tolist() == [True, True, False]
    (dx,) = emulator.launch("cross_entropy_bwd", [loss, x, labels, lse], [(x.shape, "float32")], attrs)
    assert np.isnan(dx[:2]).all() and np.isfinite(dx[2]).all()


@pytest.mark.parametrize(("n", "inner"), [(8, 1), (1000, 1), (20_000, 1), (100, 3)])
def test_numbers_that_are_not_finite(n, inner):
    x = drawn((6, n, inner))
    x[0], x[1, 3], x[2, 2] = -np.inf, np.inf, np.nan
    x[3, :4], x[4, 1], x[4, 2], x[5, :-1] = -np.inf, np.inf, np.nan, -np.inf
    attrs = {"outer": 6, "n": n, "inner": inner}
    calls = [("softmax", [x], [(x.shape, "float32")], attrs | {"log": log}) for log in (0, 1)]
    outs = [((6, inner), "float32")] * 2
    agree([*calls, ("cross_entropy", [x, np.ones((6, inner), "int64")], outs, attrs | {"smoothing": 0.0})])


# ---- norms ----------------------------------------------------------------------------------------------------------


def norm_calls(rows, n, dtype, rms, gamma, beta):
    x, dy = drawn((rows, n), dtype, 0, 4), drawn((rows, n), dtype)
    parameters = [drawn((n,), "float32") for _ in range(gamma + beta)]
    wide = x.astype("float64")
    mean = wide.mean(-1) * (1 - rms)
    rstd = (((wide - mean[:, None]) ** 2).mean(-1) + 1e-5) ** -0.5
    statistics = [mean.astype("float32"), rstd.astype("float32")]
    flags = {"n": n, "rms": rms, "gamma": gamma}
    ends = [((rows,), "float32")] * 2
    wanted = 2 if gamma or beta else 0
    return [("row_norm", [x, *parameters], [((rows, n), dtype), *ends], flags | {"eps": 1e-5, "beta": beta}),
            ("row_norm_bwd", [x, dy, *statistics, *parameters[:gamma]],
             [((rows, n), dtype), *[((n,), "float32")] * wanted],
             flags | {"parameters": wanted})]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_norms_of_rows(dtype):
    shapes = [(300, 32), (3, 1000), (2, 1001), (33, 2048), (2, 9001), (1, 20_000), (2, 1), (0, 3)]
    kinds = [(0, 1, 1), (1, 1, 0), (0, 0, 0)]
    calls = [c for rows, n in shapes for kind in kinds for c in norm_calls(rows, n, dtype, *kind)]
    agree([*calls, *norm_calls(4, 5, dtype, 0, 0, 1)], ERROR | {"float32": 2e-4, "float16": 2e-2})


def test_variance_far_from_zero():
    for n in (1000, 40_000):
        x = (1e4 + drawn((2, n))).astype("float32")
        outs = [(x.shape, "float32"), ((2,), "float32"), ((2,), "float32")]
        attrs = {"n": n, "rms": 0, "gamma": 0, "beta": 0, "eps": 0.0}
        _, _, rstd = emulator.launch("row_norm", [x], outs, attrs)
        np.testing.assert_allclose(rstd, 1 / x.astype("float64").std(-1), rtol=1e-3)


# ---- order ----------------------------------------------------------------------------------------------------------


def test_argsort_is_stable_in_tiles_and_in_merged_runs():
    calls = []
    for shape in [(1,), (300, 7), (2, 512), (3, 513), (2, 2049), (1, 9000), (0, 3), (3, 0)]:
        for dtype in ("float32", "float16", "bool", "int64", "float64"):
            x = drawn(shape, dtype)
            if "float" in dtype and x.size > 8:
                x.flat[:7] = [np.nan, 0.0, -0.0, np.inf, -np.inf, np.nan, 1.0]
            for k in {shape[-1], min(shape[-1], 3)}:
                attrs = [{"k": k, "descending": d} for d in (0, 1)]
                calls += [("argsort", [x], [((*shape[:-1], k), "int64")], a) for a in attrs]
    agree(calls)
