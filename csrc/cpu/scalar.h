// The primitives of the scalar language (minimx/ops/primitives.py) as C++ functions: what generated kernels call, those
// of the build and those compiled at run time. Infix operators are C++'s own; compile with -fwrapv. Needs only the
// standard library and its neighbours: scalar_math.h (exp, log, trigonometry), scalar_special.h (gamma functions,
// erfinv), and primitives.h, the text that CUDA kernels share.
#pragma once
#include <math.h>  // C's names for float too

#include <cstdint>
#include <type_traits>

#include "scalar_math.h"
#include "scalar_special.h"

namespace minimx {
namespace scalar {

template <class A, class B>
constexpr bool same = std::is_same_v<A, B>;
template <class T>
constexpr bool is_int = std::is_integral_v<T>;
template <class T>
constexpr bool is_unsigned = std::is_unsigned_v<T>;
template <class T>
using Unsigned = std::make_unsigned_t<T>;

}  // namespace scalar
}  // namespace minimx

#include "primitives.h"

namespace minimx {
namespace scalar {

// Of these the float's are vector code (scalar_math.h).
template <>
[[gnu::always_inline]] inline float power<float>(float a, float b) {
  return pow(a, b);
}
template <>
[[gnu::always_inline]] inline float sigmoid<float>(float x) {
  const float z = exp_below(-std::fabs(x));
  return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}

}  // namespace scalar
}  // namespace minimx
