"""Writing by index, as csrc/cpu/put.cc: what goes to an element is added in the order of the indices. No float atomics.

A few indices are looked through by every row of the result. More of them are sorted (stably, so that equal ones keep
their order) and each row finds what goes to it in the sorted list. A row to which much goes, such as a padding token's,
is left to blocks that share the work out in a fixed way. Results are the same from run to run; up to ``LONG`` additions
they are the CPU's to the bit. Indices out of range in mode "raise": as in gather.py. The lists: lists.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .gather import expand, index_parameter
from .join import ZERO, paste_launch, seen
from .lists import LONG, Lists
from .moving import MOST_ROWS, RESOLVE, ROWS, THREADS, WIDEST, Index, grid_for, index_for
from .recipe import Argument, Launch, Operand, Recipe, Scratch, blocks_for, code

FEW = 32  # indices that every row looks through; additions that a thread does one after the other
LONG_WIDTH, LONG_THREADS, LONG_BLOCKS = 8, 512, 32  # of long rows: threads along one and of a block, blocks along y
MANY_LANES = 1 << 14  # lanes of put_elements: from so many on, a thread for each keeps the device busy


# ---- the sums -------------------------------------------------------------------------------------------------------

SUM = """\
using T = %(ctype)s;
using Acc = %(compute)s;
constexpr bool kSet = %(set)s;
constexpr int kWide = %(wide)d;  // elements of 16 bytes
constexpr Index kLong = %(long)d;

template <int kCount>
void load(Acc* sum, const T* p) {
  const Pack<T, kCount> x = *reinterpret_cast<const Pack<T, kCount>*>(p);
#pragma unroll
  for (int j = 0; j < kCount; ++j) sum[j] = wide(x.at[j]);
}

// Takes the elements from p on in: they are added, or with kSet take the place of what was there.
template <int kCount>
void take(Acc* sum, const T* p) {
  Acc x[kCount];
  load<kCount>(x, p);
#pragma unroll
  for (int j = 0; j < kCount; ++j) sum[j] = kSet ? x[j] : static_cast<Acc>(sum[j] + x[j]);
}

// What y is at a place before anything is taken in.
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

# Rows (o, r) of y: base or 0, and the values that go to r. With kSet only the last of them.
LISTED = """\
template <int kCount>
void sum_rows(const T* v, const Index* first, const Index* order, const T* base, T* y, Index rows, Index n,
              Index values, Index inner) {
  const Walk walk;
  for (Index row = walk.row; row < rows; row += walk.rows) {
    const Index outer = row / n, r = row - outer * n, end = first[r + 1], begin = first[r];
    if (!kSet && end - begin > kLong) continue;
    for (Index c = walk.column * kCount; c < inner; c += walk.columns * kCount) {
      Acc sum[kCount];
      begin_with<kCount>(sum, base, row * inner + c);
      for (Index p = kSet && begin < end ? end - 1 : begin; p < end; ++p)
        take<kCount>(sum, v + (outer * values + order[p]) * inner + c);
      store<kCount>(y + row * inner + c, sum);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const T* v, const Index* first, const Index* order, %(base)s T* y, Index rows, Index n, Index values,
           Index inner) {
%(no_base)s\
  if (kWide > 1 && inner %% kWide == 0 && aligned<Pack<T, kWide>>(v, base, y))
    sum_rows<kWide>(v, first, order, base, y, rows, n, values, inner);
  else
    sum_rows<1>(v, first, order, base, y, rows, n, values, inner);
}
"""

# The same for few values: the lists are looked through, not sorted.
LOOKED_UP = """\
template <int kCount>
void sum_rows(const T* v, const int64_t* index, const T* base, T* y, Index rows, Index n, Index values, Index inner) {
  const Walk walk;
  for (Index row = walk.row; row < rows; row += walk.rows) {
    const Index outer = row / n, r = row - outer * n;
    for (Index c = walk.column * kCount; c < inner; c += walk.columns * kCount) {
      Acc sum[kCount];
      begin_with<kCount>(sum, base, row * inner + c);
      for (Index k = 0; k < values; ++k)
        if (resolve(index[k], n) == r) take<kCount>(sum, v + (outer * values + k) * inner + c);
      store<kCount>(y + row * inner + c, sum);
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const T* v, %(index)s, %(base)s T* y, Index rows, Index n, Index values, Index inner) {
%(point)s%(no_base)s\
  if (kWide > 1 && inner %% kWide == 0 && aligned<Pack<T, kWide>>(v, base, y))
    sum_rows<kWide>(v, index, base, y, rows, n, values, inner);
  else
    sum_rows<1>(v, index, base, y, rows, n, values, inner);
}
"""

# Rows of threads add up every blockDim.y-th value of a long list, then each other's sums as a tree.
LONG_ROWS = """\
template <int kCount>
void sum_long(Acc* parts, const T* v, const Index* first, const Index* order, const Index* long_rows, int lists,
              const T* base, T* y, Index outer, Index n, Index values, Index inner) {
  const int height = blockDim.y;
  Acc* mine = parts + (threadIdx.y * blockDim.x + threadIdx.x) * kCount;
  for (int list = blockIdx.y; list < lists; list += int(gridDim.y)) {
    const Index r = long_rows[list], begin = first[r], end = first[r + 1];
    for (Index o = blockIdx.z; o < outer; o += Index(gridDim.z)) {
      const Index across = Index(gridDim.x) * Index(blockDim.x) * kCount;
      for (Index left = Index(blockIdx.x) * Index(blockDim.x) * kCount; left < inner; left += across) {
        const Index c = left + Index(threadIdx.x) * kCount;
        Acc sum[kCount] = {};
        if (c < inner)
#pragma unroll 4
          for (Index p = begin + Index(threadIdx.y); p < end; p += height)
            take<kCount>(sum, v + (o * values + order[p]) * inner + c);
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

extern "C" __global__ void __launch_bounds__(%(threads)d)
    KERNEL(const T* v, const Index* first, const Index* order, const Index* long_rows, const int* lists, %(base)s T* y,
           Index outer, Index n, Index values, Index inner) {
%(no_base)s\
  __shared__ Acc parts[%(threads)d * kWide];
  if (kWide > 1 && inner %% kWide == 0 && aligned<Pack<T, kWide>>(v, base, y))
    sum_long<kWide>(parts, v, first, order, long_rows, *lists, base, y, outer, n, values, inner);
  else
    sum_long<1>(parts, v, first, order, long_rows, *lists, base, y, outer, n, values, inner);
}
"""


class Sums:
    """The launches that write y (outer, n, inner) from v (outer, values, inner). base: its operand, or None: zeros."""

    def __init__(self, places: Index, dtype: str, shape: tuple[int, int, int], base: Operand | None, y: Operand,
                 is_set: bool = False):  # fmt: skip
        self.places, self.base, self.y, self.is_set = places, base, y, is_set
        self.outer, self.n, self.inner = shape
        t = BY_NAME[dtype]
        wide = WIDEST // t.size
        self.columns = self.inner // wide if self.inner % wide == 0 else self.inner
        self.parts = {
            "ctype": t.ctype,
            "compute": t.compute,
            "wide": wide,
            "long": LONG,
            "set": str(is_set).lower(),
            "base": "const T* base," if base else "",
            "no_base": "" if base else "  const T* base = nullptr;\n",
            "threads": LONG_THREADS,
        }

    def looked_up(self, index: Argument, weak: bool, mode: int, values: int) -> Launch:
        """The launch for few values. index: an array, or (weak) a host scalar."""
        text = RESOLVE % mode + LOOKED_UP % (self.parts | index_parameter(weak))
        return self._rows("put_few", text, (index,), values)

    def listed(self, lists: Lists) -> list[Launch]:
        """The launches for values in lists."""
        made = [self._rows("put_rows", LISTED % self.parts, (lists.first, lists.order), lists.values)]
        if lists.values > LONG and not self.is_set:
            (across, _, _), (x, _, _) = grid_for(1, self.columns, threads=LONG_WIDTH)
            grid = (across, min(-(-lists.values // LONG), LONG_BLOCKS), min(self.outer, MOST_ROWS))
            counts = self.places.values(self.outer, self.n, lists.values, self.inner)
            found = (lists.first, lists.order, lists.long, lists.long_rows)
            text = self._text(LONG_ROWS % self.parts)
            block = (x, LONG_THREADS // x, 1)
            made.append(Launch(code("put_long", text), grid, block, (*self._operands(found), *counts)))
        return made

    def _operands(self, found: tuple[Argument, ...]) -> tuple[Argument, ...]:
        return (Operand(0), *found, *((self.base,) if self.base else ()), self.y)

    def _text(self, kernel: str) -> str:
        return self.places.text + ROWS + SUM % self.parts + kernel

    def _rows(self, name: str, text: str, found: tuple[Argument, ...], values: int) -> Launch:
        grid, block = grid_for(self.outer * self.n, self.columns)
        counts = self.places.values(self.outer * self.n, self.n, values, self.inner)
        return Launch(code(name, self._text(text)), grid, block, (*self._operands(found), *counts))


# ---- factories ------------------------------------------------------------------------------------------------------


def put(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """put(v, i[, base]) -> y: y = base or zeros; y[:, i, :] += v, or with "set" = 1: = v, the last one wins."""
    base = Operand(2) if attrs.get("base") else None
    return _put(outs[0].dtype, attrs, Operand(1), ins[1].weak, base, Operand(3 if base else 2))


def put_static(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """put_static(v) -> y: put to zeros with the indices of the attribute, which a small kernel writes out first."""
    indices = attrs["indices"]
    made = _put(outs[0].dtype, attrs, Scratch(0), False, None, Operand(1), -(-8 * len(indices) // 256) * 256)
    return Recipe((expand(indices), *made.launches), made.workspace) if indices and made.launches else made


def _put(dtype: str, attrs: dict[str, Any], index: Argument, weak: bool, base: Operand | None, y: Operand,
         offset: int = 0) -> Recipe:  # fmt: skip
    """put with the indices anywhere; the scratch is free from ``offset`` bytes on."""
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    if outer * n * inner == 0:
        return Recipe(())
    places = index_for([outer * n * inner, outer * count * inner, n + 1])
    sums = Sums(places, dtype, (outer, n, inner), base, y, bool(attrs.get("set")))
    if count <= FEW:
        return Recipe((sums.looked_up(index, weak, attrs.get("mode", 0), count),), offset)
    lists = Lists(places, count, n, offset)
    lists.sort(index, attrs.get("mode", 0), count, n, 1)
    return Recipe((*lists.launches, *sums.listed(lists)), lists.end)


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
    """put_elements(v, i[, base]) -> y: y = base or zeros; y[o, i[o, k, j], j] += v[o, k, j].

    Lane by lane where they are many or short; else all elements are sorted by their places, as the rows of put are.
    """
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    dtype, mode, lanes = outs[0].dtype, attrs.get("mode", 0), outer * inner
    if lanes * n == 0:
        return Recipe(())
    base = Operand(2) if attrs.get("base") else None
    y = Operand(3 if base else 2)
    places = index_for([lanes * n + 1, lanes * count])
    if count <= FEW or lanes >= MANY_LANES:
        launches = [paste_launch(outs[0], y, seen(ins[2], base, outs[0].shape) if base else ZERO)]
        if count:
            t = BY_NAME[dtype]
            text = places.text + RESOLVE % mode + LANES % {"ctype": t.ctype, "compute": t.compute}
            operands: tuple[Argument, ...] = (Operand(0), Operand(1), y)
            grid, args = (blocks_for(lanes, THREADS), 1, 1), (*operands, *places.values(lanes, count, n, inner))
            launches.append(Launch(code("put_lanes", text), grid, (THREADS, 1, 1), args))
        return Recipe(tuple(launches))
    lists = Lists(places, lanes * count, lanes * n, 0)
    lists.sort(Operand(1), mode, count * inner, n, inner)
    sums = Sums(places, dtype, (1, lanes * n, 1), base, y)
    return Recipe((*lists.launches, *sums.listed(lists)), lists.end)


FACTORIES = {"put": put, "put_static": put_static, "put_elements": put_elements}
