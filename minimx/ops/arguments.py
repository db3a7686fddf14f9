"""How rules read their arguments: element types, axes, shapes, strides. Errors name the operator and the way out.

Indexing keys have a file of their own, keys.py. Standard library only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, DTypeError, IndexOutOfBounds, ShapeError
from .dtypes import BY_NAME, FLOATS
from .table import Spec

NUMBER_TYPES = {bool: "bool", int: "int64", float: "float64"}  # of numbers whose row gives no type
PYTHON_TYPES = {float: "float32", int: "int64", bool: "bool"}


def as_dtype(where: str, dtype: Any, default: str = "float32") -> str:
    """The name of ``dtype``: a name, a NumPy type or dtype, or Python's float (float32), int (int64) and bool."""
    if dtype is None:
        return default
    name = (
        dtype
        if isinstance(dtype, str)
        else PYTHON_TYPES.get(dtype) or getattr(dtype, "name", getattr(dtype, "__name__", dtype))
    )
    name = {"bool_": "bool", "half": "float16", "float": "float32", "double": "float64", "int": "int64"}.get(name, name)
    if name not in BY_NAME:
        raise DTypeError(where, "one of " + ", ".join(BY_NAME), name, "Use a type that minimx has")
    return name


def float_of(dtype: str) -> str:
    """``dtype`` if it is a float, else float32: the type of results that cannot be integers."""
    return dtype if dtype in FLOATS else "float32"


def normal_axis(where: str, axis: int, ndim: int) -> int:
    """``axis`` counted from the front."""
    if not -ndim <= axis < ndim:
        raise IndexOutOfBounds(
            where, f"axis in [{-ndim}, {ndim})", f"{axis} for {ndim} dimensions", "Use an axis the array has"
        )
    return axis % ndim


def ordered_axes(where: str, axes: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """``axes`` counted from the front, distinct, in the order given."""
    out = tuple(normal_axis(where, a, ndim) for a in ((axes,) if isinstance(axes, int) else axes))
    if len(set(out)) != len(out):
        raise ArgumentError(where, "distinct axes", axes, "Drop the repeated one")
    return out


def as_shape(where: str, shape: Any) -> tuple[int, ...]:
    """A shape from an integer or a sequence of them; none may be negative. None is the shape of a scalar."""
    if shape is None:
        return ()
    try:
        out = (
            (operator.index(shape),)
            if not isinstance(shape, (tuple, list))
            else tuple(operator.index(d) for d in shape)
        )
    except TypeError:
        raise ArgumentTypeError(where, "a shape of integers", shape, "Pass an int or a tuple of ints") from None
    if any(d < 0 for d in out):
        raise ShapeError(where, "dimensions of at least 0", out, "Give every size")
    return out


def per_axis(where: str, name: str, value: Any, n: int, default: int, low: int = 0) -> tuple[int, ...]:
    """An attribute with one integer for each of ``n`` axes: an int is repeated, None or () is the default."""
    if value is None or value == () or value == []:
        return (default,) * n
    out = (value,) * n if isinstance(value, int) else tuple(int(v) for v in value)
    if len(out) != n or min(out) < low:
        raise ArgumentError(where, f"{name} of {n} integers of at least {low}", value, "Give one for each spatial axis")
    return out


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array."""
    out = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        out[i] = out[i + 1] * max(shape[i + 1], 1)
    return tuple(out)


def number_spec(x: float) -> Spec:
    """What a rule sees of a number of the code."""
    return Spec((), NUMBER_TYPES[type(x)], (), True)


def strides_of(x: Spec) -> tuple[int, ...]:
    """Strides of an operand; left out means C-contiguous."""
    return x.strides if len(x.strides) == len(x.shape) else c_strides(x.shape)


def size_of(shape: Sequence[int]) -> int:
    """Number of elements."""
    return math.prod(shape)
