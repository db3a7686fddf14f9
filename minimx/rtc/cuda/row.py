"""Recipes over the rows of contiguous arrays: those held in registers, and what is done to each element of longer
ones.

Used by softmax.py and row_norm.py, which give the bodies of the kernels. Text: row.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...ops.dtypes import BY_NAME
from .collective import COLLECTIVE, SMS, THREADS, ceil, pack_of, power_of_two
from .recipe import Argument, Launch, Value, blocks_for, code

WIDEST = 512  # threads of a row
HELD = 32  # numbers of 4 bytes of the operands that a thread holds
ROW = COLLECTIVE + Path(__file__).with_name("row.h").read_text()

Parameter = tuple[str, Argument]  # "const float* x", and what is passed

TYPES = """
using Index = {index};
using T = {t};  // of elements
using C = {c};  // of arithmetic
constexpr int {sizes};
"""

HELD_ROWS = """
extern "C" __global__ void __launch_bounds__(kThreads) KERNEL({parameters}, Index rows, int n) {{
  for (Index first = Index(blockIdx.x) * blockDim.y; first < rows; first += gridDim.x * blockDim.y) {{
    const Index row = first + threadIdx.y, start = row < rows ? row * n : 0;
    const int width = row < rows ? n : 0;
{body}
  }}
}}
"""

EACH = """
extern "C" __global__ void __launch_bounds__(kThreads) KERNEL({parameters}, Index elements, Index n, Index inner) {{
  const Index step = Index(gridDim.x) * blockDim.x * kPack;
  for (Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * kPack; at < elements; at += step) {{
{body}
  }}
}}
"""


def types(dtype: str, elements: int, **sizes: int) -> str:
    """The declarations that bodies use; ``kPack=4`` and the like are constants."""
    wide = elements >= 1 << 30
    return TYPES.format(index="int64_t" if wide else "int", t=BY_NAME[dtype].ctype, c=BY_NAME[dtype].compute,
                        sizes=", ".join(f"{name} = {value}" for name, value in sizes.items()))  # fmt: skip


def _index(elements: int) -> str:
    return "int64" if elements >= 1 << 30 else "int32"


def held_rows(name: str, dtype: str, rows: int, n: int, operands: int, parameters: Sequence[Parameter], head: str,
              body: str) -> Launch | None:  # fmt: skip
    """One launch in which every row is held; None if rows are too long for that.

    body: has ``start``, ``width`` and ``row`` of the thread's row (width 0: none). operands: those that are held.
    """
    d = BY_NAME[dtype]
    pack, most = pack_of(d.size, n), HELD // operands // (2 if dtype == "float64" else 1)
    packs = n // pack
    x = min(32, power_of_two(ceil(packs, 4)))
    while x < WIDEST and x < packs:
        enough = most // (1 + (x > 32))  # fewer where a row has several warps anyway: more blocks fit then
        if ceil(packs, x) * pack <= enough and (x >= THREADS or rows * x >= SMS * 512):
            break
        x *= 2
    held = power_of_two(ceil(packs, x))
    if held * pack > most:
        return None
    y = min(max(1, THREADS // x), max(power_of_two(rows), 32 // x))
    text = ROW + types(dtype, rows * n, kThreads=max(x, THREADS), kPack=pack, kSize=held * pack) + head
    text += HELD_ROWS.format(parameters=", ".join(p for p, _ in parameters), body=body)
    counts = (Value(rows, _index(rows * n)), Value(n, "int32"))
    args = (*(a for _, a in parameters), *counts)
    return Launch(code(name, text), (blocks_for(rows, y), 1, 1), (x, y, 1), args)


def each(name: str, dtype: str, outer: int, n: int, inner: int, parameters: Sequence[Parameter], head: str,
         body: str) -> Launch:  # fmt: skip
    """One launch over all elements of (outer, n, inner).

    body: has ``at``, where kPack elements are, and functions ``lane(j)`` and ``place(j)`` of element j of those.
    """
    elements, dense = outer * n * inner, inner == 1
    pack = pack_of(BY_NAME[dtype].size, n if dense else inner)
    text = ROW + types(dtype, elements, kThreads=THREADS, kPack=pack) + head
    found = {"lane": ("at / n", "") if dense else ("at / (n * inner) * inner + at % inner", " + j"),
             "place": ("at % n", " + j") if dense else ("at / inner % n", "")}  # fmt: skip
    lines = [f"    const Index {name}0 = {first};\n    auto {name} = [=](int j) {{ return {name}0{moves}; }};"
             for name, (first, moves) in found.items() if f"{name}(" in body]  # fmt: skip
    text += EACH.format(parameters=", ".join(p for p, _ in parameters), body="\n".join([*lines, body]))
    counts = (Value(v, _index(elements)) for v in (elements, n, inner))
    args = (*(a for _, a in parameters), *counts)
    return Launch(code(name, text), (blocks_for(elements, THREADS * pack, 32 * SMS), 1, 1), (THREADS, 1, 1), args)
