// Fused kernels, written and compiled at run time by minimx/rtc.
#include "cpu/fused.h"

namespace minimx {
namespace scalar {
namespace {

/// exp: e to the power x.
struct exp_ {
  template <class T>
  static T f(T x) {
    return exp(x);
  }
};

/// tanh: Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x).
struct tanh_ {
  template <class T>
  static T f(T x) {
    return tanh(x);
  }
};

}  // namespace

// exp, tanh over (n): float32 -> float32
extern "C" void fused_f2fdd88b05bb(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const float*>(data[0]);
  auto* q0 = static_cast<float*>(data[1]);
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) {
    const float x0 = p0[i];
    const float t0 = exp_::f<float>(x0);
    const float t1 = tanh_::f<float>(t0);
    q0[i] = t1;
  }
}

}  // namespace scalar
}  // namespace minimx
