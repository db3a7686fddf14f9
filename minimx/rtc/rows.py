"""A RowGroup: the canonical description of steps over the elements of rows, and over what is found out about each row.

A row is all that one reduction takes in: the last axes of the space. Reductions, arithmetic on their results and
arithmetic on elements that reads those may follow each other (softmax: max, exp(x - max), sum, divide), so the work on
a row falls into phases, between which it is kept. It is the Group (group.py) of "rows" nodes; text is written from it
by cuda/fused_rows.py and host_rows.py; what must be kept: Phases, here; what is worth grouping: minimx/graph/passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import GraphError
from ..ops.dtypes import BY_NAME
from ..ops.table import OPS, normal_axes
from .group import (
    Body,
    Member,
    Reduction,
    Ref,
    Step,
    broadcast_strides,
    c_strides,
    collapse,
    reduction_of,
    step_of,
    without_ones,
)

HELD_BYTES = 1 << 17  # of a row on a GPU: what a block of 512 threads has room for in its registers
HELD_BYTES_CPU = 1 << 18  # of a row on the CPU: what stays in the cache of one core


def takes(extent: int, element_arrays: int, dtypes: Collection[str], gpu: bool) -> bool:
    """Is a group whose rows have ``extent`` elements written as one kernel? Ask before grouping.

    element_arrays: how many arrays of a row must be held at a time, at most; the operands that have elements are a good
    estimate. dtypes: of those.
    """
    if extent < 1:
        return False
    size = max((max(4, BY_NAME[d].size) for d in dtypes), default=4)
    return extent * max(1, element_arrays) * size <= (HELD_BYTES if gpu else HELD_BYTES_CPU)


class RowOperand(NamedTuple):
    """How an array lies along the axes that tell rows apart, and along those of a row: strides in elements, 0 where it
    is broadcast. slot: which of the kernel's arrays it is.
    """

    dtype: str
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    slot: int

    @property
    def varies(self) -> bool:
        """True if it has a value for each element; else one for each row."""
        return any(self.inner)

    @property
    def shared(self) -> bool:
        """True if all rows have the same elements: a vector, as gamma and beta of a norm."""
        return self.varies and not any(self.outer)


@dataclass(frozen=True)
class RowGroup:
    """Steps over rows of ``inner`` elements, one row for each place along ``outer`` (both have at least one axis).

    A Ref is "x", an operand, or "t", a step. elementwise: which steps have a result for each element; others have one
    for each row, as reductions do. Outputs are C-contiguous, of elements or of rows. The number of rows along the first
    axis is left out of ``key``.
    """

    form: ClassVar[str] = "rows"
    outer: tuple[int, ...]
    inner: tuple[int, ...]
    inputs: tuple[RowOperand, ...]
    steps: tuple[Step | Reduction, ...]
    elementwise: tuple[bool, ...]
    outputs: tuple[Ref, ...]
    arrays: int

    @property
    def key(self) -> tuple:
        """All that a text may depend on."""
        return (self.form, self.outer[1:], self.inner, self.inputs, self.steps, self.outputs, self.arrays)

    @property
    def items(self) -> int:
        """How many iterations the host's function is split into: rows."""
        return math.prod(self.outer)

    @property
    def n(self) -> int:
        """Elements of a row."""
        return math.prod(self.inner)

    @property
    def size(self) -> int:
        """Elements of the whole space."""
        return self.items * self.n

    @property
    def rows(self) -> list[str]:
        """Names of the operators in order, casts as ``cast``."""
        return [s.row or "cast" for s in self.steps]

    def title(self) -> str:
        """One line for people: ``max, subtract over rows (m, 768): float16, float32[row] -> float16``."""
        ins = ", ".join(o.dtype + self.lies(o) for o in self.inputs)
        outs = ", ".join(r.dtype + ("" if self.of_elements(r) else "[row]") for r in self.outputs)
        space = ", ".join(["m", *map(str, (*self.outer[1:], *self.inner))])
        return f"{', '.join(self.rows)} over rows ({space}): {ins} -> {outs}"

    def lies(self, o: RowOperand) -> str:
        """How an operand lies, for people: nothing for plain rows."""
        if not o.varies:
            return "[row]"
        return ("[vector]" if o.shared else "") + ("" if self.runs(o) else str(list(o.inner)))

    def runs(self, o: RowOperand) -> bool:
        """True if the elements of a row are neighbours in memory."""
        return o.inner == c_strides(self.inner)

    def fold(self, k: int) -> Reduction:
        """Step ``k``, which is a reduction."""
        s = self.steps[k]
        assert isinstance(s, Reduction)
        return s

    def of_elements(self, r: Ref) -> bool:
        """True for a value that each element has, False for one of a row."""
        return self.inputs[r.number].varies if r.kind == "x" else self.elementwise[r.number]


# ---- phases ---------------------------------------------------------------------------------------------------------


class Phase(NamedTuple):
    """One walk along the elements of a row.

    first: reductions and steps of the row to be finished before it; operands: those read, of elements; steps: to be
    done for each element; keeps: those of the steps that later phases read; folds: reductions; stores: outputs.
    """

    first: tuple[int, ...]
    operands: tuple[int, ...]
    steps: tuple[int, ...]
    keeps: tuple[int, ...]
    folds: tuple[int, ...]
    stores: tuple[int, ...]


class Phases:
    """The walks that a RowGroup needs, one more than reductions depend on each other, and what is kept between them.

    A step whose result several phases want is kept where it is dear or joins several arrays, and done again where not:
    x - mean costs less than a second array beside x. late: outputs are stored in the last walk (the CPU reads operands
    anew in each, and an output may lie where an operand does), not as soon as they are known.
    """

    def __init__(self, group: RowGroup, late: bool = False) -> None:
        self.group = group
        self.known: list[int] = []  # by step: the phase before or in which its result is known
        for s in group.steps:
            needed = max((self.known[r.number] for r in _values(s) if r.kind == "t"), default=0)
            self.known.append(needed + isinstance(s, Reduction))
        self.last = max(self.folded(k) if isinstance(s, Reduction) else self.known[k] if group.elementwise[k] else 0
                        for k, s in enumerate(group.steps))  # fmt: skip
        self.wanted: dict[Ref, set[int]] = {}  # by value of elements: the phases that read it
        self.kept: set[int] = set()
        self.store_in = [self.last if late else self.known[r.number] for r in group.outputs]
        self._backwards()
        self.walks = [self._walk(p) for p in range(self.last + 1)]
        self.tail = self._first(self.last + 1)  # steps of the row behind the last walk

    def folded(self, k: int) -> int:
        """The phase in which reduction ``k`` takes in elements."""
        return self.known[k] - 1

    def _backwards(self) -> None:
        """From outputs and reductions to operands: which phases want what, and what is kept."""
        g = self.group
        for r, p in zip(g.outputs, self.store_in, strict=True):
            if g.of_elements(r):
                self._want(r, {p})
        for k in reversed(range(len(g.steps))):
            s = g.steps[k]
            if isinstance(s, Reduction):
                self._want(s.arg, {self.folded(k)})
            elif g.elementwise[k]:
                done = self.wanted.get(Ref("t", k, s.dtype), set())
                if self._keep(k, s, done):
                    self.kept.add(k)
                    done = {self.known[k]}
                for r in _values(s):
                    self._want(r, done)

    def _want(self, r: Ref, phases: set[int]) -> None:
        if self.group.of_elements(r) and phases:
            self.wanted.setdefault(r, set()).update(phases)

    def _keep(self, k: int, s: Step, done: set[int]) -> bool:
        """True if a step's result is kept for the later phases among ``done``."""
        if not any(p > self.known[k] for p in done):
            return False
        sources = {r for r in _values(s) if self.group.of_elements(r) and not self._vector(r)}
        return bool(sources) and (len(sources) > 1 or (len(done) > 1 and _dear(s)))

    def _vector(self, r: Ref) -> bool:
        return r.kind == "x" and self.group.inputs[r.number].shared

    def _first(self, p: int) -> tuple[int, ...]:
        return tuple(k for k, each in enumerate(self.group.elementwise) if not each and self.known[k] == p)

    def _walk(self, p: int) -> Phase:
        """Phase ``p``."""
        g = self.group
        steps = []
        for k, s in enumerate(g.steps):
            done = {self.known[k]} if k in self.kept else self.wanted.get(Ref("t", k, s.dtype), set())
            if g.elementwise[k] and p in done:
                steps.append(k)
        return Phase(
            self._first(p),
            tuple(sorted(r.number for r, ps in self.wanted.items() if r.kind == "x" and p in ps)),
            tuple(steps),
            tuple(k for k in steps if k in self.kept),
            tuple(k for k, s in enumerate(g.steps) if isinstance(s, Reduction) and self.folded(k) == p),
            tuple(i for i, r in enumerate(g.outputs) if g.of_elements(r) and self.store_in[i] == p),
        )

    def reads(self, k: int) -> bool:
        """True if some walk reads operand ``k``."""
        return any(k in walk.operands for walk in self.walks)

    def read(self, p: int) -> list[int]:
        """Steps kept by earlier phases that phase ``p`` reads."""
        return [k for k in sorted(self.kept) if k not in self.walks[p].steps and p in self._reads(k)]

    def _reads(self, k: int) -> set[int]:
        return self.wanted.get(Ref("t", k, self.group.steps[k].dtype), set())

    def words(self) -> int:
        """Numbers of 4 bytes that are held of each element of a row, at most: operands but vectors, from the beginning
        until they are last read, and steps that are kept.
        """
        lives = [(0, max(ps), r.dtype) for r, ps in self.wanted.items() if r.kind == "x" and not self._vector(r)]
        lives += [(self.known[k] + 1, max(self._reads(k)), self.group.steps[k].dtype) for k in self.kept]
        at = [sum(max(1, BY_NAME[d].size // 4) for a, b, d in lives if a <= p <= b) for p in range(self.last + 1)]
        return max(1, *at)


def _values(s: Step | Reduction) -> list[Ref]:
    """The values that a step reads."""
    return [s.arg] if isinstance(s, Reduction) else [a for a in s.args if isinstance(a, Ref)]


def _dear(s: Step) -> bool:
    """True if doing a step again costs more than keeping its result."""
    from ..ops.emit import nanoseconds

    return bool(s.row) and nanoseconds(OPS[s.row].expr, s.compute) > 0.25 + 0.05 * BY_NAME[s.compute].size  # type: ignore[attr-defined]


# ---- from a body ----------------------------------------------------------------------------------------------------


def row_group_of(body: Body) -> RowGroup:
    """The RowGroup of the body of a "rows" node. Raises GraphError for a body that is none."""
    return _Reading(body).group()


class _Reading:
    """Walks the members of a body once. ``space``: extents of elements without ones; the row's from ``cut`` on."""

    def __init__(self, body: Body) -> None:
        self.body = body
        reductions = [m for m in body.members if m.plan.kernel == "reduce"]
        if not reductions:
            raise _no_rows("at least one reduction", "none")
        self.space, self.cut = self.space_of(reductions[0])
        self.refs: dict[Any, Ref] = {}
        self.used: list[tuple[int, str, tuple[int, ...]]] = []
        self.steps: list[Step | Reduction] = []
        self.elementwise: list[bool] = []

    def space_of(self, m: Member) -> tuple[tuple[int, ...], int]:
        """What a reduction runs over."""
        shape = self.body.types[m.node.inputs[0]].shape
        axes = normal_axes(m.node.op, m.node.attrs.get("axis"), len(shape))
        folded = [d in axes for d, n in enumerate(shape) if n != 1]
        cut = len(folded) - sum(folded)
        if any(folded[:cut]):
            raise _no_rows("reductions over the last axes", f"{m.node.op} over axes {axes} of {shape}")
        return without_ones(shape), cut

    def group(self) -> RowGroup:
        """Everything together, with axes merged as far as all operands allow it."""
        for m in self.body.members:
            self.add(m)
        graph, whole = self.body.graph, c_strides(self.space)
        outputs = tuple(self.refs[self.body.source(v)] for v in graph.outputs)
        strides = [whole, *(s for _, _, s in self.used)]
        outer, lead = collapse(self.space[: self.cut], [s[: self.cut] for s in strides])
        inner, along = collapse(self.space[self.cut :], [s[self.cut :] for s in strides])
        operands = tuple(RowOperand(d, lead[k], along[k], slot) for k, (slot, d, _) in enumerate(self.used, 1))
        return RowGroup(outer, inner, operands, tuple(self.steps), tuple(self.elementwise), outputs, len(graph.inputs))

    def add(self, m: Member) -> None:
        """One member as a step."""
        out = m.node.outputs[0]
        if m.plan.kernel == "reduce":
            if self.space_of(m) != (self.space, self.cut):
                raise _no_rows(
                    f"reductions over {self.space} from axis {self.cut} on", f"{m.node.op} {self.space_of(m)}"
                )
            shape = self.body.types[m.node.inputs[0]].shape
            step: Step | Reduction = reduction_of(m, lambda v: self.ref(v, shape))
            each = False
        else:
            shape = self.body.types[out].shape
            each = without_ones(shape) == self.space
            if not each and without_ones(shape) != self.space[: self.cut]:
                raise _no_rows(f"members over {self.space} or {self.space[: self.cut]}", f"{m.node.op} over {shape}")
            step = step_of(m, lambda v: self.ref(v, shape))
        self.steps.append(step)
        self.elementwise.append(each)
        self.refs[out] = Ref("t", len(self.steps) - 1, step.dtype)

    def ref(self, v: Any, shape: tuple[int, ...]) -> Ref:
        """A value as a row of the table over ``shape`` reads it."""
        x, source = self.body.types[v], self.body.source(v)
        every = broadcast_strides(x.shape, x.strides, shape)
        strides = tuple(s for s, n in zip(every, shape, strict=True) if n != 1)
        if source in self.refs:
            r = self.refs[source]
            lies = c_strides(self.space) if self.elementwise[r.number] else c_strides(self.space[: self.cut])
            if strides != (lies + (0,) * len(self.space))[: len(strides)]:
                raise _no_rows("results that are read where they were made", f"one of shape {x.shape} over {shape}")
            return r
        use = (self.body.graph.inputs.index(source), x.dtype, strides + (0,) * (len(self.space) - len(strides)))
        if use not in self.used:
            self.used.append(use)
        return Ref("x", self.used.index(use), x.dtype)


def _no_rows(rule: str, got: str) -> GraphError:
    return GraphError("rtc.fused_kernel", f"a group of rows: {rule}", got, "A pass grouped too much")
