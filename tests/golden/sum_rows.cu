// grid (32, 1, 1), block (256, 1, 1), 0 bytes shared
#include "collective.h"
#include "fold.h"

using Index = int;
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
struct Rule {
  using A = float;
  float* y;
  int64_t n;  // elements of a result
  A start() const { return sum_::init<A>(); }
  A step(A acc, float x, Index, Index) const { return sum_::step<A>(acc, to<A>(x)); }
  A combine(A a, A b) const { return sum_::combine<A>(a, b); }
  void finish(A acc, Index, Index into) const { y[into] = to<float>(sum_::finish<A>(acc, to<A>(n))); }
};

struct Place {
  Index from0, along0, into0;
  Index from(Index r) const { return r * from0; }
  Index along(Index at) const { return at * along0; }
  Index into(Index r) const { return r * into0; }
};

extern "C" __global__ void __launch_bounds__(256) KERNEL(const float* __restrict__ x0, float* y, int64_t n, Index results, Index elements, Index segment, Index from0, Index along0, Index into0) {
  in_order();
  const Rule rule{y, n};
  const Place place{from0, along0, into0};
  const Operands<float> operands{x0};
  fold_rows<256, 4, 2>(rule, place, Finished<Rule, Place>{rule, place}, operands, results, elements, segment);
}
