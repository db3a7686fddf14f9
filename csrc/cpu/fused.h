// What a fused kernel compiled at run time includes: the scalar functions and the conversions, nothing of the library.
// minimx/rtc/emit_host.py writes those kernels; this folder of headers travels inside the package
// (csrc/CMakeLists.txt).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "convert_scalar.h"
#include "scalar.h"

namespace minimx {

/// `x` as a To, by NumPy's rules; a 16-bit float is rounded here, as it would be on its way through memory.
template <class To, class From>
inline To to(From x) {
  return convert<To>(x);
}

}  // namespace minimx
