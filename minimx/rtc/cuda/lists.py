"""Which values go to each row of a result: indices sorted stably, so that equal ones keep their order. For put.py.

A radix sort by 8 bits a pass (Satish, Harris and Garland 2009, "Designing efficient sorting algorithms for manycore
GPUs", section 4), with ranks by warp ballots: a few small launches for any number of indices, and nothing that depends
on the order in which blocks run.
"""

from __future__ import annotations

from .gather import index_parameter
from .moving import RESOLVE, THREADS, Index
from .recipe import Argument, Launch, Scratch, Value, blocks_for, code

LONG = 64  # rows with more values than this are listed
DIGITS = 256  # of a pass of the sort, one for each thread
CHUNK = 1024  # keys of a block of the sort, at least
MOST_CHUNKS = 512  # blocks of the sort: each adds up the counts of all others

KEYS = """\
// The row that value number e goes to; later sorted along with e.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(index)s, Index* keys, Index* order, int* long_rows, Index values, Index slab, Index n, Index inner) {
%(point)s\
  if (blockIdx.x == 0 && threadIdx.x == 0) *long_rows = 0;
  const Index step = Index(gridDim.x) * Index(blockDim.x);
  for (Index e = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x); e < values; e += step) {
    keys[e] = (e / slab * n + static_cast<Index>(resolve(index[e], n))) * inner + e %% inner;
    order[e] = e;
  }
}
"""

COUNT = """\
// bins[d] = how many of the keys in [begin, end) have the digit d.
void count_digits(int* bins, const Index* keys, Index begin, Index end, int shift) {
  bins[threadIdx.x] = 0;
  __syncthreads();
  for (Index i = begin + Index(threadIdx.x); i < end; i += 256) atomicAdd(&bins[(keys[i] >> shift) & 255], 1);
  __syncthreads();
}
"""

COUNTS = """\
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const Index* keys, int* counts, Index values, Index chunk, int shift) {
  __shared__ int bins[256];
  const Index begin = Index(blockIdx.x) * chunk, end = begin + chunk < values ? begin + chunk : values;
  count_digits(bins, keys, begin, end, shift);
  counts[Index(blockIdx.x) * 256 + Index(threadIdx.x)] = bins[threadIdx.x];
}
"""

# A tile is the 256 keys that a block places at once. A key's place is: keys with a smaller digit, then keys with its
# digit in earlier blocks, earlier tiles, earlier warps and earlier lanes.
PLACE = """\
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const Index* keys, const Index* order, Index* sorted_keys, Index* sorted_order, const int* counts,
           Index values, Index chunk, int shift) {
  __shared__ Index next[256];     // where the next key with a digit goes
  __shared__ Index start[8][256]; // of a tile: keys with a digit in each warp, then where the first of them goes
  __shared__ int bins[256];
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  const Index begin = Index(blockIdx.x) * chunk, end = begin + chunk < values ? begin + chunk : values;

  Index all = 0, before = 0;  // keys with digit t, and those of earlier blocks
  if (gridDim.x == 1) {
    count_digits(bins, keys, begin, end, shift);
    all = bins[t];
  } else {
    for (int b = 0; b < int(gridDim.x); ++b) {
      const Index some = counts[b * 256 + t];
      all += some;
      before += b < int(blockIdx.x) ? some : 0;
    }
  }
  next[t] = all;
  __syncthreads();
  for (int step = 1; step < 256; step *= 2) {  // inclusive prefix sum over the digits
    const Index left = t >= step ? next[t - step] : 0;
    __syncthreads();
    next[t] += left;
    __syncthreads();
  }
  next[t] += before - all;

  for (Index tile = begin; tile < end; tile += 256) {
    for (int w = 0; w < 8; ++w) start[w][t] = 0;
    __syncthreads();
    const Index i = tile + t;
    const bool valid = i < end;
    const Index key = valid ? keys[i] : 0;
    const int digit = (key >> shift) & 255;
    unsigned peers = __ballot_sync(0xffffffffu, valid);  // lanes with the same digit
    for (int bit = 0; bit < 8; ++bit) {
      const unsigned ones = __ballot_sync(0xffffffffu, (digit >> bit) & 1);
      peers &= (digit >> bit) & 1 ? ones : ~ones;
    }
    const int rank = __popc(peers & ((1u << lane) - 1));
    if (valid && rank == 0) start[warp][digit] = __popc(peers);
    __syncthreads();
    Index place = next[t];
    for (int w = 0; w < 8; ++w) {
      const Index some = start[w][t];
      start[w][t] = place;
      place += some;
    }
    next[t] = place;
    __syncthreads();
    if (valid) {
      const Index to = start[warp][digit] + rank;
      sorted_keys[to] = key;
      sorted_order[to] = order[i];
    }
    __syncthreads();
  }
}
"""


FIRST = """\
// first[r]: the first place in the sorted keys that holds r or more. Rows with more than kLong values are listed, in
// any order.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const Index* keys, Index* first, int* long_rows, Index* rows, Index values, Index n) {
  constexpr Index kLong = %(long)d;
  const Index step = Index(gridDim.x) * Index(blockDim.x);
  for (Index r = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x); r <= n; r += step) {
    Index low = 0, high = values;
    while (low < high) {
      const Index middle = low + (high - low) / 2;
      if (keys[middle] < r)
        low = middle + 1;
      else
        high = middle;
    }
    first[r] = low;
    if (low + kLong < values && keys[low + kLong] == r) rows[atomicAdd(long_rows, 1)] = r;
  }
}
"""


class Lists:
    """The launches that leave in the scratch, from ``offset`` bytes on, which values go to each row.

    values: how many; rows: of the result. Then order[first[r]] to order[first[r + 1]] are the values of row r, and
    the first long_rows[0] numbers at ``long`` are the rows with more than LONG values.
    """

    def __init__(self, places: Index, values: int, rows: int, offset: int):
        self.places, self.values, self.rows = places, values, rows
        self.launches: list[Launch] = []
        self.chunk = max(CHUNK, -(-values // MOST_CHUNKS))
        self.blocks = blocks_for(values, self.chunk)
        self.end = offset
        self.keys, self.order, self._keys, self._order = (self._take(values * places.size) for _ in range(4))
        self.first = self._take((rows + 1) * places.size)
        self.long = self._take((values // LONG + 1) * places.size)
        self.long_rows, self._counts = self._take(4), self._take(self.blocks * DIGITS * 4)

    def _take(self, size: int) -> Scratch:
        taken = Scratch(self.end)
        self.end += -(-size // 256) * 256
        return taken

    def sort(self, index: Argument, mode: int, slab: int, n: int, inner: int) -> None:
        """Adds the launches. index: an int64 array (..., slab / inner, inner) of places along an axis of n."""
        text = self.places.text + RESOLVE % mode + KEYS % index_parameter(False)
        args = (index, self.keys, self.order, self.long_rows, *self.places.values(self.values, slab, n, inner))
        self._add("list_keys", text, blocks_for(self.values, THREADS), args)
        counts = self.places.values(self.values, self.chunk)
        for shift in range(0, (self.rows - 1).bit_length(), 8):
            last = (*counts, Value(shift, "int32"))
            if self.blocks > 1:
                text = self.places.text + COUNT + COUNTS
                self._add("list_counts", text, self.blocks, (self.keys, self._counts, *last))
            args = (self.keys, self.order, self._keys, self._order, self._counts, *last)
            self._add("list_place", self.places.text + COUNT + PLACE, self.blocks, args)
            self.keys, self.order, self._keys, self._order = self._keys, self._order, self.keys, self.order
        args = (self.keys, self.first, self.long_rows, self.long, *self.places.values(self.values, self.rows))
        self._add("list_first", self.places.text + FIRST % {"long": LONG}, blocks_for(self.rows + 1, THREADS), args)

    def _add(self, name: str, text: str, blocks: int, args: tuple) -> None:
        self.launches.append(Launch(code(name, text), (blocks, 1, 1), (THREADS, 1, 1), args))
