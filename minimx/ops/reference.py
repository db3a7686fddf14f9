"""Writes the reference pages: docs/reference, one page a namespace and an index.

``python -m minimx.ops reference docs/reference`` rewrites them; tests/test_reference.py fails where they are not those
of the table. A row is told in full on the page of its first namespace, under the module that it is written in; the
other pages list it in one line with a link. Names that are written by hand come from the imported modules.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType
from typing import Any, NamedTuple

from .describe import facts, first_sentence, gradients, home, names, public, signature, subject
from .kinds.elemwise import Elemwise
from .table import Op

# Page -> what begins its names, and the module (or class) that holds them. A row is at home on the first that has it.
PAGES = {
    "np": ("np.", "np"),
    "random": ("np.random.", "np.random"),
    "linalg": ("np.linalg.", "np.linalg"),
    "npx": ("npx.", "npx"),
    "nd": ("nd.", "nd"),
    "ndarray": ("ndarray.", "ndarray"),
}
TITLES = {
    "np": "`mx.np`: NumPy's functions",
    "random": "`mx.np.random`: random numbers",
    "linalg": "`mx.np.linalg`: linear algebra",
    "npx": "`mx.npx`: neural operators",
    "nd": "`mx.nd`: Gluon 1's names",
    "ndarray": "`mx.np.ndarray`: the array",
}
WRITTEN = "<!-- Written by `python -m minimx.ops reference docs/reference` from the operator table; do not edit. -->"
INTRODUCTION = """\
Every public function and method of arrays. What comes from the operator table is told in full once, and
`python -m minimx.ops show NAME` prints it with its C++. In an entry *gradient* says for which operands there is one,
and what recording a call keeps for it (`y` is the result); `d/dx` is the gradient of x, given `g`, the result's."""
LONGEST = 160  # characters of an expression that is printed whole


class Entry(NamedTuple):
    """A public name on a page."""

    name: str  # without the prefix
    line: str  # first sentence
    op: Op | None  # the row it comes from
    value: Any


def entries(page: str) -> list[Entry]:
    """The public names of a page, in alphabetical order."""
    space = _space(page)
    made = importlib.import_module("minimx.functions").public
    rows = {id(made(op.name)): op for op in public()}
    listed = space.__all__ if isinstance(space, ModuleType) else [n for n in dir(space) if not n.startswith("_")]
    found = []
    for name in sorted(listed, key=lambda n: (n.lower(), n)):
        value = inspect.getattr_static(space, name) if page == "ndarray" else getattr(space, name)
        op = rows.get(id(value))
        documented = op or inspect.isroutine(value) or inspect.isdatadescriptor(value)
        text = op.doc if op else (value.__doc__ or "") if documented else ""
        if not isinstance(value, ModuleType):
            found.append(Entry(name, first_sentence(inspect.cleandoc(text)), op, value))
    return found


def _space(page: str) -> Any:
    minimx = importlib.import_module("minimx")
    return minimx.ndarray if page == "ndarray" else importlib.import_module(f"minimx.{PAGES[page][1]}")


def home_page(op: Op) -> tuple[str, str]:
    """(page, name on it) of the row's full entry."""
    for page, (prefix, _) in PAGES.items():
        own = [n.removeprefix(prefix) for n in names(op) if n.startswith(prefix)]
        own = [n for n in own if "." not in n]
        if own:
            return page, op.name if op.name in own else own[0]
    raise LookupError(op.name)


def anchor(name: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w-]", "", name.lower())


def files() -> dict[str, str]:
    """File name -> text, for every page."""
    pages = {page: entries(page) for page in PAGES}
    return {"README.md": index(pages), **{f"{page}.md": page_text(page, found) for page, found in pages.items()}}


def index(pages: dict[str, list[Entry]]) -> str:
    """The page that lists all others and every name."""
    lines = [WRITTEN, "", "# Reference", "", INTRODUCTION, ""]
    for page, found in pages.items():
        lines += [f"## [{TITLES[page]}]({page}.md)", "", " ".join(f"`{e.name}`" for e in found), ""]
    return "\n".join(lines)


def page_text(page: str, found: list[Entry]) -> str:
    """One page: a line for every name, then the full entries by subject."""
    intro = " ".join((_space(page).__doc__ or "").split("\n\n")[0].split()) if page != "ndarray" else ""
    lines = [WRITTEN, "", f"# {TITLES[page]}", "", *([markdown(intro), ""] if intro else [])]
    lines += ["| name | |", "|---|---|", *(f"| {link(page, e)} | {_cell(e)} |" for e in found), ""]
    own = {e.op.name: e.op for e in found if e.op and home_page(e.op)[0] == page}
    by_subject: dict[str, list[Op]] = {}
    for op in own.values():
        by_subject.setdefault(home(op), []).append(op)
    for module, ops in sorted(by_subject.items(), key=lambda item: subject(item[0])):
        lines += [f"## {subject(module)}", "", f"Rows: `minimx/ops/rows/{module}.py`", ""]
        for op in ops:
            lines += full(op)
    by_hand = [e for e in found if e.op is None and inspect.isroutine(e.value) and _told_here(page, e.value)]
    if by_hand:
        lines += ["## Written by hand", ""]
        for e in by_hand:
            lines += ["### " + e.name, "", f"`{PAGES[page][0]}{e.name}{_signature(e.value)}`", "", _prose(e.value), ""]
    return "\n".join(lines).rstrip() + "\n"


def _told_here(page: str, value: Any) -> bool:
    """Hand-written functions are told on the first page that has them; NumPy's own are not told."""
    earlier = list(PAGES)[: list(PAGES).index(page)]
    if (getattr(value, "__module__", None) or "").startswith("numpy"):
        return False
    return not any(value is e for p in earlier if p != "ndarray" for e in vars(_space(p)).values())


def _prose(value: Any) -> str:
    """The docstring without its example."""
    return inspect.cleandoc(value.__doc__ or "").partition("\n\n>>>")[0]


def _signature(value: Any) -> str:
    """The signature without types; the stubs have those."""
    s = inspect.signature(value)
    bare = [p.replace(annotation=p.empty) for p in s.parameters.values()]
    return str(s.replace(parameters=bare, return_annotation=s.empty))


def _cell(e: Entry) -> str:
    line = markdown(e.line)
    if not line and not inspect.isroutine(e.value) and not inspect.isdatadescriptor(e.value):
        line = "a type of NumPy" if isinstance(e.value, type) else f"`{e.value!r}`"
    return line


def link(page: str, e: Entry) -> str:
    """The name, linked to the full entry."""
    if e.op is None:
        linked = inspect.isroutine(e.value) and _told_here(page, e.value)
        return f"[`{e.name}`](#{anchor(e.name)})" if linked else f"`{e.name}`"
    where, name = home_page(e.op)
    return f"[`{e.name}`]({'' if where == page else where + '.md'}#{anchor(name)})"


def full(op: Op) -> list[str]:
    """The entry of a row."""
    page, name = home_page(op)
    prefix = PAGES[page][0]
    lines = [f"### {name}", "", f"`{prefix}{name}{signature(op)}`", "", markdown(inspect.cleandoc(op.doc)), ""]
    said = facts(op)
    others = [n for n in names(op) if n != prefix + name]
    said.pop("Names")
    said |= {"Reference": f"`{op.row.against}`"} if isinstance(op.row.against, str) and op.row.against[:6] in (
        "numpy.", "scipy.") else {}  # fmt: skip
    said |= {"Also": ", ".join(f"`{n}`" for n in others)} if others else {}
    lines += ["; ".join(f"*{k.lower()}* {v}" for k, v in said.items()) + ".", ""] if said else []
    if isinstance(op, Elemwise):
        lines += formula(op)
    if op.row.example:
        lines += ["```python", inspect.cleandoc(op.row.example), "```", ""]
    return lines


def markdown(text: str) -> str:
    """A row's text as markdown: stars and bars of formulas are not markup."""
    return re.sub(r"(?<!\\)([*|<])", r"\\\1", text.replace("``", "`"))


def formula(op: Elemwise) -> list[str]:
    """The derivatives as the table has them, the short ones."""
    shown = [(n, text) for n, text, _ in gradients(op) if len(text) <= LONGEST]
    return [", ".join(f"`d/d{n} = {text}`" for n, text in shown) + ".", ""] if shown else []
