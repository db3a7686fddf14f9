"""Elementwise rows: a lambda over the scalar language. Shape, types, kernel text and both gradients follow from it.

``typed`` says how operand types become the compute type: "number" keeps integers, "float" turns integers into float32,
"integer" refuses floats, "any" also takes bool. Primitives that compare give bool. Kernel text: ``emit.py``.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import DTypeError, ShapeError
from .. import expr
from ..dtypes import ALL, FLOATS, INTEGERS, NUMBERS
from ..emit_expr import is_bool
from ..expr import Expr
from ..primitives import e
from ..table import OPS, Op, Param, Plan, Row, Spec, broadcast, common_dtype, f

TYPED = {"number": NUMBERS, "float": FLOATS, "integer": ("bool", *INTEGERS), "any": ALL}

# A gradient's own rows have gradients too, whose g and y are others: these are the operands' names there.
DERIVED_NAMES = {"g": "dy", "y": "result"}


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
        self.is_bool = self.expr.op != "const" and is_bool(self.expr)
        self.grads = self._gradients(grad, variables) if differentiable else [None] * len(ps)
        row.dtypes = row.dtypes or TYPED[typed]
        row.samples = row.samples or self._samples
        row.errors = row.errors or self._errors()

    def _gradients(self, grad: Callable | None, variables: list[Expr]) -> list[Expr | None]:
        """d/d(operand) as expressions over g, the operands and y (``y`` stands for the output, which is then saved)."""
        g, y = expr.var("g"), expr.var("y")
        if self.is_bool or self.typed == "integer":
            return [None] * len(variables)
        if grad is not None:
            out = grad(g, *variables, y)
            return [None if d is None else expr.lift(d) for d in (out if isinstance(out, tuple) else (out,))]
        if self.expr.op in expr.PRIMITIVES and self.expr.args == tuple(variables):  # a primitive itself: keep its y
            rule = expr.PRIMITIVES[self.expr.op].grad
            ds = (None,) * len(variables) if rule is None else rule(g, *variables, y)
            return [None if d is None else expr.lift(d) for d in ds]
        return expr.derivative(self.expr, g, self.names)

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        if None in ins:
            return self._plan_without(ins)
        shape = broadcast(self.name, *(s.shape for s in ins if s))
        dtype = self._compute_dtype(ins[1:] if self.condition else ins)
        casts = ["bool" if self.condition and i == 0 else dtype for i in range(len(ins))]
        out = "bool" if self.is_bool else dtype
        return Plan([(shape, out)], "elemwise", {"loop": self.name, "dtype": dtype}, casts)

    def _compute_dtype(self, ins: Sequence[Spec | None]) -> str:
        dtype = common_dtype(ins)
        if self.typed == "float" and dtype not in FLOATS:
            return "float32"
        if dtype == "bool" and "bool" not in self.row.dtypes:
            return "int64"
        if dtype not in TYPED[self.typed]:
            types = ", ".join(TYPED[self.typed])
            raise DTypeError(self.name, f"operands of type {types}", dtype, "Cast with astype")
        if self.is_bool and dtype in INTEGERS and any(s is not None and s.weak for s in ins):
            return "int64"  # x < 300 is meant as it reads, also where x is uint8
        return dtype

    def _plan_without(self, ins: Sequence[Spec | None]) -> Plan:
        """The plan where optional operands are left out: that of the row made for it."""
        plan = self.variant([s is not None for s in ins]).plan([s for s in ins if s is not None], {})
        casts = iter(plan.casts)
        plan.casts = ["" if s is None else next(casts) for s in ins]
        return plan

    def variant(self, present: Sequence[bool]) -> Elemwise:
        """The row "name.without_<operands>" for calls that leave out optional operands."""
        absent = [n for n, there in zip(self.names, present, strict=True) if not there]
        return OPS[f"{self.name}.without_{'_'.join(absent)}"] if absent else self  # type: ignore[return-value]

    def backward(self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict, needs: Sequence[bool]) -> list:
        present = [x is not None for x in ins]
        if not all(present):
            given = [(x, n) for x, n in zip(ins, needs, strict=True) if x is not None]
            variant = self.variant(present)
            left = iter(variant.backward(gs, [x for x, _ in given], outs, attrs, [n for _, n in given]))
            return [next(left) if there else None for there in present]
        values = {"g": gs[0], "y": outs[0]} | dict(zip(self.names, ins, strict=True))  # an operand may be called y
        return [self._gradient(i, ins[i], values) if needed else None for i, needed in enumerate(needs)]

    def _gradient(self, i: int, x: Any, values: dict[str, Any]) -> Any:
        d = self.grads[i]
        if d is None:
            return None
        derived = OPS.get(f"{self.name}.grad{i}")
        if derived is not None:
            values = values | {new: values[old] for old, new in DERIVED_NAMES.items()}
            gx = getattr(f, derived.name)(*(values[p.name] for p in derived.params))
        else:  # one primitive
            gx = expr.evaluate(d, values, lambda name, *args: getattr(f, name)(*args))
        return f.sum_to_like(gx, x)

    def reference(self, *args: Any) -> Any:
        """The row's lambda on NumPy arrays: the plain twin of every kernel."""
        return self.rule(*args)

    def domains(self) -> list[tuple[float, float]]:
        """The interval that test inputs are drawn from, for each operand."""
        d = self.row.domain
        return list(d) if isinstance(d[0], tuple) else [d] * len(self.names)

    def _samples(self, dtype: str, rng: Any) -> list:
        """Operands of one shape, broadcast ones, and a call with the optional ones left out; drawn from the domain."""

        def draw(i: int, shape: tuple[int, ...]) -> Any:
            low, high = self.domains()[i]
            if dtype == "bool" or (self.condition and i == 0):
                return rng.integers(0, 2, shape).astype(bool)
            low = max(low, 0) if dtype == "uint8" else low
            return rng.uniform(low, high, shape).astype("float32" if dtype == "bfloat16" else dtype)

        n, required = len(self.names), [i for i, p in enumerate(self.params) if p.required]
        shapes = [(2, 3), (3,), (2, 1), (), (1, 3), (3,), (2, 3)]
        calls = [[draw(i, (2, 3)) for i in required], [draw(i, shapes[i]) for i in range(n)]]
        return [(tuple(c), {}) for c in calls]

    def _errors(self) -> list:
        if len([p for p in self.params if p.required]) < 2:
            return []
        return [(((2, 3), (4,), *[()] * (len(self.names) - 2)), ShapeError)]


def _derive(op: Elemwise) -> None:
    """Adds the rows of the first derivatives that are more than one primitive: each is one kernel."""
    for i, d in enumerate(op.grads):
        if d is None or all(not a.args for a in d.args):
            continue
        names = expr.variables(d)
        rule = _signed(_lambda(d, names), [DERIVED_NAMES.get(n, n) for n in names])
        domains = dict(zip(op.names, op.domains(), strict=True)) | {"g": (-3.0, 3.0), "y": (0.1, 0.9)}
        row = Row(doc=f"Gradient of {op.name} with respect to {op.names[i]}.", dtypes=FLOATS,
                  domain=tuple(domains[n] for n in names), against="differences")  # fmt: skip
        Elemwise(f"{op.name}.grad{i}", rule, None, "float", row, False, True)


def _vary(op: Elemwise) -> None:
    """Adds the rows for calls that leave out operands whose default is None."""
    optional = [p.name for p in op.params if p.default is None]
    for count in range(1, len(optional) + 1):
        for absent in itertools.combinations(optional, count):
            names = [n for n in op.names if n not in absent]
            domains = tuple(d for n, d in zip(op.names, op.domains(), strict=True) if n not in absent)
            row = Row(doc=f"{op.name} without {' and '.join(absent)}.", dtypes=op.row.dtypes, domain=domains,
                      against=f"{op.name} with None")  # fmt: skip
            made = Elemwise(f"{op.name}.without_{'_'.join(absent)}", _without(op.rule, names), None, op.typed, row,
                            op.condition, True)  # fmt: skip
            _derive(made)


def _signed(rule: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    kind = inspect.Parameter.POSITIONAL_ONLY
    rule.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    return rule


def _without(rule: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """``rule`` as a function of the operands ``names``, the others None."""
    return _signed(lambda *args: rule(**dict(zip(names, args, strict=True))), names)


def _lambda(d: Expr, names: list[str]) -> Callable[..., Any]:
    """A function of ``names`` that evaluates the expression on expressions or NumPy arrays."""

    def rule(*args: Any) -> Any:
        return expr.evaluate(d, dict(zip(names, args, strict=True)), lambda name, *a: getattr(e, name)(*a))

    return _signed(rule, names)


def elemwise(name: str, rule: Callable[..., Any], *, grad: Callable | None = None, typed: str = "number",
             condition: bool = False, differentiable: bool = True, **row: Any) -> Elemwise:  # fmt: skip
    """Adds an elementwise operator: this one row is all that it takes.

    rule: lambda over scalars (``e.tanh(x)``, ``x * y``, ``e.where(x > 0, x, 0)``); its parameters are the operands,
    a default makes one optional (None: the rule is also traced without it). grad(g, *operands, y): gradient of each
    operand, by default derived from ``rule``; the names it uses are what the tape saves. condition: operand 0 is a
    bool that takes no part in type promotion.
    """
    op = Elemwise(name, rule, grad, typed, Row(**row), condition, differentiable)
    _derive(op)
    _vary(op)
    return op
