// Implementation of matmul_plain.h: b is packed into panels of kWidth columns (one panel stays in the L1 cache), then
// kRows x kWidth blocks of c are kept in registers over the whole of k. The compiler vectorises the inner loop.
#include "cpu/matmul_plain.h"

#include <algorithm>
#include <type_traits>

namespace minimx {
namespace {

constexpr int kRows = 4;
constexpr int64_t kDepth = 256;  // rows of b packed at a time: 256 x 32 float64 are 64 KiB

template <class T>
constexpr int kWidth = sizeof(T) >= 8 ? 16 : 32;

/// Integer sums wrap: done in the unsigned type of the same size, where that is defined.
template <class T>
struct Sum {
  using type = T;
};
template <class T>
  requires std::is_integral_v<T>
struct Sum<T> {
  using type = std::make_unsigned_t<T>;
};
template <>
struct Sum<bool> {
  using type = uint8_t;
};

/// Columns [col, col + width) and rows [row, row + depth) of b, kWidth values a row, zeros on the right.
template <class T>
void pack(const MatmulArgs<T>& g, int64_t row, int64_t depth, int64_t col, int64_t width, T* panel) {
  constexpr int kW = kWidth<T>;
  const T* b = g.b + row * g.b_row + col * g.b_col;
  if (g.b_col == 1 || g.b_row != 1) {
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < width; ++j) panel[k * kW + j] = b[k * g.b_row + j * g.b_col];
      for (int64_t j = width; j < kW; ++j) panel[k * kW + j] = T();
    }
    return;
  }
  for (int64_t j = 0; j < kW; ++j)
    for (int64_t k = 0; k < depth; ++k) panel[k * kW + j] = j < width ? b[k + j * g.b_col] : T();
}

/// c[rows, kWidth] += a[rows, depth] panel[depth, kWidth], in registers.
template <class T, int kR>
inline void block(const T* a, int64_t a_row, int64_t a_col, int64_t depth, const T* panel, int64_t stride,
                  typename Sum<T>::type (&acc)[kRows][kWidth<T>]) {
  constexpr int kW = kWidth<T>;
  using S = typename Sum<T>::type;
  S sum[kR][kW] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = panel + k * stride;
    for (int r = 0; r < kR; ++r) {
      const S x = static_cast<S>(a[r * a_row + k * a_col]);
      for (int j = 0; j < kW; ++j) {
        if constexpr (std::is_same_v<T, bool>) {
          sum[r][j] |= static_cast<S>(x & static_cast<S>(row[j]));
        } else {
          sum[r][j] = static_cast<S>(sum[r][j] + x * static_cast<S>(row[j]));
        }
      }
    }
  }
  for (int r = 0; r < kR; ++r)
    for (int j = 0; j < kW; ++j) acc[r][j] = sum[r][j];
}

template <class T>
void store(const MatmulArgs<T>& g, int64_t row, int64_t rows, int64_t col, int64_t width, bool first,
           const typename Sum<T>::type (&acc)[kRows][kWidth<T>]) {
  using S = typename Sum<T>::type;
  for (int64_t r = 0; r < rows; ++r) {
    T* c = g.c + (row + r) * g.c_row + col * g.c_col;
    for (int64_t j = 0; j < width; ++j) {
      const S before = !first   ? static_cast<S>(c[j * g.c_col])
                       : g.bias ? static_cast<S>(g.bias[(col + j) * g.bias_stride])
                                : S();
      c[j * g.c_col] = static_cast<T>(before + acc[r][j]);
    }
  }
}

template <class T>
void rows_of_panel(const MatmulArgs<T>& g, int64_t k0, int64_t depth, int64_t col, int64_t width, const T* panel,
                   int64_t stride) {
  typename Sum<T>::type acc[kRows][kWidth<T>];
  const T* a = g.a + k0 * g.a_col;
  for (int64_t row = 0; row < g.m; row += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, g.m - row);
    const T* at = a + row * g.a_row;
    switch (rows) {
      case 4:
        block<T, 4>(at, g.a_row, g.a_col, depth, panel, stride, acc);
        break;
      case 3:
        block<T, 3>(at, g.a_row, g.a_col, depth, panel, stride, acc);
        break;
      case 2:
        block<T, 2>(at, g.a_row, g.a_col, depth, panel, stride, acc);
        break;
      default:
        block<T, 1>(at, g.a_row, g.a_col, depth, panel, stride, acc);
    }
    store(g, row, rows, col, width, k0 == 0, acc);
  }
}

}  // namespace

int64_t matmul_plain_scratch(int64_t k, int64_t) { return std::min(k, kDepth) * 32; }

template <class T>
void matmul_plain(const MatmulArgs<T>& g, T* scratch) {
  constexpr int kW = kWidth<T>;
  for (int64_t col = 0; col < g.n; col += kW) {
    const int64_t width = std::min<int64_t>(kW, g.n - col);
    for (int64_t k0 = 0; k0 < g.k; k0 += kDepth) {
      const int64_t depth = std::min(kDepth, g.k - k0);
      const bool in_place = width == kW && g.b_col == 1 && g.m <= 2 * kRows * 8;
      if (!in_place) pack(g, k0, depth, col, width, scratch);
      const T* panel = in_place ? g.b + k0 * g.b_row + col : scratch;
      rows_of_panel(g, k0, depth, col, width, panel, in_place ? g.b_row : kW);
    }
  }
}

template void matmul_plain<float>(const MatmulArgs<float>&, float*);
template void matmul_plain<double>(const MatmulArgs<double>&, double*);
template void matmul_plain<bool>(const MatmulArgs<bool>&, bool*);
template void matmul_plain<uint8_t>(const MatmulArgs<uint8_t>&, uint8_t*);
template void matmul_plain<int8_t>(const MatmulArgs<int8_t>&, int8_t*);
template void matmul_plain<int16_t>(const MatmulArgs<int16_t>&, int16_t*);
template void matmul_plain<int32_t>(const MatmulArgs<int32_t>&, int32_t*);
template void matmul_plain<int64_t>(const MatmulArgs<int64_t>&, int64_t*);

}  // namespace minimx
