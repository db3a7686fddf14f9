"""Copies and moves: concatenate, pad, paste, tile, repeat, roll, and what is built from them.

``paste`` is the one that writes a region of an array: gradients of slices, padding and functional assignment are it.
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import as_dtype, as_shape, normal_axis, size_of
from ..keys import select
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, common_dtype, f

# --- paste: writing a region -----------------------------------------------------------------------------------------


def paste_grad(gs, ins, outs, attrs, needs):
    v, base = ins
    g, shape = gs[0], outs[0].shape
    start, step = attrs["start"], attrs["step"]
    region = attrs["region"] or v.shape
    into_v = f.sum_to_like(f.getitem(g, region_key(shape, start, step, region)), v) if needs[0] else None
    into_base = f.paste(0.0, g, shape, start, step, 0, region) if needs[1] else None
    return [into_v, into_base]


def region_key(shape, start, step, region):
    """The basic key of a region; a negative step that runs past the front needs stop None."""
    stops = [b + s * n for b, s, n in zip(start, step, region, strict=True)]
    return tuple(
        (b, None if e < 0 else e, s) if n else (0, 0, 1) for b, e, s, n in zip(start, stops, step, region, strict=True)
    )


@kernel(grad=paste_grad)
def paste(v, base=None, /, shape=(), start=(), step=(), value=0, region=None):
    """An array that is ``v`` on a region and ``base`` (or ``value``) elsewhere.

    The region begins at ``start``, goes by ``step`` and has the shape ``region`` (by default v's), to which ``v``
    broadcasts.
    """
    dtype = v.dtype if base is None else base.dtype
    taken = v.shape if region is None else tuple(region)
    last = [b + s * (n - 1) for b, s, n in zip(start, step, taken, strict=True)]
    if size_of(taken) and any(not 0 <= i < d for ends in (start, last) for i, d in zip(ends, shape, strict=True)):
        raise ShapeError(
            "paste", f"a region inside {tuple(shape)}", f"{taken} from {start} by {step}", "Shrink the region"
        )
    attrs = {
        "start": list(start),
        "step": list(step),
        "region": list(taken),
        "value": float(value),
        "base": int(base is not None),
    }
    return Plan([(tuple(shape), dtype)], "paste", attrs, [dtype, dtype])


@composite(against="numpy copy and assignment")
def slice_set(x, v, key):
    """``x`` with ``x[key] = v``, as a new array. ``key`` is canonical; ``v`` broadcasts to the shape of ``x[key]``."""
    s = select("slice_set", x.shape, key)
    if hasattr(v, "shape") and v.shape != ():
        own = f.broadcast_to(v, s.shape) if v.shape != s.shape else v
        v = f.reshape(own, tuple(s.length))
    return f.paste(v, x, x.shape, tuple(s.start), tuple(s.step), 0, tuple(s.length))


# --- concatenate, stack, split ---------------------------------------------------------------------------------------


def concatenate_grad(gs, ins, outs, attrs, needs):
    g, axis, at, out = gs[0], attrs["axis"], 0, []
    for x, needed in zip(ins, needs, strict=True):
        n = x.shape[axis] if axis is not None else x.size
        key = ((None,) * 3,) * (axis % x.ndim if axis is not None else 0) + ((at, at + n, None),)
        out.append(
            (f.getitem(g, key) if axis is not None else f.reshape(f.getitem(g, key), x.shape)) if needed else None
        )
        at += n
    return out


@kernel(
    np="concatenate concat",
    grad=concatenate_grad,
    against="numpy.concatenate",
    samples=drawn(case([(2, 3), (4, 3)]), case([(2, 3), (2, 1), (2, 0)], axis=-1), case([(2, 3), (4,)], axis=None)),
    errors=[(([[(2, 3), (2, 4)]], {}), ShapeError)],
)
def concatenate(xs: list, /, axis=0):
    """Joins arrays along an existing axis; ``axis=None`` joins them flattened.

    >>> np.concatenate([np.ones((1, 2)), np.zeros((1, 2))], axis=0)
    array([[1., 1.],
           [0., 0.]])
    """
    if not xs:
        raise ArgumentError("concatenate", "at least one array", "none", "Pass a list of arrays")
    dtype = common_dtype(xs)
    if axis is None:
        shape, at = (sum(size_of(x.shape) for x in xs),), 0
    else:
        shape, at = _joined_shape(xs, axis), normal_axis("concatenate", axis, len(xs[0].shape))
    return Plan([(shape, dtype)], "concat", {"axis": at, "flat": int(axis is None)}, [dtype] * len(xs), contiguous=True)


def _joined_shape(xs, axis):
    first = xs[0].shape
    a = normal_axis("concatenate", axis, len(first))
    for x in xs:
        if len(x.shape) != len(first) or any(
            p != q for i, (p, q) in enumerate(zip(x.shape, first, strict=True)) if i != a
        ):
            raise ShapeError(
                "concatenate",
                f"shapes that agree but on axis {a}",
                ", ".join(str(s.shape) for s in xs),
                "Reshape or pad them",
            )
    return (*first[:a], sum(x.shape[a] for x in xs), *first[a + 1 :])


@composite(np="stack", against="numpy.stack", samples=drawn(*(case([(2, 3), (2, 3)], axis=a) for a in (0, 1, -1))))
def stack(arrays, axis=0, out=None):
    """Joins arrays of one shape along a new axis.

    >>> np.stack([np.array([1, 2]), np.array([3, 4])], axis=1)
    array([[1., 3.],
           [2., 4.]])
    """
    arrays = list(arrays)
    if len({a.shape for a in arrays}) != 1:
        raise ShapeError("stack", "one shape, at least one array", [a.shape for a in arrays], "Broadcast them first")
    shape = arrays[0].shape
    a = normal_axis("stack", axis, len(shape) + 1)
    if a == len(shape):  # element beside element
        return _into(out, f.concatenate([f.expand_dims(x, a) for x in arrays], a))
    return _into(out, f.reshape(f.concatenate(arrays, a), (*shape[:a], len(arrays), *shape[a:])))


def _into(out, y):
    """``out=`` of a composite: the result is copied there."""
    if out is None:
        return y
    out[...] = y
    return out


@composite(np="vstack row_stack", against="numpy.vstack", samples=drawn(case([(3,), (3,)]), case([(2, 3), (1, 3)])))
def vstack(arrays):
    """Joins along axis 0; vectors count as rows."""
    return f.concatenate([f.atleast_2d(a) for a in arrays], 0)


@composite(np="hstack", against="numpy.hstack", samples=drawn(case([(3,), (2,)]), case([(2, 3), (2, 1)])))
def hstack(arrays):
    """Joins along axis 1, vectors along axis 0."""
    arrays = [f.atleast_1d(a) for a in arrays]
    return f.concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


@composite(np="dstack", against="numpy.dstack", samples=drawn(case([(2, 3), (2, 3)])))
def dstack(arrays):
    """Joins along axis 2 after making every array at least 3-dimensional."""
    return f.concatenate([f.atleast_3d(a) for a in arrays], 2)


@composite(np="column_stack", against="numpy.column_stack", samples=drawn(case([(3,), (3, 2)])))
def column_stack(arrays):
    """Joins along axis 1; vectors count as columns."""
    return f.concatenate([f.expand_dims(a, 1) if a.ndim == 1 else a for a in arrays], 1)


@composite(np="append", against="numpy.append", samples=drawn(case((2, 3), (1, 3), axis=0), case((2, 3), (4,))))
def append(arr, values, axis=None):
    """``arr`` followed by ``values``."""
    return f.concatenate([arr, values], axis)


def pieces(x, sections, axis, where, even):
    """Views of x cut at ``sections``: a number of parts (``even``: of one length) or a list of positions."""
    axis = normal_axis(where, axis, x.ndim)
    n = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1 or (even and n % sections):
            raise ShapeError(where, f"a number of parts that divides {n}", sections, "Use array_split for uneven parts")
        small, larger = divmod(n, sections)
        cuts = [i * small + min(i, larger) for i in range(sections + 1)]
    else:
        cuts = [0, *(int(c) for c in sections), n]
    whole = ((None, None, None),) * axis
    return [
        f.getitem(x, (*whole, (b, max(b, e) if e >= 0 else e, None))) for b, e in zip(cuts[:-1], cuts[1:], strict=True)
    ]


@composite(
    np="split",
    method="split",
    against="numpy.split",
    samples=drawn(case((4, 3), 2), case((4, 3), indices_or_sections=[1, 3]), case((4, 6), 3, axis=1)),
)
def split(ary, indices_or_sections, axis=0):
    """Views of equal parts, or of the parts between the positions given.

    >>> np.split(np.arange(6), 3)
    [array([0., 1.]), array([2., 3.]), array([4., 5.])]
    """
    return pieces(ary, indices_or_sections, axis, "split", True)


@composite(np="array_split", against="numpy.array_split", samples=drawn(case((7,), 3)))
def array_split(ary, indices_or_sections, axis=0):
    """Like split; the first parts are one longer where the length does not divide."""
    return pieces(ary, indices_or_sections, axis, "array_split", False)


@composite(np="hsplit", against="numpy.hsplit", samples=drawn(case((4, 6), 3)))
def hsplit(ary, indices_or_sections):
    """split along axis 1 (axis 0 of a vector)."""
    return pieces(ary, indices_or_sections, min(1, ary.ndim - 1), "hsplit", True)


@composite(np="vsplit", against="numpy.vsplit", samples=drawn(case((4, 6), 2)))
def vsplit(ary, indices_or_sections):
    """split along axis 0."""
    return pieces(ary, indices_or_sections, 0, "vsplit", True)


@composite(np="dsplit", against="numpy.dsplit", samples=drawn(case((2, 2, 4), 2)))
def dsplit(ary, indices_or_sections):
    """split along axis 2."""
    return pieces(ary, indices_or_sections, 2, "dsplit", True)


# --- repetition ------------------------------------------------------------------------------------------------------


@composite(
    np="tile",
    nd="tile",
    method="tile",
    against="numpy.tile",
    samples=drawn(case((2, 3), reps=(2, 1, 2)), case((3,), 2)),
)
def tile(A, reps):
    """``A`` repeated ``reps[i]`` times along axis i, as bricks are laid.

    >>> np.tile(np.array([1, 2]), 2)
    array([1., 2., 1., 2.])
    """
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    n = max(len(reps), A.ndim)
    reps, shape = (1,) * (n - len(reps)) + reps, (1,) * (n - A.ndim) + A.shape
    between = f.reshape(A, tuple(d for s in shape for d in (1, s)))
    wide = f.broadcast_to(between, tuple(d for r, s in zip(reps, shape, strict=True) for d in (r, s)))
    return f.reshape(wide, tuple(r * s for r, s in zip(reps, shape, strict=True)))


@composite(
    np="repeat",
    nd="repeat",
    method="repeat",
    against="numpy.repeat",
    samples=drawn(case((2, 3), 2), case((2, 3), 2, axis=1), case((3, 2), repeats=[1, 0, 2], axis=0)),
)
def repeat(a, repeats, axis=None):
    """Every element (or slice along ``axis``) ``repeats`` times in a row; a list gives each its own count.

    >>> np.repeat(np.array([1, 2]), 2)
    array([1., 1., 2., 2.])
    """
    if axis is None:
        a, axis = f.reshape(a, (-1,)), 0
    axis = normal_axis("repeat", axis, a.ndim)
    if hasattr(repeats, "tolist"):
        repeats = repeats.tolist()
    if not isinstance(repeats, int) and len(repeats) == 1:
        repeats = repeats[0]
    if not isinstance(repeats, int):
        return f.take_static(a, axis, tuple(i for i, r in enumerate(repeats) for _ in range(r)))
    before, after = a.shape[: axis + 1], a.shape[axis + 1 :]
    wide = f.broadcast_to(f.expand_dims(a, axis + 1), (*before, repeats, *after))
    return f.reshape(wide, (*before[:-1], before[-1] * repeats, *after))


@composite(np="roll", against="numpy.roll", samples=drawn(case((2, 3), 1), case((4, 3), shift=(1, -1), axis=(0, 1))))
def roll(a, shift, axis=None):
    """Moves elements by ``shift`` places along the axes; those that leave at the end come in at the front."""
    if axis is None:
        return f.reshape(roll(f.reshape(a, (-1,)), shift, 0), a.shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    for ax, s in zip(axes, shifts, strict=True):
        n = a.shape[normal_axis("roll", ax, a.ndim)]
        if n and s % n:
            left, right = pieces(a, [n - s % n], ax, "roll", False)
            a = f.concatenate([right, left], ax)
    return a


@composite(
    np="rot90", against="numpy.rot90", samples=drawn(case((2, 3)), case((2, 3), -1), case((2, 3, 4), 2, axes=(1, 2)))
)
def rot90(m, k=1, axes=(0, 1)):
    """Turns the plane of two axes by 90 degrees ``k`` times, from the first axis towards the second."""
    a, b = axes
    k %= 4
    if k == 1:
        return f.swapaxes(f.flip(m, b), a, b)
    if k == 3:
        return f.flip(f.swapaxes(m, a, b), b)
    return f.flip(m, (a, b)) if k else m


# --- pad -------------------------------------------------------------------------------------------------------------


def pad_widths(width, n):
    """((before, after), ...) for n axes from NumPy's short forms."""
    if isinstance(width, int):
        return ((width, width),) * n
    width = tuple(width)
    if len(width) == 2 and all(isinstance(w, int) for w in width):
        return (width,) * n
    width = tuple((w, w) if isinstance(w, int) else (tuple(w) * 2)[:2] for w in width)
    width = width * n if len(width) == 1 else width
    if len(width) != n or min(min(w) for w in width) < 0:
        raise ArgumentError("pad", f"widths of at least 0 for {n} axes", width, "Give (before, after) for each axis")
    return width


def pad_indices(n, before, after, mode):
    """Source index of every element of a padded axis of length n."""
    period = {"reflect": max(2 * n - 2, 1), "symmetric": 2 * n, "wrap": n, "edge": 1}[mode]
    out = []
    for i in range(-before, n + after):
        if mode == "edge":
            j = min(max(i, 0), n - 1)
        else:
            j = i % period
            if j >= n:
                j = (2 * n - 2 - j) if mode == "reflect" else 2 * n - 1 - j
        out.append(j)
    return tuple(out)


@composite(
    np="pad",
    against="numpy.pad",
    samples=drawn(
        case((2, 3), pad_width=((1, 0), (2, 1)), mode="constant", constant_values=2),
        case((3, 4), 2, mode="reflect"),
        case((3, 4), pad_width=((1, 2), (0, 1)), mode="symmetric"),
        case((3, 4), 1, mode="edge"),
    ),
)
def pad(x, pad_width, mode="constant", constant_values=0):
    """``x`` with a border: constant, edge, reflect, symmetric or wrap, as NumPy's."""
    widths = pad_widths(pad_width, x.ndim)
    if mode == "constant":
        shape = tuple(b + d + a for d, (b, a) in zip(x.shape, widths, strict=True))
        return f.paste(x, None, shape, tuple(b for b, _ in widths), (1,) * x.ndim, constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ArgumentError("pad", "mode constant, edge, reflect, symmetric or wrap", mode, "Use one of them")
    for axis, (b, a) in enumerate(widths):
        if b or a:
            x = f.take_static(x, axis, pad_indices(x.shape[axis], b, a, mode))
    return x


@composite(name="nd_pad", nd="pad Pad", against="numpy.pad")
def nd_pad(data, mode="constant", pad_width=(), constant_value=0):
    """Gluon 1's pad: ``pad_width`` is flat, (before, after) of every axis in turn.

    >>> nd.pad(nd.ones((1, 1, 2, 2)), mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1)).shape
    (1, 1, 4, 4)
    """
    pairs = tuple(zip(pad_width[::2], pad_width[1::2], strict=True))
    return f.pad(data, pairs, mode, constant_value)


# --- small composites ------------------------------------------------------------------------------------------------


@composite(against="numpy: g.sum over the broadcast axes")
def sum_to_like(g, x):
    """``g`` summed over the axes along which ``x`` was broadcast to it: x's shape again. Scalars get no gradient."""
    shape = getattr(x, "shape", None)
    if shape is None:
        return None
    if g.shape != shape:
        missing = g.ndim - len(shape)
        axes = tuple(i for i in range(g.ndim) if i < missing or (shape[i - missing] == 1 and g.shape[i] != 1))
        g = f.reshape(f.sum(g, axes), shape) if axes else f.reshape(g, shape)
    return g if g.dtype == x.dtype else f.cast(g, as_dtype("sum_to_like", x.dtype))


@composite(np="ravel", method="flatten ravel", against="numpy.ravel", samples=drawn(case((2, 3))))
def ravel(x, order="C"):
    """All elements in one axis, in C order."""
    return f.reshape(x, (-1,), order)


@composite(
    npx="batch_flatten",
    nd="flatten Flatten",
    against=lambda x: x.reshape(x.shape[0], -1),
    samples=drawn(case((2, 3, 4))),
)
def batch_flatten(x):
    """(N, ...) -> (N, everything else)."""
    return f.reshape(x, (x.shape[0], size_of(x.shape[1:])))


@composite(np="atleast_1d", against="numpy.atleast_1d", samples=drawn(case(())))
def atleast_1d(*arys):
    """Arrays of at least 1 dimension."""
    out = [f.reshape(a, (1,)) if a.ndim == 0 else a for a in arys]
    return out[0] if len(out) == 1 else out


@composite(np="atleast_2d", against="numpy.atleast_2d", samples=drawn(case((3,))))
def atleast_2d(*arys):
    """Arrays of at least 2 dimensions; vectors become rows."""
    out = [f.reshape(a, (1, a.size)) if a.ndim < 2 else a for a in arys]
    return out[0] if len(out) == 1 else out


@composite(np="atleast_3d", against="numpy.atleast_3d", samples=drawn(case((3,)), case((2, 3))))
def atleast_3d(*arys):
    """Arrays of at least 3 dimensions; vectors become (1, n, 1), matrices (m, n, 1)."""
    out = [a if a.ndim >= 3 else f.expand_dims(a, 2) if a.ndim == 2 else f.reshape(a, (1, a.size, 1)) for a in arys]
    return out[0] if len(out) == 1 else out


@composite(np="rollaxis", against="numpy.rollaxis", samples=drawn(case((2, 3, 4), 2)))
def rollaxis(x, axis, start=0):
    """Moves ``axis`` to before ``start``."""
    axis = normal_axis("rollaxis", axis, x.ndim)
    start = start + x.ndim if start < 0 else start
    return f.moveaxis(x, axis, start - 1 if axis < start else start)


@composite(np="flipud", against="numpy.flipud", samples=drawn(case((2, 3))))
def flipud(x):
    """Reverses axis 0."""
    return f.flip(x, 0)


@composite(np="fliplr", against="numpy.fliplr", samples=drawn(case((2, 3))))
def fliplr(x):
    """Reverses axis 1."""
    return f.flip(x, 1)


@composite(npx="broadcast_like", nd="broadcast_like", against="numpy.broadcast_to")
def broadcast_like(lhs, rhs):
    """``lhs`` broadcast to the shape of ``rhs``.

    >>> npx.broadcast_like(np.ones((1, 2)), np.ones((3, 2))).shape
    (3, 2)
    """
    return f.broadcast_to(lhs, rhs.shape)


@composite(np="resize", against="numpy.resize", samples=drawn(case((2, 3), new_shape=(4, 5))))
def resize(a, new_shape):
    """The elements of ``a`` over and over until ``new_shape`` is full."""
    shape = as_shape("resize", new_shape)
    n = size_of(shape)
    flat = f.tile(f.reshape(a, (-1,)), -(-n // a.size)) if a.size else f.zeros((n,), a.dtype)
    return f.reshape(f.getitem(flat, ((0, n, None),)), shape)
