// The 16-bit floats: storage types, arithmetic on them is done in float32. Needs only the standard library, since
// kernels compiled at run time include it too (minimx/rtc). The list of all element types: dtype.h.
#pragma once
#include <bit>
#include <cstdint>

namespace minimx {

/// IEEE binary16. gcc and clang convert to and from float in hardware where the CPU can.
using Half = _Float16;

/// bfloat16: the upper half of a float32, rounded to nearest even.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  BFloat16(float f) {
    uint32_t u = std::bit_cast<uint32_t>(f);
    bits = (u & 0x7fffffff) > 0x7f800000 ? static_cast<uint16_t>((u >> 16) | 0x40)
                                         : static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

}  // namespace minimx
