"""Kernel rows: a rule names a C++ factory (csrc/cpu, csrc/cuda) and the types and shapes that come out.

The decorated function is the rule. Parameters before ``/`` are operands and reach it as ``Spec`` (None: left out; a
``list`` parameter takes all operands in its place); the ones after it are attributes, part of a plan's key.
``Ruled`` is also the base of views and random rows, whose rules answer with other fields of ``Plan``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..table import Op, Plan, Row, Spec, params_of


class Ruled(Op):
    """An operator whose plan is a Python function of its operands' Specs and its attributes."""

    def __init__(self, name: str, rule: Callable[..., Plan], grad: Callable | None, row: Row):
        row.doc = row.doc or (rule.__doc__ or "").strip()
        super().__init__(name, params_of(rule), row)
        self.rule, self.grad = rule, grad
        self.list_at = next((i for i, p in enumerate(self.operands) if p.arrays), -1)
        self.defaults = {p.name: p.default for p in self.attributes if not p.required}

    def grouped(self, ins: Sequence) -> list:
        """The operands as the rule takes them: those of a ``list`` parameter gathered into one list."""
        if self.list_at < 0:
            return list(ins)
        tail = len(self.operands) - self.list_at - 1
        end = len(ins) - tail
        return [*ins[: self.list_at], list(ins[self.list_at : end]), *ins[end:]]

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        return self.rule(*self.grouped(ins), **attrs)

    def backward(
        self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict[str, Any], needs: Sequence[bool]
    ) -> list:
        """The row's ``grad(gs, ins, outs, attrs, needs)``; operands of a ``list`` parameter count one by one."""
        if self.grad is None:
            return [None] * len(ins)
        return list(self.grad(gs, ins, outs, {**self.defaults, **attrs}, needs))


class Kernel(Ruled):
    """Runs the kernel that its rule names."""

    kind = "kernel"


def decorator(cls: type[Ruled]) -> Callable[..., Callable[[Callable[..., Plan]], Ruled]]:
    """Makes ``@kernel(np=..., grad=..., ...)`` and its like. ``name`` defaults to the function's."""

    def make(*, name: str = "", grad: Callable | None = None, **row: Any) -> Callable[[Callable[..., Plan]], Ruled]:
        return lambda rule: cls(name or rule.__name__, rule, grad, Row(**row))

    return make


kernel = decorator(Kernel)
