"""Prints expressions of the scalar language as C++: shared and long parts get names, the rest reads as written.

The text calls the functions of csrc/cpu/scalar.h (host) or their CUDA twins, unqualified, and spells
its number type ``T``. Used at build time by ``emit.py`` and at run time by minimx/rtc. Not here: loops, files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from .expr import PRIMITIVES, Expr, topological

# C++ precedence of the infix operators; a call or a name binds tightest.
_PRECEDENCE = {"*": 8, "/": 8, "+": 7, "-": 7, "<": 6, "<=": 6, ">": 6, ">=": 6, "==": 5, "!=": 5, "&": 4, "^": 3,
               "|": 2, "&&": 1, "||": 0}  # fmt: skip
_ATOM, _UNARY, _SELECT = 10, 9, -1
_ARITHMETIC = 7  # below it mixed operators are parenthesised, as compilers and readers like it
_LONG = 100  # characters after which a part of an expression gets a name

Text = tuple[str, int]  # and the precedence of its outermost operator


def literal(value: float, type_name: str = "T") -> str:
    """A constant as C++: ``T(0.5)``, ``true``, ``T(INFINITY)``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        name = "NAN" if math.isnan(value) else "INFINITY"
        return f"{type_name}({'-' if value < 0 else ''}{name})"
    return f"{type_name}({value!r})"


def is_bool(x: Expr) -> bool:
    """True if the expression is a truth value: a comparison, a logical operation, or a choice between such."""
    if x.op == "where":
        return is_bool(x.args[1]) and is_bool(x.args[2])
    return isinstance(x.value, bool) if x.op == "const" else x.op in PRIMITIVES and PRIMITIVES[x.op].result == "bool"


def _parenthesised(text: Text, at_least: int) -> str:
    return text[0] if text[1] >= at_least else f"({text[0]})"


def _apply(x: Expr, args: list[Text]) -> Text:
    infix = PRIMITIVES[x.op].infix
    if x.op == "negative":
        return f"-{_parenthesised(args[0], _ATOM)}", _UNARY
    if x.op == "where":
        condition, a, b = (_parenthesised(t, 0) for t in args)
        return f"{condition} ? {a} : {b}", _SELECT
    if not infix:
        return f"{x.op}({', '.join(t[0] for t in args)})", _ATOM
    p = _PRECEDENCE[infix]
    if p < _ARITHMETIC:
        a, b = (_parenthesised(t, _ARITHMETIC) for t in args)
    else:
        a, b = _parenthesised(args[0], p), _parenthesised(args[1], p + 1)
    return f"{a} {infix} {b}", p


def statements(results: Mapping[str, Expr], *, wraps: bool = False, indent: str = "    ", type_name: str = "T",
               prefix: str = "t") -> list[str]:  # fmt: skip
    """Lines ``const T name = ...;`` for each of ``results``, preceded by those that name shared parts t0, t1, ...

    An empty name makes ``return ...;``. wraps: every intermediate gets a name, so that arithmetic of small integers,
    which C++ does in int, wraps at each step as NumPy's does.
    """
    order = topological(results.values())
    uses = Counter(id(a) for x in order for a in x.args) + Counter(map(id, results.values()))
    lines: list[str] = []
    text: dict[int, Text] = {}
    roots = {id(x) for x in results.values()}
    for x in order:
        if x.op in ("var", "const"):
            text[id(x)] = (x.name, _ATOM) if x.op == "var" else (literal(x.value, type_name), _ATOM)
            continue
        made = _apply(x, [text[id(a)] for a in x.args])
        root_once = id(x) in roots and uses[id(x)] == 1
        if not root_once and (uses[id(x)] > 1 or len(made[0]) > _LONG or (wraps and not is_bool(x))):
            name = f"{prefix}{len(lines)}"
            lines.append(f"{indent}const {'bool' if is_bool(x) else type_name} {name} = {made[0]};")
            made = (name, _ATOM)
        text[id(x)] = made
    for name, x in results.items():
        value = text[id(x)][0]
        start = f"const {'bool' if is_bool(x) else type_name} {name} =" if name else "return"
        lines.append(f"{indent}{start} {value};")
    return lines
