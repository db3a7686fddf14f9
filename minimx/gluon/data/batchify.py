"""Batchify functions: a list of samples in, one batch of numpy arrays out. They run in the workers.

The loader turns the arrays of the result into minimx arrays. Stack and Pad handle one element of a sample; Group gives
each element its own function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._bridge import is_mx
from ...errors import ArgumentError, ShapeError


def as_array(value: Any, dtype: Any = None) -> np.ndarray:
    """``value`` as a numpy array; Python floats become float32, minimx's default, unless ``dtype`` says otherwise."""
    array = np.asarray(value.asnumpy() if is_mx(value) else value, dtype=dtype)
    is_typed = is_mx(value) or isinstance(value, (np.ndarray, np.generic))
    return array.astype(np.float32) if dtype is None and not is_typed and array.dtype == np.float64 else array


class Stack:
    """Stack samples of one shape along a new first axis: ``n`` samples ``(d1, d2)`` give ``(n, d1, d2)``."""

    def __init__(self, dtype: Any = None) -> None:
        self._dtype = dtype

    def __call__(self, data: Sequence[Any]) -> np.ndarray:
        arrays = [as_array(item, self._dtype) for item in data]
        shapes = {a.shape for a in arrays}
        if len(shapes) > 1:
            raise ShapeError(
                "batchify.Stack",
                "samples of one shape",
                f"shapes {sorted(shapes)[:4]}",
                "Resize or crop in a transform, or give the loader batchify_fn=batchify.Pad() or Append()",
            )
        return np.stack(arrays)


class Pad:
    """Pad every axis to the longest of the batch with ``val`` and stack: ``(3,)`` and ``(5,)`` give ``(2, 5)``.

    ``round_to`` rounds each padded size up to a multiple, so that fewer different shapes occur. ``ret_length`` adds
    the samples' first sizes as an int32 array ``(n,)``. ``axis`` limits the padding to one axis.
    """

    def __init__(
        self,
        val: float = 0,
        dtype: Any = None,
        round_to: int | None = None,
        axis: int | None = None,
        ret_length: bool = False,
    ) -> None:
        if round_to is not None and round_to < 1:
            raise ArgumentError("batchify.Pad", "round_to >= 1 or None", round_to)
        self._val, self._dtype, self._round_to, self._axis, self._ret_length = val, dtype, round_to, axis, ret_length

    def __call__(self, data: Sequence[Any]) -> Any:
        arrays = [as_array(item, self._dtype) for item in data]
        if len({a.ndim for a in arrays}) > 1 or arrays[0].ndim == 0:
            raise ShapeError("batchify.Pad", "samples of one number of axes, at least 1", [a.shape for a in arrays[:4]])
        sizes = np.array([a.shape for a in arrays]).max(axis=0)
        axes = range(len(sizes)) if self._axis is None else [self._axis]
        if self._round_to:
            for axis in axes:
                sizes[axis] = math.ceil(sizes[axis] / self._round_to) * self._round_to
        out = np.full((len(arrays), *sizes), self._val, dtype=np.result_type(*arrays))
        kept = {axis % len(sizes) for axis in axes}
        for row, array in zip(out, arrays, strict=True):
            if any(array.shape[i] != sizes[i] for i in range(len(sizes)) if i not in kept):
                raise ShapeError("batchify.Pad", f"sizes that differ along axis {self._axis} only", array.shape)
            row[tuple(slice(n) for n in array.shape)] = array
        lengths = np.array([len(a) for a in arrays], dtype=np.int32)
        return (out, lengths) if self._ret_length else out


class Append:
    """A list with one array per sample, of any shapes; ``expand`` (the default) puts a batch axis of 1 in front."""

    def __init__(self, expand: bool = True, batch_axis: int = 0) -> None:
        self._expand, self._batch_axis = expand, batch_axis

    def __call__(self, data: Sequence[Any]) -> list[np.ndarray]:
        arrays = [as_array(item) for item in data]
        return [np.expand_dims(a, self._batch_axis) for a in arrays] if self._expand else arrays


class AsList:
    """The samples in a plain list, untouched: for strings and other things that are not arrays."""

    def __call__(self, data: Sequence[Any]) -> list[Any]:
        return list(data)


class Group:
    """One function for each element of the samples: ``Group(Stack(), Pad())`` or ``Group([Stack(), Pad()])``."""

    def __init__(self, fn: Callable[..., Any] | Sequence[Callable[..., Any]], *fns: Callable[..., Any]) -> None:
        self._fns = (fn, *fns) if callable(fn) else tuple(fn)
        if not all(callable(f) for f in self._fns):
            raise ArgumentError("batchify.Group", "functions", [type(f).__name__ for f in self._fns])

    def __call__(self, data: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        if len(data[0]) != len(self._fns):
            raise ArgumentError("batchify.Group", f"samples of {len(self._fns)} elements", f"{len(data[0])} elements")
        return tuple(fn(column) for fn, column in zip(self._fns, zip(*data, strict=True), strict=True))


Tuple = Group


def default_batchify_fn(data: Sequence[Any]) -> Any:
    """Stack arrays and numbers; a tuple becomes a list with one batch per element, a dict a dict; text a list."""
    first = data[0]
    if isinstance(first, (tuple, list)):
        if len({len(item) for item in data}) > 1:
            raise ShapeError("default_batchify_fn", "samples of one length", sorted({len(item) for item in data}))
        return [default_batchify_fn(column) for column in zip(*data, strict=True)]
    if isinstance(first, dict):
        return {key: default_batchify_fn([item[key] for item in data]) for key in first}
    if isinstance(first, (str, bytes)) or first is None:
        return list(data)
    return Stack()(data)
