"""Dicts of parameters: what ``collect_params`` returns, and what Gluon 1 blocks call ``self.params``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from .. import serialization
from .parameter import Constant, Parameter, warn_kept
from .parameter_files import load_into

__all__ = ["ParameterDict", "BlockParameters"]


class ParameterDict(dict[str, Parameter]):
    """Parameters by structural name (``features.0.weight``), in the blocks' order. A shared one is there twice."""

    def unique(self) -> Iterator[Parameter]:
        """Each parameter once, however many names it has."""
        seen: set[int] = set()
        for parameter in self.values():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter

    def select(self, pattern: str) -> ParameterDict:
        """Those whose name matches the regular expression from its start.

        >>> import minimx as mx
        >>> list(mx.gluon.nn.Dense(2).collect_params().select(".*bias"))
        ['bias']
        """
        matches = re.compile(pattern).match
        return ParameterDict((name, parameter) for name, parameter in self.items() if matches(name))

    def initialize(
        self,
        init: Any = None,
        device: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
        ctx: Any = None,
    ) -> None:
        """Initialise all; see ``Parameter.initialize``. ``init`` is for those without an own initializer."""
        warn_kept(self.initialize_new(init, device, verbose, force_reinit, ctx))

    def initialize_new(self, init: Any, device: Any, verbose: bool, force_reinit: bool, ctx: Any) -> list[Parameter]:
        """``initialize`` without its warning: returns those that had values and keep them."""
        kept = []
        for parameter in self.unique():
            if parameter._arrays and not force_reinit:
                kept.append(parameter)
                continue
            if verbose:
                print(f"initialize {parameter.label}: {parameter.init or init or 'uniform'}")
            parameter.initialize(None, device if ctx is None else ctx, init, force_reinit)
        return kept

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        for parameter in self.unique():
            parameter.zero_grad()

    def reset_device(self, device: Any) -> None:
        """Move all to ``device``, one or several."""
        for parameter in self.unique():
            parameter.reset_device(device)

    reset_ctx = reset_device

    def list_device(self) -> list[Any]:
        """All devices that any of them lives on."""
        return list(dict.fromkeys(device for parameter in self.unique() for device in parameter.list_device()))

    list_ctx = list_device

    def setattr(self, name: str, value: Any) -> None:
        """Set an attribute of all.

        >>> import minimx as mx
        >>> mx.gluon.nn.Dense(2).collect_params().setattr("grad_req", "null")
        """
        for parameter in self.unique():
            setattr(parameter, name, value)

    def save(self, filename: str | os.PathLike, strip_prefix: str = "") -> None:
        """Write the values to a file; ``strip_prefix`` is taken off the names."""
        values = {name.removeprefix(strip_prefix): p.list_data()[0] for name, p in self.items()}
        serialization.save(filename, values)

    def load(
        self,
        filename: str | os.PathLike,
        device: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        restore_prefix: str = "",
        cast_dtype: bool = False,
        ctx: Any = None,
    ) -> None:
        """Read the values from a file; ``restore_prefix`` goes before the names. Errors as in ``Block``'s."""
        values = {restore_prefix + name: value for name, value in serialization.read(filename).arrays.items()}
        where = f"load {os.fspath(filename)}"
        load_into(self, values, where, device if ctx is None else ctx, allow_missing, ignore_extra, cast_dtype)

    def __repr__(self) -> str:
        return "ParameterDict(\n" + "".join(f"  {name}: {p!r}\n" for name, p in self.items()) + ")"


class BlockParameters(ParameterDict):
    """``block.params``: the block's own parameters; ``get`` makes one, as Gluon 1 code does in ``__init__``."""

    def __init__(self, register: Callable[[str, Parameter], Parameter], parameters: dict[str, Parameter]) -> None:
        super().__init__(parameters)
        self._register = register

    def get(self, name: str, default: Any = None, **kwargs: Any) -> Any:
        """The parameter ``name``; with keyword arguments (those of ``Parameter``) it is made if it is not there."""
        if name not in self and kwargs:
            kwargs.setdefault("allow_deferred_init", True)
            self[name] = self._register(name, Parameter(name, **kwargs))
        return super().get(name, default)

    def get_constant(self, name: str, value: Any = None) -> Parameter:
        """The constant ``name``, made from ``value`` if it is not there."""
        if name not in self:
            self[name] = self._register(name, Constant(name, value))
        return self[name]
