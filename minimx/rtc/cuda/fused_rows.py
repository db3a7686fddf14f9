"""Fused groups with reductions along rows, as CUDA: every row is read once, held in registers, and written once.

The threads x of a block share a row (its element k in packs of 16 bytes, see row.h), the threads y have a row each.
Phases of the group (../rows.py) are walks along what a thread holds; between them the threads find out together what
the reductions give. Vectors that all rows share are read where they are needed: they stay in the cache. The twin of
../host_rows.py; hand-written kernels of the same kind: softmax.py, row_norm.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ...errors import NotSupported
from ...ops.dtypes import BY_NAME
from ...ops.emit import c_name
from ...ops.table import Spec
from .. import text
from ..group import Reduction, Step, c_strides
from ..rows import Phase, Phases, RowGroup, RowOperand
from . import recipe
from .collective import SMS, ceil, power_of_two
from .pointwise import PARAMETER_BYTES, index_type
from .recipe import Launch, Recipe, Value, blocks_for
from .row import ROW

THREADS = 128  # of a block whose rows have fewer
WIDEST = 512  # threads of a row
HELD = 48  # numbers of 4 bytes that a thread holds, if more threads help
HELD_BY_WARP = 48  # the same where a warp has the row: more in flight, and nobody waits for anybody
MOST_HELD = 128  # beyond, registers do not do

HEAD = """\
  for (Index first = Index(blockIdx.x) * blockDim.y; first < rows; first += Index(gridDim.x) * blockDim.y) {
    const bool mine = first + Index(threadIdx.y) < rows;  // else this thread only helps to find the others' totals
    const Index row = mine ? first + Index(threadIdx.y) : rows - 1;
    const int width = mine ? n : 0;"""


def fused(group: RowGroup, ins: Sequence[Spec] = (), outs: Sequence[Spec] = ()) -> Recipe:
    """The recipe of a group; data: its arrays, then its outputs.

    Raises NotSupported for rows that registers do not hold (rows.takes says so before) and beyond 4 KB of arguments.
    """
    return RowText(group).recipe()


class RowText:
    """A kernel over rows to be: a RowGroup, its phases, and how rows are spread over threads."""

    def __init__(self, group: RowGroup) -> None:
        self.group, self.phases = group, Phases(group)
        self.space = (*group.outer, *group.inner)
        self.index = index_type(self.space, [(*o.outer, *o.inner) for o in group.inputs] + [c_strides(self.space)])
        self.pack = self._pack()
        self.threads = self._threads()
        self.held = ceil(group.n // self.pack, self.threads) * self.pack
        self.parameters: list[tuple[str, str, recipe.Argument]] = []

    def _pack(self) -> int:
        """Elements of an access: 16 bytes of the smallest type of two or more, at most 32 of the largest, and a divisor
        of the row.
        """
        g = self.group
        types = [o.dtype for o in g.inputs if g.runs(o)] + [r.dtype for r in g.outputs if g.of_elements(r)]
        sizes = [BY_NAME[d].size for d in types] or [16]
        count = min(16 // max(2, min(sizes)), max(1, 32 // max(sizes)))
        while g.n % count:
            count //= 2
        return count

    def _threads(self) -> int:
        """How many threads have a row: a power of two. More for long rows, and for few rows."""
        packs, words = self.group.n // self.pack, self.phases.words()
        x = min(32, power_of_two(packs))
        while x < WIDEST and x < packs:
            enough = ceil(packs, x) * self.pack * words <= (HELD_BY_WARP if x == 32 else HELD)
            if enough and (x >= THREADS or self.group.items * x >= SMS * 512):
                break
            x *= 2
        return x

    # ---- arguments --------------------------------------------------------------------------------------------------

    def _argument(self, name: str, value: int) -> str:
        """A number that is passed; its name, which may come again."""
        if any(known == name for _, known, _ in self.parameters):
            return name
        kind = "int32" if self.index == "int" else "int64"
        self.parameters.append(("Index", name, Value(value, kind)))
        return name

    def _pointers(self) -> None:
        """The parameters that are pointers, rows and n."""
        g = self.group
        for k, o in enumerate(g.inputs):
            hint = " __restrict__" if o.shared else ""  # no output lies where a vector does
            self.parameters.append((f"const {text.ctype(o.dtype)}*{hint}", f"p{k}", recipe.Operand(o.slot)))
        for k, r in enumerate(g.outputs):
            self.parameters.append((f"{text.ctype(r.dtype)}*", f"q{k}", recipe.Operand(g.arrays + k)))
        self._argument("rows", g.items)
        self.parameters.append(("int", "n", Value(g.n, "int32")))

    # ---- text -------------------------------------------------------------------------------------------------------

    def source(self) -> str:
        """The functions of the operators, and the kernel."""
        self.parameters = []
        self._pointers()
        body = [*self._begin(), *self._phases(), *self._end()]
        block = max(self.threads, THREADS)
        declared = ", ".join(f"{t} {name}".replace(" ", "~") for t, name, _ in self.parameters)  # not torn apart
        head = f'extern "C" __global__ void __launch_bounds__(kThreads) KERNEL({declared}) {{'
        return "\n".join([
            ROW, text.functions([self.group]),
            *textwrap.wrap(self._title(), 116, initial_indent="// ", subsequent_indent="// "),
            f"using Index = {self.index};",
            f"constexpr int kThreads = {block}, kPack = {self.pack};  // of a block; elements of an access",
            f"constexpr int kSize = {self.held};  // elements of a row that a thread holds",
            *self._found(),
            *[line.replace("~", " ") for line in textwrap.wrap(head, 100, subsequent_indent="    ")], HEAD,
            *[line if line.startswith("#") else "    " + line for line in body],
            "  }", "}"]) + "\n"  # fmt: skip

    def _title(self) -> str:
        g = self.group
        ins = ", ".join(f"{o.dtype} ({_lies(g, o)})" for o in g.inputs)
        outs = ", ".join(f"{r.dtype} ({'rows' if g.of_elements(r) else 'one a row'})" for r in g.outputs)
        return f"{', '.join(g.rows)}: {ins} -> {outs}"

    def _found(self) -> list[str]:
        """A type for what a walk finds out, where that is several numbers."""
        lines = []
        for p, walk in enumerate(self.phases.walks):
            if len(walk.folds) > 1:
                members = " ".join(f"{text.ctype(self.group.fold(k).compute)} a{k};" for k in walk.folds)
                lines.append(f"struct Found{p} {{ {members} }};")
        return lines

    def _begin(self) -> list[str]:
        """Where the row is in every operand; what is one number of it; what is held."""
        g, lines = self.group, []
        axes = {d for o in g.inputs for d, s in enumerate(o.outer) if s}
        extent = [
            "",
            *(self._argument(f"m{d}", g.outer[d]) if len(g.outer) > 1 else "" for d in range(1, len(g.outer))),
        ]
        lines += text.index_lines("row", extent, axes, "Index") if len(g.outer) > 1 else []
        for k, o in enumerate(g.inputs):
            place = self._place(k, o)
            if o.varies:
                lines.append(f"const {text.ctype(o.dtype)}* r{k} = p{k}{place};")
            else:
                lines.append(f"const {text.ctype(o.dtype)} x{k} = {f'p{k}[{place[3:]}]' if place else f'*p{k}'};")
        for k, r in enumerate(g.outputs):
            if g.of_elements(r):
                lines.append(f"{text.ctype(r.dtype)}* s{k} = q{k} + row * n;")
        for k, o in enumerate(g.inputs):
            if o.varies and not o.shared and self.phases.reads(k):
                lines += self._hold(k, o)
        kept = sorted(self.phases.kept)
        return lines + [f"{text.ctype(g.steps[k].dtype)} u{k}[kSize];  // kept from walk to walk" for k in kept]

    def _place(self, k: int, o: RowOperand) -> str:
        """`` + row * p0_0``: where the row begins; nothing for a vector."""
        parts = []
        for d, s in enumerate(o.outer):
            if s:
                at = f"i{d}" if len(o.outer) > 1 else "row"
                parts.append(f"{at} * {self._argument(f'p{k}_{d}', s)}")
        return "".join(f" + {p}" for p in parts)

    def _along(self, k: int, o: RowOperand, element: str = "k") -> str:
        """Where an element of a row is in an operand whose elements are no neighbours."""
        g, parts = self.group, []
        for d, s in enumerate(o.inner):
            if s:
                below = [f"e{j}" for j in range(d + 1, len(g.inner))]
                at = f"{element} / ({' * '.join(below)})" if below else element
                at = f"{at} % e{d}" if d else at
                parts.append(f"{at} * {self._argument(f'p{k}_e{d}', s)}")
        for d in range(1, len(g.inner)):
            self._argument(f"e{d}", g.inner[d])
        return " + ".join(parts)

    def _hold(self, k: int, o: RowOperand) -> list[str]:
        """Reads the thread's part of a row."""
        kind = text.ctype(o.dtype)
        lines = [f"{kind} v{k}[kSize];"]
        if self.group.runs(o):
            return [*lines, f"hold<kPack>(v{k}, r{k}, width, to<{kind}>(0));"]
        return [*lines, "#pragma unroll", "for (int i = 0; i < kSize; ++i) {",
                "  const Index k = position<kPack>(i);",
                f"  if (k < width) v{k}[i] = r{k}[{self._along(k, o)}];", "}"]  # fmt: skip

    def _phases(self) -> list[str]:
        """The walks, each with what is found out before it."""
        lines: list[str] = []
        for p, walk in enumerate(self.phases.walks):
            lines += self._of_row(walk.first, p)
            lines += self._walk(p, walk)
        return lines + self._of_row(self.phases.tail, len(self.phases.walks))

    def _of_row(self, steps: Sequence[int], p: int) -> list[str]:
        """Results of reductions of the walk before phase ``p``, and steps on those: one number for the row each."""
        lines = []
        for k in steps:
            s = self.group.steps[k]
            if isinstance(s, Step):
                lines.append(f"const {text.ctype(s.dtype)} t{k} = {text.step(s)};")
                continue
            acc = f"found{p - 1}.a{k}" if len(self.phases.walks[p - 1].folds) > 1 else f"a{k}"
            finished = f"{c_name(s.row)}::finish<{text.ctype(s.compute)}>({acc}, to<{text.ctype(s.compute)}>(n))"
            lines.append(f"const {text.ctype(s.dtype)} t{k} = to<{text.ctype(s.dtype)}>({finished});")
        return lines

    def _walk(self, p: int, walk: Phase) -> list[str]:
        """Along what the thread holds of the row, pack by pack."""
        if not (walk.folds or walk.stores or walk.keeps):
            return []
        g = self.group
        folds = [(k, self.group.fold(k)) for k in walk.folds]
        lines = [f"{text.ctype(s.compute)} a{k} = {c_name(s.row)}::init<{text.ctype(s.compute)}>();" for k, s in folds]
        lines += ["#pragma unroll", f"for (int i = 0; i < kSize; i += kPack) {{  // walk {p}",
                  "  const int k = position<kPack>(i);", "  if (k < width) {"]  # fmt: skip
        vectors = [k for k in walk.operands if g.inputs[k].shared and g.runs(g.inputs[k])]
        lines += [f"    const auto w{k} = load<kPack>(r{k} + k, is_aligned<kPack>(r{k} + k));" for k in vectors]
        lines += [f"    Pack<{text.ctype(g.outputs[k].dtype)}, kPack> y{k};" for k in walk.stores]
        lines += ["#pragma unroll", "    for (int j = 0; j < kPack; ++j) {"]
        lines += ["      " + line for line in self._element(p, walk)]
        lines += ["    }"]
        lines += [f"    store(s{k} + k, y{k}, is_aligned<kPack>(s{k} + k));" for k in walk.stores]
        return [*lines, "  }", "}", *self._totals(p, folds)]

    def _element(self, p: int, walk: Phase) -> list[str]:
        """Element ``i + j`` of what the thread holds."""
        g, lines = self.group, []
        for k in walk.operands:
            o = g.inputs[k]
            if not o.shared:
                value = f"v{k}[i + j]"
            elif g.runs(o):
                value = f"w{k}.at[j]"
            else:
                value = f"r{k}[{self._along(k, o, '(k + j)')}]"
            lines.append(f"const {text.ctype(o.dtype)} x{k} = {value};")
        lines += [f"const {text.ctype(g.steps[k].dtype)} t{k} = u{k}[i + j];" for k in self.phases.read(p)]
        for k in walk.steps:
            s = g.steps[k]
            assert isinstance(s, Step)
            lines.append(f"const {text.ctype(s.dtype)} t{k} = {text.step(s)};")
        lines += [f"u{k}[i + j] = t{k};" for k in walk.keeps]
        for k in walk.folds:
            s = self.group.fold(k)
            kind = text.ctype(s.compute)
            lines.append(f"a{k} = {c_name(s.row)}::step<{kind}>(a{k}, {text.value(s.arg, s.compute)});")
        return lines + [f"y{k}.at[j] = {g.outputs[k].kind}{g.outputs[k].number};" for k in walk.stores]

    def _totals(self, p: int, folds: list[tuple[int, Reduction]]) -> list[str]:
        """What the threads of the row have, joined for all of them."""

        def combined(k: int, s: Reduction, a: str, b: str) -> str:
            return f"{c_name(s.row)}::combine<{text.ctype(s.compute)}>({a}, {b})"

        if not folds:
            return []
        if len(folds) == 1:
            ((k, s),) = folds
            kind = text.ctype(s.compute)
            return [
                f"a{k} = over_row<kThreads>(a{k}, []({kind} a, {kind} b) {{ return {combined(k, s, 'a', 'b')}; }});"
            ]
        start, found = ", ".join(f"a{k}" for k, _ in folds), f"Found{p}"
        joined = ", ".join(combined(k, s, f"a.a{k}", f"b.a{k}") for k, s in folds)
        return [f"const auto found{p} = over_row<kThreads>({found}{{{start}}}, []({found} a, {found} b) {{",
                *textwrap.wrap(f"return {found}{{{joined}}};", 108, initial_indent="  ", subsequent_indent="      "),
                "});"]  # fmt: skip

    def _end(self) -> list[str]:
        """Outputs of the row."""
        g = self.group
        stores = [f"  q{k}[row] = t{r.number};" for k, r in enumerate(g.outputs) if not g.of_elements(r)]
        return ["if (mine && threadIdx.x == 0) {", *stores, "}"] if stores else []

    # ---- launch -----------------------------------------------------------------------------------------------------

    def recipe(self) -> Recipe:
        """The one launch."""
        g = self.group
        if g.size == 0:
            return Recipe(())
        if self.held > MOST_HELD:
            raise NotSupported("rows", "rows that registers hold", f"{g.n} elements", "Ask minimx.rtc.rows.takes")
        code = recipe.code("rows", self.source())
        if 8 * len(self.parameters) > PARAMETER_BYTES:
            got = 8 * len(self.parameters)
            raise NotSupported("rows", f"{PARAMETER_BYTES} bytes of kernel arguments", got, "Fuse fewer operators")
        x = self.threads
        y = min(max(1, THREADS // x), max(power_of_two(g.items), 32 // x))
        args = tuple(a for _, _, a in self.parameters)
        return Recipe((Launch(code, (blocks_for(g.items, y), 1, 1), (x, y, 1), args),))


def _lies(g: RowGroup, o: RowOperand) -> str:
    """How an operand lies, for people."""
    if not o.varies:
        return "one a row"
    return "vector" if o.shared else "rows" if g.runs(o) else "strided"
