"""A Group: the canonical description of a pointwise chain, from which kernel text in every dialect is written.

It knows the iteration space (axes merged as far as all operands allow), how each operand lies in it, and the steps,
each a row of the operator table or a cast. Equal groups give equal text, so layers of one class share a kernel. Not
here: what is worth fusing (minimx/graph/passes/fusion.py), text (text.py), kernels (kernel.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from ..errors import GraphError
from ..ops.arguments import c_strides, number_spec
from ..ops.dtypes import BY_NAME
from ..ops.table import OPS, Plan, Spec


class Operand(NamedTuple):
    """How an array lies in the iteration space: strides in elements per axis, 0 where it is broadcast.

    slot: which of the kernel's arrays it is; one array may be seen in two ways.
    """

    dtype: str
    strides: tuple[int, ...]
    slot: int


class Ref(NamedTuple):
    """A value inside the group: operand ``number`` ("x"), the result of step ``number`` ("t"), or of a fold ("r")."""

    kind: Literal["x", "t", "r"]
    number: int
    dtype: str


class Constant(NamedTuple):
    """A number of the code, rounded to the type that the row computes in."""

    value: Any


class Step(NamedTuple):
    """One row applied to values. compute: the type it computes in ("float16" computes in float32); row "": a cast."""

    row: str
    compute: str
    args: tuple[Ref | Constant, ...]
    dtype: str


class Reduction(NamedTuple):
    """One row of kind "reduce" applied to a value. compute: the type that it accumulates in."""

    row: str
    compute: str
    arg: Ref
    dtype: str


@dataclass(frozen=True)
class Group:
    """A pointwise chain over ``shape`` (at least one axis, the last one innermost; outputs are C-contiguous in it).

    arrays: how many arrays the kernel is given before its outputs. The extent of the first axis is left out of ``key``:
    no text needs it, so groups that differ in batch size are one. Groups of another ``form``: rows.py, folds.py.
    """

    form: ClassVar[str] = ""
    shape: tuple[int, ...]
    inputs: tuple[Operand, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Ref, ...]
    arrays: int

    @property
    def key(self) -> tuple:
        """All that the text depends on."""
        return (self.shape[1:], self.inputs, self.steps, self.outputs, self.arrays)

    @property
    def items(self) -> int:
        """How many iterations the host's function is split into: elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Elements of the whole space."""
        return math.prod(self.shape)

    @property
    def rows(self) -> list[str]:
        """Names of the rows in order, casts as ``cast``."""
        return [s.row or "cast" for s in self.steps]

    def title(self) -> str:
        """One line for people: ``multiply, tanh over (n, 64): float32, float32[0, 1] -> float32``."""
        ins = ", ".join(o.dtype + ("" if self.whole(o) else f"{list(o.strides)}") for o in self.inputs)
        space = ", ".join(["n", *map(str, self.shape[1:])])
        return f"{', '.join(self.rows)} over ({space}): {ins} -> {', '.join(r.dtype for r in self.outputs)}"

    def whole(self, o: Operand) -> bool:
        """True if the operand lies as the outputs do: C-contiguous over the whole space."""
        return o.strides == c_strides(self.shape)


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Drops axes of extent 1 and merges neighbours along which every operand runs on; keeps at least one axis."""
    axes: list[tuple[int, list[int]]] = []
    for d, n in enumerate(shape):
        own = [s[d] for s in strides]
        if n == 1:
            continue
        if axes and all(a == b * n for a, b in zip(axes[-1][1], own, strict=True)):
            axes[-1] = (axes[-1][0] * n, own)
        else:
            axes.append((n, own))
    axes = axes or [(1, [1] * len(strides))]
    return tuple(n for n, _ in axes), [tuple(own[k] for _, own in axes) for k in range(len(strides))]


def broadcast_strides(shape: Sequence[int], strides: Sequence[int], to: Sequence[int]) -> tuple[int, ...]:
    """Strides that show an operand in the shape it broadcasts to."""
    missing = len(to) - len(shape)
    return (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without its axes of extent 1: what tells iteration spaces apart."""
    return tuple(d for d in shape if d != 1)


@dataclass
class Member:
    """A body node that has a kernel, and its row's plan: what runs until the group is compiled."""

    node: Any
    plan: Plan

    def operands(self) -> list[tuple[Any, str | None]]:
        """Inputs without absent ones: (value, None), or (number, the type that it is stored in)."""
        casts = [*self.plan.casts, *[""] * len(self.node.inputs)]
        pairs = zip(self.node.inputs, casts, strict=False)
        return [(x, c if isinstance(x, (bool, int, float)) else None) for x, c in pairs if x is not None]


class Body:
    """Walks the body of a fused node once: types and strides of every value, members, steps.

    in_specs: (shape, dtype, element strides) of each input; a blocked one is given as the row of elements that it is in
    memory, and so are all that are made of it.
    """

    def __init__(self, graph: Any, in_specs: Sequence[tuple]) -> None:
        self.graph = graph
        self.types: dict[Any, Spec] = {}
        self.alias: dict[Any, Any] = {}  # a view's value -> the value whose memory it shows
        self.members: list[Member] = []
        for v, (shape, dtype, strides) in zip(graph.inputs, in_specs, strict=True):
            self.types[v] = Spec(tuple(shape), dtype, tuple(strides) or c_strides(shape))
        for n in graph.nodes:
            self.add(n)

    def add(self, n: Any) -> None:
        """Plans one node."""
        plan = OPS[n.op].plan([self.spec(x) for x in n.inputs], n.attrs)
        out = n.outputs[0]
        if plan.view is not None:
            self.alias[out] = self.source(n.inputs[0])
            self.types[out] = Spec(tuple(plan.outs[0][0]), plan.outs[0][1], tuple(plan.view[0]))
            return
        shape, dtype = plan.outs[0]
        self.types[out] = Spec(tuple(shape), dtype, c_strides(shape))
        self.members.append(Member(n, plan))

    def spec(self, x: Any) -> Spec | None:
        """What a rule sees of an input."""
        if x is None:
            return None
        if isinstance(x, (bool, int, float)):
            return number_spec(x)
        return self.types[x]

    def source(self, v: Any) -> Any:
        """The value whose memory ``v`` shows."""
        return self.alias.get(v, v)


def number(value: float, *types: str) -> Any:
    """A number brought to each of the types in turn, as a NumPy scalar array: how it arrives at a row."""
    import ml_dtypes
    import numpy

    x = numpy.asarray(value)
    for name in types:
        with numpy.errstate(all="ignore"):
            x = x.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    return x


def compute_type(dtype: str) -> str:
    """The type in which a row computes for ``dtype``."""
    return "float32" if BY_NAME[dtype].compute == "float" else dtype


def group_of(body: Body) -> Group:
    """The Group of a body."""
    graph = body.graph
    refs: dict[Any, Ref] = {}
    space = without_ones(body.types[graph.outputs[0]].shape)
    used: list[tuple[int, str, tuple[int, ...]]] = []
    steps: list[Step] = []

    def ref(v: Any, shape: tuple[int, ...]) -> Ref:
        """A value as a row over ``shape`` reads it: a step's result, or an operand with its strides there."""
        source = body.source(v)
        if source in refs:
            return refs[source]
        x = body.types[v]
        strides = broadcast_strides(x.shape, x.strides, shape)
        use = (graph.inputs.index(source), x.dtype, tuple(s for s, n in zip(strides, shape, strict=True) if n != 1))
        if use not in used:
            used.append(use)
        return Ref("x", used.index(use), x.dtype)

    for m in body.members:
        shape = body.types[m.node.outputs[0]].shape
        if without_ones(shape) != space:
            got = f"{m.node.op} over {shape}"
            raise GraphError("rtc.fused_kernel", f"members over {space}", got, "A pass grouped too much")
        steps.append(step_of(m, lambda v, shape=shape: ref(v, shape)))  # type: ignore[misc]
        refs[m.node.outputs[0]] = Ref("t", len(steps) - 1, steps[-1].dtype)
    outputs = tuple(refs[body.source(v)] for v in graph.outputs)
    shape, strides = collapse(space, [c_strides(space), *(s for _, _, s in used)])
    operands = tuple(Operand(d, s, slot) for (slot, d, _), s in zip(used, strides[1:], strict=True))
    return Group(shape, operands, tuple(steps), outputs, len(graph.inputs))


def step_of(m: Member, ref: Callable[[Any], Ref]) -> Step:
    """One member as a step."""
    plan = m.plan
    dtype = plan.outs[0][1]
    if plan.kernel == "cast":
        return Step("", dtype, (ref(m.node.inputs[0]),), dtype)
    if plan.kernel != "elemwise":
        rule = "elementwise rows, casts and trivial views"
        raise GraphError("rtc.fused_kernel", rule, m.node.op, "A pass fused another kind")
    compute = compute_type(plan.attrs["dtype"])
    condition = OPS[plan.attrs["loop"]].condition  # type: ignore[attr-defined]
    args: list[Ref | Constant] = []
    for i, (x, stored) in enumerate(m.operands()):
        wanted = "bool" if condition and i == 0 else compute
        args.append(ref(x) if stored is None else Constant(number(x, stored, wanted).item()))
    return Step(plan.attrs["loop"], compute, tuple(args), dtype)


def reduction_of(m: Member, ref: Callable[[Any], Ref]) -> Reduction:
    """One member of kind "reduce"."""
    attrs = m.plan.attrs
    return Reduction(attrs["loop"], attrs["dtype"], ref(m.node.inputs[0]), m.plan.outs[0][1])
