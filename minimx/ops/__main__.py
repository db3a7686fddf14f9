"""``python -m minimx.ops``: lists the table; ``python -m minimx.ops show gelu`` prints a row and all that derives
from it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

from ..errors import NameNotFound
from . import expr, rows
from .emit import function as functor
from .kinds.elemwise import Elemwise
from .table import OPS, Op


def load_rows() -> None:
    """Fills the table, without arrays."""
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"{rows.__name__}.{module.name}")


def listing() -> str:
    """Every row on a line: kind, name, first line of its text."""
    return "\n".join(
        f"{op.kind:10} {name:28} {op.doc.splitlines()[0] if op.doc else ''}" for name, op in sorted(OPS.items())
    )


def show(name: str) -> str:
    """What the row says and what follows from it. Raises NameNotFound."""
    if name not in OPS:
        near = ", ".join(n for n in OPS if name[:3] in n) or "python -m minimx.ops"
        raise NameNotFound("minimx.ops show", "a row of the table", name, f"See {near}")
    op = OPS[name]
    lines = [f"{op.kind} row {name}{op.signature()}", "", op.doc, ""]
    spaces = [
        f"{prefix}{alias}"
        for space, prefix in (("np", "np."), ("npx", "npx."), ("nd", "nd."), ("method", "ndarray."))
        for alias in getattr(op.row, space).split()
    ]
    lines += [
        f"names      {', '.join(spaces) or '(none: made by other rows)'}",
        f"types      {', '.join(op.row.dtypes) or 'see its rule'}",
        f"reference  {op.row.against if isinstance(op.row.against, str) else 'given with the row'}",
    ]
    return "\n".join(lines + (_elementwise(op) if isinstance(op, Elemwise) else []))


def _elementwise(op: Elemwise) -> list[str]:
    """The expression, its gradients with their saved sets, and the C++ text."""
    lines = ["", f"expression {op.expr!r}"]
    for name, d in zip(op.names, op.grads, strict=True):
        saved = [] if d is None else [v for v in expr.variables(d) if v != "g"]
        lines.append(f"gradient   d/d{name}: " + ("none" if d is None else f"{d!r}    saves ({', '.join(saved)})"))
    lines += ["", "C++ (and, with other scalar functions, CUDA):", functor(op)]
    for i in range(len(op.names)):
        derived: Op | None = OPS.get(f"{op.name}.grad{i}")
        if isinstance(derived, Elemwise):
            lines += ["", functor(derived)]
    return lines


def main(argv: list[str]) -> int:
    """The command line."""
    load_rows()
    if len(argv) == 2 and argv[0] == "show":
        try:
            print(show(argv[1]))
        except NameNotFound as e:
            print(e, file=sys.stderr)
            return 2
        return 0
    print(listing())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
