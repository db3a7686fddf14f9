// Iteration spaces of kernels over strided operands: axes of extent 1 dropped, axes ordered as one operand lies in
// memory, neighbours merged where every operand allows it. Made once per kernel; walking one allocates nothing.
#pragma once
#include <algorithm>
#include <array>
#include <numeric>
#include <span>

#include "runtime/kernel.h"

namespace minimx {

/// Strides (in bytes) of each of several operands over common axes; the last axis is innermost.
template <int kOperands>
struct AxisSpace {
  Dims shape;                           // at least one axis, extents other than 1 unless it is the only one
  std::array<Dims, kOperands> strides;  // in bytes
  int operands = 0;

  int64_t size() const { return shape.product(); }
  int inner() const { return shape.size() - 1; }
  int64_t inner_size() const { return shape.back(); }

  /// Orders the axes by the strides of operand `lead`, largest first, and merges them. Extents 1 disappear.
  void normalise(int lead) {
    const int n = shape.size();
    std::array<int, kMaxDims> order;
    std::iota(order.begin(), order.begin() + n, 0);
    std::stable_sort(order.begin(), order.begin() + n,
                     [&](int a, int b) { return std::abs(strides[lead][a]) > std::abs(strides[lead][b]); });
    AxisSpace merged;
    merged.operands = operands;
    for (int i = 0; i < n; ++i) merged.append(*this, order[i]);
    if (merged.shape.empty()) merged.push(1, [](int) { return 0; });
    *this = merged;
  }

  template <class StrideOf>
  void push(int64_t extent, StrideOf&& stride_of) {
    shape.push_back(extent);
    for (int k = 0; k < operands; ++k) strides[k].push_back(stride_of(k));
  }

 private:
  void append(const AxisSpace& from, int axis) {
    const int64_t extent = from.shape[axis];
    if (extent == 1) return;
    const int last = shape.size() - 1;
    bool merges = last >= 0;
    for (int k = 0; merges && k < operands; ++k) merges = strides[k][last] == from.strides[k][axis] * extent;
    if (!merges) return push(extent, [&](int k) { return from.strides[k][axis]; });
    shape[last] *= extent;
    for (int k = 0; k < operands; ++k) strides[k][last] = from.strides[k][axis];
  }
};

/// Strides in bytes of `spec` broadcast to `shape`: 0 along the axes it lacks or has extent 1 in.
inline Dims broadcast_strides(const Spec& spec, const Dims& shape) {
  Dims out = Dims::filled(shape.size(), 0);
  const int lead = shape.size() - spec.shape.size();
  for (int i = 0; i < spec.shape.size(); ++i)
    if (spec.shape[i] != 1) out[lead + i] = spec.strides[i] * itemsize(spec.dtype);
  return out;
}

/// Position of element `linear` (row-major over `shape`), axis by axis.
inline std::array<int64_t, kMaxDims> position_of(int64_t linear, const Dims& shape) {
  std::array<int64_t, kMaxDims> at;
  for (int d = shape.size() - 1; d > 0; --d) {
    at[d] = linear % shape[d];
    linear /= shape[d];
  }
  at[0] = linear;
  return at;
}

}  // namespace minimx
