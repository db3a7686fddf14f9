"""The "scan" kernel on a GPU: cumulative sum and product along one axis; the twin of csrc/cpu/scan.cc.

Sums of floats are carried in float64, of integers in int64. Lines are scanned by the threads of a block together, or by
a thread each where neighbouring lines are neighbours in memory; few long lines are cut into segments. Text: scan.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...ops.arguments import strides_of
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import COLLECTIVE, SMS, THREADS, ceil
from .fold import BUSY, FEW, Axis, count, index_type, merged, offset
from .recipe import Argument, Factory, Launch, Operand, Recipe, Scratch, Value, blocks_for, code

SCAN = Path(__file__).with_name("scan.h").read_text()
ITEMS = 4  # neighbours that a thread takes at once
RULES = {"cumsum": ("0", "a + b"), "cumprod": ("1", "a * b")}

KERNEL = """
using Index = {index};
using X = {x};
using Y = {y};
using A = {a};
inline A start() {{ return {start}; }}
inline A joined(A a, A b) {{ return {joined}; }}
{scan}
struct Place {{
  {members}
  Index from(Index line) const {{ return {from_}; }}
  Index into(Index line) const {{ return {into}; }}
}};

extern "C" __global__ void __launch_bounds__({threads}) KERNEL({parameters}) {{
  const Place place{{{numbers}}};
  {function}(place, x, y, totals, lines, n, segment, step_in, step_out);
}}
"""


class Lines(NamedTuple):
    """What is scanned: lines of n elements, which are ``along`` apart, beginning at the positions of ``axes``."""

    axes: list[Axis]
    along: Axis


class Cut(NamedTuple):
    """How a launch is divided. columns: a thread has a line; else the threads x of a block have one."""

    columns: bool
    threads: tuple[int, int]
    blocks: int
    segments: int
    segment: int


def lines_of(x: Spec, y: Spec, axis: int) -> Lines:
    """An operand that is flattened is contiguous: one line."""
    if len(x.shape) != len(y.shape) or not x.shape:
        return Lines([], Axis(math.prod(x.shape), 1, 1))
    ins, outs = strides_of(x), strides_of(y)
    axes = [Axis(*a) for a in zip(x.shape, ins, outs, strict=True)]
    return Lines(merged(axes[:axis] + axes[axis + 1 :]), axes[axis])


def cut_lines(of: Lines) -> Cut:
    """Lines side by side in memory, and short ones, are columns."""
    lines, n = count(of.axes), of.along.extent
    columns = bool(of.axes) and (abs(of.axes[-1].out) < abs(of.along.out) or n < 16)
    if columns:
        threads = (32 if lines < 64 * SMS else THREADS, 1)
        blocks, least, tile, most = blocks_for(lines, threads[0]), 16, 1, 256
    else:
        threads = (32, THREADS // 32) if n <= 32 * ITEMS * 8 and lines > 1 else (THREADS, 1)
        blocks, least, tile, most = blocks_for(lines, threads[1]), 2 * THREADS * ITEMS, threads[0] * ITEMS, 4096
    segments = max(1, min(ceil(BUSY, blocks), n // least, most)) if blocks < FEW else 1
    segment = ceil(ceil(n, segments), tile) * tile
    return Cut(columns, threads, blocks, ceil(n, segment), segment)


def _launch(x: Spec, y: Spec, attrs: dict[str, Any], of: Lines, cut: Cut, ends: bool) -> Launch:
    """One pass; ``ends``: the one that finds the totals of segments."""
    axes, along = of
    index = index_type(axes, [along])
    numbers = [(f"line{d}", a.extent) for d, a in enumerate(axes) if d]
    numbers += [(f"from{d}", a.stride) for d, a in enumerate(axes)] + [(f"into{d}", a.out) for d, a in enumerate(axes)]
    sizes = [("lines", count(axes)), ("n", along.extent), ("segment", cut.segment), ("step_in", along.stride),
             ("step_out", along.out)]  # fmt: skip
    pointers: list[tuple[str, Argument]] = [("const X* x", Operand(0)), ("Y* y", Operand(1)), ("A* totals", Scratch(0))]
    parameters = pointers + [(f"Index {name}", Value(v, index)) for name, v in sizes + numbers]
    start, joined = RULES[attrs["loop"]]
    told, dense = ("true" if flag else "false" for flag in (ends, along.stride == 1 and along.out == 1))
    text = COLLECTIVE + KERNEL.format(
        index="int" if index == "int32" else "int64_t", x=BY_NAME[x.dtype].ctype, y=BY_NAME[y.dtype].ctype,
        a="int64_t" if attrs["dtype"] == "int64" else "double", start=start, joined=joined, scan=SCAN,
        members=f"Index {', '.join(name for name, _ in numbers)};" if numbers else "",
        from_=offset("line", "from", "line", len(axes)), into=offset("line", "into", "line", len(axes)),
        threads=THREADS, parameters=", ".join(p for p, _ in parameters),
        numbers=", ".join(name for name, _ in numbers),
        function=f"scan_columns<{told}>" if cut.columns else f"scan_rows<{THREADS}, {ITEMS}, {told}, {dense}>",
    )  # fmt: skip
    name = attrs["loop"] + ("_ends" if ends else "")
    args = tuple(a for _, a in parameters)
    return Launch(code(name, text), (cut.blocks, cut.segments, 1), (*cut.threads, 1), args)


def scan(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (x,), (y,) = ins, outs
    of = lines_of(x, y, attrs["axis"])
    lines = count(of.axes)
    if lines * of.along.extent == 0:
        return Recipe(())
    cut = cut_lines(of)
    passes = (True, False) if cut.segments > 1 else (False,)
    return Recipe(tuple(_launch(x, y, attrs, of, cut, ends) for ends in passes), 8 * lines * cut.segments)


FACTORIES: dict[str, Factory] = {"scan": scan}
