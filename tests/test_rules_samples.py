"""Every row but the elementwise ones and reductions: its samples against its reference in all its types, its error
inputs."""

import warnings

import ml_dtypes
import numpy as np
import pytest

import minimx as mx
from minimx.ops.dtypes import FLOATS, INTEGERS
from minimx.ops.samples import Ints, Positive
from minimx.ops.table import OPS, f

TOLERANCE = {"float64": 1e-9, "float32": 3e-5, "float16": 2e-2, "bfloat16": 1e-1}
ROWS = [n for n, op in OPS.items() if op.kind not in ("elemwise", "reduce", "random") and op.row.samples is not None]
# NumPy gives a wider type here and minimx keeps the operand's: only the values of floats are compared.
FLOATS_ONLY = {"trace", "round", "diff", "average", "cov", "logspace", "hanning", "hamming", "blackman"}


def to_mx(x, dtype):
    if isinstance(x, np.ndarray):
        return mx.np.array(x, dtype=x.dtype if x.dtype.kind not in "f" else dtype)
    if isinstance(x, list) and x and isinstance(x[0], np.ndarray):
        return [to_mx(v, dtype) for v in x]
    return x


def to_numpy(y):
    if isinstance(y, (list, tuple)):
        return [to_numpy(v) for v in y]
    return y.asnumpy() if hasattr(y, "asnumpy") else y


def reference_of(against):
    if callable(against) or not isinstance(against, str) or not against.startswith("numpy."):
        return against if callable(against) else None
    function = np
    for part in against.split(".")[1:]:
        function = getattr(function, part, None)
    return function


def flat(x):
    return [v for part in x for v in flat(part)] if isinstance(x, (list, tuple)) else [x]


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "uint8", "bool"])
@pytest.mark.parametrize("name", ROWS)
def test_samples(name, dtype):
    row = OPS[name].row
    if (row.dtypes and dtype not in row.dtypes) or (name in FLOATS_ONLY and dtype not in ("float32",)):
        pytest.skip("not a type of this row")
    reference = reference_of(row.against)
    for operands, attrs in row.samples(dtype, np.random.default_rng(0)):
        result = flat(to_numpy(getattr(f, name)(*(to_mx(x, dtype) for x in operands), **attrs)))
        if reference is None:
            continue
        if dtype == "bfloat16":
            operands = [
                x.astype(ml_dtypes.bfloat16).astype("float32") if getattr(x, "dtype", None) == "float32" else x
                for x in operands
            ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = flat(reference(*operands, **attrs))
            except TypeError:  # the reference names its arguments otherwise
                expected = flat(reference(*operands, *attrs.values()))
        for got, want in zip(result, expected, strict=True):
            if want is None:
                continue
            assert np.shape(got) == np.shape(want)
            limit = TOLERANCE.get(dtype, 3e-5)
            np.testing.assert_allclose(np.float64(got), np.float64(want), rtol=limit, atol=limit)


@pytest.mark.parametrize(
    "name", [n for n, op in OPS.items() if op.kind not in ("elemwise", "reduce") and op.row.errors]
)
def test_error_inputs(name):
    for (operands, attrs), cls in OPS[name].row.errors:
        with pytest.raises(cls, match=r"expected .*, got .*"):
            getattr(f, name)(*(zeros(x) for x in operands), **attrs)


def zeros(x):
    if isinstance(x, (Ints, Positive)):
        return mx.np.zeros(x.shape, dtype="int64")
    if isinstance(x, list):
        return [zeros(v) for v in x]
    return mx.np.zeros(x) if isinstance(x, tuple) else x


@pytest.mark.parametrize("name", [n for n, op in OPS.items() if op.kind in ("kernel", "view", "random", "host")])
def test_rows_say_what_they_are(name):
    assert OPS[name].doc, f"{name}: no doc"
    for dtype in OPS[name].row.dtypes:
        assert dtype in FLOATS + INTEGERS + ("bool",)


@pytest.mark.parametrize(
    "name", ["reshape", "transpose", "concatenate", "take", "matmul", "softmax_of", "row_norm", "argsort_to", "pad"]
)
def test_strided_operands_give_the_same(name, device):
    """Operands that are views with gaps, reversed: the same result as their contiguous copies."""
    sums = name == "matmul" and device.device_type == "gpu"  # cuBLASLt adds up in another order
    for operands, attrs in OPS[name].row.samples("float32", np.random.default_rng(0)) if OPS[name].row.samples else []:
        plain = [to_mx(x, "float32") for x in operands]
        result = flat(to_numpy(getattr(f, name)(*plain, **attrs)))
        gaps = [strided(x) if getattr(x, "ndim", 0) else x for x in plain]
        for a, b in zip(result, flat(to_numpy(getattr(f, name)(*gaps, **attrs))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6 if sums else 0, atol=1e-6 if sums else 0)


def strided(x):
    """The same elements in every other place of a larger block, backwards."""
    wide = f.repeat(f.flip(x, 0), 2, axis=0)
    return f.flip(f.getitem(wide, ((1, None, 2),)), 0)


def test_empty_arrays():
    np.testing.assert_array_equal((f.zeros((2, 0)) @ f.zeros((0, 3))).asnumpy(), np.zeros((2, 3)))
    assert f.concatenate([f.zeros((0, 3)), f.ones((2, 3))]).shape == (2, 3)
    assert f.take(f.zeros((3, 0)), f.zeros((2,), "int64"), 0).shape == (2, 0)
    assert f.softmax(f.zeros((0, 3))).shape == (0, 3)
    assert f.put(f.zeros((0, 3)), f.zeros((0,), "int64"), None, (2, 3)).asnumpy().sum() == 0
    assert f.sort(f.zeros((2, 0))).shape == (2, 0)
    assert f.pad(f.zeros((0, 2)), 1).shape == (2, 4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sorting_is_stable_and_puts_nan_last(dtype):
    x = np.array([np.nan, 3, -0.0, 0.0, -np.inf, np.inf, 1, np.nan], dtype)
    np.testing.assert_array_equal(f.argsort_to(mx.np.array(x)).asnumpy(), np.argsort(x, kind="stable"))
    falling = f.argsort_to(mx.np.array(x), None, True).asnumpy()
    np.testing.assert_array_equal(falling, [5, 1, 6, 2, 3, 4, 0, 7])
