// Philox4x32-10, the counter-based generator behind all randomness: Salmon, Moraes, Dror and Shaw, "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC'11. A pure function of a counter and a key, so every element of an array can be
// drawn on its own, on any thread or device, and always comes out the same. And the draws that take as many numbers as
// it needs. One text for the host (random.cc) and for CUDA (minimx/rtc/cuda/random.py), so C's names alone are used.
#pragma once
#include <math.h>

#include <cstdint>

namespace minimx {

struct Words {
  uint32_t at[4];
};

/// Ten rounds over the counter c under the key (k0, k1).
inline Words philox(Words c, uint32_t k0, uint32_t k1) {
#ifdef __CUDACC_RTC__
#pragma unroll
#endif
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c.at[0], p1 = uint64_t(0xCD9E8D57u) * c.at[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.at[1] ^ k0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.at[3] ^ k1, static_cast<uint32_t>(p0)}};
  }
  return c;
}

/// A number in [0, 1) with 24 or 53 bits.
inline float unit(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
inline double unit(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t(high) << 32 | low) >> 11) * 0x1p-53;
}

/// The numbers of one element, as many iterations as it takes. Stream: words(group, iteration) are those of the four
/// elements of a group.
template <class Stream>
struct Draws {
  const Stream& stream;
  int64_t element;
  uint32_t iteration = 0;
  uint32_t word() {
    const Words words = stream.words(element / 4, iteration++);
    const int k = element % 4;
    return k < 2 ? (k == 0 ? words.at[0] : words.at[1]) : (k == 2 ? words.at[2] : words.at[3]);
  }
  /// The next number in (0, 1), 53 bits.
  double next() {
    const uint32_t high = word(), low = word();
    return unit(high, low) + 0x1p-54;
  }
  /// Standard normal: Box and Muller 1958.
  double normal() {
    const double radius = ::sqrt(-2 * ::log(next()));
    return radius * ::cos(6.283185307179586 * next());
  }
};

/// Gamma with shape a, scale 1: Marsaglia and Tsang 2000; for a < 1 by a draw of a + 1 and a power.
template <class Stream>
double gamma_draw(Draws<Stream>& draws, double a) {
  if (!(a > 0)) return a == 0 ? 0.0 : double(NAN);
  const double boost = a < 1 ? ::pow(draws.next(), 1 / a) : 1.0, d = (a < 1 ? a + 1 : a) - 1.0 / 3,
               c = 1 / ::sqrt(9 * d);
  while (true) {
    const double x = draws.normal(), t = 1 + c * x, v = t * t * t;
    if (t > 0 && ::log(draws.next()) < 0.5 * x * x + d - d * v + d * ::log(v)) return boost * d * v;
  }
}

template <class Stream>
double beta_draw(Draws<Stream>& draws, double a, double b) {
  const double x = gamma_draw(draws, a), y = gamma_draw(draws, b);
  return x / (x + y);
}

/// Poisson with rate l: products of uniforms (Knuth) for small l, transformed rejection (Hoermann 1993, PTRS) for
/// large.
template <class Stream>
double poisson_draw(Draws<Stream>& draws, double l) {
  if (!(l >= 0)) return double(NAN);
  if (l < 10) {
    const double limit = ::exp(-l);
    double k = 0;
    for (double p = draws.next(); p > limit; p *= draws.next()) ++k;
    return k;
  }
  const double b = 0.931 + 2.53 * ::sqrt(l), a = -0.059 + 0.02483 * b, r = 0.9277 - 3.6224 / (b - 2);
  while (true) {
    const double u = draws.next() - 0.5, v = draws.next(), s = 0.5 - ::fabs(u),
                 k = ::floor((2 * a / s + b) * u + l + 0.43);
    if (s >= 0.07 && v <= r) return k;
    if (k < 0 || (s < 0.013 && v > s)) continue;
    if (::log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (s * s) + b)) <= k * ::log(l) - l - ::lgamma(k + 1)) return k;
  }
}

}  // namespace minimx
