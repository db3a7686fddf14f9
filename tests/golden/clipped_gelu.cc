// Fused kernels, written and compiled at run time by minimx/rtc.
#include "cpu/fused.h"

namespace minimx {
namespace scalar {
namespace {

/// gelu: x * Phi(x) with the normal distribution Phi. Hendrycks and Gimpel 2016, arXiv:1606.08415.
struct gelu_ {
  template <class T>
  static T f(T x) {
    return T(0.5) * x * (T(1) + erf(x * T(0.7071067811865476)));
  }
};

/// greater: x1 > x2.
struct greater_ {
  template <class T>
  static bool f(T x1, T x2) {
    return x1 > x2;
  }
};

/// where: x where condition, else y.
struct where_ {
  template <class T>
  static T f(bool condition, T x, T y) {
    return condition ? x : y;
  }
};

}  // namespace

// gelu, greater, where over (n): float32 -> bool, float32
extern "C" void fused_c2f301218a8a(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const float*>(data[0]);
  auto* q0 = static_cast<bool*>(data[1]);
  auto* q1 = static_cast<float*>(data[2]);
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const float x0 = p0[i];
    const float t0 = gelu_::f<float>(x0);
    const bool t1 = greater_::f<float>(t0, 0.1f);
    const float t2 = where_::f<float>(t1, t0, float(-INFINITY));
    q0[i] = t1;
    q1[i] = t2;
  }
}

}  // namespace scalar
}  // namespace minimx
