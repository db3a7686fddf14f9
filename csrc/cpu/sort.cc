// Sorting along the last axis of contiguous arrays: argsort(x) -> int64 positions of the "k" first elements in order.
//
// The order is stable; "descending" = 1 puts the largest first (equal ones still in the order of their places). NaN
// comes last, as in NumPy. Rows are independent and split over the threads.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/map_kernel.h"

namespace minimx {
namespace {

template <class T>
bool before(T a, T b) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return before(static_cast<float>(a), static_cast<float>(b));
  else
    return a < b || (b != b && a == a);
}

template <class T>
bool above(T a, T b) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return above(static_cast<float>(a), static_cast<float>(b));
  else
    return a > b || (b != b && a == a);
}

template <class T>
class Argsort final : public Kernel {
 public:
  Argsort(const Spec& x, int64_t k, bool descending)
      : n_(x.shape.back()), k_(k), rows_(n_ ? x.size() / n_ : 0), descending_(descending) {}
  size_t workspace_bytes() const override { return k_ < n_ ? rows_ * n_ * sizeof(int64_t) : 0; }
  double cost_ns() const override {
    return 50 + 6.0 * static_cast<double>(rows_ * n_) * std::log2(static_cast<double>(std::max<int64_t>(k_, 2)));
  }
  void run(void* const* data, void* workspace) const override {
    parallel_for(rows_, 1 + 2000 / n_, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        int64_t* y = static_cast<int64_t*>(data[1]) + r * k_;
        row(static_cast<const T*>(data[0]) + r * n_, y, k_ < n_ ? static_cast<int64_t*>(workspace) + r * n_ : y);
      }
    });
  }

 private:
  /// `order` has room for n_ positions and is y where all are wanted.
  void row(const T* x, int64_t* y, int64_t* order) const {
    std::iota(order, order + n_, int64_t{0});
    auto first = [x, d = descending_](int64_t a, int64_t b) {
      if (d ? above(x[a], x[b]) : before(x[a], x[b])) return true;
      if (d ? above(x[b], x[a]) : before(x[b], x[a])) return false;
      return a < b;
    };
    if (k_ == n_) {
      std::sort(order, order + n_, first);
      return;
    }
    std::partial_sort(order, order + k_, order + n_, first);
    std::copy(order, order + k_, y);
  }
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
