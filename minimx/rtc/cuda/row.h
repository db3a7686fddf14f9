// Rows that are read once and held in registers while something is found out about them, spread over the threads x of a
// block: of kHeld packs each thread takes the ones that are blockDim.x apart. Follows collective.h.

/// Position in the row of element i of what a thread holds.
template <int kPack>
int position(int i) {
  return (i / kPack * blockDim.x + threadIdx.x) * kPack + i % kPack;
}

/// The thread's part of the n elements from p on; `missing` beyond them. n is divisible by kPack.
template <int kPack, int kSize, class C, class T>
void hold(C (&v)[kSize], const T* p, int n, C missing) {
  const bool aligned = is_aligned<kPack>(p);
#pragma unroll
  for (int i = 0; i < kSize; i += kPack) {
    const int k = position<kPack>(i);
    if (k < n) {
      const auto pack = load<kPack>(p + k, aligned);
#pragma unroll
      for (int j = 0; j < kPack; ++j) v[i + j] = to<C>(pack.at[j]);
    } else {
#pragma unroll
      for (int j = 0; j < kPack; ++j) v[i + j] = missing;
    }
  }
}

/// The thread's part of a row to where it belongs.
template <int kPack, int kSize, class C, class T>
void put(T* p, const C (&v)[kSize], int n) {
  const bool aligned = is_aligned<kPack>(p);
#pragma unroll
  for (int i = 0; i < kSize; i += kPack) {
    const int k = position<kPack>(i);
    Pack<T, kPack> pack;
#pragma unroll
    for (int j = 0; j < kPack; ++j) pack.at[j] = to<T>(v[i + j]);
    if (k < n) store(p + k, pack, aligned);
  }
}
