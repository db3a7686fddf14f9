// Implementation of matmul_plain.h: b is packed into panels of a few vectors' width (a panel stays in the L1 cache),
// then blocks of kRows x that width of c are kept in registers over the depth of the panel.
#include "cpu/matmul_plain.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace minimx {
namespace {

constexpr int kRows = 4;
constexpr int64_t kDepth = 256;  // rows of b in a panel: 32 KiB with AVX-512
#if defined(__AVX512F__)
constexpr int kVectors = 2;
#else
constexpr int kVectors = 1;  // a 64-byte vector is two registers there, and eight accumulators are enough
#endif

/// The type sums are made in: unsigned for integers, whose overflow is defined.
template <class T>
struct SumOf {
  using type = T;
};
template <class T>
  requires std::is_integral_v<T>
struct SumOf<T> {
  using type = std::make_unsigned_t<T>;
};
template <>
struct SumOf<bool> {
  using type = uint8_t;
};
template <class T>
using Sum = typename SumOf<T>::type;

template <class S>
struct VectorOf {
  typedef S type __attribute__((vector_size(64)));
};
template <class T>
using Vector = typename VectorOf<Sum<T>>::type;
template <class T>
constexpr int kLanes = 64 / sizeof(T);
template <class T>
constexpr int kWidth = kVectors * kLanes<T>;

template <class T>
struct Block {
  Vector<T> v[kRows][kVectors];
  Sum<T> at(int64_t r, int64_t j) const { return v[r][j / kLanes<T>][j % kLanes<T>]; }
};

template <class T>
Vector<T> load(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// `depth` rows of b from `row` and `width` columns from `col`, kWidth values a row, zeros on the right.
template <class T>
void pack(const MatmulArgs<T>& g, int64_t row, int64_t depth, int64_t col, int64_t width, T* panel) {
  constexpr int kW = kWidth<T>;
  const T* b = g.b + row * g.b_row + col * g.b_col;
  if (width < kW) std::memset(panel, 0, depth * kW * sizeof(T));
  if (g.b_row == 1 && g.b_col != 1) {
    for (int64_t j = 0; j < width; ++j)
      for (int64_t k = 0; k < depth; ++k) panel[k * kW + j] = b[k + j * g.b_col];
    return;
  }
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < width; ++j) panel[k * kW + j] = b[k * g.b_row + j * g.b_col];
}

/// kR rows of a times a panel whose rows are `stride` apart.
template <class T, int kR>
void multiply(const T* a, int64_t a_row, int64_t a_col, int64_t depth, const T* panel, int64_t stride, Block<T>& out) {
  Vector<T> sum[kR][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> b[kVectors];
    for (int j = 0; j < kVectors; ++j) b[j] = load<T>(panel + k * stride + j * kLanes<T>);
#pragma GCC unroll 4
    for (int r = 0; r < kR; ++r) {
      const Vector<T> x = Vector<T>{} + static_cast<Sum<T>>(a[r * a_row + k * a_col]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) {
        if constexpr (std::is_same_v<T, bool>) {
          sum[r][j] |= x & b[j];
        } else {
          sum[r][j] += x * b[j];
        }
      }
    }
  }
  for (int r = 0; r < kR; ++r)
    for (int j = 0; j < kVectors; ++j) out.v[r][j] = sum[r][j];
}

/// c of a block: the bias and the product over the `first` panel, others added to what is there.
template <class T>
void store(const MatmulArgs<T>& g, int64_t row, int64_t rows, int64_t col, int64_t width, bool first,
           const Block<T>& block) {
  for (int64_t r = 0; r < rows; ++r) {
    T* c = g.c + (row + r) * g.c_row + col * g.c_col;
    if (!(first && g.bias) && g.c_col == 1 && width == kWidth<T>) {
      for (int j = 0; j < kVectors; ++j) {
        Vector<T> sum = block.v[r][j];
        T* const to = c + j * kLanes<T>;
        if constexpr (std::is_same_v<T, bool>) {
          if (!first) sum |= load<T>(to);
        } else {
          if (!first) sum += load<T>(to);
        }
        std::memcpy(to, &sum, sizeof sum);
      }
      continue;
    }
    for (int64_t j = 0; j < width; ++j) {
      Sum<T> before{};
      if (!first) before = static_cast<Sum<T>>(c[j * g.c_col]);
      if (first && g.bias) before = static_cast<Sum<T>>(g.bias[(col + j) * g.bias_stride]);
      if constexpr (std::is_same_v<T, bool>) {
        c[j * g.c_col] = (before | block.at(r, j)) != 0;
      } else {
        c[j * g.c_col] = static_cast<T>(before + block.at(r, j));
      }
    }
  }
}

template <class T>
void multiply_panel(const MatmulArgs<T>& g, int64_t k0, int64_t depth, int64_t col, int64_t width, const T* panel,
                    int64_t stride) {
  Block<T> block;
  for (int64_t row = 0; row < g.m; row += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, g.m - row);
    const T* a = g.a + k0 * g.a_col + row * g.a_row;
    if (rows == 4) multiply<T, 4>(a, g.a_row, g.a_col, depth, panel, stride, block);
    if (rows == 3) multiply<T, 3>(a, g.a_row, g.a_col, depth, panel, stride, block);
    if (rows == 2) multiply<T, 2>(a, g.a_row, g.a_col, depth, panel, stride, block);
    if (rows == 1) multiply<T, 1>(a, g.a_row, g.a_col, depth, panel, stride, block);
    store(g, row, rows, col, width, k0 == 0 && !g.adds, block);
  }
}

}  // namespace

template <class T>
int64_t matmul_plain_panels(int64_t n) {
  return (n + kWidth<T> - 1) / kWidth<T>;
}

template <class T>
void matmul_plain(const MatmulArgs<T>& g, int64_t begin, int64_t end) {
  constexpr int kW = kWidth<T>;
  alignas(64) T scratch[kDepth * kW];
  for (int64_t col = begin * kW; col < std::min<int64_t>(end * kW, g.n); col += kW) {
    const int64_t width = std::min<int64_t>(kW, g.n - col);
    for (int64_t k0 = 0; k0 < g.k; k0 += kDepth) {
      const int64_t depth = std::min(kDepth, g.k - k0);
      const bool in_place = width == kW && g.b_col == 1 && g.m <= 16 * kRows;  // packing pays over many rows only
      if (!in_place) pack(g, k0, depth, col, width, scratch);
      const T* panel = in_place ? g.b + k0 * g.b_row + col : scratch;
      multiply_panel(g, k0, depth, col, width, panel, in_place ? g.b_row : kW);
    }
  }
}

#define MINIMX_INSTANTIATE(T)                       \
  template int64_t matmul_plain_panels<T>(int64_t); \
  template void matmul_plain<T>(const MatmulArgs<T>&, int64_t, int64_t);
MINIMX_INSTANTIATE(float)
MINIMX_INSTANTIATE(double)
MINIMX_INSTANTIATE(bool)
MINIMX_INSTANTIATE(uint8_t)
MINIMX_INSTANTIATE(int8_t)
MINIMX_INSTANTIATE(int16_t)
MINIMX_INSTANTIATE(int32_t)
MINIMX_INSTANTIATE(int64_t)
#undef MINIMX_INSTANTIATE

}  // namespace minimx
