// The inner loops of batch normalisation, on a tile of rows that follow each other in memory, `n` float32 each.
// kLanes: neighbouring elements are neighbouring channels (channels-last, blocked), parameters are arrays along the
// row. kRun: the whole row is one channel (N, C, spatial), each parameter is one value. A row's part of
// a bitmask is (n + 7) / 8 bytes. Within a tile, 8 columns are worked down all rows before the next 8, so that their
// parameters and sums stay in registers. Which tiles: batch_norm_view.h.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace minimx::batch_norm {

enum class Form { kLanes, kRun };

using Float8 = float __attribute__((vector_size(32)));
using Int8 = int32_t __attribute__((vector_size(32)));

inline Float8 load8(const float* p) {
  Float8 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store8(float* p, Float8 v) { std::memcpy(p, &v, sizeof v); }
#if defined(__AVX__)
/// Mask of the first n lanes.
inline __m256i first_lanes(int64_t n) {
  alignas(32) static constexpr int32_t kTable[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kTable + 8 - n));
}
inline Float8 load_some(const float* p, int64_t n) {
  return reinterpret_cast<Float8>(_mm256_maskload_ps(p, first_lanes(n)));
}
inline void store_some(float* p, Float8 v, int64_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), reinterpret_cast<__m256>(v));
}
#else
inline Float8 load_some(const float* p, int64_t n) {
  Float8 v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
inline void store_some(float* p, Float8 v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
#endif
inline Float8 fill8(float x) { return Float8{x, x, x, x, x, x, x, x}; }

/// Bit i is v[i] > 0 or NaN: where the ReLU lets v[i] through.
inline uint8_t passed_bits(Float8 v) {
  const Int8 mask = ~(v <= 0);
#if defined(__AVX__)
  return static_cast<uint8_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
#else
  unsigned bits = 0;
  for (int i = 0; i < 8; ++i) bits |= (mask[i] & 1u) << i;
  return static_cast<uint8_t>(bits);
#endif
}

/// v where the bit is set, else 0.
inline Float8 keep_bits(Float8 v, uint8_t bits) {
  const Int8 lane{1, 2, 4, 8, 16, 32, 64, 128};
  const int32_t b = bits;
  const Int8 all{b, b, b, b, b, b, b, b};
  const Int8 mask = (all & lane) != 0;
  return reinterpret_cast<Float8>(reinterpret_cast<Int8>(v) & mask);
}

/// A parameter along a row: loaded where it varies, else the one value.
template <Form F>
struct Parameter {
  const float* p;
  Float8 value;
  explicit Parameter(const float* at) : p(at), value(F == Form::kRun ? fill8(*at) : Float8{}) {}
  Float8 at(int64_t i) const { return F == Form::kRun ? value : load8(p + i); }
  Float8 at(int64_t i, int64_t n) const { return F == Form::kRun ? value : load_some(p + i, n); }
};

/// Calls step(i, n, whole) for every group of 8 elements and the rest.
template <class Step>
inline void groups_of_8(int64_t n, Step&& step) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) step(i, int64_t{8}, std::true_type{});
  if (i < n) step(i, n - i, std::false_type{});
}

template <class Whole>
inline Float8 load_group(const float* p, int64_t i, int64_t n, Whole) {
  if constexpr (Whole::value) return load8(p + i);
  return load_some(p + i, n);
}
template <class Whole>
inline void store_group(float* p, int64_t i, Float8 v, int64_t n, Whole) {
  if constexpr (Whole::value) {
    store8(p + i, v);
  } else {
    store_some(p + i, v, n);
  }
}
template <Form F, class Whole>
inline Float8 parameter_group(const Parameter<F>& p, int64_t i, int64_t n, Whole) {
  if constexpr (Whole::value) return p.at(i);
  return p.at(i, n);
}

/// y = x * scale + offset (+ z), then the ReLU and its bitmask; `z` and `mask` may be null.
template <Form F, bool kRelu, bool kResidual, bool kMask>
inline void normalize_tile(int64_t rows, int64_t n, const float* x, const float* z, const float* scale,
                           const float* offset, float* y, uint8_t* mask) {
  const Parameter<F> scales(scale), offsets(offset);
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    const Float8 a = parameter_group(scales, i, m, whole), b = parameter_group(offsets, i, m, whole);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * n + i;
      Float8 v = load_group(x, at, m, whole) * a + b;
      if constexpr (kResidual) v += load_group(z, at, m, whole);
      if constexpr (kMask) mask[r * ((n + 7) / 8) + i / 8] = passed_bits(v);
      if constexpr (kRelu) v = reinterpret_cast<Float8>(reinterpret_cast<Int8>(v) & ~(v <= 0));
      store_group(y, at, v, m, whole);
    }
  });
}

/// The gradient behind the ReLU: dy where its bit of `mask` is set. `at` and `bits` are offsets.
template <bool kMask, class Whole>
inline Float8 masked_gradient(const float* dy, const uint8_t* mask, int64_t at, int64_t bits, int64_t m, Whole whole) {
  const Float8 g = load_group(dy, at, m, whole);
  if constexpr (kMask) return keep_bits(g, mask[bits]);
  return g;
}

/// dx = a * g + b * x + c; dz = g where `dz` is wanted. g is dy behind the ReLU.
template <Form F, bool kMask, bool kResidual>
inline void gradient_tile(int64_t rows, int64_t n, const float* x, const float* dy, const uint8_t* mask, const float* a,
                          const float* b, const float* c, float* dx, float* dz) {
  const Parameter<F> as(a), bs(b), cs(c);
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    const Float8 ga = parameter_group(as, i, m, whole), xb = parameter_group(bs, i, m, whole),
                 offset = parameter_group(cs, i, m, whole);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * n + i;
      const Float8 g = masked_gradient<kMask>(dy, mask, at, r * ((n + 7) / 8) + i / 8, m, whole);
      if constexpr (kResidual) store_group(dz, at, g, m, whole);
      store_group(dx, at, ga * g + (xb * load_group(x, at, m, whole) + offset), m, whole);
    }
  });
}

/// Adds to (s, q) of each channel of a tile: with d = x - shift, forward (kBackward false) d and d * d, backward g and
/// g * d. kLanes: s and q are arrays along the row. kRun: they are 8 partial sums each.
template <Form F, bool kBackward, bool kMask>
inline void sum_tile(int64_t rows, int64_t n, const float* x, const float* dy, const uint8_t* mask, const float* shift,
                     float* s, float* q) {
  constexpr bool kLane = F == Form::kLanes;
  const Parameter<F> shifts(shift);
  Float8 sum = kLane ? Float8{} : load8(s), square = kLane ? Float8{} : load8(q);
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    const Float8 center = parameter_group(shifts, i, m, whole);
    if constexpr (kLane) sum = load_group(s, i, m, whole), square = load_group(q, i, m, whole);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = r * n + i;
      Float8 d = load_group(x, at, m, whole) - center;
      if constexpr (!decltype(whole)::value) d = keep_bits(d, static_cast<uint8_t>((1u << m) - 1));
      Float8 g = d;
      if constexpr (kBackward) g = masked_gradient<kMask>(dy, mask, at, r * ((n + 7) / 8) + i / 8, m, whole);
      sum += g;
      square += g * d;
    }
    if constexpr (kLane) store_group(s, i, sum, m, whole), store_group(q, i, square, m, whole);
  });
  if constexpr (!kLane) store8(s, sum), store8(q, square);
}

}  // namespace minimx::batch_norm
