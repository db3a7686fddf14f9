// What happens to an index out of range: the modes of take, put and their like (minimx/ops/rows/index.py).
#pragma once
#include <algorithm>
#include <string>

#include "common/error.h"

namespace minimx {

enum class IndexMode : int { kRaise = 0, kClip = 1, kWrap = 2 };

[[noreturn]] inline void index_out_of_bounds(int64_t index, int64_t n) {
  throw Error(ErrorKind::kIndex, "index: expected a number in [-" + std::to_string(n) + ", " + std::to_string(n) +
                                     "), got " + std::to_string(index) +
                                     ". Check the indices, or use mode='clip' or 'wrap'.");
}

/// The place in [0, n) that `index` means; n > 0. Throws Error(kIndex) in mode kRaise.
inline int64_t resolve_index(int64_t index, int64_t n, IndexMode mode) {
  if (index >= 0 && index < n) return index;
  if (mode == IndexMode::kClip) return std::clamp<int64_t>(index, 0, n - 1);
  if (mode == IndexMode::kWrap) {
    index %= n;
    return index < 0 ? index + n : index;
  }
  if (index < -n || index >= n) index_out_of_bounds(index, n);
  return index + n;
}

}  // namespace minimx
