// Rows of float or double that stay in the first cache: what softmax.cc and row_norm.cc are made of. A row of another
// type, or with gaps between its elements, is copied to a dense one first (in_place_or_copied) and back (put_back).
// Sums are taken in the same order whatever the machine's vectors are. Long reductions over any axes: reduce.cc.
#pragma once
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu/convert_scalar.h"

namespace minimx::rows {

/// As many numbers as 64 bytes hold, in one register or in several.
template <class C>
struct VecOf {
  typedef C type __attribute__((vector_size(64)));
};
template <class C>
using Vec = typename VecOf<C>::type;

/// Element i of a row, or the Vec that begins there: what a reduction's term reads its rows with.
template <class V, class C>
struct At {
  int64_t i;
  V operator()(const C* row) const {
    V v;
    std::memcpy(&v, row + i, sizeof v);
    return v;
  }
};

/// Folds term(at) over i < n: four Vecs side by side, so that no addition waits for the one before it, then the rest.
template <class C, class Term, class Fold>
inline C fold(int64_t n, C start, Term term, Fold into) {
  using V = Vec<C>;
  constexpr int64_t kWidth = sizeof(V) / sizeof(C);
  V part[4];
  for (V& p : part) p = start - V{};
  int64_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
    into(part[0], term(At<V, C>{i}));
    into(part[1], term(At<V, C>{i + kWidth}));
    into(part[2], term(At<V, C>{i + 2 * kWidth}));
    into(part[3], term(At<V, C>{i + 3 * kWidth}));
  }
  for (int k = 0; i + kWidth <= n; i += kWidth, ++k) into(part[k], term(At<V, C>{i}));
  into(part[0], part[1]);
  into(part[2], part[3]);
  into(part[0], part[2]);
  C lane[kWidth];
  std::memcpy(lane, &part[0], sizeof lane);
  for (int k = 0; i < n; ++i, ++k) into(lane[k], term(At<C, C>{i}));
  for (int64_t width = kWidth / 2; width > 0; width /= 2)
    for (int64_t k = 0; k < width; ++k) into(lane[k], lane[k + width]);
  return lane[0];
}

/// Sum of term(at), where at(row) is an element.
template <class C, class Term>
inline C sum_of(int64_t n, Term term) {
  return fold<C>(n, C(0), term, [](auto& sum, const auto& v) { sum += v; });
}

/// The largest of n numbers, NaNs apart: -inf if there is no other.
template <class C>
inline C largest(const C* x, int64_t n) {
  return fold<C>(
      n, -std::numeric_limits<C>::infinity(), [x](auto at) { return at(x); },
      [](auto& best, const auto& v) { best = v > best ? v : best; });
}

/// Row number `which` of this thread's scratch rows, of n numbers at least.
template <class C, int which>
C* scratch(int64_t n) {
  thread_local std::vector<C> row;
  if (static_cast<int64_t>(row.size()) < n) row.resize(n);
  return row.data();
}

/// n elements, `step` apart, as a dense row of C: where they lie if they are one, else copied to scratch row `which`.
template <class C, int which, class T>
const C* in_place_or_copied(const T* x, int64_t n, int64_t step) {
  if constexpr (std::is_same_v<C, T>)
    if (step == 1) return x;
  C* row = scratch<C, which>(n);
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) row[i] = convert<C>(x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) row[i] = convert<C>(x[i * step]);
  }
  return row;
}

/// Where a dense row of n results goes first: to `y` itself if its elements are of that kind, else to a scratch row.
template <class C, int which, class T>
C* in_place_or_scratch(T* y, int64_t n, int64_t step) {
  if constexpr (std::is_same_v<C, T>)
    if (step == 1) return y;
  return scratch<C, which>(n);
}

/// Copies a row that in_place_or_scratch gave to the n elements `y`, `step` apart.
template <class C, class T>
void put_back(const C* row, T* y, int64_t n, int64_t step) {
  if constexpr (std::is_same_v<C, T>)
    if (row == y) return;
  if (step == 1) {
#pragma GCC ivdep
    for (int64_t i = 0; i < n; ++i) y[i] = convert<T>(row[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * step] = convert<T>(row[i]);
  }
}

}  // namespace minimx::rows
