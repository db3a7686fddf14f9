"""Blocks made of blocks, and blocks made of a function: Sequential, Concatenate, Lambda, Identity."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ... import np, npx
from ...errors import ArgumentTypeError, IndexOutOfBounds, NameNotFound
from ..block import Block
from ..hybrid import F, HybridBlock

__all__ = [
    "Sequential",
    "HybridSequential",
    "Concatenate",
    "HybridConcatenate",
    "Lambda",
    "HybridLambda",
    "Identity",
]


class _Chain(Block):
    """What Sequential and HybridSequential share: a list of children."""

    def __init__(self, *blocks: Block, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix, params)
        self.add(*blocks)

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        for block in blocks:
            if not isinstance(block, Block):
                way_out = "Wrap a function in nn.Lambda or nn.HybridLambda"
                raise ArgumentTypeError(f"{type(self).__name__}.add", "blocks", type(block).__name__, way_out)
            self.register_child(block)

    def forward(self, x: Any, *args: Any) -> Any:
        """Each block on the result of the one before. Tuples pass on as several arguments."""
        for block in self._children.values():
            x = block(x, *args)
            args = ()
            if isinstance(x, (tuple, list)):
                x, args = x[0], tuple(x[1:])
        return (x, *args) if args else x

    def __getitem__(self, key: int | slice) -> Any:
        blocks = list(self._children.values())
        if isinstance(key, slice):
            return (HybridSequential if isinstance(self, HybridBlock) else Sequential)(*blocks[key])
        if not -len(blocks) <= key < len(blocks):
            raise IndexOutOfBounds(type(self).__name__, f"an index within {len(blocks)} blocks", key)
        return blocks[key]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._children.values())


class Sequential(_Chain):
    """Blocks one after the other.

    >>> import minimx as mx
    >>> net = mx.gluon.nn.Sequential()
    >>> net.add(mx.gluon.nn.Dense(20, activation="relu"), mx.gluon.nn.Dense(10))
    >>> len(net), len(net[:1])
    (2, 1)
    """


class HybridSequential(_Chain, HybridBlock):
    """Hybrid blocks one after the other."""


class _Parallel(_Chain):
    """What Concatenate and HybridConcatenate share."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def forward(self, x: Any, *args: Any) -> Any:
        """All blocks on the same input, their results concatenated along ``axis``."""
        return np.concatenate([block(x, *args) for block in self._children.values()], axis=self.axis)


class Concatenate(_Parallel):
    """Blocks side by side on one input, results concatenated along ``axis``."""


class HybridConcatenate(_Parallel, HybridBlock):
    """Hybrid blocks side by side on one input, results concatenated along ``axis``."""


def _resolve(function: str | Callable, where: str) -> Callable:
    """A function given itself, or by its name in np or npx."""
    if not isinstance(function, str):
        return function
    for module in (np, npx):
        if hasattr(module, function):
            return getattr(module, function)
    raise NameNotFound(where, "the name of an operator of mx.np or mx.npx", repr(function), "Pass the function itself")


class Lambda(Block):
    """A function, or the name of one in mx.np or mx.npx, as a block."""

    def __init__(self, function: str | Callable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._function = _resolve(function, "nn.Lambda")

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self._function(*args)

    def extra_repr(self) -> str:
        return getattr(self._function, "__name__", "function")


class HybridLambda(HybridBlock):
    """As Lambda, hybrid. A function whose first parameter is called ``F`` is given the operators there (Gluon 1)."""

    def __init__(self, function: str | Callable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._function = _resolve(function, "nn.HybridLambda")
        self._wants_operators = not isinstance(function, str) and _first_parameter(self._function) == "F"

    def forward(self, *args: Any) -> Any:
        """The function's result."""
        return self._function(F, *args) if self._wants_operators else self._function(*args)

    def extra_repr(self) -> str:
        return getattr(self._function, "__name__", "function")


def _first_parameter(function: Callable) -> str:
    try:
        return next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):  # builtins without a signature
        return ""


class Identity(HybridBlock):
    """Returns its input."""

    def forward(self, x: Any) -> Any:
        """The input."""
        return x
