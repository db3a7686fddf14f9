// Element types. The list itself is generated from minimx/ops/dtypes.py, the only place that spells it.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "common/float16.h"

namespace minimx {

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
#define MINIMX_DTYPE(id, name, type, size)    \
  template <>                                 \
  struct DTypeOf<type> {                      \
    static constexpr DType value = DType::id; \
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

inline bool is_integer(DType t) {
  return dispatch(t, []<class T>(T) { return std::is_integral_v<T> && !std::is_same_v<T, bool>; });
}

}  // namespace minimx
