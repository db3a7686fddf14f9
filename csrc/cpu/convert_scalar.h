// Conversion of one element: NumPy's rules (convert.h says them). Needs only the standard library and common/float16.h,
// since kernels compiled at run time include it too (minimx/rtc). Runs of elements: convert.cc.
#pragma once
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/float16.h"

namespace minimx {

// Half and float by arithmetic on their bits, which compilers make vector code of; gcc 12 converts one by one. Exact,
// as the instructions are (after Fabian Giesen, "Float to half done quick").

inline float widened(Half x) {
  const uint32_t bits = std::bit_cast<uint16_t>(x), magnitude = (bits & 0x7fff) << 13,
                 exponent = magnitude & 0x0f800000;
  const uint32_t normal = magnitude + (112u << 23);
  const uint32_t quiet = (magnitude & 0x7fffff) != 0 ? 0x400000 : 0;
  const uint32_t special = (magnitude + (224u << 23)) | quiet;  // infinity and NaN
  const float least = std::bit_cast<float>(113u << 23);
  const uint32_t tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude + (113u << 23)) - least);
  const uint32_t result = exponent == 0x0f800000 ? special : exponent == 0 ? tiny : normal;
  return std::bit_cast<float>(result | (bits & 0x8000) << 16);
}

inline Half narrowed(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), magnitude = bits & 0x7fffffff;
  const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : 0x7c00;
  const uint32_t rounder = 126u << 23;  // 0.5, whose last bit is worth that of the least Half
  const float rounded = std::bit_cast<float>(magnitude) + std::bit_cast<float>(rounder);
  const uint32_t tiny = std::bit_cast<uint32_t>(rounded) - rounder;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;  // to nearest even
  const uint32_t result = magnitude >= 143u << 23 ? special : magnitude < 113u << 23 ? tiny : normal;
  return std::bit_cast<Half>(static_cast<uint16_t>(result | bits >> 31 << 15));
}

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
  } else if constexpr (std::is_same_v<From, Half>) {
    return convert<To>(widened(x));
  } else if constexpr (std::is_same_v<From, BFloat16>) {
    return convert<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Half>) {
    return narrowed(x);
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
