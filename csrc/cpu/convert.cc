// Implementation of convert.h: one loop per pair of types, with branches for runs that are contiguous or one value.
#include "cpu/convert.h"

#include <limits>
#include <type_traits>

namespace minimx {
namespace {

template <class T>
constexpr bool is_narrow_float = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;

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

template <class From, class To>
void run(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n) {
  if (from_step == sizeof(From) && to_step == sizeof(To)) {
    const auto* a = reinterpret_cast<const From*>(from);
    auto* b = reinterpret_cast<To*>(to);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) b[i] = convert<To>(a[i]);
  } else if (from_step == 0 && to_step == sizeof(To)) {
    const To value = convert<To>(*reinterpret_cast<const From*>(from));
    auto* b = reinterpret_cast<To*>(to);
    for (int64_t i = 0; i < n; ++i) b[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i)
      *reinterpret_cast<To*>(to + i * to_step) = convert<To>(*reinterpret_cast<const From*>(from + i * from_step));
  }
}

}  // namespace

Convert find_convert(DType from, DType to) {
  return dispatch(
      from, [&](auto a) { return dispatch(to, [](auto b) -> Convert { return run<decltype(a), decltype(b)>; }); });
}

}  // namespace minimx
