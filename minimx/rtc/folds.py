"""A FoldGroup: the canonical description of pointwise steps, reductions of what they make, and steps on the results.

All reductions run over the same axes of one space; steps before them see elements, steps after them see results, and
nothing goes back. It is what "fold" nodes have in place of a Group (group.py): a bias' gradient, a loss, pooling.
Text is written from it by cuda/fused_fold.py and host_folds.py; what is worth grouping: minimx/graph/passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import GraphError
from ..ops.dtypes import BY_NAME
from ..ops.table import normal_axes
from .group import Body, Member, Operand, Reduction, Ref, Step, c_strides, collapse, reduction_of, step_of

SHORT_RUN = 16  # elements of one result in a row; fewer are read across neighbouring results instead
NEIGHBOURS = 16  # results side by side that one thread of the CPU takes at least
MOST_ALONE = 1 << 22  # elements that one thread of the CPU may have to take where results are too few to share


@dataclass(frozen=True)
class FoldGroup:
    """Steps and reductions over ``shape``, whose axes are folded where ``folded`` says so.

    A Ref is "x" an operand, "t" a step (prologue first, the epilogue's are counted on), or "r" a reduction's result.
    Strides of operands are over the whole space, 0 along axes that they do not have. outputs: steps of the prologue are
    stored for each element, all else for each result; both C-contiguous.
    """

    form: ClassVar[str] = "fold"
    shape: tuple[int, ...]
    folded: tuple[bool, ...]
    inputs: tuple[Operand, ...]
    prologue: tuple[Step, ...]
    folds: tuple[Reduction, ...]
    epilogue: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    arrays: int

    @property
    def key(self) -> tuple:
        """All that a text may depend on."""
        return (self.form, self)

    @property
    def steps(self) -> tuple[Any, ...]:
        """Prologue, reductions, epilogue."""
        return (*self.prologue, *self.folds, *self.epilogue)

    @property
    def rows(self) -> list[str]:
        """Names of the rows in order, casts as ``cast``."""
        return [s.row or "cast" for s in self.steps]

    @property
    def results(self) -> int:
        """How many results each reduction has."""
        return math.prod(n for n, f in zip(self.shape, self.folded, strict=True) if not f)

    @property
    def each(self) -> int:
        """Elements of one result."""
        return math.prod(n for n, f in zip(self.shape, self.folded, strict=True) if f)

    @property
    def size(self) -> int:
        """Elements of the whole space."""
        return math.prod(self.shape)

    @property
    def items(self) -> int:
        """How many iterations the host's function is split into: results, or cache lines of neighbouring ones."""
        return self.results if self.is_rows() else -(-self.results // NEIGHBOURS)

    def title(self) -> str:
        """One line for people: ``multiply, sum over (/4096/, 768): float32, float32[0, 1] -> float32``."""
        space = ", ".join(f"/{n}/" if f else str(n) for n, f in zip(self.shape, self.folded, strict=True))
        whole = c_strides(self.shape)
        ins = ", ".join(o.dtype + ("" if o.strides == whole else f"{list(o.strides)}") for o in self.inputs)
        outs = ", ".join(r.dtype + ("[]" if self.stored(r) else "") for r in self.outputs)
        return f"{', '.join(self.rows)} over ({space}): {ins} -> {outs}"

    def stored(self, r: Ref) -> bool:
        """True for an output that has a value for each element."""
        return r.kind == "t" and r.number < len(self.prologue)

    def read_by(self, steps: Iterable[Step | Reduction], *more: Ref) -> list[int]:
        """Numbers of the operands that steps or folds read."""
        args = [a for s in steps for a in (s.args if isinstance(s, Step) else (s.arg,))]
        return sorted({a.number for a in (*args, *more) if isinstance(a, Ref) and a.kind == "x"})

    def out_strides(self, r: Ref) -> tuple[int, ...]:
        """Strides of an output over the space: 0 along folded axes where it has a value for each result only."""
        if self.stored(r):
            return c_strides(self.shape)
        return kept_strides(self.shape, self.folded)

    def lead(self) -> tuple[int, ...]:
        """Strides of the largest operand, with C order where it does not move: the order in which memory is walked."""
        weights = [math.prod(n for n, s in zip(self.shape, o.strides, strict=True) if s) * BY_NAME[o.dtype].size
                   for o in self.inputs]  # fmt: skip
        whole = c_strides(self.shape)
        lead = self.inputs[weights.index(max(weights))].strides if weights else whole
        return tuple(a or b for a, b in zip(lead, whole, strict=True))

    def order(self) -> list[int]:
        """The axes from the widest steps in memory to the innermost one."""
        lead = self.lead()
        return sorted(range(len(self.shape)), key=lambda d: -abs(lead[d]))

    def is_rows(self) -> bool:
        """Do neighbours in memory belong to one result? (Short runs of such do not count, they are read across.)"""
        order, lead = [d for d in self.order() if self.shape[d] != 1], self.lead()
        kept, folded = ([d for d in order if self.folded[d] == f] for f in (False, True))
        if not kept or not folded:
            return not kept
        run, across = folded[-1], kept[-1]
        short = self.shape[run] < SHORT_RUN and abs(lead[across]) <= self.shape[run] * abs(lead[run])
        return abs(lead[run]) < abs(lead[across]) and not short


def kept_strides(shape: Sequence[int], folded: Sequence[bool]) -> tuple[int, ...]:
    """Strides of results in C order, 0 along folded axes."""
    inner = iter(c_strides([max(n, 1) for n, f in zip(shape, folded, strict=True) if not f]))
    return tuple(0 if f else next(inner) for f in folded)


def takes(kept: tuple[int, ...], folded: tuple[int, ...], dtypes: Collection[str], gpu: bool) -> bool:
    """Is a fold group over these extents written as one kernel? Ask before grouping.

    On the CPU the threads share results, not the elements of one, so that few results of very many elements are left to
    the kernels that can.
    """
    results, elements = math.prod(kept), math.prod(folded)
    if results == 0 or elements < 2 or not all(d in BY_NAME for d in dtypes):
        return False
    return gpu or results >= SHORT_RUN or (results == 1 and elements <= MOST_ALONE)


def fold_group_of(body: Body) -> FoldGroup:
    """The FoldGroup of the body of a "fold" node. Raises GraphError for a body that is none."""
    return _Placing(body).group()


class _Placing:
    """Walks a body from its results to its inputs, and says of every value along which axes of the space it lies.

    ``axes`` of a value: for each dimension the axis of the space, None where it has extent 1.
    """

    def __init__(self, body: Body) -> None:
        self.body = body
        self.members: dict[Any, Member] = {m.node.outputs[0]: m for m in body.members}
        self.views = {n.outputs[0]: n for n in body.graph.nodes if n.outputs[0] not in self.members}
        self.used: list[tuple[int, str, tuple[int, ...]]] = []
        self.made: dict[Any, Ref] = {}
        self.prologue: list[Step] = []
        self.epilogue: list[Step] = []
        self.reduced = self.after_reductions()
        reductions = [m for m in body.members if m.plan.kernel == "reduce"]
        if not reductions:
            raise _not_a_fold("at least one reduction", "none")
        self.shape, self.folded = self.space_of(reductions[0])
        for m in reductions:
            if self.space_of(m) != (self.shape, self.folded):
                raise _not_a_fold(f"reductions over {self.shape}, {self.folded}", f"{m.node.op} {self.space_of(m)}")
        self.folds = tuple(self.fold(k, m) for k, m in enumerate(reductions))

    def after_reductions(self) -> set[Any]:
        """The values that depend on a reduction."""
        found: set[Any] = set()
        for n in self.body.graph.nodes:
            member = self.members.get(n.outputs[0])
            if (member and member.plan.kernel == "reduce") or any(v in found for v in n.values):
                found.update(n.outputs)
        return found

    def space_of(self, m: Member) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Extents of a reduction's operand without those of 1, and which of them are folded."""
        shape = self.body.types[m.node.inputs[0]].shape
        axes = normal_axes(m.node.op, m.node.attrs.get("axis"), len(shape))
        real = [d for d, n in enumerate(shape) if n != 1]
        return tuple(shape[d] for d in real), tuple(d in axes for d in real)

    def axes_of(self, shape: Sequence[int], among: Sequence[int]) -> tuple[int | None, ...]:
        """The axes of a value that has those ``among`` and else extents of 1. Raises GraphError for another shape."""
        if [n for n in shape if n != 1] != [self.shape[d] for d in among]:
            raise _not_a_fold(f"values over axes {list(among)} of {self.shape}", str(tuple(shape)))
        left = iter(among)
        return tuple(None if n == 1 else next(left) for n in shape)

    def fold(self, number: int, m: Member) -> Reduction:
        """One reduction, with what it folds."""
        made = reduction_of(m, self.element)
        self.made[m.node.outputs[0]] = Ref("r", number, made.dtype)
        return made

    def element(self, v: Any) -> Ref:
        """A value of the whole space, as steps before the reductions read it."""
        return self.ref(v, self.axes_of(self.body.types[v].shape, range(len(self.shape))), False)

    def ref(self, v: Any, axes: tuple[int | None, ...], after: bool) -> Ref:
        """A value that lies along ``axes``, as steps before (or ``after``) the reductions read it."""
        if v in self.made:  # a reduction's result
            if not after:
                raise _not_a_fold("no element that reads a result", self.members[v].node.op)
            return self.made[v]
        if v in self.views:
            source = self.views[v].inputs[0]
            return self.ref(source, self.behind(self.views[v], axes), after)
        if v not in self.members:
            return self.operand(v, axes)
        key = (v, axes, after)
        if key not in self.made:
            step = step_of(self.members[v], lambda x: self.ref(x, self.broadcast(x, axes), after))
            if after:
                self.epilogue.append(step)
            else:
                self.prologue.append(step)
            self.made[key] = Ref("t", len(self.prologue) + len(self.epilogue) - 1, step.dtype)
        return self.made[key]

    def broadcast(self, x: Any, axes: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The axes of a value that broadcasts to one that lies along ``axes``."""
        shape = self.body.types[x].shape
        last = axes[len(axes) - len(shape) :]
        return tuple(None if n == 1 else a for n, a in zip(shape, last, strict=True))

    def behind(self, view: Any, axes: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The axes of what a view shows."""
        source = view.inputs[0]
        if view.op == "broadcast_to":
            return self.broadcast(source, axes)
        shown = self.body.types[view.outputs[0]].shape
        left = iter([a for a, n in zip(axes, shown, strict=True) if n != 1])
        return tuple(None if n == 1 else next(left) for n in self.body.types[source].shape)

    def operand(self, v: Any, axes: tuple[int | None, ...]) -> Ref:
        """An input, with its strides over the space."""
        x = self.body.types[v]
        strides = [0] * len(self.shape)
        for a, s in zip(axes, x.strides, strict=True):
            if a is not None:
                strides[a] = s
        use = (self.body.graph.inputs.index(v), x.dtype, tuple(strides))
        if use not in self.used:
            self.used.append(use)
        return Ref("x", self.used.index(use), x.dtype)

    def group(self) -> FoldGroup:
        """Everything together, with the axes merged as far as all operands and outputs allow it."""
        kept = [d for d, f in enumerate(self.folded) if not f]
        graph, outputs = self.body.graph, {}
        for after in (False, True):  # steps of the epilogue are counted on from the prologue's
            for v in graph.outputs:
                shape = self.body.types[v].shape
                whole = v not in self.reduced and [n for n in shape if n != 1] == list(self.shape)
                if whole != after:
                    among = range(len(self.shape)) if whole else kept
                    outputs[v] = self.ref(v, self.axes_of(shape, among), after)
        results = kept_strides(self.shape, self.folded)
        stored = [c_strides(self.shape)] if any(v not in self.reduced for v in outputs) else []
        shape, strides = collapse(self.shape, [results, *stored, *(s for _, _, s in self.used)])
        operands = tuple(
            Operand(d, s, slot) for (slot, d, _), s in zip(self.used, strides[1 + len(stored) :], strict=True)
        )
        folded = tuple(s == 0 for s in strides[0])
        made = tuple(outputs[v] for v in graph.outputs)
        steps = (tuple(self.prologue), self.folds, tuple(self.epilogue))
        return FoldGroup(shape, folded, operands, *steps, made, len(graph.inputs))


def _not_a_fold(rule: str, got: str) -> GraphError:
    return GraphError("rtc.fused_kernel", f"a fold group: {rule}", got, "A pass grouped too much")
