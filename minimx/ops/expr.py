"""A small scalar expression language: what elementwise rows are written in.

A row's lambda runs on anything: on ``Expr`` it records an expression (from which C++ and CUDA text, the derivative and
the saved set follow), on NumPy arrays it is the reference, on minimx arrays it is a chain of operators. The primitives,
one row each with NumPy's name and the derivative, are in ``primitives.py``; ``emit.py`` writes the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Primitive:
    """One scalar function: ``numpy`` names its twin there, ``grad(g, *args, y)`` gives d/d(arg) as a tuple."""

    name: str
    arity: int
    numpy: str
    grad: Callable[..., tuple] | None
    infix: str = ""
    result: str = "same"  # or "bool"


PRIMITIVES: dict[str, Primitive] = {}


class Expr:
    """A node of a scalar expression. Hash-consed: equal expressions are one object, so ``is`` and ``dict`` see
    sharing.
    """

    __slots__ = ("args", "name", "op", "value")
    _made: dict[tuple, Expr] = {}
    op: str  # "var", "const" or the name of a primitive
    args: tuple[Expr, ...]
    name: str
    value: Any

    def __new__(cls, op: str, args: tuple = (), name: str = "", value: Any = None) -> Expr:
        key = (op, tuple(map(id, args)), name, type(value), repr(value))
        made = cls._made.get(key)
        if made is None:
            made = object.__new__(cls)
            made.op, made.args, made.name, made.value = op, args, name, value
            cls._made[key] = made
        return made

    def __repr__(self) -> str:
        if self.op == "var":
            return self.name
        if self.op == "const":
            return repr(self.value)
        infix = PRIMITIVES[self.op].infix
        if infix:
            return f"({self.args[0]!r} {infix} {self.args[1]!r})"
        return f"{self.op}({', '.join(map(repr, self.args))})"

    def __bool__(self) -> bool:
        raise TypeError(
            f"expression {self!r}: expected no branch on a value, got bool(). Use e.where(condition, x, y)."
        )

    def __add__(self, o: Any) -> Expr:
        return call("add", self, o)

    def __radd__(self, o: Any) -> Expr:
        return call("add", o, self)

    def __sub__(self, o: Any) -> Expr:
        return call("subtract", self, o)

    def __rsub__(self, o: Any) -> Expr:
        return call("subtract", o, self)

    def __mul__(self, o: Any) -> Expr:
        return call("multiply", self, o)

    def __rmul__(self, o: Any) -> Expr:
        return call("multiply", o, self)

    def __truediv__(self, o: Any) -> Expr:
        return call("divide", self, o)

    def __rtruediv__(self, o: Any) -> Expr:
        return call("divide", o, self)

    def __neg__(self) -> Expr:
        return call("negative", self)

    def __lt__(self, o: Any) -> Expr:
        return call("less", self, o)

    def __le__(self, o: Any) -> Expr:
        return call("less_equal", self, o)

    def __gt__(self, o: Any) -> Expr:
        return call("greater", self, o)

    def __ge__(self, o: Any) -> Expr:
        return call("greater_equal", self, o)


def var(name: str) -> Expr:
    """The variable ``name``."""
    return Expr("var", name=name)


def const(value: float) -> Expr:
    """A constant; booleans, integers and floats stay what they are until they are printed for a type."""
    return Expr("const", value=value)


def lift(x: Any) -> Expr:
    """``x`` itself if it is an expression, else the constant."""
    return x if isinstance(x, Expr) else const(x)


_FOLD = {"add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b}


def call(name: str, *args: Any) -> Expr:
    """The primitive ``name`` applied to ``args``, simplified by the identities that hold for every number incl. NaN."""
    a = tuple(lift(x) for x in args)
    values = [x.value if x.op == "const" else None for x in a]
    if name in _FOLD and None not in values:
        return const(_FOLD[name](*values))
    if name in ("add", "subtract") and values[1] == 0:
        return a[0]
    if name == "add" and values[0] == 0:
        return a[1]
    if name == "multiply" and values[0] == 1:
        return a[1]
    if name in ("multiply", "divide") and values[1] == 1:
        return a[0]
    if name == "multiply" and 0 in values and any(v is not None and v == 0 for v in values):
        return const(0)
    if name == "negative" and a[0].op == "negative":
        return a[0].args[0]
    if name == "where" and a[1] is a[2]:
        return a[1]
    return Expr(name, a)


def topological(roots: Iterable[Expr]) -> list[Expr]:
    """Every node below ``roots``, arguments before users."""
    order: list[Expr] = []
    seen: set[int] = set()

    def visit(x: Expr) -> None:
        if id(x) not in seen:
            seen.add(id(x))
            for a in x.args:
                visit(a)
            order.append(x)

    for r in roots:
        visit(r)
    return order


def variables(*roots: Expr) -> list[str]:
    """Names of the free variables, in order of first use."""
    return [x.name for x in topological(roots) if x.op == "var"]


def evaluate(x: Expr, values: dict[str, Any], f: Callable[..., Any]) -> Any:
    """Runs ``x`` with ``f(primitive_name, *args)``: NumPy functions, array operators or other expressions."""
    done: dict[int, Any] = {}
    for n in topological([x]):
        if n.op == "var":
            done[id(n)] = values[n.name]
        elif n.op == "const":
            done[id(n)] = n.value
        else:
            done[id(n)] = f(n.op, *(done[id(a)] for a in n.args))
    return done[id(x)]


def derivative(y: Expr, g: Expr, wrt: list[str]) -> list[Expr | None]:
    """Reverse-mode derivative: d(y)/d(v) * g for each variable of ``wrt``, None where y does not depend on it."""
    order = topological([y])
    grads: dict[int, Expr] = {id(y): g}
    for n in reversed(order):
        if id(n) not in grads or not n.args:
            continue
        rule = PRIMITIVES[n.op].grad
        if rule is None:
            continue
        for a, ga in zip(n.args, rule(grads[id(n)], *n.args, n), strict=True):
            if ga is not None and lift(ga) is not const(0):
                grads[id(a)] = grads[id(a)] + ga if id(a) in grads else lift(ga)
    by_name = {n.name: grads.get(id(n)) for n in order if n.op == "var"}
    return [by_name.get(name) for name in wrt]
