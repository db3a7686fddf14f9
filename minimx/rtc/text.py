"""What the host and the CUDA dialect of a fused kernel have in common: row functions, loads, steps, names.

A row's function is the text that the build compiles too (minimx/ops/emit.py); the dialects differ in how they walk
the elements. Read next: emit_host.py.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from ..ops.dtypes import BY_NAME
from ..ops.emit import c_name, function
from ..ops.emit_reduce import struct
from ..ops.table import OPS
from .group import Constant, Group, Operand, Ref, Step


def functions(groups: Iterable[Any]) -> str:
    """The functions of all rows that the groups use, each once, in order of first use."""
    rows: Any = [OPS[row] for row in dict.fromkeys(s.row for g in groups for s in g.steps if s.row)]
    return "\n".join(struct(row) if row.kind == "reduce" else function(row) for row in rows)


def kernel_name(group: Any) -> str:
    """``fused_`` and a digest of all that the text depends on."""
    return "fused_" + hashlib.sha256(repr(group.key).encode()).hexdigest()[:12]


def ctype(dtype: str) -> str:
    """``float16`` is ``Half``."""
    return BY_NAME[dtype].ctype


def literal(value: float, dtype: str) -> str:
    """A number as C++ of type ``dtype``: ``0.1f``, ``int8_t(3)``, ``true``."""
    if dtype == "bool":
        return "true" if value else "false"
    if BY_NAME[dtype].kind != "f":
        return "INT64_MIN" if value == -(2**63) else f"{ctype(dtype)}({value})"
    if not math.isfinite(value):
        name = "NAN" if math.isnan(value) else "INFINITY"
        return f"{ctype(dtype)}({'-' if value < 0 else ''}{name})"
    if dtype == "float64":
        return repr(float(value))
    import numpy

    shortest = repr(float(str(numpy.float32(value))))  # the fewest digits that give the same float32
    return f"{shortest}f"


def value(arg: Ref | Constant, dtype: str) -> str:
    """An argument of a row as a ``dtype``."""
    if isinstance(arg, Constant):
        return literal(arg.value, dtype)
    name = f"{arg.kind}{arg.number}"
    return name if arg.dtype == dtype else f"to<{ctype(dtype)}>({name})"


def step(s: Step) -> str:
    """The expression of a step: ``tanh_::f<float>(t0)``, rounded to its type where that is a 16-bit float."""
    if not s.row:
        return value(s.args[0], s.dtype)
    op = OPS[s.row]
    types = ["bool" if op.condition and i == 0 else s.compute for i in range(len(s.args))]  # type: ignore[attr-defined]
    args = ", ".join(value(a, t) for a, t in zip(s.args, types, strict=True))
    call = f"{c_name(s.row)}::f<{ctype(s.compute)}>({args})"
    made = "bool" if op.is_bool else s.compute  # type: ignore[attr-defined]
    return call if made == s.dtype else f"to<{ctype(s.dtype)}>({call})"


def assigned(place: str, name: str, dtype: str) -> str:
    """The statement of the host dialect that stores a value. gcc makes vector code of the bits, not of the struct."""
    member = ".bits" if dtype == "bfloat16" else ""
    return f"{place}{member} = {name}{member};"


def steps(group: Group, indent: str) -> list[str]:
    """Lines ``const float t0 = add_::f<float>(x0, x1);``, one a step."""
    return [f"{indent}const {ctype(s.dtype)} t{i} = {step(s)};" for i, s in enumerate(group.steps)]


def index_lines(at: str, extent: list[str], used: set[int], integer: str) -> list[str]:
    """``const int64_t i1 = at / 196 % 64``: the place of element ``at`` along each axis of ``used``."""
    lines = []
    for d in sorted(used):
        below = [extent[k] for k in range(d + 1, len(extent))]
        text = f"{at} / ({' * '.join(below)})" if len(below) > 1 else f"{at} / {below[0]}" if below else at
        lines.append(f"const {integer} i{d} = {text}" + (f" % {extent[d]};" if d else ";"))
    return lines


def varying(o: Operand, axes: int) -> list[int]:
    """Of the first ``axes`` axes those along which an operand is not broadcast."""
    return [d for d in range(axes) if o.strides[d]]


def offset(o: Operand, axes: int, stride: list[str] | None = None) -> str:
    """Where an operand lies at (i0, i1, ...): ``i0 * 64 + i1``, or ``0``."""
    names = stride or [str(s) for s in o.strides]
    parts = [f"i{d}" if names[d] == "1" else f"i{d} * {names[d]}" for d in varying(o, axes)]
    return " + ".join(parts) or "0"
