"""The "argsort" kernel on a GPU: places of the "k" first elements of each row of a contiguous array, in stable order;
the twin of csrc/cpu/sort.cc.

Rows that fit into shared memory are sorted there; of longer ones tiles are, and then merged in passes over the
workspace. Where k is small only the first k items of every run are kept, so that top-k is cheap. Text: sort.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import THREADS, ceil, power_of_two
from .recipe import Argument, Factory, Launch, Operand, Recipe, Scratch, Value, code

SORT = Path(__file__).with_name("sort.h").read_text()
TILE = 16384  # bytes of the items that a block sorts or merges
SHORT = 256  # rows so short are sorted several in a smaller tile

KERNEL = """
using Index = {index};
using T = {t};
{sort}
extern "C" __global__ void __launch_bounds__({threads}) KERNEL({parameters}) {{
  {function}<{threads}, {tile}>({names});
}}
"""


def argsort(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (x,), n, k = ins, ins[0].shape[-1], attrs["k"]
    rows = math.prod(x.shape[:-1])
    if rows * n * k == 0:
        return Recipe(())
    item = 8 if BY_NAME[x.dtype].size <= 4 else 16
    tile = 2 * THREADS if n <= SHORT else TILE // item
    tiles, width = ceil(n, tile), min(tile, power_of_two(n))
    index = "int32" if rows * n < 1 << 30 else "int64"
    size = ceil(rows * n * item, 256) * 256
    buffers = [Scratch(0), Scratch(size)]

    def launch(function: str, blocks: int, parameters: Sequence[tuple[str, str, Argument]]) -> Launch:
        text = KERNEL.format(
            index="int" if index == "int32" else "int64_t", t=BY_NAME[x.dtype].ctype, sort=SORT, function=function,
            threads=THREADS, tile=tile, parameters=", ".join(f"{t} {name}" for t, name, _ in parameters),
            names=", ".join(name for _, name, _ in parameters))  # fmt: skip
        args = tuple(a for _, _, a in parameters)
        return Launch(code(f"argsort_{function}", text), (blocks, 1, 1), (THREADS, 1, 1), args)

    def count(name: str, value: int) -> tuple[str, str, Argument]:
        return "Index", name, Value(value, index)

    y: tuple[str, str, Argument] = ("int64_t*", "y", Operand(1))
    launches = [launch("sort_tiles", ceil(rows * tiles, tile // width), [
        ("const T*", "x", Operand(0)), y, ("Item*", "runs", buffers[0]), count("rows", rows), count("n", n),
        count("k", k), ("int", "width", Value(width, "int32")),
        ("bool", "descending", Value(attrs["descending"], "bool"))])]  # fmt: skip
    run = tile
    while run < n:
        source, target = buffers
        counts = [count("n", n), count("k", k), count("run", run)]
        ends = run * 2 >= n
        made = [("const Item*", "from", source), y if ends else ("Item*", "into", target), *counts]
        launches.append(launch("merge_last" if ends else "merge_runs", rows * tiles, made))
        buffers.reverse()
        run *= 2
    return Recipe(tuple(launches), 2 * size if tiles > 1 else 0)


FACTORIES: dict[str, Factory] = {"argsort": argsort}
