// grid (3, 128, 1), block (32, 8, 1), 0 bytes shared
#include "collective.h"
#include "fold.h"

using Index = int;
// tanh, multiply, sum, by columns: float16 (pack), float16 (pack) -> float16 (pack) on the way
/// tanh: Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x).
struct tanh_ {
  template <class T>
  static T f(T x) {
    return tanh(x);
  }
};

/// multiply: x1 * x2; of bools: both.
struct multiply_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 * x2;
  }
};

/// sum: Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32.
struct sum_ {
  template <class T>
  static T init() { return T(0); }
  template <class T>
  static T step(T acc, T x) {
    return acc + x;
  }
  template <class T>
  static T combine(T acc, T other) {
    return acc + other;
  }
  template <class T>
  static T finish(T acc, T) {
    return acc;
  }
};

/// How far a result moves the operands of its elements, one number for each way in which they lie.
struct Shown {
  Index k0;
};
/// How far an element moves them.
struct Along {
  Index f0;
};
struct Place {
  int s_along0_0;
  Shown from(Index r) const {
    const Index i0 = r;
    return {i0};
  }
  Along along(Index at) const {
    const Index i0 = at;
    return {i0 * s_along0_0};
  }
};
/// The operands at one result (or a pack of them).
struct AtResult {
  const Place& place;
  const Half* p0;
  const Half* p1;
  Half* q0;

  /// kCount neighbours, and what is made of them.
  template <int kCount>
  struct Elements {
    const AtResult* at;
    Pack<Half, kCount> v0;
    Pack<Half, kCount> v1;
    Pack<Half, kCount> q0;

    template <class F>
    auto apply(int j, const F& f) {
      const Half x0 = v0.at[j];
      const Half x1 = v1.at[j];
      const Half t0 = to<Half>(tanh_::f<float>(to<float>(x1)));
      const Half t1 = to<Half>(multiply_::f<float>(to<float>(x0), to<float>(t0)));
      q0.at[j] = t1;
      return f(t1);
    }
  };
  template <int kCount>
  bool aligned() const {
    return is_aligned<kCount>(p0) && is_aligned<kCount>(p1) && is_aligned<kCount>(q0);
  }
  template <int kCount>
  Elements<kCount> load_at(Along o, bool aligned) const {
    Elements<kCount> e;
    e.at = this;
    e.v0 = load<kCount>(p0 + o.f0, aligned);
    e.v1 = load<kCount>(p1 + o.f0, aligned);
    return e;
  }
  template <int kCount>
  void put(Along o, const Elements<kCount>& e, bool aligned) const {
    store(q0 + o.f0, e.q0, aligned);
  }
};
struct Arrays {
  const Place& place;
  const Half* p0;
  const Half* p1;
  Half* q0;

  AtResult from(Shown o) const {
    return {place, p0 + o.k0, p1 + o.k0, q0 + o.k0};
  }
};

struct Accumulators {
  float a0;
};
struct Rule {
  using A = Accumulators;
  A start() const { return {sum_::init<float>()}; }
  A step(A acc, Half x0, Index, Index) const { return {sum_::step<float>(acc.a0, to<float>(x0))}; }
  A combine(A a, A b) const { return {sum_::combine<float>(a.a0, b.a0)}; }
};

extern "C" __global__ void __launch_bounds__(256) KERNEL(const Half* p0, const Half* p1, Half* q0, Accumulators*
    partial, int s_along0_0, Index results, Index elements, Index segment) {
  in_order();
  const Place place{s_along0_0};
  const Rule rule{};
  const Arrays arrays{place, p0, p1, q0};
  fold_columns<256, 8, 4>(rule, place, Kept<Accumulators>{partial, results}, arrays, results, elements, segment);
}

// grid (96, 1, 1), block (8, 32, 1), 0 bytes shared
#include "collective.h"
#include "fold.h"

using Index = int;
// Joins the segments of sum
/// sum: Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32.
struct sum_ {
  template <class T>
  static T init() { return T(0); }
  template <class T>
  static T step(T acc, T x) {
    return acc + x;
  }
  template <class T>
  static T combine(T acc, T other) {
    return acc + other;
  }
  template <class T>
  static T finish(T acc, T) {
    return acc;
  }
};

/// Where a result lies in operands of the epilogue and in outputs.
struct Into {
  Index k0;
};
struct Results {
  Into into(Index r) const {
    const Index i0 = r;
    return {i0};
  }
};
struct Place {
  Results at;
  Index results;
  Index from(Index r) const { return r; }
  Index along(Index segment) const { return segment * results; }
  Into into(Index r) const { return at.into(r); }
};

struct Accumulators {
  float a0;
};
struct Rule {
  using A = Accumulators;
  Half* q1;
  int64_t n;
  A start() const { return {sum_::init<float>()}; }
  A step(A acc, Half x0, Index, Index) const { return {sum_::step<float>(acc.a0, to<float>(x0))}; }
  A combine(A a, A b) const { return {sum_::combine<float>(a.a0, b.a0)}; }
  void finish(A acc, Index, Into o) const {
    const Half r0 = to<Half>(sum_::finish<float>(acc.a0, to<float>(n)));
    q1[o.k0] = r0;
  }
};

extern "C" __global__ void __launch_bounds__(256) KERNEL(const Accumulators* partial, Half* q1, int64_t n, Index
    results, Index elements, Index segment) {
  in_order();
  const Place place{{}, results};
  const Rule rule{q1, n};
  const Operands<Accumulators> operands{partial};
  const Join<Rule> join{rule};
  fold_columns<256, 1, 8>(join, place, Finished<Rule, Place>{rule, place}, operands, results, elements, segment);
}
