"""Reductions, one row each, and what else runs along an axis: argmax, argmin, cumulative sums and products.

Composites of these (var, std, norm, logsumexp, average) are with the layers that need them.
"""

from __future__ import annotations

import math
from typing import Any

from ...errors import ShapeError
from ..arguments import as_dtype, normal_axis
from ..dtypes import is_float
from ..kinds.kernel import kernel
from ..kinds.reduce import accumulate_dtype, count, reduce, reduced_shape
from ..primitives import e
from ..samples import case, drawn
from ..table import Plan, f

# A row reads as a paragraph.
# fmt: off
# --- sums and products ------------------------------------------------------------------------------------------------


def _spread_mean(g, x, y, axes):
    return g * (1 / max(count(x.shape, axes), 1))


def _prod_grad(g, x, y, axes):
    """g times the product of the other elements: y / x, but where x is 0 that of the rest if no other is 0."""
    zero = f.equal(x, 0)
    zeros = f.sum(zero, axes, keepdims=True)
    others = f.where(zero, 1, x)
    rest = f.prod(others, axes, keepdims=True)
    at_zero = f.where(f.equal(zeros, 1), rest, 0)
    elsewhere = f.where(f.equal(zeros, 0), rest, 0) / others
    return g * f.where(zero, at_zero, elsewhere)


reduce("sum", 0, lambda acc, x: acc + x, gives="sum", takes_dtype=True, grad=lambda g, x, y, axes: g, np="sum",
       nd="sum sum_axis", method="sum", against="numpy.sum",
       amp="float32",
       doc="Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32.",
       example=">>> np.sum(np.array([[1, 2], [3, 4]]), axis=1)\narray([3., 7.])")
reduce("mean", 0, lambda acc, x: acc + x, finish=lambda acc, n: acc / n, gives="float", takes_dtype=True,
       grad=_spread_mean, np="mean", nd="mean", method="mean", against="numpy.mean",
       amp="float32", doc="Sum over the number of elements; NaN of nothing.",
       example=">>> np.mean(np.array([[1, 2], [3, 4]]), axis=0, keepdims=True)\narray([[2., 3.]])")
reduce("prod", 1, lambda acc, x: acc * x, gives="sum", takes_dtype=True, grad=_prod_grad, np="prod", nd="prod",
       method="prod", domain=(0.5, 2.0), against="numpy.prod", amp="float32", doc="Product over the axes.",
       example=">>> np.prod(np.array([2, 3, 4]))\narray(24.)")
reduce("nansum", 0, lambda acc, x: acc + e.where(e.isnan(x), 0, x), combine=lambda acc, other: acc + other, gives="sum",
       takes_dtype=True, grad=lambda g, x, y, axes: f.where(f.isnan(x), 0, g), np="nansum", nd="nansum",
       against="numpy.nansum",
       amp="float32", doc="Sum over the axes; a NaN counts as 0.")
reduce("nanprod", 1, lambda acc, x: acc * e.where(e.isnan(x), 1, x), combine=lambda acc, other: acc * other,
       gives="sum", takes_dtype=True,
       grad=lambda g, x, y, axes: f.where(f.isnan(x), 0, _prod_grad(g, f.where(f.isnan(x), 1, x), y, axes)),
       np="nanprod", nd="nanprod", domain=(0.5, 2.0), against="numpy.nanprod",
       amp="float32", doc="Product over the axes; a NaN counts as 1.")
reduce("sum_squares", 0, lambda acc, x: acc + x * x, combine=lambda acc, other: acc + other, gives="sum",
       grad=lambda g, x, y, axes: g * (x + x),
       against=lambda a, axis, keepdims: (a * 1.0 * a).sum(axis, keepdims=keepdims),
       amp="float32", doc="Sum of x * x over the axes, in one pass: the piece of norms.")

# --- extremes ---------------------------------------------------------------------------------------------------------


def _share(g, x, y, axes):
    """The gradient goes in equal parts to the elements that are the extreme."""
    mask = f.equal(x, y)
    return f.where(mask, g / f.sum(mask, axes, dtype=as_dtype("max", g.dtype), keepdims=True), 0)


reduce("max", -math.inf, lambda acc, x: e.maximum(acc, x), grad=_share, needs_elements=True, np="max amax",
       nd="max max_axis", method="max", against="numpy.max", errors=[((((2, 0),), {"axis": 1}), ShapeError)],
       doc="Largest element, NaN if there is one. Equal ones share the gradient.",
       example=">>> np.max(np.array([[1, 5], [3, 4]]), axis=1)\narray([5., 4.])")
reduce("min", math.inf, lambda acc, x: e.minimum(acc, x), grad=_share, needs_elements=True, np="min amin",
       nd="min min_axis", method="min", against="numpy.min", errors=[((((2, 0),), {"axis": 1}), ShapeError)],
       doc="Smallest element, NaN if there is one. Equal ones share the gradient.",
       example=">>> np.min(np.array([[1, 5], [3, 4]]), axis=1)\narray([1., 3.])")
reduce("any", 0, lambda acc, x: e.logical_or(acc, x), gives="bool", np="any", method="any", against="numpy.any",
       doc="Is any element not zero? False of nothing.")
reduce("all", 1, lambda acc, x: e.logical_and(acc, x), gives="bool", np="all", method="all", against="numpy.all",
       doc="Are all elements not zero? True of nothing.")


def _arg_plan(name: str, a: Any, axis: int | None, keepdims: bool) -> Plan:
    axes = tuple(range(len(a.shape))) if axis is None else (normal_axis(name, axis, len(a.shape)),)
    if count(a.shape, axes) == 0 and 0 not in reduced_shape(a.shape, axes, False):
        got = f"shape {a.shape} and axis {axis}"
        raise ShapeError(name, "at least one element to search", got, "Check for emptiness first")
    attrs = {"loop": name, "axes": list(axes)}
    return Plan([(reduced_shape(a.shape, axes, keepdims), "int64")], "argreduce", attrs, contiguous=axis is None)


ARG_SAMPLES = drawn(case((2, 3, 4)), case((2, 3, 4), axis=1), case((2, 3, 4), axis=-1, keepdims=True))


@kernel(np="argmax", nd="argmax", method="argmax", against="numpy.argmax", samples=ARG_SAMPLES,
        errors=[((((2, 0),), {"axis": 1}), ShapeError)])
def argmax(a, /, axis=None, keepdims=False):
    """Position (int64) of the first largest element along ``axis``, or in C order over all; a NaN is the largest.

    >>> np.argmax(np.array([[1, 5], [4, 3]]), axis=1)
    array([1, 0], dtype=int64)
    """
    return _arg_plan("argmax", a, axis, keepdims)


@kernel(np="argmin", nd="argmin", method="argmin", against="numpy.argmin", samples=ARG_SAMPLES,
        errors=[((((2, 0),), {"axis": 1}), ShapeError)])
def argmin(a, /, axis=None, keepdims=False):
    """Position (int64) of the first smallest element along ``axis``, or in C order over all; a NaN is the smallest."""
    return _arg_plan("argmin", a, axis, keepdims)


# --- cumulative -------------------------------------------------------------------------------------------------------


def _scan_plan(name: str, a: Any, axis: int | None, dtype: Any) -> Plan:
    flat = axis is None
    at = 0 if axis is None else normal_axis(name, axis, len(a.shape))
    out = as_dtype(name, dtype, a.dtype if is_float(a.dtype) else "int64")
    shape = (math.prod(a.shape),) if flat else a.shape
    return Plan([(shape, out)], "scan", {"loop": name, "dtype": accumulate_dtype(out), "axis": at}, contiguous=flat)


def _from_the_end(g, axis):
    """Sum of the elements from each one to the last."""
    return f.flip(f.cumsum(f.flip(g, axis), axis), axis)


def _cumsum_grad(gs, ins, outs, attrs, needs):
    axis = attrs["axis"]
    gx = f.reshape(_from_the_end(gs[0], 0 if axis is None else axis), ins[0].shape)
    return [gx if gx.dtype == ins[0].dtype else f.cast(gx, as_dtype("cumsum", ins[0].dtype))]


def _cumprod_grad(gs, ins, outs, attrs, needs):
    axis = attrs["axis"]
    gx = f.reshape(_from_the_end(gs[0] * outs[0], 0 if axis is None else axis), ins[0].shape) / ins[0]
    return [gx if gx.dtype == ins[0].dtype else f.cast(gx, as_dtype("cumprod", ins[0].dtype))]


SCAN_SAMPLES = drawn(case((2, 3)), case((2, 3, 4), axis=1), case((2, 3), axis=-1), case((0, 3), axis=0))


@kernel(np="cumsum", nd="cumsum", method="cumsum", grad=_cumsum_grad, amp="float32", against="numpy.cumsum",
        samples=SCAN_SAMPLES)
def cumsum(a, /, axis=None, dtype=None):
    """Sum of the elements up to and with each one, along ``axis`` or over all in C order; integers in int64.

    >>> np.cumsum(np.array([1, 2, 3]))
    array([1., 3., 6.])
    """
    return _scan_plan("cumsum", a, axis, dtype)


@kernel(np="cumprod", nd="cumprod", method="cumprod", grad=_cumprod_grad, amp="float32", against="numpy.cumprod",
        samples=SCAN_SAMPLES)
def cumprod(a, /, axis=None, dtype=None):
    """Product of the elements up to and with each one. Its gradient divides by ``a``: NaN where an element is 0."""
    return _scan_plan("cumprod", a, axis, dtype)
