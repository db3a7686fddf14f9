// Conversion of one element: NumPy's rules (convert.h says them). Needs only the standard library and common/float16.h,
// since kernels compiled at run time include it too (minimx/rtc). Runs of elements: convert.cc.
#pragma once
#include <limits>
#include <type_traits>

#include "common/float16.h"

namespace minimx {

/// A float as an integer: truncated; out of range and NaN are the lowest value, as the x86 instruction has it.
template <class Int, class Float>
Int truncate(Float x) {
  constexpr Float limit = -static_cast<Float>(std::numeric_limits<Int>::min());
  return x >= -limit && x < limit ? static_cast<Int>(x) : std::numeric_limits<Int>::min();
}

template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, BFloat16> || (std::is_same_v<From, Half> && !std::is_same_v<To, double>)) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return static_cast<To>(truncate<std::conditional_t<(sizeof(To) < 8), int32_t, int64_t>>(x));
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace minimx
