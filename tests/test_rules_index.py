"""Advanced indexing, read and written, against NumPy: every kind of key, values that broadcast, gradients, and
errors."""

import numpy as np
import pytest

import minimx as mx
from minimx import autograd
from minimx.ops.table import f

AT = np.array([0, -1, 2])
J = np.array([[1], [3]])
ROWS = np.array([True, False, True, True])
DATA = np.random.default_rng(0).standard_normal((4, 5, 6)).astype("float32")
ALL = slice(None)

KEYS = {
    "array": AT,
    "list": [0, 2],
    "list of lists": [[0, 1], [2, 3]],
    "second axis": (ALL, AT),
    "between slices": (slice(1, 3), AT, slice(None, None, 2)),
    "two arrays": (AT, AT),
    "two arrays apart": (AT, ALL, AT),
    "two arrays at the end": (ALL, AT, AT),
    "broadcast arrays": (J, AT),
    "broadcast arrays apart": (J, slice(1, 3), AT),
    "integer and array": (0, AT),
    "integer and array apart": (0, ALL, AT),
    "array and integer": (AT, 0),
    "integer in the middle": (ALL, -1, AT),
    "all axes": (0, 1, AT),
    "ellipsis": (..., AT),
    "new axis before": (None, AT),
    "new axis after": (AT, None),
    "new axis between": (AT, None, AT),
    "slice and new axis between": (AT, ALL, None, AT),
    "backwards": (slice(None, None, -1), AT),
    "mask of rows": ROWS,
    "mask as a list": [True, False, True, False],
    "mask and integer": (ROWS, 0),
    "mask and array": (ROWS, ALL, AT),
    "mask of everything": DATA > 0,
    "no index": np.array([], dtype=int),
}


def as_mx(key):
    if isinstance(key, tuple):
        return tuple(map(as_mx, key))
    return mx.np.array(key, dtype=key.dtype) if isinstance(key, np.ndarray) else key


@pytest.fixture(params=list(KEYS), ids=str)
def key(request):
    return KEYS[request.param]


def test_read(key):
    for k in (key, as_mx(key)):
        np.testing.assert_array_equal(mx.np.array(DATA)[k].asnumpy(), DATA[key])


def test_write(key):
    shape = DATA[key].shape
    for value in (7.0, np.arange(np.prod(shape), dtype="float32").reshape(shape), np.ones(shape[-1:], "float32")):
        if isinstance(key, np.ndarray) and key.ndim > 1 and np.ndim(value) and not np.shape(value) == shape:
            continue
        expected, x = DATA.copy(), mx.np.array(DATA)
        expected[key] = value
        x[as_mx(key)] = value if isinstance(value, float) else mx.np.array(value)
        np.testing.assert_array_equal(x.asnumpy(), expected)


def test_gradient_adds_up_repeated_places(key):
    x = mx.np.array(DATA)
    x.attach_grad()
    with autograd.record():
        y = x[as_mx(key)]
        loss = f.sum(y * y)
    loss.backward()
    expected = np.zeros_like(DATA)
    np.add.at(expected, key, 2 * DATA[key])
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["clip", "wrap"])
def test_modes_of_take(mode):
    i = np.array([-7, -1, 0, 3, 9])
    y = mx.np.take(mx.np.array(DATA), mx.np.array(i), axis=1, mode=mode)
    np.testing.assert_array_equal(y.asnumpy(), np.take(DATA, i, 1, mode=mode))


@pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are")
def test_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError, match=r"index: expected a number in \[-4, 4\), got 4"):
        mx.np.array(DATA)[mx.np.array([0, 4])].wait_to_read()


def test_too_many_indices():
    with pytest.raises(IndexError, match="at most 3 indices"):
        mx.np.array(DATA)[AT, AT, AT, AT]


def test_scatter_and_gather_nd():
    x, i = mx.np.array(DATA), np.array([[0, 1, 0], [2, 4, 2]])
    np.testing.assert_array_equal(mx.npx.gather_nd(x, mx.np.array(i)).asnumpy(), DATA[i[0], i[1]])
    expected = DATA.copy()
    np.add.at(expected, (i[0], i[1]), 1.0)
    np.testing.assert_allclose(mx.npx.index_add(x, mx.np.array(i), 1.0).asnumpy(), expected, rtol=1e-6)
    expected = np.zeros((4, 5), "float32")
    expected[i[0], i[1]] = [5, 6, 7]  # of two values for one place the last stays
    y = mx.npx.scatter_nd(mx.np.array([5.0, 6.0, 7.0]), mx.np.array(i), (4, 5))
    np.testing.assert_array_equal(y.asnumpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_scattered_additions_do_not_depend_on_order_of_threads(dtype):
    rng = np.random.default_rng(1)
    i = rng.integers(0, 50, 4000)
    v = mx.np.array(rng.standard_normal((4000, 8)) * 10).astype(dtype)
    run = lambda: f.put(v, mx.np.array(i), None, (50, 8)).astype("float64").asnumpy()  # noqa: E731
    first = run()
    expected = np.zeros((50, 8))
    np.add.at(expected, i, v.astype("float64").asnumpy())
    np.testing.assert_array_equal(first, run())
    np.testing.assert_allclose(first, expected, rtol={"float16": 2e-3, "bfloat16": 1e-2}.get(dtype, 1e-4), atol=2e-2)
