"""What small arrays of tame numbers do not show: accuracy over all of float32, kernels that split their work."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
from table_checks import close, generator, reference, to_numpy

import minimx as mx
from minimx import autograd
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.usefixtures("unfused")

# --- accuracy ----------------------------------------------------------------------------------------------------

ULPS = 4.0
# Rows whose error is not bounded in units of the result's last place, and why.
LOOSE = {
    "sin": 64,
    "cos": 64,
    "tan": 64,  # near multiples of pi / 2, beyond some thousands
    "gamma": 256,
    "gammaln": 64,
    "digamma": 64,  # near the zeros and poles
    "erfinv": 16,
    "power": 16,
}
FUNCTIONS = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "cbrt": np.cbrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "arcsin": np.arcsin,
    "arccos": np.arccos,
    "arctan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "arcsinh": np.arcsinh,
    "arccosh": np.arccosh,
    "arctanh": np.arctanh,
    "erf": scipy.special.erf,
    "erfinv": scipy.special.erfinv,
    "sigmoid": scipy.special.expit,
    "gammaln": scipy.special.gammaln,
    "gamma": scipy.special.gamma,
    "digamma": scipy.special.digamma,
    "reciprocal": lambda x: 1 / x,
    "softplus": lambda x: np.logaddexp(x, 0),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0),
}


def everywhere() -> np.ndarray:
    """Floats of all magnitudes and both signs, dense around 1, with the special ones."""
    rng = generator("everywhere")
    sizes = np.concatenate(
        [np.logspace(-38, 38, 6000), rng.uniform(0, 1, 4000), rng.uniform(0, 100, 6000), rng.uniform(0, 5e4, 3000)]
    )
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1.0,
        -1.0,
        88.7,
        88.8,
        -87.4,
        -103.9,
        -104.1,
        1e-45,
        1.1754944e-38,
        0.5,
    ]
    return np.concatenate([sizes, -sizes, special]).astype("float32")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name):
    """Within a few units in the last place, from the smallest number to the largest; infinities and NaN exactly."""
    x = everywhere()
    if name in ("sin", "cos", "tan", "gamma", "gammaln", "digamma"):
        x = x[~(abs(x) > 5e4) | ~np.isfinite(x)] if name in ("sin", "cos", "tan") else x[~((x < 0) & np.isfinite(x))]
    x = x[~np.isinf(x)] if name == "gammaln" else x  # of -inf C has inf, SciPy -inf
    got = getattr(f, name)(mx.np.array(x)).asnumpy()
    with np.errstate(all="ignore"):
        exact = np.asarray(FUNCTIONS[name](x.astype("float64")))
        want = exact.astype("float32")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg="NaN")
    finite = np.isfinite(want) & np.isfinite(got)
    edge = np.isinf(got) != np.isinf(want)  # the last number before the overflow may go either way
    assert (abs(exact[edge]) > 3.3e38).all() if name not in ("gammaln", "digamma") else not edge.any()
    np.testing.assert_array_equal(got[np.isinf(want) & ~edge], want[np.isinf(want) & ~edge])
    spacing = np.spacing(np.maximum(abs(want[finite]), np.float32(1.1754944e-38))).astype("float64")
    error = abs(got[finite].astype("float64") - exact[finite]) / spacing
    worst = error.argmax()
    assert error[worst] <= LOOSE.get(name, ULPS), (
        f"{name}({x[finite][worst]!r}): {error[worst]:.1f} units in the last place"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_are_accurate(dtype):
    """A long sum keeps more digits than one that adds up from the left; means and variances of large offsets too."""
    rng = generator("sums")
    x = rng.uniform(0, 1, 1_000_003).astype(dtype)
    exact = x.astype("longdouble").sum()
    small = 1e-6 if dtype == "float32" else 1e-14
    assert abs(mx.np.array(x).sum().item() / float(exact) - 1) < small
    assert abs(mx.np.array(x).mean().item() / float(exact / x.size) - 1) < small
    shifted = (x + 1000).astype(dtype)
    np.testing.assert_allclose(mx.np.array(shifted).var().item(), shifted.astype("float64").var(), rtol=1e-4)


def test_softmax_and_its_kin_do_not_overflow():
    """Logits of any size."""
    x = np.array([[1e4, 1e4 - 1, -1e4], [3e38, 0, -3e38], [-np.inf, 0, 1]], "float32")
    with np.errstate(all="ignore"):
        want = scipy.special.softmax(x.astype("float64"), -1)
    np.testing.assert_allclose(mx.npx.softmax(mx.np.array(x)).asnumpy(), want, atol=1e-6)
    np.testing.assert_allclose(
        mx.np.logsumexp(mx.np.array(x), axis=-1).asnumpy(), scipy.special.logsumexp(x.astype("float64"), -1), rtol=1e-6
    )
    loss = mx.npx.softmax_cross_entropy(mx.np.array(x[:2]), mx.np.array(np.array([1, 0])))
    np.testing.assert_allclose(loss.asnumpy(), [1.3132617, 0], atol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_sums_are_kept_in_32(dtype):
    """Ten thousand times 0.1 is a thousand, not where 16 bits stop counting."""
    x = mx.np.full((10_000,), 0.1, dtype=dtype)
    assert abs(x.sum().item() / (10_000 * float(x[0])) - 1) < 0.01
    assert abs(x.mean().item() / float(x[0]) - 1) < 0.01
    w = mx.np.full((1, 10_000), 0.1, dtype=dtype)
    assert abs((w @ x).item() / (10_000 * float(x[0]) ** 2) - 1) < 0.01


# --- large arrays ------------------------------------------------------------------------------------------------

SHAPE = (211, 701)  # more than any threshold, a multiple of nothing


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """The number of threads of an operator."""
    before = mx.engine.num_threads()
    mx.engine.set_num_threads(request.param)
    yield request.param
    mx.engine.set_num_threads(before)


def drawn(row, i: int, shape, dtype: str) -> np.ndarray:
    """An operand from its domain."""
    low, high = row.domains()[i]
    rng = generator(row.name, str(i))
    if i == 0 and row.condition:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("name", [n for n, row in OPS.items() if row.kind == "elemwise" and "." not in n])
def test_large_elementwise(name):
    """Split over threads, contiguous, transposed and broadcast."""
    row = OPS[name]
    dtype = "float32" if "float32" in row.row.dtypes else "int32"
    n = len(row.params)
    for shapes in ([SHAPE] * n, [SHAPE, (SHAPE[1],), (SHAPE[0], 1), ()][:n]):
        xs = [drawn(row, i, s, dtype) for i, s in enumerate(shapes)]
        with np.errstate(all="ignore"):
            want = np.asarray(row.reference(*(x.astype("float64") if x.dtype.kind == "f" else x for x in xs)))
        close(to_numpy(getattr(f, name)(*map(mx.np.array, xs))), want, 3e-5, name)
        turned = [mx.np.array(x.T).T if x.ndim == 2 else mx.np.array(x) for x in xs]
        close(to_numpy(getattr(f, name)(*turned)), want, 3e-5, f"{name}, transposed")


@pytest.mark.parametrize("name", [n for n, row in OPS.items() if row.kind == "reduce"])
def test_large_reductions(name, threads):
    """All shapes of the problem: long and short rows, any axes, transposed."""
    against, rng = reference(name), generator(name)
    for shape, axis in [
        ((1_000_003,), 0),
        (SHAPE, 0),
        (SHAPE, 1),
        (SHAPE, None),
        ((3, 100_001), 1),
        ((100_001, 3), 0),
        ((100_001, 3), 1),
        ((17, 33, 65, 5), (0, 2)),
        ((17, 33, 65, 5), (1, 3)),
        ((17, 33, 65, 5), 2),
        ((2, 1, 90_000, 1), (0, 1, 3)),
    ]:
        x = rng.uniform(-1, 1, shape).astype("float32")
        if "prod" in name:  # powers of two, about as many up as down: exact whatever the order
            x = np.exp2(np.sign(x) * (abs(x) > 0.9999)).astype("float32") * np.where(x > 0.5, -1, 1).astype("float32")
        want = against(x.astype("float64"), axis=axis, keepdims=False)
        close(to_numpy(getattr(f, name)(mx.np.array(x), axis=axis)), want, 2e-5, f"{name} {shape} {axis}")
        if x.ndim == 2:
            close(
                to_numpy(getattr(f, name)(mx.np.array(x.T).T, axis=axis)),
                want,
                2e-5,
                f"{name} {shape} {axis}, transposed",
            )


def _conv(x, w, **options):
    return mx.npx.convolution(x, w, kernel=w.shape[2:], num_filter=w.shape[0], no_bias=True, **options)


LARGE = {
    "matmul": (lambda a, b: a @ b, lambda a, b: a @ b, [(150, 260), (260, 170)]),
    "matmul of a transpose": (lambda a, b: a.T @ b, lambda a, b: a.T @ b, [(260, 150), (260, 170)]),
    "batched matmul": (lambda a, b: a @ b, lambda a, b: a @ b, [(7, 40, 50), (50, 60)]),
    "matrix times vector": (lambda a, b: a @ b, lambda a, b: a @ b, [(700, 300), (300,)]),
    "softmax": (mx.npx.softmax, lambda x: scipy.special.softmax(x, -1), [(300, 500)]),
    "softmax, axis 0": (lambda x: mx.npx.softmax(x, axis=0), lambda x: scipy.special.softmax(x, 0), [(300, 500)]),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1), [(300, 400)]),
    "cumsum, flat": (lambda x: x.cumsum(), lambda x: x.cumsum(), [(100_000,)]),
    "argmax": (lambda x: x.argmax(1), lambda x: x.argmax(1), [(400, 400)]),
    "argmax, axis 0": (lambda x: x.argmax(0), lambda x: x.argmax(0), [(400, 400)]),
    "argmax, flat": (lambda x: x.argmax(), lambda x: x.argmax(), [(400, 400)]),
    "sort": (lambda x: x.sort(), lambda x: np.sort(x), [(300, 400)]),
    "argsort, axis 0": (lambda x: x.argsort(0), lambda x: x.argsort(0), [(300, 400)]),
    "concatenate": (
        lambda a, b: mx.np.concatenate([a, b.T], 1),
        lambda a, b: np.concatenate([a, b.T], 1),
        [(300, 200), (250, 300)],
    ),
    "take": (lambda x: x[::-1].take(mx.np.arange(299, -1, -1, dtype="int64"), axis=0), lambda x: x, [(300, 500)]),
    "pad": (lambda x: mx.np.pad(x, 3, mode="reflect"), lambda x: np.pad(x, 3, mode="reflect"), [(300, 400)]),
    "tile": (lambda x: mx.np.tile(x, (3, 2)), lambda x: np.tile(x, (3, 2)), [(200, 300)]),
    "where": (lambda x: mx.np.where(x > 0, x, -1.0), lambda x: np.where(x > 0, x, -1), [(300, 400)]),
    "copy of a transpose": (lambda x: x.transpose(2, 0, 1).copy(), lambda x: x.transpose(2, 0, 1), [(60, 70, 80)]),
    "cast": (
        lambda x: (x * 1000).astype("int32"),
        lambda x: (x.astype("float32") * np.float32(1000)).astype("int32"),
        [(300, 400)],
    ),
    "layer norm": (
        lambda x: f.row_norm(x, None, None)[0],
        lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5),
        [(300, 400)],
    ),
    "convolution 1x1": (
        lambda x, w: _conv(x, w),
        lambda x, w: np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]),
        [(4, 32, 20, 20), (24, 32, 1, 1)],
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_kernels(name, threads):
    """Kernels that split their work, against NumPy."""
    function, against, sizes = LARGE[name]
    xs = [generator(name, str(i)).uniform(-1, 1, s).astype("float32") for i, s in enumerate(sizes)]
    want = against(*(x.astype("float64") for x in xs))
    close(to_numpy(function(*map(mx.np.array, xs))), want, 2e-5, name)


def test_large_gradients(threads):
    """A loss over everything that splits, against float64 on one thread."""

    def loss(x, w, g, b):
        y = mx.npx.relu(mx.npx.layer_norm(x @ w, g, b))
        z = mx.npx.log_softmax(y) * y + y.take(mx.np.array(np.arange(200)[::-1].copy()), axis=0)
        return (mx.np.concatenate([z[:, ::2], z.T[:, :250].T[:200, :1]], 1) ** 2).sum()

    rng = generator("loss")
    operands = [rng.uniform(-1, 1, s) for s in ((200, 300), (300, 250), (250,), (250,))]
    found = []
    for dtype in ("float64", "float32"):
        xs = [mx.np.array(x, dtype=dtype) for x in operands]
        for x in xs:
            x.attach_grad()
        with autograd.record():
            y = loss(*xs)
        y.backward()
        found.append([x.grad.asnumpy() for x in xs])
    close(found[1], found[0], 1e-4, "gradients")


def test_results_do_not_depend_on_threads():
    """Elementwise, reduced and random results are the same to the last bit, whatever the number of threads."""
    before, rows = mx.engine.num_threads(), []
    x = mx.np.array(generator("bits").uniform(-1, 1, (400, 500)).astype("float32"))
    for n in (1, 2, 4):
        mx.engine.set_num_threads(n)
        rows.append(
            [
                y.asnumpy()
                for y in (mx.np.tanh(x), x.sum(axis=1), x.sum(axis=0), x.sum(), mx.npx.softmax(x), x.max(axis=0))
            ]
        )
    mx.engine.set_num_threads(before)
    for a, b in itertools.combinations(rows, 2):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)
