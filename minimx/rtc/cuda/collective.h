// What the threads of a row find together.
//
// A block has threads (x, y): the x of one y work on one row (their number is a power of two, so that a warp holds
// whole rows or a row whole warps); each y has a row of its own. Follows prelude.h, inside namespace minimx::scalar.

/// `x` of the thread whose lane differs in the bits of `mask`. T may be any type that can be copied byte by byte.
template <class T>
T of_lane(T x, int mask) {
  constexpr int kWords = (sizeof(T) + 3) / 4;
  uint32_t words[kWords] = {};
  memcpy(words, &x, sizeof(T));
#pragma unroll
  for (int i = 0; i < kWords; ++i) words[i] = __shfl_xor_sync(0xffffffffu, words[i], mask);
  memcpy(&x, words, sizeof(T));
  return x;
}

/// The `acc` of all threads of a row joined by combine(a, b), for each of them. Every thread of the block calls it.
template <int kThreads, class A, class Combine>
A over_row(A acc, const Combine& combine) {
  const int lanes = blockDim.x < 32 ? blockDim.x : 32;
  for (int mask = lanes / 2; mask > 0; mask /= 2) acc = combine(acc, of_lane(acc, mask));
  if (blockDim.x > 32) {
    __shared__ A of_warp[kThreads / 32];
    const int warps = blockDim.x / 32, first = threadIdx.y * warps;
    __syncthreads();  // until everybody has read what was here before
    if (threadIdx.x % 32 == 0) of_warp[first + threadIdx.x / 32] = acc;
    __syncthreads();
    acc = of_warp[first];
    for (int i = 1; i < warps; ++i) acc = combine(acc, of_warp[first + i]);
  }
  return acc;
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  T operator()(T a, T b) const {
    return maximum(a, b);
  }
};
