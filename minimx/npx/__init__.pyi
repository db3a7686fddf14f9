"""``mx.npx``: neural operators and what NumPy lacks, made from the operator table.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from minimx._core import ndarray
from . import random
from minimx.device import (
    cpu, cpu as cpu_pinned, current_device as current_context, current_device, gpu, gpu_memory_info, num_gpus,
)
from minimx.engine import wait_all as waitall
from minimx.ndarray import from_dlpack, asarray as from_numpy
from minimx.np import isfinite, isinf, isnan, logsumexp, tanh
from minimx.np.random import bernoulli, normal_n, uniform_n
from minimx.random import seed
from minimx.serialization import load, save, savez
from minimx.util import (
    is_np_array, is_np_array as is_np_shape, reset_np, set_np, use_np, use_np as use_np_array,
    use_np as use_np_shape,
)

__all__ = [
    "activation", "adaptive_avg_pool2d", "arange_like", "batch_dot", "batch_flatten", "batch_norm", "bernoulli",
    "bilinear_resize2d", "boolean_mask", "broadcast_like", "cast", "categorical", "convolution", "cpu",
    "cpu_pinned", "current_context", "current_device", "deconvolution", "depth_to_space", "digamma", "dropout",
    "elu", "embedding", "erf", "erfinv", "from_dlpack", "from_numpy", "fully_connected", "gamma", "gammaln",
    "gather_nd", "gelu", "gelu_tanh", "gpu", "gpu_memory_info", "group_norm", "hard_sigmoid", "hard_swish",
    "hard_tanh", "index_add", "index_update", "instance_norm", "is_np_array", "is_np_shape", "isfinite", "isinf",
    "isnan", "l2_normalization", "layer_norm", "leaky_relu", "lgamma", "load", "log_sigmoid", "log_softmax",
    "logsumexp", "masked_log_softmax", "masked_softmax", "mish", "moments", "normal_n", "num_gpus", "one_hot",
    "pick", "pooling", "random", "rcbrt", "relu", "relu6", "reset_np", "reshape", "reshape_like", "rms_norm",
    "rsqrt", "save", "savez", "scatter_nd", "seed", "selu", "sequence_last", "sequence_mask", "sequence_reverse",
    "set_np", "shape_array", "sigmoid", "silu", "size_array", "slice", "slice_axis", "slice_like", "smooth_l1",
    "softmax", "softmax_cross_entropy", "softmin", "softplus", "softrelu", "softsign", "space_to_depth",
    "stop_gradient", "swish", "tanh", "topk", "uniform_n", "upsampling", "use_np", "use_np_array", "use_np_shape",
    "waitall",
]

def activation(data: ArrayLike, act_type: str = 'relu') -> ndarray:
    """relu, sigmoid, tanh, softrelu (log(1 + e^x)), softsign, log_sigmoid, mish, silu or gelu."""
def adaptive_avg_pool2d(data: ArrayLike, output_size: Shape = 1) -> ndarray:
    """Means of (N, C, H, W) over a grid of ``output_size`` windows, from floor(i H / n) to ceil((i + 1) H / n)."""
def arange_like(
    data: ArrayLike, start: float = 0.0, step: float | Sequence[int | None] = 1.0, repeat: int = 1,
    ctx: DeviceLike | None = None, axis: Axis | None = None
) -> ndarray:
    """start + step * i, as long as an axis of ``data``, or in its shape if ``axis`` is None."""
def batch_dot(
    a: ArrayLike, b: ArrayLike, transpose_a: _bool = False, transpose_b: _bool = False, forward_stype: Any = None
) -> ndarray:
    """Product of each pair of matrices: (B, m, k) and (B, k, n) give (B, m, n)."""
def batch_flatten(x: ArrayLike) -> ndarray:
    """(N, ...) -> (N, everything else)."""
def batch_norm(
    x: ArrayLike, gamma: Any, beta: ArrayLike, running_mean: Any, running_var: Any, eps: float = 0.001,
    momentum: float = 0.9, fix_gamma: _bool = True, use_global_stats: _bool = False, output_mean_var: _bool = False,
    axis: Axis = 1, cudnn_off: _bool = False, min_calib_range: Any = None, max_calib_range: Any = None
) -> ndarray:
    """(x - mean) / sqrt(var + eps) * gamma + beta for each channel on ``axis`` (Ioffe and Szegedy 2015,
    arXiv:1502.03167)."""
def bilinear_resize2d(
    data: ArrayLike, height: int = 0, width: int = 0, scale_height: Any = None, scale_width: Any = None,
    align_corners: _bool = True
) -> ndarray:
    """(N, C, H, W) resized by linear interpolation along both axes."""
def boolean_mask(data: ArrayLike, index: Any, axis: Axis = 0) -> ndarray:
    """Slices of ``data`` along ``axis`` where ``index`` is not 0."""
def broadcast_like(lhs: Any, rhs: Any) -> ndarray:
    """``lhs`` broadcast to the shape of ``rhs``."""
def cast(x: ArrayLike, dtype: DType = 'float32', *, out: ndarray | None = None) -> ndarray:
    """The elements converted to ``dtype``, as NumPy's astype does it."""
def categorical(
    data: ArrayLike, shape: Shape | None = None, get_prob: _bool = False, dtype: DType = 'int32'
) -> ndarray:
    """Class numbers drawn with the probabilities in the last axis of ``data``; ``shape`` is that of each row's
    sample."""
def convolution(
    data: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, kernel: Shape | None = None,
    stride: Shape | None = None, dilate: Shape | None = None, pad: Shape | None = None, num_filter: int = 0,
    num_group: int = 1, workspace: int = 1024, no_bias: _bool = False, cudnn_tune: Any = None,
    cudnn_off: _bool = False, layout: Any = None, *, out: ndarray | None = None
) -> ndarray:
    """y[n, o, i] = bias[o] + sum over c, k of data[n, c, i * stride + k * dilate - pad] * weight[o, c, k]."""
def deconvolution(
    data: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, kernel: Shape | None = None,
    stride: Shape | None = None, dilate: Shape | None = None, pad: Shape | None = None, adj: Shape | None = None,
    target_shape: Shape | None = None, num_filter: int = 0, num_group: int = 1, workspace: int = 1024,
    no_bias: _bool = True, cudnn_tune: Any = None, cudnn_off: _bool = False, layout: Any = None
) -> ndarray:
    """The transpose of convolution. weight (C, num_filter / num_group, *kernel); output length (i - 1) * stride - 2 *
    pad + dilate * (k - 1) + 1 + adj."""
def depth_to_space(data: ArrayLike, block_size: int) -> ndarray:
    """(N, C, H, W) -> (N, C / b^2, H b, W b): blocks of channels laid out in space, block axes first."""
def digamma(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """d/dx ln Gamma(x)."""
def dropout(
    data: ArrayLike, p: ArrayLike = 0.5, mode: str = 'training', axes: int | Sequence[Any] = (),
    cudnn_off: _bool = False
) -> ndarray:
    """While training (or always, with mode='always') zeroes elements with probability ``p`` and scales the rest by 1 /
    (1 - p)."""
def elu(x: ArrayLike, alpha: ArrayLike = 1.0, *, out: ndarray | None = None) -> ndarray:
    """x where positive, else alpha * (e^x - 1)."""
def embedding(
    data: ArrayLike, weight: ArrayLike, input_dim: Any = None, output_dim: Any = None, dtype: DType | None = None,
    sparse_grad: _bool = False
) -> ndarray:
    """Rows of ``weight`` (input_dim, output_dim) by the integers in ``data``: shape data.shape + (output_dim,)."""
def erf(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Error function: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
def erfinv(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Inverse of erf; start by Giles 2010, Approximating the erfinv function."""
def fully_connected(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, num_hidden: int | None = None,
    no_bias: _bool = False, flatten: _bool = True, *, out: ndarray | None = None
) -> ndarray:
    """``x W^T + b``: x (N, ...) as (N, in) if ``flatten``, else (..., in); weight (out, in), bias (out,)."""
def gamma(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Gamma function: (x - 1)! for whole x."""
def gammaln(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln |Gamma(x)|."""
def gather_nd(data: ArrayLike, indices: ArrayLike) -> ndarray:
    """data[indices[0], indices[1], ...]: one row of ``indices`` for each leading axis."""
def gelu(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x * Phi(x) with the normal distribution Phi."""
def gelu_tanh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """gelu with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) for erf."""
def group_norm(
    data: ArrayLike, gamma: Any, beta: ArrayLike, num_groups: int = 1, eps: float = 1e-05,
    output_mean_var: _bool = False
) -> ndarray:
    """Layer norm over each of ``num_groups`` groups of the channels on axis 1 of each sample (arXiv:1803.08494)."""
def hard_sigmoid(x: ArrayLike, alpha: ArrayLike = 0.2, beta: ArrayLike = 0.5, *, out: ndarray | None = None) -> ndarray:
    """min(max(alpha * x + beta, 0), 1)."""
def hard_swish(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x * min(max(x + 3, 0), 6) / 6."""
def hard_tanh(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """min(max(x, -1), 1)."""
def index_add(a: ArrayLike, ind: Any, val: Any) -> ndarray:
    """``a`` with ``val`` added at [ind[0], ind[1], ...], repeated places adding up, as a new array."""
def index_update(a: ArrayLike, ind: Any, val: Any) -> ndarray:
    """``a`` with a[ind[0], ind[1], ...] = val, as a new array."""
def instance_norm(data: ArrayLike, gamma: Any, beta: ArrayLike, eps: float = 0.001, axis: Axis = 1) -> ndarray:
    """Each channel of each sample normalised over its spatial axes (arXiv:1607.08022)."""
def l2_normalization(data: ArrayLike, eps: float = 1e-10, mode: str = 'instance') -> ndarray:
    """x / sqrt(sum(x^2) + eps): sums over a sample ('instance'), over channels ('channel') or over space
    ('spatial')."""
def layer_norm(
    data: ArrayLike, gamma: Any, beta: ArrayLike, axis: Axis = -1, eps: float = 1e-05,
    output_mean_var: _bool = False
) -> ndarray:
    """(x - mean) / sqrt(var + eps) * gamma + beta along ``axis`` (Ba, Kiros and Hinton 2016, arXiv:1607.06450)."""
def leaky_relu(
    data: ArrayLike, gamma: Any = None, act_type: str = 'leaky', slope: float = 0.25, lower_bound: float = 0.125,
    upper_bound: float = 0.334
) -> ndarray:
    """x where x > 0, else by act_type: leaky slope * x, prelu gamma * x, elu slope * (e^x - 1), selu, gelu, rrelu."""
def log_sigmoid(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(1 / (1 + e^-x))."""
def log_softmax(
    data: ArrayLike, axis: Axis = -1, length: ArrayLike | None = None, temperature: float | None = None,
    use_length: _bool = False, dtype: DType | None = None
) -> ndarray:
    """Logarithm of softmax, without overflow."""
def masked_log_softmax(data: ArrayLike, mask: Any, axis: Axis = -1, temperature: float = 1.0) -> ndarray:
    """log_softmax over the places where ``mask`` is true, minus infinity elsewhere."""
def masked_softmax(data: ArrayLike, mask: Any, axis: Axis = -1, temperature: float = 1.0) -> ndarray:
    """softmax over the places where ``mask`` is true, 0 elsewhere."""
def mish(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x * tanh(ln(1 + e^x))."""
def moments(data: ArrayLike, axes: int | Sequence[Any] | None = None, keepdims: _bool = False) -> tuple[ndarray, ...]:
    """(mean, variance)."""
def one_hot(
    indices: ArrayLike, depth: int = 0, on_value: float = 1.0, off_value: float = 0.0, dtype: DType = 'float32', *,
    out: ndarray | None = None
) -> ndarray:
    """Adds a last axis of length ``depth``: on_value at the index, off_value elsewhere and for indices out of range."""
def pick(data: ArrayLike, index: Any, axis: Axis = -1, mode: str = 'clip', keepdims: _bool = False) -> ndarray:
    """One element of each lane along ``axis``: out[i] = data[i, index[i]]."""
def pooling(
    data: ArrayLike, kernel: Shape | None = None, pool_type: str = 'max', pooling_convention: str = 'valid',
    global_pool: _bool = False, cudnn_off: _bool = False, stride: Shape | None = None, pad: Shape | None = None,
    p_value: Any = None, count_include_pad: _bool = True, layout: Any = None
) -> ndarray:
    """Pools windows of (N, C, *spatial): pool_type max, avg, sum or lp (with ``p_value``)."""
def rcbrt(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """1 / cbrt(x)."""
def relu(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """max(x, 0); its gradient at 0 is 0."""
def relu6(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """min(max(x, 0), 6)."""
def reshape(a: ArrayLike, newshape: Shape, reverse: _bool = False, order: str = 'C') -> ndarray:
    """reshape with codes: -1 infers, -2 copies a dimension, -3 drops one of length 1, -4 copies the rest, -5 merges
    two, -6 splits into the next two."""
def reshape_like(lhs: Any, rhs: Any) -> ndarray:
    """``lhs`` in the shape of ``rhs``."""
def rms_norm(data: ArrayLike, gamma: Any, axis: Axis = -1, eps: float = 1e-05) -> ndarray:
    """x / sqrt(mean(x^2) + eps) * gamma along ``axis`` (Zhang and Sennrich 2019, arXiv:1910.07467)."""
def rsqrt(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """1 / sqrt(x)."""
def scatter_nd(data: ArrayLike, indices: ArrayLike, shape: Shape) -> ndarray:
    """Zeros of ``shape`` with out[indices[0], indices[1], ...] = data."""
def selu(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1."""
def sequence_last(
    data: ArrayLike, sequence_length: ArrayLike | None = None, use_sequence_length: _bool = False, axis: Axis = 0
) -> ndarray:
    """The last element of each sequence: (N, ...)."""
def sequence_mask(
    data: ArrayLike, sequence_length: ArrayLike | None = None, use_sequence_length: _bool = False,
    value: float = 0.0, axis: Axis = 0
) -> ndarray:
    """``data`` (T, N, ...) or, with axis 1, (N, T, ...) with ``value`` from sequence_length[n] on."""
def sequence_reverse(
    data: ArrayLike, sequence_length: ArrayLike | None = None, use_sequence_length: _bool = False, axis: Axis = 0
) -> ndarray:
    """Every sequence of (T, N, ...) reversed within its length; the rest stays."""
def shape_array(data: ArrayLike) -> ndarray:
    """The shape, as an int64 array."""
def sigmoid(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """1 / (1 + e^-x)."""
def silu(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x / (1 + e^-x)."""
def size_array(data: ArrayLike) -> ndarray:
    """The number of elements, as an int64 array of shape (1,)."""
def slice_axis(data: ArrayLike, axis: Axis, begin: Any, end: Any) -> ndarray:
    """The part from ``begin`` to ``end`` of one axis."""
def slice_like(data: ArrayLike, shape_like: Any, axes: int | Sequence[Any] = ()) -> ndarray:
    """The first part of every axis (of ``axes``) that has the length of shape_like's."""
def smooth_l1(x: ArrayLike, scalar: ArrayLike = 1.0, *, out: ndarray | None = None) -> ndarray:
    """(scalar * x)^2 / 2 where |x| < 1 / scalar^2, else |x| - 1 / (2 scalar^2)."""
def softmax(
    data: ArrayLike, axis: Axis = -1, length: ArrayLike | None = None, temperature: float | None = None,
    use_length: _bool = False, dtype: DType | None = None
) -> ndarray:
    """exp(x / temperature) / sum over ``axis``. ``use_length``: only the first length[i] places of a row take part."""
def softmax_cross_entropy(logits: Any, labels: Any, axis: Axis = -1, smoothing: float = 0.0) -> ndarray:
    """Loss of each lane from logits and class numbers, optionally with label smoothing (arXiv:1512.00567, section
    7)."""
def softmin(data: ArrayLike, axis: Axis = -1) -> ndarray:
    """softmax(-x)."""
def softplus(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """ln(1 + e^x)."""
def softsign(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x / (1 + |x|)."""
def space_to_depth(data: ArrayLike, block_size: int) -> ndarray:
    """(N, C, H, W) -> (N, C b^2, H / b, W / b)."""
def stop_gradient(x: ArrayLike) -> ndarray:
    """The same elements; no gradient passes."""
def swish(x: ArrayLike, beta: ArrayLike = 1.0, *, out: ndarray | None = None) -> ndarray:
    """x / (1 + e^(-beta * x))."""
def topk(
    data: ArrayLike, axis: Axis = -1, k: int = 1, ret_typ: str = 'indices', is_ascend: _bool = False,
    dtype: DType = 'float32'
) -> ndarray:
    """The ``k`` largest (``is_ascend``: smallest) elements along ``axis``."""
def upsampling(data: ArrayLike, scale: int = 2, sample_type: str = 'nearest') -> ndarray:
    """Repeats rows and columns of (N, C, H, W) ``scale`` times."""
def slice(data: ArrayLike, begin: Any, end: Any, step: float | Sequence[int | None] | None = None) -> ndarray:
    """data[begin[0]:end[0]:step[0], ...]; None is the default of a slice."""
lgamma = gammaln
softrelu = softplus
