// Softmax and cross-entropy over the middle axis of contiguous (outer, n, inner) arrays.
//
//   softmax(x) -> y                    "log" = 1: log_softmax
//   softmax_bwd(y, dy) -> dx           from the result: y (dy - sum y dy), or with "log" dy - e^y sum dy
//   cross_entropy(x, label) -> loss, lse          lse = log sum e^x, float32 (float64 for float64 data)
//   cross_entropy_bwd(g, x, label, lse) -> dx     g (p - t), t = (1 - "smoothing") one-hot + smoothing / n
//
// Arithmetic is float for the 16-bit types.
#include <algorithm>
#include <cmath>

#include "cpu/index_mode.h"
#include "cpu/map_kernel.h"
#include "cpu/scalar_math.h"

namespace minimx {
namespace {

struct Lanes {
  int64_t outer, n, inner;
  explicit Lanes(const Attrs& attrs)
      : outer(attrs.integer("outer")), n(attrs.integer("n")), inner(attrs.integer("inner")) {}
  int64_t count() const { return outer * inner; }
  /// First element of a lane; the next ones are `inner` apart.
  int64_t start(int64_t lane) const { return lane / inner * n * inner + lane % inner; }
};

/// An element every `step`: a constant 1 where the lane is dense, so that loops over it vectorise.
struct Dense {
  static constexpr int64_t step = 1;
};
struct Apart {
  int64_t step;
};

/// Calls f with the lanes' Dense or Apart.
template <class F>
KernelPtr with_step(const Lanes& l, F&& f) {
  return l.inner == 1 ? f(Dense{}) : f(Apart{l.inner});
}

constexpr int kPart = 16;  // partial results of a reduction, so that the compiler may vectorise

/// Largest of n elements; NaN if one is.
template <class C, class T, class Step>
C largest(const T* x, int64_t n, Step s) {
  C part[kPart];
  std::fill(part, part + kPart, -std::numeric_limits<C>::infinity());
  auto add = [](C& best, C v) { best = (v > best || v != v) ? v : best; };  // a NaN stays: nothing is above it
  int64_t i = 0;
  for (; i + kPart <= n; i += kPart)
    for (int k = 0; k < kPart; ++k) add(part[k], static_cast<C>(x[(i + k) * s.step]));
  for (; i < n; ++i) add(part[0], static_cast<C>(x[i * s.step]));
  for (int k = 1; k < kPart; ++k) add(part[0], part[k]);
  return part[0];
}

/// Sum of term(i), i < n.
template <class C, class Term>
C sum_of(int64_t n, Term&& term) {
  C part[kPart] = {};
  int64_t i = 0;
  for (; i + kPart <= n; i += kPart)
    for (int k = 0; k < kPart; ++k) part[k] += term(i + k);
  C sum = 0;
  for (; i < n; ++i) sum += term(i);
  for (C p : part) sum += p;
  return sum;
}

template <class C, class T, class Step>
C log_sum_exp(const T* x, int64_t n, Step s) {
  const C top = largest<C>(x, n, s);
  if (!(std::abs(top) < std::numeric_limits<C>::infinity())) return top;  // NaN, or all infinite
  return top + std::log(sum_of<C>(n, [&](int64_t i) { return scalar::exp(static_cast<C>(x[i * s.step]) - top); }));
}

template <class T, class Step>
void log_softmax_lane(const T* x, T* y, int64_t n, Step s) {
  using C = Compute<T>;
  const C lse = log_sum_exp<C>(x, n, s);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i * s.step] = static_cast<T>(static_cast<C>(x[i * s.step]) - lse);
}

/// e^(x - largest) / sum. The exponentials are kept in y where its type has their precision, else made twice.
template <class T, class Step>
void softmax_lane(const T* x, T* y, int64_t n, Step s) {
  using C = Compute<T>;
  const C top = largest<C>(x, n, s);
  constexpr bool kKept = std::is_same_v<C, T>;
  const C scale = 1 / sum_of<C>(n, [=](int64_t i) {
                    const C e = scalar::exp(static_cast<C>(x[i * s.step]) - top);
                    if constexpr (kKept) y[i * s.step] = e;
                    return e;
                  });
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (kKept)
      y[i * s.step] *= scale;
    else
      y[i * s.step] = static_cast<T>(scalar::exp(static_cast<C>(x[i * s.step]) - top) * scale);
  }
}

template <class T>
KernelPtr softmax_of(const Lanes& l, bool log) {
  return with_step(l, [&](auto s) {
    return map_kernel(l.count(), 1.5 * static_cast<double>(l.n) + 10,
                      [=](void* const* data, int64_t begin, int64_t end) {
                        for (int64_t lane = begin; lane < end; ++lane) {
                          const T* x = static_cast<const T*>(data[0]) + l.start(lane);
                          T* y = static_cast<T*>(data[1]) + l.start(lane);
                          if (log)
                            log_softmax_lane(x, y, l.n, s);
                          else
                            softmax_lane(x, y, l.n, s);
                        }
                      });
  });
}

template <class T, class Step>
void softmax_bwd_lane(const T* y, const T* dy, T* dx, int64_t n, Step s, bool log) {
  using C = Compute<T>;
  auto at = [&](const T* p, int64_t i) { return static_cast<C>(p[i * s.step]); };
  if (log) {
    const C sum = sum_of<C>(n, [&](int64_t i) { return at(dy, i); });
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i * s.step] = static_cast<T>(at(dy, i) - scalar::exp(at(y, i)) * sum);
  } else {
    const C sum = sum_of<C>(n, [&](int64_t i) { return at(y, i) * at(dy, i); });
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) dx[i * s.step] = static_cast<T>(at(y, i) * (at(dy, i) - sum));
  }
}

template <class T>
KernelPtr softmax_bwd_of(const Lanes& l, bool log) {
  return with_step(l, [&](auto s) {
    return map_kernel(l.count(), static_cast<double>(l.n) + 10, [=](void* const* data, int64_t begin, int64_t end) {
      for (int64_t lane = begin; lane < end; ++lane) {
        const int64_t at = l.start(lane);
        softmax_bwd_lane(static_cast<const T*>(data[0]) + at, static_cast<const T*>(data[1]) + at,
                         static_cast<T*>(data[2]) + at, l.n, s, log);
      }
    });
  });
}

/// Type of the saved logsumexp.
template <class T>
using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Loss of a lane; `lse` receives the logsumexp.
template <class T, class Step>
Compute<T> cross_entropy_lane(const T* x, int64_t label, int64_t n, Step s, double smoothing, Stat<T>* lse_out) {
  using C = Compute<T>;
  const C lse = log_sum_exp<C>(x, n, s), a = static_cast<C>(smoothing);
  *lse_out = static_cast<Stat<T>>(lse);
  const C loss = lse - static_cast<C>(x[resolve_index(label, n, IndexMode::kRaise) * s.step]);
  if (smoothing == 0) return loss;
  const C sum = sum_of<C>(n, [&](int64_t i) { return static_cast<C>(x[i * s.step]); });
  return (1 - a) * loss + a * (lse - sum / static_cast<C>(n));
}

template <class T>
KernelPtr cross_entropy_of(const Lanes& l, double smoothing) {
  return with_step(l, [&](auto s) {
    return map_kernel(
        l.count(), 1.5 * static_cast<double>(l.n) + 20, [=](void* const* data, int64_t begin, int64_t end) {
          const T* x = static_cast<const T*>(data[0]);
          const int64_t* labels = static_cast<const int64_t*>(data[1]);
          for (int64_t lane = begin; lane < end; ++lane)
            static_cast<T*>(data[2])[lane] = static_cast<T>(cross_entropy_lane(
                x + l.start(lane), labels[lane], l.n, s, smoothing, static_cast<Stat<T>*>(data[3]) + lane));
        });
  });
}

/// dx = g (e^(x - lse) - low), and at the label `high` less.
template <class T, class Step>
void cross_entropy_bwd_lane(const T* x, T* dx, int64_t label, int64_t n, Step s, Compute<T> g, Compute<T> lse,
                            double smoothing) {
  using C = Compute<T>;
  const C low = static_cast<C>(smoothing / static_cast<double>(n)), high = static_cast<C>(1 - smoothing);
  auto p = [&](int64_t i) { return scalar::exp(static_cast<C>(x[i * s.step]) - lse); };
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) dx[i * s.step] = static_cast<T>(g * (p(i) - low));
  const int64_t at = resolve_index(label, n, IndexMode::kRaise);
  dx[at * s.step] = static_cast<T>(g * (p(at) - low - high));
}

template <class T>
KernelPtr cross_entropy_bwd_of(const Lanes& l, double smoothing) {
  return with_step(l, [&](auto s) {
    return map_kernel(l.count(), static_cast<double>(l.n) + 20, [=](void* const* data, int64_t begin, int64_t end) {
      using C = Compute<T>;
      const T *g = static_cast<const T*>(data[0]), *x = static_cast<const T*>(data[1]);
      const int64_t* labels = static_cast<const int64_t*>(data[2]);
      const Stat<T>* lse = static_cast<const Stat<T>*>(data[3]);
      for (int64_t lane = begin; lane < end; ++lane)
        cross_entropy_bwd_lane(x + l.start(lane), static_cast<T*>(data[4]) + l.start(lane), labels[lane], l.n, s,
                               static_cast<C>(g[lane]), static_cast<C>(lse[lane]), smoothing);
    });
  });
}

}  // namespace

void register_softmax_kernels() {
  register_kernel("softmax", [](std::span<const Spec>, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("softmax", outs[0].dtype,
                          [&](auto z) { return softmax_of<decltype(z)>(Lanes(a), a.integer("log")); });
  });
  register_kernel("softmax_bwd", [](std::span<const Spec>, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("softmax", outs[0].dtype,
                          [&](auto z) { return softmax_bwd_of<decltype(z)>(Lanes(a), a.integer("log")); });
  });
  register_kernel("cross_entropy", [](std::span<const Spec>, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("cross_entropy", outs[0].dtype,
                          [&](auto z) { return cross_entropy_of<decltype(z)>(Lanes(a), a.real("smoothing")); });
  });
  register_kernel("cross_entropy_bwd", [](std::span<const Spec>, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("cross_entropy", outs[0].dtype,
                          [&](auto z) { return cross_entropy_bwd_of<decltype(z)>(Lanes(a), a.real("smoothing")); });
  });
}

}  // namespace minimx
