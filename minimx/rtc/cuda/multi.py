"""Many arrays looked at in few launches, as csrc/cpu/multi.cc: the sum of squares of each, or whether all are finite.

First every block takes one tile of one array, found in a table as in many.py, and leaves a number in the workspace;
then a block for each result adds up those that belong to it. The order is fixed, so results are the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import COLLECTIVE, ceil, pack_of
from .many import LOOKUP
from .pointwise import PARAMETER_BYTES, THREADS
from .recipe import Factory, Launch, Operand, Recipe, Scratch, Table, Value, code

PACKS = 16  # that a thread takes of its block's tile
RESERVED = 64  # bytes of arguments beside the table

SUM_SQUARES, NOT_FINITE = "x * x", "A(!(x - x == 0))"

TAKE = """\
using T = {t};  // of elements
using A = {a};  // of sums
struct Member {{
  const T* x;
  int64_t n, first;  // elements, and the first block
}};
struct Table {{
  Member at[{count}];
}};
{lookup}
extern "C" __global__ void __launch_bounds__({threads}) KERNEL(const __grid_constant__ Table table, A* found) {{
  const Member& m = member_of(blockIdx.x, table);
  const int64_t from = (int64_t(blockIdx.x) - m.first) * {tile};
  const int64_t end = m.n < from + {tile} ? m.n : from + {tile};
  A sum = 0;
  const auto add = [&](A x) {{ sum += {term}; }};
  const bool aligned = is_aligned<{pack}>(m.x);
  int64_t at = from + int64_t(threadIdx.x) * {pack};
  for (; at + {pack} <= end; at += {threads} * {pack}) {{
    const Pack<T, {pack}> xs = load<{pack}>(m.x + at, aligned);
#pragma unroll
    for (int j = 0; j < {pack}; ++j) add(to<A>(xs.at[j]));
  }}
  for (; at < end; ++at) add(to<A>(m.x[at]));
  sum = over_row<{threads}>(sum, Add());
  if (threadIdx.x == 0) found[blockIdx.x] = sum;
}}
"""

JOIN = """\
using A = {a};
struct Member {{
  int64_t first, blocks;  // whose numbers are added up
}};
struct Table {{
  Member at[{count}];
}};
extern "C" __global__ void __launch_bounds__({threads})
    KERNEL(const __grid_constant__ Table table, const A* found, {result}* result) {{
  const Member& m = table.at[blockIdx.x];
  A sum = 0;
  for (int64_t i = threadIdx.x; i < m.blocks; i += {threads}) sum += found[m.first + i];
  sum = over_row<{threads}>(sum, Add());
  if (threadIdx.x == 0) result[blockIdx.x] = {finish};
}}
"""


def multi(name: str, ins: Sequence[Spec], term: str, result: str, finish: str, each: bool) -> Recipe:
    """A sum of ``term`` over the elements of each operand (or of all), stored as ``finish`` of type ``result``."""
    wide = any(s.dtype == "float64" for s in ins)
    a, size = ("double", 8) if wide else ("float", 4)
    launches, spans, blocks = [], [(0, 0)] * len(ins), 0  # spans: (first, count) of each operand's numbers
    most = (PARAMETER_BYTES - RESERVED) // 24
    for dtype in sorted({s.dtype for s in ins}):
        mine = [i for i, s in enumerate(ins) if s.dtype == dtype and _elements(s)]
        pack = pack_of(BY_NAME[dtype].size, 0)
        tile = THREADS * pack * PACKS
        for at in range(0, len(mine), most):
            members: list[Operand | Scratch | Value] = []
            here = 0
            for i in mine[at : at + most]:
                count = ceil(_elements(ins[i]), tile)
                spans[i] = (blocks + here, count)
                members += [Operand(i), Value(_elements(ins[i])), Value(here)]
                here += count
            count = len(members) // 3
            text = COLLECTIVE + TAKE.format(t=BY_NAME[dtype].ctype, a=a, count=count, tile=tile, pack=pack, term=term,
                                            threads=THREADS, lookup=LOOKUP % count)  # fmt: skip
            args = (Table(tuple(members)), Scratch(blocks * size))
            launches.append(Launch(code(name, text), (here, 1, 1), (THREADS, 1, 1), args))
            blocks += here
    if not each:
        spans = [(0, blocks)]
    most = (PARAMETER_BYTES - RESERVED) // 16
    for at in range(0, len(spans), most):
        members = [Value(v) for span in spans[at : at + most] for v in span]
        count = len(members) // 2
        text = COLLECTIVE + JOIN.format(a=a, count=count, result=result, finish=finish, threads=THREADS)
        into = Operand(len(ins), at * size)
        joined = (Table(tuple(members)), Scratch(0), into)
        launches.append(Launch(code(f"{name}_join", text), (count, 1, 1), (THREADS, 1, 1), joined))
    return Recipe(tuple(launches), max(blocks, 1) * size)


def _elements(s: Spec) -> int:
    n = 1
    for d in s.shape:
        n *= d
    return n


def multi_sum_squares(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    return multi("multi_sum_squares", ins, SUM_SQUARES, BY_NAME[outs[0].dtype].ctype, "sum", True)


def multi_all_finite(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    return multi("multi_all_finite", ins, NOT_FINITE, "bool", "sum == 0", False)


FACTORIES: dict[str, Factory] = {"multi_sum_squares": multi_sum_squares, "multi_all_finite": multi_all_finite}
