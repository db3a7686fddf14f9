// CUDA's words for kernels that run on the CPU: qualifiers, built-in variables, barriers, shuffles, atomics,
// intrinsics. Only what prelude.h and the recipes use; a word that is missing here does not compile. How threads take
// turns: emulator.h, which includes this.
#pragma once
#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __grid_constant__
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
};
using uint3 = dim3;
extern "C" __attribute__((visibility("hidden"))) dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

// ---- vectors --------------------------------------------------------------------------------------------------------

#define EMULATOR_VECTORS(type, name, size2, size4)                 \
  struct alignas(size2) name##2 { type x, y; };                    \
  struct alignas(size4) name##4 { type x, y, z, w; };              \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; } \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(unsigned, uint, 8, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(unsigned short, ushort, 4, 8)
#undef EMULATOR_VECTORS

// ---- barriers and exchange between threads (emulator.h) -------------------------------------------------------------

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
inline void __threadfence() {}
inline void __threadfence_block() {}

namespace emulator {
/// Gives `value` (of 8 bytes) to the lanes of `mask`; returns what they gave, by lane. Valid until the next call.
const unsigned long long* exchange(unsigned long long value, unsigned mask, const char* what);
int lane();

template <class T>
T from_lane(T value, unsigned mask, int source, int width, const char* what) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
  unsigned long long word = 0;
  memcpy(&word, &value, sizeof value);
  const unsigned long long* words = exchange(word, mask, what);
  const int first = lane() / width * width;
  if (source < first || source >= first + width) return value;
  memcpy(&value, words + source, sizeof value);
  return value;
}
}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = emulator::lane() / width * width;
  return emulator::from_lane(value, mask, first + (source & (width - 1)), width, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  return emulator::from_lane(value, mask, emulator::lane() ^ bits, width, "__shfl_xor_sync");
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned count, int width = 32) {
  return emulator::from_lane(value, mask, emulator::lane() + static_cast<int>(count), width, "__shfl_down_sync");
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned count, int width = 32) {
  return emulator::from_lane(value, mask, emulator::lane() - static_cast<int>(count), width, "__shfl_up_sync");
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned long long* words = emulator::exchange(predicate != 0, mask, "__ballot_sync");
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (mask >> i & 1 & (words[i] == 1)) << i;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// ---- atomics: of the types that CUDA has ----------------------------------------------------------------------------

#define EMULATOR_ATOMIC(name, type, made)  \
  inline type name(type* at, type value) { \
    const type old = *at;                  \
    *at = made;                            \
    return old;                            \
  }
#define EMULATOR_ATOMICS(type)                                 \
  EMULATOR_ATOMIC(atomicAdd, type, old + value)                \
  EMULATOR_ATOMIC(atomicOr, type, old | value)                 \
  EMULATOR_ATOMIC(atomicAnd, type, old& value)                 \
  EMULATOR_ATOMIC(atomicMax, type, old > value ? old : value)  \
  EMULATOR_ATOMIC(atomicMin, type, old < value ? old : value)  \
  EMULATOR_ATOMIC(atomicExch, type, value)                     \
  inline type atomicCAS(type* at, type expected, type value) { \
    const type old = *at;                                      \
    if (old == expected) *at = value;                          \
    return old;                                                \
  }
EMULATOR_ATOMICS(int)
EMULATOR_ATOMICS(unsigned)
EMULATOR_ATOMICS(unsigned long long)
EMULATOR_ATOMIC(atomicMax, long long, old > value ? old : value)
EMULATOR_ATOMIC(atomicMin, long long, old < value ? old : value)
inline unsigned atomicInc(unsigned* at, unsigned limit) {
  const unsigned old = *at;
  *at = old >= limit ? 0 : old + 1;
  return old;
}
#undef EMULATOR_ATOMICS
#undef EMULATOR_ATOMIC

// ---- bits and numbers -----------------------------------------------------------------------------------------------

template <class To, class From>
inline To emulator_bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
inline float __int_as_float(int x) { return emulator_bits<float>(x); }
inline int __float_as_int(float x) { return emulator_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emulator_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return emulator_bits<unsigned>(x); }
inline double __longlong_as_double(long long x) { return emulator_bits<double>(x); }
inline long long __double_as_longlong(double x) { return emulator_bits<long long>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((1ULL * a * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
template <class T>
T __ldg(const T* at) {
  return *at;
}
template <class T>
T __ldcs(const T* at) {
  return *at;
}
template <class T>
void __stcs(T* at, T value) {
  *at = value;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float rsqrt(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double erfinv(double x) {
  if (!(fabs(x) < 1)) return fabs(x) == 1 ? copysign(INFINITY, x) : NAN;
  const double w = log1p(-x * x), c = 4.3307467508 + w / 2;  // Winitzki's start, then Newton's steps
  double y = copysign(sqrt(sqrt(c * c - w / 0.147) - c), x);
  for (int i = 0; i < 4; ++i) {
    const double error = x > 0.5 ? erfc(y) - (1 - x) : x < -0.5 ? (1 + x) - erfc(-y) : x - erf(y);
    y += error * 0.8862269254527580 * exp(y * y);
  }
  return y;
}
inline float erfinv(float x) { return static_cast<float>(erfinv(static_cast<double>(x))); }
inline float erfinvf(float x) { return erfinv(x); }
[[noreturn]] void __trap();
