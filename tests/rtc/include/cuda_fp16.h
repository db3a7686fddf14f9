// Stands in for NVIDIA's header when kernels run on the CPU (emulator.h): the 16-bit float and its conversions.
#pragma once
#include <math.h>
#include <string.h>

struct __half {
  unsigned short bits;
};

/// The nearest 16-bit float, ties to even.
inline __half __double2half(double x) {
  const double a = fabs(x);
  unsigned bits;
  if (x != x) {
    return {0x7fff};
  } else if (a >= 65520) {
    bits = 0x7c00;
  } else if (a < 0x1p-14) {  // subnormal, a multiple of 2^-24; the last one rounds up to the first normal number
    bits = static_cast<unsigned>(rint(a * 0x1p24));
  } else {
    int e;
    const double fraction = frexp(a, &e);  // [0.5, 1)
    bits = (static_cast<unsigned>(e + 14) << 10) + static_cast<unsigned>(rint(fraction * 2048)) - 1024;
  }
  return {static_cast<unsigned short>(bits | (signbit(x) ? 0x8000u : 0u))};
}
inline __half __float2half_rn(float x) { return __double2half(x); }
inline __half __float2half(float x) { return __double2half(x); }
inline float __half2float(__half x) {
  const unsigned exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  double a = exponent == 0 ? fraction * 0x1p-24 : ldexp(fraction + 1024.0, static_cast<int>(exponent) - 25);
  if (exponent == 31) a = fraction ? NAN : INFINITY;
  return static_cast<float>(x.bits & 0x8000 ? -a : a);
}
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
