"""How a fold group is walked on a GPU: its axes in the order of memory, how operands and outputs lie along those that
are kept and those that are folded, which packs a thread takes, how the work is cut, and the text that finds places:
structs of offsets, one number for each way in which operands lie. The kernel around it: fused_fold.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.expr import topological
from ...ops.table import OPS
from .. import text
from ..folds import FoldGroup
from ..group import collapse
from .collective import THREADS
from .fold import Cut, columns_cut, rows_cut
from .pointwise import index_type, magic
from .recipe import Argument, Value

MOST_ACCUMULATORS = 32  # of a thread by columns
SHARED_BYTES = 32 << 10  # for their joining
AT_ONCE = 128  # bytes of operands that a thread waits for at a time
HEAVY, HEAVIER = 8, 32  # primitives of an element from which fewer elements are unrolled


DOCS = {
    "Shown": "How far a result moves the operands of its elements, one number for each way in which they lie.",
    "Along": "How far an element moves them.",
    "Into": "Where a result lies in operands of the epilogue and in outputs.",
}


class Lane(NamedTuple):
    """An operand or output: its strides along the kept and along the folded axes, and how a pack of it is reached.

    "pack": one access; "run": one by one, a stride apart; "one": the same for all of them.
    """

    name: str
    dtype: str
    slot: int
    kept: tuple[int, ...]
    folded: tuple[int, ...]
    how: str = "run"

    @property
    def type(self) -> str:
        """Its C++ type."""
        return text.ctype(self.dtype)

    @property
    def once(self) -> bool:
        """True for an operand that is read once a result."""
        return not any(self.folded) and self.name[0] == "p"


class Space(NamedTuple):
    """Extents of one sort of axes, in the order of memory, innermost last. name: "k" of kept axes, "f" of folded."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Positions."""
        return math.prod(self.shape)


class Offsets(NamedTuple):
    """A struct of offsets: one for each way in which lanes lie along the axes of a space."""

    name: str
    space: Space
    patterns: tuple[tuple[int, ...], ...]

    def member(self, strides: tuple[int, ...]) -> str:
        """`` + o.k0``, or nothing for a lane that does not move."""
        return f" + o.{self.space.name}{self.patterns.index(strides)}" if any(strides) else ""

    def struct(self) -> str:
        """Its definition."""
        names = ", ".join(f"{self.space.name}{k}" for k in range(len(self.patterns)))
        return f"/// {DOCS[self.name]}\nstruct {self.name} {{" + (f"\n  Index {names};\n" if names else "") + "};"


class FoldWalk:
    """A fold kernel to be: the axes in the order of memory, how operands lie, how the work is cut."""

    def __init__(self, group: FoldGroup) -> None:
        self.group = group
        order = group.order()
        kept = [d for d in order if not group.folded[d]]
        folded = [d for d in order if group.folded[d]]
        early = group.read_by((*group.prologue, *group.folds))
        late = group.read_by(group.epilogue, *group.outputs)
        named = [(f"p{k}", o.dtype, o.slot, o.strides) for k, o in enumerate(group.inputs)]
        named += [(f"q{k}", r.dtype, group.arrays + k, group.out_strides(r)) for k, r in enumerate(group.outputs)]
        self.kept, along_kept = _space("k", [group.shape[d] for d in kept], [[s[d] for d in kept] for *_, s in named])
        self.folded, along_folded = _space(
            "f", [group.shape[d] for d in folded], [[s[d] for d in folded] for *_, s in named]
        )
        lanes = [Lane(*x[:3], k, f) for x, k, f in zip(named, along_kept, along_folded, strict=True)]
        inputs, outputs = lanes[: len(group.inputs)], lanes[len(group.inputs) :]
        self.is_rows = group.is_rows()
        self.index = index_type((*self.kept.shape, *self.folded.shape), [(*x.kept, *x.folded) for x in lanes])
        loads = [inputs[k] for k in early]
        stores = [x for x, r in zip(outputs, group.outputs, strict=True) if group.stored(r)]
        self.pack = self._pack_of([*loads, *stores])
        self.loads, self.stores = ([self._reached(x) for x in xs] for xs in (loads, stores))
        if not any(x.how == "pack" for x in (*self.loads, *self.stores)):
            self.pack = 1
        self.late = [inputs[k] for k in late]
        self.ends = [(x, r) for x, r in zip(outputs, group.outputs, strict=True) if not group.stored(r)]
        self.at_once = self._at_once()

        near = [*self.loads, *self.stores]
        self.shown = Offsets("Shown", self.kept, _patterns(x.kept for x in near))
        self.along = Offsets("Along", self.folded, _patterns(x.folded for x in near))
        self.into = Offsets("Into", self.kept, _patterns(x.kept for x in (*self.late, *(x for x, _ in self.ends))))
        sizes = (self.kept.size, self.folded.size, self.pack)
        self.cut: Cut = rows_cut(*sizes) if self.is_rows else columns_cut(*sizes)

    # ---- packs ------------------------------------------------------------------------------------------------------

    def _inner(self, x: Lane) -> int:
        """A lane's stride along the axis of which a pack is a piece."""
        return (x.folded if self.is_rows else x.kept)[-1]

    def _pack_of(self, lanes: Sequence[Lane]) -> int:
        """How many neighbours a thread takes: 16 bytes of the smallest type, but no more than 32 of the largest."""
        sizes = [BY_NAME[x.dtype].size for x in lanes if self._inner(x) == 1]
        if not sizes:
            return 1
        pack = min(16 // min(sizes), max(1, 32 // max(sizes)))
        space = self.folded if self.is_rows else self.kept
        if self.is_rows:
            whole = len(space.shape) == 1  # what does not fill a pack is taken one by one
        else:
            whole = False
            while pack > 1 and (pack * len(self.group.folds) > MOST_ACCUMULATORS
                                or pack * THREADS // 2 * self._accumulator_bytes() > SHARED_BYTES):  # fmt: skip
                pack //= 2
        while not whole and space.shape[-1] % pack:
            pack //= 2
        return pack

    def _reached(self, x: Lane) -> Lane:
        inner = self._inner(x)
        others = (*x.folded[:-1],) if self.is_rows else x.folded
        aligned = inner == 1 and all(s % self.pack == 0 for s in others)
        return x._replace(how="one" if inner == 0 else "pack" if aligned else "run")

    def _at_once(self) -> int:
        """Packs of each operand that a thread reads before it uses the first."""
        read = sum(BY_NAME[x.dtype].size * (1 if x.how == "one" else self.pack) for x in self.loads if not x.once)
        rows: list[Any] = [OPS[s.row] for s in self.group.prologue if s.row]
        primitives = sum(bool(x.args) for row in rows for x in topological([row.expr]))
        most = 1 if primitives > HEAVIER else 2 if primitives > HEAVY else 4
        return max(1, min(most, 1 << max(1, AT_ONCE // max(read, 1)).bit_length() - 1))

    def _accumulator_bytes(self) -> int:
        """sizeof(Accumulators): members in order, each aligned to its size."""
        at, widest = 0, 1
        for f in self.group.folds:
            size = BY_NAME[f.compute].size
            at, widest = -(-at // size) * size + size, max(widest, size)
        return -(-at // widest) * widest

    # ---- places ----------------------------------------------------------------------------------------------------

    def numbers(self, structs: Sequence[Offsets]) -> list[tuple[str, str, Argument]]:
        """(type, name, argument) of the extents and strides that these structs are worked out of."""
        kind = "int32" if self.index == "int" else "int64"
        out: dict[str, tuple[str, str, Argument]] = {}
        for s in structs:
            for d, n in enumerate(s.space.shape):
                if d and _first(s.patterns) <= d:
                    out[f"n_{s.space.name}{d}"] = (self.index, f"n_{s.space.name}{d}", Value(n, kind))
                    if self.index == "int":
                        out[f"m_{s.space.name}{d}"] = ("int64_t", f"m_{s.space.name}{d}", Value(magic(max(n, 1))))
            for k, strides in enumerate(s.patterns):
                for d, stride in enumerate(strides):
                    name = _stride(s, k, d)
                    if stride and name != "1":
                        out[name] = (self.index, name, Value(stride, kind))
        return list(out.values())

    def steps_of_runs(self) -> list[tuple[str, str, Argument]]:
        """The strides of runs."""
        kind = "int32" if self.index == "int" else "int64"
        runs = [x for x in (*self.loads, *self.stores) if x.how == "run" and self.pack > 1]
        return [(self.index, f"{x.name}_step", Value(self._inner(x), kind)) for x in runs]

    def place(self, name: str, structs: dict[str, Offsets]) -> str:
        """``struct Place``: methods that give structs of offsets for the number of a result or element."""
        numbers = self.numbers(list(structs.values())) + (self.steps_of_runs() if "along" in structs else [])
        lines = [s.struct() for s in structs.values()] + [f"struct {name} {{"]
        lines += [f"  {t} {n};" for t, n, _ in numbers]
        for method, s in structs.items():
            at = "at" if method == "along" else "r"
            lines += [f"  {s.name} {method}(Index {at}) const {{"]
            lines += [f"    {line}" for line in self._indices(s, at)]
            lines += [f"    return {{{', '.join(_offset(s, k) for k in range(len(s.patterns)))}}};", "  }"]
        return "\n".join([*lines, "};"])

    def _indices(self, s: Offsets, at: str) -> list[str]:
        """``i1``, ``i0``: the place of ``at`` along the axes that somebody needs, innermost first."""
        lines, first, name = [], _first(s.patterns), s.space.name
        for d in range(len(s.space.shape) - 1, max(first, 1) - 1, -1):
            quotient = f"divide({at}, m_{name}{d})" if self.index == "int" else f"{at} / n_{name}{d}"
            lines.append(f"const Index r{d} = {quotient}, i{d} = {at} - r{d} * n_{name}{d};")
            at = f"r{d}"
        return [*lines, f"const Index i0 = {at};"] if first == 0 else lines


# ---- axes -----------------------------------------------------------------------------------------------------------


def _space(name: str, shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[Space, list[tuple[int, ...]]]:
    """Axes of one sort with those merged that all operands run on along, and the operands' strides."""
    if all(n == 1 for n in shape):
        return Space(name, (1,)), [(0,)] * len(strides)
    merged, own = collapse(shape, strides)
    return Space(name, merged), own


def _patterns(strides: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """The different ones that move at all, in order of first use."""
    return tuple(dict.fromkeys(s for s in strides if any(s)))


def _first(patterns: Sequence[tuple[int, ...]]) -> int:
    """The first axis along which any of them moves; a large number if none does."""
    return min((d for p in patterns for d, s in enumerate(p) if s), default=1 << 20)


def _stride(s: Offsets, pattern: int, axis: int) -> str:
    """How the text names a stride: neighbours in memory are written as such."""
    strides = s.patterns[pattern]
    return "1" if axis == len(strides) - 1 and strides[axis] == 1 else f"s_{s.name.lower()}{pattern}_{axis}"


def _offset(s: Offsets, pattern: int) -> str:
    """``i0 * s_shown0_0 + i1``."""
    names = [(d, _stride(s, pattern, d)) for d, stride in enumerate(s.patterns[pattern]) if stride]
    return " + ".join(f"i{d}" if name == "1" else f"i{d} * {name}" for d, name in names)
