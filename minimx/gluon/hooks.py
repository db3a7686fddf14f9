"""Hooks on blocks: functions called before and after forward, and with every layer's arrays."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .block import Block

__all__ = ["HookHandle", "HookTable", "add_hook", "add_op_hook"]

_numbers = itertools.count()


class HookTable(dict[int, Callable]):
    """A dict that can be referred to weakly."""

    __slots__ = ("__weakref__",)


class HookHandle:
    """Ends hooks: by ``detach()``, or at the end of a ``with`` block. It does not keep the block alive."""

    def __init__(self) -> None:
        self._places: list[tuple[weakref.ref[HookTable], int]] = []

    def attach(self, hooks: HookTable, hook: Callable) -> None:
        """Enter ``hook`` into a block's table."""
        number = next(_numbers)
        hooks[number] = hook
        self._places.append((weakref.ref(hooks), number))

    def detach(self) -> None:
        """Take the hooks away; a second time does nothing."""
        for reference, number in self._places:
            hooks = reference()
            if hooks is not None:
                hooks.pop(number, None)
        self._places = []

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()


def add_hook(hooks: HookTable, hook: Callable) -> HookHandle:
    """Enter ``hook`` into a block's table of hooks."""
    handle = HookHandle()
    handle.attach(hooks, hook)
    return handle


def add_op_hook(block: Block, callback: Callable[[str, str, Any], None], monitor_all: bool) -> HookHandle:
    """Call ``callback`` with the output of every block without children (``monitor_all``: with its inputs as well)."""
    handle = HookHandle()
    for path, leaf in block.named_blocks():
        if not leaf._children:
            handle.attach(leaf._hooks, _reporter(path or leaf.name, callback, monitor_all))
    return handle


def _reporter(path: str, callback: Callable[[str, str, Any], None], monitor_all: bool) -> Callable:
    def report(layer: Block, inputs: tuple, outputs: Any) -> None:
        kind = type(layer).__name__
        groups = [("input", inputs)] if monitor_all else []
        for what, arrays in [*groups, ("output", outputs)]:
            several = arrays if isinstance(arrays, (list, tuple)) else (arrays,)
            for i, array in enumerate(several):
                callback(f"{path}_{what}{i if len(several) > 1 else ''}", kind, array)

    return report
