"""Gluon 1's (``mx.nd``) spellings that differ from NumPy's in more than the name: reshape codes, concat, slice and
others."""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import normal_axis, size_of
from ..kinds.composite import composite
from ..samples import case, drawn
from ..table import f

# --- reshape codes ---------------------------------------------------------------------------------------------------

# What the special numbers of a target shape mean: in nd.reshape, and in npx.reshape.
ND_CODES = {0: "copy", -2: "rest", -3: "merge", -4: "split"}
NPX_CODES = {-2: "copy", -3: "drop", -4: "rest", -5: "merge", -6: "split"}


def coded_shape(shape, target, codes):
    """The shape that ``target`` means for an array of ``shape``; -1 is left for reshape to infer."""
    out, at = [], 0
    asked = list(target)
    while asked:
        d = asked.pop(0)
        code = codes.get(d)
        if code is None:
            out.append(d)
            at += 1
        elif code == "copy":
            out.append(shape[at])
            at += 1
        elif code == "drop":
            if shape[at] != 1:
                raise ShapeError("reshape", f"an axis of length 1 for code {d}", shape, "Keep the axis")
            at += 1
        elif code == "rest":
            out.extend(shape[at:])
            at = len(shape)
        elif code == "merge":
            out.append(shape[at] * shape[at + 1])
            at += 2
        else:
            a, b = asked.pop(0), asked.pop(0)
            a, b = (shape[at] // b if a == -1 else a), (shape[at] // a if b == -1 else b)
            out.extend((a, b))
            at += 1
    return tuple(out)


def _reshaped(x, target, reverse, codes):
    target = (target,) if isinstance(target, int) else tuple(target)
    if reverse:
        return f.reshape(x, coded_shape(x.shape[::-1], target[::-1], codes)[::-1])
    try:
        return f.reshape(x, coded_shape(x.shape, target, codes))
    except IndexError:
        raise ShapeError("reshape", f"codes that {x.shape} has axes for", target, "Check the target shape") from None


@composite(
    name="nd_reshape",
    nd="reshape Reshape",
    against=lambda x, shape: x.reshape(6, 4),
    samples=drawn(case((2, 3, 4), shape=(-3, 0))),
)
def nd_reshape(data, shape, reverse=False):
    """reshape with codes: 0 copies a dimension, -1 infers, -2 copies the rest, -3 merges two, -4 splits into the next
    two."""
    return _reshaped(data, shape, reverse, ND_CODES)


@composite(
    name="npx_reshape",
    npx="reshape",
    against=lambda x, newshape: x.reshape(6, 4),
    samples=drawn(case((2, 3, 4), newshape=(-5, -4))),
)
def npx_reshape(a, newshape, reverse=False, order="C"):
    """reshape with codes: -1 infers, -2 copies a dimension, -3 drops one of length 1, -4 copies the rest, -5 merges
    two,
    -6 splits into the next two."""
    return _reshaped(a, newshape, reverse, NPX_CODES)


@composite(npx="reshape_like", nd="reshape_like", against="numpy.reshape")
def reshape_like(lhs, rhs):
    """``lhs`` in the shape of ``rhs``.

    >>> npx.reshape_like(np.ones((2, 3)), np.ones((3, 2))).shape
    (3, 2)
    """
    return f.reshape(lhs, rhs.shape)


# --- joining and cutting ---------------------------------------------------------------------------------------------


@composite(name="nd_concat", nd="concat Concat", against="numpy.concatenate")
def nd_concat(*data, dim=1):
    """Joins the arguments along axis ``dim``.

    >>> nd.concat(nd.ones((2, 1)), nd.ones((2, 3)), dim=1).shape
    (2, 4)
    """
    return f.concatenate(list(data), dim)


@composite(name="nd_stack", nd="stack", against="numpy.stack")
def nd_stack(*data, axis=0):
    """Joins the arguments along a new axis.

    >>> nd.stack(nd.ones(2), nd.ones(2), axis=0).shape
    (2, 2)
    """
    return f.stack(list(data[0]) if len(data) == 1 and isinstance(data[0], (list, tuple)) else list(data), axis)


@composite(name="nd_split", nd="split SliceChannel", against="numpy.split")
def nd_split(data, num_outputs, axis=1, squeeze_axis=False):
    """``num_outputs`` equal parts along ``axis``; squeeze_axis drops the axis from each.

    >>> nd.split(nd.array([[1, 2]]), num_outputs=2)
    [array([[1.]]), array([[2.]])]
    """
    parts = f.split(data, num_outputs, axis)
    parts = [f.squeeze(p, axis) for p in parts] if squeeze_axis else parts
    return parts[0] if len(parts) == 1 else parts


@composite(
    name="nd_slice",
    npx="slice",
    nd="slice",
    against=lambda x, begin, end: x[1:2, :2],
    samples=drawn(case((3, 4), begin=(1, None), end=(2, 2))),
)
def nd_slice(data, begin, end, step=None):
    """data[begin[0]:end[0]:step[0], ...]; None is the default of a slice."""
    steps = tuple(step) if step else (None,) * len(begin)
    return f.getitem(data, tuple(zip(begin, end, steps, strict=True)))


@composite(
    npx="slice_axis",
    nd="slice_axis",
    against=lambda x, axis, begin, end: x[:, 1:3],
    samples=drawn(case((3, 4), axis=1, begin=1, end=3)),
)
def slice_axis(data, axis, begin, end):
    """The part from ``begin`` to ``end`` of one axis."""
    return f.getitem(data, ((None, None, None),) * normal_axis("slice_axis", axis, data.ndim) + ((begin, end, None),))


@composite(
    npx="slice_like", nd="slice_like", against=lambda x, y, axes=(): x[:2, :3], samples=drawn(case((3, 4), (2, 3)))
)
def slice_like(data, shape_like, axes=()):
    """The first part of every axis (of ``axes``) that has the length of shape_like's."""
    axes = [normal_axis("slice_like", a, data.ndim) for a in axes] or range(shape_like.ndim)
    key = [(None, shape_like.shape[i], None) if i in axes else (None, None, None) for i in range(data.ndim)]
    return f.getitem(data, tuple(key))


@composite(name="nd_broadcast_axis", nd="broadcast_axis broadcast_axes", against="numpy.broadcast_to")
def nd_broadcast_axis(data, axis=(), size=()):
    """Repeats axes of length 1 to the sizes given.

    >>> nd.broadcast_axis(nd.ones((1, 2)), axis=0, size=3).shape
    (3, 2)
    """
    axes, sizes = ((v,) if isinstance(v, int) else tuple(v) for v in (axis, size))
    shape = list(data.shape)
    for a, n in zip(axes, sizes, strict=True):
        shape[a] = n
    return f.broadcast_to(data, tuple(shape))


@composite(name="nd_add_n", nd="add_n ElementWiseSum", against="numpy.add")
def nd_add_n(*args):
    """Sum of the arguments.

    >>> nd.add_n(nd.ones(2), nd.ones(2), nd.ones(2))
    array([3., 3.])
    """
    y = args[0]
    for x in args[1:]:
        y = f.add(y, x)
    return y


# --- space and depth, pixel shuffle ----------------------------------------------------------------------------------


@composite(npx="depth_to_space", nd="depth_to_space", against="torch.pixel_shuffle, with the channel order of MXNet")
def depth_to_space(data, block_size):
    """(N, C, H, W) -> (N, C / b^2, H b, W b): blocks of channels laid out in space, block axes first.

    >>> npx.depth_to_space(np.ones((1, 8, 2, 3)), 2).shape
    (1, 2, 4, 6)
    """
    n, c, h, w = data.shape
    b = block_size
    if c % (b * b):
        raise ArgumentError("depth_to_space", f"channels that {b * b} divides", c, "Use another block_size")
    y = f.transpose(f.reshape(data, (n, b, b, c // (b * b), h, w)), (0, 3, 4, 1, 5, 2))
    return f.reshape(y, (n, c // (b * b), h * b, w * b))


@composite(npx="space_to_depth", nd="space_to_depth", against="the reverse of depth_to_space")
def space_to_depth(data, block_size):
    """(N, C, H, W) -> (N, C b^2, H / b, W / b).

    >>> npx.space_to_depth(np.ones((1, 2, 4, 6)), 2).shape
    (1, 8, 2, 3)
    """
    n, c, h, w = data.shape
    b = block_size
    if h % b or w % b:
        raise ArgumentError("space_to_depth", f"height and width that {b} divides", (h, w), "Pad the data")
    y = f.transpose(f.reshape(data, (n, c, h // b, b, w // b, b)), (0, 3, 5, 1, 2, 4))
    return f.reshape(y, (n, c * b * b, h // b, w // b))


@composite(npx="shape_array", nd="shape_array", against="numpy.shape")
def shape_array(data):
    """The shape, as an int64 array.

    >>> npx.shape_array(np.ones((2, 3)))
    array([2, 3], dtype=int64)
    """
    return f.array(list(data.shape) or [0][:0], dtype="int64")


@composite(npx="size_array", nd="size_array", against="numpy.size")
def size_array(data):
    """The number of elements, as an int64 array of shape (1,).

    >>> npx.size_array(np.ones((2, 3)))
    array([6], dtype=int64)
    """
    return f.full((1,), size_of(data.shape), "int64")
