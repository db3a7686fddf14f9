// MapKernel: a kernel made from a function on ranges. For the many kernels that are one loop over independent parts.
#pragma once
#include <memory>
#include <utility>

#include "engine/parallel.h"
#include "runtime/kernel.h"

namespace minimx {

/// Calls body(data, begin, end) on ranges that cover [0, n), in parallel where `ns_each` nanoseconds a part are worth
/// it.
template <class Body>
class MapKernel final : public Kernel {
 public:
  MapKernel(int64_t n, double ns_each, Body body)
      : n_(n),
        cost_(30 + ns_each * static_cast<double>(n)),
        grain_(1 + static_cast<int64_t>(kTaskNs / (ns_each + 0.01))),
        body_(std::move(body)) {}
  void run(void* const* data, void*) const override {
    parallel_for(n_, grain_, [&](int64_t begin, int64_t end) { body_(data, begin, end); });
  }
  double cost_ns() const override { return cost_; }

 private:
  static constexpr double kTaskNs = 10000;
  int64_t n_;
  double cost_;
  int64_t grain_;
  Body body_;
};

template <class Body>
KernelPtr map_kernel(int64_t n, double ns_each, Body body) {
  return std::make_shared<MapKernel<Body>>(n, ns_each, std::move(body));
}

/// Arithmetic type of an element type: float for the 16-bit floats, else itself.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>, float, T>;

/// Calls f with a value of the C++ type if `t` is a float; throws kType otherwise.
template <class F>
KernelPtr dispatch_float(const char* where, DType t, F&& f) {
  switch (t) {
    case DType::kFloat16:
      return f(Half{});
    case DType::kBFloat16:
      return f(BFloat16{});
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat64:
      return f(double{});
    default:
      throw Error(ErrorKind::kType,
                  std::string(where) + ": expected a float type, got " + dtype_name(t) + ". Cast with astype.");
  }
}

}  // namespace minimx
