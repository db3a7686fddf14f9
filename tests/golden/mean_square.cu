// grid (1, 512, 1), block (256, 1, 1), 0 bytes shared
#include "collective.h"
#include "fold.h"

using Index = int;
// subtract, multiply, mean, by rows: float16 (pack), float16 (pack) -> nothing on the way
/// subtract: x1 - x2.
struct subtract_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 - x2;
  }
};

/// multiply: x1 * x2; of bools: both.
struct multiply_ {
  template <class T>
  static T f(T x1, T x2) {
    return x1 * x2;
  }
};

/// mean: Sum over the number of elements; NaN of nothing.
struct mean_ {
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
  static T finish(T acc, T n) {
    return acc / n;
  }
};

/// How far a result moves the operands of its elements, one number for each way in which they lie.
struct Shown {};
/// How far an element moves them.
struct Along {
  Index f0;
};
struct Place {
  Shown from(Index r) const {
    return {};
  }
  Along along(Index at) const {
    const Index i0 = at;
    return {i0};
  }
};
/// The operands at one result.
struct AtResult {
  const Place& place;
  const Half* p0;
  const Half* p1;

  /// kCount neighbours, and what is made of them.
  template <int kCount>
  struct Elements {
    const AtResult* at;
    Pack<Half, kCount> v0;
    Pack<Half, kCount> v1;

    template <class F>
    auto apply(int j, const F& f) {
      const Half x0 = v0.at[j];
      const Half x1 = v1.at[j];
      const Half t0 = to<Half>(subtract_::f<float>(to<float>(x0), to<float>(x1)));
      const Half t1 = to<Half>(multiply_::f<float>(to<float>(t0), to<float>(t0)));
      return f(t1);
    }
  };
  template <int kCount>
  bool aligned() const {
    return is_aligned<kCount>(p0) && is_aligned<kCount>(p1);
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
  }
};
struct Arrays {
  const Place& place;
  const Half* p0;
  const Half* p1;

  AtResult from(Shown o) const {
    return {place, p0, p1};
  }
};

struct Accumulators {
  float a0;
};
struct Rule {
  using A = Accumulators;
  A start() const { return {mean_::init<float>()}; }
  A step(A acc, Half x0, Index, Index) const { return {mean_::step<float>(acc.a0, to<float>(x0))}; }
  A combine(A a, A b) const { return {mean_::combine<float>(a.a0, b.a0)}; }
};

extern "C" __global__ void __launch_bounds__(256) KERNEL(const Half* __restrict__ p0, const Half* __restrict__ p1,
    Accumulators* __restrict__ partial, Index results, Index elements, Index segment) {
  in_order();
  const Place place{};
  const Rule rule{};
  const Arrays arrays{place, p0, p1};
  fold_rows<256, 8, 4>(rule, place, Kept<Accumulators>{partial, results}, arrays, results, elements, segment);
}

// grid (1, 1, 1), block (1, 128, 1), 0 bytes shared
#include "collective.h"
#include "fold.h"

using Index = int;
// Joins the segments of mean
/// mean: Sum over the number of elements; NaN of nothing.
struct mean_ {
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
  static T finish(T acc, T n) {
    return acc / n;
  }
};

/// Where a result lies in operands of the epilogue and in outputs.
struct Into {};
struct Results {
  Into into(Index r) const {
    return {};
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
  Half* q0;
  int64_t n;
  A start() const { return {mean_::init<float>()}; }
  A step(A acc, Half x0, Index, Index) const { return {mean_::step<float>(acc.a0, to<float>(x0))}; }
  A combine(A a, A b) const { return {mean_::combine<float>(a.a0, b.a0)}; }
  void finish(A acc, Index, Into o) const {
    const Half r0 = to<Half>(mean_::finish<float>(acc.a0, to<float>(n)));
    q0[0] = r0;
  }
};

extern "C" __global__ void __launch_bounds__(256) KERNEL(const Accumulators* __restrict__ partial, Half*
    __restrict__ q0, int64_t n, Index results, Index elements, Index segment) {
  in_order();
  const Place place{{}, results};
  const Rule rule{q0, n};
  const Operands<Accumulators> operands{partial};
  const Join<Rule> join{rule};
  fold_columns<256, 1, 8>(join, place, Finished<Rule, Place>{rule, place}, operands, results, elements, segment);
}
