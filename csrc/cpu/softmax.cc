// Softmax and cross-entropy over the middle axis of contiguous (outer, n, inner) arrays.
//
//   softmax(x) -> y                    "log" = 1: log_softmax
//   softmax_bwd(y, dy) -> dx           from the result: y (dy - sum y dy), or with "log" dy - e^y sum dy
//   cross_entropy(x, label) -> loss, lse          lse = log sum e^x, float32 (float64 for float64 data)
//   cross_entropy_bwd(g, x, label, lse) -> dx     g (p - t), t = (1 - "smoothing") one-hot + smoothing / n
//
// Arithmetic is float for the 16-bit types. A lane is read into a buffer of `n` values when its elements lie apart.
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

/// Largest of n elements `step` apart; NaN if one is.
template <class C, class T>
C largest(const T* x, int64_t n, int64_t step) {
  C best = -std::numeric_limits<C>::infinity();
  bool nan = false;
  for (int64_t i = 0; i < n; ++i) {
    const C v = static_cast<C>(x[i * step]);
    nan |= v != v;
    best = v > best ? v : best;
  }
  return nan ? std::numeric_limits<C>::quiet_NaN() : best;
}

/// Sum of e^(x - top), with eight partial sums so that the compiler may vectorise.
template <class C, class T>
C sum_exp(const T* x, int64_t n, int64_t step, C top) {
  C part[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) part[k] += scalar::exp(static_cast<C>(x[(i + k) * step]) - top);
  C sum = 0;
  for (; i < n; ++i) sum += scalar::exp(static_cast<C>(x[i * step]) - top);
  for (C p : part) sum += p;
  return sum;
}

template <class C, class T>
C log_sum_exp(const T* x, int64_t n, int64_t step) {
  const C top = largest<C>(x, n, step);
  if (!(std::abs(top) < std::numeric_limits<C>::infinity())) return top;  // NaN, or all infinite
  return top + std::log(sum_exp(x, n, step, top));
}

template <class T>
KernelPtr softmax_of(const Lanes& l, bool log) {
  return map_kernel(l.count(), 3.0 * static_cast<double>(l.n) + 10, [=](void* const* data, int64_t begin, int64_t end) {
    using C = Compute<T>;
    for (int64_t lane = begin; lane < end; ++lane) {
      const T* x = static_cast<const T*>(data[0]) + l.start(lane);
      T* y = static_cast<T*>(data[1]) + l.start(lane);
      if (log) {
        const C lse = log_sum_exp<C>(x, l.n, l.inner);
        for (int64_t i = 0; i < l.n; ++i) y[i * l.inner] = static_cast<T>(static_cast<C>(x[i * l.inner]) - lse);
        continue;
      }
      const C top = largest<C>(x, l.n, l.inner), scale = 1 / sum_exp(x, l.n, l.inner, top);
      for (int64_t i = 0; i < l.n; ++i)
        y[i * l.inner] = static_cast<T>(scalar::exp(static_cast<C>(x[i * l.inner]) - top) * scale);
    }
  });
}

template <class T>
KernelPtr softmax_bwd_of(const Lanes& l, bool log) {
  return map_kernel(l.count(), 2.0 * static_cast<double>(l.n) + 10, [=](void* const* data, int64_t begin, int64_t end) {
    using C = Compute<T>;
    for (int64_t lane = begin; lane < end; ++lane) {
      const int64_t at = l.start(lane);
      const T *y = static_cast<const T*>(data[0]) + at, *dy = static_cast<const T*>(data[1]) + at;
      T* dx = static_cast<T*>(data[2]) + at;
      C sum = 0;
      for (int64_t i = 0; i < l.n; ++i)
        sum += static_cast<C>(dy[i * l.inner]) * (log ? C(1) : static_cast<C>(y[i * l.inner]));
      for (int64_t i = 0; i < l.n; ++i) {
        const C v = static_cast<C>(y[i * l.inner]), g = static_cast<C>(dy[i * l.inner]);
        dx[i * l.inner] = static_cast<T>(log ? g - scalar::exp(v) * sum : v * (g - sum));
      }
    }
  });
}

/// Type of the saved logsumexp.
template <class T>
using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
KernelPtr cross_entropy_of(const Lanes& l, double smoothing) {
  return map_kernel(l.count(), 3.0 * static_cast<double>(l.n) + 10, [=](void* const* data, int64_t begin, int64_t end) {
    using C = Compute<T>;
    const int64_t* labels = static_cast<const int64_t*>(data[1]);
    for (int64_t lane = begin; lane < end; ++lane) {
      const T* x = static_cast<const T*>(data[0]) + l.start(lane);
      const C lse = log_sum_exp<C>(x, l.n, l.inner), s = static_cast<C>(smoothing);
      C loss = lse - static_cast<C>(x[resolve_index(labels[lane], l.n, IndexMode::kRaise) * l.inner]);
      if (smoothing != 0) {
        C sum = 0;
        for (int64_t i = 0; i < l.n; ++i) sum += static_cast<C>(x[i * l.inner]);
        loss = (1 - s) * loss + s * (lse - sum / static_cast<C>(l.n));
      }
      static_cast<T*>(data[2])[lane] = static_cast<T>(loss);
      static_cast<Stat<T>*>(data[3])[lane] = static_cast<Stat<T>>(lse);
    }
  });
}

template <class T>
KernelPtr cross_entropy_bwd_of(const Lanes& l, double smoothing) {
  return map_kernel(l.count(), 2.0 * static_cast<double>(l.n) + 10, [=](void* const* data, int64_t begin, int64_t end) {
    using C = Compute<T>;
    const int64_t* labels = static_cast<const int64_t*>(data[2]);
    for (int64_t lane = begin; lane < end; ++lane) {
      const T* x = static_cast<const T*>(data[1]) + l.start(lane);
      T* dx = static_cast<T*>(data[4]) + l.start(lane);
      const C g = static_cast<C>(static_cast<const T*>(data[0])[lane]),
              lse = static_cast<C>(static_cast<const Stat<T>*>(data[3])[lane]);
      const C low = static_cast<C>(smoothing / static_cast<double>(l.n)), high = static_cast<C>(1 - smoothing) + low;
      const int64_t label = resolve_index(labels[lane], l.n, IndexMode::kRaise);
      for (int64_t i = 0; i < l.n; ++i)
        dx[i * l.inner] = static_cast<T>(g * (scalar::exp(static_cast<C>(x[i * l.inner]) - lse) - low));
      const C p = scalar::exp(static_cast<C>(x[label * l.inner]) - lse);
      dx[label * l.inner] = static_cast<T>(g * (p - high));
    }
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
