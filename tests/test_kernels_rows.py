"""Kernels on long rows, on the CPU: functions give the same bits wherever an element lies, powers and conversions are
right to the last place, softmax and norms are right at every length and with odd numbers in a row.

Kernels: csrc/cpu/{scalar_math,convert_scalar,rows}.h, convert.cc, softmax.cc, row_norm.cc. The other pointwise
functions: test_kernels_pointwise.py.
"""

import numpy as np
import pytest
import scipy.special

import minimx as mx
from minimx import npx

FUNCTIONS = "exp exp2 expm1 log log2 log10 log1p tanh sinh cosh sin cos tan sqrt".split()
NETWORK = "sigmoid erf gelu silu relu softsign".split()


def floats(n: int, seed: int = 0) -> np.ndarray:
    """Any bits: denormals, infinities and NaNs among them."""
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)


def bits(a: mx.np.ndarray | np.ndarray) -> np.ndarray:
    """Bits of float32 numbers, all NaNs as one."""
    x = np.asarray(a.asnumpy() if isinstance(a, mx.np.ndarray) else a)
    return np.where(np.isnan(x), np.float32(np.nan), x).view(np.uint32)


@pytest.mark.parametrize("name", FUNCTIONS + NETWORK)
def test_bits_do_not_depend_on_the_place(name):
    f = getattr(mx.np, name, None) or getattr(npx, name)
    x = np.concatenate([floats(1500), np.random.default_rng(1).normal(size=1501).astype(np.float32) * 3])
    whole = bits(f(mx.np.array(x)))
    assert (whole[np.isnan(x)] == bits(np.float32([np.nan]))[0]).all()  # whatever a NaN's other bits are
    for shift in (1, 3, 15, 2990):
        np.testing.assert_array_equal(bits(f(mx.np.array(x[shift:]))), whole[shift:])
    np.testing.assert_array_equal(bits(f(mx.np.array(x[::-1].copy()))), whole[::-1])
    alone = [bits(f(mx.np.array(x[i : i + 1])))[0] for i in range(0, len(x), 61)]
    np.testing.assert_array_equal(alone, whole[::61])


def power_cases() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    odd = np.float32([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2, -2, 0.5, 3, -3, 1e-45, -1e-45, 3e38, 1e-39, 2**24])
    a, b = (v.ravel() for v in np.meshgrid(odd, odd))
    near, far = 1 + rng.uniform(-0.2, 0.2, 100_000), rng.uniform(-400, 400, 100_000)
    wide, few = np.exp(rng.uniform(-20, 20, 100_000)), rng.uniform(-5, 5, 100_000)
    whole, small = rng.normal(size=10_000) * 9, rng.integers(-9, 9, 10_000)
    pairs = ((a, b), (floats(100_000), floats(100_000, 1)), (near, far), (wide, few), (whole, small))
    return tuple(np.concatenate([np.asarray(pair[i], np.float32) for pair in pairs]) for i in (0, 1))


def test_powers_are_right_to_six_tenths_of_the_last_place():
    a, b = power_cases()
    with np.errstate(all="ignore"):
        exact = a.astype(np.float64) ** b.astype(np.float64)
        want = exact.astype(np.float32)
    got = (mx.np.array(a) ** mx.np.array(b)).asnumpy()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    plain = np.isfinite(want) & (want != 0)
    np.testing.assert_array_equal(bits(got[~plain]), bits(want[~plain]))  # signs of zeros and infinities too
    spacing = np.maximum(np.spacing(np.abs(want[plain])).astype(np.float64), 2.0**-149)
    assert (np.abs(got[plain] - exact[plain]) / spacing).max() < 0.6


def test_every_half_is_converted_exactly():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    for x in (halves, halves[1:], halves[::-1].copy()):  # another part of the row is its rest
        np.testing.assert_array_equal(bits(mx.np.array(x).astype("float32")), bits(x.astype(np.float32)))
    every_other = mx.np.array(halves)[::2].astype("float32")
    np.testing.assert_array_equal(bits(every_other), bits(halves[::2].astype(np.float32)))


@pytest.mark.parametrize("step", [1, 3])
def test_floats_are_rounded_to_halves_as_numpy_does(step):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite = np.unique(halves[np.isfinite(halves)])
    between = (finite[1:] + finite[:-1]) / 2  # ties, and their neighbours
    x = np.concatenate([between, np.nextafter(between, np.inf), np.nextafter(between, -np.inf), floats(100_003)])
    with np.errstate(all="ignore"):
        want = x[::step].astype(np.float16)
    got = mx.np.array(x)[::step].astype("float16").asnumpy()
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.uint16), want[~nan].view(np.uint16))


LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 130, 1000, 5003)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_of_every_length(dtype, axis):
    tolerance = {"float32": 3e-6, "float64": 1e-13, "float16": 3e-3, "bfloat16": 2e-2}[dtype]
    for n in LENGTHS:
        x = mx.np.array(np.random.default_rng(n).normal(size=(3, n)) * 4, dtype=dtype)
        exact = x.astype("float64").asnumpy()
        if axis == 0:
            x, exact = x.T.copy(), exact.T
        for ours, theirs in ((npx.softmax, scipy.special.softmax), (npx.log_softmax, scipy.special.log_softmax)):
            got = ours(x, axis=axis).astype("float64").asnumpy()
            np.testing.assert_allclose(got, theirs(exact, axis), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n", [5, 64, 1001])
def test_softmax_of_rows_with_odd_numbers(n):
    x = np.random.default_rng(0).normal(size=(6, n)).astype(np.float32)
    x[1, n // 2] = -np.inf
    x[2] = -np.inf
    x[3, n - 1] = np.nan
    x[4, 0], x[4, 1] = np.nan, np.inf
    x[5] = -np.inf
    x[5, n - 2] = np.nan
    got, log = npx.softmax(mx.np.array(x)).asnumpy(), npx.log_softmax(mx.np.array(x)).asnumpy()
    np.testing.assert_allclose(got[:2], scipy.special.softmax(x[:2], -1), rtol=1e-5)
    assert got[1, n // 2] == 0 and log[1, n // 2] == -np.inf
    assert np.isnan(got[2:]).all() and np.isnan(log[2:]).all()


@pytest.mark.parametrize("n", LENGTHS[1:])
def test_norms_of_every_length(n):
    rng = np.random.default_rng(n)
    x, gamma, beta = rng.normal(5, 2, (4, n)), rng.normal(size=n), rng.normal(size=n)
    xhat = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    a, g, b = (mx.np.array(v, dtype="float32") for v in (x, gamma, beta))
    np.testing.assert_allclose(npx.layer_norm(a, g, b, eps=1e-5).asnumpy(), xhat * gamma + beta, rtol=1e-3, atol=2e-5)
