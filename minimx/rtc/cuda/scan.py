"""The "scan" kernel on a GPU: cumulative sum and product along one axis; the twin of csrc/cpu/scan.cc.

Sums of floats are carried in float64, of integers in int64. Lines are scanned by the threads of a block together, or by
a thread each where neighbouring lines are neighbours in memory; few long lines are cut into segments. Text: scan.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import COLLECTIVE, SMS, THREADS, ceil
from .fold import BUSY, FEW, Axis, count, index_type, merged, offset, strides_of
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


def lines_of(x: Spec, y: Spec, axis: int) -> Lines:
    """An operand that is flattened is contiguous: one line."""
    if len(x.shape) != len(y.shape) or not x.shape:
        return Lines([], Axis(math.prod(x.shape), 1, 1))
    ins, outs = strides_of(x), strides_of(y)
    axes = [Axis(*a) for a in zip(x.shape, ins, outs, strict=True)]
    return Lines(merged(axes[:axis] + axes[axis + 1 :]), axes[axis])


def scan(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (x,), (y,) = ins, outs
    axes, along = lines_of(x, y, attrs["axis"])
    lines, n = count(axes), along.extent
    if lines * n == 0:
        return Recipe(())
    columns = bool(axes) and (abs(axes[-1].out) < abs(along.out) or n < 16)
    if columns:
        threads = (32 if lines < 64 * SMS else THREADS, 1)
        blocks, least = blocks_for(lines, threads[0]), 16
    else:
        threads = (32, THREADS // 32) if n <= 32 * ITEMS * 8 and lines > 1 else (THREADS, 1)
        blocks, least = blocks_for(lines, threads[1]), 2 * THREADS * ITEMS
    segments = max(1, min(ceil(BUSY, blocks), n // least, 256 if columns else 4096)) if blocks < FEW else 1
    tile = 1 if columns else threads[0] * ITEMS
    segment = ceil(ceil(n, segments), tile) * tile
    segments = ceil(n, segment)

    index = index_type(axes, [along])
    numbers = [(f"line{d}", a.extent) for d, a in enumerate(axes) if d]
    numbers += [(f"from{d}", a.stride) for d, a in enumerate(axes)] + [(f"into{d}", a.out) for d, a in enumerate(axes)]
    sizes = [("lines", lines), ("n", n), ("segment", segment), ("step_in", along.stride), ("step_out", along.out)]
    pointers: list[tuple[str, Argument]] = [("const X* x", Operand(0)), ("Y* y", Operand(1)), ("A* totals", Scratch(0))]
    parameters = pointers + [(f"Index {name}", Value(v, index)) for name, v in sizes + numbers]
    start, joined = RULES[attrs["loop"]]
    dense = "true" if along.stride == 1 and along.out == 1 else "false"

    def launch(ends: bool) -> Launch:
        told = "true" if ends else "false"
        text = COLLECTIVE + KERNEL.format(
            index="int" if index == "int32" else "int64_t", x=BY_NAME[x.dtype].ctype, y=BY_NAME[y.dtype].ctype,
            a="int64_t" if attrs["dtype"] == "int64" else "double", start=start, joined=joined, scan=SCAN,
            members=f"Index {', '.join(name for name, _ in numbers)};" if numbers else "",
            from_=offset("line", "from", "line", len(axes)), into=offset("line", "into", "line", len(axes)),
            threads=THREADS, parameters=", ".join(p for p, _ in parameters),
            numbers=", ".join(name for name, _ in numbers),
            function=f"scan_columns<{told}>" if columns else f"scan_rows<{THREADS}, {ITEMS}, {told}, {dense}>")  # fmt: skip
        name = attrs["loop"] + ("_ends" if ends else "")
        return Launch(code(name, text), (blocks, segments, 1), (*threads, 1), tuple(a for _, a in parameters))

    if segments == 1:
        return Recipe((launch(False),), 8)
    return Recipe((launch(True), launch(False)), 8 * lines * segments)


FACTORIES: dict[str, Factory] = {"scan": scan}
