// What is put before every kernel of this folder: types, conversions, packs, and the functions of analysis of the
// scalar language (minimx/ops/primitives.py). csrc/cpu/primitives.h, its others, comes behind. Compiled by NVRTC with
// -default-device (no __device__ is written) and without contraction (--fmad=false), so that fused and unfused kernels
// agree. Includes only CUDA's 16-bit floats, and not even those where MINIMX_NO_NARROW says that a text has none: half
// the time of a small compilation goes there.
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

/// The first line of every kernel. Since Hopper a kernel of a captured graph may start when the last block of the one
/// before it ends (csrc/cuda/launcher.cc): it waits here until all that was written can be seen. None lets its follower
/// start sooner (griddepcontrol.launch_dependents), for that may be a library's, which need not wait.
inline void in_order() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

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
/// kCount elements from p on; `aligned` says that they may be read (or written) at once.
template <int kCount, class T>
Pack<T, kCount> load(const T* p, bool aligned = true) {
  if constexpr (kCount > 1)
    if (aligned) return *reinterpret_cast<const Pack<T, kCount>*>(p);
  Pack<T, kCount> pack;
#pragma unroll
  for (int j = 0; j < kCount; ++j) pack.at[j] = p[j];
  return pack;
}
template <class T, int kCount>
void store(T* p, const Pack<T, kCount>& pack, bool aligned = true) {
  if (kCount > 1 && aligned) {
    *reinterpret_cast<Pack<T, kCount>*>(p) = pack;
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) p[j] = pack.at[j];
  }
}
/// True if all of the pointers are those of a V.
template <class V, class... Pointers>
bool aligned(Pointers... p) {
  return ((... | reinterpret_cast<size_t>(p)) & (alignof(V) - 1)) == 0;
}
/// May kCount elements from p on be read at once?
template <int kCount, class T>
bool is_aligned(const T* p) {
  return aligned<Pack<T, kCount>>(p);
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

#if __CUDA_ARCH__ >= 800 && defined(__CUDACC_RTC__)
// Of float, a GPU's own instruction for what primitives.h makes of four.

inline float maximum(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}
inline float minimum(float a, float b) {
  float smaller;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(smaller) : "f"(a), "f"(b));
  return smaller;
}
/// Divides by 1 to 2, where an estimate that is corrected once is the quotient but for its last bit.
inline float sigmoid(float x) {
  const float z = ::exp(-::fabs(x)), n = x < 0.0f ? z : 1.0f, d = 1.0f + z;
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(d));
  const float quotient = n * inverse;
  return ::fmaf(::fmaf(-d, quotient, n), inverse, quotient);
}
#endif

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
MINIMX_FUNCTION(rsqrt, rsqrt)
MINIMX_FUNCTION(sin, sin)
MINIMX_FUNCTION(cos, cos)
MINIMX_FUNCTION(tan, tan)
MINIMX_FUNCTION(sinh, sinh)
MINIMX_FUNCTION(cosh, cosh)
MINIMX_FUNCTION(tanh, tanh)
MINIMX_FUNCTION(erf, erf)
MINIMX_FUNCTION(erfinv, erfinv)
MINIMX_FUNCTION(gammaln, lgamma)
MINIMX_FUNCTION(gamma, tgamma)
#undef MINIMX_FUNCTION

}  // namespace scalar
}  // namespace minimx
