// Where reductions begin: the numbers that no other is below or above (minimx/ops/emit_reduce.py writes calls of
// these).
#pragma once
#include <limits>

namespace minimx {
namespace scalar {

template <class T>
constexpr T lowest() {
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
}
template <class T>
constexpr T highest() {
  return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
}

}  // namespace scalar
}  // namespace minimx
