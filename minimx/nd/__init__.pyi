"""``mx.nd``: Gluon 1's names for the same operators, for the mass of code that uses them.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from . import random
from minimx._core import ndarray as NDArray, ndarray
from minimx.device import (
    cpu, cpu as cpu_pinned, current_device as current_context, current_device, gpu, gpu_memory_info, num_gpus,
)
from minimx.engine import wait_all as waitall
from minimx.ndarray import (
    array, asarray as asanyarray, asarray, asarray as ascontiguousarray, from_dlpack, asarray as from_numpy,
    shares_memory as may_share_memory, shares_memory,
)
from minimx.np import (
    abs, add, all, allclose, any, append, arange, arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh,
    argmax, argmin, argwhere, array_equal, array_split, atleast_1d, atleast_2d, atleast_3d, average, bincount,
    bitwise_and, bitwise_not, bitwise_or, bitwise_xor, blackman, broadcast_to, cbrt, ceil, clip, column_stack,
    concatenate, copy, copysign, cos, cosh, cov, cross, cumprod, cumsum, degrees, delete, diag, diag_indices_from,
    diagflat, diagonal, diff, divide, dsplit, dstack, ediff1d, einsum, empty, empty_like, equal, exp, exp2,
    expand_dims, expm1, eye, fill_diagonal, flatnonzero, flip, fliplr, flipud, floor, floor_divide, fmax, fmin,
    fmod, full, full_like, gcd, greater, greater_equal, hamming, hanning, heaviside, histogram, hsplit, hstack,
    hypot, copy as identity, indices, inner, insert, interp, isclose, isfinite, isinf, isnan, isneginf, isposinf,
    kron, lcm, ldexp, left_shift, less, less_equal, linspace, log, log10, log1p, log2, logaddexp, logical_and,
    logical_not, logical_or, logical_xor, logspace, logsumexp, matmul, max, maximum, mean, median, meshgrid, min,
    minimum, moveaxis, multiply, nan_to_num, nanmax, nanmean, nanmin, nanprod, nansum, negative, nonzero, not_equal,
    ones, ones_like, outer, percentile, polyval, positive, power, prod, ptp, quantile, radians, ravel, reciprocal,
    remainder, repeat, resize, right_shift, rint, roll, rollaxis, rot90, round, searchsorted, sign, signbit, sin,
    sinh, sqrt, square, squeeze, std, subtract, sum, swapaxes, take_along_axis, tan, tanh, tensordot, tile, trace,
    transpose, tri, tril, tril_indices, triu, triu_indices, triu_indices_from, trunc, unique, unravel_index, var,
    vdot, vecdot, vsplit, vstack, where, zeros, zeros_like, swapaxes as SwapAxis, abs as absolute, arccos as acos,
    arccosh as acosh, max as amax, min as amin, round as around, arcsin as asin, arcsinh as asinh, arctan as atan,
    arctan2 as atan2, arctanh as atanh, bitwise_not as bitwise_invert, left_shift as bitwise_left_shift,
    right_shift as bitwise_right_shift, add as broadcast_add, divide as broadcast_div, equal as broadcast_equal,
    greater as broadcast_greater, greater_equal as broadcast_greater_equal, hypot as broadcast_hypot,
    less as broadcast_lesser, less_equal as broadcast_lesser_equal, logical_and as broadcast_logical_and,
    logical_or as broadcast_logical_or, logical_xor as broadcast_logical_xor, maximum as broadcast_maximum,
    minimum as broadcast_minimum, subtract as broadcast_minus, remainder as broadcast_mod,
    multiply as broadcast_mul, not_equal as broadcast_not_equal, add as broadcast_plus, power as broadcast_power,
    subtract as broadcast_sub, radians as deg2rad, add as elemwise_add, divide as elemwise_div,
    multiply as elemwise_mul, subtract as elemwise_sub, abs as fabs, trunc as fix, genfromtxt,
    bitwise_not as invert, less as lesser, less_equal as lesser_equal, max as max_axis, min as min_axis,
    remainder as mod, remainder as modulo, ndim, transpose as permute_dims, power as pow, degrees as rad2deg,
    flip as reverse, round as round_, vstack as row_stack, shape, size, sum as sum_axis, divide as true_divide,
)
from minimx.np.random import (
    bernoulli, normal_n, shuffle, uniform_n, normal as random_normal, randint as random_randint,
    uniform as random_uniform,
)
from minimx.npx import (
    activation, adaptive_avg_pool2d, arange_like, batch_dot, batch_flatten, batch_norm, bilinear_resize2d,
    boolean_mask, broadcast_like, cast, categorical, convolution, deconvolution, depth_to_space, digamma, dropout,
    elu, embedding, erf, erfinv, fully_connected, gamma, gammaln, gather_nd, gelu, gelu_tanh, group_norm,
    hard_sigmoid, hard_swish, hard_tanh, index_add, index_update, instance_norm, l2_normalization, layer_norm,
    leaky_relu, log_sigmoid, log_softmax, masked_log_softmax, masked_softmax, mish, moments, one_hot, pick, pooling,
    rcbrt, relu, relu6, reshape_like, rms_norm, rsqrt, scatter_nd, selu, sequence_last, sequence_mask,
    sequence_reverse, shape_array, sigmoid, silu, size_array, slice_axis, slice_like, smooth_l1, softmax, softmin,
    softplus, softsign, space_to_depth, stop_gradient, swish, topk, upsampling, activation as Activation,
    batch_norm as BatchNorm, stop_gradient as BlockGrad, cast as Cast, convolution as Convolution,
    deconvolution as Deconvolution, dropout as Dropout, embedding as Embedding, batch_flatten as Flatten,
    fully_connected as FullyConnected, group_norm as GroupNorm, instance_norm as InstanceNorm,
    l2_normalization as L2Normalization, layer_norm as LayerNorm, leaky_relu as LeakyReLU, pooling as Pooling,
    rms_norm as RMSNorm, sequence_last as SequenceLast, sequence_mask as SequenceMask,
    sequence_reverse as SequenceReverse, upsampling as UpSampling,
    adaptive_avg_pool2d as contrib_AdaptiveAvgPooling2D, bilinear_resize2d as contrib_BilinearResize2D,
    arange_like as contrib_arange_like, boolean_mask as contrib_boolean_mask, batch_flatten as flatten,
    gammaln as lgamma, categorical as sample_multinomial, slice, softplus as softrelu,
)
from minimx.random import seed
from minimx.serialization import load, save, savez
from minimx.util import (
    is_np_array, is_np_array as is_np_shape, reset_np, set_np, use_np, use_np as use_np_array,
    use_np as use_np_shape,
)
from ml_dtypes import bfloat16
from numpy import (
    bool, bool as bool_, dtype, finfo, float16, float32, float64, iinfo, int16, int32, int64, int8,
    set_printoptions, uint8,
)

__all__ = [
    "Activation", "BatchNorm", "BlockGrad", "Cast", "Concat", "Convolution", "Deconvolution", "Dropout",
    "ElementWiseSum", "Embedding", "Flatten", "FullyConnected", "GroupNorm", "InstanceNorm", "L2Normalization",
    "LayerNorm", "LeakyReLU", "NDArray", "Pad", "Pooling", "RMSNorm", "Reshape", "SequenceLast", "SequenceMask",
    "SequenceReverse", "SliceChannel", "SwapAxis", "UpSampling", "abs", "absolute", "acos", "acosh", "activation",
    "adaptive_avg_pool2d", "add", "add_n", "all", "allclose", "amax", "amin", "any", "append", "arange",
    "arange_like", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin",
    "argsort", "argwhere", "around", "array", "array_equal", "array_split", "asanyarray", "asarray",
    "ascontiguousarray", "asin", "asinh", "atan", "atan2", "atanh", "atleast_1d", "atleast_2d", "atleast_3d",
    "average", "batch_dot", "batch_flatten", "batch_norm", "bernoulli", "bfloat16", "bilinear_resize2d", "bincount",
    "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift",
    "bitwise_xor", "blackman", "bool", "bool_", "boolean_mask", "broadcast_add", "broadcast_axes", "broadcast_axis",
    "broadcast_div", "broadcast_equal", "broadcast_greater", "broadcast_greater_equal", "broadcast_hypot",
    "broadcast_lesser", "broadcast_lesser_equal", "broadcast_like", "broadcast_logical_and", "broadcast_logical_or",
    "broadcast_logical_xor", "broadcast_maximum", "broadcast_minimum", "broadcast_minus", "broadcast_mod",
    "broadcast_mul", "broadcast_not_equal", "broadcast_plus", "broadcast_power", "broadcast_sub", "broadcast_to",
    "cast", "categorical", "cbrt", "ceil", "clip", "column_stack", "concat", "concatenate",
    "contrib_AdaptiveAvgPooling2D", "contrib_BilinearResize2D", "contrib_arange_like", "contrib_boolean_mask",
    "convolution", "copy", "copysign", "cos", "cosh", "cov", "cpu", "cpu_pinned", "cross", "cumprod", "cumsum",
    "current_context", "current_device", "deconvolution", "deg2rad", "degrees", "delete", "depth_to_space", "diag",
    "diag_indices_from", "diagflat", "diagonal", "diff", "digamma", "divide", "dot", "dropout", "dsplit", "dstack",
    "dtype", "ediff1d", "einsum", "elemwise_add", "elemwise_div", "elemwise_mul", "elemwise_sub", "elu",
    "embedding", "empty", "empty_like", "equal", "erf", "erfinv", "exp", "exp2", "expand_dims", "expm1", "eye",
    "fabs", "fill_diagonal", "finfo", "fix", "flatnonzero", "flatten", "flip", "fliplr", "flipud", "float16",
    "float32", "float64", "floor", "floor_divide", "fmax", "fmin", "fmod", "from_dlpack", "from_numpy", "full",
    "full_like", "fully_connected", "gamma", "gammaln", "gather_nd", "gcd", "gelu", "gelu_tanh", "genfromtxt",
    "gpu", "gpu_memory_info", "greater", "greater_equal", "group_norm", "hamming", "hanning", "hard_sigmoid",
    "hard_swish", "hard_tanh", "heaviside", "histogram", "hsplit", "hstack", "hypot", "identity", "iinfo",
    "index_add", "index_update", "indices", "inner", "insert", "instance_norm", "int16", "int32", "int64", "int8",
    "interp", "invert", "is_np_array", "is_np_shape", "isclose", "isfinite", "isinf", "isnan", "isneginf",
    "isposinf", "kron", "l2_normalization", "layer_norm", "lcm", "ldexp", "leaky_relu", "left_shift", "less",
    "less_equal", "lesser", "lesser_equal", "lgamma", "linspace", "load", "log", "log10", "log1p", "log2",
    "log_sigmoid", "log_softmax", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logspace", "logsumexp", "masked_log_softmax", "masked_softmax", "matmul", "max", "max_axis", "maximum",
    "may_share_memory", "mean", "median", "meshgrid", "min", "min_axis", "minimum", "mish", "mod", "modulo",
    "moments", "moveaxis", "multiply", "nan_to_num", "nanmax", "nanmean", "nanmin", "nanprod", "nansum", "ndarray",
    "ndim", "negative", "nonzero", "norm", "normal_n", "not_equal", "num_gpus", "one_hot", "ones", "ones_like",
    "outer", "pad", "percentile", "permute_dims", "pick", "polyval", "pooling", "positive", "pow", "power", "prod",
    "ptp", "quantile", "rad2deg", "radians", "random", "random_normal", "random_randint", "random_uniform", "ravel",
    "rcbrt", "reciprocal", "relu", "relu6", "remainder", "repeat", "reset_np", "reshape", "reshape_like", "resize",
    "reverse", "right_shift", "rint", "rms_norm", "roll", "rollaxis", "rot90", "round", "round_", "row_stack",
    "rsqrt", "sample_multinomial", "save", "savez", "scatter_nd", "searchsorted", "seed", "selu", "sequence_last",
    "sequence_mask", "sequence_reverse", "set_np", "set_printoptions", "shape", "shape_array", "shares_memory",
    "shuffle", "sigmoid", "sign", "signbit", "silu", "sin", "sinh", "size", "size_array", "slice", "slice_axis",
    "slice_like", "smooth_l1", "softmax", "softmax_cross_entropy", "softmin", "softplus", "softrelu", "softsign",
    "sort", "space_to_depth", "split", "sqrt", "square", "squeeze", "stack", "std", "stop_gradient", "subtract",
    "sum", "sum_axis", "swapaxes", "swish", "take", "take_along_axis", "tan", "tanh", "tensordot", "tile", "topk",
    "trace", "transpose", "tri", "tril", "tril_indices", "triu", "triu_indices", "triu_indices_from", "true_divide",
    "trunc", "uint8", "uniform_n", "unique", "unravel_index", "upsampling", "use_np", "use_np_array",
    "use_np_shape", "var", "vdot", "vecdot", "vsplit", "vstack", "waitall", "where", "zeros", "zeros_like",
]

def argsort(data: ArrayLike, axis: Axis = -1, is_ascend: _bool = True, dtype: DType = 'float32') -> ndarray:
    """Gluon 1's argsort."""
def dot(lhs: Any, rhs: Any, transpose_a: _bool = False, transpose_b: _bool = False) -> ndarray:
    """Gluon 1's dot: the last axis of ``lhs`` with the first of ``rhs``; the flags reverse all axes of an operand
    first."""
def norm(data: ArrayLike, ord: float | str = 2, axis: Axis | None = None, keepdims: _bool = False) -> ndarray:
    """Gluon 1's norm: of order 1 or 2 over any axes."""
def pad(data: ArrayLike, mode: str = 'constant', pad_width: Any = (), constant_value: float = 0) -> ndarray:
    """Gluon 1's pad: ``pad_width`` is flat, (before, after) of every axis in turn."""
def reshape(data: ArrayLike, shape: Shape, reverse: _bool = False) -> ndarray:
    """reshape with codes: 0 copies a dimension, -1 infers, -2 copies the rest, -3 merges two, -4 splits into the next
    two."""
def softmax_cross_entropy(data: ArrayLike, label: Any) -> ndarray:
    """Gluon 1's form: the sum over the batch, of shape (1,)."""
def sort(data: ArrayLike, axis: Axis = -1, is_ascend: _bool = True) -> ndarray:
    """Gluon 1's sort."""
def split(data: ArrayLike, num_outputs: int, axis: Axis = 1, squeeze_axis: _bool = False) -> list[ndarray]:
    """``num_outputs`` equal parts along ``axis``; squeeze_axis drops the axis from each."""
def stack(*data: Any, axis: Axis = 0) -> ndarray:
    """Joins the arguments along a new axis."""
def take(a: ArrayLike, indices: ArrayLike, axis: Axis = 0, mode: str = 'clip') -> ndarray:
    """Gluon 1's take: axis 0 and clipping by default."""
def Concat(*data: Any, dim: int = 1) -> ndarray:
    """Joins the arguments along axis ``dim``."""
def ElementWiseSum(*args: Any) -> ndarray:
    """Sum of the arguments."""
def broadcast_axes(data: ArrayLike, axis: Axis = (), size: Shape = ()) -> ndarray:
    """Repeats axes of length 1 to the sizes given."""
Pad = pad
Reshape = reshape
SliceChannel = split
add_n = ElementWiseSum
broadcast_axis = broadcast_axes
concat = Concat
