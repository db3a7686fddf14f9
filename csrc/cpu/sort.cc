// Sorting along the last axis of contiguous arrays: argsort(x) -> int64 positions of the "k" first elements in order.
//
// The order is stable; "descending" = 1 puts the largest first (equal ones still in the order of their places). NaN
// comes last, as in NumPy. Rows are independent and split over the threads.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "cpu/map_kernel.h"

namespace minimx {
namespace {

/// An unsigned number that orders as `v` does: NaN above everything, -0 and 0 the same.
template <class T>
uint32_t rank(T v, bool descending) {
  if constexpr (std::is_integral_v<T>) {
    const uint32_t r = static_cast<uint32_t>(static_cast<int32_t>(v)) ^ 0x80000000u;
    return descending ? ~r : r;
  } else {
    const float f = static_cast<float>(v) + 0.0f;
    if (f != f) return 0xffffffffu;
    const uint32_t bits = std::bit_cast<uint32_t>(f), r = bits >> 31 ? ~bits : bits | 0x80000000u;
    return descending ? ~r : r;
  }
}

/// Sorts what stands for the elements so that the first k are in place.
template <class It, class... Less>
void sort_first(It begin, int64_t k, int64_t n, Less... less) {
  if (k == n)
    std::sort(begin, begin + n, less...);
  else
    std::partial_sort(begin, begin + k, begin + n, less...);
}

template <class T>
void argsort_row(const T* x, int64_t* y, int64_t n, int64_t k, bool descending, uint64_t* scratch) {
  if constexpr (sizeof(T) <= 4) {
    for (int64_t i = 0; i < n; ++i) scratch[i] = uint64_t{rank(x[i], descending)} << 32 | static_cast<uint64_t>(i);
    sort_first(scratch, k, n);
    for (int64_t i = 0; i < k; ++i) y[i] = static_cast<int64_t>(scratch[i] & 0xffffffffu);
  } else {
    auto before = [](T a, T b) { return a < b || (b != b && a == a); };
    auto above = [](T a, T b) { return a > b || (b != b && a == a); };
    std::iota(scratch, scratch + n, uint64_t{0});
    sort_first(scratch, k, n, [=](uint64_t a, uint64_t b) {
      if (descending ? above(x[a], x[b]) : before(x[a], x[b])) return true;
      if (descending ? above(x[b], x[a]) : before(x[b], x[a])) return false;
      return a < b;
    });
    std::copy(scratch, scratch + k, y);
  }
}

template <class T>
class Argsort final : public Kernel {
 public:
  Argsort(const Spec& x, int64_t k, bool descending)
      : n_(x.shape.back()), k_(k), rows_(n_ ? x.size() / n_ : 0), descending_(descending) {}
  size_t workspace_bytes() const override { return rows_ * n_ * sizeof(uint64_t); }
  double cost_ns() const override {
    return 50 + 4.0 * static_cast<double>(rows_ * n_) * std::log2(static_cast<double>(std::max<int64_t>(k_, 2)));
  }
  void run(void* const* data, void* workspace) const override {
    parallel_for(rows_, 1 + 2000 / (n_ + 1), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        argsort_row(static_cast<const T*>(data[0]) + r * n_, static_cast<int64_t*>(data[1]) + r * k_, n_, k_,
                    descending_, static_cast<uint64_t*>(workspace) + r * n_);
    });
  }

 private:
  int64_t n_, k_, rows_;
  bool descending_;
};

}  // namespace

void register_sort_kernels() {
  register_kernel("argsort", [](std::span<const Spec> ins, std::span<const Spec>, const Attrs& a) -> KernelPtr {
    return dispatch(ins[0].dtype, [&](auto zero) -> KernelPtr {
      return std::make_shared<Argsort<decltype(zero)>>(ins[0], a.integer("k"), a.integer("descending") != 0);
    });
  });
}

}  // namespace minimx
