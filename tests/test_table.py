"""Every row of the operator table, by every type: values, both gradients, layouts, errors, eager against hybridized.

The checks are in table_checks.py, references of several lines in table_cases.py. What a row cannot be asked is listed
here with the reason; a new row that lacks samples or a reference fails until it has them.
"""

from __future__ import annotations

import numpy as np
import pytest
from table_cases import SAMPLES
from table_checks import (
    check_gradient,
    check_hybrid,
    check_points,
    check_second_gradient,
    check_twin,
    check_values,
    close,
    generator,
    leaves,
    on_device,
    reference,
    samples,
    to_numpy,
    tolerance,
    tree_map,
)

import minimx as mx
from minimx.errors import MXError, NotSupported
from minimx.ndarray import _core
from minimx.ops.dtypes import ALL, is_float
from minimx.ops.samples import Ints, Positive
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.usefixtures("unfused")

# Rows that have no reference values of their own, and where they are tested instead.
ELSEWHERE = {
    "empty": "means nothing by definition",
    "empty_like": "means nothing by definition",
    "index_get": "test_indexing.py",
    "index_set": "test_indexing.py",
    "fill_diagonal": "test_indexing.py",
    "convolution_relu": "test_graph.py",
    "batch_norm_relu": "test_graph.py",
    "batch_norm_infer_relu": "test_passes.py",
    "batch_norm_relu_grad": "test_graph.py",
    "batch_norm_sums": "rtc/test_conv_stats.py",
    "batch_norm_pair": "rtc/test_conv_stats.py",
    "batch_norm_max_pool": "rtc/test_norm_pool.py",
    "batch_norm_max_pool_grad": "rtc/test_norm_pool.py",
    "channel_sums": "rtc/test_conv_stats.py",
    "batch_norm_pair_grad": "rtc/test_batch_norm.py",
    "convolution_stats": "rtc/test_conv_stats.py",
    "fully_connected_act": "test_products.py",
    "matmul_act": "test_products.py",
    "matmul_onto": "test_products.py",
    "matmul_sums": "test_products.py",
    "reorder": "test_graph.py",
    "max_pool_grad": "is the gradient that max_pool is checked with",
    "max_pool_gather": "is its second gradient",
    "eigh": "below, by what it promises",
    "eig": "below, by what it promises",
    "svd": "below, by what it promises",
    "qr": "below, by what it promises",
    "philox": "test_random.py",
} | {
    name: "test_random.py"
    for name, row in OPS.items()
    if row.kind == "random"
    or row.row.np.startswith("random.")
    or row.row.npx in ("categorical", "normal_n", "uniform_n")
}

# Shapes that depend on values cannot be in a graph.
DYNAMIC = {"boolean_mask"} | {name for name, row in OPS.items() if getattr(row, "dynamic", False)}
# Results that come to Python at once.
TO_PYTHON = {"array_equal"}

# Outputs that take part in differentiation: the others are statistics for the backward pass.
HEADS = {"batch_norm_train": (0,), "row_norm": (0,), "cross_entropy": (0,), "max_pool": (0,)}
# Not differentiable by decision; wrappers make of the others what a difference quotient can follow.
NOT_DIFFERENTIATED = {
    "stop_gradient": "that is its purpose",
    "eigvals": "refuses",
    "interp": "refuses",
    "lstsq": "dynamic: runs outside the tape",
    "batch_norm_infer": "given statistics are constants",
    "histogram": "edges and counts",
} | dict.fromkeys(
    ("batch_norm_grad", "row_norm_backward", "cross_entropy_backward"),
    "its derivative takes the statistics as functions of x: that is the second gradient of the layer",
)
DIFFERENTIABLE_FORM = {
    "cholesky": lambda x: f.cholesky((x + f.swapaxes(x, -1, -2)) * 0.5),
    "eigvalsh": lambda x: f.eigvalsh((x + f.swapaxes(x, -1, -2)) * 0.5),
    "masked_log_softmax": lambda x, mask: f.where(mask, f.masked_log_softmax(x, mask), 0.0),
}


def names(*, kinds: tuple[str, ...] = (), without: object = ()) -> list[str]:
    """Rows of the kinds (all) but for ``without``."""
    return [n for n, row in OPS.items() if (not kinds or row.kind in kinds) and n not in without]  # type: ignore[operator]


def types(name: str) -> tuple[str, ...]:
    """The types a row is tested with: its own list, or the reals; for what only moves elements all."""
    row = OPS[name]
    return tuple(row.row.dtypes) or (ALL if row.kind == "view" else ("float32", "float64"))


def form(name: str):
    """The row as a function, in the form that is differentiated."""
    return DIFFERENTIABLE_FORM.get(name, getattr(f, name))


# --- rows are complete -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_row_is_complete(name):
    """A row says what it is, how to call it and what it is compared with."""
    row = OPS[name]
    assert row.doc and row.doc[-1] in ".!?", "doc: expected a sentence"
    if name not in ELSEWHERE:
        assert row.row.samples or name in SAMPLES, "samples: expected some, here or in table_cases.py"
    derived = ".grad" in name or ".without_" in name  # compared with their lambda, and by the gradients of their parent
    assert name in ELSEWHERE or derived or reference(name) or isinstance(row.row.against, list), (
        "against: expected a reference"
    )


def test_exceptions_are_rows():
    """No name stays in a list here after its row is gone."""
    for listed in (ELSEWHERE, DYNAMIC, HEADS, NOT_DIFFERENTIATED, DIFFERENTIABLE_FORM, SAMPLES):
        assert set(listed) <= set(OPS), set(listed) - set(OPS)


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names(without=ELSEWHERE))
def test_values(name):
    """Against the independent reference, in every type."""
    for dtype in types(name):
        check_values(name, dtype)
    if isinstance(OPS[name].row.against, list):
        check_points(name)


@pytest.mark.parametrize("name", names(kinds=("elemwise",)))
def test_twin(name):
    """Elementwise kernels against their own lambda run by NumPy, in every type."""
    for dtype in types(name):
        check_twin(name, dtype)


@pytest.mark.parametrize("name", names(kinds=("reduce",)))
def test_reduction_twin(name):
    """Reductions against their own rule, one step at a time."""
    for operands, attrs in samples(name, "float64"):
        got = getattr(f, name)(*on_device(operands, "float64"), **attrs)
        close(to_numpy(got), OPS[name].reference(*operands, **attrs), 1e-12, name)


@pytest.mark.parametrize("name", names(kinds=("elemwise",)))
@pytest.mark.parametrize("make", [np.nan, np.inf, -np.inf, -0.0])
def test_special_numbers(name, make):
    """NaN, the infinities and negative zero go through a kernel as through NumPy's twin."""
    row = OPS[name]
    if "float64" not in types(name):
        pytest.skip("has no floats")
    low = [max(a, 0.1) for a, _ in row.domains()]
    for i in range(len(row.params)):
        xs = [np.array([v, v]) for v in low]
        xs[i][1] = make
        with np.errstate(all="ignore"):
            want = np.asarray(row.reference(*xs))
        if name == "gammaln" and make == -np.inf:
            want[1] = np.inf  # C's lgamma; SciPy has -inf
        got = to_numpy(getattr(f, name)(*on_device(xs, "float64")))
        np.testing.assert_allclose(got, want, rtol=1e-12, err_msg=f"{name} {xs}")


def test_factorisations():
    """eigh, eig, svd and qr: the product of the factors is the matrix, orthonormal factors are orthonormal."""
    x = generator("factor").uniform(-1, 1, (3, 4, 4))
    s = x + x.swapaxes(1, 2)
    w, v = to_numpy(f.eigh(mx.np.array(s)))
    np.testing.assert_allclose(v * w[:, None, :] @ v.swapaxes(1, 2), s, atol=1e-12)
    w, v = to_numpy(f.eig(mx.np.array(s)))
    np.testing.assert_allclose(s @ v, v * w[:, None, :], atol=1e-12)
    u, d, vh = to_numpy(f.svd(mx.np.array(x[:, :, :3])))
    np.testing.assert_allclose(u * d[:, None, :] @ vh, x[:, :, :3], atol=1e-12)
    q, r = to_numpy(f.qr(mx.np.array(x)))
    np.testing.assert_allclose(q @ r, x, atol=1e-12)
    np.testing.assert_allclose(q.swapaxes(1, 2) @ q, np.broadcast_to(np.eye(4), x.shape), atol=1e-12)


# --- errors ------------------------------------------------------------------------------------------------------


def _filled(operand):
    """An error input: shapes stand for arrays."""
    if isinstance(operand, list):
        return [_filled(x) for x in operand]
    if isinstance(operand, Ints):
        return mx.np.zeros(operand.shape, dtype="int64")
    if isinstance(operand, Positive):
        return mx.np.ones(operand.shape)
    return mx.np.zeros(operand) if isinstance(operand, tuple) else operand


@pytest.mark.parametrize("name", [n for n in OPS if OPS[n].row.errors])
def test_errors(name):
    """Wrong calls raise the class that the row says, at the call, in the form of all messages."""
    for call, kind in OPS[name].row.errors:
        operands, attrs = call if len(call) == 2 and isinstance(call[1], dict) else (call, {})
        integers = OPS[name].row.dtypes and "float32" not in OPS[name].row.dtypes
        arrays = [_filled(x) for x in operands]
        arrays = tree_map(lambda a: a.astype("int64"), arrays) if integers else arrays
        with pytest.raises(kind) as caught:
            getattr(f, name)(*arrays, **attrs)
        assert isinstance(caught.value, MXError) and "expected" in str(caught.value) and ", got " in str(caught.value)


# --- layouts and extreme shapes ----------------------------------------------------------------------------------

LAYOUTS = {
    "transposed": lambda x: mx.np.array(x.T).T,
    "reversed": lambda x: mx.np.array(np.flip(x))[(slice(None, None, -1),) * x.ndim],
    "stepped": lambda x: mx.np.array(np.repeat(x, 2, -1))[..., ::2] if x.ndim else mx.np.array(x),
    "offset": lambda x: mx.np.array(np.concatenate([x, x]))[x.shape[0] :] if x.ndim else mx.np.array(x),
}


@pytest.mark.parametrize("name", names(without=ELSEWHERE))
def test_layouts(name):
    """Strides of any kind give what contiguous operands give."""
    dtype = next((t for t in ("float64", "float32") if t in types(name)), types(name)[0])
    for operands, attrs in samples(name, dtype):
        made = getattr(f, name)(*on_device(operands, dtype), **attrs)
        for kind, layout in LAYOUTS.items():
            again = getattr(f, name)(*tree_map(layout, operands), **attrs)
            close(to_numpy(again), to_numpy(made), tolerance(dtype, made), f"{name}, {kind}")


@pytest.mark.parametrize("name", names(kinds=("elemwise",)))
def test_small_shapes(name):
    """Nothing, one element without axes, and broadcasting of both."""
    row, dtype = OPS[name], types(name)[-1]
    n = len(row.params)
    for wanted, first, rest in (
        ((0, 3), (0, 3), (1, 3)),
        ((), (), ()),
        ((2, 0), (1, 0), (2, 1)),
        ((3,), (), (3,)),
        ((1, 1, 1), (1, 1, 1), ()),
    ):
        if n == 1 and first != wanted:
            continue
        xs = [np.ones(first if i == 0 else rest, "bool" if i == 0 and row.condition else dtype) for i in range(n)]
        with np.errstate(all="ignore"):
            want = np.asarray(row.reference(*xs))
        y = getattr(f, name)(*on_device(xs, dtype))
        assert y.shape == wanted
        close(y.asnumpy(), np.broadcast_to(want, wanted), tolerance(dtype, y), f"{name} {wanted}")


@pytest.mark.parametrize("name", names(kinds=("reduce",)))
def test_reductions_of_nothing(name):
    """NumPy's identities where there is nothing to reduce, an error where there is none."""
    row, against = OPS[name], reference(name)
    for axis in (0, 1, None, (0, 1), (), -1):
        for shape in ((0, 3), (3, 0)):
            x = np.zeros(shape, "float32")
            taken = [shape[i] for i in ((0, 1) if axis is None else axis if isinstance(axis, tuple) else (axis,))]
            if row.needs_elements and 0 in taken and np.zeros(shape).sum(axis).size:
                with pytest.raises(mx.errors.ShapeError):
                    getattr(f, name)(mx.np.array(x), axis=axis)
                continue
            with (
                np.errstate(all="ignore"),
                pytest.warns() if name == "mean" and np.zeros(shape).sum(axis).size and 0 in taken else _nothing(),
            ):
                want = against(x, axis=axis, keepdims=False)
            np.testing.assert_array_equal(to_numpy(getattr(f, name)(mx.np.array(x), axis=axis)), want)


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


# --- gradients ---------------------------------------------------------------------------------------------------


def _precise(name: str) -> str | None:
    """The type that differences are taken in; None for rows without real numbers."""
    return next((t for t in ("float64", "float32") if t in types(name)), None)


GRADIENTS = names(without=ELSEWHERE.keys() | NOT_DIFFERENTIATED.keys() | TO_PYTHON)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(name):
    """First derivatives for every real operand, by differences; zero where the row says so."""
    if dtype := _precise(name):
        for operands, attrs in samples(name, dtype):
            check_gradient(form(name), operands, attrs, name, HEADS.get(name))


@pytest.mark.parametrize("name", GRADIENTS)
def test_second_gradient(name):
    """Second derivatives, by differences of the first."""
    if dtype := _precise(name):
        for operands, attrs in samples(name, dtype):
            check_second_gradient(form(name), operands, attrs, name, HEADS.get(name))


def test_eigenvectors_and_singular_vectors():
    """Gradients through the vectors, in a form that does not depend on their signs."""
    x = generator("vectors").uniform(-1, 1, (4, 4)) + np.diag([0.0, 2.0, 4.0, 6.0])
    check_gradient(lambda x: f.square(f.eigh((x + x.T) * 0.5)[1]), [x], {}, "eigh")
    for part in (x[:, :3], x[:3]):
        check_gradient(lambda x: [f.square(y) for y in f.svd(x)], [part], {}, "svd")


@pytest.mark.parametrize("name", [n for n, why in NOT_DIFFERENTIATED.items() if why == "refuses"])
def test_refuses_to_differentiate(name):
    """A row without a gradient says so instead of giving zeros."""
    operands, attrs = samples(name, "float64")[0]
    arrays = on_device(operands, "float64")
    arrays[0].attach_grad()
    with mx.autograd.record(), pytest.raises(NotSupported, match="without"):
        getattr(f, name)(*arrays, **attrs)


@pytest.mark.parametrize("name", names(kinds=("elemwise", "reduce")))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_gradients_keep_types(name, dtype):
    """Gradients have the shape and type of their operands, also where those were broadcast or cast."""
    if dtype not in types(name):
        pytest.skip("has no such type")
    for operands, attrs in samples(name, dtype):
        arrays = on_device(operands, dtype)
        variables = [x for x in arrays if is_float(str(x.dtype))]
        for x in variables:
            x.attach_grad()
        with mx.autograd.record():
            y = getattr(f, name)(*arrays, **attrs)
        if not _core.on_tape(y):
            continue
        for x, g in zip(variables, mx.autograd.grad(y, variables), strict=True):
            assert (g.shape, g.dtype) == (x.shape, x.dtype)


# --- eager and hybridized ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    names(
        without=ELSEWHERE.keys()
        | DYNAMIC
        | TO_PYTHON
        | NOT_DIFFERENTIATED.keys() - {"stop_gradient", "batch_norm_infer"}
    ),
)
def test_hybridized(name):
    """A graph of the one call gives the same values and gradients."""
    chosen = (
        types(name)
        if OPS[name].kind in ("reduce", "view")
        else [t for t in types(name) if t in ("float32", "bfloat16", "int32")] or types(name)[:1]
    )
    for dtype in chosen:
        for operands, attrs in samples(name, dtype):
            check_hybrid(form(name), operands, attrs, dtype, name)


def test_no_gradient_is_lost_on_the_way():
    """Rows with a real output and a real operand have a gradient, unless they are listed as piecewise constant."""
    constant = set()
    for name in GRADIENTS:
        if (dtype := _precise(name)) is None or not (OPS[name].row.samples or name in SAMPLES):
            continue
        operands, attrs = samples(name, dtype)[0]
        arrays = on_device(operands, dtype)
        variables = [x for x in leaves(arrays) if isinstance(x, mx.np.ndarray) and is_float(str(x.dtype))]
        for x in variables:
            x.attach_grad()
        with mx.autograd.record():
            made = leaves(getattr(f, name)(*arrays, **attrs))
        real = [y for y in made if isinstance(y, mx.np.ndarray) and is_float(str(y.dtype))]
        if variables and real and not any(_core.on_tape(y) for y in real):
            constant.add(name)
    assert constant == PIECEWISE_CONSTANT


# Steps, and arrays that do not depend on their operand's values.
PIECEWISE_CONSTANT = {
    "arange_like",
    "ceil",
    "floor",
    "floor_divide",
    "full_like",
    "heaviside",
    "nd_argsort",
    "ones_like",
    "rint",
    "round",
    "sign",
    "topk",
    "trunc",
    "zeros_like",
}
