"""Indexing with arrays: take and its reverse put, element-wise gathers, one-hot.

Indices are brought to int64. ``mode`` says what happens to those out of range: "raise" (negative ones count from the
end, the error surfaces where the result is read), "clip" or "wrap". Scatters add in a fixed order, so results repeat
bit for bit. NumPy's ``x[i, :, j]`` is put together from these in advanced.py; sorting is in sort.py.
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import as_dtype, normal_axis, size_of
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import Ints, case, drawn
from ..table import Plan, broadcast, f

MODES = {"raise": 0, "clip": 1, "wrap": 2}
INDEX = "int64"


def mode_of(where, mode):
    """Number of the mode for the kernels."""
    if mode not in MODES:
        raise ArgumentError(where, "mode 'raise', 'clip' or 'wrap'", mode, "Use one of them")
    return MODES[mode]


# --- whole slices along an axis --------------------------------------------------------------------------------------


def take_grad(gs, ins, outs, attrs, needs):
    x, i = ins
    if attrs["axis"] is None:
        return [f.reshape(f.put(gs[0], i, None, (x.size,), 0, attrs["mode"]), x.shape), None]
    return [f.put(gs[0], i, None, x.shape, attrs["axis"], attrs["mode"]), None]


@kernel(
    np="take",
    method="take",
    grad=take_grad,
    against="numpy.take",
    samples=drawn(
        case((4, 3), Ints((2, 2), 4), axis=0),
        case((4, 3), Ints((5,), 12)),
        case((4, 3), Ints((3,), 9, -4), axis=1, mode="clip"),
        case((4, 3), Ints((3,), 9, -4), axis=1, mode="wrap"),
    ),
    errors=[((((2, 3), Ints((1,), 1)), {"axis": 5}), IndexError)],
)
def take(x, indices, /, axis=None, mode="raise"):
    """Slices of ``x`` along ``axis`` (of the flattened ``x`` without one), in the order and shape of ``indices``.

    >>> np.take(np.array([[1, 2], [3, 4]]), np.array([1]), axis=0)
    array([[3., 4.]])
    """
    shape = (size_of(x.shape),) if axis is None else x.shape
    a = 0 if axis is None else normal_axis("take", axis, len(shape))
    out = (*shape[:a], *indices.shape, *shape[a + 1 :])
    if shape[a] == 0 and size_of(out):
        raise ShapeError("take", "an axis with elements", x.shape, "Check for empty arrays")
    attrs = _blocks(shape, a, size_of(indices.shape)) | {"mode": mode_of("take", mode)}
    return Plan([(out, x.dtype)], "gather", attrs, ["", INDEX], contiguous=True)


def _blocks(shape, axis, count):
    """An array as (outer, n, inner) around an axis, and the number of indices."""
    return {"outer": size_of(shape[:axis]), "n": shape[axis], "inner": size_of(shape[axis + 1 :]), "count": count}


@composite(name="nd_take", nd="take", against="numpy.take")
def nd_take(a, indices, axis=0, mode="clip"):
    """Gluon 1's take: axis 0 and clipping by default.

    >>> nd.take(nd.array([[1, 2], [3, 4]]), nd.array([1, 7]))
    array([[3., 4.],
           [3., 4.]])
    """
    return f.take(a, indices, axis, mode)


def put_grad(gs, ins, outs, attrs, needs):
    _, i, base = ins
    axis, mode = attrs["axis"], attrs["mode"]
    into_v = f.sum_to_like(f.take(gs[0], i, axis, mode), ins[0]) if needs[0] else None
    if base is None or not needs[2]:
        return [into_v, None, None]
    kept = (
        gs[0]
        if attrs["how"] == "add"
        else f.put(f.zeros_like(f.take(gs[0], i, axis, mode)), i, gs[0], outs[0].shape, axis, mode, "set")
    )
    return [into_v, None, kept]


@kernel(grad=put_grad)
def put(v, indices, base=None, /, shape=(), axis=0, mode="raise", how="add"):
    """The reverse of take: zeros (or ``base``), to whose slices ``indices`` along ``axis`` the slices of ``v`` are
    added.

    With ``how="set"`` they are written instead; of several for one place the last stays.
    """
    a = normal_axis("put", axis, len(shape))
    want = (*shape[:a], *indices.shape, *shape[a + 1 :])
    if v.shape != want:
        raise ShapeError("put", f"values of shape {want}", v.shape, "Broadcast them first")
    dtype = v.dtype if base is None else base.dtype
    attrs = _blocks(shape, a, size_of(indices.shape))
    attrs |= {"mode": mode_of("put", mode), "set": int(how == "set"), "base": int(base is not None)}
    return Plan([(tuple(shape), dtype)], "put", attrs, [dtype, INDEX, dtype], contiguous=True)


@kernel(
    grad=lambda gs, ins, outs, attrs, needs: [
        f.put_static(gs[0], attrs["axis"], attrs["indices"], ins[0].shape[attrs["axis"]])
    ],
    against=lambda x, axis, indices: x.take(indices, axis),
    samples=drawn(case((4, 3), axis=0, indices=(3, 0, 0))),
)
def take_static(x, /, axis=0, indices=()):
    """take with indices that are known when the plan is made."""
    n = x.shape[axis]
    if any(not 0 <= i < n for i in indices):
        raise ShapeError("take_static", f"indices in [0, {n})", indices, "Check the shape")
    out = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    attrs = _blocks(x.shape, axis, len(indices)) | {"indices": list(indices)}
    return Plan([(out, x.dtype)], "gather_static", attrs, contiguous=True)


@kernel(grad=lambda gs, ins, outs, attrs, needs: [f.take_static(gs[0], attrs["axis"], attrs["indices"])])
def put_static(v, /, axis=0, indices=(), n=0):
    """Adds the slices of ``v`` to zeros with ``n`` slices along ``axis``."""
    shape = (*v.shape[:axis], n, *v.shape[axis + 1 :])
    attrs = _blocks(shape, axis, len(indices)) | {"indices": list(indices)}
    return Plan([(shape, v.dtype)], "put_static", attrs, contiguous=True)


@composite(
    npx="embedding",
    nd="Embedding",
    against=lambda data, weight: weight[data],
    samples=drawn(case(Ints((2, 3), 5), (5, 4))),
)
def embedding(data, weight, input_dim=None, output_dim=None, dtype=None, sparse_grad=False):
    """Rows of ``weight`` (input_dim, output_dim) by the integers in ``data``: shape data.shape + (output_dim,).

    >>> npx.embedding(np.array([1, 0]), np.array([[1, 2], [3, 4]]))
    array([[3., 4.],
           [1., 2.]])
    """
    return f.take(weight, data, 0, "clip")


# --- elements along an axis ------------------------------------------------------------------------------------------


def gather_elements_grad(gs, ins, outs, attrs, needs):
    return [f.put_elements(gs[0], ins[1], None, ins[0].shape, attrs["axis"], attrs["mode"]), None]


@kernel(
    grad=gather_elements_grad,
    against=lambda x, i, axis: __import__("numpy").take_along_axis(x, i, axis),
    samples=drawn(case((3, 4), Ints((3, 2), 4), axis=1), case((3, 4), Ints((5, 4), 3), axis=0)),
)
def gather_elements(x, indices, /, axis=-1, mode="raise"):
    """out[..., i, ...] = x[..., indices[..., i, ...], ...]: shapes agree but on ``axis``."""
    a = normal_axis("gather_elements", axis, len(x.shape))
    _check_lanes("gather_elements", x.shape, indices.shape, a)
    attrs = _blocks(x.shape, a, indices.shape[a]) | {"mode": mode_of("gather_elements", mode)}
    return Plan([(indices.shape, x.dtype)], "gather_elements", attrs, ["", INDEX], contiguous=True)


def _check_lanes(where, shape, indices, axis):
    if len(shape) != len(indices) or any(
        a != b for i, (a, b) in enumerate(zip(shape, indices, strict=True)) if i != axis
    ):
        raise ShapeError(where, f"indices that agree with {shape} but on axis {axis}", indices, "Broadcast them first")


def put_elements_grad(gs, ins, outs, attrs, needs):
    return [f.gather_elements(gs[0], ins[1], attrs["axis"], attrs["mode"]), None, gs[0]]


@kernel(grad=put_elements_grad)
def put_elements(v, indices, base=None, /, shape=(), axis=-1, mode="raise"):
    """The reverse of gather_elements: adds the elements of ``v`` to zeros or to ``base``."""
    a = normal_axis("put_elements", axis, len(shape))
    _check_lanes("put_elements", shape, indices.shape, a)
    attrs = _blocks(shape, a, indices.shape[a]) | {"mode": mode_of("put_elements", mode), "base": int(base is not None)}
    return Plan([(tuple(shape), v.dtype)], "put_elements", attrs, [v.dtype, INDEX, v.dtype], contiguous=True)


@composite(np="take_along_axis", against="numpy.take_along_axis", samples=drawn(case((3, 4), Ints((3, 2), 4), 1)))
def take_along_axis(arr, indices, axis=-1):
    """gather_elements of operands that broadcast against each other but on ``axis``."""
    if axis is None:
        arr, axis = f.reshape(arr, (-1,)), 0
    a = normal_axis("take_along_axis", axis, arr.ndim)
    xs, ks = list(arr.shape), list(indices.shape)
    xs[a] = ks[a] = 1
    common = list(broadcast("take_along_axis", tuple(xs), tuple(ks)))
    at = lambda n: (*common[:a], n, *common[a + 1 :])  # noqa: E731
    return f.gather_elements(f.broadcast_to(arr, at(arr.shape[a])), f.broadcast_to(indices, at(indices.shape[a])), a)


@composite(
    npx="pick",
    nd="pick",
    samples=drawn(case((3, 4), Ints((3,), 4)), case((3, 4), Ints((4,), 3), axis=0, keepdims=True)),
    against=lambda x, i, axis=-1, keepdims=False: _numpy_pick(x, i, axis, keepdims),
)
def pick(data, index, axis=-1, mode="clip", keepdims=False):
    """One element of each lane along ``axis``: out[i] = data[i, index[i]].

    >>> npx.pick(np.array([[1, 2], [3, 4]]), np.array([0, 1]))
    array([1., 4.])
    """
    if axis is None:
        data, index, axis = f.reshape(data, (-1,)), f.reshape(index, (-1,)), 0
    index = index if index.ndim == data.ndim else f.expand_dims(index, axis)
    y = f.gather_elements(data, index, axis, mode)
    return y if keepdims else f.squeeze(y, axis)


def _numpy_pick(x, i, axis, keepdims):
    import numpy

    y = numpy.take_along_axis(x, numpy.expand_dims(i, axis), axis)
    return y if keepdims else y.squeeze(axis)


@kernel(
    npx="one_hot",
    nd="one_hot",
    method="one_hot",
    samples=drawn(case(Ints((2, 3), 4), depth=4)),
    against=lambda i, depth, **kw: __import__("numpy").eye(depth)[i],
    errors=[(((Ints((2,), 3),), {"depth": -1}), ArgumentError)],
)
def one_hot(indices, /, depth=0, on_value=1.0, off_value=0.0, dtype="float32"):
    """Adds a last axis of length ``depth``: on_value at the index, off_value elsewhere and for indices out of range.

    >>> npx.one_hot(np.array([0, 2]), 3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    if depth < 0:
        raise ArgumentError("one_hot", "depth of at least 0", depth, "Pass the number of classes")
    attrs = {"depth": depth, "on": float(on_value), "off": float(off_value)}
    return Plan([((*indices.shape, depth), as_dtype("one_hot", dtype))], "one_hot", attrs, [INDEX], contiguous=True)


# --- several index arrays at once ------------------------------------------------------------------------------------


@kernel(
    against=lambda xs, dims: __import__("numpy").ravel_multi_index(tuple(xs), dims),
    samples=drawn(case([Ints((2, 3), 4), Ints((3,), 5)], dims=(4, 5))),
)
def ravel_index(xs: list, /, dims=(), mode="raise"):
    """Position in C order of the element that index arrays (broadcast together) name in an array of shape ``dims``."""
    shape = broadcast("ravel_index", *(x.shape for x in xs))
    return Plan(
        [(shape, INDEX)], "ravel_index", {"dims": list(dims), "mode": mode_of("ravel_index", mode)}, [INDEX] * len(xs)
    )


def _split_nd(x, indices, where):
    """``x`` with the axes that ``indices`` (M, ...) name joined into one, and the positions in it."""
    m = indices.shape[0]
    if m > x.ndim:
        raise ShapeError(where, f"at most {x.ndim} index rows", indices.shape, "Put the index axis first")
    flat = f.ravel_index([f.getitem(indices, (k,)) for k in range(m)], x.shape[:m])
    return f.reshape(x, (size_of(x.shape[:m]), *x.shape[m:])), flat


@composite(
    npx="gather_nd", nd="gather_nd", samples=drawn(case((4, 5, 2), Ints((2, 3), 4))), against=lambda x, i: x[tuple(i)]
)
def gather_nd(data, indices):
    """data[indices[0], indices[1], ...]: one row of ``indices`` for each leading axis."""
    x, flat = _split_nd(data, indices, "gather_nd")
    return f.take(x, flat, 0)


@composite(npx="scatter_nd", nd="scatter_nd", against="numpy assignment to zeros")
def scatter_nd(data, indices, shape):
    """Zeros of ``shape`` with out[indices[0], indices[1], ...] = data.

    >>> npx.scatter_nd(np.array([5, 6]), np.array([[0, 1], [1, 0]]), shape=(2, 2))
    array([[0., 5.],
           [6., 0.]])
    """
    return index_update(f.zeros(tuple(shape), data.dtype), indices, data)


@composite(npx="index_update", against="numpy assignment")
def index_update(a, ind, val):
    """``a`` with a[ind[0], ind[1], ...] = val, as a new array.

    >>> npx.index_update(np.zeros(3), np.array([[0, 2]]), np.array([5, 6]))
    array([5., 0., 6.])
    """
    return _write_nd(a, ind, val, "set")


@composite(npx="index_add", against="numpy.add.at")
def index_add(a, ind, val):
    """``a`` with ``val`` added at [ind[0], ind[1], ...], repeated places adding up, as a new array.

    >>> npx.index_add(np.ones(3), np.array([[0, 0]]), np.array([5, 6]))
    array([12.,  1.,  1.])
    """
    return _write_nd(a, ind, val, "add")


def _write_nd(a, ind, val, how):
    x, flat = _split_nd(a, ind, "index_" + how)
    v = (
        f.broadcast_to(val, (*flat.shape, *x.shape[1:]))
        if hasattr(val, "shape")
        else f.full((*flat.shape, *x.shape[1:]), val, a.dtype)
    )
    return f.reshape(f.put(v, flat, x, x.shape, 0, "raise", how), a.shape)


@composite(np="unravel_index", against="numpy.unravel_index", samples=drawn(case(Ints((3,), 12), shape=(3, 4))))
def unravel_index(indices, shape, order="C"):
    """Index along each axis of positions in C order."""
    out = []
    for d in reversed(shape):
        out.append(f.remainder(indices, d))
        indices = f.floor_divide(indices, d)
    return tuple(reversed(out))
