// The primitives of the scalar language (minimx/ops/primitives.py) that the host and CUDA have in common, one text for
// both: scalar.h includes it, and it follows minimx/rtc/cuda/prelude.h in every kernel of a GPU. What comes before it:
// `same`, is_int, is_unsigned and Unsigned, and exp; of the libraries it uses C's names alone (::floor). Branch-free
// where that lets the host's compiler vectorise. Integers follow NumPy: division by zero gives 0, sums wrap.
#pragma once

namespace minimx {
namespace scalar {

// Where reductions begin: the numbers that no other is below or above (minimx/ops/emit_reduce.py writes calls of
// these).

template <class T>
constexpr T lowest() {
  if constexpr (!is_int<T>)
    return -INFINITY;
  else
    return is_unsigned<T> ? T(0) : static_cast<T>(uint64_t(1) << (8 * sizeof(T) - 1));
}
template <class T>
constexpr T highest() {
  if constexpr (!is_int<T>)
    return INFINITY;
  else
    return static_cast<T>(~(is_unsigned<T> ? uint64_t(0) : uint64_t(1) << (8 * sizeof(T) - 1)));
}

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
  if constexpr (is_unsigned<T>)
    return x;
  else if constexpr (is_int<T>)
    return x < 0 ? static_cast<T>(-x) : x;
  else
    return ::fabs(x);
}
template <class T>
T sign(T x) {
  if constexpr (is_unsigned<T>) {
    return x != 0;
  } else {
    const T s = static_cast<T>((x > T(0)) - (x < T(0)));
    return x != x ? x : s;
  }
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
    return ::fabs(x) == T(INFINITY);
}
template <class T>
bool isfinite(T x) {
  if constexpr (is_int<T>)
    return true;
  else
    return ::fabs(x) < T(INFINITY);
}
template <class T>
bool signbit(T x) {
  if constexpr (is_unsigned<T>)
    return false;
  else if constexpr (is_int<T>)
    return x < 0;
  else
    return ::copysign(T(1), x) < 0;
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
  if constexpr (same<T, bool>)
    return !x;
  else
    return static_cast<T>(~x);
}
/// Shifts by the width or more give 0 (or the sign); by a negative count too, as if it were very large.
template <class T>
T left_shift(T x, T count) {
  using U = Unsigned<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<U>(count) < width ? static_cast<T>(static_cast<U>(x) << (static_cast<U>(count) & (width - 1)))
                                       : T(0);
}
template <class T>
T right_shift(T x, T count) {
  using U = Unsigned<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<T>(x >> (static_cast<U>(count) < width ? static_cast<U>(count) : width - 1) >>
                        (static_cast<U>(count) < width ? 0 : 1));
}

// The libraries' functions under the language's names. Rounding leaves integers as they are.

#define MINIMX_ROUNDING(name) \
  template <class T>          \
  T name(T x) {               \
    if constexpr (is_int<T>)  \
      return x;               \
    else                      \
      return ::name(x);       \
  }
MINIMX_ROUNDING(floor)
MINIMX_ROUNDING(ceil)
MINIMX_ROUNDING(trunc)
MINIMX_ROUNDING(rint)
#undef MINIMX_ROUNDING

#define MINIMX_FUNCTION(name, library) \
  template <class T>                   \
  T name(T x) {                        \
    return ::library(x);               \
  }
MINIMX_FUNCTION(sqrt, sqrt)
MINIMX_FUNCTION(cbrt, cbrt)
MINIMX_FUNCTION(arcsin, asin)
MINIMX_FUNCTION(arccos, acos)
MINIMX_FUNCTION(arctan, atan)
MINIMX_FUNCTION(arcsinh, asinh)
MINIMX_FUNCTION(arccosh, acosh)
MINIMX_FUNCTION(arctanh, atanh)
#undef MINIMX_FUNCTION

template <class T>
T arctan2(T a, T b) {
  return ::atan2(a, b);
}
template <class T>
T copysign(T a, T b) {
  return ::copysign(a, b);
}
template <class T>
T hypot(T a, T b) {
  return ::hypot(a, b);
}
template <class T>
T sigmoid(T x) {
  const T z = exp(-::fabs(x));
  return (x < T(0) ? z : T(1)) / (T(1) + z);
}

// Division with remainder: of the sign of b (Python's %), or of a (C's fmod).

template <class T>
T fmod(T a, T b) {
  if constexpr (is_unsigned<T>)
    return b == 0 ? T(0) : static_cast<T>(a % b);
  else if constexpr (is_int<T>)
    return b == 0 || b == -1 ? T(0) : static_cast<T>(a % b);
  else
    return ::fmod(a, b);
}
template <class T>
T remainder(T a, T b) {
  const T r = fmod(a, b);
  if constexpr (is_unsigned<T>)
    return r;
  else if constexpr (is_int<T>)
    return static_cast<T>(r + (r != 0 && (r < 0) != (b < 0) ? b : T(0)));
  else
    return r != T(0) ? ((r < T(0)) != (b < T(0)) ? r + b : r) : ::copysign(T(0), b) + r * T(0);
}
template <class T>
T floor_divide(T a, T b) {
  if constexpr (is_unsigned<T>) {
    return b == 0 ? T(0) : static_cast<T>(a / b);
  } else if constexpr (is_int<T>) {
    if (b == 0) return 0;
    if (b == -1) return static_cast<T>(-a);  // the lowest value wraps onto itself
    return static_cast<T>(a / b - ((a % b != 0) && ((a < 0) != (b < 0))));
  } else {  // as CPython: from the exact remainder, so that 1 // 0.1 is 9
    if (b == T(0)) return a / b;
    const T r = ::fmod(a, b);
    T q = (a - r) / b;
    if (r != T(0) && (r < T(0)) != (b < T(0))) q -= T(1);
    if (q == T(0)) return ::copysign(T(0), a / b);
    const T whole = ::floor(q);
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
    if (b == T(0.5) && a > T(0)) return ::sqrt(a);
    return ::pow(a, b);
  } else {
    if (!is_unsigned<T> && b < T(0)) return a == T(1) ? T(1) : a == T(-1) ? (b % 2 == 0 ? T(1) : T(-1)) : T(0);
    uint64_t result = 1, base = static_cast<uint64_t>(a);
    for (Unsigned<T> n = static_cast<Unsigned<T>>(b); n != 0; n = static_cast<Unsigned<T>>(n >> 1)) {
      if (n & 1) result *= base;
      base *= base;
    }
    return static_cast<T>(result);
  }
}
template <class T>
T gcd(T a, T b) {
  using U = Unsigned<T>;
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
/// d/dx ln Gamma(x): recurrence up to x >= 10, then the asymptotic series (Abramowitz and Stegun 6.3.18); reflection
/// (6.3.7) below zero; NaN at 0, -1, -2, ... except for the signed infinities at the two zeros. In double.
inline double digamma_positive(double x) {
  double below = 0;
  for (; x < 10; x += 1) below += 1 / x;
  const double s = 1 / (x * x);
  const double series =
      s * (1.0 / 12 - s * (1.0 / 120 - s * (1.0 / 252 - s * (1.0 / 240 - s * (1.0 / 132 - s * 691.0 / 32760)))));
  return ::log(x) - 0.5 / x - series - below;
}
template <class T>
T digamma(T value) {
  const double x = value;
  if (x == 0) return static_cast<T>(::copysign(static_cast<double>(INFINITY), -x));
  if (x == INFINITY || x != x) return value;
  if (x > 0) return static_cast<T>(digamma_positive(x));
  if (x == ::floor(x)) return static_cast<T>(NAN);
  const double pi = 3.14159265358979323846;
  return static_cast<T>(digamma_positive(1 - x) - pi / ::tan(pi * (x - ::floor(x))));
}

}  // namespace scalar
}  // namespace minimx
