"""Indexing against NumPy: basic and advanced keys, masks, reads, writes, gradients, under trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from table_checks import check_gradient, check_hybrid, check_second_gradient

import minimx as mx
from minimx import autograd
from minimx.errors import IndexOutOfBounds, MXError, ShapeError

QUICK = settings(max_examples=120, deadline=None)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def both(shape, dtype="float32"):
    """Equal arrays of distinct elements."""
    a = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    return a, mx.np.array(a)


@st.composite
def basic_keys(draw):
    """A shape and a key of integers, slices, None and Ellipsis."""
    shape = draw(SHAPES)
    return shape, draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))


@st.composite
def advanced_keys(draw):
    """A shape and a key that mixes index arrays, lists, a mask, integers, slices and new axes."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    together = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=3))
    key, arrays, axis = [], 0, 0
    while axis < len(shape):
        n = shape[axis]
        kind = draw(st.sampled_from(["array", "array", "row", "list", "int", "slice", "none", "mask"]))
        if kind == "none":
            key.append(None)
            continue
        if kind == "mask" and not arrays and len(together) == 1:
            mask = np.zeros(n, bool)  # as many places as the index arrays are long, or one
            mask[draw(st.integers(0, n - 1))] = True
            key.append(mask)
        elif kind in ("array", "row"):
            size = together if kind == "array" else together[-1:]
            key.append(draw(hnp.arrays("int64", size, elements=st.integers(-n, n - 1))))
            arrays += 1
        elif kind == "list":
            key.append(draw(st.lists(st.integers(-n, n - 1), min_size=together[-1], max_size=together[-1])))
        elif kind == "int":
            key.append(draw(st.integers(-n, n - 1)))
        else:
            key.append(draw(st.slices(n)))
        axis += 1
    return shape, tuple(key)


def ours(key):
    """The key with minimx arrays in place of NumPy's."""
    if isinstance(key, tuple):
        return tuple(ours(k) for k in key)
    return mx.np.array(key) if isinstance(key, np.ndarray) else key


@QUICK
@given(basic_keys())
def test_basic_reads(case):
    """Values, shape, and that it is a view."""
    shape, key = case
    a, x = both(shape)
    want = a[key]
    got = x[key]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.asnumpy(), want)
    if want.size:
        got[...] = -1
        assert (x.asnumpy() == -1).sum() == want.size


@QUICK
@given(basic_keys(), st.booleans())
def test_basic_writes(case, scalar):
    """x[key] = a number, or an array that broadcasts."""
    shape, key = case
    a, x = both(shape)
    taken = a[key].shape
    value = np.float32(-5) if scalar else np.arange(int(np.prod(taken[-1:])), dtype="float32").reshape(taken[-1:]) * -1
    a[key] = value
    x[key] = float(value) if scalar else mx.np.array(value)
    np.testing.assert_array_equal(x.asnumpy(), a)


@QUICK
@given(advanced_keys())
def test_advanced_reads(case):
    """Values, and result axes where NumPy puts them."""
    shape, key = case
    a, x = both(shape)
    want = a[key]
    for k in (key, ours(key)):
        got = x[k]
        assert got.shape == want.shape
        np.testing.assert_array_equal(got.asnumpy(), want)


@QUICK
@given(advanced_keys(), st.booleans())
def test_advanced_writes(case, scalar):
    """x[key] = v at places that do not repeat."""
    shape, key = case
    a, x = both(shape)
    a[key] = 7  # repeated places get one value, so that the order does not matter
    x[ours(key)] = 7 if scalar else mx.np.full(a[key].shape, 7)
    np.testing.assert_array_equal(x.asnumpy(), a)


@QUICK
@given(SHAPES, st.randoms(use_true_random=False), st.booleans())
def test_masks(shape, random, leading):
    """Masks of the whole shape or of leading axes: reads, writes of a number and of as many values."""
    a, x = both(shape)
    part = shape[: random.randint(1, len(shape))] if leading else shape
    mask = np.array([random.random() < 0.5 for _ in range(int(np.prod(part)))], bool).reshape(part)
    np.testing.assert_array_equal(x[mx.np.array(mask)].asnumpy(), a[mask])
    np.testing.assert_array_equal(x[mask].asnumpy(), a[mask])
    values = -np.arange(a[mask].size, dtype="float32").reshape(a[mask].shape) - 1
    a[mask], x[mx.np.array(mask)] = values, mx.np.array(values)
    np.testing.assert_array_equal(x.asnumpy(), a)
    a[mask] = 3
    x[mx.np.array(mask)] = 3
    np.testing.assert_array_equal(x.asnumpy(), a)
    a[a > 2] = 1
    x[x > 2] = 1
    np.testing.assert_array_equal(x.asnumpy(), a)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "bfloat16", "float64"])
def test_all_types(dtype):
    """Indices of any integer type, elements of any type."""
    x = mx.np.array(np.arange(12).reshape(3, 4), dtype=dtype)
    a = x.asnumpy()
    for kind in ("int8", "int32", "int64", "uint8"):
        i = np.array([2, 0], kind)
        np.testing.assert_array_equal(x[mx.np.array(i)].asnumpy(), a[i])
    b = a.copy()
    b[[0, 2], 1] = 1
    x[[0, 2], 1] = 1
    np.testing.assert_array_equal(x.asnumpy(), b)


def test_zero_dimensions():
    """x[()] and x[...] of arrays without axes."""
    x = mx.np.array(3.0)
    assert x[()].item() == x[...].item() == 3 and x[None].shape == (1,)
    x[()] = 4
    assert x.item() == 4
    x[...] = 5
    assert x.item() == 5


def test_a_key_of_zero_dim_arrays():
    """An array of one integer is an integer."""
    a, x = both((3, 4))
    i = mx.np.array(np.array(1))
    np.testing.assert_array_equal(x[i].asnumpy(), a[1])
    np.testing.assert_array_equal(x[i, 1:].asnumpy(), a[1, 1:])
    np.testing.assert_array_equal(x[np.int64(2)].asnumpy(), a[2])


@pytest.mark.parametrize("key", [3, -4, (0, 4), (0, 0, 0), (Ellipsis, Ellipsis),
    *(pytest.param(key, marks=pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are"))
      for key in [([0, 3],), (slice(None), [4])])])  # fmt: skip
def test_out_of_bounds(key):
    """An index outside is an IndexError: at the call for integers, at the latest when the result is read."""
    _, x = both((3, 4))
    with pytest.raises(IndexError) as caught:
        x[key].asnumpy()
    assert isinstance(caught.value, IndexOutOfBounds) and "expected" in str(caught.value)


def test_wrong_keys_and_values():
    """Floats are no indices; values must fit; masks must have the shape."""
    _, x = both((3, 4))
    for key in (1.5, "a", [1.0, 0.0], np.array([1.0, 0.0])):
        with pytest.raises(TypeError, match="expected integers"):
            x[key]
    assert x[mx.np.array([1, 0])].shape == (2, 4), "np.array of a list is float32, and can be an index all the same"
    with pytest.raises(ShapeError):
        x[0] = mx.np.ones(3)
    with pytest.raises((ShapeError, IndexError)):
        x[mx.np.array(np.array([True, False]))]
    with pytest.raises((ShapeError, IndexError)):
        x[[0, 1], [0, 1, 2]]
    with pytest.raises(TypeError):
        del x[0]


@pytest.mark.parametrize(
    "key",
    [
        0,
        (slice(None), 1),
        (slice(None, None, -2), None, slice(1, 3)),
        ([0, 2, 0],),
        (slice(None), [[1, 2], [3, 3]]),
        ([0, 1], slice(None, 2)),
        (np.array([2, 0]), np.array([1, 1])),
        np.array([True, False, True]),
        (Ellipsis, -1),
        (0, [1, 2]),
        ([1], None, 0),
    ],
)
def test_gradients(key):
    """Reads and writes under record, first and second order."""
    x = np.random.default_rng(0).uniform(1, 2, (3, 4))
    check_gradient(lambda x: (x * x)[key], [x], {}, str(key))
    check_second_gradient(lambda x: (x * x)[key], [x], {}, str(key))

    def run(x, v):
        y = x * 1.0
        y[key] = v * v
        return y * y

    taken = x[key].shape
    if len(np.unique(np.arange(12).reshape(3, 4)[key])) == int(np.prod(taken)):  # no place twice
        v = np.random.default_rng(1).uniform(1, 2, taken)
        check_gradient(run, [x, v], {}, f"write {key}")
        check_second_gradient(run, [x, v], {}, f"write {key}")
        if not (isinstance(key, np.ndarray) and key.dtype == bool):
            check_hybrid(run, [x, v], {}, "float64", f"write {key}")


def test_write_to_a_variable_under_record_is_refused_or_recorded():
    """Either the gradient is right or there is an error: never a wrong gradient in silence."""
    x = mx.np.ones(3)
    x.attach_grad()
    with autograd.record():
        try:
            x[0] = 5.0
        except MXError:
            return
        y = (x * x).sum()
    y.backward()
    assert x.grad.asnumpy().tolist() in ([10, 2, 2], [0, 2, 2])


def test_fill_diagonal():
    """In place, of matrices."""
    a, x = both((3, 4))
    np.fill_diagonal(a, -1)
    mx.np.fill_diagonal(x, -1)
    np.testing.assert_array_equal(x.asnumpy(), a)


def test_iteration_and_unpacking():
    """Rows are views."""
    a, x = both((2, 3))
    first, second = x
    first[:] = 9
    assert x[0].asnumpy().tolist() == [9, 9, 9] and second.shape == (3,)
    assert [row.shape for row in x] == [(3,), (3,)]
    with pytest.raises(TypeError):
        list(mx.np.array(1.0))
