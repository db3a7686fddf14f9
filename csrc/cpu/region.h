// Copies of regions between arrays of one element size and any strides: what concatenate, paste and their like share.
// Not for conversions (cast.cc).
#pragma once
#include <cstring>

#include "cpu/strided.h"
#include "engine/parallel.h"

namespace minimx {

/// A copy bound to its axes and strides (bytes). `from` may have zero strides (broadcast); `to` may not.
class RegionCopy {
 public:
  RegionCopy() = default;
  RegionCopy(const Dims& shape, const Dims& from_strides, const Dims& to_strides, int item) : item_(item) {
    space_.operands = 2;
    space_.shape = shape;
    space_.strides = {from_strides, to_strides};
    space_.normalise(1);
  }
  int64_t size() const { return space_.size(); }
  double cost_ns() const { return 40 + 0.08 * static_cast<double>(size()) * item_; }

  void run(const char* from, char* to) const {
    if (size() == 0) return;
    const int64_t inner = space_.inner_size(), rows = size() / inner;
    if (rows == 1) {
      const int64_t f = space_.strides[0].back(), t = space_.strides[1].back();
      return parallel_for(inner, 1 + kTaskBytes / item_,
                          [&](int64_t begin, int64_t end) { row(from + begin * f, to + begin * t, end - begin); });
    }
    parallel_for(rows, 1 + kTaskBytes / (inner * item_),
                 [&](int64_t begin, int64_t end) { some_rows(from, to, begin, end); });
  }

 private:
  static constexpr int64_t kTaskBytes = 1 << 16;

  void some_rows(const char* from, char* to, int64_t begin, int64_t end) const {
    Dims outer = space_.shape;
    outer.resize(space_.inner());
    auto at = position_of(begin, outer);
    const Dims &f = space_.strides[0], &t = space_.strides[1];
    for (int d = 0; d < outer.size(); ++d) {
      from += at[d] * f[d];
      to += at[d] * t[d];
    }
    for (int64_t r = begin; r < end; ++r) {
      row(from, to, space_.inner_size());
      for (int d = outer.size() - 1; d >= 0; --d) {
        from += f[d];
        to += t[d];
        if (++at[d] < outer[d]) break;
        from -= f[d] * outer[d];
        to -= t[d] * outer[d];
        at[d] = 0;
      }
    }
  }

  template <class T>
  static void each(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n) {
    for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * to_step, from + i * from_step, sizeof(T));
  }

  void row(const char* from, char* to, int64_t n) const {
    const int64_t f = space_.strides[0].back(), t = space_.strides[1].back();
    if (f == item_ && t == item_) {
      std::memcpy(to, from, n * item_);
      return;
    }
    if (item_ == 4) return each<int32_t>(from, f, to, t, n);
    if (item_ == 2) return each<int16_t>(from, f, to, t, n);
    if (item_ == 8) return each<int64_t>(from, f, to, t, n);
    each<char>(from, f, to, t, n);
  }

  AxisSpace<2> space_;
  int item_ = 1;
};

/// `strides` of elements in bytes.
inline Dims in_bytes(const Dims& strides, int item) {
  Dims out = strides;
  for (int64_t& s : out) s *= item;
  return out;
}

}  // namespace minimx
