// Exponentials, logarithms, trigonometric and hyperbolic functions and erf. In float: branch-free polynomials after a
// reduction of the argument, which vectorise; errors at most 2.5 units in the last place (most at most 1.5), right at
// 0, infinity, NaN and for denormals. In double: the C library's. The polynomials are minimax fits (weighted least
// squares) of the named quotient.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace minimx {
namespace scalar {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// All are inlined always: a loop over one that is called, and not inlined, cannot become vector code.

/// a * b + c, rounded once where the machine can. Written out, and contraction by the compiler switched off, so that a
/// function gives the same bits in every kernel that it is inlined into, at build and at run time.
[[gnu::always_inline]] inline float madd(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

[[gnu::always_inline]] inline double madd(double a, double b, double c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// 2^n for n in [-126, 127].
[[gnu::always_inline]] inline float pow2(int32_t n) { return std::bit_cast<float>((n + 127) << 23); }

/// p * 2^n for n in [-252, 254]: in two steps, so that denormal results are rounded once and overflow gives infinity.
[[gnu::always_inline]] inline float scale(float p, int32_t n) { return p * pow2(n >> 1) * pow2(n - (n >> 1)); }

/// e^r - 1 for |r| <= ln(2) / 2; the polynomial is (e^r - 1 - r) / r^2.
[[gnu::always_inline]] inline float expm1_small(float r) {
  float p = 1.991315814e-04f;
  p = madd(p, r, 1.394041633e-03f);
  p = madd(p, r, 8.333275040e-03f);
  p = madd(p, r, 4.166636490e-02f);
  p = madd(p, r, 1.666666681e-01f);
  p = madd(p, r, 5.000000043e-01f);
  return madd(p, r * r, r);
}

/// x - n ln 2, with ln 2 in two parts of which the first times n is exact.
[[gnu::always_inline]] inline float minus_n_ln2(float x, float n) {
  return madd(n, 2.12194440e-4f, madd(n, -0.693359375f, x));
}

/// The integer nearest to x log2(e), |x| < 2^20: as a float, and plus kRoundBits. Adding 1.5 * 2^23 rounds to an
/// integer, which the last bits of the sum then are; of kRoundBits the last 9 are 0.
constexpr float kRound = 12582912.0f;
constexpr int32_t kRoundBits = 0x4b400000;
[[gnu::always_inline]] inline float nearest_power(float x, int32_t* n) {
  const float sum = madd(x, 1.44269504f, kRound);
  *n = std::bit_cast<int32_t>(sum);
  return sum - kRound;
}

/// x * 2^n for n in [-126, 127], of whose bits the last 9 count.
[[gnu::always_inline]] inline float times_pow2(float x, int32_t n) {
  return x * std::bit_cast<float>((n << 23) + 0x3f800000);
}

/// e^x * 2^shift.
[[gnu::always_inline]] inline float exp_scaled(float x, int32_t shift) {
  const float clamped = x < -105.0f ? -105.0f : x > 90.0f ? 90.0f : x;
  int32_t n;
  const float whole = nearest_power(clamped, &n);
  return scale(1.0f + expm1_small(minus_n_ln2(clamped, whole)), n - kRoundBits + shift);
}

/// e^x for |x| <= 80, NaN for NaN.
[[gnu::always_inline]] inline float exp_bounded(float x) {
  int32_t n;
  const float whole = nearest_power(x, &n);
  return times_pow2(1.0f + expm1_small(minus_n_ln2(x, whole)), n);
}

/// e^x for x <= 0.
[[gnu::always_inline]] inline float exp_below(float x) {
  const float clamped = x < -105.0f ? -105.0f : x;
  int32_t n;
  const float whole = nearest_power(clamped, &n);  // at least -152: what is 2^64 too large is normal
  return times_pow2(1.0f + expm1_small(minus_n_ln2(clamped, whole)), n + 64) * 5.42101086e-20f;
}

[[gnu::always_inline]] inline float exp(float x) { return exp_scaled(x, 0); }
inline double exp(double x) { return std::exp(x); }

[[gnu::always_inline]] inline float exp2(float x) {
  const float clamped = x < -151.0f ? -151.0f : x > 129.0f ? 129.0f : x;
  const float n = std::rint(clamped);
  return scale(1.0f + expm1_small((clamped - n) * 0.693147181f), static_cast<int32_t>(n));
}
inline double exp2(double x) { return std::exp2(x); }

[[gnu::always_inline]] inline float expm1(float x) {
  const float clamped = x < -30.0f ? -30.0f : x > 89.0f ? 89.0f : x;
  const float n = std::rint(clamped * 1.44269504f);
  const float p = expm1_small(minus_n_ln2(clamped, n));
  const float half = scale(0.5f, static_cast<int32_t>(n));  // 2^n / 2, within range where 2^n is not
  return n == 0.0f ? (x == 0.0f ? x : p) : 2.0f * madd(half, p, half - 0.5f);
}
inline double expm1(double x) { return std::expm1(x); }

/// x = m * 2^e with m in [sqrt(1/2), sqrt(2)), for positive finite x; gives m - 1 and e.
[[gnu::always_inline]] inline float split(float x, float* e) {
  const bool tiny = x < 1.17549435e-38f;
  const int32_t bits = std::bit_cast<int32_t>(tiny ? x * 8388608.0f : x) - 0x3f3504f3;
  *e = static_cast<float>(bits >> 23) - (tiny ? 23.0f : 0.0f);
  return std::bit_cast<float>((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
}

/// ln(1 + f) - f for f in [sqrt(1/2) - 1, sqrt(2) - 1]; the polynomial is (ln(1 + f) - f + f^2 / 2) / f^3.
[[gnu::always_inline]] inline float log1p_minus(float f) {
  float p = 6.752845937e-02f;
  p = madd(p, f, -1.167064095e-01f);
  p = madd(p, f, 1.188221773e-01f);
  p = madd(p, f, -1.240606636e-01f);
  p = madd(p, f, 1.422052182e-01f);
  p = madd(p, f, -1.666800233e-01f);
  p = madd(p, f, 2.000206357e-01f);
  p = madd(p, f, -2.500000867e-01f);
  p = madd(p, f, 3.333331359e-01f);
  const float ff = f * f;
  return madd(p, f * ff, -0.5f * ff);
}

/// What every logarithm is outside (0, inf), else `y`.
[[gnu::always_inline]] inline float log_edges(float x, float y) {
  return x > 0.0f ? (x == kInf ? kInf : y) : x == 0.0f ? -kInf : kNaN;
}

[[gnu::always_inline]] inline float log(float x) {
  float e;
  const float f = split(x, &e);
  const float tail = madd(e, -2.12194440e-4f, log1p_minus(f));
  return log_edges(x, madd(e, 0.693359375f, f + tail));
}
inline double log(double x) { return std::log(x); }

[[gnu::always_inline]] inline float log2(float x) {
  float e;
  const float f = split(x, &e);
  const float tail = log1p_minus(f);  // (f + tail) * log2(e), whose constant is 1 + 0.44269504
  return log_edges(x, (madd(f, 0.442695041f, tail * 0.442695041f) + tail + f) + e);
}
inline double log2(double x) { return std::log2(x); }

[[gnu::always_inline]] inline float log10(float x) {
  float e;
  const float f = split(x, &e);
  const float tail = log1p_minus(f);
  const float low = madd(tail, 0.434294482f, madd(f, -3.205518097e-03f, e * 7.90340679e-6f));
  return log_edges(x, madd(e, 0.301022126f, madd(f, 0.4375f, low)));
}
inline double log10(double x) { return std::log10(x); }

[[gnu::always_inline]] inline float log1p(float x) {
  const float u = 1.0f + x;
  const float lost = u >= 2.0f ? 1.0f - (u - x) : x - (u - 1.0f);  // of x, by rounding u
  const float corrected = log(u) + ((u > 0.0f) & (u < kInf) ? lost / u : 0.0f);
  return x == 0.0f ? x : corrected;
}
inline double log1p(double x) { return std::log1p(x); }

/// |a|^b in double, from the logarithm to base 2 of |a|: its error stays far below float's last place, so that results
/// are off by little more than the half unit of their rounding.
[[gnu::always_inline]] inline float power_of_magnitude(float magnitude, float b) {
  float e;
  const float m_less_1 = split(magnitude, &e);
  // f / (2 + f), by a division in float and a step of Newton's: a division in double takes as long as all the rest.
  const double f = m_less_1, below = 2.0 + f, rough = 1.0f / (2.0f + m_less_1);
  const double s = f * madd(rough, madd(-below, rough, 1.0), rough), z = s * s;
  double p = 0.28290034420547738;
  p = madd(p, z, 0.31990566597819187);
  p = madd(p, z, 0.4122092535590452);
  p = madd(p, z, 0.57707794235320298);
  p = madd(p, z, 0.96179669411331736);
  p = madd(p, z, 2.8853900817778504);
  const double finite = madd(s, p, static_cast<double>(e));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double log2 = magnitude == 0.0f ? -kInfinity : magnitude == kInf ? kInfinity : finite;
  const double t = log2 == 0.0 ? 0.0 : log2 * b;  // 1^inf is 1
  const double bounded = t < -160.0 ? -160.0 : t > 130.0 ? 130.0 : t;
  const double n = std::rint(bounded), r = bounded - n;
  double q = 0.00015345799751830487;
  q = madd(q, r, 0.0013399931120316986);
  q = madd(q, r, 0.0096184890026627754);
  q = madd(q, r, 0.055503287772731016);
  q = madd(q, r, 0.24022646890213226);
  q = madd(q, r, 0.69314720573707711);
  q = madd(q, r, 1.0000000005542236);
  return static_cast<float>(q * std::bit_cast<double>((static_cast<int64_t>(static_cast<int32_t>(n)) + 1023) << 52));
}

/// a to the power b, with C's answers (pow) for zero, infinity, NaN and negative a.
[[gnu::always_inline]] inline float pow(float a, float b) {
  const float size = power_of_magnitude(std::fabs(a), b);
  const bool whole = std::rint(b) == b, odd = whole & (std::rint(b * 0.5f) != b * 0.5f);
  const float y = odd ? std::copysign(size, a) : size;
  const bool undefined = ((a < 0.0f) & (a != -kInf) & !whole) | (a != a) | (b != b);
  const float power = b == 2.0f ? a * a : y;  // a square is rounded once
  return (a == 1.0f) | (b == 0.0f) ? 1.0f : undefined ? kNaN : power;
}

[[gnu::always_inline]] inline float tanh(float x) {
  const float size = std::fabs(x), z = size > 10.0f ? -20.0f : -2.0f * size;
  int32_t n;
  const float whole = nearest_power(z, &n), power = times_pow2(1.0f, n);
  const float t = madd(power, expm1_small(minus_n_ln2(z, whole)), power - 1.0f);  // e^z - 1, in (-1, 0]
  return std::copysign(-t / (2.0f + t), x);
}
inline double tanh(double x) { return std::tanh(x); }

[[gnu::always_inline]] inline float sinh(float x) {
  const float a = std::fabs(x);
  const float t = expm1(a < 1.0f ? a : 1.0f), h = exp_scaled(a, -1);
  const float y = a < 1.0f ? 0.5f * (t + t / (t + 1.0f)) : h - 0.25f / h;
  return std::copysign(y, x);
}
inline double sinh(double x) { return std::sinh(x); }

[[gnu::always_inline]] inline float cosh(float x) {
  const float h = exp_scaled(std::fabs(x), -1);
  return h + 0.25f / h;
}
inline double cosh(double x) { return std::cosh(x); }

/// erf. Near 0 the polynomial is erf(x) / x - 1 in x^2; from 1 on it is ln(1 - erf(x)).
[[gnu::always_inline]] inline float erf(float x) {
  const float a = std::fabs(x), s = x * x;
  float p = 7.889119530e-05f;
  p = madd(p, s, -8.020841280e-04f);
  p = madd(p, s, 5.189535339e-03f);
  p = madd(p, s, -2.685444459e-02f);
  p = madd(p, s, 1.128360018e-01f);
  p = madd(p, s, -3.761262714e-01f);
  p = madd(p, s, 1.283791659e-01f);
  const float b = a > 4.0f ? 4.0f : a;
  float q = -2.168647234e-05f;
  q = madd(q, b, 4.413319005e-04f);
  q = madd(q, b, -4.204539544e-03f);
  q = madd(q, b, 2.520819595e-02f);
  q = madd(q, b, -1.084184798e-01f);
  q = madd(q, b, -6.332199855e-01f);
  q = madd(q, b, -1.129578376f);
  q = madd(q, b, 1.880297753e-04f);
  return a < 1.0f ? madd(p, x, x) : std::copysign(1.0f - exp_bounded(q), x);
}
inline double erf(double x) { return std::erf(x); }

/// x less the nearest multiple of pi / 2, and the number of that multiple modulo 4. In double, so that it is right to
/// float's precision up to |x| = 2^43; beyond, where neighbouring floats are millions of periods apart, it is only
/// bounded. Adding 1.5 * 2^52 rounds to an integer, which the last bits of the sum then are.
[[gnu::always_inline]] inline float reduce_quadrant(float x, int32_t* quadrant) {
  constexpr double kRound = 6755399441055744.0;
  const double sum = madd(static_cast<double>(x), 0.63661977236758134, kRound), q = sum - kRound;
  *quadrant = static_cast<int32_t>(std::bit_cast<int64_t>(sum)) & 3;
  const auto r = static_cast<float>(madd(q, -6.123233995736766e-17, madd(q, -1.5707963267948966, double{x})));
  return r > 0.8f ? 0.8f : r < -0.8f ? -0.8f : r;
}

/// sin(r) and cos(r) for |r| <= pi / 4.
[[gnu::always_inline]] inline float sin_small(float r) {
  const float s = r * r;
  float p = 2.718302546e-06f;
  p = madd(p, s, -1.983933391e-04f);
  p = madd(p, s, 8.333329383e-03f);
  p = madd(p, s, -1.666666664e-01f);
  return r == 0.0f ? r : madd(p, s * r, r);
}
[[gnu::always_inline]] inline float cos_small(float r) {
  const float s = r * r;
  float p = 2.443836216e-05f;
  p = madd(p, s, -1.388736676e-03f);
  p = madd(p, s, 4.166664685e-02f);
  return madd(p, s * s, madd(s, -0.5f, 1.0f));
}

[[gnu::always_inline]] inline float sin(float x) {
  int32_t quadrant;
  const float r = reduce_quadrant(x, &quadrant);
  const float y = quadrant & 1 ? cos_small(r) : sin_small(r);
  return quadrant & 2 ? -y : y;
}
inline double sin(double x) { return std::sin(x); }

[[gnu::always_inline]] inline float cos(float x) {
  int32_t quadrant;
  const float r = reduce_quadrant(x, &quadrant);
  const float y = quadrant & 1 ? sin_small(r) : cos_small(r);
  return (quadrant + 1) & 2 ? -y : y;
}
inline double cos(double x) { return std::cos(x); }

[[gnu::always_inline]] inline float tan(float x) {
  int32_t quadrant;
  const float r = reduce_quadrant(x, &quadrant);
  const float s = sin_small(r), c = cos_small(r);
  return quadrant & 1 ? -c / s : s / c;
}
inline double tan(double x) { return std::tan(x); }

template <class T>
T rsqrt(T x) {
  return T(1) / std::sqrt(x);
}

}  // namespace scalar
}  // namespace minimx
