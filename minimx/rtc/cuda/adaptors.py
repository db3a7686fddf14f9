"""Names that show operands to another factory in another way: only Specs change, the memory stays as it is.

The twin of csrc/cpu/adaptors.cc, for recipes and for the kernels of cuDNN and cuBLASLt alike:

    channels_last   operands of 3 or more axes are (N, *spatial, C); "kernel_name" sees them as (N, C, *spatial)
    matmul_any      matmul with a vector as "a" (a row) or "b" (a column)
    reorder         cast to the same type
    linear(x, w[, b]) -> y     x (rows..., in) w (out, in)^T + b: matmul(x, w^T, b), rows in one axis
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ...ops.table import Spec
from ..group import c_strides

Call = tuple[str, list[Spec], list[Spec], dict[str, Any]]  # name, inputs, outputs, attributes


def channels_last(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Call:
    """The kernel of "kernel_name", with the last axis moved behind the first."""
    return attrs["kernel_name"], [channels_first(s) for s in ins], [channels_first(s) for s in outs], attrs


def channels_first(s: Spec) -> Spec:
    """(N, *spatial, C) as (N, C, *spatial); vectors and matrices as they are."""
    if len(s.shape) < 3:
        return s

    def moved(t: tuple[int, ...]) -> tuple[int, ...]:
        return (t[0], t[-1], *t[1:-1])

    return s._replace(shape=moved(s.shape), strides=moved(s.strides))


def matmul_any(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Call:
    """matmul of a row or a column, or both."""
    (a, b), c = ins, outs[0]
    if attrs["b"]:
        b, c = with_axis(b, 1, 0), with_axis(c, len(c.shape), 1)
    if attrs["a"]:
        a, c = with_axis(a, 0, 0), with_axis(c, len(c.shape) - 1, c.shape[-1])
    return "matmul", [a, b], [c], {}


def with_axis(s: Spec, axis: int, stride: int) -> Spec:
    """``s`` with an axis of extent 1 inserted at ``axis``."""
    shape, strides = list(s.shape), list(s.strides)
    shape.insert(axis, 1)
    strides.insert(axis, stride)
    return s._replace(shape=tuple(shape), strides=tuple(strides))


def linear(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Call:
    """matmul of the rows of x and the transposed weights."""
    x, w, *bias = ins
    wt = w._replace(shape=w.shape[::-1], strides=w.strides[::-1])
    y = as_rows(outs[0], math.prod(outs[0].shape[:-1]), w.shape[0])
    return "matmul", [as_rows(x, y.shape[0], w.shape[1]), wt, *bias], [y], attrs


def reorder(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Call:
    """A copy between strides: GPUs have no other layouts."""
    return "cast", list(ins), list(outs), {}


def as_rows(s: Spec, rows: int, columns: int) -> Spec:
    """``s`` as a matrix. Of other than two axes it is contiguous: the rule of the row wants it."""
    shape = (rows, columns)
    return s._replace(shape=shape, strides=s.strides if len(s.shape) == 2 else c_strides(shape))


ADAPTORS: dict[str, Callable[[Sequence[Spec], Sequence[Spec], dict[str, Any]], Call]] = {
    "channels_last": channels_last,
    "matmul_any": matmul_any,
    "reorder": reorder,
    "linear": linear,
}
