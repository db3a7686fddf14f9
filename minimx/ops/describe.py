"""What a row says of itself in words: docstring, signature, names, types, gradients and what they keep.

The functions' docstrings (minimx/functions.py), the reference pages (reference.py), the stubs (stubs.py) and
``python -m minimx.ops show`` are put together from these pieces. Standard library only.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys

from . import expr, rows
from .dtypes import ALL, FLOATS, INTEGERS, NUMBERS
from .kinds.composite import Composite
from .kinds.elemwise import Elemwise
from .kinds.host import Host
from .kinds.kernel import Ruled
from .kinds.reduce import Reduce
from .table import OPS, Op

# Namespaces of a row, in the order in which users meet them, and what their names begin with.
SPACES = {"np": "np.", "npx": "npx.", "nd": "nd.", "method": "ndarray."}
CREATION = ("full", "linspace", "logspace", "identity", "indices", "tri", "full_like", "empty_like")
TYPED = {
    "number": "integers and floats; bool counts as int64",
    "float": "floats; integers are computed in float32",
    "integer": "integers and bool",
    "any": "all",
}
GIVES = {
    "same": "all; the result has the operand's",
    "sum": "all; sums of integers and bool are int64",
    "float": "all; integers give float32",
    "bool": "all; the result is bool",
}
GROUPS = {tuple(ALL): "all", tuple(FLOATS): "floats", tuple(NUMBERS): "integers and floats",
          tuple(INTEGERS): "integers"}  # fmt: skip


def load_rows() -> None:
    """Fills the table, without arrays."""
    for module in pkgutil.iter_modules(rows.__path__):
        importlib.import_module(f"{rows.__name__}.{module.name}")


def names(op: Op, *spaces: str) -> list[str]:
    """Public names of a row: ``np.tanh``, ``nd.tanh``, ``ndarray.tanh``."""
    return [SPACES[s] + alias for s in spaces or SPACES for alias in getattr(op.row, s).split()]


def public() -> list[Op]:
    """The rows that have a public name, in the order of the table."""
    return [op for op in OPS.values() if names(op)]


def home(op: Op) -> str:
    """Module of ``minimx.ops.rows`` that the row is written in: "activation"."""
    made_by = op.function if isinstance(op, Composite) else op.body if isinstance(op, Host) else op.rule  # type: ignore[attr-defined]
    made_by = made_by[0] if isinstance(made_by, tuple) else made_by
    return made_by.__module__.rpartition(".")[2]


def subject(module: str) -> str:
    """First sentence of the text that opens a module of rows."""
    text = " ".join((sys.modules[f"{rows.__name__}.{module}"].__doc__ or module).split())
    return text.partition(". ")[0].rstrip(".")


def first_sentence(text: str) -> str:
    """The first paragraph's first sentence; an abbreviation or a formula does not end it."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    for i in range(len(paragraph) - 2):
        if paragraph[i : i + 2] == ". " and paragraph[i + 2].isupper() and not paragraph[:i].endswith(" al"):
            return paragraph[: i + 1]
    return paragraph


def creates(op: Op) -> bool:
    """True where the function makes arrays from nothing, and so takes ``device`` and ``ctx`` too."""
    return op.random or (not op.operands and (not isinstance(op, Composite) or op.row.np in CREATION))


def places(op: Op) -> bool:
    """True where the function takes ``device`` or ``ctx``: where its new arrays shall lie."""
    return creates(op) or (isinstance(op, Composite) and not {"device", "ctx"}.isdisjoint(op.signature().parameters))


def takes_out(op: Op) -> bool:
    """True where the function takes ``out``, an array to write the result to."""
    return op.kind in ("elemwise", "reduce", "kernel", "random") or (isinstance(op, Host) and not op.dynamic)


def signature(op: Op) -> inspect.Signature:
    """The signature with the keywords that come from the kind of row: ``out``, ``device``, ``ctx``."""
    parameters = list(op.signature().parameters.values())
    more = ["out"] * takes_out(op) + ["device", "ctx"] * creates(op)
    missing = [n for n in more if n not in op.signature().parameters]
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in missing]
    tail = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    return inspect.Signature([*(p for p in parameters if p not in tail), *keywords, *tail])


def types(op: Op) -> str:
    """The element types it takes, in words."""
    if isinstance(op, Elemwise):
        return TYPED[op.typed] + ("; the result is bool" if op.is_bool else "")
    if isinstance(op, Reduce):
        return GIVES[op.gives]
    return GROUPS.get(tuple(op.row.dtypes), ", ".join(op.row.dtypes))


def gradients(op: Elemwise) -> list[tuple[str, str, list[str]]]:
    """(operand, derivative times g as text, names that the tape keeps) for each operand that has one."""
    found = [(n, d) for n, d in zip(op.names, op.grads, strict=True) if d is not None]
    return [(n, repr(d), [v for v in expr.variables(d) if v != "g"]) for n, d in found]


def kept(op: Elemwise) -> list[str]:
    """What recording a call keeps: the names that any of the gradients uses; ``y`` is the result."""
    used = {v for _, _, saved in gradients(op) for v in saved}
    return [n for n in (*op.names, "y") if n in used]


def gradient(op: Op) -> str:
    """Whether it has a gradient and, of an elementwise row, what recording keeps for it."""
    if isinstance(op, Elemwise):
        of = [n for n, _, _ in gradients(op)]
        return f"of {', '.join(of)}; keeps {', '.join(kept(op)) or 'nothing'}" if of else "none"
    if isinstance(op, (Ruled, Reduce)) and op.operands:
        return "yes" if op.grad else "none"
    return "that of the operators it is made of" if isinstance(op, Composite) and op.row.samples else ""


def raised(op: Op) -> list[str]:
    """Classes of the errors that the row names."""
    found = [error.__name__ for _, error in op.row.errors]
    if isinstance(op, Elemwise) and len(op.names) > 1 and "ShapeError" not in found:
        found.append("ShapeError")
    if isinstance(op, Elemwise) and op.typed == "integer":
        found.append("DTypeError")
    return sorted(set(found))


def facts(op: Op) -> dict[str, str]:
    """What follows the text in a docstring and on a page; empty ones are left out."""
    several = isinstance(op, Elemwise) and len(op.names) > 1
    said = {
        "Shapes": "operands broadcast, numbers are taken as they are" if several else "",
        "Types": types(op),
        "Gradient": gradient(op),
        "Raises": ", ".join(raised(op)),
        "Names": ", ".join(names(op)),
    }
    return {k: v for k, v in said.items() if v}


def documentation(op: Op) -> str:
    """The docstring of the row's function: text, facts, example."""
    lines = [inspect.cleandoc(op.doc), ""]
    lines += [f"{key + ':':10}{value}." for key, value in facts(op).items()]
    example = inspect.cleandoc(op.row.example)
    return "\n".join(lines + (["", example] if example else []))
