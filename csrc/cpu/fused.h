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

/// `x` as a To, by NumPy's rules; a 16-bit float is rounded here, as it would be on its way through memory. gcc turns a
/// float made an integer and a float again into trunc, which loses that -0.5 becomes 0 and not -0: hence minimx_zero.
template <class To, class From>
inline To to(From x) {
  if constexpr (!std::is_integral_v<From> && std::is_integral_v<To> && sizeof(To) >= 4)
    return convert<To>(x) + static_cast<To>(minimx_zero);
  else
    return convert<To>(x);
}

}  // namespace minimx
