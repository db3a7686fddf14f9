// Sorting of rows by merging: tiles of kTile items in shared memory, then pairs of sorted runs until one is left. Items
// are all different, for they hold their places, so every order that they are merged in is the stable one. Follows
// prelude.h; T is the type of elements, Index of positions. Merge path: Green, McColl and Bader 2012
// (10.1145/2304576.2304621).

/// The bits of a number.
template <class To, class From>
To bits_of(From x) {
  To bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// An unsigned number that orders as `v` does: NaN above everything, -0 and 0 the same.
template <class R>
R rank(T v, bool descending) {
  constexpr R top = R(1) << (8 * sizeof(R) - 1);
  R r;
  if constexpr (is_int<T>) {
    r = static_cast<R>(v) ^ top;
  } else {
    const auto f = wide(v) + 0;
    if (f != f) return ~R(0);
    const R bits = bits_of<R>(f);
    r = bits & top ? ~bits : bits | top;
  }
  return descending ? ~r : r;
}

/// An element's rank and place. In one number where the element has 4 bytes at most.
template <bool kWide>
struct ItemOf {
  uint64_t both;
  static ItemOf of(T v, uint64_t at, bool descending) { return {uint64_t(rank<uint32_t>(v, descending)) << 32 | at}; }
  static ItemOf last() { return {~uint64_t(0)}; }
  bool operator<(ItemOf b) const { return both < b.both; }
  int64_t place() const { return both & 0xffffffffu; }
};
template <>
struct ItemOf<true> {
  uint64_t key, at;
  static ItemOf of(T v, uint64_t at, bool descending) { return {rank<uint64_t>(v, descending), at}; }
  static ItemOf last() { return {~uint64_t(0), ~uint64_t(0)}; }
  bool operator<(ItemOf b) const { return key < b.key || (key == b.key && at < b.at); }
  int64_t place() const { return at; }
};
using Item = ItemOf<(sizeof(T) > 4)>;

/// Sorts groups of `width` items each (a power of two), one after the other in `s`.
template <int kThreads, int kTile>
void sort_bitonic(Item (&s)[kTile], int width) {
  for (int size = 2; size <= width; size *= 2)
    for (int step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile / 2; i += kThreads) {
        const int a = 2 * i - (i & (step - 1)), b = a + step;
        const bool rises = (a % width & size) == 0;
        const Item x = s[a], y = s[b];
        if ((y < x) == rises) {
          s[a] = y;
          s[b] = x;
        }
      }
    }
  __syncthreads();
}

/// Sorts tiles of rows of n elements: of short rows a block has kTile / width whole ones, of others one tile of kTile.
/// Places go to y where a row is one tile, else the first k items of each tile to `runs`.
template <int kThreads, int kTile>
void sort_tiles(const T* x, int64_t* y, Item* runs, Index rows, Index n, Index k, int width, bool descending) {
  __shared__ Item s[kTile];
  const Index tiles = (n + kTile - 1) / kTile, group = Index(blockIdx.x) * (kTile / width);
  auto at_slot = [&](int i, Index& row, Index& at) {  // where the item in slot i is from; is it an element's?
    const Index g = group + i / width;
    row = g / tiles;
    at = g % tiles * kTile + i % width;
    return row < rows && at < n;
  };
  Index row, at;
  for (int i = threadIdx.x; i < kTile; i += kThreads)
    s[i] = at_slot(i, row, at) ? Item::of(x[row * n + at], at, descending) : Item::last();
  sort_bitonic<kThreads>(s, width);
  for (int i = threadIdx.x; i < kTile; i += kThreads)
    if (at_slot(i, row, at) && i % width < k) {
      if (tiles == 1)
        y[row * k + at] = s[i].place();
      else
        runs[row * n + at] = s[i];
    }
}

/// How many of the d smallest items of sorted a and b are from a.
inline Index taken_from(const Item* a, Index in_a, const Item* b, Index in_b, Index d) {
  Index low = d > in_b ? d - in_b : 0, high = d < in_a ? d : in_a;
  while (low < high) {
    const Index middle = (low + high) / 2;
    if (a[middle] < b[d - 1 - middle])
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/// Merges pairs of runs of `run` items each (of which the first k count). A block makes kTile items of a pair: it finds
/// where they begin and end in both runs, and each thread finds the same for its part of them. take(row, at, item).
template <int kThreads, int kTile, class Take>
void merge(const Item* from, Index n, Index k, Index run, const Take& take) {
  constexpr int kEach = kTile / kThreads;
  __shared__ Item s[kTile];
  __shared__ Index split[2];
  const Index tiles = (n + kTile - 1) / kTile, row = blockIdx.x / tiles, begin = blockIdx.x % tiles * kTile;
  const Index base = begin / (2 * run) * (2 * run), second = base + run < n ? base + run : n;
  const Index in_a = minimum(minimum(run, n - base), k), in_b = minimum(minimum(run, n - second), k);
  const Item *a = from + row * n + base, *b = from + row * n + second;
  const Index first = begin - base, last = minimum(minimum(first + kTile, in_a + in_b), k);
  if (first >= last) return;  // the whole block
  if (threadIdx.x < 2) split[threadIdx.x] = taken_from(a, in_a, b, in_b, threadIdx.x == 0 ? first : last);
  __syncthreads();
  const Index a0 = split[0], b0 = first - a0;
  const int count = last - first, of_a = split[1] - a0;
  for (int i = threadIdx.x; i < count; i += kThreads) s[i] = i < of_a ? a[a0 + i] : b[b0 + (i - of_a)];
  __syncthreads();
  Item mine[kEach];
  const int start = threadIdx.x * kEach;
  if (start < count) {
    int i = taken_from(s, of_a, s + of_a, count - of_a, start), j = start - i + of_a;
#pragma unroll
    for (int e = 0; e < kEach; ++e)
      if (start + e < count) {
        const bool takes_a = i < of_a && (j >= count || s[i] < s[j]);
        mine[e] = s[takes_a ? i++ : j++];
      }
  }
  __syncthreads();
#pragma unroll
  for (int e = 0; e < kEach; ++e)
    if (start + e < count) s[start + e] = mine[e];
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += kThreads) take(row, begin + i, s[i]);
}

/// A pass whose result is merged again.
template <int kThreads, int kTile>
void merge_runs(const Item* from, Item* into, Index n, Index k, Index run) {
  merge<kThreads, kTile>(from, n, k, run, [=](Index row, Index at, Item item) { into[row * n + at] = item; });
}
/// The last pass.
template <int kThreads, int kTile>
void merge_last(const Item* from, int64_t* y, Index n, Index k, Index run) {
  merge<kThreads, kTile>(from, n, k, run, [=](Index row, Index at, Item item) { y[row * k + at] = item.place(); });
}
