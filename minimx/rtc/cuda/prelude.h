// The primitives of the scalar language (minimx/ops/primitives.py) as CUDA functions, twins of csrc/cpu/scalar*.h; what
// is put before every kernel of this folder. Compiled by NVRTC with -default-device (no __device__ is written) and
// without contraction (--fmad=false), so that fused and unfused kernels agree. Includes only CUDA's 16-bit floats, and
// not even those where MINIMX_NO_NARROW says that a text has none: half the time of a small compilation goes there.
#pragma once
#ifndef MINIMX_NO_NARROW
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#else
struct __half;
struct __nv_bfloat16;
#endif

using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#define INT64_MIN (-9223372036854775807LL - 1)
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fc00000)
#endif

namespace minimx {

using Half = __half;
using BFloat16 = __nv_bfloat16;

template <class A, class B>
constexpr bool same = false;
template <class A>
constexpr bool same<A, A> = true;
template <class T>
constexpr bool is_float = same<T, float> || same<T, double>;
template <class T>
constexpr bool is_narrow = same<T, Half> || same<T, BFloat16>;
template <class T>
constexpr bool is_int = !is_float<T> && !is_narrow<T>;
template <class T>
constexpr bool is_unsigned = is_int<T> && T(-1) > T(0);

template <int kBytes>
struct UnsignedOf {
  using type = uint32_t;
};
template <>
struct UnsignedOf<1> {
  using type = uint8_t;
};
template <>
struct UnsignedOf<2> {
  using type = uint16_t;
};
template <>
struct UnsignedOf<8> {
  using type = uint64_t;
};
template <class T>
using Unsigned = typename UnsignedOf<sizeof(T)>::type;

/// A 16-bit float as the float it stands for; other types as they are.
template <class T>
T wide(T x) {
  return x;
}
/// `x` as a 16-bit float, rounded to nearest even; from a double once to Half, twice to BFloat16.
template <class To, class From>
To narrow(From x);

#ifndef MINIMX_NO_NARROW
inline float wide(Half x) { return __half2float(x); }
inline float wide(BFloat16 x) { return __bfloat162float(x); }
template <class To, class From>
To narrow(From x) {
  if constexpr (same<To, BFloat16>)
    return __float2bfloat16_rn(static_cast<float>(x));
  else if constexpr (same<From, double>)
    return __double2half(x);
  else
    return __float2half_rn(static_cast<float>(x));
}
#endif

/// A float as an integer, as the host has it: truncated; out of range and NaN are the lowest value.
template <class Int, class Float>
Int truncate(Float x) {
  const Int lowest = static_cast<Int>(uint64_t(1) << (8 * sizeof(Int) - 1));
  const Float limit = -static_cast<Float>(lowest);
  return x >= -limit && x < limit ? static_cast<Int>(x) : lowest;
}

/// `x` as a To, by NumPy's rules (csrc/cpu/convert_scalar.h).
template <class To, class From>
To to(From x) {
  if constexpr (same<To, From>) {
    return x;
  } else if constexpr (is_narrow<From>) {
    return to<To>(wide(x));
  } else if constexpr (is_narrow<To>) {
    return narrow<To>(x);
  } else if constexpr (same<To, bool>) {
    return x != From(0);
  } else if constexpr (is_float<From> && is_int<To>) {
    if constexpr (sizeof(To) < 8)
      return static_cast<To>(truncate<int32_t>(x));
    else
      return truncate<int64_t>(x);
  } else {
    return static_cast<To>(x);
  }
}

/// kCount elements read or written at once, in accesses of 16 bytes where they are that many.
constexpr int access(int bytes) { return (bytes & -bytes) < 16 ? bytes & -bytes : 16; }
template <class T, int kCount>
struct alignas(access(sizeof(T) * kCount)) Pack {
  T at[kCount];
};
template <int kCount, class T>
Pack<T, kCount> load(const T* p) {
  return *reinterpret_cast<const Pack<T, kCount>*>(p);
}
template <int kCount, class T>
void store(T* p, const Pack<T, kCount>& x) {
  *reinterpret_cast<Pack<T, kCount>*>(p) = x;
}

/// A number as a type: what a generic lambda takes in place of a template argument.
template <int kValue>
struct Count {
  static constexpr int value = kValue;
};

/// x / divisor for 0 <= x < 2^31, by a multiplication. `magic`: pointwise.py's magic(divisor).
inline int divide(int x, int64_t magic) {
  const uint32_t high =
      static_cast<uint32_t>(static_cast<uint64_t>(static_cast<uint32_t>(x)) * static_cast<uint32_t>(magic) >> 32);
  return static_cast<int>((high + static_cast<uint32_t>(x)) >> (magic >> 32));
}

namespace scalar {

// Order. NaN wins in maximum and minimum and loses in fmax and fmin.

template <class T>
T maximum(T a, T b) {
  return (a >= b || a != a) ? a : b;
}
template <class T>
T minimum(T a, T b) {
  return (a <= b || a != a) ? a : b;
}
template <class T>
T fmax(T a, T b) {
  return (a >= b || b != b) ? a : b;
}
template <class T>
T fmin(T a, T b) {
  return (a <= b || b != b) ? a : b;
}

// Sign and classes of numbers.

template <class T>
T abs(T x) {
  if constexpr (is_float<T>)
    return ::fabs(x);
  else
    return x < T(0) ? static_cast<T>(-x) : x;
}
template <class T>
T sign(T x) {
  return x != x ? x : static_cast<T>((x > T(0)) - (x < T(0)));
}
template <class T>
T copysign(T a, T b) {
  return ::copysign(a, b);
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
  if constexpr (is_int<T>)
    return x < T(0);
  else
    return ::copysign(T(1), x) < T(0);
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
template <class T>
T left_shift(T x, T count) {
  using U = Unsigned<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<U>(count) < width ? static_cast<T>(static_cast<U>(x) << static_cast<U>(count)) : T(0);
}
template <class T>
T right_shift(T x, T count) {
  using U = Unsigned<T>;
  constexpr U width = 8 * sizeof(T);
  return static_cast<U>(count) < width ? static_cast<T>(x >> static_cast<U>(count))
                                       : static_cast<T>(x >> (width - 1) >> 1);
}

// Rounding.

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

// Division with remainder, as the host has it: of the sign of b (Python's %), or of a (C's fmod); by zero 0.

template <class T>
T fmod(T a, T b) {
  if constexpr (is_unsigned<T>)
    return b == 0 ? T(0) : static_cast<T>(a % b);
  else if constexpr (is_int<T>)
    return b == 0 || b == T(-1) ? T(0) : static_cast<T>(a % b);
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
    if (b == T(-1)) return static_cast<T>(-a);
    return static_cast<T>(a / b - ((a % b != 0) && ((a < 0) != (b < 0))));
  } else {
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

template <class T>
T power(T a, T b) {
  if constexpr (is_float<T>) {
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
T hypot(T a, T b) {
  return ::hypot(a, b);
}
template <class T>
T ldexp(T x, T exponent) {
  const T bounded = exponent > T(10000) ? T(10000) : exponent < T(-10000) ? T(-10000) : exponent;
  return exponent != exponent ? exponent : ::ldexp(x, static_cast<int>(bounded));
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

// Functions of analysis: CUDA's own, in the precision of their argument.

#define MINIMX_FUNCTION(name, cuda) \
  template <class T>                \
  T name(T x) {                     \
    return ::cuda(x);               \
  }
MINIMX_FUNCTION(exp, exp)
MINIMX_FUNCTION(exp2, exp2)
MINIMX_FUNCTION(expm1, expm1)
MINIMX_FUNCTION(log, log)
MINIMX_FUNCTION(log2, log2)
MINIMX_FUNCTION(log10, log10)
MINIMX_FUNCTION(log1p, log1p)
MINIMX_FUNCTION(sqrt, sqrt)
MINIMX_FUNCTION(rsqrt, rsqrt)
MINIMX_FUNCTION(cbrt, cbrt)
MINIMX_FUNCTION(sin, sin)
MINIMX_FUNCTION(cos, cos)
MINIMX_FUNCTION(tan, tan)
MINIMX_FUNCTION(arcsin, asin)
MINIMX_FUNCTION(arccos, acos)
MINIMX_FUNCTION(arctan, atan)
MINIMX_FUNCTION(sinh, sinh)
MINIMX_FUNCTION(cosh, cosh)
MINIMX_FUNCTION(tanh, tanh)
MINIMX_FUNCTION(arcsinh, asinh)
MINIMX_FUNCTION(arccosh, acosh)
MINIMX_FUNCTION(arctanh, atanh)
MINIMX_FUNCTION(erf, erf)
MINIMX_FUNCTION(erfinv, erfinv)
MINIMX_FUNCTION(gammaln, lgamma)
MINIMX_FUNCTION(gamma, tgamma)
#undef MINIMX_FUNCTION

template <class T>
T arctan2(T a, T b) {
  return ::atan2(a, b);
}
template <class T>
T sigmoid(T x) {
  const T z = ::exp(-::fabs(x));
  return (x < T(0) ? z : T(1)) / (T(1) + z);
}

/// d/dx ln Gamma(x), as csrc/cpu/scalar_special.h computes it.
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
