"""Kernels that make arrays from numbers, as csrc/cpu/fill.cc. Every thread makes 16 bytes where it can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .gather import index_parameter
from .join import Source, number, paste_launch, seen
from .moving import ROWS, WIDEST, grid_for, index_for
from .recipe import Argument, Launch, Operand, Recipe, Value, code


def fill(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """fill([like]) -> y: every element is "value"."""
    if math.prod(outs[0].shape) == 0:
        return Recipe(())
    return Recipe((paste_launch(outs[0], Operand(len(ins)), Source(None, value=attrs["value"])),))


def nothing(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """nothing() -> y: leaves memory as it is."""
    return Recipe(())


def fill_with(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """fill_with(v) -> y: v broadcast to y."""
    if math.prod(outs[0].shape) == 0:
        return Recipe(())
    return Recipe((paste_launch(outs[0], Operand(1), seen(ins[0], Operand(0), outs[0].shape)),))


# ---- functions of the place -----------------------------------------------------------------------------------------

MADE = """\
using T = %(ctype)s;

template <int kCount>
void write_rows(T* y, Index rows, Index columns, %(parameters)s) {
  const Walk walk;
  for (Index i = walk.row; i < rows; i += walk.rows) {
%(row)s\
    for (Index c = walk.column * kCount; c < columns; c += walk.columns * kCount) {
      Pack<T, kCount> made;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const Index j = c + k;
        made.at[k] = %(element)s;
      }
      *reinterpret_cast<Pack<T, kCount>*>(y + i * columns + c) = made;
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) KERNEL(T* y, Index rows, Index columns, %(declared)s) {
%(point)s\
  constexpr int kWide = 16 / sizeof(T);
  if (columns %% kWide == 0 && aligned<Pack<T, kWide>>(y))
    write_rows<kWide>(y, rows, columns, %(names)s);
  else
    write_rows<1>(y, rows, columns, %(names)s);
}
"""


def made(name: str, y: Spec, to: int, shape: tuple[int, int], element: str, parameters: Sequence[tuple[str, Argument]],
         row: str = "", declared: dict[str, str] | None = None) -> Recipe:  # fmt: skip
    """The recipe of y (contiguous, (rows, columns)) with y[i, j] = ``element``, a text over i, j and ``parameters``.

    parameters: ("int64_t low", its argument). declared: another declaration of the first, and what makes one of it.
    """
    rows, columns = shape
    if rows * columns == 0:
        return Recipe(())
    t, index = BY_NAME[y.dtype], index_for([rows * columns])
    texts = [p for p, _ in parameters]
    first = declared or {"index": texts[0], "point": ""}
    text = MADE % {
        "ctype": t.ctype,
        "element": element,
        "row": row,
        "parameters": ", ".join(texts),
        "declared": ", ".join([first["index"], *texts[1:]]),
        "point": first["point"],
        "names": ", ".join(p.split()[-1] for p in texts),
    }
    wide = WIDEST // t.size
    grid, block = grid_for(rows, columns // wide if columns % wide == 0 else columns)
    args = (Operand(to), *index.values(rows, columns), *(a for _, a in parameters))
    return Recipe((Launch(code(name, index.text + ROWS + text), grid, block, args),))


def iota(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """iota() -> y: "start" + i * "step", in integers if both are."""
    start, step = attrs["start"], attrs["step"]
    exact = isinstance(start, int) and isinstance(step, int)
    kind, dtype = ("int64_t", "int64") if exact else ("double", "float64")
    element = "to<T>(start + j * step)" if exact else "to<T>(fma(static_cast<double>(j), step, start))"  # as the host
    parameters = [(f"{kind} start", Value(start, dtype)), (f"{kind} step", Value(step, dtype))]
    return made("iota", outs[0], 0, (1, math.prod(outs[0].shape)), element, parameters)


def band(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """band() -> y: 1 where "low" <= column - row <= "high", else 0."""
    y = outs[0]
    element = "to<T>(low <= int64_t(j) - i && int64_t(j) - i <= high ? 1 : 0)"
    parameters = [("int64_t low", Value(attrs["low"])), ("int64_t high", Value(attrs["high"]))]
    return made("band", y, 0, (y.shape[0], y.shape[1]), element, parameters)


def one_hot(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """one_hot(i) -> y: "on" at index i of the last axis, which has length "depth", else "off"."""
    y, depth = outs[0], attrs["depth"]
    rows = math.prod(y.shape) // depth if depth else 0
    parameters: list[tuple[str, Argument]] = [
        ("const int64_t* index", Operand(0)),
        ("T on", number(attrs["on"], y.dtype)),
        ("T off", number(attrs["off"], y.dtype)),
    ]
    row = "    const int64_t at = index[i];\n"
    return made("one_hot", y, 1, (rows, depth), "j == at ? on : off", parameters, row, index_parameter(ins[0].weak))


FACTORIES = {"fill": fill, "nothing": nothing, "fill_with": fill_with, "iota": iota, "band": band, "one_hot": one_hot}
