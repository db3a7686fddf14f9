"""Writing by index, as csrc/cpu/put.cc: what goes to an element is added in the order of the indices. No float atomics.

The indices are sorted (stably, so that equal ones keep their order), and each row of the result then finds what goes to
it by bisection. A row to which much goes, such as a padding token's, is left to a block that shares the work out in a
fixed way. Results are the same from run to run; up to ``LONG`` additions they are the CPU's to the bit.

The sort is a radix sort by 8 bits a pass (Satish, Harris and Garland 2009, "Designing efficient sorting algorithms for
manycore GPUs", section 4, with ranks by warp ballots). Indices out of range in mode "raise": as in gather.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .gather import expand, index_parameter
from .join import ZERO, paste_launch, seen
from .moving import ALIGNED, MOST_ROWS, RESOLVE, ROWS, THREADS, WIDEST, Index, grid_for, index_for
from .recipe import Argument, Launch, Operand, Recipe, Scratch, Value, blocks_for, code

LONG = 64  # from more additions to one row than this on, a block takes the row
DIGITS = 256  # of a pass of the sort, one for each thread
CHUNK = 1024  # keys of a block of the sort, at least
MOST_CHUNKS = 512  # blocks of the sort: each adds up the counts of all others
MANY_LANES = 1 << 14  # from so many on, a thread for each lane of put_elements keeps the device busy
FEW = 64  # additions that a thread can do one after the other


# ---- the lists: which values go to a row, in order ------------------------------------------------------------------

KEYS = """\
// The row that value number e goes to; later sorted along with e.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(index)s, Index* keys, Index* order, Index values, Index slab, Index n, Index inner) {
%(point)s\
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


class Lists:
    """The launches that leave sorted ``keys`` and their ``order`` in the scratch, from ``offset`` bytes on.

    values: how many keys; rows: how many values a key can have.
    """

    def __init__(self, places: Index, values: int, rows: int, offset: int):
        self.places, self.values = places, values
        self.launches: list[Launch] = []
        each = -(-values * places.size // 256) * 256 or 256
        self.keys, self.order, self._keys, self._order = (Scratch(offset + i * each) for i in range(4))
        self._counts = Scratch(offset + 4 * each)
        self.chunk = max(CHUNK, -(-values // MOST_CHUNKS))
        self.blocks = blocks_for(values, self.chunk)
        self.end = offset + 4 * each + self.blocks * DIGITS * 4
        self.bits = (rows - 1).bit_length()

    def sort(self, index: Argument, weak: bool, mode: int, slab: int, n: int, inner: int) -> None:
        """Adds the launches. index: int64 (..., slab / inner, inner), places along an axis of n."""
        if self.values == 0:
            return
        text = self.places.text + RESOLVE % mode + KEYS % index_parameter(weak)
        args = (index, self.keys, self.order, *self.places.values(self.values, slab, n, inner))
        self._add("put_keys", text, blocks_for(self.values, THREADS), args)
        counts = self.places.values(self.values, self.chunk)
        for shift in range(0, self.bits, 8):
            last = (*counts, Value(shift, "int32"))
            if self.blocks > 1:
                self._add(
                    "put_counts", self.places.text + COUNT + COUNTS, self.blocks, (self.keys, self._counts, *last)
                )
            args = (self.keys, self.order, self._keys, self._order, self._counts, *last)
            self._add("put_place", self.places.text + COUNT + PLACE, self.blocks, args)
            self.keys, self.order, self._keys, self._order = self._keys, self._order, self.keys, self.order

    def _add(self, name: str, text: str, blocks: int, args: tuple) -> None:
        self.launches.append(Launch(code(name, text), (blocks, 1, 1), (THREADS, 1, 1), args))


# ---- the sums -------------------------------------------------------------------------------------------------------

SUM = """\
using T = %(ctype)s;
using Acc = %(compute)s;
constexpr int kWide = %(wide)d;  // elements of 16 bytes
constexpr int kLong = %(long)d;

// The first place in the sorted keys that holds `key` or more.
Index first_of(const Index* keys, Index values, Index key) {
  Index low = 0, high = values;
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    if (keys[middle] < key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

template <int kCount>
void load(Acc* sum, const T* p) {
  const Pack<T, kCount> x = *reinterpret_cast<const Pack<T, kCount>*>(p);
#pragma unroll
  for (int j = 0; j < kCount; ++j) sum[j] = wide(x.at[j]);
}

template <int kCount>
void add(Acc* sum, const T* p) {
  Acc x[kCount];
  load<kCount>(x, p);
#pragma unroll
  for (int j = 0; j < kCount; ++j) sum[j] = static_cast<Acc>(sum[j] + x[j]);
}

// What row r of y is before anything is added.
template <int kCount>
void begin_with(Acc* sum, const T* base, Index at) {
  if (base) return load<kCount>(sum, base + at);
#pragma unroll
  for (int j = 0; j < kCount; ++j) sum[j] = Acc(0);
}

template <int kCount>
void store(T* p, const Acc* sum) {
  Pack<T, kCount> y;
#pragma unroll
  for (int j = 0; j < kCount; ++j) y.at[j] = to<T>(sum[j]);
  *reinterpret_cast<Pack<T, kCount>*>(p) = y;
}
"""

# Rows (o, r) of y: base or 0, and the values that are listed for r. With kSet only the last of them.
ROWS_OF = """\
constexpr bool kSet = %(set)s;

template <int kCount>
void sum_rows(const T* v, const Index* keys, const Index* order, const T* base, T* y, Index rows, Index n, Index values,
              Index inner) {
  const Walk walk;
  for (Index row = walk.row; row < rows; row += walk.rows) {
    const Index outer = row / n, r = row - outer * n;
    Index begin = first_of(keys, values, r), end = begin;
    if (begin < values && keys[begin] == r) end = first_of(keys, values, r + 1);
    if (kSet && begin < end) begin = end - 1;
    if (end - begin > kLong) continue;
    for (Index c = walk.column * kCount; c < inner; c += walk.columns * kCount) {
      Acc sum[kCount];
      if (kSet && begin < end) {
        load<kCount>(sum, v + (outer * values + order[begin]) * inner + c);
      } else {
        begin_with<kCount>(sum, base, row * inner + c);
        for (Index p = begin; p < end; ++p) add<kCount>(sum, v + (outer * values + order[p]) * inner + c);
      }
      store<kCount>(y + row * inner + c, sum);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const T* v, const Index* keys, const Index* order, %(base)s T* y, Index rows, Index n, Index values,
           Index inner) {
%(no_base)s\
  if (kWide > 1 && inner %% kWide == 0 && aligned<Pack<T, kWide>>(v, base, y))
    sum_rows<kWide>(v, keys, order, base, y, rows, n, values, inner);
  else
    sum_rows<1>(v, keys, order, base, y, rows, n, values, inner);
}
"""

# A list of more than kLong values holds at least one place that is a multiple of kLong; the first of those finds the
# list. A block takes it: rows of threads add up every blockDim.y-th value, then each other's sums as a tree.
LONG_ROWS = """\
template <int kCount>
void sum_long(Acc* parts, const T* v, const Index* keys, const Index* order, const T* base, T* y, Index outer, Index n,
              Index values, Index inner) {
  const int height = blockDim.y;
  Acc* mine = parts + (threadIdx.y * blockDim.x + threadIdx.x) * kCount;
  for (Index m = blockIdx.y; m * kLong < values; m += Index(gridDim.y)) {
    const Index r = keys[m * kLong];
    if (m > 0 && keys[(m - 1) * kLong] == r) continue;
    const Index begin = first_of(keys, values, r), end = first_of(keys, values, r + 1);
    if (end - begin <= kLong) continue;
    for (Index o = blockIdx.z; o < outer; o += Index(gridDim.z)) {
      const Index across = Index(gridDim.x) * Index(blockDim.x) * kCount;
      for (Index first = Index(blockIdx.x) * Index(blockDim.x) * kCount; first < inner; first += across) {
        const Index c = first + Index(threadIdx.x) * kCount;
        Acc sum[kCount] = {};
        if (c < inner)
#pragma unroll 4
          for (Index p = begin + Index(threadIdx.y); p < end; p += height)
            add<kCount>(sum, v + (o * values + order[p]) * inner + c);
        for (int j = 0; j < kCount; ++j) mine[j] = sum[j];
        __syncthreads();
        for (int half = height / 2; half > 0; half /= 2) {
          if (int(threadIdx.y) < half)
            for (int j = 0; j < kCount; ++j) mine[j] = static_cast<Acc>(mine[j] + mine[half * blockDim.x * kCount + j]);
          __syncthreads();
        }
        if (threadIdx.y == 0 && c < inner) {
          begin_with<kCount>(sum, base, (o * n + r) * inner + c);
          for (int j = 0; j < kCount; ++j) sum[j] = static_cast<Acc>(sum[j] + mine[j]);
          store<kCount>(y + (o * n + r) * inner + c, sum);
        }
        __syncthreads();
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const T* v, const Index* keys, const Index* order, %(base)s T* y, Index outer, Index n, Index values,
           Index inner) {
%(no_base)s\
  __shared__ Acc parts[256 * kWide];
  if (kWide > 1 && inner %% kWide == 0 && aligned<Pack<T, kWide>>(v, base, y))
    sum_long<kWide>(parts, v, keys, order, base, y, outer, n, values, inner);
  else
    sum_long<1>(parts, v, keys, order, base, y, outer, n, values, inner);
}
"""


def sums(lists: Lists, dtype: str, outer: int, n: int, inner: int, base: int, y: int, is_set: bool) -> list[Launch]:
    """The launches that write y (outer, n, inner) from sorted lists. base: its operand's number, or 0 for zeros."""
    t = BY_NAME[dtype]
    wide = max(1, WIDEST // t.size)
    parts = {
        "ctype": t.ctype,
        "compute": t.compute,
        "wide": wide,
        "long": LONG,
        "set": str(is_set).lower(),
        "base": "const T* base," if base else "",
        "no_base": "" if base else "  const T* base = nullptr;\n",
    }
    operands = (Operand(0), lists.keys, lists.order, *((Operand(base),) if base else ()), Operand(y))
    columns = inner // wide if inner % wide == 0 else inner
    values = lists.places.values
    text = lists.places.text + ALIGNED + ROWS + SUM % parts + ROWS_OF % parts
    grid, block = grid_for(outer * n, columns)
    made = [Launch(code("put_rows", text), grid, block, (*operands, *values(outer * n, n, lists.values, inner)))]
    if lists.values > LONG and not is_set:
        text = lists.places.text + ALIGNED + SUM % parts + LONG_ROWS % parts
        (across, _, _), (x, _, _) = grid_for(1, columns, threads=32)
        grid = (across, min(-(-lists.values // LONG), MOST_ROWS), min(outer, MOST_ROWS))
        args = (*operands, *values(outer, n, lists.values, inner))
        made.append(Launch(code("put_long", text), grid, (x, THREADS // x, 1), args))
    return made


# ---- factories ------------------------------------------------------------------------------------------------------


def put(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """put(v, i[, base]) -> y: y = base or zeros; y[:, i, :] += v, or with "set" = 1: = v, the last one wins."""
    return _put(outs[0].dtype, attrs, Operand(1), ins[1].weak, 2 if attrs.get("base") else 0, 2 + attrs.get("base", 0))


def put_static(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """put_static(v) -> y: put to zeros with the indices of the attribute, which a small kernel writes out first."""
    indices = attrs["indices"]
    made = _put(outs[0].dtype, attrs, Scratch(0), False, 0, 1, -(-8 * len(indices) // 256) * 256)
    return Recipe((expand(indices), *made.launches), made.workspace) if indices and made.launches else made


def _put(dtype: str, attrs: dict[str, Any], index: Argument, weak: bool, base: int, y: int, offset: int = 0) -> Recipe:
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    if outer * n * inner == 0:
        return Recipe(())
    lists = Lists(index_for([outer * n * inner, outer * count * inner, n + 1]), count, n, offset)
    lists.sort(index, weak, attrs.get("mode", 0), count or 1, n, 1)
    written = sums(lists, dtype, outer, n, inner, base, y, bool(attrs.get("set")))
    return Recipe((*lists.launches, *written), lists.end)


LANES = """\
using T = %(ctype)s;
using Acc = %(compute)s;

// A thread has lane (o, j) for itself and adds one value after the other.
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const T* v, const int64_t* index, T* y, Index lanes, Index count, Index n, Index inner) {
  const Index step = Index(gridDim.x) * Index(blockDim.x);
  for (Index lane = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x); lane < lanes; lane += step) {
    const Index o = lane / inner, j = lane - o * inner;
    for (Index k = 0; k < count; ++k) {
      const Index e = (o * count + k) * inner + j, to_row = static_cast<Index>(resolve(index[e], n));
      T& place = y[(o * n + to_row) * inner + j];
      place = to<T>(static_cast<Acc>(static_cast<Acc>(wide(place)) + static_cast<Acc>(wide(v[e]))));
    }
  }
}
"""


def put_elements(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """put_elements(v, i[, base]) -> y: y = base or zeros; y[o, i[o, k, j], j] += v[o, k, j]."""
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    base, mode, dtype = attrs.get("base", 0), attrs.get("mode", 0), outs[0].dtype
    if outer * n * inner == 0:
        return Recipe(())
    lanes = outer * inner
    places = index_for([lanes * n + 1, lanes * count])
    if count <= FEW or lanes >= MANY_LANES:
        before = seen(ins[2], Operand(2), outs[0].shape) if base else ZERO
        launches = [paste_launch(outs[0], Operand(2 + base), before)]
        if count:
            t = BY_NAME[dtype]
            text = places.text + RESOLVE % mode + LANES % {"ctype": t.ctype, "compute": t.compute}
            operands: tuple[Argument, ...] = (Operand(0), Operand(1), Operand(2 + base))
            args = (*operands, *places.values(lanes, count, n, inner))
            grid = (blocks_for(lanes, THREADS), 1, 1)
            launches.append(Launch(code("put_lanes", text), grid, (THREADS, 1, 1), args))
        return Recipe(tuple(launches))
    lists = Lists(places, lanes * count, lanes * n, 0)
    lists.sort(Operand(1), False, mode, count * inner, n, inner)
    written = sums(lists, dtype, 1, lanes * n, 1, 2 if base else 0, 2 + base, False)
    return Recipe((*lists.launches, *written), lists.end)


FACTORIES = {"put": put, "put_static": put_static, "put_elements": put_elements}
