"""Reductions: rows of init, step, combine and finish over the scalar language, along any axes.

``gives`` says the output's type: "same" as the operand, "sum" (integers and bool become int64, as in NumPy), "float"
(integers become float32) or "bool". 16-bit floats are accumulated in float32, integers in int64 (in float64 where the
result is a float). Kernel text: ``emit_reduce.py``; kernel: csrc/cpu/reduce.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import DTypeError, ShapeError
from .. import expr
from ..arguments import as_dtype
from ..dtypes import ALL, BY_NAME, FLOATS
from ..expr import Expr
from ..table import Op, Param, Plan, Row, Spec, f, normal_axes


def reduced_shape(shape: Sequence[int], axes: Sequence[int], keepdims: bool) -> tuple[int, ...]:
    """Shape that is left of ``shape`` without ``axes``, or with extent 1 in their place."""
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def count(shape: Sequence[int], axes: Sequence[int]) -> int:
    """Number of elements that go into one result."""
    return math.prod(shape[a] for a in axes)


def accumulate_dtype(dtype: str) -> str:
    """The type that a result of ``dtype`` is accumulated in."""
    if dtype not in FLOATS:
        return "int64"
    return "float32" if BY_NAME[dtype].size == 2 else dtype


class Reduce(Op):
    """out[kept] = finish(step(... step(init, x[kept, 0]) ..., x[kept, n - 1]), n), the order of the steps left open."""

    kind = "reduce"

    def __init__(self, name: str, init: float, rule: tuple[Callable, Callable | None, Callable | None], gives: str,
                 grad: Callable | None, takes_dtype: bool, needs_elements: bool, row: Row):  # fmt: skip
        step, combine, finish = rule
        empty = [Param("axis", False, None), Param("dtype", False, None), Param("keepdims", False, False)]
        attributes = [p for p in empty if takes_dtype or p.name != "dtype"]
        super().__init__(name, [Param("a", True), *attributes], row)
        acc, x, n, other = (expr.var(v) for v in ("acc", "x", "n", "other"))
        self.init = init
        self.step: Expr = expr.lift(step(acc, x))
        self.combine: Expr = expr.lift((combine or step)(acc, other))
        self.finish: Expr = expr.lift(finish(acc, n)) if finish else acc
        self.gives, self.grad, self.needs_elements = gives, grad, needs_elements
        self.rule = (step, combine or step, finish)
        row.dtypes = row.dtypes or ALL
        row.samples = row.samples or self._samples

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        (a,) = ins
        assert a is not None
        axes = normal_axes(self.name, attrs.get("axis"), len(a.shape))
        if self.needs_elements and count(a.shape, axes) == 0 and 0 not in reduced_shape(a.shape, axes, False):
            got = f"shape {a.shape} and axis {attrs.get('axis')}"
            raise ShapeError(self.name, "at least one element to reduce", got, "Check for emptiness first")
        out = self.out_dtype(a.dtype, attrs.get("dtype"))
        shape = reduced_shape(a.shape, axes, bool(attrs.get("keepdims", False)))
        loop = {"loop": self.name, "dtype": self.loop_dtype(a.dtype, out), "axes": list(axes)}
        return Plan([(shape, out)], "reduce", loop)

    def out_dtype(self, dtype: str, asked: Any) -> str:
        """The output's type for an operand of ``dtype``, where the user asked for ``asked`` or nothing."""
        if asked is not None:
            out = as_dtype(self.name, asked)
            if self.gives == "float" and out not in FLOATS:
                raise DTypeError(self.name, "a float type", out, "Cast the result with astype")
            return out
        if self.gives == "bool":
            return "bool"
        if self.gives == "same" or dtype in FLOATS:
            return dtype
        return "float32" if self.gives == "float" else "int64"

    def loop_dtype(self, dtype: str, out: str) -> str:
        """The type that is computed in."""
        if self.gives == "bool":
            return "bool"
        if self.gives == "float" and dtype not in FLOATS:
            return "float64"
        return accumulate_dtype(out)

    def loop_dtypes(self) -> tuple[str, ...]:
        """Every type that needs a loop."""
        return {"bool": ("bool",), "float": ("float32", "float64")}.get(self.gives, ("int64", "float32", "float64"))

    def backward(self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict, needs: Sequence[bool]) -> list:
        if self.grad is None:
            return [None]
        (x,) = ins
        axes = normal_axes(self.name, attrs.get("axis"), x.ndim)
        kept = reduced_shape(x.shape, axes, True)
        g, y = f.reshape(gs[0], kept), f.reshape(outs[0], kept)
        gx = self.grad(g, x, y, axes)
        gx = gx if gx.shape == x.shape else f.broadcast_to(gx, x.shape)
        return [gx if gx.dtype == x.dtype else f.cast(gx, as_dtype(self.name, x.dtype))]

    def reference(self, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        """The row's own rule, one element at a time over NumPy scalars: the plain twin of the kernel. Slow."""
        import numpy

        axes = normal_axes(self.name, axis, x.ndim)
        kept = [i for i in range(x.ndim) if i not in axes]
        n = count(x.shape, axes)
        flat = x.transpose([*kept, *axes]).reshape([*(x.shape[i] for i in kept), n])
        step, _, finish = self.rule
        acc = numpy.full(flat.shape[:-1], self.init)
        for i in range(n):
            acc = step(acc, flat[..., i])
        return (finish(acc, n) if finish else acc).reshape(reduced_shape(x.shape, axes, keepdims))

    def _samples(self, dtype: str, rng: Any) -> list:
        def draw(*shape: int) -> Any:
            if dtype == "bool":
                return rng.integers(0, 2, shape).astype(bool)
            low, high = self.row.domain
            return rng.uniform(max(low, 0) if dtype == "uint8" else low, high, shape).astype(
                "float32" if dtype == "bfloat16" else dtype)  # fmt: skip

        calls: list = [((), None), ((5,), 0), ((2, 3, 4), (0, 2)), ((2, 3, 4), -1), ((3, 4), ())]
        return [((draw(*shape),), {"axis": axis, "keepdims": axis == (0, 2)}) for shape, axis in calls]


def reduce(name: str, init: float, step: Callable, *, combine: Callable | None = None, finish: Callable | None = None,
           gives: str = "same", grad: Callable | None = None, takes_dtype: bool = False, needs_elements: bool = False,
           **row: Any) -> Reduce:  # fmt: skip
    """Adds a reduction.

    step(acc, x) takes one more element in; combine(acc, other) joins two partial results (default: step);
    finish(acc, n) turns the last one into the result. grad(g, x, y, axes): gradient of x with g and y in x's rank,
    written with operators. needs_elements: there is no result of nothing (max), so an empty reduction is an error.
    """
    return Reduce(name, init, (step, combine, finish), gives, grad, takes_dtype, needs_elements, Row(**row))
