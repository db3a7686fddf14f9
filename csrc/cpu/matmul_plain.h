// Matrix product in plain C++, for what oneDNN has no kernel for (float64, integers, bool) and for small float32
// products, where oneDNN's call costs more than the arithmetic. Read next: dnnl_matmul.cc, which chooses.
#pragma once
#include <cstddef>
#include <cstdint>

namespace minimx {

/// c (m, n) = a (m, k) b (k, n) + bias (n,), any strides in elements, k at least 1. `bias` may be null. adds: c was
/// there before, and the product is added to it; without a bias.
template <class T>
struct MatmulArgs {
  int64_t m, n, k;
  const T *a, *b, *bias;
  T* c;
  int64_t a_row, a_col, b_row, b_col, c_row, c_col, bias_stride;
  bool adds = false;
};

/// Number of panels of columns that a product with n columns is cut into; threads share out panels.
template <class T>
int64_t matmul_plain_panels(int64_t n);

/// The columns of panels [begin, end). Accumulates in T. For integers this wraps, as NumPy's does; for bool it is
/// any(a and b). Instantiated for float, double, bool and the integer types.
template <class T>
void matmul_plain(const MatmulArgs<T>& args, int64_t begin, int64_t end);

}  // namespace minimx
