// grid (784, 1, 1), block (256, 1, 1), 0 bytes shared
using T = Half;
using Real = float;
using Tap = uint8_t;
using Index = int;
[[maybe_unused]] constexpr int kWidth = 8;
[[maybe_unused]] constexpr int K0 = 1;
[[maybe_unused]] constexpr int K1 = 3;
[[maybe_unused]] constexpr int K2 = 3;
[[maybe_unused]] constexpr int S0 = 1;
[[maybe_unused]] constexpr int S1 = 2;
[[maybe_unused]] constexpr int S2 = 2;
[[maybe_unused]] constexpr int P0 = 0;
[[maybe_unused]] constexpr int P1 = 1;
[[maybe_unused]] constexpr int P2 = 1;
[[maybe_unused]] constexpr int E0 = 1;
[[maybe_unused]] constexpr int E1 = 2;
[[maybe_unused]] constexpr int E2 = 2;
[[maybe_unused]] constexpr bool kLast = true;
[[maybe_unused]] constexpr bool kMax = true;
[[maybe_unused]] constexpr bool kInclude = false;
[[maybe_unused]] constexpr bool kTaps = true;
[[maybe_unused]] constexpr bool kNorm = false;
constexpr int kVolume = K0 * K1 * K2;
constexpr int kUnroll = kVolume <= 16 ? 16 : 1;
using Values = Pack<T, kWidth>;
using Places = Pack<Tap, kWidth>;

/// Sizes and strides (elements) of an operand (N, C, *three spatial axes).
struct View {
  Index n, c, d0, d1, d2;
  Index sn, sc, s0, s1, s2;
  Index at(const View& i) const { return i.n * sn + i.c * sc + i.d0 * s0 + i.d1 * s1 + i.d2 * s2; }
  Index threads() const { return n * (c / kWidth) * d0 * d1 * d2; }
  /// The element, or the first of the channels, that is the i-th thread's; only the sizes' fields are meant.
  View element(Index i) const {
    View e{};
    if (kLast) e.c = i % (c / kWidth) * kWidth, i /= c / kWidth;
    e.d2 = i % d2, i /= d2;
    e.d1 = i % d1, i /= d1;
    e.d0 = i % d0, i /= d0;
    if (!kLast) e.c = i % c, i /= c;
    e.n = i;
    return e;
  }
};

inline Index lesser(Index a, Index b) { return a < b ? a : b; }
inline Index greater(Index a, Index b) { return a > b ? a : b; }

/// Elements of a window along one axis that are not padding.
inline Index inside(Index first, int k, Index size) {
  return greater(0, lesser(first + k, size) - greater(first, 0));
}
/// What an element of a window counts in its mean. o: the window.
inline Real share(const View& x, const View& o) {
  if (kInclude) return Real(1) / Real(kVolume);
  return Real(1) / Real(inside(o.d0 * S0 - P0, K0, x.d0) * inside(o.d1 * S1 - P1, K1, x.d1) *
                        inside(o.d2 * S2 - P2, K2, x.d2));
}

inline View work(const View& vy) { return vy; }

template <bool kWide>
void pool(const T* x, T* y, Tap* taps, const View& vx, const View& vy, const View& vt, const View& o,
          const Real* norm = nullptr, Index padded = 0) {
  const Index i0 = o.d0 * S0 - P0, i1 = o.d1 * S1 - P1, i2 = o.d2 * S2 - P2;
  Real top[kWidth];  // the maximum, or the sum
  int best[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j) top[j] = 0, best[j] = -1;
  Real scales[kWidth], offsets[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j)
    if constexpr (kNorm) scales[j] = norm[o.c + j], offsets[j] = norm[padded + o.c + j];
  const T* from = x + o.n * vx.sn + o.c * vx.sc;
#pragma unroll kUnroll
  for (int a = 0; a < K0; ++a)
#pragma unroll kUnroll
    for (int b = 0; b < K1; ++b)
#pragma unroll kUnroll
      for (int c = 0; c < K2; ++c) {
        const Index d0 = i0 + a, d1 = i1 + b, d2 = i2 + c;
        const bool there = d0 >= 0 && d0 < vx.d0 && d1 >= 0 && d1 < vx.d1 && d2 >= 0 && d2 < vx.d2;
        const Values v = load<kWidth>(from + (there ? d0 * vx.s0 + d1 * vx.s1 + d2 * vx.s2 : 0), kWide);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          Real value = wide(v.at[j]);
          if constexpr (kNorm) value = fmaf(value, scales[j], offsets[j]);
          if (!kMax)
            top[j] += there ? value : Real(0);
          else if (there && ((!kNorm && best[j] < 0) || value > top[j] || value != value))
            top[j] = value, best[j] = (a * K1 + b) * K2 + c;
        }
      }
  const Real scale = kMax ? Real(1) : share(vx, o);
  Values out;
  Places places;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) out.at[j] = to<T>(top[j] * scale), places.at[j] = static_cast<Tap>(best[j]);
  store(y + vy.at(o), out, kWide);
  if constexpr (kTaps) store(taps + vt.at(o), places, kWide);
}

extern "C" __global__ void __launch_bounds__(256) KERNEL(const T* in, T* out, Tap* taps, int64_t i0, int64_t i1, int64_t i2, int64_t i3, int64_t i4, int64_t i5, int64_t i6, int64_t i7, int64_t i8, int64_t i9, int64_t o0, int64_t o1, int64_t o2, int64_t o3, int64_t o4, int64_t o5, int64_t o6, int64_t o7, int64_t o8, int64_t o9, int64_t t0, int64_t t1, int64_t t2, int64_t t3, int64_t t4, int64_t t5, int64_t t6, int64_t t7, int64_t t8, int64_t t9) {
  in_order();
  const View vi{Index(i0), Index(i1), Index(i2), Index(i3), Index(i4), Index(i5), Index(i6), Index(i7), Index(i8), Index(i9)}, vo{Index(o0), Index(o1), Index(o2), Index(o3), Index(o4), Index(o5), Index(o6), Index(o7), Index(o8), Index(o9)}, vt{Index(t0), Index(t1), Index(t2), Index(t3), Index(t4), Index(t5), Index(t6), Index(t7), Index(t8), Index(t9)};
  const bool wide = kWidth > 1 && aligned<Values>(in, out) && aligned<Places>(taps);
  const View threads = work(vo);
  const Index n = threads.threads(), step = Index(gridDim.x) * 256;
  for (Index i = Index(blockIdx.x) * 256 + threadIdx.x; i < n; i += step) {
    if (wide)
      pool<true>(in, out, taps, vi, vo, vt, threads.element(i));
    else
      pool<false>(in, out, taps, vi, vo, vt, threads.element(i));
  }
}
