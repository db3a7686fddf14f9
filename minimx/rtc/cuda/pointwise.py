"""Pointwise kernels: elementwise operators, casts of any strides, and fused groups, all written by one ``Walk``.

A thread takes ``count`` neighbouring elements of the output at a time, a pack, so that contiguous operands move in
accesses of 16 bytes; where a pointer is not aligned the same kernel walks one by one. Extents and strides are
arguments: one kernel, many shapes. The twin of ../emit_host.py; transposed copies: copy.py.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import NotSupported
from ...ops.dtypes import BY_NAME
from ...ops.table import OPS, Spec
from .. import text
from ..group import Group, Operand, Ref, Step, broadcast_strides, c_strides, collapse, compute_type
from . import recipe
from .recipe import Factory, Launch, Recipe, Value, blocks_for

THREADS = 256  # of a block
BLOCKS = 1 << 16  # at most; beyond that threads take several packs
PARAMETER_BYTES = 4096  # what a kernel takes on every driver
SMALL = 1 << 30  # elements, and reach of a stride, that are counted in 32 bits


def magic(divisor: int) -> int:
    """What prelude.h's ``divide`` needs: a multiplier in the low 32 bits and a shift above (Granlund and Montgomery,
    Division by invariant integers using multiplication, 1994).
    """
    shift = (divisor - 1).bit_length()
    return shift << 32 | ((1 << 32) * ((1 << shift) - divisor) // divisor + 1)


def ordered(shape: Sequence[int], strides: Sequence[Sequence[int]], lead: Sequence[int]) -> tuple[tuple, list[tuple]]:
    """The axes in the order in which ``lead``, the strides of one operand, lies in memory; the last is innermost."""
    order = sorted(range(len(shape)), key=lambda d: -abs(lead[d]))
    return tuple(shape[d] for d in order), [tuple(s[d] for d in order) for s in strides]


def index_type(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> str:
    """``int`` where elements, offsets and a step over the grid fit; else ``int64_t``."""
    reach = [sum(abs(s) * (n - 1) for s, n in zip(own, shape, strict=True)) for own in strides]
    return "int" if max(math.prod(shape), *reach) <= SMALL else "int64_t"


@dataclass(frozen=True)
class Lane:
    """An operand or output as the text knows it. how a pack of it is reached:

    "value": passed by value; "same": one element for all, read once; "whole": lies as the elements are counted, a pack
    is one access; "row": a pack is one access within a row; "run": a pack is a strided run; "each": one by one.
    """

    name: str
    operand: Operand
    how: str
    strides: tuple[str, ...]  # as the text names them

    @property
    def type(self) -> str:
        """Its C++ type."""
        return text.ctype(self.operand.dtype)

    @property
    def place(self) -> str:
        """Its offset at (i0, i1, ...)."""
        return text.offset(self.operand, len(self.strides), list(self.strides))


class Walk:
    """A pointwise kernel to be: a Group, how its operands and outputs lie, and which packs a thread takes.

    stores: the outputs' strides where they are not C-contiguous. values: numbers of the group's operands that are
    scalars of the host.
    """

    def __init__(self, group: Group, stores: Sequence[Operand] = (), values: Sequence[int] = ()) -> None:
        self.group, self.shape = group, group.shape
        outs = list(stores) or [
            Operand(r.dtype, c_strides(group.shape), group.arrays + k) for k, r in enumerate(group.outputs)
        ]
        self.elements = math.prod(self.shape)
        self.index = index_type(self.shape, [o.strides for o in (*group.inputs, *outs)])
        # As many elements as make 16 bytes of the smallest type, but no more than 32 bytes of the largest.
        packed = [o for o in (*group.inputs, *outs) if o.strides[-1] == 1]
        sizes = [BY_NAME[o.dtype].size for o in packed] or [16]
        self.count = min(16 // min(sizes), max(1, 32 // max(sizes)))
        self.flat = len(self.shape) == 1
        self.in_rows = self.flat or self.shape[-1] % self.count == 0  # a pack stays within a row
        self.loads = [self._lane(f"p{k}", o, k in values) for k, o in enumerate(group.inputs)]
        self.stores = [self._lane(f"q{k}", o, False) for k, o in enumerate(outs)]
        self.lanes = [*self.loads, *self.stores]
        if not self._wide():
            self.count = 1

    def _lane(self, name: str, o: Operand, value: bool) -> Lane:
        last, whole = o.strides[-1], o.strides == c_strides(self.shape)
        if value:
            how = "value"
        elif whole:
            how = "whole"
        elif not any(o.strides):
            how = "same"
        elif not self.in_rows:
            how = "each"
        else:
            how = "row" if last == 1 and all(s % self.count == 0 for s in o.strides[:-1]) else "run"
        axes = len(self.shape)
        names = tuple("1" if d == axes - 1 and s == 1 else f"{name}_{d}" for d, s in enumerate(o.strides))
        return Lane(name, o, how, names)

    def _wide(self) -> list[Lane]:
        """Those that are read or written in packs."""
        return [x for x in self.lanes if x.how in ("whole", "row")]

    # ---- arguments --------------------------------------------------------------------------------------------------

    def arguments(self) -> list[tuple[str, str, recipe.Argument]]:
        """(type, name, argument) of each parameter: operands, outputs, elements, extents, strides."""
        out: list[tuple[str, str, recipe.Argument]] = []
        for x in self.lanes:
            pointer = "" if x.how == "value" else "*"
            const = "const " if x in self.loads and pointer else ""
            name = x.name.replace("p", "x") if x.how == "value" else x.name
            out.append((f"{const}{x.type}{pointer}", name, recipe.Operand(x.operand.slot)))
        kind = "int32" if self.index == "int" else "int64"
        out.append((self.index, "n", Value(self.elements, kind)))
        for d in range(max(self._first_axis(), 1), len(self.shape)):
            out.append((self.index, f"n{d}", Value(self.shape[d], kind)))
            if self.index == "int":
                out.append(("int64_t", f"m{d}", Value(magic(self.shape[d]))))
        for x in self._placed():
            for d in text.varying(x.operand, len(self.shape)):
                if x.strides[d] != "1":
                    out.append((self.index, x.strides[d], Value(x.operand.strides[d], kind)))
        return out

    def _placed(self) -> list[Lane]:
        """Those whose place is worked out from the indices."""
        return [x for x in self.lanes if x.how in ("row", "run", "each")]

    def _first_axis(self) -> int:
        """The first axis whose index somebody needs; all if none."""
        used = {d for x in self._placed() for d in text.varying(x.operand, len(self.shape))}
        return min(used, default=len(self.shape))

    # ---- text -------------------------------------------------------------------------------------------------------

    def source(self) -> str:
        """The rows' functions and the kernel."""
        return text.functions([self.group]) + "\n" + self.kernel()

    def kernel(self) -> str:
        """The kernel: a loop over packs, the steps on each element."""
        parameters = ", ".join(f"{t} {name}" for t, name, _ in self.arguments())
        head = f'extern "C" __global__ void __launch_bounds__({THREADS}) KERNEL('
        types = ", ".join(f"{x.operand.dtype} ({x.how})" for x in self.loads)
        results = ", ".join(f"{x.operand.dtype} ({x.how})" for x in self.stores)
        lines = [f"// {', '.join(self.group.rows)}: {types} -> {results}",
                 *textwrap.wrap(f"{head}{parameters}) {{", 116, subsequent_indent="    ")]  # fmt: skip
        lines += [f"  const {x.type} x{x.name[1:]} = *{x.name};" for x in self.loads if x.how == "same"]
        lines += [f"  const auto walk = [&](auto pack, {self.index} begin, {self.index} end) {{",
                  "    constexpr int kCount = decltype(pack)::value;",
                  f"    const {self.index} thread = {self.index}(blockIdx.x) * blockDim.x + threadIdx.x;",
                  f"    const {self.index} step = {self.index}(gridDim.x) * blockDim.x * kCount;",
                  f"    for ({self.index} at = begin + thread * kCount; at < end; at += step) {{"]  # fmt: skip
        lines += [line if line.startswith("#") else "      " + line for line in self._pack()]
        return "\n".join([*lines, "    }", "  };", *self._calls(), "}"]) + "\n"

    def _calls(self, begin: str = "0") -> list[str]:
        """From ``begin`` to n: packs where all that is read or written in packs is aligned, then what is left over one
        by one.
        """
        count = self.count
        if count == 1:
            return [f"  walk(Count<1>(), {begin}, n);"]
        pointers = " | ".join(f"size_t({x.name})" for x in self._wide())
        end = f"n / {count} * {count}" if begin == "0" else f"{begin} + (n - {begin}) / {count} * {count}"
        return [f"  const bool aligned = (({pointers}) & 15) == 0;",
                f"  const {self.index} wide = aligned ? {end} : {begin};",
                f"  walk(Count<{count}>(), {begin}, wide);",
                "  walk(Count<1>(), wide, n);"]  # fmt: skip

    def _pack(self) -> list[str]:
        """The body of the loop: a pack of every operand, the steps, a pack of every output."""
        lines = self._indices("at") if self.in_rows else []
        for x in self.loads:
            if x.how in ("whole", "row"):
                lines.append(f"const auto v{x.name[1:]} = load<kCount>({x.name} + {self._at(x)});")
            elif x.how == "run" and x.operand.strides[-1] == 0:
                lines.append(f"const {x.type} x{x.name[1:]} = {x.name}[{x.place}];")
            elif x.how == "run":
                lines.append(f"const {x.type}* v{x.name[1:]} = {x.name} + {x.place};")
        lines += [f"Pack<{x.type}, kCount> y{x.name[1:]};" for x in self.stores if x.how in ("whole", "row")]
        lines += [f"{x.type}* y{x.name[1:]} = {x.name} + {x.place};" for x in self.stores if x.how == "run"]
        lines += ["#pragma unroll", "for (int j = 0; j < kCount; ++j) {", *self._element(), "}"]
        for x in self.stores:
            if x.how in ("whole", "row"):
                lines.append(f"store({x.name} + {self._at(x)}, y{x.name[1:]});")
        return lines

    def _element(self) -> list[str]:
        """The body of the inner loop: element ``at + j``."""
        lines = [] if self.in_rows else ["  " + line for line in self._indices("at + j")]
        for x in self.loads:
            k, last = x.name[1:], x.strides[-1]
            if x.how in ("whole", "row"):
                lines.append(f"  const {x.type} x{k} = v{k}.at[j];")
            elif x.how == "run" and x.operand.strides[-1] != 0:
                lines.append(f"  const {x.type} x{k} = v{k}[j * {last}];")
            elif x.how == "each":
                lines.append(f"  const {x.type} x{k} = {x.name}[{x.place}];")
        lines += text.steps(self.group, "  ")
        for x, r in zip(self.stores, self.group.outputs, strict=True):
            to = {"run": f"y{x.name[1:]}[j * {x.strides[-1]}]", "each": f"{x.name}[{x.place}]"}
            lines.append(f"  {to.get(x.how, f'y{x.name[1:]}.at[j]')} = {r.kind}{r.number};")
        return lines

    def _at(self, x: Lane) -> str:
        return "at" if x.how == "whole" else x.place

    def _indices(self, at: str) -> list[str]:
        """``i2``, ``i1``, ...: the place of element ``at`` along each axis that somebody needs, innermost first."""
        first, axes, lines = self._first_axis(), len(self.shape), []
        for d in range(axes - 1, max(first, 1) - 1, -1):
            quotient = f"divide({at}, m{d})" if self.index == "int" else f"({at}) / n{d}"
            lines.append(f"const {self.index} r{d} = {quotient}, i{d} = {at} - r{d} * n{d};")
            at = f"r{d}"
        return [*lines, f"const {self.index} i0 = {at};"] if first == 0 else lines

    # ---- launch -----------------------------------------------------------------------------------------------------

    def recipe(self, name: str) -> Recipe:
        """The one launch. Raises NotSupported where the arguments are more than a kernel takes."""
        if self.elements == 0:
            return Recipe(())
        arguments = self.arguments()
        if 8 * len(arguments) > PARAMETER_BYTES:
            raise NotSupported(
                name, f"{PARAMETER_BYTES} bytes of kernel arguments", 8 * len(arguments), "Fuse fewer operators"
            )
        blocks = blocks_for(self.elements, THREADS * self.count, BLOCKS)
        code = recipe.code(name, self.source())
        return Recipe((Launch(code, (blocks, 1, 1), (THREADS, 1, 1), tuple(a for _, _, a in arguments)),))


# ---- factories ------------------------------------------------------------------------------------------------------


def elemwise(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """One row of the table. attrs: ``loop``, the row's name; ``dtype``, the type that it stands for (16-bit floats are
    computed in float32). Operands and output of any types and strides; scalars (``weak``) come by value.
    """
    row, out = OPS[attrs["loop"]], outs[0]
    walked, operands, stores = space(ins, out)
    args = tuple(Ref("x", k, s.dtype) for k, s in enumerate(ins))
    steps = (Step(row.name, compute_type(attrs["dtype"]), args, out.dtype),)
    group = Group(walked, operands, steps, (Ref("t", 0, out.dtype),), len(ins))
    return Walk(group, stores, [k for k, s in enumerate(ins) if s.weak]).recipe(row.name.replace(".", "_"))


def copy(ins: Sequence[Spec], outs: Sequence[Spec]) -> Recipe:
    """The elements of the one operand, converted to the output's type; any strides on both sides."""
    (x,), out = ins, outs[0]
    walked, operands, stores = space(ins, out)
    steps = () if x.dtype == out.dtype else (Step("", out.dtype, (Ref("x", 0, x.dtype),), out.dtype),)
    last = Ref("t", 0, out.dtype) if steps else Ref("x", 0, x.dtype)
    return Walk(Group(walked, operands, steps, (last,), 1), stores).recipe("cast" if steps else "copy")


def fused(group: Group, ins: Sequence[Spec] = (), outs: Sequence[Spec] = ()) -> Recipe:
    """A fused group of a graph (minimx/rtc/group.py), whose outputs are C-contiguous; data: its arrays, its outputs.

    Raises NotSupported beyond 4 KB of arguments; the pass (MAX_OPERANDS in graph/passes/fusion.py) stays far below.
    """
    return Walk(group).recipe("fused")


def space(ins: Sequence[Spec], out: Spec) -> tuple[tuple[int, ...], tuple[Operand, ...], tuple[Operand, ...]]:
    """The iteration space of operands that broadcast to ``out``: extents, operands, the output.

    Axes are ordered as ``out`` lies in memory, and merged where all allow it.
    """
    strides = [broadcast_strides(s.shape, s.strides or c_strides(s.shape), out.shape) for s in ins]
    lead = out.strides or c_strides(out.shape)
    shape, strides = ordered(out.shape, [*strides, lead], lead)
    shape, strides = collapse(shape, strides)
    lying = [Operand(s.dtype, own, k) for k, (s, own) in enumerate(zip((*ins, out), strides, strict=True))]
    return shape, tuple(lying[:-1]), (lying[-1],)


FACTORIES: dict[str, Factory] = {"elemwise": elemwise}
