"""Elementwise rows: a lambda over the scalar language. Shape, types, kernel text and both gradients follow from it.

``typed`` says how operand types become the compute type: "number" keeps integers, "float" turns integers into float32,
"integer" refuses floats, "any" also takes bool. Primitives that compare give bool. Kernel text: ``emit.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import DTypeError
from .. import expr
from ..dtypes import ALL, BY_NAME, FLOATS, INTEGERS, NUMBERS
from ..expr import Expr
from ..primitives import e
from ..table import OPS, Op, Param, Plan, Row, Spec, broadcast, common_dtype, f

TYPED = {"number": NUMBERS, "float": FLOATS, "integer": ("bool", *INTEGERS), "any": ALL, "bool": ("bool",)}


class Elemwise(Op):
    """out[i] = rule(operands[i]...), broadcasting as NumPy does."""

    kind = "elemwise"

    def __init__(self, name: str, rule: Callable[..., Any], grad: Callable | None, typed: str, row: Row,
                 condition: bool, differentiable: bool):  # fmt: skip
        ps = list(inspect.signature(rule).parameters.values())
        super().__init__(name, [Param(p.name, True, p.default) for p in ps], row)
        self.rule, self.typed, self.condition = rule, typed, condition
        self.names = [p.name for p in ps]
        variables = [expr.var(n) for n in self.names]
        self.expr: Expr = expr.lift(rule(*variables))
        self.is_bool = self.expr.op in expr.PRIMITIVES and expr.PRIMITIVES[self.expr.op].result == "bool"
        self.grads = self._gradients(grad, variables) if differentiable else [None] * len(ps)
        row.dtypes = row.dtypes or TYPED[typed]

    def _gradients(self, grad: Callable | None, variables: list[Expr]) -> list[Expr | None]:
        """d/d(operand) as expressions over g, the operands and y (``y`` stands for the output, which is then saved)."""
        g, y = expr.var("g"), expr.var("y")
        if grad is not None:
            out = grad(g, *variables, y)
            return [None if d is None else expr.lift(d) for d in (out if isinstance(out, tuple) else (out,))]
        if self.is_bool or self.typed in ("integer", "bool"):
            return [None] * len(variables)
        if self.expr.op in expr.PRIMITIVES and self.expr.args == tuple(variables):  # a primitive itself: keep its y
            rule = expr.PRIMITIVES[self.expr.op].grad
            return (
                [None] * len(variables)
                if rule is None
                else [d if d is None else expr.lift(d) for d in rule(g, *variables, y)]
            )
        return expr.derivative(self.expr, g, self.names)

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        shape = broadcast(self.name, *(s.shape for s in ins))
        typed_ins = ins[1:] if self.condition else ins
        dtype = common_dtype(typed_ins)
        if self.typed == "float" and dtype not in FLOATS:
            dtype = "float32"
        if self.typed == "number" and dtype == "bool":
            dtype = "int64"
        if dtype not in TYPED[self.typed]:
            raise DTypeError(self.name, "operands of type " + ", ".join(TYPED[self.typed]), dtype, "Cast with astype")
        casts = ["bool" if self.condition and i == 0 else dtype for i in range(len(ins))]
        return Plan(
            [(shape, "bool" if self.is_bool else dtype)], "elemwise", {"loop": self.name, "dtype": dtype}, casts
        )

    def backward(
        self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict[str, Any], needs: Sequence[bool]
    ) -> list:
        values = dict(zip(self.names, ins, strict=True)) | {"g": gs[0], "y": outs[0]}
        result: list[Any] = []
        for i, (d, needed) in enumerate(zip(self.grads, needs, strict=True)):
            if d is None or not needed:
                result.append(None)
                continue
            derived = self.derived(i)
            if derived is not None:
                gx = getattr(f, derived.name)(*(values[n] for n in derived.names))
            else:
                gx = expr.evaluate(d, values, lambda name, *args: getattr(f, name)(*args))
            result.append(f.sum_to_like(gx, ins[i]))
        return result

    def derived(self, i: int) -> Elemwise | None:
        """The row "name.grad<i>" with a kernel of its own, or None if the gradient is at most one primitive."""
        return OPS.get(f"{self.name}.grad{i}")  # type: ignore[return-value]

    def reference(self, *args: Any) -> Any:
        """The row's lambda on NumPy arrays: the plain twin of every kernel."""
        return self.rule(*args)


def _derive(op: Elemwise) -> None:
    """Adds the rows of the first derivatives that are more than one primitive: each is one kernel."""
    for i, d in enumerate(op.grads):
        if d is None or all(not a.args for a in d.args):
            continue
        names = expr.variables(d)
        rule = _lambda(d, names)
        row = Row(doc=f"d({op.name})/d({op.names[i]}) times g: ``{d!r}``.", dtypes=FLOATS, domain=op.row.domain)
        Elemwise(f"{op.name}.grad{i}", rule, None, "float", row, False, True)


def _lambda(d: Expr, names: list[str]) -> Callable[..., Any]:
    """A function of ``names`` that evaluates the expression on expressions or NumPy arrays."""

    def rule(*args: Any) -> Any:
        return expr.evaluate(d, dict(zip(names, args, strict=True)), lambda name, *a: getattr(e, name)(*a))

    kind = inspect.Parameter.POSITIONAL_ONLY
    rule.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    return rule


def elemwise(name: str, rule: Callable[..., Any], *, grad: Callable | None = None, typed: str = "number",
             condition: bool = False, differentiable: bool = True, **row: Any) -> Elemwise:  # fmt: skip
    """Adds an elementwise operator: this one row is all that it takes.

    rule: lambda over scalars (``e.tanh(x)``, ``x * y``, ``e.where(x > 0, x, 0)``); its parameters are the operands, a default
    makes one optional. grad(g, *operands, y): gradient of each operand, by default derived from ``rule``; the names
    it uses are what the tape saves. condition: operand 0 is a bool that takes no part in type promotion.
    """
    op = Elemwise(name, rule, grad, typed, Row(**row), condition, differentiable)
    _derive(op)
    return op


def loops(op: Elemwise) -> list[str]:
    """Names of the compute types that get a compiled loop."""
    return [d for d in op.row.dtypes if d in BY_NAME]
