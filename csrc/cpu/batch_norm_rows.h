// The inner loops of batch normalisation, on one row of contiguous float32 at a time.
// kLanes: neighbouring elements are neighbouring channels (channels-last, blocked), parameters are arrays along the
// row. kRun: the whole row is one channel (N, C, spatial), each parameter is one value. Which rows: batch_norm.cc.
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
inline Float8 load_some(const float* p, int64_t n) {
  Float8 v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
inline void store_some(float* p, Float8 v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}
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
inline void normalize_row(int64_t n, const float* x, const float* z, const float* scale, const float* offset, float* y,
                          uint8_t* mask) {
  const Parameter<F> a(scale), b(offset);
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    Float8 v = load_group(x, i, m, whole) * parameter_group(a, i, m, whole) + parameter_group(b, i, m, whole);
    if constexpr (kResidual) v += load_group(z, i, m, whole);
    if constexpr (kMask) mask[i / 8] = passed_bits(v);
    if constexpr (kRelu) v = reinterpret_cast<Float8>(reinterpret_cast<Int8>(v) & ~(v <= 0));
    store_group(y, i, v, m, whole);
  });
}

/// The gradient behind the ReLU.
template <bool kMask, class Whole>
inline Float8 masked_gradient(const float* dy, const uint8_t* mask, int64_t i, int64_t n, Whole whole) {
  const Float8 g = load_group(dy, i, n, whole);
  if constexpr (kMask) return keep_bits(g, mask[i / 8]);
  return g;
}

/// dx = a * g + b * x + c; dz = g where `dz` is wanted. g is dy behind the ReLU.
template <Form F, bool kMask, bool kResidual>
inline void gradient_row(int64_t n, const float* x, const float* dy, const uint8_t* mask, const float* a,
                         const float* b, const float* c, float* dx, float* dz) {
  const Parameter<F> pa(a), pb(b), pc(c);
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    const Float8 g = masked_gradient<kMask>(dy, mask, i, m, whole);
    const Float8 v = parameter_group(pa, i, m, whole) * g +
                     (parameter_group(pb, i, m, whole) * load_group(x, i, m, whole) + parameter_group(pc, i, m, whole));
    if constexpr (kResidual) store_group(dz, i, g, m, whole);
    store_group(dx, i, v, m, whole);
  });
}

/// Adds to (s, q) of each channel of a row: with d = x - shift, forward (kBackward false) d and d * d, backward g and
/// g * d. kLanes: s and q are arrays along the row. kRun: they are 8 partial sums each.
template <Form F, bool kBackward, bool kMask>
inline void sum_row(int64_t n, const float* x, const float* dy, const uint8_t* mask, const float* shift, float* s,
                    float* q) {
  const Parameter<F> center(shift);
  Float8 run_s = F == Form::kRun ? load8(s) : Float8{}, run_q = F == Form::kRun ? load8(q) : Float8{};
  groups_of_8(n, [&](int64_t i, int64_t m, auto whole) {
    Float8 d = load_group(x, i, m, whole) - parameter_group(center, i, m, whole);
    if constexpr (!decltype(whole)::value)
      for (int64_t j = m; j < 8; ++j) d[j] = 0;
    Float8 g = d;
    if constexpr (kBackward) g = masked_gradient<kMask>(dy, mask, i, m, whole);
    if constexpr (F == Form::kRun) {
      run_s += g;
      run_q += g * d;
    } else {
      store_group(s, i, load_group(s, i, m, whole) + g, m, whole);
      store_group(q, i, load_group(q, i, m, whole) + g * d, m, whole);
    }
  });
  if constexpr (F == Form::kRun) {
    store8(s, run_s);
    store8(q, run_q);
  }
}

}  // namespace minimx::batch_norm
