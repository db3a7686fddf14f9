"""Types for annotations: what the functions of np, npx and nd take. The stubs (minimx/ops/stubs.py) are written in
them."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Protocol, TypeAlias

import numpy

from .device import Device
from .ndarray import ndarray


class SupportsArray(Protocol):
    """An array of another library: NumPy's arrays and numbers, and whatever converts to them."""

    def __array__(self) -> numpy.ndarray[Any, Any]:
        """The values as a NumPy array."""
        ...


_Row: TypeAlias = Sequence[float] | Sequence[ndarray] | Sequence[SupportsArray]
_Nested: TypeAlias = _Row | Sequence[_Row] | Sequence[Sequence[_Row]] | Sequence[Sequence[Sequence[_Row]]]

# What becomes an array: arrays of any library, numbers, nested sequences of them.
ArrayLike: TypeAlias = ndarray | SupportsArray | float | _Nested
Shape: TypeAlias = int | Sequence[int]
Axis: TypeAlias = int | Sequence[int]
DType: TypeAlias = str | type | numpy.dtype[Any]
DeviceLike: TypeAlias = Device | str
_Key: TypeAlias = int | slice | None | EllipsisType | ndarray | SupportsArray | Sequence[int] | Sequence[Sequence[int]]
Index: TypeAlias = _Key | tuple[_Key, ...]

__all__ = ["ArrayLike", "Axis", "DType", "DeviceLike", "Index", "Shape", "SupportsArray"]
