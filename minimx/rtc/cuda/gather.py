"""Reading by index, as csrc/cpu/gather.cc: an array (outer, n, inner) around the axis, indices int64.

Rows are moved as words, up to 16 bytes at once where the length of a row and the pointers allow it. Indices out of
range in mode "raise" raise on the CPU; on a GPU, where nobody waits for the kernel, they are clipped (moving.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ShapeError
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..group import broadcast_strides
from .moving import RESOLVE, ROWS, THREADS, WORDS, collapsed, grid_for, index_for, word_bytes
from .recipe import Argument, Launch, Operand, Recipe, Scratch, Value, blocks_for, code

# Row r of y is row (r / count) * n + index[r % count] of x.
GATHER = """\
template <class Word>
void copy_rows(const char* x, const int64_t* index, char* y, Index rows, Index count, Index n, Index words) {
  const Word* from = reinterpret_cast<const Word*>(x);
  Word* to = reinterpret_cast<Word*>(y);
  const Walk walk;
  for (Index r = walk.row; r < rows; r += walk.rows) {
    const Index outer = r / count, source = outer * n + static_cast<Index>(resolve(index[r - outer * count], n));
    for (Index c = walk.column; c < words; c += walk.columns) to[r * words + c] = from[source * words + c];
  }
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const char* x, %(index)s, char* y, Index rows, Index count, Index n, Index words) {
%(point)s\
  constexpr Index kItems = sizeof(%(wide)s) / sizeof(%(item)s);
  if (kItems > 1 && aligned<%(wide)s>(x, y))
    copy_rows<%(wide)s>(x, index, y, rows, count, n, words);
  else
    copy_rows<%(item)s>(x, index, y, rows, count, n, words * kItems);
}
"""


def index_parameter(weak: bool) -> dict[str, str]:
    """How a text takes the indices: from an array, or the one that a host scalar is."""
    if weak:
        return {"index": "int64_t the_index", "point": "  const int64_t* index = &the_index;\n"}
    return {"index": "const int64_t* index", "point": ""}


def gather_launch(dtype: str, attrs: dict[str, Any], index: Argument, weak: bool, y: int) -> list[Launch]:
    """The launch that gathers from operand 0 to operand ``y``; none if there is nothing to do."""
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    rows, item = outer * count, BY_NAME[dtype].size
    if rows * inner == 0:
        return []
    wide = word_bytes(inner * item)
    words = inner * item // max(wide, item)
    wide = max(wide, item)
    places = index_for([rows * inner, outer * n * inner])
    parts = {"wide": WORDS[wide], "item": WORDS[item]} | index_parameter(weak)
    text = places.text + ROWS + RESOLVE % attrs.get("mode", 0) + GATHER % parts
    grid, block = grid_for(rows, words)
    args = (Operand(0), index, Operand(y), *places.values(rows, count, n, words))
    return [Launch(code("gather", text), grid, block, args)]


def gather(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """gather(x, i) -> y: y (outer, count, inner) = x[:, i, :]. Indices out of range are clipped in mode "raise"."""
    return Recipe(tuple(gather_launch(ins[0].dtype, attrs, Operand(1), ins[1].weak, 2)))


def gather_static(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """gather_static(x) -> y: gather with the indices of the attribute, which a small kernel writes out first."""
    indices = attrs["indices"]
    launches = gather_launch(ins[0].dtype, attrs, Scratch(0), False, 1)
    return Recipe((expand(indices), *launches), 8 * len(indices)) if launches else Recipe(())


# ---- indices known when the kernel is made --------------------------------------------------------------------------

EXPAND = """\
// Number k of a list that is made of arithmetic runs, each {the place where it begins, its first number, its step}.
extern "C" __global__ void __launch_bounds__(256) KERNEL(int64_t* list, int64_t n) {
  static const int64_t runs[][3] = {%s};
  for (int64_t k = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; k < n; k += int64_t(gridDim.x) * blockDim.x) {
    int low = 0, high = %d;  // the run that k is in is one of [low, high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (runs[middle][0] <= k ? low : high) = middle;
    }
    list[k] = runs[low][1] + (k - runs[low][0]) * runs[low][2];
  }
}
"""


def runs(numbers: Sequence[int]) -> list[tuple[int, int, int]]:
    """A list as arithmetic runs (place, first, step). [0, 0, 0, 1, 2] is [(0, 0, 0), (3, 1, 1)]."""
    out: list[tuple[int, int, int]] = []
    at = 0
    while at < len(numbers):
        step = numbers[at + 1] - numbers[at] if at + 1 < len(numbers) else 0
        end = at + 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
            end += 1
        out.append((at, numbers[at], step))
        at = end
    return out


def expand(numbers: Sequence[int]) -> Launch:
    """The launch that writes a list (at least one number) to the beginning of the scratch, as int64."""
    rows = runs(numbers)
    table = ",\n                                  ".join(f"{{{at}, {first}, {step}}}" for at, first, step in rows)
    made = code("expand", EXPAND % (table, len(rows)))
    grid = (blocks_for(len(numbers), THREADS), 1, 1)
    return Launch(made, grid, (THREADS, 1, 1), (Scratch(0), Value(len(numbers))))


# ---- elements -------------------------------------------------------------------------------------------------------

GATHER_ELEMENTS = """\
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(const Item* x, const int64_t* index, Item* y, Index elements, Index slab, Index n, Index inner) {
  const Index step = Index(gridDim.x) * Index(blockDim.x);
  for (Index e = Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x); e < elements; e += step) {
    const Index row = e / slab * n + static_cast<Index>(resolve(index[e], n));
    y[e] = x[row * inner + e % inner];
  }
}
"""


def gather_elements(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """gather_elements(x, i) -> y: y[o, k, j] = x[o, i[o, k, j], j]. Raises ShapeError if there is nothing to take."""
    outer, n, inner, count = (attrs[k] for k in ("outer", "n", "inner", "count"))
    elements = outer * count * inner
    if elements == 0:
        return Recipe(())
    if n == 0:
        raise ShapeError("gather_elements", "an axis with elements", ins[0].shape, "Check for empty arrays")
    places = index_for([elements, outer * n * inner])
    item = f"using Item = {WORDS[BY_NAME[ins[0].dtype].size]};\n"
    made = code("gather_elements", places.text + item + RESOLVE % attrs.get("mode", 0) + GATHER_ELEMENTS)
    operands: tuple[Argument, ...] = (Operand(0), Operand(1), Operand(2))
    args = (*operands, *places.values(elements, count * inner, n, inner))
    return Recipe((Launch(made, (blocks_for(elements, THREADS), 1, 1), (THREADS, 1, 1), args),))


# ---- several index arrays -------------------------------------------------------------------------------------------


def ravel_index(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """ravel_index(i...) -> y: place in C order of element (i0, i1, ...) in an array of shape "dims"; i broadcast."""
    total = 1
    for d in outs[0].shape:
        total *= d
    if total == 0:
        return Recipe(())
    arrays = [x for x in ins if not x.weak]
    shape, strides = collapsed(outs[0].shape, [broadcast_strides(x.shape, x.strides, outs[0].shape) for x in arrays])
    lying = iter(strides)
    mine = [None if x.weak else next(lying) for x in ins]
    text = RESOLVE % attrs["mode"] + _ravel_text(len(shape), [s is not None for s in mine])
    extents = [Value(n) for n in shape[1:]]
    steps = [Value(s) for own in mine if own is not None for s in own]
    operands: list[Argument] = [Operand(k) for k in range(len(ins) + 1)]
    args = (*operands, Value(total), *extents, *map(Value, attrs["dims"]), *steps)
    launch = Launch(code("ravel_index", text), (blocks_for(total, THREADS), 1, 1), (THREADS, 1, 1), args)
    return Recipe((launch,))


def _ravel_text(axes: int, is_array: list[bool]) -> str:
    """A kernel over ``axes`` axes and index operands of which some are arrays, the others numbers."""
    n = range(len(is_array))
    parameters = [f"const int64_t* i{k}" if is_array[k] else f"int64_t i{k}" for k in n]
    parameters += ["int64_t* y", "int64_t elements", *(f"int64_t n{d}" for d in range(1, axes))]
    parameters += [f"int64_t dim{k}" for k in n]
    parameters += [f"int64_t s{k}_{d}" for k in n if is_array[k] for d in range(axes)]
    lines = ["int64_t flat = 0;", *(["int64_t rest = e;"] if axes else [])]
    lines += [f"const int64_t at{d} = rest % n{d}; rest /= n{d};" for d in range(axes - 1, 0, -1)]
    lines += ["const int64_t at0 = rest;"] if axes else []
    for k in n:
        place = " + ".join(f"at{d} * s{k}_{d}" for d in range(axes)) or "0"
        lines.append(f"flat = flat * dim{k} + resolve({f'i{k}[{place}]' if is_array[k] else f'i{k}'}, dim{k});")
    body = "\n    ".join([*lines, "y[e] = flat;"])
    return f"""\
extern "C" __global__ void __launch_bounds__(256) KERNEL({", ".join(parameters)}) {{
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t e = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; e < elements; e += step) {{
    {body}
  }}
}}
"""


FACTORIES = {
    "gather": gather,
    "gather_static": gather_static,
    "gather_elements": gather_elements,
    "ravel_index": ravel_index,
}
