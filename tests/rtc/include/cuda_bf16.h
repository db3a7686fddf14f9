// Stands in for NVIDIA's header when kernels run on the CPU (emulator.h): bfloat16 and its conversions.
#pragma once
#include <string.h>

struct __nv_bfloat16 {
  unsigned short bits;
};

/// The nearest bfloat16, ties to even.
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  unsigned u;
  memcpy(&u, &x, 4);
  if (x != x) return {0x7fff};
  return {static_cast<unsigned short>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float x) { return __float2bfloat16_rn(x); }
inline float __bfloat162float(__nv_bfloat16 x) {
  const unsigned u = static_cast<unsigned>(x.bits) << 16;
  float y;
  memcpy(&y, &u, 4);
  return y;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
