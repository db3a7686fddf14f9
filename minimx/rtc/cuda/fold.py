"""Launches that fold many elements into few results, along any axes of operands of any strides.

What is accumulated is a ``Rule``, in which order is said in fold.h: by rows, where neighbouring threads take elements
of one result, or by columns, where they have neighbouring results. Where results are too few to keep the device busy
the elements are cut into segments, one a block, whose accumulators a second launch joins. All is cut by shapes alone
and joined in a fixed order, so that a result is the same bits every time. Read next: fold.h, reduce.py, argreduce.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...ops.arguments import strides_of
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import COLLECTIVE, SMS, THREADS, ceil, pack_of, power_of_two
from .recipe import Argument, Launch, Recipe, Scratch, Value, blocks_for, code

BUSY = 4 * SMS  # blocks that keep the device busy
FEW = 2 * SMS  # with fewer than that elements are cut into segments
LONGEST = 512  # elements that one accumulator takes, so that the errors of sums stay small
SHORT_RUN = 16  # elements of one result in a row; fewer are read across neighbouring results instead
FOLD = COLLECTIVE + Path(__file__).with_name("fold.h").read_text()


class Axis(NamedTuple):
    """An axis: its extent, and how far neighbours are apart in the operands and in the output, in elements."""

    extent: int
    stride: int
    out: int = 0


class Rule(NamedTuple):
    """What is accumulated. text: defines ``struct Rule`` (fold.h); size: bytes of its accumulator; members: those of
    Rule, in order, each as (C type, name, argument).
    """

    text: str
    size: int
    members: Sequence[tuple[str, str, Argument]]


class Cut(NamedTuple):
    """How a launch is divided. threads: (x, y) of a block; blocks: for results; segments: of the elements, each of so
    many (``segment``); pack: neighbours that a thread takes at once.
    """

    threads: tuple[int, int]
    blocks: int
    segments: int
    segment: int
    pack: int


# ---- axes -----------------------------------------------------------------------------------------------------------


def split_axes(x: Spec, out: Spec, axes: Sequence[int]) -> tuple[list[Axis], list[Axis]]:
    """The axes of results and those that are folded."""
    ins, outs = strides_of(x), strides_of(out)
    keeps = len(out.shape) == len(x.shape)
    kept, folded, o = [], [], 0
    for d, extent in enumerate(x.shape):
        if d in axes:
            folded.append(Axis(extent, ins[d]))
        else:
            kept.append(Axis(extent, ins[d], outs[o]))
        o += keeps or d not in axes
    return kept, folded


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """The same positions in the order of memory, widest steps first; axes that continue each other become one."""
    made: list[Axis] = []
    for a in sorted((a for a in axes if a.extent != 1), key=lambda a: -abs(a.stride or math.inf)):
        before = made[-1] if made else None
        if before and before.stride == a.stride * a.extent and before.out == a.out * a.extent:
            made[-1] = Axis(before.extent * a.extent, a.stride, a.out)
        else:
            made.append(a)
    return made


def count(axes: Sequence[Axis]) -> int:
    """Positions along ``axes``."""
    return math.prod(a.extent for a in axes)


def index_type(kept: Sequence[Axis], folded: Sequence[Axis]) -> str:
    """``int32`` where positions and offsets have room to spare in it."""
    reach = sum((a.extent - 1) * max(abs(a.stride), abs(a.out)) for a in (*kept, *folded))
    return "int32" if max(count(kept) * count(folded), reach) < 1 << 30 else "int64"


def by_rows(kept: Sequence[Axis], folded: Sequence[Axis]) -> bool:
    """Do neighbours in memory belong to one result? (Short runs of such do not count.)"""
    if not kept or not folded:
        return not kept
    run, across = folded[-1], kept[-1]
    first = abs(run.stride or math.inf) < abs(across.stride or math.inf)
    return first and not (run.extent < SHORT_RUN and abs(across.stride) <= run.extent * abs(run.stride))


# ---- cutting --------------------------------------------------------------------------------------------------------


def segments(elements: int, blocks: int, least: int, at_once: int) -> int:
    """Into how many segments to cut: enough for a busy device with ``least`` elements each, and few enough elements
    for each of the ``at_once`` accumulators of a block.
    """
    wanted = min(ceil(BUSY, blocks), elements // least) if blocks < FEW else 1
    return max(1, min(65535, max(wanted, ceil(elements, at_once * LONGEST))))


def cut_rows(kept: Sequence[Axis], folded: Sequence[Axis], itemsize: int) -> Cut:
    pack = 1
    if folded[-1:] and folded[-1].stride == 1:
        outer = math.gcd(*(a.stride for a in folded[:-1]), folded[-1].extent) if len(folded) > 1 else 0
        pack = pack_of(itemsize, outer)
    return rows_cut(count(kept), count(folded), pack)


def rows_cut(results: int, elements: int, pack: int) -> Cut:
    """Threads x along elements, threads y along results."""
    packs = ceil(elements, pack)
    x = min(THREADS, power_of_two(ceil(packs, 8)))
    while x < min(THREADS, power_of_two(packs)) and results * x < THREADS * BUSY // 2:
        x *= 2
    y = min(THREADS // x, max(power_of_two(results), 32 // x))
    blocks = blocks_for(results, y)
    n = segments(elements, blocks, 2 * x * pack, x * min(pack, 4)) if x == THREADS else 1
    each = ceil(ceil(elements, n), x * pack) * x * pack
    return Cut((x, y), blocks, max(1, ceil(elements, each or 1)), max(each, 1), pack)


def cut_columns(kept: Sequence[Axis], folded: Sequence[Axis], itemsize: int) -> Cut:
    pack = 1
    if kept[-1:] and kept[-1].stride == 1:
        pack = pack_of(itemsize, math.gcd(kept[-1].extent, *(a.stride for a in (*kept[:-1], *folded))))
    return columns_cut(count(kept), count(folded), pack)


def columns_cut(results: int, elements: int, pack: int) -> Cut:
    """Threads x along results, threads y along elements, of which each takes four at least."""
    packs = ceil(results, pack)
    x = min(32, power_of_two(packs))
    y = min(THREADS // x, power_of_two(ceil(elements, 4)))
    x = min(THREADS // y, power_of_two(packs))
    blocks = blocks_for(packs, x)
    n = segments(elements, blocks, 4 * y, y)
    each = max(1, ceil(elements, n))
    return Cut((x, y), blocks, max(1, ceil(elements, each)), each, pack)


def join_cut(results: int, parts: int) -> Cut:
    """The joining launch: few results in a block, so that no thread has many of the ``parts`` to read in turn."""
    x = min(8 if parts <= 256 else 4, power_of_two(results))
    y = min(THREADS // x, power_of_two(ceil(parts, 4)))
    x = min(THREADS // y, power_of_two(results))
    return Cut((x, y), blocks_for(results, x), 1, parts, 1)


# ---- launches -------------------------------------------------------------------------------------------------------

KERNEL = """
using Index = {index};
{rule}
struct Place {{
  {members}
  Index from(Index r) const {{ return {from_}; }}
  Index along(Index at) const {{ return {along}; }}
  Index into(Index r) const {{ return {into}; }}
}};

extern "C" __global__ void __launch_bounds__({threads}) KERNEL({parameters}) {{
  const Rule rule{{{rule_members}}};
  const Place place{{{place_members}}};
  {prepare}
  fold_{order}<{threads}, {pack}, {at_once}>({taker}, place, {sink}, operands, results, elements, segment);
}}
"""


def offset(at: str, name: str, extents: str, axes: int) -> str:
    """Where position ``at`` along some axes is: ``at / extent1 * name0 + at % extent1 * name1``."""
    parts = []
    for d in range(axes):
        below = " / ".join(f"{extents}{k}" for k in range(d + 1, axes))
        place = f"{at} / {below}" if below else at
        parts.append(f"{place} % {extents}{d} * {name}{d}" if d else f"{place} * {name}{d}")
    return " + ".join(parts) or "0"


def _launch(name: str, rule: Rule, types: Sequence[str], operands: Sequence[Argument], kept: Sequence[Axis],
            folded: Sequence[Axis], cut: Cut, rows: bool, partial: Argument | None, joins: bool) -> Launch:  # fmt: skip
    """One pass. partial: where its accumulators go, unless it finishes; joins: its operand is accumulators."""
    index = index_type(kept, folded)
    numbers = [(f"kept{d}", a.extent) for d, a in enumerate(kept) if d]
    numbers += [(f"folded{d}", a.extent) for d, a in enumerate(folded) if d]
    numbers += [(f"from{d}", a.stride) for d, a in enumerate(kept)]
    numbers += [(f"along{d}", a.stride) for d, a in enumerate(folded)]
    numbers += [(f"into{d}", a.out) for d, a in enumerate(kept)]
    sizes = [("results", count(kept)), ("elements", count(folded)), ("segment", cut.segment)]

    pointers = [(f"const {t}* __restrict__ x{i}", a) for i, (t, a) in enumerate(zip(types, operands, strict=True))]
    members = [(f"{t} {member}", a) for t, member, a in rule.members]
    store = [("Rule::A* __restrict__ partial", partial)] if partial else []
    counts = [(f"Index {n}", Value(v, index)) for n, v in sizes + numbers]
    parameters = [*pointers, *members, *store, *counts]

    xs = ", ".join(f"x{i}" for i in range(len(types)))
    prepare = [f"const Operands<{', '.join(types)}> operands{{{xs}}};"]
    prepare += ["const Join<Rule> join{rule};"] if joins else []
    text = FOLD + KERNEL.format(
        index="int" if index == "int32" else "int64_t", rule=rule.text, threads=THREADS, pack=cut.pack,
        at_once=2 if rows else 4,
        members=f"Index {', '.join(n for n, _ in numbers)};" if numbers else "",
        from_=offset("r", "from", "kept", len(kept)), along=offset("at", "along", "folded", len(folded)),
        into=offset("r", "into", "kept", len(kept)),
        parameters=", ".join(p for p, _ in parameters), prepare="\n  ".join(prepare),
        rule_members=", ".join(member for _, member, _ in rule.members),
        place_members=", ".join(n for n, _ in numbers), order="rows" if rows else "columns",
        taker="join" if joins else "rule",
        sink="Kept<Rule::A>{partial, results}" if partial else "Finished<Rule, Place>{rule, place}")  # fmt: skip
    grid, block = (cut.blocks, cut.segments, 1), (*cut.threads, 1)
    return Launch(code(name, text), grid, block, tuple(a for _, a in parameters))


def fold(name: str, rule: Rule, operands: Sequence[tuple[Argument, str]], kept: Sequence[Axis],
         folded: Sequence[Axis], scratch: int = 0) -> Recipe:  # fmt: skip
    """Folds ``operands`` (pointer and dtype) over the axes ``folded`` into a result for each position of ``kept``.

    The numbers that Rule sees, `at` and `r`, count the positions in the order of memory of the first operand, which is
    C order where that is contiguous. scratch: bytes of workspace that are in use already.
    """
    kept, folded = merged(kept), merged(folded)
    if count(kept) == 0:
        return Recipe(())
    if count(folded) == 0:
        folded = [Axis(0, 0)]
    rows = by_rows(kept, folded)
    types = [BY_NAME[dtype].ctype for _, dtype in operands]
    itemsize = max(BY_NAME[dtype].size for _, dtype in operands)
    cut = (cut_rows if rows else cut_columns)(kept, folded, itemsize)
    pointers = [pointer for pointer, _ in operands]
    if cut.segments == 1:
        return Recipe((_launch(name, rule, types, pointers, kept, folded, cut, rows, None, False),), scratch)
    partial, results = Scratch(scratch), count(kept)
    inner = [Axis(a.extent, math.prod(b.extent for b in kept[d + 1 :]), a.out) for d, a in enumerate(kept)]
    across = [Axis(cut.segments, results)]
    inner = merged(inner)
    last = join_cut(results, cut.segments)
    first = _launch(name, rule, types, pointers, kept, folded, cut, rows, partial, False)
    second = _launch(f"{name}_join", rule, ["Rule::A"], [partial], inner, across, last, False, None, True)
    return Recipe((first, second), scratch + cut.segments * results * rule.size)
