// Implementation of convert.h: one loop per pair of types, with branches for runs that are contiguous or one value.
#include "cpu/convert.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

#include "common/error.h"
#include "cpu/convert_scalar.h"

namespace minimx {
namespace {

/// Elements apart, one by one: gathering them into vectors takes longer.
template <class From, class To>
[[gnu::optimize("no-tree-vectorize"), gnu::noinline]] void run_apart(const char* from, int64_t from_step, char* to,
                                                                     int64_t to_step, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    *reinterpret_cast<To*>(to + i * to_step) = convert<To>(*reinterpret_cast<const From*>(from + i * from_step));
}

#ifdef __F16C__
/// Half and float by the instructions that do so, 8 or 16 at a time, which gcc 12 does not find. The rest is convert's,
/// which gives the same bits. Returns how many were done.
int64_t run_wide(const Half* from, float* to, int64_t n) {
  int64_t i = 0;
#ifdef __AVX512F__
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(to + i,
                     _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
#endif
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  return i;
}
int64_t run_wide(const float* from, Half* to, int64_t n) {
  int64_t i = 0;
#ifdef __AVX512F__
  for (; i + 16 <= n; i += 16)
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(to + i),
        _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  return i;
}
#endif

template <class From, class To>
int64_t run_wide(const From*, To*, int64_t) {
  return 0;
}

template <class From, class To>
void run(const char* from, int64_t from_step, char* to, int64_t to_step, int64_t n) {
  if (from_step == sizeof(From) && to_step == sizeof(To)) {
    const auto* a = reinterpret_cast<const From*>(from);
    auto* b = reinterpret_cast<To*>(to);
#pragma GCC ivdep
    for (int64_t i = run_wide(a, b, n); i < n; ++i) b[i] = convert<To>(a[i]);
  } else if (from_step == 0 && to_step == sizeof(To)) {
    const To value = convert<To>(*reinterpret_cast<const From*>(from));
    auto* b = reinterpret_cast<To*>(to);
    for (int64_t i = 0; i < n; ++i) b[i] = value;
  } else {
    run_apart<From, To>(from, from_step, to, to_step, n);
  }
}

}  // namespace

Convert find_convert(DType from, DType to) {
  return dispatch(
      from, [&](auto a) { return dispatch(to, [](auto b) -> Convert { return run<decltype(a), decltype(b)>; }); });
}

DType dtype_named(const std::string& name) {
#define MINIMX_DTYPE(id, text, type, size) \
  if (name == text) return DType::id;
#include "generated/dtypes.inc"
#undef MINIMX_DTYPE
  throw Error(ErrorKind::kInternal,
              "kernel: expected the name of an element type, got " + name + ". Fix the row's rule.");
}

}  // namespace minimx
