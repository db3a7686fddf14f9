"""The array against NumPy: types, operators, views, in-place, methods, protocols, printing. See test_indexing.py."""

from __future__ import annotations

import copy
import operator
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minimx as mx
from minimx.errors import ArgumentTypeError, DTypeError, MXError, ShapeError
from minimx.ops.dtypes import ALL, BY_NAME, FLOATS, INTEGERS, is_float, promote

NUMPY = {name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in ALL}
QUICK = settings(max_examples=60, deadline=None)


def same(got: mx.np.ndarray, want: np.ndarray) -> None:
    """Equal values and shapes."""
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.asnumpy(), want)


def host(x) -> np.ndarray:
    """Values for comparison, bfloat16 as float32."""
    a = x.asnumpy()
    return a.astype("float32") if a.dtype == NUMPY["bfloat16"] else a


# --- making arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_types_come_through(name):
    """Every type: from NumPy, back, by astype, empty and without axes."""
    for values in ([[0, 1, 2], [3, 4, 5]], 1, np.zeros((0, 3))):
        want = np.array(values).astype(NUMPY[name])
        x = mx.np.array(want)
        assert x.dtype == want.dtype and x.shape == want.shape and x.itemsize == BY_NAME[name].size
        same(x, want)
        same(mx.np.array(values, dtype=name), want)
        assert x.nbytes == want.nbytes and x.size == want.size and x.ndim == want.ndim


NUMBERS = [
    [1.5, 2.0], [1, 2, 3], [[1, 2], [3, 4]], ((1.0,), [2.0]), 3, 2.5, (1,), [1, 2.5], [True, False], True, [True, 2],
    [], [[]], [[[1], [2]], [[3], [4]]], [float("nan"), float("inf"), -0.0], [1e300], [2**40 + 1, 7], [2**62 + 1],
    [2**63], [300, -1], [np.float32(1), 2.0], range(4), [np.arange(2), [3, 4]], np.float16([1, 2]),
    np.arange(6.0).reshape(2, 3).T, np.arange(4)[::2], np.array(["1", "2"]) == "1", np.arange(4, dtype=">i4"),
    np.array(7), np.zeros((0, 3), "int8"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
@pytest.mark.parametrize("dtype", [None, "float32", "float64", "float16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_arrays_of_numbers(value, dtype):
    """What is copied at once is what NumPy makes of it; Python's numbers become float32 where no type is asked for."""
    plain = np.asarray(value)
    want = plain.astype(dtype or ("float32" if not hasattr(value, "dtype") else plain.dtype.newbyteorder("=")))
    got = mx.np.array(value, dtype=dtype)
    assert got.dtype == want.dtype
    same(got, want)


@pytest.mark.parametrize("value", [[[1, 2], [3]], [[1.0], 2.0], [1.0, "2"], [1j], None, [None], "12"], ids=repr)
def test_what_is_no_array(value):
    with pytest.raises((ShapeError, DTypeError)):
        mx.np.array(value)


def test_arrays_are_copies():
    """Of lists, of NumPy's arrays, and the other way; as large as may be."""
    for n in (3, 1 << 19):
        source = np.arange(n, dtype="float32")
        x = mx.np.array(source)
        source[:] = 7
        given = x.asnumpy()
        given[1] = 9
        assert x[1].item() == 1 and x[2].item() == 2 and given.flags.writeable
    assert mx.np.arange(6).reshape(2, 3).T.asnumpy().tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("name", ALL)
def test_astype(name, to):
    """Conversion is NumPy's, where NumPy's is defined."""
    values = np.array([0, 1, 3, 100, 2.5, 0.25] if is_float(name) else [0, 1, 3, 100], "float64").astype(NUMPY[name])
    y = mx.np.array(values).astype(to)
    assert y.dtype == NUMPY[to]
    same(y, values.astype(NUMPY[to]))


def test_defaults():
    """Python's numbers become float32, arrays keep their type, as in Gluon."""
    assert mx.np.array([1, 2]).dtype == np.float32
    assert mx.np.array(True).dtype == np.float32
    assert mx.np.array(np.arange(3)).dtype == np.int64
    assert mx.np.zeros(3).dtype == mx.np.arange(3).dtype == np.float32
    assert mx.np.array(np.zeros(2, "uint16")).dtype == np.int32
    assert mx.np.array([mx.np.ones(2), mx.np.zeros(2)]).shape == (2, 2)


def test_refuses():
    """Ragged lists, strings, complex numbers and unknown types are errors at the call."""
    for bad, kind in ((([[1, 2], [3]]), ShapeError), ("text", DTypeError), (1j, DTypeError), ([object()], DTypeError)):
        with pytest.raises(kind):
            mx.np.array(bad)
    with pytest.raises(DTypeError):
        mx.np.zeros(3, dtype="complex64")
    with pytest.raises(ShapeError):
        mx.np.zeros((2, -1))
    with pytest.raises(ArgumentTypeError):
        mx.np.add(object(), mx.np.ones(1))
    with pytest.raises(ArgumentTypeError, match=r"relu: expected arguments among \(x, out\), got 'axis'"):
        mx.npx.relu(mx.np.ones(1), axis=0)
    with pytest.raises(ShapeError, match="einsum: expected one size for each label, got 3 and 4 for 'j'"):
        mx.np.einsum("ij,jk->ik", mx.np.ones((2, 3)), mx.np.ones((4, 5)))
    with pytest.raises(TypeError):
        mx.np.ones(1) + object()
    with pytest.raises(MXError):
        mx.np.ones(3, device=mx.gpu(7))


# --- promotion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", ALL)
@pytest.mark.parametrize("b", ALL)
def test_promotion(a, b):
    """Two arrays: NumPy's rule within a kind; a float beats an integer without being widened."""
    want = promote(a, b)
    assert want == promote(b, a)
    x, y = mx.np.ones((2, 1), dtype=a), mx.np.ones(3, dtype=b)
    assert (x + y).dtype == (x * y).dtype == mx.np.maximum(x, y).dtype == NUMPY[want]
    if is_float(a) == is_float(b) and "bfloat16" not in (a, b):
        assert NUMPY[want] == np.promote_types(a, b)
    elif is_float(a) != is_float(b):
        assert want == (a if is_float(a) else b)
    assert (x < y).dtype == np.bool_
    assert (x / y).dtype == NUMPY[want if is_float(want) else "float32"]


@pytest.mark.parametrize("name", ALL)
def test_scalars_are_weak(name):
    """A Python number takes the array's type where its kind allows."""
    x = mx.np.ones(2, dtype=name)
    floating = name if is_float(name) else "float32"
    assert (x + 1.5).dtype == (1.5 * x).dtype == (x / 2).dtype == NUMPY[floating]
    assert (x + 1).dtype == (2 * x).dtype == NUMPY["int64" if name == "bool" else name]
    assert (x + True).dtype == NUMPY[name]
    assert (x < 300).asnumpy().all()


def test_mixing_with_numpy():
    """A NumPy operand on either side gives a minimx array."""
    a, x = np.arange(3.0), mx.np.ones(3)
    for y in (a + x, x + a, np.add(a, x), np.multiply(x, a), np.float32(2) * x, x * np.float64(2)):
        assert isinstance(y, mx.np.ndarray)
    same(a + x, a + 1)
    assert isinstance(np.concatenate([x, x]), mx.np.ndarray)
    assert isinstance(np.mean(x), mx.np.ndarray)


# --- operators ---------------------------------------------------------------------------------------------------

ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod]
COMPARISONS = [operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]
BITS = [operator.and_, operator.or_, operator.xor]


def numbers(dtype: str) -> st.SearchStrategy:
    """Elements that no operator overflows on."""
    if dtype == "bool":
        return st.booleans()
    if is_float(dtype):
        return st.integers(-8, 8).map(float)
    return st.integers(0 if dtype == "uint8" else -8, 8)


@st.composite
def pairs(draw, dtypes):
    """Two arrays of one type whose shapes broadcast."""
    dtype = draw(st.sampled_from(dtypes))
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4, min_side=0)).input_shapes
    return [draw(hnp.arrays(dtype, s, elements=numbers(dtype))) for s in shapes]


@QUICK
@given(pairs(("float64", "float32", "int32", "int64", "int8")), st.sampled_from(ARITHMETIC + COMPARISONS))
def test_binary_operators(xs, op):
    """Array with array, with broadcasting and arrays of nothing."""
    a, b = xs
    if op in (operator.floordiv, operator.mod):
        b = np.where(b == 0, 1, b).astype(b.dtype)
    same(op(mx.np.array(a), mx.np.array(b)), op(a, b))


@QUICK
@given(pairs(("int32", "uint8", "bool")), st.sampled_from(BITS))
def test_bit_operators(xs, op):
    """Integers and bools."""
    a, b = xs
    same(op(mx.np.array(a), mx.np.array(b)), op(a, b))


@QUICK
@given(pairs(("float32", "int64")), st.sampled_from(ARITHMETIC[:3]), st.integers(-3, 3))
def test_scalars_on_both_sides(xs, op, k):
    """Python numbers left and right."""
    a = xs[0]
    same(op(mx.np.array(a), k), op(a, a.dtype.type(k)))
    same(op(k, mx.np.array(a)), op(a.dtype.type(k), a))


def test_unary_and_others():
    """-x, +x, abs, ~, **, //, divmod's parts, matmul, shifts, bool, int, float, index, len, in."""
    a = np.array([[1.0, -2.0], [3.0, 4.0]], "float32")
    x = mx.np.array(a)
    same(-x, -a)
    same(+x, a)
    same(abs(x), abs(a))
    same(x**2, a**2)
    np.testing.assert_allclose((2**x).asnumpy(), 2**a)
    same(x @ x, a @ a)
    i = mx.np.array(np.array([1, 2, 4]))
    same(~i, ~np.array([1, 2, 4]))
    same(i << 2, np.array([4, 8, 16]))
    same(i >> 1, np.array([0, 1, 2]))
    assert len(x) == 2 and [float(v) for v in i] == [1, 2, 4]
    assert bool(x[0, 0] == 1) and int(x[1, 1]) == 4 and float(x[0, 1]) == -2 and range(5)[i[1]] == 2
    assert x[0, 0].item() == 1.0 and isinstance(i[0].item(), int) and isinstance(x[0, 0].item(), float)
    with pytest.raises(ValueError, match="one element"):
        bool(x)
    with pytest.raises(TypeError):
        len(x[0, 0])
    with pytest.raises(TypeError):
        range(5)[x[0, 0]]
    assert 3.0 in x and 5.0 not in x
    assert (x == None) is False and (x != None) is True  # noqa: E711


# --- views and in-place ------------------------------------------------------------------------------------------

VIEWS = [
    lambda x: x[1:],
    lambda x: x[::-1],
    lambda x: x[:, ::2],
    lambda x: x.T,
    lambda x: x[0],
    lambda x: x.reshape(-1),
    lambda x: x[None],
    lambda x: x.swapaxes(0, 1),
    lambda x: x[:, 1:][::-1].T,
    lambda x: x[1, 2],
]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_views_write_through(number):
    """A view looks at the same memory in both directions, as NumPy's does."""
    view = VIEWS[number]
    a, x = np.arange(12.0).reshape(3, 4), mx.np.array(np.arange(12.0).reshape(3, 4))
    a2, x2 = view(a), view(x)
    same(x2, a2)
    if a2.ndim:
        a2[...] = -1
        x2[...] = -1
        same(x, a)
    a[1] = 7
    x[1] = 7
    same(x2, view(a) if not a2.ndim else a2)
    assert mx.np.may_share_memory(x, x2)


@pytest.mark.parametrize("number", range(len(VIEWS) - 1))
@pytest.mark.parametrize(
    "op", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.ifloordiv]
)
def test_in_place(number, op):
    """x += y writes into x's memory, through every kind of view."""
    a, x = np.arange(1.0, 13.0).reshape(3, 4), mx.np.array(np.arange(1.0, 13.0).reshape(3, 4))
    a2, x2 = VIEWS[number](a), VIEWS[number](x)
    before = x2
    a2, x2 = op(a2, 2.0), op(x2, 2.0)
    assert x2 is before
    np.testing.assert_allclose(x.asnumpy(), a, rtol=1e-12)
    np.testing.assert_allclose(x2.asnumpy(), a2, rtol=1e-12)


def test_in_place_keeps_the_type():
    """x += y cannot change x's shape, and converts to its type."""
    x = mx.np.ones(3, dtype="float16")
    x += mx.np.ones(3)
    assert x.dtype == np.float16
    with pytest.raises(ShapeError):
        x += mx.np.ones((2, 3))
    y = mx.np.zeros(3)
    z = mx.np.add(mx.np.ones(3), 1, out=y)
    assert z is y and y.asnumpy().tolist() == [2, 2, 2]


def test_overlapping_assignment():
    """Shifting within one array reads the old values."""
    a, x = np.arange(6.0), mx.np.array(np.arange(6.0))
    a[1:], x[1:] = a[:-1].copy(), x[:-1]
    same(x, a)
    a[::-1], x[::-1] = a.copy(), x
    same(x, a)
    a[:3], x[:3] = a[:3] + a[2::-1], x[:3] + x[2::-1]
    same(x, a)
    b, y = np.arange(9.0).reshape(3, 3), mx.np.array(np.arange(9.0).reshape(3, 3))
    b += b.T.copy()
    y += y.T
    same(y, b)


# --- methods -----------------------------------------------------------------------------------------------------

METHODS = {
    "sum": [{}, {"axis": 0}, {"axis": (0, 2), "keepdims": True}],
    "mean": [{}, {"axis": -1}],
    "max": [{"axis": 1}],
    "min": [{}],
    "prod": [{"axis": 0}],
    "argmax": [{}, {"axis": 1}],
    "argmin": [{"axis": 0}],
    "any": [{}],
    "all": [{"axis": 0}],
    "std": [{}, {"axis": 0}],
    "var": [{"axis": 2, "ddof": 1}],
    "cumsum": [{}, {"axis": 1}],
    "round": [{}],
    "ravel": [{}],
    "flatten": [{}],
    "squeeze": [{}],
    "clip": [{"a_min": 0.2, "a_max": 0.7}],
    "argsort": [{}, {"axis": 0}],
    "copy": [{}],
    "tolist": [{}],
    "repeat": [{"repeats": 2, "axis": 1}],
    "take": [{"indices": np.array([1, 0]), "axis": 0}],
    "tobytes": [{}],
    "diagonal": [{}],
    "dot": [{"b": np.ones(4)}],
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    """Methods that NumPy's arrays have too."""
    a = np.random.default_rng(1).uniform(size=(3, 1, 4))
    for options in METHODS[name]:
        numpys = dict(options)
        if name == "clip":
            numpys = {"min": 0.2, "max": 0.7}
        got = getattr(mx.np.array(a), name)(**options)
        want = getattr(a, name)(**numpys)
        if isinstance(want, (list, bytes)):
            assert got == want
        else:
            np.testing.assert_allclose(got.asnumpy(), want, rtol=1e-12)


def test_sort_is_a_copy():
    """``sort`` returns the sorted array, as in Gluon."""
    x = mx.np.array([3.0, 1.0, 2.0])
    assert x.sort().asnumpy().tolist() == [1, 2, 3] and x.asnumpy().tolist() == [3, 1, 2]


def test_reshape_and_transpose_methods():
    """Sizes one by one or in a tuple; a view where possible."""
    x = mx.np.array(np.arange(24.0).reshape(2, 3, 4))
    assert x.reshape(4, -1).shape == x.reshape((4, -1)).shape == (4, 6)
    assert x.transpose().shape == (4, 3, 2) and x.transpose(1, 0, 2).shape == x.transpose((1, 0, 2)).shape == (3, 2, 4)
    same(x.transpose(2, 0, 1), x.asnumpy().transpose(2, 0, 1))
    same(x.mT, x.asnumpy().swapaxes(1, 2))
    with pytest.raises(ShapeError):
        x.reshape(5, 5)


@pytest.mark.cpu_only("is about devices of the CPU")
def test_devices():
    """There is one, and copies go where they are sent."""
    x = mx.np.ones(2, ctx=mx.cpu())
    assert x.device == x.ctx == mx.cpu() == mx.current_device()
    assert x.as_in_ctx(mx.cpu()) is x and x.to_device(mx.cpu()) is x
    y = mx.np.zeros(2)
    assert x.copyto(y) is y and y.asnumpy().tolist() == [1, 1]
    z = x.copyto(mx.cpu())
    z[:] = 5
    assert x.asnumpy().tolist() == [1, 1]
    with pytest.raises(ShapeError):
        x.copyto(mx.np.zeros(3))


# --- protocols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_pickle_and_copy(name):
    """Values, shape and type survive; copies are apart."""
    x = mx.np.array(np.arange(6).reshape(2, 3), dtype=name)[::-1].T
    for y in (pickle.loads(pickle.dumps(x)), copy.copy(x), copy.deepcopy(x), x.copy()):
        assert y.dtype == x.dtype
        same(y, x.asnumpy())
        y[...] = 0
        assert x.asnumpy().any()


@pytest.mark.parametrize("name", [n for n in ALL if n != "bfloat16"])
@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_dlpack(name):
    """Both ways, one memory; views keep their strides."""
    x = mx.np.array(np.arange(6).reshape(2, 3), dtype=name)
    a = np.from_dlpack(x[:, ::-1])
    np.testing.assert_array_equal(a, x.asnumpy()[:, ::-1])
    x[0] = 1
    np.testing.assert_array_equal(a, x.asnumpy()[:, ::-1])
    b = np.arange(6).reshape(2, 3).astype(name)
    y = mx.np.from_dlpack(b.T)
    same(y, b.T)
    b[...] = 0
    same(y, b.T)
    y[...] = 1
    y.wait_to_read()
    assert b.all()
    assert x.__dlpack_device__() == (1, 0)
    assert mx.np.may_share_memory(mx.np.from_dlpack(x), x) or np.shares_memory(
        mx.np.from_dlpack(x).__array__(), x.__array__()
    )


@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_dlpack_waits():
    """A consumer sees finished values."""
    x = mx.np.ones((64, 64))
    for _ in range(50):
        x = x @ mx.np.full((64, 64), 1 / 64)
    np.testing.assert_allclose(np.from_dlpack(x), 1, rtol=1e-4)


@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_numpy_sees_the_same_memory():
    """numpy.asarray shares; asnumpy and asarray with another type copy."""
    x = mx.np.zeros((2, 3))
    a = np.asarray(x)
    a[0, 0] = 5
    assert x[0, 0].item() == 5 and a.__array_interface__["data"][0] == x.__array__().__array_interface__["data"][0]
    b = x.asnumpy()
    b[...] = 9
    assert x[0, 0].item() == 5
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert np.array(x, copy=True).base is None
    memory = memoryview(x)
    assert memory.shape == (2, 3) and memory.format == "f"
    host_array = np.arange(4.0)
    y = mx.np.asarray(host_array)
    y[0] = 8
    assert host_array[0] == 8, "asarray shares a NumPy array's memory"
    z = mx.np.array(host_array)
    z[0] = 1
    assert host_array[0] == 8, "array copies"


@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_read_only_memory():
    """A NumPy array that may not be written to is not written to."""
    a = np.arange(3.0)
    a.flags.writeable = False
    x = mx.np.asarray(a)
    with pytest.raises(MXError):
        x[0] = 1
    with pytest.raises(MXError):
        x += 1
    with pytest.raises(MXError):
        mx.np.ones(3, dtype="float64").copyto(x)
    assert (x + 1).asnumpy().tolist() == [1, 2, 3] and a.tolist() == [0, 1, 2]


@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_bfloat16_protocols():
    """NumPy sees bfloat16 through ml_dtypes, without a copy."""
    x = mx.np.array([1.0, 2.5], dtype="bfloat16")
    a = np.asarray(x)
    assert a.dtype == NUMPY["bfloat16"]
    x[0] = 3
    assert float(a[0]) == 3
    assert mx.np.array(a).dtype == a.dtype and mx.np.bfloat16 is ml_dtypes.bfloat16
    assert float(x[1]) == 2.5
    assert (x + x).dtype == a.dtype
    y = mx.np.array(np.linspace(-3, 3, 101), dtype="bfloat16")
    np.testing.assert_array_equal(y.asnumpy(), np.linspace(-3, 3, 101).astype("float32").astype(a.dtype))


@pytest.mark.cpu_only("arrays on a GPU are printed with their device")
def test_printing():
    """Values, and the type where it is not the usual one."""
    assert repr(mx.np.array([1.0, 2.0])) == "array([1., 2.])"
    assert repr(mx.np.array([1, 2], dtype="int32")) == "array([1, 2], dtype=int32)"
    assert repr(mx.np.array([True])) == "array([1.])"
    assert repr(mx.np.array(np.array([True, False]))) == "array([ True, False])"
    assert repr(mx.np.array(1.5, dtype="bfloat16")) == "array(1.5, dtype=bfloat16)"
    assert repr(mx.np.zeros((0, 2))) == "array([], shape=(0, 2))"
    assert str(mx.np.array([1.0])) == "[1.]"
    assert f"{mx.np.array(2.5):.2f}" == "2.50"
    assert "..." in repr(mx.np.zeros(5000)) and len(repr(mx.np.zeros(5000))) < 200


def test_hash_and_weak_references():
    """Arrays can be keys of dictionaries and be referred to weakly."""
    import weakref

    x = mx.np.ones(2)
    assert {x: 1}[x] == 1
    ref = weakref.ref(x)
    del x
    assert ref() is None


def test_python_threads_share_arrays():
    """Many threads reading and making arrays at once."""
    from concurrent.futures import ThreadPoolExecutor

    x = mx.np.arange(1000)

    def work(k: int) -> float:
        y = x
        for _ in range(50):
            y = (y + k) - k
        return y.sum().item()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(work, range(16)))) == 1


def test_memory_comes_back():
    """Arrays that nobody holds give their memory back."""
    import gc

    from minimx.ndarray import _core

    gc.collect()
    mx.waitall()
    before = _core.memory_info()["used"]
    for _ in range(20):
        x = mx.np.ones((256, 256))
        y = (x + 1) @ x
    del x, y
    mx.waitall()
    assert _core.memory_info()["used"] <= before + (1 << 12)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_wrap(name):
    """Overflow wraps around, as NumPy's does."""
    info = np.iinfo(name)
    a = np.array([info.max, info.min], name)
    with np.errstate(over="ignore"):
        same(mx.np.array(a) + mx.np.array(np.ones(1, name)), a + np.ones(1, name))
        same(mx.np.array(a) * mx.np.array(a), a * a)


@pytest.mark.parametrize("name", FLOATS)
def test_rounding_to_16_bits_is_to_nearest_even(name):
    """Conversions round as NumPy and ml_dtypes do."""
    values = np.concatenate(
        [np.linspace(-70000, 70000, 4001), np.linspace(0, 1e-6, 333), [np.inf, -np.inf, np.nan, 65520.0]]
    )
    with np.errstate(over="ignore"):
        want = values.astype("float32").astype(NUMPY[name])
    got = mx.np.array(values.astype("float32")).astype(name).asnumpy()
    np.testing.assert_array_equal(got.astype("float64"), want.astype("float64"))
