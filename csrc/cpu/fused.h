// What a fused kernel compiled at run time includes: the scalar functions and the conversions, nothing of the library.
// minimx/rtc/emit_host.py writes those kernels; this folder of headers travels inside the package
// (csrc/CMakeLists.txt).
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "convert_scalar.h"
#include "scalar.h"

namespace minimx {

/// Zero, but the compiler cannot know.
extern "C" {
int32_t minimx_zero = 0;
}

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

/// `x` as a To, by NumPy's rules; a 16-bit float is rounded here, as it would be on its way through memory. gcc turns a
/// float made an integer and a float again into trunc, which loses that -0.5 becomes 0 and not -0: hence minimx_zero.
template <class To, class From>
inline To to(From x) {
  if constexpr (std::is_same_v<From, Half> && !std::is_same_v<To, Half>)
    return to<To>(widened(x));
  else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Half>)
    return narrowed(x);
  else if constexpr (!std::is_integral_v<From> && std::is_integral_v<To> && sizeof(To) >= 4)
    return convert<To>(x) + static_cast<To>(minimx_zero);
  else
    return convert<To>(x);
}

}  // namespace minimx
