"""Views: reshape, permutations of axes, broadcasting, slicing. No kernel runs; the rules give strides.

Copies and moves (concatenate, pad, tile...) are in join.py, indexing with arrays in index.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, ShapeError
from ..arguments import as_shape, c_strides, normal_axis, ordered_axes, size_of, strides_of
from ..keys import select
from ..kinds.view import view
from ..samples import case, drawn
from ..table import Plan, Spec, broadcast, f


def back_to_shape(gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict, needs: Sequence) -> list:
    """Gradient of whatever keeps the elements and their order."""
    return [f.reshape(gs[0], ins[0].shape)]


# --- reshape ---------------------------------------------------------------------------------------------------------


def known_shape(where: str, x: Spec, shape: Any) -> tuple[int, ...]:
    """``shape`` with its -1, if there is one, worked out for the elements of ``x``."""
    asked = [shape] if isinstance(shape, int) else list(shape)
    n, rest = size_of(x.shape), size_of([d for d in asked if d != -1])
    if asked.count(-1) == 1 and rest and n % rest == 0:
        asked[asked.index(-1)] = n // rest
    if -1 in asked or size_of(asked) != n or (asked and min(asked) < 0):
        raise ShapeError(
            where, f"a shape of {n} elements (one -1 is inferred)", f"{x.shape} -> {shape}", "Check the sizes"
        )
    return tuple(asked)


def strides_after_reshape(x: Spec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides that show ``x`` in another shape, or None where a copy is needed.

    Both shapes are cut into the smallest runs of axes with the same number of elements; within a run the old axes
    must be laid out as one long axis.
    """
    if size_of(shape) == 0:
        return c_strides(shape)
    old = [(d, s) for d, s in zip(x.shape, strides_of(x), strict=True) if d != 1]
    out = [1] * len(shape)
    i = j = 0
    while i < len(old):
        begin_i, begin_j, n_old, n_new = i, j, 1, 1
        while n_old != n_new or n_old == 1:
            if n_old <= n_new:
                n_old *= old[i][0]
                i += 1
            else:
                n_new *= shape[j]
                j += 1
        for (_, s), (d, t) in zip(old[begin_i : i - 1], old[begin_i + 1 : i], strict=True):
            if s != d * t:
                return None
        stride = old[i - 1][1]
        for k in range(j - 1, begin_j - 1, -1):
            out[k] = stride
            stride *= shape[k]
    return tuple(out)


def reshaped(x: Spec, shape: tuple[int, ...]) -> Plan:
    """The plan of a reshape to a known shape."""
    strides = strides_after_reshape(x, shape)
    return Plan([(shape, x.dtype)], view=(strides or c_strides(shape), 0), contiguous=strides is None)


@view(
    np="reshape",
    method="reshape reshape_view",
    grad=back_to_shape,
    against="numpy.reshape",
    samples=drawn(case((2, 3, 4), shape=(4, 6)), case((2, 3, 4), shape=(-1, 2)), case((0, 3), shape=(3, 0))),
    errors=[((((2, 3),), {"shape": (4, 2)}), ShapeError)],
)
def reshape(x, /, shape=None, order="C", newshape=None):
    """The same elements in another shape, in C order; one size may be -1 and is inferred. A view wherever possible.

    >>> np.reshape(np.arange(6), (2, -1))
    array([[0., 1., 2.],
           [3., 4., 5.]])
    """
    if order != "C":
        raise ArgumentError("reshape", "order 'C'", order, "Transpose before and after instead")
    target = newshape if shape is None else shape
    if target is None:
        raise ArgumentError("reshape", "a shape", None, "Pass one")
    return reshaped(x, known_shape("reshape", x, target))


@view(
    np="expand_dims",
    nd="expand_dims",
    method="expand_dims",
    grad=back_to_shape,
    against="numpy.expand_dims",
    samples=drawn(case((2, 3), axis=0), case((2, 3), axis=(0, -1))),
)
def expand_dims(x, /, axis=0):
    """Puts axes of length 1 at the places ``axis`` of the result.

    >>> np.expand_dims(np.array([1, 2]), axis=0)
    array([[1., 2.]])
    """
    n = len(x.shape) + (1 if isinstance(axis, int) else len(axis))
    new = ordered_axes("expand_dims", axis, n)
    sizes, steps = iter(x.shape), iter(strides_of(x))
    shape = tuple(1 if i in new else next(sizes) for i in range(n))
    return Plan([(shape, x.dtype)], view=(tuple(1 if i in new else next(steps) for i in range(n)), 0))


@view(
    np="squeeze",
    nd="squeeze",
    method="squeeze",
    grad=back_to_shape,
    against="numpy.squeeze",
    samples=drawn(case((1, 3, 1)), case((1, 3, 1), axis=-1)),
    errors=[((((2, 3),), {"axis": 0}), ShapeError)],
)
def squeeze(x, /, axis=None):
    """Drops axes of length 1: all of them, or those named, which must be of length 1.

    >>> np.squeeze(np.ones((1, 3, 1))).shape
    (3,)
    """
    drop = [i for i, d in enumerate(x.shape) if d == 1] if axis is None else ordered_axes("squeeze", axis, len(x.shape))
    if any(x.shape[i] != 1 for i in drop):
        raise ShapeError("squeeze", "axes of length 1", f"axis {axis} of {x.shape}", "Name only those")
    keep = [i for i in range(len(x.shape)) if i not in drop]
    strides = strides_of(x)
    return Plan([(tuple(x.shape[i] for i in keep), x.dtype)], view=(tuple(strides[i] for i in keep), 0))


# --- permutations of axes --------------------------------------------------------------------------------------------


def permuted(x: Spec, axes: Sequence[int]) -> Plan:
    """The plan of a permutation: axis i of the result is axis ``axes[i]`` of x."""
    strides = strides_of(x)
    return Plan([(tuple(x.shape[a] for a in axes), x.dtype)], view=(tuple(strides[a] for a in axes), 0))


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def transpose_grad(gs, ins, outs, attrs, needs):
    axes = attrs["axes"]
    return [f.transpose(gs[0], None if not axes else inverse([a % len(axes) for a in axes]))]


@view(
    np="transpose permute_dims",
    nd="transpose",
    method="transpose",
    grad=transpose_grad,
    against="numpy.transpose",
    samples=drawn(case((2, 3, 4)), case((2, 3, 4), axes=(1, -1, 0))),
    errors=[((((2, 3),), {"axes": (0, 0)}), ArgumentError), ((((2, 3),), {"axes": (0,)}), ShapeError)],
)
def transpose(x, /, axes=None):
    """Axis i of the result is axis ``axes[i]`` of ``x``; without ``axes`` their order is reversed.

    >>> np.transpose(np.array([[1, 2, 3], [4, 5, 6]]))
    array([[1., 4.],
           [2., 5.],
           [3., 6.]])
    """
    n = len(x.shape)
    order = ordered_axes("transpose", axes, n) if axes not in (None, ()) else tuple(reversed(range(n)))
    if len(order) != n:
        raise ShapeError("transpose", f"{n} axes for shape {x.shape}", axes, "Name every axis once")
    return permuted(x, order)


def swapped(n: int, a: int, b: int) -> tuple[int, ...]:
    """The permutation that swaps two axes."""
    order = list(range(n))
    order[a], order[b] = order[b], order[a]
    return tuple(order)


@view(
    np="swapaxes",
    nd="swapaxes SwapAxis",
    method="swapaxes",
    against="numpy.swapaxes",
    grad=lambda gs, ins, outs, attrs, needs: [f.swapaxes(gs[0], attrs["axis1"], attrs["axis2"])],
    samples=drawn(case((2, 3, 4), axis1=0, axis2=-1)),
)
def swapaxes(x, /, axis1=0, axis2=0):
    """Swaps two axes.

    >>> np.swapaxes(np.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    n = len(x.shape)
    return permuted(x, swapped(n, normal_axis("swapaxes", axis1, n), normal_axis("swapaxes", axis2, n)))


@view(
    np="moveaxis",
    against="numpy.moveaxis",
    samples=drawn(case((2, 3, 4), source=0, destination=-1)),
    grad=lambda gs, ins, outs, attrs, needs: [f.moveaxis(gs[0], attrs["destination"], attrs["source"])],
    errors=[((((2, 3),), {"source": (0, 1), "destination": 0}), ArgumentError)],
)
def moveaxis(x, /, source=0, destination=0):
    """Moves axes to new places; the others keep their order."""
    n = len(x.shape)
    take, put = ordered_axes("moveaxis", source, n), ordered_axes("moveaxis", destination, n)
    if len(take) != len(put):
        raise ArgumentError("moveaxis", "as many sources as destinations", f"{source} and {destination}", "Pair them")
    order = [a for a in range(n) if a not in take]
    for to, a in sorted(zip(put, take, strict=True)):
        order.insert(to, a)
    return permuted(x, order)


# --- broadcasting ----------------------------------------------------------------------------------------------------


def broadcast_strides(x: Spec, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides that show ``x`` in a shape it broadcasts to."""
    missing = len(shape) - len(x.shape)
    own = [0 if d == 1 else s for d, s in zip(x.shape, strides_of(x), strict=True)]
    return (*(0,) * missing, *own)


@view(
    np="broadcast_to",
    method="broadcast_to",
    against="numpy.broadcast_to",
    grad=lambda gs, ins, outs, attrs, needs: [f.sum_to_like(gs[0], ins[0])],
    samples=drawn(case((3, 1), shape=(2, 3, 4))),
    errors=[((((3,),), {"shape": (2, 4)}), ShapeError)],
)
def broadcast_to(x, /, shape=()):
    """Shows ``x`` in a larger shape by repeating axes of length 1, without a copy.

    >>> np.broadcast_to(np.array([1, 2]), (2, 2))
    array([[1., 2.],
           [1., 2.]])
    """
    target = as_shape("broadcast_to", shape)
    if len(target) < len(x.shape) or broadcast("broadcast_to", x.shape, target) != target:
        raise ShapeError(
            "broadcast_to", f"a shape that {x.shape} broadcasts to", target, "Reshape or expand_dims first"
        )
    return Plan([(target, x.dtype)], view=(broadcast_strides(x, target), 0))


# --- slicing ---------------------------------------------------------------------------------------------------------


def getitem_grad(gs, ins, outs, attrs, needs):
    s = select("getitem", ins[0].shape, attrs["key"])
    return [f.paste(f.reshape(gs[0], tuple(s.length)), None, ins[0].shape, tuple(s.start), tuple(s.step))]


@view(
    grad=getitem_grad,
    against=lambda x, key: x[tuple(slice(*k) if isinstance(k, tuple) else k for k in key)],
    samples=drawn(
        case((4, 5), key=(1,)), case((4, 5), key=((None, None, -2), None, (1, 3, None))), case((4, 5), key=(..., 0))
    ),
    errors=[((((2, 3),), {"key": (2,)}), IndexError)],
)
def getitem(x, /, key=()):
    """Basic indexing, ``x[key]``; ``key`` in the form of ``keys.canonical_key``."""
    s = select("getitem", x.shape, key)
    strides = strides_of(x)
    taken = tuple(1 if a is None else strides[a] * s.step[a] for a in s.result)
    empty = 0 in s.length
    return Plan(
        [(s.shape, x.dtype)], view=(taken, 0 if empty else sum(b * t for b, t in zip(s.start, strides, strict=True)))
    )


@view(
    np="flip",
    nd="flip reverse",
    against="numpy.flip",
    samples=drawn(case((2, 3)), case((2, 3), axis=1)),
    grad=lambda gs, ins, outs, attrs, needs: [f.flip(gs[0], attrs["axis"])],
)
def flip(x, /, axis=None):
    """Reverses the order of elements along the axes (all by default)."""
    axes = range(len(x.shape)) if axis is None else ordered_axes("flip", axis, len(x.shape))
    strides = strides_of(x)
    offset = sum((x.shape[a] - 1) * strides[a] for a in axes) if size_of(x.shape) else 0
    return Plan([(x.shape, x.dtype)], view=(tuple(-s if i in axes else s for i, s in enumerate(strides)), offset))


def diagonal_grad(gs, ins, outs, attrs, needs):
    """The diagonal of (n, m) is a slice with step m + 1 of its n * m elements."""
    x = ins[0]
    a, b = normal_axis("diagonal", attrs["axis1"], x.ndim), normal_axis("diagonal", attrs["axis2"], x.ndim)
    n, m, k = x.shape[a], x.shape[b], attrs["offset"]
    rest = tuple(d for i, d in enumerate(x.shape) if i not in (a, b))
    start = (0,) * len(rest) + (k if k >= 0 else -k * m,)
    flat = f.paste(gs[0], None, (*rest, n * m), start, (1,) * len(rest) + (m + 1,))
    return [f.moveaxis(f.reshape(flat, (*rest, n, m)), (-2, -1), (a, b))]


@view(
    np="diagonal",
    method="diagonal",
    grad=diagonal_grad,
    against="numpy.diagonal",
    samples=drawn(case((3, 4)), case((2, 3, 4), offset=1, axis1=1, axis2=2), case((4, 3), offset=-1)),
    errors=[((((3,),), {}), ShapeError)],
)
def diagonal(x, /, offset=0, axis1=0, axis2=1):
    """Elements (i, i + offset) of the matrices spanned by two axes; the diagonal is the last axis of the result."""
    n = len(x.shape)
    if n < 2:
        raise ShapeError("diagonal", "at least 2 dimensions", x.shape, "Use diag to make a matrix from a vector")
    a, b = ordered_axes("diagonal", (axis1, axis2), n)
    strides = strides_of(x)
    length = max(0, min(x.shape[a], x.shape[b] - offset) if offset >= 0 else min(x.shape[a] + offset, x.shape[b]))
    keep = [i for i in range(n) if i not in (a, b)]
    first = (offset * strides[b] if offset >= 0 else -offset * strides[a]) if length else 0
    shape = (*(x.shape[i] for i in keep), length)
    return Plan([(shape, x.dtype)], view=((*(strides[i] for i in keep), strides[a] + strides[b]), first))
