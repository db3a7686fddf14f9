// Loops of elementwise operators: a function of csrc/cpu/scalar.h's kind applied to contiguous arrays of one type.
// Everything else (strides, broadcasting, 16-bit floats, threads) is done around them by elemwise.cc, once for all
// operators, so that each operator costs the compiler one small loop per type.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "common/dtype.h"

namespace minimx {

constexpr int kMaxElemwiseInputs = 7;

/// Applies a function to n elements of contiguous arrays; data: the inputs, then the output, which may be one of them.
using Loop = void (*)(char* const* data, int64_t n);

struct LoopEntry {
  const char* name;
  DType dtype;  // the loop's key beside its name
  DType out;
  int arity;
  std::array<DType, kMaxElemwiseInputs> ins;
  Loop loop;
  float ns;  // rough time of one element on one core
};

/// What a loop reads. A bool as the byte it is: gcc 12 makes no vector code of a choice by a bool in memory.
template <class T>
T loaded(const T& x) {
  if constexpr (std::is_same_v<T, bool>)
    return reinterpret_cast<const uint8_t&>(x) != 0;
  else
    return x;
}

template <class F, class Out, class... In>
void contiguous_loop(char* const* data, int64_t n) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    [](int64_t count, Out* out, const In*... in) {
    // Element i reads element i only, so arrays that are the same are no hazard.
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<Out>(F::f(loaded(in[i])...));
    }(n, reinterpret_cast<Out*>(data[sizeof...(In)]), reinterpret_cast<const In*>(data[I])...);
  }(std::index_sequence_for<In...>{});
}

/// An entry of a generated table of loops: computes in T, gives Out from In...
template <class F, class T, class Out, class... In>
constexpr LoopEntry loop_entry(const char* name, float ns) {
  return {name,
          DTypeOf<T>::value,
          DTypeOf<Out>::value,
          sizeof...(In),
          {DTypeOf<In>::value...},
          &contiguous_loop<F, Out, In...>,
          ns};
}

/// The loop of the row `name` in compute type `dtype` (16-bit floats: float32), or null.
const LoopEntry* find_loop(const std::string& name, DType dtype);

#define MINIMX_LOOPS(table) std::span<const LoopEntry> table();
#include "generated/loops.inc"
#undef MINIMX_LOOPS

}  // namespace minimx
