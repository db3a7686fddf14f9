"""Host dialect of "fold" groups (folds.py): a C++ function over a range of results, for the machine's compiler.

Where results lie side by side in memory, the inner loop runs along a tile of them, an accumulator for each; where the
elements of one result do, along those, dealt to kLanes accumulators. Both are plain enough for the compiler to
vectorise. After every kLeaf rounds the accumulators are emptied into others, and those now and then into third ones,
so that the errors of long sums stay small. The twin on the GPU: cuda/fused_fold.py.
"""

from __future__ import annotations

import math

from ..ops.dtypes import BY_NAME
from . import text
from .folds import NEIGHBOURS, FoldGroup
from .group import Operand, Ref

TILE = 512  # neighbouring results that are taken at once
LANE_BYTES = 256  # of the accumulators of one result
LEAF = 64  # elements that one accumulator takes before it is emptied
MOST_LEVELS = 3  # of accumulators


def body(g: FoldGroup) -> list[str]:
    """The body of the function of one group (emit_host.py has its head)."""
    return _Loops(g).body()


class _Loops:
    """A function over results to be. Axes are in the order of memory; positions along axis d are ``i<d>``."""

    def __init__(self, group: FoldGroup) -> None:
        self.group = group
        order = [d for d in group.order() if group.shape[d] != 1]
        self.kept = [d for d in order if not group.folded[d]]
        self.folded = [d for d in order if group.folded[d]]
        self.is_rows = group.is_rows()
        inner = self.folded if self.is_rows else self.kept
        self.run = inner.pop() if inner else None  # the axis of the inner loop
        self.extent = group.shape[self.run] if self.run is not None else 1
        self.width = TILE
        if self.is_rows:
            widest = max(4, *(BY_NAME[f.compute].size for f in group.folds))
            self.width = min(LANE_BYTES // widest, 1 << max(0, self.extent.bit_length() - 2))
        rounds = math.prod(group.shape[d] for d in self.folded)
        rounds *= -(-self.extent // self.width) if self.is_rows else 1
        self.levels = 1 if rounds <= LEAF else 2 if rounds <= LEAF * LEAF else MOST_LEVELS
        self.lines: list[str] = []
        self.depth = 1

    # ---- the whole --------------------------------------------------------------------------------------------------

    def body(self) -> list[str]:
        """Its lines."""
        g = self.group
        self.put(f"constexpr int64_t kWidth = {self.width};")
        for k, f in enumerate(g.folds):
            self.put(f"alignas(64) {text.ctype(f.compute)} a{k}[{self.levels}][kWidth];  // of {f.row}")
        if self.is_rows:
            self.rows()
        else:
            self.columns()
        return self.lines

    def put(self, *lines: str) -> None:
        """Appends lines at the present depth."""
        self.lines += [line if line.startswith("#") else "  " * self.depth + line for line in lines]

    def open(self, line: str) -> None:
        """A line that opens a block."""
        self.put(line + " {")
        self.depth += 1

    def close(self) -> None:
        """The end of a block."""
        self.depth -= 1
        self.put("}")

    # ---- walks ------------------------------------------------------------------------------------------------------

    def rows(self) -> None:
        """Each result in turn; the inner loop runs along its elements."""
        self.open("for (int64_t r = begin; r < end; ++r)")
        self.indices("r", self.kept)
        self.start("kWidth")
        self.put(*["int64_t round = 0;"][: self.levels - 1])
        for d in self.folded:
            self.open(f"for (int64_t i{d} = 0; i{d} < {self.group.shape[d]}; ++i{d})")
        n = self.extent
        self.pointers()
        self.open("const auto take = [&](int64_t i, int64_t lane)")
        self.element("lane")
        self.depth -= 1
        self.put("};")
        self.put("int64_t i = 0;")
        self.open(f"for (; i + kWidth <= {n}; i += kWidth)")
        self.put("#pragma GCC ivdep", "for (int64_t lane = 0; lane < kWidth; ++lane) take(i + lane, lane);")
        self.empty("kWidth")
        self.close()
        self.open(f"if (i < {n})")
        self.put("#pragma GCC ivdep", f"for (int64_t lane = 0; lane < {n} - i; ++lane) take(i + lane, lane);")
        self.empty("kWidth")
        self.close()
        for _ in self.folded:
            self.close()
        self.join("kWidth")
        self.open("for (int64_t half = kWidth / 2; half > 0; half /= 2)")
        self.open("for (int64_t i = 0; i < half; ++i)")
        for k, _ in enumerate(self.group.folds):
            self.put(f"a{k}[0][i] = {self.call(k, 'combine')}(a{k}[0][i], a{k}[0][i + half]);")
        self.close()
        self.close()
        self.finish("0", {})
        self.close()

    def columns(self) -> None:
        """A tile of neighbouring results in turn; the inner loop runs along the tile, once for each element."""
        self.put(f"begin *= {NEIGHBOURS}, end = std::min<int64_t>(end * {NEIGHBOURS}, {self.group.results});")
        self.open("for (int64_t r = begin; r < end;)")
        axes = self.kept + ([self.run] if self.run is not None else [])
        self.indices("r", axes)
        first = f"i{self.run}" if self.run is not None else "0"
        self.put(f"const int64_t width = std::min({{kWidth, {self.extent} - {first}, end - r}});")
        self.start("width")
        self.put(*["int64_t round = 0;"][: self.levels - 1])
        for d in self.folded:
            self.open(f"for (int64_t i{d} = 0; i{d} < {self.group.shape[d]}; ++i{d})")
        self.pointers()
        self.put("#pragma GCC ivdep")
        self.open("for (int64_t i = 0; i < width; ++i)")
        self.element("i")
        self.close()
        self.empty("width")
        for _ in self.folded:
            self.close()
        self.join("width")
        late = self.late()
        for name, strides in late.items():
            self.put(f"auto* s{name} = {name}{self.offset(strides, [*self.kept, self.run])};")
        self.put("#pragma GCC ivdep")
        self.open("for (int64_t i = 0; i < width; ++i)")
        self.finish("i", late)
        self.close()
        self.put("r += width;")
        self.close()

    def indices(self, at: str, axes: list[int]) -> None:
        """``const int64_t i3 = r / 64 % 7;``: where result ``at`` is along the axes."""
        below = 1
        lines = []
        for d in reversed(axes):
            place = at if below == 1 else f"{at} / {below}"
            lines.append(f"const int64_t i{d} = {place}{'' if d == axes[0] else f' % {self.group.shape[d]}'};")
            below *= self.group.shape[d]
        self.put(*reversed(lines))

    def offset(self, strides: tuple[int, ...], axes: list[int | None]) -> str:
        """`` + i0 * 64 + i1``, or nothing."""
        parts = [(d, strides[d]) for d in axes if d is not None and strides[d]]
        return "".join(f" + i{d}" if s == 1 else f" + i{d} * {s}" for d, s in parts)

    def pointers(self) -> None:
        """Where the run of every operand begins, and what is the same along it."""
        g = self.group
        outer: list[int | None] = [*self.kept, *self.folded, *([] if self.is_rows else [self.run])]
        for k in g.read_by((*g.prologue, *g.folds)):
            o = g.inputs[k]
            place = f"p{k}{self.offset(o.strides, outer)}"
            if self.step(o.strides):
                self.put(f"const auto* v{k} = {place};")
            else:
                self.put(f"const {text.ctype(o.dtype)} x{k} = *({place});")
        for k, r in enumerate(g.outputs):
            if g.stored(r):
                self.put(f"auto* s{k} = q{k}{self.offset(g.out_strides(r), outer)};")

    def step(self, strides: tuple[int, ...]) -> int:
        """How far apart neighbours of the inner loop are."""
        return strides[self.run] if self.run is not None else 0

    def at(self, strides: tuple[int, ...]) -> str:
        """Where element i of a run is."""
        step = self.step(strides)
        return "0" if step == 0 else "i" if step == 1 else f"i * {step}"

    # ---- elements and accumulators ----------------------------------------------------------------------------------

    def element(self, lane: str) -> None:
        """Element i: the prologue, what is stored, one step of each reduction."""
        g = self.group
        for k in g.read_by((*g.prologue, *g.folds)):
            o: Operand = g.inputs[k]
            if self.step(o.strides):
                self.put(f"const {text.ctype(o.dtype)} x{k} = v{k}[{self.at(o.strides)}];")
        self.steps("prologue")
        for k, r in enumerate(g.outputs):
            if g.stored(r):
                self.put(text.assigned(f"s{k}[{self.at(g.out_strides(r))}]", _name(r), r.dtype))
        for k, f in enumerate(g.folds):
            self.put(f"a{k}[0][{lane}] = {self.call(k, 'step')}(a{k}[0][{lane}], {text.value(f.arg, f.compute)});")

    def steps(self, part: str) -> None:
        """Lines of steps."""
        first = len(self.group.prologue) if part == "epilogue" else 0
        for i, s in enumerate(getattr(self.group, part), first):
            self.put(f"const {text.ctype(s.dtype)} t{i} = {text.step(s)};")

    def call(self, k: int, function: str) -> str:
        """``sum_::step<float>``."""
        f = self.group.folds[k]
        return f"{f.row}_::{function}<{text.ctype(f.compute)}>"

    def start(self, width: str) -> None:
        """Accumulators of nothing."""
        for k, _ in enumerate(self.group.folds):
            self.put(f"for (auto& level : a{k}) std::fill_n(level, {width}, {self.call(k, 'init')}());")

    def empty(self, width: str) -> None:
        """The end of a round: full accumulators are taken into those of the next level."""
        if self.levels == 1:
            return
        self.open(f"if (++round % {LEAF} == 0)")
        full = f"round % {LEAF * LEAF} == 0 ? 2 : 1" if self.levels > 2 else "1"
        for k, _ in enumerate(self.group.folds):
            self.open(f"for (int64_t level = 0; level < ({full}); ++level)")
            self.merge(k, "level + 1", "level", width)
            self.put(f"std::fill_n(a{k}[level], {width}, {self.call(k, 'init')}());")
            self.close()
        self.close()

    def join(self, width: str) -> None:
        """All levels into the first."""
        for k in range(len(self.group.folds) if self.levels > 1 else 0):
            self.open(f"for (int64_t level = 1; level < {self.levels}; ++level)")
            self.merge(k, "0", "level", width)
            self.close()

    def merge(self, k: int, into: str, level: str, width: str) -> None:
        """One level into another."""
        merged = f"{self.call(k, 'combine')}(a{k}[{into}][i], a{k}[{level}][i])"
        self.put("#pragma GCC ivdep", f"for (int64_t i = 0; i < {width}; ++i) a{k}[{into}][i] = {merged};")

    # ---- results ----------------------------------------------------------------------------------------------------

    def late(self) -> dict[str, tuple[int, ...]]:
        """Operands of the epilogue and outputs with a value for each result, and their strides."""
        g = self.group
        read = {f"p{k}": g.inputs[k].strides for k in g.read_by(g.epilogue, *g.outputs)}
        return read | {f"q{k}": g.out_strides(r) for k, r in enumerate(g.outputs) if not g.stored(r)}

    def finish(self, lane: str, runs: dict[str, tuple[int, ...]]) -> None:
        """The result of every reduction, the epilogue, outputs. runs: of columns, by the names of their arrays."""
        g = self.group
        places = {}
        for name, strides in self.late().items():
            whole = self.offset(strides, [*self.kept]).removeprefix(" + ") or "0"
            places[name] = f"s{name}[{self.at(strides)}]" if runs else f"{name}[{whole}]"
        for k in g.read_by(g.epilogue, *g.outputs):
            self.put(f"const {text.ctype(g.inputs[k].dtype)} x{k} = {places[f'p{k}']};")
        for k, f in enumerate(g.folds):
            c, made = text.ctype(f.compute), text.ctype(f.dtype)
            value = f"{self.call(k, 'finish')}(a{k}[0][{lane}], {self.count(c)})"
            self.put(f"const {made} r{k} = {value if made == c else f'to<{made}>({value})'};")
        self.steps("epilogue")
        for k, r in enumerate(g.outputs):
            if not g.stored(r):
                self.put(text.assigned(places[f"q{k}"], _name(r), r.dtype))

    def count(self, c: str) -> str:
        """Elements of a result, in the type of an accumulator."""
        return f"static_cast<{c}>({self.group.each})"


def _name(r: Ref) -> str:
    return f"{r.kind}{r.number}"
