// Softmax and cross-entropy over the middle axis of contiguous (outer, n, inner) arrays.
//
//   softmax(x) -> y                    "log" = 1: log_softmax
//   softmax_bwd(y, dy) -> dx           from the result: y (dy - sum y dy), or with "log" dy - e^y sum dy
//   cross_entropy(x, label) -> loss, lse          lse = log sum e^x, float32 (float64 for float64 data)
//   cross_entropy_bwd(g, x, label, lse) -> dx     g (p - t), t = (1 - "smoothing") one-hot + smoothing / n
//
// Losses and g have the type of x, or that of lse.
// A lane is worked on as a dense row of float (double for float64), several times over while it lies in the first
// cache (rows.h). A lane may be its own result's memory.
#include <cmath>

#include "cpu/index_mode.h"
#include "cpu/map_kernel.h"
#include "cpu/rows.h"
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

constexpr double kExpNs = 0.5;   // an element of a lane and its exponential
enum Row { kX, kDy, kY, kExp };  // scratch rows

/// e[i] = exp(x[i] - top), and their sum. `e` may be `x`.
template <class C>
C exp_and_sum(const C* x, int64_t n, C top, C* e) {
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) e[i] = scalar::exp(x[i] - top);
  return rows::sum_of<C>(n, [e](auto at) { return at(e); });
}

template <class C>
C log_sum_exp(const C* x, int64_t n) {
  const C top = rows::largest(x, n);
  if (!(std::abs(top) < std::numeric_limits<C>::infinity())) {  // infinite, or NaN if one of them is
    for (int64_t i = 0; i < n; ++i)
      if (x[i] != x[i]) return x[i];
    return top;
  }
  return top + std::log(exp_and_sum(x, n, top, rows::scratch<C, kExp>(n)));
}

template <class T>
void softmax_lane(const T* from, T* to, int64_t n, int64_t step, bool log) {
  using C = Compute<T>;
  const C* x = rows::in_place_or_copied<C, kX>(from, n, step);
  C* y = rows::in_place_or_scratch<C, kY>(to, n, step);
  if (log) {
    const C lse = log_sum_exp(x, n);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] - lse;
  } else {
    const C scale = 1 / exp_and_sum(x, n, rows::largest(x, n), y);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] *= scale;
  }
  rows::put_back(y, to, n, step);
}

template <class T>
KernelPtr softmax_of(const Lanes& l, bool log) {
  return map_kernel(l.count(), kExpNs * static_cast<double>(l.n) + 20,
                    [=](void* const* data, int64_t begin, int64_t end) {
                      for (int64_t lane = begin; lane < end; ++lane)
                        softmax_lane(static_cast<const T*>(data[0]) + l.start(lane),
                                     static_cast<T*>(data[1]) + l.start(lane), l.n, l.inner, log);
                    });
}

template <class T>
void softmax_bwd_lane(const T* result, const T* gradient, T* to, int64_t n, int64_t step, bool log) {
  using C = Compute<T>;
  const C *y = rows::in_place_or_copied<C, kX>(result, n, step),
          *dy = rows::in_place_or_copied<C, kDy>(gradient, n, step);
  C* dx = rows::in_place_or_scratch<C, kY>(to, n, step);
  if (log) {
    const C sum = rows::sum_of<C>(n, [dy](auto at) { return at(dy); });
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] - scalar::exp(y[i]) * sum;
  } else {
    const C sum = rows::sum_of<C>(n, [y, dy](auto at) { return at(y) * at(dy); });
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) dx[i] = y[i] * (dy[i] - sum);
  }
  rows::put_back(dx, to, n, step);
}

template <class T>
KernelPtr softmax_bwd_of(const Lanes& l, bool log) {
  return map_kernel(l.count(), kExpNs * static_cast<double>(l.n) + 20,
                    [=](void* const* data, int64_t begin, int64_t end) {
                      for (int64_t lane = begin; lane < end; ++lane) {
                        const int64_t at = l.start(lane);
                        softmax_bwd_lane(static_cast<const T*>(data[0]) + at, static_cast<const T*>(data[1]) + at,
                                         static_cast<T*>(data[2]) + at, l.n, l.inner, log);
                      }
                    });
}

/// Type of the saved logsumexp.
template <class T>
using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// Loss of a lane; `lse` receives the logsumexp.
template <class T>
Compute<T> cross_entropy_lane(const T* from, int64_t label, int64_t n, int64_t step, double smoothing,
                              Stat<T>* lse_out) {
  using C = Compute<T>;
  const C* x = rows::in_place_or_copied<C, kX>(from, n, step);
  const C lse = log_sum_exp(x, n), a = static_cast<C>(smoothing);
  *lse_out = static_cast<Stat<T>>(lse);
  const C loss = lse - x[resolve_index(label, n, IndexMode::kRaise)];
  if (smoothing == 0) return loss;
  const C sum = rows::sum_of<C>(n, [x](auto at) { return at(x); });
  return (1 - a) * loss + a * (lse - sum / static_cast<C>(n));
}

template <class T, class Loss>
KernelPtr cross_entropy_of(const Lanes& l, double smoothing) {
  return map_kernel(
      l.count(), kExpNs * static_cast<double>(l.n) + 30, [=](void* const* data, int64_t begin, int64_t end) {
        const T* x = static_cast<const T*>(data[0]);
        const int64_t* labels = static_cast<const int64_t*>(data[1]);
        for (int64_t lane = begin; lane < end; ++lane)
          static_cast<Loss*>(data[2])[lane] = static_cast<Loss>(cross_entropy_lane(
              x + l.start(lane), labels[lane], l.n, l.inner, smoothing, static_cast<Stat<T>*>(data[3]) + lane));
      });
}

/// dx = g (e^(x - lse) - low), and at the label `high` less.
template <class T>
void cross_entropy_bwd_lane(const T* from, T* to, int64_t label, int64_t n, int64_t step, Compute<T> g, Compute<T> lse,
                            double smoothing) {
  using C = Compute<T>;
  const C low = static_cast<C>(smoothing / static_cast<double>(n)), high = static_cast<C>(1 - smoothing);
  const int64_t at = resolve_index(label, n, IndexMode::kRaise);
  const C* x = rows::in_place_or_copied<C, kX>(from, n, step);
  C* dx = rows::in_place_or_scratch<C, kY>(to, n, step);
  const C p = scalar::exp(x[at] - lse);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) dx[i] = g * (scalar::exp(x[i] - lse) - low);
  dx[at] = g * (p - low - high);
  rows::put_back(dx, to, n, step);
}

template <class T, class Loss>
KernelPtr cross_entropy_bwd_of(const Lanes& l, double smoothing) {
  return map_kernel(
      l.count(), kExpNs * static_cast<double>(l.n) + 20, [=](void* const* data, int64_t begin, int64_t end) {
        using C = Compute<T>;
        const Loss* g = static_cast<const Loss*>(data[0]);
        const T* x = static_cast<const T*>(data[1]);
        const int64_t* labels = static_cast<const int64_t*>(data[2]);
        const Stat<T>* lse = static_cast<const Stat<T>*>(data[3]);
        for (int64_t lane = begin; lane < end; ++lane)
          cross_entropy_bwd_lane(x + l.start(lane), static_cast<T*>(data[4]) + l.start(lane), labels[lane], l.n,
                                 l.inner, static_cast<C>(g[lane]), static_cast<C>(lse[lane]), smoothing);
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
  register_kernel("cross_entropy", [](std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("cross_entropy", ins[0].dtype, [&](auto z) {
      using T = decltype(z);
      if (outs[0].dtype == ins[0].dtype) return cross_entropy_of<T, T>(Lanes(a), a.real("smoothing"));
      return cross_entropy_of<T, Stat<T>>(Lanes(a), a.real("smoothing"));
    });
  });
  register_kernel("cross_entropy_bwd", [](std::span<const Spec> ins, std::span<const Spec> outs, const Attrs& a) {
    return dispatch_float("cross_entropy", outs[0].dtype, [&](auto z) {
      using T = decltype(z);
      if (ins[0].dtype == outs[0].dtype) return cross_entropy_bwd_of<T, T>(Lanes(a), a.real("smoothing"));
      return cross_entropy_bwd_of<T, Stat<T>>(Lanes(a), a.real("smoothing"));
    });
  });
}

}  // namespace minimx
