// grid (24, 1, 1), block (256, 1, 1), 0 bytes shared
#include "philox.h"
// The numbers of one call of a random operator.
struct Stream {
  uint64_t seed, call;
  Stream(uint64_t given_seed, uint64_t given_call, const uint64_t* base)
      : seed(base ? base[0] : given_seed), call(base ? base[1] + given_call : given_call) {}
  // The words of the four elements of a group.
  Words words(int64_t group, uint32_t iteration) const {
    const Words counter = {{static_cast<uint32_t>(group), iteration, static_cast<uint32_t>(call),
                            static_cast<uint32_t>(call >> 32)}};
    return philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
};
using T = Half;
using C = float;
constexpr int kWide = 8;  // elements of a thread: whole groups of four

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(uint64_t seed, uint64_t call, const uint64_t* state, const T* x, T* y, uint8_t* mask, int64_t elements, int64_t threshold, C scale) {
  in_order();
  const Stream stream(seed, call, state);
  const bool packed = aligned<Pack<T, kWide>>(x, y) && aligned<Pack<uint8_t, kWide>>(mask);
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kWide;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kWide; i < elements; i += step) {
    Pack<uint8_t, kWide> keep;
#pragma unroll
    for (int g = 0; g < kWide / 4; ++g) {
      const Words words = stream.words(i / 4 + g, 0);
      for (int j = 0; j < 4; ++j) keep.at[4 * g + j] = int64_t(words.at[j] >> 8) >= threshold;
    }
    if (packed && i + kWide <= elements) {
      Pack<T, kWide> v = *reinterpret_cast<const Pack<T, kWide>*>(x + i);
#pragma unroll
      for (int j = 0; j < kWide; ++j) v.at[j] = to<T>(static_cast<C>(wide(v.at[j]) * (keep.at[j] ? scale : C(0))));
      *reinterpret_cast<Pack<T, kWide>*>(y + i) = v;
      *reinterpret_cast<Pack<uint8_t, kWide>*>(mask + i) = keep;
    } else {
      for (int j = 0; j < kWide && i + j < elements; ++j) {
        y[i + j] = to<T>(static_cast<C>(wide(x[i + j]) * (keep.at[j] ? scale : C(0))));
        mask[i + j] = keep.at[j];
      }
    }
  }
}
