// Loops of reductions: the functions of a row (init, step, combine, finish) applied to contiguous runs of one type.
// Axes, strides, other element types, blocks and threads are the business of reduce.cc, once for all reductions.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "common/dtype.h"
#include "cpu/scalar.h"

namespace minimx {

/// Takes elements into accumulators, all of the entry's type. What n counts, and how many accumulators, is said below.
using ReduceLoop = void (*)(const char* x, int64_t n, char* acc);

struct ReduceEntry {
  const char* name;
  DType dtype;                          // of elements and accumulators
  ReduceLoop fold;                      // n elements into one accumulator, by several at a time that are then combined
  ReduceLoop accumulate;                // element i into accumulator i, n of each
  ReduceLoop merge;                     // partial result i into accumulator i, n of each
  void (*start)(int64_t n, char* acc);  // n accumulators of nothing
  void (*finish)(int64_t n, int64_t elements, char* acc);  // turns accumulators into results of so many elements each
};

/// Lane j takes the elements j, j + kLanes, ...: no chain of dependent additions, and shorter sums round less.
template <class F, class T, int kLanes>
void fold_lanes(const T* x, int64_t n, T* acc) {
  T lane[kLanes];
  for (int j = 0; j < kLanes; ++j) lane[j] = F::template init<T>();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; ++j) lane[j] = F::step(lane[j], x[i + j]);
  for (int j = 0; i < n; ++i, ++j) lane[j] = F::step(lane[j], x[i]);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int j = 0; j < width; ++j) lane[j] = F::combine(lane[j], lane[j + width]);
  *acc = F::combine(*acc, lane[0]);
}

template <class F, class T>
void fold(const char* x, int64_t n, char* acc) {
  constexpr int kLanes = 256 / sizeof(T) < 64 ? 256 / sizeof(T) : 64;
  if (n < kLanes)
    fold_lanes<F, T, 8>(reinterpret_cast<const T*>(x), n, reinterpret_cast<T*>(acc));
  else
    fold_lanes<F, T, kLanes>(reinterpret_cast<const T*>(x), n, reinterpret_cast<T*>(acc));
}

template <class F, class T>
void accumulate(const char* x, int64_t n, char* acc) {
  const T* a = reinterpret_cast<const T*>(x);
  T* b = reinterpret_cast<T*>(acc);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) b[i] = F::step(b[i], a[i]);
}

template <class F, class T>
void merge(const char* x, int64_t n, char* acc) {
  const T* a = reinterpret_cast<const T*>(x);
  T* b = reinterpret_cast<T*>(acc);
#pragma GCC ivdep
  for (int64_t i = 0; i < n; ++i) b[i] = F::combine(b[i], a[i]);
}

template <class F, class T>
void start(int64_t n, char* acc) {
  for (int64_t i = 0; i < n; ++i) reinterpret_cast<T*>(acc)[i] = F::template init<T>();
}

template <class F, class T>
void finish(int64_t n, int64_t elements, char* acc) {
  T* b = reinterpret_cast<T*>(acc);
  for (int64_t i = 0; i < n; ++i) b[i] = F::finish(b[i], static_cast<T>(elements));
}

template <class F, class T>
constexpr ReduceEntry reduce_entry(const char* name) {
  return {name, DTypeOf<T>::value, &fold<F, T>, &accumulate<F, T>, &merge<F, T>, &start<F, T>, &finish<F, T>};
}

/// The generated table.
std::span<const ReduceEntry> reduce_loops();

/// The loops of the row `name` in type `dtype`, or null.
const ReduceEntry* find_reduce(const std::string& name, DType dtype);

}  // namespace minimx
