"""Batch norm and ReLU inside a max pool, forward and backward: the normalised image and its gradient are never written.

    batch_norm_pool(x, gamma, beta, sum, squares) -> y, taps, mean, var
    batch_norm_bwd_pool(x, dy, taps, mean, var, gamma) -> dx, dgamma, dbeta

Windows in which nothing is positive have no tap, so that taps tell the gradient behind the ReLU. Forward reads x once
(its sums come from elsewhere); backward reads x once for the sums of g and g * (x - mean), once to write dx, and makes
g from dy and taps each time, which are small. Not on the CPU. The walks are those of pool.py, what is done once a
channel is batch_norm.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ...errors import ShapeError
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from . import batch_norm, pool
from .recipe import Argument, Launch, Operand, Recipe, Value, blocks_for

SUM_BLOCKS = 792

# Lanes of kWidth channels: a thread keeps to one, since their number divides 256. partial: (2, blocks, padded).
SUMS = """
template <bool kWide>
void add_up(const T* dy, const T* x, const Tap* taps, const View& vy, const View& vx, const View& vt, const View& i,
            const Real (&mean)[kWidth], Real (&s)[2 * kWidth]) {
  const Block block(i);
  Real sum[kElements][kWidth] = {};
  gradient<kWide>(dy, taps, vy, vx, vt, block, sum);
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    const View at = block.at(e);
    if (!lies_in(at, vx)) continue;
    const Values v = load<kWidth>(x + vx.at(at), kWide);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      const Real g = wide(to<T>(sum[e][j]));
      s[j] += g, s[kWidth + j] = fmaf(g, wide(v.at[j]) - mean[j], s[kWidth + j]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
KERNEL(const T* in, const T* x, const Tap* taps, const MEAN* mean, Real* partial, PARAMETERS, int64_t mean_stride,
       int64_t padded) {
  __shared__ Real shared[2 * kWidth][256];
  const View vi{FIELDS_I}, vo{FIELDS_O}, vt{FIELDS_T};
  const bool wide = kWidth > 1 && aligned<Values>(in, x) && aligned<Places>(taps);
  const View threads = work(vo);
  const Index n = threads.threads(), step = Index(gridDim.x) * 256;
  const int lanes = static_cast<int>(vo.c) / kWidth, lane = threadIdx.x % lanes;
  Real s[2 * kWidth] = {}, means[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j) means[j] = to<Real>(mean[(lane * kWidth + j) * mean_stride]);
  for (Index i = Index(blockIdx.x) * 256 + threadIdx.x; i < n; i += step) {
    if (wide)
      add_up<true>(in, x, taps, vi, vo, vt, threads.element(i), means, s);
    else
      add_up<false>(in, x, taps, vi, vo, vt, threads.element(i), means, s);
  }
#pragma unroll
  for (int j = 0; j < 2 * kWidth; ++j) shared[j][threadIdx.x] = s[j];
  __syncthreads();
  for (int k = threadIdx.x; k < 2 * lanes * kWidth; k += 256) {
    const int which = k / (lanes * kWidth), channel = k % (lanes * kWidth);
    Real total = 0;
    for (int t = channel / kWidth; t < 256; t += lanes) total += shared[which * kWidth + channel % kWidth][t];
    partial[(int64_t(which) * gridDim.x + blockIdx.x) * padded + channel] = total;
  }
}
"""


def batch_norm_pool(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, gamma, beta, sum, squares) -> y, taps, mean, var."""
    if empty := batch_norm.zeros(ins, outs):
        return empty
    b = batch_norm.Builder(ins, outs, attrs)
    coefficients = b.coefficients(2)
    b.finish_sums((1, 2, 3, 4, 7, 8), coefficients)
    norm = coefficients, Value(b.padded)
    pooled = pool.one_pass(pool.FORWARD, "forward", [*ins, *outs], attrs, (Operand(0), Operand(5)), Operand(6), norm)
    return Recipe((*b.launches, *pooled.launches), b.workspace)


def takes_gradient(channels: int) -> bool:
    """Of data with channels last: whether there is a kernel for the gradient."""
    return channels > 1 and channels % 8 == 0 and 256 % (channels // 8) == 0


def batch_norm_bwd_pool(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, dy, taps, mean, var, gamma) -> dx, dgamma, dbeta; x and dx with channels last."""
    if empty := batch_norm.zeros(ins, outs):
        return empty
    b, specs = batch_norm.Builder(ins, outs, attrs), [*ins, *outs]
    operands, data = [ins[1], outs[0], ins[2]], (Operand(1), Operand(6))
    width = pool.width_of(operands)
    packed = b.lanes and b.dense(ins[0]) and b.dense(outs[0])
    if not packed or b.channels % width or pool.THREADS % (b.channels // width):
        rule = "packed data with channels last, whose eighth divides 256"
        raise ShapeError("batch_norm_bwd_pool", rule, (ins[0].shape, ins[0].strides), "Take batch norm and pool apart")
    threads = -(-prod(ins[0].shape) // (width * pool.elements(attrs)))
    parts = blocks_for(threads, pool.THREADS, SUM_BLOCKS)
    partial, coefficients = b.scratch(2 * parts * b.padded * b.real_bytes), b.coefficients(3)
    body = pool.BACKWARD + SUMS.replace("MEAN", BY_NAME[ins[3].dtype].ctype)
    kernel = pool.kernel_code(body, "batch_norm_pool_sums", operands, attrs, width, True)
    views = (Value(v) for s in operands for v in pool.view_of(s))
    args: tuple[Argument, ...] = (
        Operand(1),
        Operand(0),
        Operand(2),
        Operand(3),
        partial,
        *views,
        Value(b.stride(3)),
        Value(b.padded),
    )
    b.launches.append(Launch(kernel, (parts, 1, 1), (pool.THREADS, 1, 1), args))
    b.gradient((3, 4, 5, 7, 8), coefficients, (Operand(0), partial, parts))
    norm = coefficients, Value(b.padded), Operand(0)
    written = pool.one_pass(pool.BACKWARD + pool.WRITE, "backward", specs, attrs, data, Operand(2), norm)
    return Recipe((*b.launches, *written.launches), b.workspace)


FACTORIES = {"batch_norm_pool": batch_norm_pool, "batch_norm_bwd_pool": batch_norm_bwd_pool}
