// Fused kernels, written and compiled at run time by minimx/rtc.
#include "cpu/fused.h"

namespace minimx {
namespace scalar {
namespace {

/// max: Largest element, NaN if there is one. Equal ones share the gradient.
struct max_ {
  template <class T>
  static T init() { return lowest<T>(); }
  template <class T>
  static T step(T acc, T x) {
    return maximum(acc, x);
  }
  template <class T>
  static T combine(T acc, T other) {
    return maximum(acc, other);
  }
  template <class T>
  static T finish(T acc, T) {
    return acc;
  }
};

/// subtract: x1 - x2.
struct subtract_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 - x2;
  }
};

/// exp: e to the power x.
struct exp_ {
  template <class T>
  static T f(T x) {
    return exp(x);
  }
};

/// sum: Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32.
struct sum_ {
  template <class T>
  static T init() { return T(0); }
  template <class T>
  static T step(T acc, T x) {
    return acc + x;
  }
  template <class T>
  static T combine(T acc, T other) {
    return acc + other;
  }
  template <class T>
  static T finish(T acc, T) {
    return acc;
  }
};

/// divide: x1 / x2; of integers in float32.
struct divide_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 / x2;
  }
};

}  // namespace

// cast, max, subtract, exp, sum, divide, cast over rows (m, 1000): float32 -> float32
extern "C" void fused_430d96949a84(void* const* data, int64_t begin, int64_t end) {
  const auto* p0 = static_cast<const float*>(data[0]);
  auto* q0 = static_cast<float*>(data[1]);
  constexpr int64_t n = 1000, kLanes = 32;
  alignas(64) float u3[n];  // kept from walk to walk
  for (int64_t row = begin; row < end; ++row) {
    const auto* r0 = p0 + row * 1000;
    auto* s0 = q0 + row * n;
    float a1[kLanes];
    std::fill_n(a1, kLanes, max_::init<float>());
    const auto walk0 = [&](int64_t i, int64_t lane) {
      const float x0 = r0[i];
      const float t0 = x0;
      a1[lane] = max_::step<float>(a1[lane], t0);
    };
    for (int64_t i = 0; i < n / kLanes * kLanes; i += kLanes)
#pragma GCC ivdep
      for (int64_t lane = 0; lane < kLanes; ++lane) walk0(i + lane, lane);
#pragma GCC ivdep
    for (int64_t i = n / kLanes * kLanes; i < n; ++i) walk0(i, i % kLanes);
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
      for (int64_t lane = 0; lane < half; ++lane) {
        a1[lane] = max_::combine<float>(a1[lane], a1[lane + half]);
      }
    const float t1 = to<float>(max_::finish<float>(a1[0], to<float>(n)));
    float a4[kLanes];
    std::fill_n(a4, kLanes, sum_::init<float>());
    const auto walk1 = [&](int64_t i, int64_t lane) {
      const float x0 = r0[i];
      const float t0 = x0;
      const float t2 = subtract_::f<float>(t0, t1);
      const float t3 = exp_::f<float>(t2);
      u3[i] = t3;
      a4[lane] = sum_::step<float>(a4[lane], t3);
    };
    for (int64_t i = 0; i < n / kLanes * kLanes; i += kLanes)
#pragma GCC ivdep
      for (int64_t lane = 0; lane < kLanes; ++lane) walk1(i + lane, lane);
#pragma GCC ivdep
    for (int64_t i = n / kLanes * kLanes; i < n; ++i) walk1(i, i % kLanes);
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
      for (int64_t lane = 0; lane < half; ++lane) {
        a4[lane] = sum_::combine<float>(a4[lane], a4[lane + half]);
      }
    const float t4 = to<float>(sum_::finish<float>(a4[0], to<float>(n)));
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) {  // walk 2
      const float t3 = u3[i];
      const float t5 = divide_::f<float>(t3, t4);
      const float t6 = t5;
      s0[i] = t6;
    }
  }
}

}  // namespace scalar
}  // namespace minimx
