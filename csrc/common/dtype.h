// Element types. The list itself is generated from minimx/ops/dtypes.py, the only place that spells it.
// 16-bit floats are storage types here: arithmetic on them is done in float32.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

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

enum class DType : uint8_t {
#define MINIMX_DTYPE(id, name, type, size) id,
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
};

inline int itemsize(DType t) {
  switch (t) {
#define MINIMX_DTYPE(id, name, type, size) \
  case DType::id:                          \
    return size;
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  }
  return 0;
}

inline const char* dtype_name(DType t) {
  switch (t) {
#define MINIMX_DTYPE(id, name, type, size) \
  case DType::id:                          \
    return name;
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  }
  return "?";
}

template <class T>
struct DTypeOf;
#define MINIMX_DTYPE(id, name, type, size)      \
  template <>                                   \
  struct DTypeOf<type> {                        \
    static constexpr DType value = DType::id;   \
  };
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE

/// Calls f with a value of the C++ type of t: `dispatch(t, [&](auto zero) { using T = decltype(zero); ... })`.
template <class F>
decltype(auto) dispatch(DType t, F&& f) {
  switch (t) {
#define MINIMX_DTYPE(id, name, type, size) \
  case DType::id:                          \
    return f(type{});
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  }
  __builtin_unreachable();
}

}  // namespace minimx
