// grid (4, 1, 1), block (16, 16, 1), 0 bytes shared
#include "collective.h"
#include "row.h"

using Index = int;
using T = Half;  // of elements
using C = float;  // of arithmetic
constexpr int kThreads = 256, kPack = 8, kSize = 8;
#include "softmax.h"

extern "C" __global__ void __launch_bounds__(kThreads) KERNEL(const T* x, T* out, Index rows, int n) {
  in_order();
  for (Index first = Index(blockIdx.x) * blockDim.y; first < rows; first += gridDim.x * blockDim.y) {
    const Index row = first + threadIdx.y, start = row < rows ? row * n : 0;
    const int width = row < rows ? n : 0;
    C v[kSize];
    hold<kPack>(v, x + start, width, C(C(-INFINITY)));
    C top = v[0];
#pragma unroll
    for (int i = 1; i < kSize; ++i) top = maximum(top, v[i]);
    top = over_row<kThreads>(top, Larger());
    C sum = 0;
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum += v[i] = exponential(v[i] - top);
    const C scale = 1 / over_row<kThreads>(sum, Add());
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] *= scale;
    put<kPack>(out + start, v, width);
  }
}
