"""Writes the ``.pyi`` stubs of np, npx, nd and of the array class: what editors and type checkers see of functions that
are made from rows at import.

``python -m minimx.ops stubs minimx`` rewrites those in the package; tests/test_stubs.py fails where they are not those
of the table. What is in a namespace is asked of the imported module, so the names written there by hand are in as well.
Types come from the row (operands, defaults, annotations) and from what an argument of that name takes (``NAMED``).
Standard library only at import; writing imports minimx. The array class: stub_array.py.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .describe import creates, first_sentence, public, signature
from .kinds.composite import Composite
from .table import Op, Param

MODULES = ("np", "np.random", "np.linalg", "npx", "npx.random", "nd", "nd.random")
HEADER = '"""{title}\n\nWritten by `python -m minimx.ops stubs` from the operator table; do not edit.\n"""'
HEAD = """\
from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape""".split("\n")
WIDTH = 120

# What an argument of this name takes, in every row; "?" adds None where that is the default.
NAMED = {
    "axis": "Axis?", "axes": "int | Sequence[Any]?", "source": "Axis", "destination": "Axis", "dtype": "DType?",
    "device": "DeviceLike?", "ctx": "DeviceLike?", "out": "ndarray?", "order": "str?", "mode": "str", "kind": "str?",
    **dict.fromkeys("shape size newshape new_shape dimensions kernel stride dilate pad adj target_shape batch_shape "
                    "output_size reps repeats shift indices_or_sections".split(), "Shape?"),
    **dict.fromkeys("start stop low high fill_value constant_value temperature".split(), "float?"),
    "step": "float | Sequence[int | None]?", "ord": "float | str?", "length": "ArrayLike?", "bias": "ArrayLike?",
    "sequence_length": "ArrayLike?", "constant_values": "Any", "rcond": "Any", "bins": "Any", "weights": "ArrayLike?",
    "decimals": "int", "num_hidden": "int?", "block_size": "int", "num_outputs": "int", "subscripts": "str",
    "act_type": "str", "cudnn_tune": "Any", "p": "ArrayLike?", "M": "int?", "ddof": "int?",
}  # fmt: skip
NAMED_VARIADIC = {"size": "int"}
LOOKED_AT = r"(\.shape|\.dtype|\.sum\(\)|\[\d+\])+$"  # what the last line of an example may show of a result
IN_TEXT = re.compile(r"\b(bool)\b(?!_)")  # np has a `bool` of its own


def annotation(op: Op, p: inspect.Parameter, operands: set[str]) -> str:
    """The type of a parameter of a row's function. ``operands``: names that are operands of some row."""
    own: Param | None = next((q for q in op.params if q.name == p.name), None)
    if own is not None and own.is_operand:
        return _or_none("Sequence[ArrayLike] | ndarray" if own.arrays else "ArrayLike", p)
    if p.annotation is not p.empty:
        return str(p.annotation)
    if p.kind is p.VAR_POSITIONAL:
        return NAMED_VARIADIC.get(p.name, "Any")
    if p.name in NAMED:
        named = NAMED[p.name]
        return _or_none(named[:-1], p) if named.endswith("?") else named
    if p.name in operands and (p.default is p.empty or isinstance(p.default, float) or p.default is None):
        return _or_none("ArrayLike", p)
    if isinstance(p.default, (bool, int, float, str)):
        return type(p.default).__name__
    return "Any"


def _or_none(text: str, p: inspect.Parameter) -> str:
    return f"{text} | None" if p.default is None else text


def parameters(s: inspect.Signature, typed: Callable[[inspect.Parameter], str], skip_first: bool = False) -> list[str]:
    """The parameters of a stub, one text each. ``skip_first``: the first is ``self``."""
    texts: list[str] = ["self"] if skip_first else []
    starred = False
    for p in list(s.parameters.values())[skip_first:]:
        star = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        if p.kind is p.KEYWORD_ONLY and not starred:
            texts.append("*")
        starred = starred or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        default = "" if p.default is p.empty else f" = {_default(p.default)}"
        texts.append(f"{star}{p.name}: {typed(p)}{default}")
    return texts


def _default(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, (bool, int, float, str, tuple)) else "..."


def function(name: str, texts: list[str], returns: str, doc: str) -> str:
    """A function of a stub, wrapped to ``WIDTH``."""
    returns = IN_TEXT.sub("_bool", returns)
    texts = [IN_TEXT.sub("_bool", t) for t in texts]
    line = f"def {name}({', '.join(texts)}) -> {returns}:"
    if len(line) > WIDTH:
        line = f"def {name}(\n{packed(texts)}\n) -> {returns}:"
    return f"{line}\n{textwrap.indent(docstring(doc), '    ')}"


def packed(items: list[str], last: str = "") -> str:
    """The items with commas between them, as many on an indented line as fit."""
    lines = [""]
    for i, item in enumerate(items):
        text = item + ("," if i + 1 < len(items) else last)
        if lines[-1] and len(lines[-1]) + len(text) + 1 > WIDTH - 8:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + text
    return textwrap.indent("\n".join(lines), "    ")


def docstring(text: str) -> str:
    """The first sentence, as the docstring of a stub."""
    sentence = first_sentence(inspect.cleandoc(text or "")).replace("\\", "\\\\").replace('"', "'")
    lines = textwrap.wrap(f'"""{sentence}"""', WIDTH - 4, break_long_words=False)
    return "\n".join(lines) if sentence else "..."


def text_of_type(value: Any) -> str:
    """The type of a value that a sample call returned, as a stub spells it."""
    if isinstance(value, (tuple, list)) and value:
        inner = sorted({text_of_type(v) for v in value})
        kind = type(value).__name__
        return f"{kind}[{' | '.join(inner)}{', ...' if kind == 'tuple' else ''}]"
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        return "_numpy.ndarray[Any, Any]"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return type(value).__name__
    known = {"ndarray": "ndarray", "bool": "bool", "str": "str", "NoneType": "None", "Device": "Device"}
    return known.get(type(value).__name__, "Any")


def returned(op: Op) -> str:
    """The type of the result: an array where the kind of row says so, else that of the row's sample calls."""
    if op.kind in ("elemwise", "reduce", "random") or creates(op):
        return "ndarray"
    if isinstance(op, Composite) and op.signature().return_annotation is not inspect.Signature.empty:
        return str(op.signature().return_annotation)
    found = {text_of_type(value) for value in sample_results(op)}
    return found.pop() if len(found) == 1 else "Any"


def sample_results(op: Op) -> Iterator[Any]:
    """What the row's sample calls return; of a row without any, the last line of its example."""
    numpy, minimx = importlib.import_module("numpy"), importlib.import_module("minimx")
    call = getattr(importlib.import_module("minimx.functions").f, op.name)
    for operands, attrs in op.row.samples("float32", numpy.random.default_rng(0)) if op.row.samples else ():
        yield call(*_arrays(minimx, numpy, operands), **attrs)
    lines = doctest.DocTestParser().get_examples(op.row.example)
    if lines and not op.row.samples:
        space = {"mx": minimx, "np": minimx.np, "npx": minimx.npx, "nd": minimx.nd}
        for line in lines[:-1]:
            exec(line.source, space)
        yield eval(re.sub(LOOKED_AT, "", lines[-1].source.strip()), space)


def _arrays(minimx: Any, numpy: Any, x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return type(x)(_arrays(minimx, numpy, v) for v in x)
    return minimx.np.array(x) if isinstance(x, numpy.ndarray) else x


def of_row(op: Op, name: str, operands: set[str]) -> str:
    """The stub of a row's function under a public name."""
    texts = parameters(signature(op), lambda p: annotation(op, p, operands))
    return function(name, texts, returned(op), op.doc)


class Stub:
    """The stub of one module. ``earlier``: where the objects of modules written before are defined."""

    def __init__(self, name: str, rows: dict[int, Op], operands: set[str], earlier: dict[int, tuple[str, str]]):
        self.name, self.rows, self.operands, self.earlier = name, rows, operands, earlier
        self.module = importlib.import_module(f"minimx.{name}")
        self.imports: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.body: list[str] = []

    def text(self) -> str:
        """The whole stub."""
        own = {op.name for op in self.rows.values()}
        for name in sorted(self.module.__all__, key=lambda n: (n not in own, n)):  # a row's own name before others
            self.add(name, getattr(self.module, name))
        title = " ".join((self.module.__doc__ or "").split("\n\n")[0].split())
        head = [*HEAD, *([] if "ndarray" in self.module.__all__ else ["from minimx._core import ndarray"])]
        public = "__all__ = [\n" + packed([f'"{n}"' for n in sorted(self.module.__all__)], ",") + "\n]"
        body = [*self.body, *(f"{name} = {original}" for name, original in sorted(self.aliases.items()))]
        return "\n".join([HEADER.format(title=title), "", *head, *self.import_lines(), "", public, "", *body, ""])

    def import_lines(self) -> list[str]:
        """What the module takes from others, one statement for each."""
        lines = []
        for source, names in sorted(self.imports.items()):
            one = f"from {source} import {', '.join(names)}"
            lines.append(one if len(one) <= WIDTH else f"from {source} import (\n{packed(names, ',')}\n)")
        return lines

    def take(self, name: str, source: str, original: str) -> None:
        """``name`` is what another module calls ``original``."""
        if source == self.module.__name__:
            self.aliases[name] = original
        else:
            self.imports.setdefault(source, []).append(name if name == original else f"{original} as {name}")

    def add(self, name: str, x: Any) -> None:
        """Writes one public name down."""
        made_here = getattr(x, "__module__", None) == self.module.__name__ and getattr(x, "__name__", None) == name
        if isinstance(x, ModuleType):
            self.take(name, x.__name__.rpartition(".")[0].replace(self.module.__name__, "."), name)
        elif id(x) in self.earlier and callable(x):
            self.take(name, *self.earlier[id(x)])
        elif id(x) in self.rows:
            self.row(name, x, self.rows[id(x)])
        elif made_here and inspect.isfunction(x):
            self.earlier[id(x)] = (self.module.__name__, name)
            s = inspect.signature(x)
            texts = parameters(s, lambda p: str(p.annotation))
            self.body.append(function(name, texts, str(s.return_annotation), x.__doc__ or ""))
        elif callable(x) and getattr(x, "__module__", None) and _finds(x):
            self.take(name, x.__module__, x.__name__)
        elif isinstance(x, (int, float, str)) or x is None:
            self.body.append(f"{name}: {type(x).__name__ if x is not None else 'None'}")
        else:
            self.body.append(f"{name}: Any")

    def row(self, name: str, x: Any, op: Op) -> None:
        """A function made from a row; its later names here are assignments."""
        self.earlier[id(x)] = (self.module.__name__, name)
        self.body.append(of_row(op, name, self.operands))


def _finds(x: Any) -> bool:
    module = importlib.import_module(x.__module__)
    return getattr(module, x.__name__, None) is x


def files() -> dict[str, str]:
    """Path inside the package -> text, for every stub."""
    from .stub_array import array_stub

    made = importlib.import_module("minimx.functions").public
    ops = public()
    rows = {id(made(op.name)): op for op in ops}
    operands = {p.name for op in ops for p in op.operands}
    earlier = {id(importlib.import_module("minimx").ndarray): ("minimx._core", "ndarray")}
    out = {"_core.pyi": array_stub(operands)}
    for name in MODULES:
        folder = hasattr(importlib.import_module(f"minimx.{name}"), "__path__")
        path = f"{name.replace('.', '/')}{'/__init__' if folder else ''}.pyi"
        out[path] = Stub(name, rows, operands, earlier).text()
    return out
