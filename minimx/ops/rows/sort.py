"""Order: argsort, sort, topk, and searches in sorted arrays. One kernel sorts the last axis; gradients go by the
positions."""

from __future__ import annotations

from ...errors import ArgumentError
from ..arguments import as_dtype, normal_axis
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, f


@kernel(
    against=lambda x, k=None, descending=False: (x * (-1.0 if descending else 1.0)).argsort(-1, kind="stable")[..., :k],
    samples=drawn(case((3, 7)), case((3, 7), k=2, descending=True)),
    errors=[((((3,),), {"k": 4}), ArgumentError)],
)
def argsort_to(x, /, k=None, descending=False):
    """Positions of the first ``k`` elements (all by default) of each row of the last axis in sorted, stable order."""
    n = x.shape[-1]
    k = n if k is None else k
    if not 0 <= k <= n:
        raise ArgumentError("topk", f"k in [0, {n}]", k, "Ask for as many as there are")
    return Plan([((*x.shape[:-1], k), "int64")], "argsort", {"k": k, "descending": int(descending)}, contiguous=True)


def _last(x, axis):
    """``x`` with ``axis`` at the end (flattened for None), and the axis to put back."""
    if axis is None:
        return f.reshape(x, (-1,)), 0
    a = normal_axis("sort", axis, x.ndim)
    return (x if a == x.ndim - 1 else f.swapaxes(x, a, -1)), a


def _back(y, axis):
    return y if axis == y.ndim - 1 else f.swapaxes(y, axis, -1)


@composite(
    np="argsort",
    method="argsort",
    against=lambda a, axis=-1: a.argsort(axis, kind="stable"),
    samples=drawn(case((3, 7)), case((3, 7), axis=0), case((3, 2), axis=None)),
)
def argsort(a, axis=-1, descending=False, stable=True, kind=None, order=None):
    """Positions that sort ``a`` along ``axis``; stable.

    >>> np.argsort(np.array([3, 1, 2]))
    array([1, 2, 0], dtype=int64)
    """
    x, at = _last(a, axis)
    return _back(f.argsort_to(x, None, descending), at)


@composite(
    np="sort",
    method="sort",
    against="numpy.sort",
    samples=drawn(case((3, 7)), case((3, 7), axis=0), case((3, 2), axis=None)),
)
def sort(a, axis=-1, descending=False, stable=True, kind=None, order=None):
    """``a`` sorted along ``axis``.

    >>> np.sort(np.array([3, 1, 2]))
    array([1., 2., 3.])
    """
    x, at = _last(a, axis)
    return _back(f.gather_elements(x, f.argsort_to(x, None, descending)), at)


@composite(name="nd_sort", nd="sort", against="numpy.sort")
def nd_sort(data, axis=-1, is_ascend=True):
    """Gluon 1's sort.

    >>> nd.sort(nd.array([3, 1, 2]), is_ascend=False)
    array([3., 2., 1.])
    """
    return sort(data, axis, not is_ascend)


@composite(name="nd_argsort", nd="argsort", against="numpy.argsort")
def nd_argsort(data, axis=-1, is_ascend=True, dtype="float32"):
    """Gluon 1's argsort.

    >>> nd.argsort(nd.array([3, 1, 2]))
    array([1., 2., 0.])
    """
    return f.cast(argsort(data, axis, not is_ascend), dtype)


@composite(npx="topk", nd="topk", against="numpy.argsort")
def topk(data, axis=-1, k=1, ret_typ="indices", is_ascend=False, dtype="float32"):
    """The ``k`` largest (``is_ascend``: smallest) elements along ``axis``.

    ret_typ: "indices" (of type ``dtype``), "value", "both" (values, indices), or "mask" (1 at those places).

    >>> npx.topk(np.array([3, 1, 2]), k=2, ret_typ="value")
    array([3., 2.])
    """
    x, at = _last(data, axis)
    places = f.argsort_to(x, k if k > 0 else None, not is_ascend)
    if ret_typ == "indices":
        return f.cast(_back(places, at), as_dtype("topk", dtype))
    if ret_typ == "value":
        return _back(f.gather_elements(x, places), at)
    if ret_typ == "both":
        return _back(f.gather_elements(x, places), at), f.cast(_back(places, at), as_dtype("topk", dtype))
    if ret_typ != "mask":
        raise ArgumentError("topk", "ret_typ indices, value, both or mask", ret_typ, "Use one of them")
    return _back(f.put_elements(f.ones(places.shape, as_dtype("topk", data.dtype)), places, None, x.shape), at)
