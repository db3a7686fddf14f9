"""Which block of a model an error comes from: a note on the error, with the block's path as its parameters have it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block import Block

BEGIN = "In block "


def locate(error: Exception, block: Block) -> None:
    """Notes on an error that passes ``block`` on its way up which block below it the error comes from. Every block that
    it passes says so anew, so that the path begins at the outermost one.
    """
    called: list[Any] = [block]
    at: TracebackType | None = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_name == "__call__":
            inner = at.tb_frame.f_locals.get("self")
            if inner is not called[-1] and isinstance(getattr(inner, "_children", None), dict):  # a block
                called.append(inner)
        at = at.tb_next
    if len(called) == 1:
        return
    path = ".".join(_name(outer, inner) for outer, inner in zip(called, called[1:], strict=False))
    last = called[-1]
    what = type(last).__name__ if last._children else repr(last)
    notes = error.__dict__.setdefault("__notes__", [])
    notes[:] = [note for note in notes if not note.startswith(BEGIN)]
    notes.append(f"{BEGIN}'{path}', {what}, of {type(block).__name__}.")


def _name(outer: Block, inner: Block) -> str:
    """What ``outer`` calls its child; the class of a block that is not one."""
    return next((name for name, child in outer._children.items() if child is inner), f"({type(inner).__name__})")
