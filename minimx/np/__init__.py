"""``mx.np``: NumPy's functions on minimx arrays, made from the operator table (minimx/ops/rows).

Types default to float32. Submodules: ``random``, ``linalg``. For editors and type checkers the functions are in
``__init__.pyi``, written by ``python -m minimx.ops stubs``.
"""

from __future__ import annotations

import ml_dtypes as _ml_dtypes
import numpy as _numpy

from .. import functions as _functions
from ..ndarray import array, asarray, from_dlpack, ndarray
from ..ndarray import shares_memory as shares_memory

float16, float32, float64 = _numpy.float16, _numpy.float32, _numpy.float64
bfloat16 = _ml_dtypes.bfloat16
int8, int16, int32, int64, uint8 = _numpy.int8, _numpy.int16, _numpy.int32, _numpy.int64, _numpy.uint8
bool_ = bool = _numpy.bool_
pi, e, inf, nan, newaxis = _numpy.pi, _numpy.e, _numpy.inf, _numpy.nan, None
euler_gamma = _numpy.euler_gamma
NaN = NAN = nan
PINF, NINF, PZERO, NZERO = inf, -inf, 0.0, -0.0
dtype, finfo, iinfo = _numpy.dtype, _numpy.finfo, _numpy.iinfo
asanyarray = ascontiguousarray = asarray
may_share_memory = shares_memory
set_printoptions = _numpy.set_printoptions

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


def genfromtxt(fname: object, dtype: object = float32, **kwargs: object) -> ndarray:
    """The array that ``numpy.genfromtxt`` reads from a text file; missing values are NaN."""
    return array(_numpy.genfromtxt(fname, dtype=dtype, **kwargs))  # type: ignore[call-overload]


__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
