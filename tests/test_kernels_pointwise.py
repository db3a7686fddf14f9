"""The kernels of elementwise rows and reductions where they may go wrong on their own: accuracy to the last places, the
ends of the number line, integers, every layout of operands, long sums, several threads.

Values of each row are the business of test_table.py. Kernels: csrc/cpu/{elemwise,reduce,argreduce,scan}.cc.
"""

import itertools

import numpy as np
import pytest
import scipy.special

import minimx as mx

# Greatest error of the float32 functions in units in the last place: (ulps, low, high, reference)
ACCURACY = {
    "exp": (1.0, -103, 88.7, np.exp),
    "exp2": (1.0, -149, 127.9, np.exp2),
    "expm1": (1.5, -20, 88.7, np.expm1),
    "log": (1.0, 1e-45, 1e38, np.log),
    "log2": (1.5, 1e-30, 1e30, np.log2),
    "log10": (2.3, 1e-30, 1e30, np.log10),
    "log1p": (1.5, -0.999, 1e10, np.log1p),
    "tanh": (2.6, -9, 9, np.tanh),
    "sinh": (2.3, -89, 89, np.sinh),
    "cosh": (1.6, -89, 89, np.cosh),
    "sin": (1.6, -1e6, 1e6, np.sin),
    "cos": (1.6, -1e6, 1e6, np.cos),
    "tan": (3.5, -1e4, 1e4, np.tan),
    "sigmoid": (2.5, -100, 100, scipy.special.expit),
    "erf": (1.5, -4, 4, scipy.special.erf),
}


def run(name: str, *operands, **attrs) -> np.ndarray:
    function = getattr(mx.np, name, None) or getattr(mx.npx, name)
    arrays = [mx.np.array(x, dtype=x.dtype) if isinstance(x, np.ndarray) else x for x in operands]
    return function(*arrays, **attrs).asnumpy()


@pytest.mark.parametrize("name", ACCURACY)
def test_float_functions_are_accurate(name, device):
    ulps, low, high, reference = ACCURACY[name]
    if device.device_type == "gpu":
        ulps = max(ulps, 3.5)  # CUDA's own: 2 for exp, and what is made of it
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, 100_000)
    if low > 0:
        x = np.exp(rng.uniform(np.log(low), np.log(high), 100_000))
    x = np.concatenate([x, rng.uniform(max(low, -1), min(high, 1), 100_000)]).astype(np.float32)
    exact = reference(x.astype(np.float64))
    spacing = np.maximum(np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64), 2.0**-149)
    assert (np.abs(run(name, x) - exact) / spacing).max() <= ulps


@pytest.mark.parametrize("name", ACCURACY)
def test_float_functions_at_the_ends(name):
    x = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 3.4e38, -3.4e38, 1.0, -1.0])
    if name in ("sin", "cos", "tan"):
        x = x[np.abs(x) < 1e30]
    with np.errstate(all="ignore"):
        exact = ACCURACY[name][3](x.astype(np.float64)).astype(np.float32)
    got = run(name, x)
    np.testing.assert_allclose(got, exact, rtol=4e-7)
    signed = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(got[signed]), np.signbit(exact[signed]))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "floor_divide", "remainder", "fmod", "gcd", "lcm", "power"]
)
def test_integers_follow_numpy(name, dtype):
    info = np.iinfo(dtype)
    values = np.array(
        [0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1, *([-1, -2, -7] if info.min else [])]
    )
    a, b = (v.astype(dtype) for v in np.meshgrid(values, values))
    if name == "power":
        b = np.abs(b.astype(np.int64) % 9).astype(dtype)
    if name in ("gcd", "lcm"):  # whose results the type may not hold
        a, b = (np.clip(v // 2, max(info.min, -11), 11).astype(dtype) for v in (a, b))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(name, a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_shifts_beyond_the_width(dtype):
    x = np.array([1, 5, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype)
    bits = np.iinfo(dtype).bits
    for count in (0, 1, bits - 1, bits, bits + 3):
        n = np.full_like(x, count)
        np.testing.assert_array_equal(
            run("right_shift", x, n), x >> min(count, bits - 1) if x.dtype.kind == "i" or count < bits else 0 * x
        )
        np.testing.assert_array_equal(run("left_shift", x, n), x << count if count < bits else 0 * x)


def test_comparisons_with_numbers_the_type_cannot_hold():
    x = mx.np.array([0, 200], dtype="uint8")
    assert (x < 300).asnumpy().all() and (x > -1).asnumpy().all() and not (x == 456).asnumpy().any()


def layouts(x: np.ndarray):
    """The same values in different orders and steps in memory, as minimx views, and broadcast from one row."""
    a = mx.np.array(x)
    yield a, x
    if x.ndim:
        yield mx.np.array(np.ascontiguousarray(x.T)).T, x
        wide = mx.np.zeros(tuple(2 * d for d in x.shape))
        wide[tuple(slice(None, None, 2) for _ in x.shape)] = a
        yield wide[tuple(slice(None, None, 2) for _ in x.shape)], x
        back = tuple(slice(None, None, -1) for _ in x.shape)
        yield mx.np.array(np.ascontiguousarray(x[back]))[back], x
    if x.ndim > 1 and x.shape[0]:
        yield mx.np.broadcast_to(a[:1], x.shape), np.broadcast_to(x[:1], x.shape)


SHAPES = [(), (1,), (7,), (700,), (3, 5), (100, 3), (3, 700), (0, 4), (4, 3, 5), (2, 1, 300), (5, 600, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_pair_of_layouts(shape):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    for (a, left), (b, right) in itertools.product(layouts(x), layouts(y)):
        np.testing.assert_array_equal((a - b).asnumpy(), left - right)
        np.testing.assert_array_equal(
            mx.np.where(a > b, a, 0.5).asnumpy(), np.where(left > right, left, np.float32(0.5))
        )


@pytest.mark.parametrize("shape", [*SHAPES, (6, 17, 40), (9, 3, 3, 100), (3000, 8), (2000, 3)], ids=str)
def test_reductions_over_every_set_of_axes_and_layout(shape):
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)  # sums of integers are exact in any order
    sets = [c for r in range(len(shape) + 1) for c in itertools.combinations(range(len(shape)), r)]
    for (a, want), axes in itertools.product(layouts(x), sets):
        np.testing.assert_array_equal(a.sum(axis=axes).asnumpy(), want.sum(axes))
        np.testing.assert_array_equal(
            mx.np.any(a > 7, axis=axes, keepdims=True).asnumpy(), (want > 7).any(axes, keepdims=True)
        )
        if want.size:
            np.testing.assert_array_equal(a.max(axis=axes).asnumpy(), want.max(axes))
    for (a, want), axis in itertools.product(layouts(x), range(len(shape) if x.size else 0)):
        np.testing.assert_array_equal(mx.np.argmax(a, axis=axis).asnumpy(), want.argmax(axis))
        np.testing.assert_array_equal(
            mx.np.argmin(a, axis=axis, keepdims=True).asnumpy(), want.argmin(axis, keepdims=True)
        )
        np.testing.assert_array_equal(mx.np.cumsum(a, axis=axis).asnumpy(), want.cumsum(axis))


def test_nan_wins_in_extremes():
    x = np.random.default_rng(0).standard_normal((50, 70)).astype(np.float32)
    x[3, 4] = x[10, 69] = np.nan
    for name, axis in itertools.product(("max", "min", "argmax", "argmin", "nansum"), (None, 0, 1)):
        np.testing.assert_allclose(run(name, x, axis=axis), getattr(np, name)(x, axis=axis), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4_000_000,), (1_000_000, 4), (4000, 1000)])
def test_long_sums_stay_accurate(shape):
    x = np.random.default_rng(0).random(shape, np.float32)
    exact = x.sum(0, dtype=np.float64)
    assert (np.abs(run("sum", x, axis=0) - exact) / exact).max() < 6e-7


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_bits_of_a_sum_do_not_depend_on_threads(axis):
    x = mx.np.array(np.random.default_rng(0).standard_normal((3000, 700)).astype(np.float32))
    before, bits = mx.engine.num_threads(), set()
    try:
        for n in (1, 2, 3):
            mx.engine.set_num_threads(n)
            bits.add(x.sum(axis=axis).asnumpy().tobytes())
    finally:
        mx.engine.set_num_threads(before)
    assert len(bits) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_nan_to_num_and_round_follow_numpy(dtype):
    x = np.array([1.26, -2.5, 1234, 15, 25, 0] if dtype[0] == "f" else [1, -2, 1234, 15, 25, 0], dtype)
    odd = np.concatenate([x, np.array([np.nan, np.inf, -np.inf], dtype)]) if dtype[0] == "f" else x
    np.testing.assert_array_equal(run("nan_to_num", odd, nan=2.0), np.nan_to_num(odd, nan=2.0))
    for decimals in (0, 1, -1):
        got, want = run("round", x, decimals), np.round(x, decimals)
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-3 if dtype == "float16" else 1e-6)
