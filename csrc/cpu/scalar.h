// The primitives of the scalar language (minimx/ops/primitives.py) as C++ functions: what generated kernels call, those
// of the build and those compiled at run time. Branch-free where that lets the compiler vectorise. Needs only the
// standard library and its two neighbours: scalar_math.h (exp, log, trigonometry), scalar_special.h (gamma functions,
// erfinv). Integers follow NumPy: division by zero gives 0, sums wrap (compile with -fwrapv). Infix operators are C++'s
// own.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "scalar_math.h"
#include "scalar_special.h"

namespace minimx {
namespace scalar {

template <class T>
constexpr bool is_int = std::is_integral_v<T>;

// Order. NaN wins in maximum and minimum and loses in fmax and fmin. Two selections, not an `or`: chains then
// vectorise.

template <class T>
T maximum(T a, T b) {
  const T larger = a > b ? a : b;  // b where that is NaN
  return a != a ? a : larger;
}
template <class T>
T minimum(T a, T b) {
  const T smaller = a < b ? a : b;
  return a != a ? a : smaller;
}
template <class T>
T fmax(T a, T b) {
  const T larger = a > b ? a : b;  // b where a is NaN
  return b != b ? a : larger;
}
template <class T>
T fmin(T a, T b) {
  const T smaller = a < b ? a : b;
  return b != b ? a : smaller;
}

// Sign and classes of numbers.

template <class T>
T abs(T x) {
  if constexpr (std::is_unsigned_v<T>)
    return x;
  else if constexpr (is_int<T>)
    return x < 0 ? static_cast<T>(-x) : x;
  else
    return std::fabs(x);
}
template <class T>
T sign(T x) {
  if constexpr (std::is_unsigned_v<T>) return x != 0;
  const T s = static_cast<T>((x > T(0)) - (x < T(0)));
  return x != x ? x : s;
}
template <class T>
T copysign(T a, T b) {
  return std::copysign(a, b);
}
template <class T>
bool isnan(T x) {
  return x != x;
}
template <class T>
bool isinf(T x) {
  if constexpr (is_int<T>)
    return false;
  else
    return std::fabs(x) == std::numeric_limits<T>::infinity();
}
template <class T>
bool isfinite(T x) {
  if constexpr (is_int<T>)
    return true;
  else
    return std::fabs(x) < std::numeric_limits<T>::infinity();
}
template <class T>
bool signbit(T x) {
  if constexpr (std::is_unsigned_v<T>)
    return false;
  else if constexpr (is_int<T>)
    return x < 0;
  else
    return std::copysign(T(1), x) < 0;
}

// Logic.

template <class T>
bool logical_xor(T a, T b) {
  return (a != T(0)) != (b != T(0));
}
template <class T>
bool logical_not(T x) {
  return x == T(0);
}
template <class T>
T bitwise_not(T x) {
  if constexpr (std::is_same_v<T, bool>)
    return !x;
  else
    return static_cast<T>(~x);
}
/// Shifts by the width or more give 0 (or the sign); by a negative count too, as if it were very large.
template <class T>
T left_shift(T x, T count) {
  using U = std::make_unsigned_t<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<U>(count) < width ? static_cast<T>(static_cast<U>(x) << (static_cast<U>(count) & (width - 1)))
                                       : T(0);
}
template <class T>
T right_shift(T x, T count) {
  using U = std::make_unsigned_t<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<T>(x >> (static_cast<U>(count) < width ? static_cast<U>(count) : width - 1) >>
                        (static_cast<U>(count) < width ? 0 : 1));
}

// Rounding.

template <class T>
T floor(T x) {
  if constexpr (is_int<T>)
    return x;
  else
    return std::floor(x);
}
template <class T>
T ceil(T x) {
  if constexpr (is_int<T>)
    return x;
  else
    return std::ceil(x);
}
template <class T>
T trunc(T x) {
  if constexpr (is_int<T>)
    return x;
  else
    return std::trunc(x);
}
template <class T>
T rint(T x) {
  if constexpr (is_int<T>)
    return x;
  else
    return std::rint(x);
}

// Division with remainder: of the sign of b (Python's %), or of a (C's fmod).

template <class T>
T fmod(T a, T b) {
  if constexpr (std::is_unsigned_v<T>)
    return b == 0 ? T(0) : static_cast<T>(a % b);
  else if constexpr (is_int<T>)
    return b == 0 || b == -1 ? T(0) : static_cast<T>(a % b);
  else
    return std::fmod(a, b);
}
template <class T>
T remainder(T a, T b) {
  const T r = fmod(a, b);
  if constexpr (std::is_unsigned_v<T>)
    return r;
  else if constexpr (is_int<T>)
    return static_cast<T>(r + (r != 0 && (r < 0) != (b < 0) ? b : T(0)));
  else
    return r != T(0) ? ((r < T(0)) != (b < T(0)) ? r + b : r) : std::copysign(T(0), b) + r * T(0);
}
template <class T>
T floor_divide(T a, T b) {
  if constexpr (std::is_unsigned_v<T>) {
    return b == 0 ? T(0) : static_cast<T>(a / b);
  } else if constexpr (is_int<T>) {
    if (b == 0) return 0;
    if (b == -1) return static_cast<T>(-a);  // the lowest value wraps onto itself
    return static_cast<T>(a / b - ((a % b != 0) && ((a < 0) != (b < 0))));
  } else {  // as CPython: from the exact remainder, so that 1 // 0.1 is 9
    if (b == T(0)) return a / b;
    const T r = std::fmod(a, b);
    T q = (a - r) / b;
    if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
    if (q == T(0)) return std::copysign(T(0), a / b);
    const T whole = std::floor(q);
    return q - whole > T(0.5) ? whole + T(1) : whole;
  }
}

// Powers and divisors.

/// a to the power b. Squares, reciprocals and roots are rounded once: compilers make that of exponents that they know,
/// and a kernel that reads its exponents is to give the same bits. Integers by repeated squaring, wrapping; a negative
/// exponent gives 0 unless a is 1 or -1.
template <class T>
T power(T a, T b) {
  if constexpr (!is_int<T>) {
    if (b == T(2)) return a * a;
    if (b == T(-1)) return T(1) / a;
    if (b == T(0.5) && a > T(0)) return std::sqrt(a);
    return std::pow(a, b);
  } else {
    if (!std::is_unsigned_v<T> && b < T(0)) return a == T(1) ? T(1) : a == T(-1) ? (b % 2 == 0 ? T(1) : T(-1)) : T(0);
    using U = std::make_unsigned_t<T>;
    uint64_t result = 1, base = static_cast<uint64_t>(a);
    for (U n = static_cast<U>(b); n != 0; n = static_cast<U>(n >> 1)) {
      if (n & 1) result *= base;
      base *= base;
    }
    return static_cast<T>(result);
  }
}
template <class T>
T hypot(T a, T b) {
  return std::hypot(a, b);
}
template <class T>
T gcd(T a, T b) {
  using U = std::make_unsigned_t<T>;
  U x = a < T(0) ? static_cast<U>(U(0) - static_cast<U>(a)) : static_cast<U>(a);
  U y = b < T(0) ? static_cast<U>(U(0) - static_cast<U>(b)) : static_cast<U>(b);
  while (y != 0) {
    const U r = static_cast<U>(x % y);
    x = y;
    y = r;
  }
  return static_cast<T>(x);
}
template <class T>
T lcm(T a, T b) {
  const T g = gcd(a, b);
  return g == T(0) ? T(0) : abs(static_cast<T>(a / g * b));
}

}  // namespace scalar
}  // namespace minimx
