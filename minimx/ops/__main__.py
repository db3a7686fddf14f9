"""``python -m minimx.ops``: lists the table. ``show gelu`` prints a row and all that derives from it, down to the CUDA
kernel (no GPU is needed); ``stubs DIR`` and ``reference DIR`` write the ``.pyi`` files (stubs.py) and the reference
pages (reference.py). A command stands on all layers: this file alone of the package looks up, to minimx/rtc.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import ArgumentError, MXError, NameNotFound
from . import reference, stubs
from .describe import facts, first_sentence, gradients, load_rows, signature
from .emit import function as functor
from .kinds.elemwise import Elemwise
from .table import OPS, Spec

SHOWN = (1 << 20,)  # extent of the arrays whose CUDA kernel is shown


def listing() -> str:
    """Every row on a line: kind, name, first sentence of its text."""
    return "\n".join(f"{op.kind:10} {name:28} {first_sentence(op.doc)}" for name, op in sorted(OPS.items()))


def show(name: str) -> str:
    """What the row says and what follows from it. Raises NameNotFound."""
    if name not in OPS:
        near = ", ".join(n for n in OPS if name[:3] in n) or "python -m minimx.ops"
        raise NameNotFound("minimx.ops show", "a row of the table", name, f"See {near}")
    op = OPS[name]
    against = op.row.against if isinstance(op.row.against, str) else "given with the row"
    said = facts(op) | {"Reference": against}
    lines = [f"{op.kind} row {name}{signature(op)}", "", op.doc, "", *(f"{k.lower():11}{v}" for k, v in said.items())]
    return "\n".join(lines + (_elementwise(op) if isinstance(op, Elemwise) else []))


def _elementwise(op: Elemwise) -> list[str]:
    """The expression, its gradients with their saved sets, the C++ text and the CUDA kernel."""
    lines = ["", f"expression {op.expr!r}"]
    lines += [f"gradient   d/d{n}: {text}    saves ({', '.join(saved)})" for n, text, saved in gradients(op)]
    lines += ["", "C++ (and, with other scalar functions, CUDA):", functor(op)]
    derived = [OPS.get(f"{op.name}.grad{i}") for i in range(len(op.names))]
    lines += [functor(d) for d in derived if isinstance(d, Elemwise)]
    return [*lines, *_cuda(op)]


def _cuda(op: Elemwise) -> list[str]:
    """The kernel that a GPU runs for contiguous arrays of one shape; other layouts and types have other texts."""
    from ..rtc.cuda import pointwise

    dtype = "float32" if "float32" in op.row.dtypes else "int32"
    ins = [Spec(SHOWN, dtype)] * len(op.names)
    plan = op.plan(ins, {})
    given = [s._replace(dtype=cast or dtype) for s, cast in zip(ins, plan.casts, strict=True)]
    ((shape, out),) = plan.outs
    (launch,) = pointwise.elemwise(given, [Spec(shape, out)], plan.attrs).launches
    body = launch.code.text.removeprefix(functor(op)).strip()
    return [f"CUDA, around the same function, for {dtype} arrays that lie alike:", body]


def write(files: dict[str, str], folder: Path) -> str:
    """Writes ``files`` (path -> text) below ``folder``, leaves equal ones alone, and says what changed."""
    changed = []
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed.append(name)
    return f"{folder}: {len(files)} files, written: {', '.join(changed) or 'none, all up to date'}"


def run(argv: list[str]) -> str:
    """What the command ``argv`` prints. Raises ArgumentError, NameNotFound."""
    match argv:
        case []:
            return listing()
        case ["show", name]:
            return show(name)
        case ["stubs", folder]:
            return write(stubs.files(), Path(folder))
        case ["reference", folder]:
            return write(reference.files(), Path(folder))
    known = "nothing, 'show NAME', 'stubs DIR' or 'reference DIR'"
    raise ArgumentError("minimx.ops", known, " ".join(argv), "See docs/adding_an_operator.md")


def main(argv: list[str]) -> int:
    """The command line; 2 after an error, which goes to stderr."""
    load_rows()
    try:
        print(run(argv))
    except MXError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
