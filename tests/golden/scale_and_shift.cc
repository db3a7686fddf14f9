// Fused kernels, written and compiled at run time by minimx/rtc.
#include "cpu/fused.h"

namespace minimx {
namespace scalar {
namespace {

/// multiply: x1 * x2; of bools: both.
struct multiply_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 * x2;
  }
};

/// add: x1 + x2; of bools: either.
struct add_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 + x2;
  }
};

}  // namespace

// multiply, cast, add over (n, 64, 49): bfloat16, float32[0, 1, 0], float32[49, 0, 1] -> float32
extern "C" void fused_ed5d394c5b0d(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const BFloat16*>(data[0]);
  const auto* p1 = static_cast<const float*>(data[1]);
  const auto* p2 = static_cast<const float*>(data[2]);
  auto* q0 = static_cast<float*>(data[3]);
  for (int64_t at = begin; at < end;) {  // a run along the last axis
    const int64_t i0 = at / (64 * 49);
    const int64_t i1 = at / 49 % 64;
    const int64_t i2 = at % 49;
    const int64_t n = std::min<int64_t>(49 - i2, end - at);
    const auto* r0 = p0 + at;
    const float x1 = p1[i1];
    const auto* r2 = p2 + i0 * 49 + i2;
    auto* s0 = q0 + at;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {
      const BFloat16 x0 = r0[i];
      const float x2 = r2[i];
      const float t0 = multiply_::f<float>(to<float>(x0), x1);
      const BFloat16 t1 = to<BFloat16>(t0);
      const float t2 = add_::f<float>(to<float>(t1), x2);
      s0[i] = t2;
    }
    at += n;
  }
}

}  // namespace scalar
}  // namespace minimx
