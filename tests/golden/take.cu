// grid (1, 2048, 1), block (128, 2, 1), 0 bytes shared
using Index = int;
// The rows and the columns that a thread begins with and steps by.
struct Walk {
  Index row = Index(blockIdx.y) * Index(blockDim.y) + Index(threadIdx.y), rows = Index(gridDim.y) * Index(blockDim.y);
  Index column = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x);
  Index columns = Index(gridDim.x) * Index(blockDim.x);
};
// The place in [0, n) that an index means: csrc/cpu/index_mode.h, but for out of range in mode "raise" the nearest.
int64_t resolve(int64_t i, int64_t n) {
  constexpr int kMode = 0;  // 0 raise, 1 clip, 2 wrap
  if (i >= 0 && i < n) return i;
  if (kMode == 2) {
    i %= n;
    return i < 0 ? i + n : i;
  }
  if (kMode == 0 && i < 0) i += n;
  return i < 0 ? 0 : i < n ? i : n - 1;
}
template <class Word>
void copy_rows(const char* x, const int64_t* index, char* y, Index rows, Index count, Index n, Index words) {
  const Word* from = reinterpret_cast<const Word*>(x);
  Word* to = reinterpret_cast<Word*>(y);
  const Walk walk;
  for (Index r = walk.row; r < rows; r += walk.rows) {
    const Index outer = r / count, source = outer * n + static_cast<Index>(resolve(index[r - outer * count], n));
    for (Index c = walk.column; c < words; c += walk.columns) to[r * words + c] = from[source * words + c];
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const char* x, const int64_t* index, char* y, Index rows, Index count, Index n, Index words) {
  in_order();
  constexpr Index kItems = sizeof(Pack<int64_t, 2>) / sizeof(int16_t);
  if (kItems > 1 && aligned<Pack<int64_t, 2>>(x, y))
    copy_rows<Pack<int64_t, 2>>(x, index, y, rows, count, n, words);
  else
    copy_rows<int16_t>(x, index, y, rows, count, n, words * kItems);
}
