"""One launch for many arrays: equal pointwise groups, each over arrays of its own, as one kernel over a table of them.

An optimizer updates a hundred and more parameters by the same rule. A launch each would cost more than the work of
most; here a block looks up which of the arrays its number falls to (multi-tensor apply, as NVIDIA's Apex has it). Which
steps of a graph may run together: minimx/graph/together.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import text
from ..group import Group
from . import recipe
from .pointwise import PARAMETER_BYTES, THREADS, Walk
from .recipe import Launch, Operand, Recipe, Table, Value

PACKS = 4  # that a thread takes of its block's part of an array

LOOKUP = """\
// The member of the table that a block works for.
const Member& member_of(int64_t block, const Table& table) {
  int low = 0, high = %d;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (table.at[middle].first <= block ? low : high) = middle;
  }
  return table.at[low];
}
"""


def joinable(g: Group) -> bool:
    """True if a kernel over the group needs no indices: one row of elements, operands that lie so or are one number."""
    return not g.form and len(g.shape) == 1 and g.shape[0] > 0 and all(o.strides in ((1,), (0,)) for o in g.inputs)


def most(g: Group) -> int:
    """How many arrays' worth of arguments a kernel takes."""
    return PARAMETER_BYTES // (8 * Members(g).words)


class Members(Walk):
    """The walk of one block through its part of one array of the table."""

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.index = "int64_t"  # one text for all sizes
        self.words = len(self.lanes) + 2  # of a member of the table

    @property
    def tile(self) -> int:
        """Elements of a block."""
        return THREADS * self.count * PACKS

    def source_of(self, count: int) -> str:
        """The rows' functions and the kernel over ``count`` arrays."""
        same = [f"  const {x.type} x{x.name[1:]} = *{x.name};" for x in self.loads if x.how == "same"]
        body = [line if line.startswith("#") else "      " + line for line in self._pack()]
        lines = [text.functions([self.group]), self._table(count), self._lookup(count), *same,
                 "  const auto walk = [&](auto pack, int64_t begin, int64_t end) {",
                 "    constexpr int kCount = decltype(pack)::value;",
                 "    for (int64_t at = begin + threadIdx.x * kCount; at < end; at += blockDim.x * kCount) {",
                 *body, "    }", "  };", *self._calls("from"), "}"]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _types(self) -> list[tuple[str, str]]:
        """(C++ type, name) of the pointers of a member."""
        return [(f"{'const ' if x in self.loads else ''}{x.type}*", x.name) for x in self.lanes]

    def _table(self, count: int) -> str:
        fields = "\n".join(f"  {t} {name};" for t, name in self._types())
        return f"""\
// {", ".join(self.group.rows)}, for {count} sets of arrays
struct Member {{
{fields}
  int64_t n, first;  // elements, and the first block
}};
struct Table {{
  Member at[{count}];
}};
{LOOKUP % count}"""

    def _lookup(self, count: int) -> str:
        """The kernel's head, and which part of which array is this block's."""
        names = "\n".join(f"  {t} const {name} = t.{name};" for t, name in self._types())
        return f"""\
extern "C" __global__ void __launch_bounds__({THREADS}) KERNEL(const __grid_constant__ Table table) {{
  const Member& t = member_of(blockIdx.x, table);
{names}
  const int64_t from = (int64_t(blockIdx.x) - t.first) * {self.tile};
  const int64_t n = t.n < from + {self.tile} ? t.n : from + {self.tile};"""


def many(groups: Sequence[Group]) -> Recipe:
    """The one launch over all of the groups, which differ in their extent only; operands: those of the first (arrays,
    then outputs), those of the second, and so on.
    """
    walk = Members(groups[0])
    per_group = groups[0].arrays + len(groups[0].outputs)
    members: list[Operand | recipe.Scratch | Value] = []
    blocks = 0
    for i, g in enumerate(groups):
        members += [Operand(i * per_group + x.operand.slot) for x in walk.lanes]
        members += [Value(g.shape[0]), Value(blocks)]
        blocks += -(-g.shape[0] // walk.tile)
    code = recipe.code("many", walk.source_of(len(groups)))
    return Recipe((Launch(code, (blocks, 1, 1), (THREADS, 1, 1), (Table(tuple(members)),)),))
