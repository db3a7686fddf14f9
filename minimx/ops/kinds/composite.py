"""Composite rows: plain Python over arrays, written with other rows (``f.*``) and operators.

Eagerly they are several operators; in a graph their parts are seen one by one and fused. Their gradient is that of
their parts. They have no plan: the function itself is what users call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..table import Op, Param, Row


class Composite(Op):
    """A function made of other operators."""

    kind = "composite"

    def __init__(self, name: str, function: Callable[..., Any], row: Row):
        row.doc = row.doc or (function.__doc__ or "").strip()
        parameters = inspect.signature(function).parameters.values()
        super().__init__(name, [Param(p.name, False, p.default) for p in parameters], row)
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)


def composite(*, name: str = "", **row: Any) -> Callable[[Callable[..., Any]], Composite]:
    """Adds a composite row; the decorated function is its body."""
    return lambda function: Composite(name or function.__name__, function, Row(**row))
