"""Copies and casts: pointwise where both sides run along the same axis, else tile by tile through shared memory.

The twin of csrc/cpu/cast.cc: conversions between layouts (NCHW and NHWC), ``x.T`` made contiguous, writes to views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .. import text
from ..group import Operand
from . import pointwise, recipe
from .pointwise import index_type, magic, space
from .recipe import Factory, Launch, Recipe, Value, blocks_for

THREADS = 256  # of a block
SHORTEST = 8  # extent below which an axis makes no tiles
BLOCKS = 1 << 16
BITS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}  # a copy that converts nothing moves bits of a size


def cast(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """out = x, converted to out's type and broadcast to its shape; any strides on both sides."""
    x, out = ins[0], outs[0]
    if x.dtype == out.dtype:
        bits = BITS[BY_NAME[x.dtype].size]
        x, out = x._replace(dtype=bits), out._replace(dtype=bits)
    if math.prod(out.shape) == 0:
        return Recipe(())
    shape, (source,), (target,) = space([x], out)
    row = tiled_axis(shape, source, target)
    return pointwise.copy([x], [out]) if row is None else transpose(shape, source, target, row)


def tiled_axis(shape: tuple[int, ...], source: Operand, target: Operand) -> int | None:
    """The axis along which the source runs, where that is another than the target's and both are long enough."""
    last = len(shape) - 1
    if abs(source.strides[last]) <= 4 or shape[last] < SHORTEST:
        return None
    rows = [d for d in range(last) if abs(source.strides[d]) == 1 and shape[d] >= SHORTEST]
    return rows[-1] if rows else None


def transpose(shape: tuple[int, ...], source: Operand, target: Operand, row: int) -> Recipe:
    """The copy in tiles of the axis ``row``, along which the source runs, and the last, along which the target does."""
    last = len(shape) - 1
    outer = [d for d in range(last) if d != row]  # batches of matrices
    a, b = BY_NAME[source.dtype].size, BY_NAME[target.dtype].size
    side = 64 if max(a, b) <= 2 else 32
    index = index_type(shape, [source.strides, target.strides])
    kind = "int32" if index == "int" else "int64"
    row_tiles, column_tiles = -(-shape[row] // side), -(-shape[last] // side)
    tiles = row_tiles * column_tiles * math.prod(shape[d] for d in outer)
    numbers = [("tiles", tiles), ("rows", shape[row]), ("columns", shape[last]), ("row_tiles", row_tiles),
               ("column_tiles", column_tiles), ("p_row", source.strides[row]), ("p_column", source.strides[last]),
               ("q_row", target.strides[row]), ("q_column", target.strides[last])]  # fmt: skip
    for k, d in enumerate(outer):
        numbers += [(f"n{k}", shape[d]), (f"p{k}", source.strides[d]), (f"q{k}", target.strides[d])]
    magics = [("row_magic", row_tiles), ("column_magic", column_tiles)]
    magics += [(f"m{k}", shape[d]) for k, d in enumerate(outer)]
    arguments: list[recipe.Argument] = [recipe.Operand(source.slot), recipe.Operand(target.slot)]
    arguments += [Value(v, kind) for _, v in numbers]
    parameters = [f"const {text.ctype(source.dtype)}* p", f"{text.ctype(target.dtype)}* q"]
    parameters += [f"{index} {name}" for name, _ in numbers]
    if index == "int":
        arguments += [Value(magic(n)) for _, n in magics]
        parameters += [f"int64_t {name}" for name, _ in magics]
    code = recipe.code("transpose", _text(source.dtype, target.dtype, side, index, ", ".join(parameters), len(outer)))
    return Recipe((Launch(code, (blocks_for(tiles, 1, BLOCKS), 1, 1), (THREADS, 1, 1), tuple(arguments)),))


def _text(source: str, target: str, side: int, index: str, parameters: str, outer: int) -> str:
    """The kernel. A pad of 4 bytes a line of the tile keeps the lanes that read down a column in different banks."""
    a, b = text.ctype(source), text.ctype(target)

    def split(name: str, whole: str, count: str, magic: str) -> str:
        """``whole`` divided by ``count``: ``name`` is the quotient."""
        return f"{name} = divide({whole}, {magic});" if index == "int" else f"{name} = {whole} / {count};"

    at = "\n".join(
        f"    const {index} {split(f'r{k}', 'rest', f'n{k}', f'm{k}')}\n"
        f"    at_p += (rest - r{k} * n{k}) * p{k};\n    at_q += (rest - r{k} * n{k}) * q{k};\n    rest = r{k};"
        for k in reversed(range(outer))
    )
    return f"""\
// A transposed copy, {source} -> {target}: the source runs along rows, the target along columns; by tiles, so that
// both are read and written in whole lines.
extern "C" __global__ void __launch_bounds__({THREADS}) KERNEL({parameters}) {{
  constexpr int kSide = {side}, kThreads = {THREADS};
  const int thread = threadIdx.x;
  __shared__ {a} tile[kSide][kSide + {max(1, 4 // BY_NAME[source].size)}];  // [column][row]
  for ({index} t = blockIdx.x; t < tiles; t += gridDim.x) {{
    {index} {split("rest", "t", "row_tiles", "row_magic")}
    const {index} row = (t - rest * row_tiles) * kSide;
    const {index} {split("batch", "rest", "column_tiles", "column_magic")}
    const {index} column = (rest - batch * column_tiles) * kSide;
    {index} at_p = row * p_row + column * p_column, at_q = row * q_row + column * q_column;
    rest = batch;
{at}
    const {index} high = rows - row, wide = columns - column;  // what is left of the matrix
#pragma unroll
    for (int k = 0; k < kSide * kSide; k += kThreads) {{
      const int c = (k + thread) / kSide, r = (k + thread) % kSide;
      if (c < wide && r < high) tile[c][r] = p[at_p + r * p_row + c * p_column];
    }}
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSide * kSide; k += kThreads) {{
      const int r = (k + thread) / kSide, c = (k + thread) % kSide;
      if (c < wide && r < high) q[at_q + r * q_row + c * q_column] = to<{b}>(tile[c][r]);
    }}
    __syncthreads();
  }}
}}
"""


FACTORIES: dict[str, Factory] = {"cast": cast}
