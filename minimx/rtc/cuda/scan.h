// Cumulative sums and products along lines of n elements. Follows collective.h; X and Y are the types of elements and
// of results, A the one that is carried; start() and joined(a, b) say what is accumulated. Place has the offsets of
// lines: `Index from(Index line)`, `Index into(Index line)`.
//
// Lines are cut into segments where they are few: one launch (kEnds) finds the total of every segment, a second one
// scans segments, beginning with the totals of those before. Segments are along blocks y.

/// What the threads of a row before this one have, joined; `total` becomes what all have. blockDim.x is at least 32.
template <int kThreads>
A before_in_row(A x, A& total) {
  const int lane = threadIdx.x % 32;
  A upto = x;
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
    const A other = __shfl_up_sync(0xffffffffu, upto, d);
    if (lane >= d) upto = joined(other, upto);
  }
  A before = __shfl_up_sync(0xffffffffu, upto, 1);
  if (lane == 0) before = start();
  total = __shfl_sync(0xffffffffu, upto, 31);
  if (blockDim.x > 32) {
    __shared__ A of_warp[kThreads / 32];
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, first = threadIdx.y * warps;
    __syncthreads();  // until everybody has read what was here before
    if (lane == 31) of_warp[first + warp] = upto;
    __syncthreads();
    A below = start();
    total = start();
    for (int i = 0; i < warps; ++i) {
      if (i < warp) below = joined(below, of_warp[first + i]);
      total = joined(total, of_warp[first + i]);
    }
    before = joined(below, before);
  }
  return before;
}

/// Threads x go along a line, kItems neighbours at a time; threads y and blocks x have lines. kDense: neighbours of a
/// line are neighbours in memory.
template <int kThreads, int kItems, bool kEnds, bool kDense, class Place, class Index>
void scan_rows(const Place& place, const X* x, Y* y, A* totals, Index lines, Index n, Index segment, Index step_in,
               Index step_out) {
  const Index begin = blockIdx.y * segment, end = begin + segment < n ? begin + segment : n;
  auto join = [](A a, A b) { return joined(a, b); };
  for (Index first = Index(blockIdx.x) * blockDim.y; first < lines; first += gridDim.x * blockDim.y) {
    const Index line = first + threadIdx.y;
    const bool mine = line < lines;
    const X* p = x + (mine ? place.from(line) : 0);
    Y* q = y + (mine ? place.into(line) : 0);
    const bool loads = kDense && is_aligned<kItems>(p), stores = kDense && is_aligned<kItems>(q);
    A carry = start();
    if (!kEnds && gridDim.y > 1) {
      for (int s = threadIdx.x; mine && s < int(blockIdx.y); s += blockDim.x)
        carry = joined(carry, totals[line * gridDim.y + s]);
      carry = over_row<kThreads>(carry, join);
    }
    for (Index tile = begin; tile < end; tile += blockDim.x * kItems) {
      const Index at = tile + threadIdx.x * kItems;
      const int count = !mine || at >= end ? 0 : end - at < kItems ? int(end - at) : kItems;
      A v[kItems];
      if (kDense && count == kItems) {
        const auto pack = load<kItems>(p + at, loads);
#pragma unroll
        for (int j = 0; j < kItems; ++j) v[j] = to<A>(pack.at[j]);
      } else {
#pragma unroll
        for (int j = 0; j < kItems; ++j) v[j] = j < count ? to<A>(p[(at + j) * step_in]) : start();
      }
#pragma unroll
      for (int j = 1; j < kItems; ++j) v[j] = joined(v[j - 1], v[j]);
      if constexpr (kEnds) {
        carry = joined(carry, v[kItems - 1]);
      } else {
        A total;
        const A before = joined(carry, before_in_row<kThreads>(v[kItems - 1], total));
        carry = joined(carry, total);
        Pack<Y, kItems> made;
#pragma unroll
        for (int j = 0; j < kItems; ++j) made.at[j] = to<Y>(joined(before, v[j]));
        if (kDense && count == kItems) {
          store(q + at, made, stores);
        } else {
#pragma unroll
          for (int j = 0; j < kItems; ++j)
            if (j < count) q[(at + j) * step_out] = made.at[j];
        }
      }
    }
    if constexpr (kEnds) {
      carry = over_row<kThreads>(carry, join);
      if (mine && threadIdx.x == 0) totals[line * gridDim.y + blockIdx.y] = carry;
    }
  }
}

/// Threads x and blocks x have lines that are neighbours in memory, each thread goes along its own.
template <bool kEnds, class Place, class Index>
void scan_columns(const Place& place, const X* __restrict__ x, Y* __restrict__ y, A* totals, Index lines, Index n,
                  Index segment, Index step_in, Index step_out) {
  const Index begin = blockIdx.y * segment, end = begin + segment < n ? begin + segment : n;
  for (Index line = Index(blockIdx.x) * blockDim.x + threadIdx.x; line < lines; line += gridDim.x * blockDim.x) {
    const X* p = x + place.from(line);
    Y* q = y + place.into(line);
    A carry = start();
    if constexpr (!kEnds)
      for (int s = 0; s < int(blockIdx.y); ++s) carry = joined(carry, totals[s * lines + line]);
#pragma unroll 4
    for (Index k = begin; k < end; ++k) {
      carry = joined(carry, to<A>(p[k * step_in]));
      if constexpr (!kEnds) q[k * step_out] = to<Y>(carry);
    }
    if constexpr (kEnds) totals[blockIdx.y * lines + line] = carry;
  }
}
