// grid (32, 1, 1), block (128, 2, 1), 0 bytes shared
#include "collective.h"
#include "row.h"

using Index = int;
using T = Half;  // of elements
using C = float;  // of arithmetic
constexpr int kThreads = 256, kPack = 8, kSize = 8;

extern "C" __global__ void __launch_bounds__(kThreads) KERNEL(const T* x, const C* gamma, const C* beta, T* y, C* means, C* rstds, double eps, Index rows, int n) {
  in_order();
  for (Index first = Index(blockIdx.x) * blockDim.y; first < rows; first += gridDim.x * blockDim.y) {
    const Index row = first + threadIdx.y, start = row < rows ? row * n : 0;
    const int width = row < rows ? n : 0;
    C v[kSize];
    hold<kPack>(v, x + start, width, C(0));
    C mean = 0, square = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) mean += v[i];
    mean = over_row<kThreads>(mean, Add()) / C(n);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const C d = position<kPack>(i) < width ? v[i] - mean : C(0);
      square += d * d;
    }
    const C rstd = 1 / sqrt(over_row<kThreads>(square, Add()) / C(n) + C(eps));
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] = (v[i] - mean) * rstd;
    C gamma_[kSize];
    hold<kPack>(gamma_, gamma, width, C(0));
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] *= gamma_[i];
    C beta_[kSize];
    hold<kPack>(beta_, beta, width, C(0));
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] += beta_[i];
    put<kPack>(y + start, v, width);
    if (threadIdx.x == 0 && width > 0) {
      means[row] = mean;
      rstds[row] = rstd;
    }
  }
}
