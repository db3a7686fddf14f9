"""``mx.np``: NumPy's functions on minimx arrays, made from the operator table (minimx/ops/rows).

Types default to float32. Submodules: ``random``, ``linalg``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as _numpy

from .. import functions as _functions
from ..ndarray import array, asarray, from_dlpack, ndarray

float16, float32, float64 = _numpy.float16, _numpy.float32, _numpy.float64
bfloat16 = ml_dtypes.bfloat16
int8, int16, int32, int64, uint8 = _numpy.int8, _numpy.int16, _numpy.int32, _numpy.int64, _numpy.uint8
bool_ = bool = _numpy.bool_
pi, e, inf, nan, newaxis = _numpy.pi, _numpy.e, _numpy.inf, _numpy.nan, None
euler_gamma = _numpy.euler_gamma
dtype, finfo, iinfo = _numpy.dtype, _numpy.finfo, _numpy.iinfo
asanyarray = ascontiguousarray = asarray

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Functions come from the table at import."""


globals().update({name: f for name, f in _functions.names("np").items() if "." not in name})

from . import linalg, random  # noqa: E402


def shape(a: ndarray) -> tuple[int, ...]:
    """``a.shape``."""
    return asarray(a).shape


def ndim(a: ndarray) -> int:
    """``a.ndim``."""
    return asarray(a).ndim


def size(a: ndarray) -> int:
    """``a.size``."""
    return asarray(a).size


def may_share_memory(a: ndarray, b: ndarray) -> _numpy.bool_:
    """True if both arrays look at one block of memory."""
    from ..ndarray import _core

    return _core.shares_memory(a, b)


shares_memory = may_share_memory
set_printoptions = _numpy.set_printoptions

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
