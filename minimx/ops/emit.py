"""Writes the C++ that the build generates from the table: `python -m minimx.ops.emit OUTDIR`, or `--list` for names.

elemwise_<k>.cc hold one function and its loops per elementwise row, spread so that all cost about the same to compile.
A file whose text did not change is left alone, so that nothing is compiled twice. Expressions: ``emit_expr.py``.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import minimx.ops.rows
from minimx.ops.dtypes import BY_NAME, DTYPES
from minimx.ops.emit_expr import statements
from minimx.ops.emit_reduce import reductions
from minimx.ops.expr import Expr, topological
from minimx.ops.kinds.elemwise import Elemwise
from minimx.ops.table import OPS

ELEMWISE_FILES = 6

# Nanoseconds an element, roughly, on one core with vectors (float32) and without (all else): what decides whether an
# operator is worth a hop to another thread, so a factor of two does not matter.
_VECTOR_NS = {"exp": 0.4, "exp2": 0.4, "expm1": 0.5, "log": 0.4, "log2": 0.4, "log10": 0.4, "log1p": 0.6, "tanh": 0.6,
              "sigmoid": 0.5, "erf": 0.8, "sin": 1.0, "cos": 1.0, "tan": 1.0, "sinh": 1.2, "cosh": 0.6, "sqrt": 0.1,
              "rsqrt": 0.2, "divide": 0.1}  # fmt: skip
_SCALAR_NS = {"power": 5, "floor_divide": 10, "remainder": 10, "fmod": 9, "cbrt": 10, "arcsin": 5, "arccos": 6,
              "arctan": 5, "arctan2": 13, "hypot": 3, "arcsinh": 13, "arccosh": 3, "arctanh": 13, "erfinv": 42,
              "gammaln": 9, "gamma": 20, "digamma": 13, "gcd": 5, "lcm": 6}  # fmt: skip
_PLAIN_NS = 0.05
_LIBM_NS = 4.0  # exp and the like in double


def nanoseconds(expr: Expr, dtype: str) -> float:
    """Estimated time of one element."""
    total = 0.05 * BY_NAME[dtype].size
    for x in topological([expr]):
        if x.op in _SCALAR_NS:
            total += _SCALAR_NS[x.op]
        elif x.op in _VECTOR_NS:
            total += _VECTOR_NS[x.op] if dtype != "float64" or x.op in ("sqrt", "divide") else _LIBM_NS
        elif x.args:
            total += _PLAIN_NS
    return round(total, 2)


def dtypes() -> str:
    """Text of dtypes.inc: one `MINIMX_DTYPE(enumerator, "name", C++ type, bytes)` a line."""
    return "".join(f'MINIMX_DTYPE({d.enum}, "{d.name}", {d.ctype}, {d.size})\n' for d in DTYPES)


def c_name(row: str) -> str:
    """Name of a row's struct: ``gelu.grad0`` is ``gelu_grad0_``."""
    return row.replace(".", "_") + "_"


def compute_types(op: Elemwise) -> list[str]:
    """The types that ``op`` gets a loop for: 16-bit floats are computed in float32 and need none."""
    wanted = {"float32" if BY_NAME[d].compute == "float" else d for d in op.row.dtypes}
    return [d.name for d in DTYPES if d.name in wanted]


def function(op: Elemwise) -> str:
    """The struct with the scalar function of a row."""
    wraps = any(BY_NAME[d].kind in "iu" for d in op.row.dtypes)
    params = ", ".join(f"{'bool' if op.condition and i == 0 else 'T'} {n}" for i, n in enumerate(op.names))
    doc = textwrap.wrap(f"{op.name}: {' '.join(op.doc.split())}", 112, initial_indent="/// ", subsequent_indent="/// ")
    used = {x.name for x in topological([op.expr]) if x.op == "var"}
    lines = [*doc, f"struct {c_name(op.name)} {{", "  template <class T>",
             f"  static {'bool' if op.is_bool else 'T'} f({params}) {{"]  # fmt: skip
    lines += [f"    (void){n};" for n in op.names if n not in used]
    lines += [*statements({"": op.expr}, wraps=wraps), "  }", "};"]
    return "\n".join(lines) + "\n"


def entries(op: Elemwise) -> list[str]:
    """The lines of the loop table: one per compute type."""
    out = []
    for d in compute_types(op):
        t = BY_NAME[d].ctype
        ins = ["bool" if op.condition and i == 0 else t for i in range(len(op.names))]
        types = ", ".join([c_name(op.name), t, "bool" if op.is_bool else t, *ins])
        out.append(f'      loop_entry<{types}>("{op.name}", {nanoseconds(op.expr, d)}f),\n')
    return out


def _weight(op: Elemwise) -> float:
    """What a row costs the compiler, in units of one plain loop."""
    calls = [x.op for x in topological([op.expr]) if x.args]
    return len(compute_types(op)) * (2 + len(calls) + 3 * len([c for c in calls if c in _VECTOR_NS]))


def _shares() -> list[list[Elemwise]]:
    """The elementwise rows dealt to the generated files, heaviest first to the lightest file; rows in table order."""
    ops = [op for op in OPS.values() if isinstance(op, Elemwise)]
    order = {op.name: i for i, op in enumerate(ops)}
    shares: list[list[Elemwise]] = [[] for _ in range(ELEMWISE_FILES)]
    loads = [0.0] * ELEMWISE_FILES
    for op in sorted(ops, key=_weight, reverse=True):
        k = loads.index(min(loads))
        shares[k].append(op)
        loads[k] += _weight(op)
    return [sorted(s, key=lambda op: order[op.name]) for s in shares]


def elemwise(k: int) -> str:
    """Text of elemwise_<k>.cc."""
    share = _shares()[k]
    rows = "\n".join(function(op) for op in share)
    table = "".join(line for op in share for line in entries(op))
    return f"""\
// Elementwise operators: a function per row of the table and a loop per type. Generated by minimx/ops/emit.py
// from minimx/ops/rows; do not edit. The functions called here are in csrc/cpu/scalar.h.
#include "cpu/elemwise_loop.h"
#include "cpu/scalar.h"

#pragma GCC diagnostic ignored "-Wint-in-bool-context"  // bool * bool is logical_and, as in NumPy

namespace minimx {{
namespace scalar {{
namespace {{

{rows}
}}  // namespace
}}  // namespace scalar

std::span<const LoopEntry> elemwise_loops_{k}() {{
  using namespace scalar;
  static const LoopEntry table[] = {{
{table}  }};
  return table;
}}

}}  // namespace minimx
"""


def loops() -> str:
    """Text of loops.inc: the name of every table of loops."""
    return "".join(f"MINIMX_LOOPS(elemwise_loops_{k})\n" for k in range(ELEMWISE_FILES))


FILES: dict[str, Callable[[], str]] = {"dtypes.inc": dtypes, "loops.inc": loops, "reductions.cc": reductions}
FILES |= {f"elemwise_{k}.cc": (lambda k=k: elemwise(k)) for k in range(ELEMWISE_FILES)}  # type: ignore[misc]


def main(argv: list[str]) -> None:
    """Command line of this module."""
    if argv == ["--list"]:
        print("\n".join(FILES))
        return
    for module in pkgutil.iter_modules(minimx.ops.rows.__path__, "minimx.ops.rows."):
        importlib.import_module(module.name)  # the rows register themselves

    out = Path(argv[0])
    out.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        path, new = out / name, text()
        if not path.exists() or path.read_text() != new:
            path.write_text(new)


if __name__ == "__main__":
    main(sys.argv[1:])
