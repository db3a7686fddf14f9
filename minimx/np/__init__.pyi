"""``mx.np``: NumPy's functions on minimx arrays, made from the operator table (minimx/ops/rows).

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from . import linalg, random
from minimx._core import ndarray
from minimx.ndarray import (
    array, asarray as asanyarray, asarray, asarray as ascontiguousarray, from_dlpack,
    shares_memory as may_share_memory, shares_memory,
)
from ml_dtypes import bfloat16
from numpy import (
    bool, bool as bool_, dtype, finfo, float16, float32, float64, iinfo, int16, int32, int64, int8,
    set_printoptions, uint8,
)

__all__ = [
    "NAN", "NINF", "NZERO", "NaN", "PINF", "PZERO", "abs", "absolute", "acos", "acosh", "add", "all", "allclose",
    "amax", "amin", "any", "append", "arange", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2",
    "arctanh", "argmax", "argmin", "argsort", "argwhere", "around", "array", "array_equal", "array_split",
    "asanyarray", "asarray", "ascontiguousarray", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d",
    "atleast_2d", "atleast_3d", "average", "bfloat16", "bincount", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "blackman", "bool",
    "bool_", "broadcast_to", "cbrt", "ceil", "clip", "column_stack", "concat", "concatenate", "copy", "copysign",
    "cos", "cosh", "cov", "cross", "cumprod", "cumsum", "deg2rad", "degrees", "delete", "diag", "diag_indices_from",
    "diagflat", "diagonal", "diff", "divide", "dot", "dsplit", "dstack", "dtype", "e", "ediff1d", "einsum", "empty",
    "empty_like", "equal", "euler_gamma", "exp", "exp2", "expand_dims", "expm1", "eye", "fabs", "fill_diagonal",
    "finfo", "fix", "flatnonzero", "flip", "fliplr", "flipud", "float16", "float32", "float64", "floor",
    "floor_divide", "fmax", "fmin", "fmod", "from_dlpack", "full", "full_like", "gcd", "genfromtxt", "greater",
    "greater_equal", "hamming", "hanning", "heaviside", "histogram", "hsplit", "hstack", "hypot", "identity",
    "iinfo", "indices", "inf", "inner", "insert", "int16", "int32", "int64", "int8", "interp", "invert", "isclose",
    "isfinite", "isinf", "isnan", "isneginf", "isposinf", "kron", "lcm", "ldexp", "left_shift", "less",
    "less_equal", "linalg", "linspace", "log", "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not",
    "logical_or", "logical_xor", "logspace", "logsumexp", "matmul", "max", "maximum", "may_share_memory", "mean",
    "median", "meshgrid", "min", "minimum", "mod", "moveaxis", "multiply", "nan", "nan_to_num", "nanmax", "nanmean",
    "nanmin", "nanprod", "nansum", "ndarray", "ndim", "negative", "newaxis", "nonzero", "not_equal", "ones",
    "ones_like", "outer", "pad", "percentile", "permute_dims", "pi", "polyval", "positive", "pow", "power", "prod",
    "ptp", "quantile", "rad2deg", "radians", "random", "ravel", "reciprocal", "remainder", "repeat", "reshape",
    "resize", "right_shift", "rint", "roll", "rollaxis", "rot90", "round", "round_", "row_stack", "searchsorted",
    "set_printoptions", "shape", "shares_memory", "sign", "signbit", "sin", "sinh", "size", "sort", "split", "sqrt",
    "square", "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan", "tanh",
    "tensordot", "tile", "trace", "transpose", "tri", "tril", "tril_indices", "triu", "triu_indices",
    "triu_indices_from", "true_divide", "trunc", "uint8", "unique", "unravel_index", "var", "vdot", "vecdot",
    "vsplit", "vstack", "where", "zeros", "zeros_like",
]

def abs(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """|x|; its gradient at 0 is 0."""
def add(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 + x2; of bools: either."""
def all(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Are all elements not zero? True of nothing."""
def allclose(a: ArrayLike, b: ArrayLike, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: _bool = False) -> ndarray:
    """True where all elements are close; an array of shape ()."""
def any(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Is any element not zero? False of nothing."""
def append(arr: Any, values: ArrayLike, axis: Axis | None = None) -> ndarray:
    """``arr`` followed by ``values``."""
def arange(
    start: float = 0, stop: float | None = None, step: float | Sequence[int | None] = 1, dtype: DType | None = None,
    *, out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """start, start + step, ... up to but without ``stop``; one argument alone is ``stop``. float32 unless told
    otherwise."""
def arccos(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Inverse cosine, in [0, pi]."""
def arccosh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(x + sqrt(x^2 - 1)), not negative."""
def arcsin(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Inverse sine, in [-pi/2, pi/2]."""
def arcsinh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(x + sqrt(x^2 + 1))."""
def arctan(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Inverse tangent, in [-pi/2, pi/2]."""
def arctan2(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Angle of the point (x2, x1), in [-pi, pi]."""
def arctanh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln((1 + x) / (1 - x)) / 2."""
def argmax(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Position (int64) of the first largest element along ``axis``, or in C order over all; a NaN is the largest."""
def argmin(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Position (int64) of the first smallest element along ``axis``, or in C order over all; a NaN is the smallest."""
def argsort(
    a: ArrayLike, axis: Axis = -1, descending: _bool = False, stable: _bool = True, kind: str | None = None,
    order: str | None = None
) -> ndarray:
    """Positions that sort ``a`` along ``axis``; stable."""
def argwhere(x: ArrayLike) -> ndarray:
    """nonzero as rows of one array."""
def array_equal(a1: Any, a2: Any) -> _bool:
    """True if shapes and all elements agree."""
def array_split(ary: Any, indices_or_sections: Shape, axis: Axis = 0) -> list[ndarray]:
    """Like split; the first parts are one longer where the length does not divide."""
def atleast_1d(*arys: Any) -> ndarray:
    """Arrays of at least 1 dimension."""
def atleast_2d(*arys: Any) -> ndarray:
    """Arrays of at least 2 dimensions; vectors become rows."""
def atleast_3d(*arys: Any) -> ndarray:
    """Arrays of at least 3 dimensions; vectors become (1, n, 1), matrices (m, n, 1)."""
def average(
    a: ArrayLike, axis: Axis | None = None, weights: ArrayLike | None = None, returned: _bool = False,
    out: ndarray | None = None
) -> ndarray:
    """Mean with weights, of a's shape or along ``axis``."""
def bincount(x: ArrayLike, weights: ArrayLike | None = None, minlength: int = 0) -> ndarray:
    """How often each number below max(x) + 1 occurs, or the sum of its weights."""
def bitwise_and(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Bits set in both."""
def bitwise_not(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Every bit flipped; of bools: not."""
def bitwise_or(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Bits set in either."""
def bitwise_xor(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Bits set in one."""
def blackman(
    M: int, dtype: DType | None = None, ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """The blackman window of M points."""
def broadcast_to(x: ArrayLike, shape: Shape = ()) -> ndarray:
    """Shows ``x`` in a larger shape by repeating axes of length 1, without a copy."""
def cbrt(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Cube root."""
def ceil(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Up to a whole number."""
def clip(
    x: ArrayLike, a_min: ArrayLike | None = None, a_max: ArrayLike | None = None, *, out: ndarray | None = None
) -> ndarray:
    """min(max(x, a_min), a_max); either bound may be None."""
def column_stack(arrays: Any) -> ndarray:
    """Joins along axis 1; vectors count as columns."""
def concatenate(xs: Sequence[ArrayLike] | ndarray, axis: Axis = 0, *, out: ndarray | None = None) -> ndarray:
    """Joins arrays along an existing axis; ``axis=None`` joins them flattened."""
def copy(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """The same elements in memory of their own, in C order."""
def copysign(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """|x1| with the sign of x2, also that of -0."""
def cos(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Cosine of x in radians."""
def cosh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """(e^x + e^-x) / 2."""
def cov(m: Any, rowvar: _bool = True, bias: ArrayLike = False, ddof: int | None = None) -> ndarray:
    """Covariance of variables in rows (or columns)."""
def cross(a: ArrayLike, b: ArrayLike, axis: Axis = -1) -> ndarray:
    """Vector product of 3-vectors along ``axis``."""
def cumprod(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, *, out: ndarray | None = None
) -> ndarray:
    """Product of the elements up to and with each one."""
def cumsum(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, *, out: ndarray | None = None
) -> ndarray:
    """Sum of the elements up to and with each one, along ``axis`` or over all in C order; integers in int64."""
def degrees(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Radians as degrees."""
def delete(arr: Any, obj: Any, axis: Axis | None = None) -> ndarray:
    """Without the slices at positions ``obj``."""
def diag(v: ArrayLike, k: int = 0) -> ndarray:
    """The diagonal k of a matrix, or the matrix with a vector on that diagonal."""
def diag_indices_from(arr: Any) -> tuple[ndarray, ...]:
    """Positions of the main diagonal: one array for each axis."""
def diagflat(v: ArrayLike, k: int = 0) -> ndarray:
    """The matrix with the elements of ``v`` on the diagonal k."""
def diagonal(x: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
    """Elements (i, i + offset) of the matrices spanned by two axes; the diagonal is the last axis of the result."""
def diff(a: ArrayLike, n: int = 1, axis: Axis = -1) -> ndarray:
    """a[i + 1] - a[i] along ``axis``, n times."""
def divide(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 / x2; of integers in float32."""
def dot(a: ArrayLike, b: ArrayLike, out: ndarray | None = None) -> ndarray:
    """Product over the last axis of ``a`` and the second-to-last (or only) of ``b``; with a scalar, multiply."""
def dsplit(ary: Any, indices_or_sections: Shape) -> list[ndarray]:
    """split along axis 2."""
def dstack(arrays: Any) -> ndarray:
    """Joins along axis 2 after making every array at least 3-dimensional."""
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> ndarray:
    """Differences of the flattened array, with values put before and after."""
def einsum(subscripts: str, *operands: Any, optimize: _bool = True) -> ndarray:
    """Einstein's summation: 'ij,jk->ik'."""
def empty(
    shape: Shape = (), dtype: DType | None = None, order: str = 'C', *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Memory as it is found: the values mean nothing."""
def empty_like(
    prototype: Any, dtype: DType | None = None, order: str = 'C', *, device: DeviceLike | None = None,
    ctx: DeviceLike | None = None
) -> ndarray:
    """Uninitialised memory of the prototype's shape and type."""
def equal(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 == x2."""
def exp(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """e to the power x."""
def exp2(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """2 to the power x."""
def expand_dims(x: ArrayLike, axis: Axis = 0) -> ndarray:
    """Puts axes of length 1 at the places ``axis`` of the result."""
def expm1(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """e^x - 1, exact near 0."""
def eye(
    N: int = 0, M: int | None = None, k: int = 0, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Ones on the diagonal k of an (N, M) matrix, zeros elsewhere."""
def fill_diagonal(a: ArrayLike, val: Any, wrap: _bool = False) -> Any:
    """Sets the diagonal of a matrix in place."""
def flatnonzero(x: ArrayLike) -> ndarray:
    """Positions in the flattened array."""
def flip(x: ArrayLike, axis: Axis | None = None) -> ndarray:
    """Reverses the order of elements along the axes (all by default)."""
def fliplr(x: ArrayLike) -> ndarray:
    """Reverses axis 1."""
def flipud(x: ArrayLike) -> ndarray:
    """Reverses axis 0."""
def floor(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Down to a whole number."""
def floor_divide(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Largest whole number not above x1 / x2."""
def fmax(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """The larger one; a NaN gives way to a number."""
def fmin(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """The smaller one; a NaN gives way to a number."""
def fmod(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 - x2 * trunc(x1 / x2), of the sign of x1."""
def full(
    shape: Shape, fill_value: float, dtype: DType | None = None, order: str = 'C', *,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """``fill_value`` everywhere."""
def full_like(
    a: ArrayLike, fill_value: float, dtype: DType | None = None, order: str = 'C', *,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """``fill_value`` in a's shape and type."""
def gcd(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Greatest common divisor, not negative."""
def greater(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 > x2."""
def greater_equal(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 >= x2."""
def hamming(
    M: int, dtype: DType | None = None, ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """The hamming window of M points."""
def hanning(
    M: int, dtype: DType | None = None, ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """The hanning window of M points."""
def heaviside(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """0 for negative x1, 1 for positive, x2 at 0."""
def histogram(
    a: ArrayLike, bins: Any = 10, range: Any = None, weights: ArrayLike | None = None, density: Any = None
) -> tuple[ndarray, ...]:
    """(counts, edges of the bins)."""
def hsplit(ary: Any, indices_or_sections: Shape) -> list[ndarray]:
    """split along axis 1 (axis 0 of a vector)."""
def hstack(arrays: Any) -> ndarray:
    """Joins along axis 1, vectors along axis 0."""
def hypot(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """sqrt(x1^2 + x2^2) without overflow in between; the gradient at (0, 0) is 0."""
def identity(
    n: Any, dtype: DType | None = None, *, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """The identity matrix."""
def indices(
    dimensions: Shape, dtype: DType = 'int64', ctx: DeviceLike | None = None, *, device: DeviceLike | None = None
) -> ndarray:
    """Array of shape (n, *dimensions): the index along each axis."""
def inner(a: ArrayLike, b: ArrayLike) -> ndarray:
    """Product summed over the last axes."""
def insert(arr: Any, obj: Any, values: ArrayLike, axis: Axis | None = None) -> ndarray:
    """With ``values`` put before the position ``obj`` (an integer) along ``axis``."""
def interp(
    x: ArrayLike, grid: ArrayLike, values: ArrayLike, left: Any = None, right: Any = None, period: Any = None, *,
    out: ndarray | None = None
) -> ndarray:
    """Linear interpolation at ``x`` between points (grid, values); grid rises."""
def isclose(a: ArrayLike, b: ArrayLike, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: _bool = False) -> ndarray:
    """|a - b| <= atol + rtol |b|, element by element."""
def isfinite(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x neither infinite nor NaN?"""
def isinf(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x infinite?"""
def isnan(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x not a number?"""
def isneginf(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x -inf?"""
def isposinf(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x inf?"""
def kron(a: ArrayLike, b: ArrayLike) -> ndarray:
    """Kronecker product: blocks a_ij * b."""
def lcm(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Lowest common multiple, not negative."""
def ldexp(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 * 2^x2, for any real x2."""
def left_shift(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 * 2^x2, wrapping; shifts by the width or more give 0."""
def less(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 < x2."""
def less_equal(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 <= x2."""
def linspace(
    start: float, stop: float, num: int = 50, endpoint: _bool = True, retstep: _bool = False,
    dtype: DType | None = None, axis: Axis = 0, *, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, which is the last one if ``endpoint``."""
def log(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln x."""
def log10(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Logarithm to base 10."""
def log1p(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(1 + x), exact near 0."""
def log2(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Logarithm to base 2."""
def logaddexp(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(e^x1 + e^x2) without overflow."""
def logical_and(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Are both not zero?"""
def logical_not(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is x zero?"""
def logical_or(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is either not zero?"""
def logical_xor(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Is just one of them not zero?"""
def logspace(
    start: float, stop: float, num: int = 50, endpoint: _bool = True, base: float = 10.0,
    dtype: DType | None = None, axis: Axis = 0, *, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """``base`` to the powers that linspace gives."""
def logsumexp(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False) -> ndarray:
    """log(sum(exp(a))), without overflow."""
def matmul(a: ArrayLike, b: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Matrix product over the last two axes, the others broadcast; vectors as NumPy has them."""
def max(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Largest element, NaN if there is one."""
def maximum(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """The larger one, NaN if either is."""
def mean(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
    out: ndarray | None = None
) -> ndarray:
    """Sum over the number of elements; NaN of nothing."""
def median(a: ArrayLike, axis: Axis | None = None, out: ndarray | None = None, keepdims: _bool = False) -> ndarray:
    """The middle value, or the mean of the two middle ones."""
def meshgrid(*xi: Any, copy: _bool = True, sparse: _bool = False, indexing: str = 'xy') -> list[ndarray]:
    """Coordinate matrices of coordinate vectors, Cartesian ('xy') or matrix ('ij') order."""
def min(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Smallest element, NaN if there is one."""
def minimum(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """The smaller one, NaN if either is."""
def moveaxis(x: ArrayLike, source: Axis = 0, destination: Axis = 0) -> ndarray:
    """Moves axes to new places; the others keep their order."""
def multiply(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 * x2; of bools: both."""
def nan_to_num(x: ArrayLike, copy: _bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> ndarray:
    """``x`` with NaN replaced by ``nan``, the infinities by ``posinf`` and ``neginf`` (default: the largest)."""
def nanmax(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None,
    keepdims: _bool = False
) -> ndarray:
    """max over the elements that are not NaN."""
def nanmean(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None,
    keepdims: _bool = False
) -> ndarray:
    """Mean of the elements that are not NaN."""
def nanmin(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None,
    keepdims: _bool = False
) -> ndarray:
    """min over the elements that are not NaN."""
def nanprod(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
    out: ndarray | None = None
) -> ndarray:
    """Product over the axes; a NaN counts as 1."""
def nansum(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
    out: ndarray | None = None
) -> ndarray:
    """Sum over the axes; a NaN counts as 0."""
def negative(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """-x."""
def nonzero(x: ArrayLike) -> tuple[ndarray, ...]:
    """Positions of the elements that are not 0: one int64 array for each axis."""
def not_equal(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 != x2."""
def ones(
    shape: Shape = (), dtype: DType | None = None, order: str = 'C', *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Ones."""
def ones_like(x: ArrayLike, dtype: DType | None = None, order: str = 'C', *, out: ndarray | None = None) -> ndarray:
    """Ones of x's shape and type."""
def outer(a: ArrayLike, b: ArrayLike) -> ndarray:
    """a_i b_j of the flattened operands."""
def pad(x: ArrayLike, pad_width: Any, mode: str = 'constant', constant_values: Any = 0) -> ndarray:
    """``x`` with a border: constant, edge, reflect, symmetric or wrap, as NumPy's."""
def percentile(
    a: ArrayLike, q: Any, axis: Axis | None = None, out: ndarray | None = None, interpolation: str = 'linear',
    method: Any = None, keepdims: _bool = False
) -> ndarray:
    """quantile with q in percent."""
def polyval(p: ArrayLike, x: ArrayLike) -> ndarray:
    """Polynomial with coefficients ``p``, the highest power first, by Horner's rule."""
def positive(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x itself, as a new array."""
def power(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 to the power x2."""
def prod(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
    out: ndarray | None = None
) -> ndarray:
    """Product over the axes."""
def ptp(a: ArrayLike, axis: Axis | None = None, keepdims: _bool = False) -> ndarray:
    """Largest minus smallest."""
def quantile(
    a: ArrayLike, q: Any, axis: Axis | None = None, out: ndarray | None = None, interpolation: str = 'linear',
    method: Any = None, keepdims: _bool = False
) -> ndarray:
    """The value below which a share ``q`` of the elements lies; q is a number or a list, known when the call is
    made."""
def radians(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Degrees as radians."""
def ravel(x: ArrayLike, order: str = 'C') -> ndarray:
    """All elements in one axis, in C order."""
def reciprocal(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """1 / x."""
def remainder(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 - x2 * floor(x1 / x2), of the sign of x2."""
def repeat(a: ArrayLike, repeats: Shape, axis: Axis | None = None) -> ndarray:
    """Every element (or slice along ``axis``) ``repeats`` times in a row; a list gives each its own count."""
def reshape(x: ArrayLike, shape: Shape | None = None, order: str = 'C', newshape: Shape | None = None) -> ndarray:
    """The same elements in another shape, in C order; one size may be -1 and is inferred."""
def resize(a: ArrayLike, new_shape: Shape) -> ndarray:
    """The elements of ``a`` over and over until ``new_shape`` is full."""
def right_shift(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """floor(x1 / 2^x2)."""
def rint(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """To the nearest whole number, halves to the even one."""
def roll(a: ArrayLike, shift: Shape, axis: Axis | None = None) -> ndarray:
    """Moves elements by ``shift`` places along the axes; those that leave at the end come in at the front."""
def rollaxis(x: ArrayLike, axis: Axis, start: float = 0) -> ndarray:
    """Moves ``axis`` to before ``start``."""
def rot90(m: Any, k: int = 1, axes: int | Sequence[Any] = (0, 1)) -> ndarray:
    """Turns the plane of two axes by 90 degrees ``k`` times, from the first axis towards the second."""
def round(x: ArrayLike, decimals: int = 0) -> ndarray:
    """``x`` rounded to ``decimals`` places after the point (before it if negative), halves to the even digit."""
def searchsorted(a: ArrayLike, v: ArrayLike, side: str = 'left', *, out: ndarray | None = None) -> ndarray:
    """Where to put ``v`` into sorted ``a`` so that it stays sorted."""
def sign(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """-1, 0 or 1."""
def signbit(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Has x a minus sign, also -0?"""
def sin(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Sine of x in radians."""
def sinh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """(e^x - e^-x) / 2."""
def sort(
    a: ArrayLike, axis: Axis = -1, descending: _bool = False, stable: _bool = True, kind: str | None = None,
    order: str | None = None
) -> ndarray:
    """``a`` sorted along ``axis``."""
def split(ary: Any, indices_or_sections: Shape, axis: Axis = 0) -> list[ndarray]:
    """Views of equal parts, or of the parts between the positions given."""
def sqrt(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Square root."""
def square(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x * x."""
def squeeze(x: ArrayLike, axis: Axis | None = None) -> ndarray:
    """Drops axes of length 1: all of them, or those named, which must be of length 1."""
def stack(arrays: Any, axis: Axis = 0, out: ndarray | None = None) -> ndarray:
    """Joins arrays of one shape along a new axis."""
def std(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None, ddof: int = 0,
    keepdims: _bool = False
) -> ndarray:
    """Square root of the variance."""
def subtract(x1: ArrayLike, x2: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x1 - x2."""
def sum(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
    out: ndarray | None = None
) -> ndarray:
    """Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32."""
def swapaxes(x: ArrayLike, axis1: int = 0, axis2: int = 0) -> ndarray:
    """Swaps two axes."""
def take(
    x: ArrayLike, indices: ArrayLike, axis: Axis | None = None, mode: str = 'raise', *, out: ndarray | None = None
) -> ndarray:
    """Slices of ``x`` along ``axis`` (of the flattened ``x`` without one), in the order and shape of ``indices``."""
def take_along_axis(arr: Any, indices: ArrayLike, axis: Axis = -1) -> ndarray:
    """gather_elements of operands that broadcast against each other but on ``axis``."""
def tan(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Tangent of x in radians."""
def tanh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x)."""
def tensordot(a: ArrayLike, b: ArrayLike, axes: int | Sequence[Any] = 2) -> ndarray:
    """Product summed over axes of both: the last n of ``a`` and first n of ``b``, or the pairs of axes given."""
def tile(A: Any, reps: Shape) -> ndarray:
    """``A`` repeated ``reps[i]`` times along axis i, as bricks are laid."""
def trace(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
    """Sum along a diagonal."""
def transpose(x: ArrayLike, axes: int | Sequence[Any] | None = None) -> ndarray:
    """Axis i of the result is axis ``axes[i]`` of ``x``; without ``axes`` their order is reversed."""
def tri(
    N: int = 0, M: int | None = None, k: int = 0, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Ones on and below the diagonal k of an (N, M) matrix."""
def tril(m: Any, k: int = 0) -> ndarray:
    """``m`` with zeros above the diagonal k."""
def tril_indices(n: Any, k: int = 0, m: Any = None) -> tuple[ndarray, ...]:
    """Row and column numbers of the lower triangle."""
def triu(m: Any, k: int = 0) -> ndarray:
    """``m`` with zeros below the diagonal k."""
def triu_indices(n: Any, k: int = 0, m: Any = None) -> tuple[ndarray, ...]:
    """Row and column numbers of the upper triangle."""
def triu_indices_from(arr: Any, k: int = 0) -> tuple[ndarray, ...]:
    """triu_indices for the shape of ``arr``."""
def trunc(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Towards zero to a whole number."""
def unique(
    x: ArrayLike, return_index: _bool = False, return_inverse: _bool = False, return_counts: _bool = False,
    axis: Axis | None = None
) -> ndarray:
    """The distinct elements, sorted, and on request where and how often they were."""
def unravel_index(indices: ArrayLike, shape: Shape, order: str = 'C') -> tuple[ndarray, ...]:
    """Index along each axis of positions in C order."""
def var(
    a: ArrayLike, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None, ddof: int = 0,
    keepdims: _bool = False
) -> ndarray:
    """Mean square distance from the mean, with n - ddof for n."""
def vdot(a: ArrayLike, b: ArrayLike) -> ndarray:
    """Sum of the products of all elements."""
def vecdot(x1: ArrayLike, x2: ArrayLike, axis: Axis = -1) -> ndarray:
    """Sum of products over ``axis``."""
def vsplit(ary: Any, indices_or_sections: Shape) -> list[ndarray]:
    """split along axis 0."""
def vstack(arrays: Any) -> ndarray:
    """Joins along axis 0; vectors count as rows."""
def where(condition: ArrayLike, x: ArrayLike, y: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x where condition, else y."""
def zeros(
    shape: Shape = (), dtype: DType | None = None, order: str = 'C', *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Zeros."""
def zeros_like(x: ArrayLike, dtype: DType | None = None, order: str = 'C', *, out: ndarray | None = None) -> ndarray:
    """Zeros of x's shape and type."""
NAN: float
NINF: float
NZERO: float
NaN: float
PINF: float
PZERO: float
e: float
euler_gamma: float
def genfromtxt(fname: object, dtype: object = ..., **kwargs: object) -> ndarray:
    """The array that ``numpy.genfromtxt`` reads from a text file; missing values are NaN."""
inf: float
nan: float
def ndim(a: ndarray) -> int:
    """``a.ndim``."""
newaxis: None
pi: float
def shape(a: ndarray) -> tuple[int, ...]:
    """``a.shape``."""
def size(a: ndarray) -> int:
    """``a.size``."""
absolute = abs
acos = arccos
acosh = arccosh
amax = max
amin = min
around = round
asin = arcsin
asinh = arcsinh
atan = arctan
atan2 = arctan2
atanh = arctanh
bitwise_invert = bitwise_not
bitwise_left_shift = left_shift
bitwise_right_shift = right_shift
concat = concatenate
deg2rad = radians
fabs = abs
fix = trunc
invert = bitwise_not
mod = remainder
permute_dims = transpose
pow = power
rad2deg = degrees
round_ = round
row_stack = vstack
true_divide = divide
