"""What the kernels that move elements share: rows of columns over a grid, index types, words, indices out of range.

An array is seen as ``rows`` of ``columns``: threadIdx.x and blockIdx.x go over columns, y over rows, both by strides of
the grid. Where only bytes are moved the columns are words of up to 16 bytes, whatever the elements are. The kernels
are in gather.py, put.py, join.py and fill.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd
from typing import NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .recipe import Value

THREADS = 256  # of a block
WIDEST = 16  # bytes that a thread reads or writes at once
MOST_ROWS = 65535  # blocks along y and z
WORDS = {1: "uint8_t", 2: "int16_t", 4: "int32_t", 8: "int64_t", 16: "Pack<int64_t, 2>"}

ROWS = """\
// The rows and the columns that a thread begins with and steps by.
struct Walk {
  Index row = Index(blockIdx.y) * Index(blockDim.y) + Index(threadIdx.y), rows = Index(gridDim.y) * Index(blockDim.y);
  Index column = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x);
  Index columns = Index(gridDim.x) * Index(blockDim.x);
};
"""

# What an index means, by mode. In mode "raise" (0) the CPU raises; here nobody waits for the device, so an index out of
# range is brought to the nearest place, where it does no harm.
RESOLVE = """\
// The place in [0, n) that an index means: csrc/cpu/index_mode.h, but for out of range in mode "raise" the nearest.
int64_t resolve(int64_t i, int64_t n) {
  constexpr int kMode = %d;  // 0 raise, 1 clip, 2 wrap
  if (i >= 0 && i < n) return i;
  if (kMode == 2) {
    i %%= n;
    return i < 0 ? i + n : i;
  }
  if (kMode == 0 && i < 0) i += n;
  return i < 0 ? 0 : i < n ? i : n - 1;
}
"""


class Index(NamedTuple):
    """The type that places are counted in: ``int`` where all of them are below 2^30, so that adding two is safe."""

    dtype: str

    @property
    def text(self) -> str:
        """The typedef that a kernel's text begins with."""
        return f"using Index = {'int' if self.dtype == 'int32' else 'int64_t'};\n"

    @property
    def size(self) -> int:
        """Bytes of one."""
        return BY_NAME[self.dtype].size

    def values(self, *counts: int) -> tuple[Value, ...]:
        """Arguments of type Index."""
        return tuple(Value(n, self.dtype) for n in counts)


def index_for(counts: Iterable[int]) -> Index:
    """The Index for places below each of ``counts``."""
    return Index("int32" if max(counts, default=0) < 1 << 30 else "int64")


def reach(spec: Spec) -> int:
    """How far from its first element an operand's elements lie, in elements."""
    return sum(abs(s) * (n - 1) for n, s in zip(spec.shape, spec.strides, strict=False) if n) + 1


def dense(spec: Spec) -> bool:
    """True if the elements lie in C order without gaps."""
    expected = 1
    for n, s in zip(reversed(spec.shape), reversed(spec.strides), strict=False):
        if n != 1 and s != expected:
            return False
        expected *= n
    return not spec.weak


def word_bytes(*sizes: int) -> int:
    """Bytes of the widest word that divides all of ``sizes`` (bytes): a power of two up to 16."""
    return gcd(WIDEST, *sizes)


def grid_for(rows: int, columns: int, depth: int = 1, threads: int = THREADS) -> tuple:
    """(grid, block) for a Walk over rows and columns, ``depth`` times along z; a thread for each place while they last.

    A block is as wide as the columns, up to all of its threads; neighbouring rows fill the rest.
    """
    x = 1
    while x < min(columns, threads):
        x *= 2
    y = threads // x
    across = min(max(1, -(-columns // x)), 1 << 20)
    return (across, min(max(1, -(-rows // y)), MOST_ROWS), depth), (x, y, 1)


def collapsed(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """``shape`` and the strides of each operand with axes of extent 1 dropped and neighbours merged."""
    lengths: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if lengths and all(k[-1] == s[d] * n for k, s in zip(kept, strides, strict=True)):
            lengths[-1] *= n
            for k, s in zip(kept, strides, strict=True):
                k[-1] = s[d]
            continue
        lengths.append(n)
        for k, s in zip(kept, strides, strict=True):
            k.append(s[d])
    return lengths, kept
