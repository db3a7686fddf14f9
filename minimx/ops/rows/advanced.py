"""NumPy's advanced indexing: keys that hold index arrays or boolean masks, mixed with slices, integers and new axes.

``index_get`` and ``index_set`` are what ``x[key]`` and ``x[key] = v`` call when ``keys.canonical_key`` says that the
key is not basic. The plan is always the same: take the basic parts as a view, bring the indexed axes to the front,
join them into one, and take or put along it. Result axes go where NumPy puts them (Advanced indexing, "Combining
advanced and basic indexing").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import ArgumentTypeError, IndexOutOfBounds
from ..arguments import size_of
from ..keys import canonical_key
from ..kinds.composite import composite
from ..table import f
from .shape import inverse

WHOLE = (None, None, None)


def _array(k: Any) -> Any:
    """A list or NumPy array given as an index, as minimx's array. minimx's own may be of a float type."""
    if hasattr(k, "attach_grad"):
        return k
    import numpy

    a = numpy.asarray(k)
    if a.dtype.kind not in "biu" and a.size:
        rule = "integers, slices, None, '...', bools or arrays of them"
        raise ArgumentTypeError("index", rule, repr(k), "Cast to integers")
    return f.asarray(a if a.size or hasattr(k, "dtype") else a.astype("int64"))  # [] is a list of integers


def _is_array(k: Any) -> bool:
    return k is not None and k is not Ellipsis and not isinstance(k, slice) and canonical_key(k) is None


@dataclass
class Split:
    """A key taken apart. basic: the key of a view with every indexed axis whole; axes: the indexed axes of that view
    and arrays: their index arrays; single: axes of the view that an integer took; front: result axes of the arrays come
    first; before: else, how many other axes come before them."""

    basic: tuple
    axes: list[int]
    arrays: list
    single: list[int]
    front: bool
    before: int


def _parts(key: Any, shape: tuple[int, ...]) -> list:
    """The key as a list with one entry an axis: lists as arrays, masks as arrays of nonzero, Ellipsis written out."""
    asked = [_array(k) if _is_array(k) else k for k in (key if isinstance(key, tuple) else (key,))]
    width = [0 if k is None or k is Ellipsis else k.ndim if _is_mask(k) else 1 for k in asked]
    missing = len(shape) - sum(width)
    if missing < 0:
        raise IndexOutOfBounds("index", f"at most {len(shape)} indices", sum(width), "Drop some")
    dots = next((i for i, k in enumerate(asked) if k is Ellipsis), len(asked))
    asked[dots : dots + 1] = [slice(None)] * missing
    parts: list[Any] = []
    axis = 0
    for k in asked:
        if not _is_mask(k):
            parts.append(k)
            axis += k is not None
            continue
        if k.shape != shape[axis : axis + k.ndim]:
            rule = f"a mask of shape {shape[axis : axis + k.ndim]}"
            raise IndexOutOfBounds("index", rule, k.shape, "Masks have the shape of the axes they index")
        parts.extend(f.nonzero(k))
        axis += k.ndim
    return parts


def _is_mask(k: Any) -> bool:
    return hasattr(k, "attach_grad") and k.dtype == "bool"


def split_key(key: Any, shape: tuple[int, ...]) -> Split:
    """Takes ``key`` apart for an array of this shape."""
    parts = _parts(key, shape)
    s = Split((), [], [], [], False, 0)
    basic: list[Any] = []
    advanced: list[int] = []  # places in the key of arrays and integers: together they are the advanced part
    axis = 0
    for place, k in enumerate(parts):
        whole, number = _is_array(k), k is not None and not isinstance(k, slice) and not _is_array(k)
        if whole:
            s.axes.append(place)
            s.arrays.append(k)
            basic.append(WHOLE)
        elif number:
            i, n = int(k), shape[axis]
            if not -n <= i < n:
                raise IndexOutOfBounds(
                    "getitem", f"index in [{-n}, {n}) for axis {axis}", i, "Use an index the array has"
                )
            s.single.append(place)
            basic.append((i % n, i % n + 1, None))
        else:
            basic.append(None if k is None else (k.start, k.stop, k.step))
        if whole or number:
            advanced.append(place)
        axis += k is not None
    s.basic = tuple(basic)
    s.front = advanced[-1] - advanced[0] >= len(advanced)
    s.before = 0 if s.front else advanced[0]
    return s


def _joined(y: Any, s: Split) -> tuple[Any, Any, tuple[int, ...]]:
    """The view with indexed axes joined in front: array (n, *rest), positions, and the order of axes that got there."""
    rest = [a for a in range(y.ndim) if a not in s.axes and a not in s.single]
    order = (*s.axes, *s.single, *rest)
    dims = tuple(y.shape[a] for a in s.axes)
    flat = s.arrays[0] if len(s.arrays) == 1 else f.ravel_index(s.arrays, dims)
    return f.reshape(f.transpose(y, order), (size_of(dims), *(y.shape[a] for a in rest))), flat, order


def _moved(y: Any, n: int, s: Split, back: bool) -> Any:
    """Moves the ``n`` axes of the index arrays between the front and their place in the result."""
    if not s.before or not n:
        return y
    front, place = tuple(range(n)), tuple(range(s.before, s.before + n))
    return f.moveaxis(y, place, front) if back else f.moveaxis(y, front, place)


@composite(against="numpy indexing")
def index_get(x, key):
    """``x[key]`` for a key with index arrays or masks; a copy."""
    if _is_mask(key) and key.shape == x.shape:
        return f.take(x, f.flatnonzero(key))
    s = split_key(key, x.shape)
    y = x if all(b == WHOLE for b in s.basic) else f.getitem(x, s.basic)
    if len(s.axes) == 1 and not s.single:
        return f.take(y, s.arrays[0], s.axes[0])  # already where NumPy puts it
    joined, flat, _ = _joined(y, s)
    return _moved(f.take(joined, flat, 0), flat.ndim, s, False)


@composite(against="numpy assignment")
def index_set(x, key, value):
    """``x`` after ``x[key] = value``, as a new array; ``value`` broadcasts to the shape of ``x[key]``."""
    masks = key if isinstance(key, tuple) else (key,)
    if len(masks) == 1 and getattr(masks[0], "dtype", "") == "bool" and getattr(value, "size", 1) == 1:
        mask = _array(masks[0])
        scalar = f.reshape(value, ()) if hasattr(value, "shape") else value
        return f.cast(f.where(f.reshape(mask, mask.shape + (1,) * (x.ndim - mask.ndim)), scalar, x), x.dtype)
    s = split_key(key, x.shape)
    plain = all(b == WHOLE for b in s.basic)
    y = x if plain else f.getitem(x, s.basic)
    joined, flat, order = _joined(y, s)
    rest = joined.shape[1:]
    at = s.before
    result = (*rest[:at], *flat.shape, *rest[at:])
    v = f.broadcast_to(value, result) if hasattr(value, "shape") else f.full(result, value, x.dtype)
    put = f.put(_moved(v, flat.ndim, s, True), flat, joined, joined.shape, 0, "raise", "set")
    y = f.transpose(f.reshape(put, tuple(y.shape[a] for a in order)), inverse(order))
    return y if plain else f.slice_set(x, y, s.basic)


@composite(npx="boolean_mask", nd="contrib_boolean_mask", against=lambda x, m: x[m.astype(bool)])
def boolean_mask(data, index, axis=0):
    """Slices of ``data`` along ``axis`` where ``index`` is not 0. The shape depends on the data: not under trace.

    >>> npx.boolean_mask(np.array([[1, 2], [3, 4]]), np.array([0, 1]))
    array([[3., 4.]])
    """
    return f.take(data, f.nonzero(index)[0], axis)
