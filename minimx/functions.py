"""From rows to functions: every row becomes one callable, and np, npx, nd and the methods are those names of it.

An operator's callable is a C object (csrc/bind/function.cc); a composite's is its own Python function, behind a C
object that makes the device of its arrays the current one (csrc/bind/composite.cc); a dynamic host row's runs NumPy or
CuPy at once, since its shape depends on the values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy

from . import autograd, interop
from . import device as _device
from . import ndarray as _array
from .errors import GraphError
from .ops import describe, primitives
from .ops.kinds.composite import Composite
from .ops.kinds.host import Host
from .ops.table import OPS, Op, f

_core = _array._core


def _dynamic(row: Host) -> Callable[..., Any]:
    signature = row.signature()

    def function(*args: Any, **kwargs: Any) -> Any:
        if _core.is_tracing():
            raise GraphError(
                row.name,
                "a shape that does not depend on values while a graph is traced",
                "a data-dependent one",
                "Do not hybridize this block, or use a mask",
            )
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        operands = [bound.arguments[p.name] for p in row.operands]
        attrs = {p.name: bound.arguments[p.name] for p in row.attributes}
        home = next((x.device for x in operands if isinstance(x, _array.ndarray)), _device.current_device())
        made = NotImplemented
        if home.device_type == "gpu":
            made = interop.run_dynamic(row, operands, attrs, home.device_id)
        return _on_numpy(row, operands, attrs, home) if made is NotImplemented else made

    return function


def _on_numpy(row: Host, operands: list, attrs: dict[str, Any], home: _device.Device) -> Any:
    made = row.body(numpy, *(_array._map(_array.ndarray.asnumpy, x) for x in operands), **attrs)
    with home:
        return tuple(map(_array.asarray, made)) if isinstance(made, tuple) else _array.asarray(made)


def _placed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A creation function also takes device= and ctx=, which win over the devices of its arrays."""
    row = OPS[name]
    plain = row.function if isinstance(row, Composite) else function

    @functools.wraps(function)
    def create(*args: Any, device: Any = None, ctx: Any = None, **kwargs: Any) -> Any:
        home = device if device is not None else ctx
        if home is None:
            return function(*args, **kwargs)
        home = _device.checked(home, name)
        if home.key == _core.current_device():
            return plain(*args, **kwargs)
        with home:
            return plain(*args, **kwargs)

    create.__signature__ = describe.signature(OPS[name])  # type: ignore[attr-defined]
    return create


def make(name: str) -> Callable[..., Any]:
    """The callable of the row ``name``."""
    if name not in OPS:
        raise AttributeError(f"operator: expected a row of the table, got {name!r}. See `python -m minimx.ops`.")
    row: Op = OPS[name]
    if isinstance(row, Composite):
        function: Callable[..., Any] = _core.make_composite(row.function)
    elif isinstance(row, Host) and row.dynamic:
        function = _dynamic(row)
    else:
        function = _core.make_function(name)
    function.__name__ = name
    function.__doc__ = describe.documentation(row)
    function.__signature__ = row.signature() if isinstance(row, Composite) else describe.signature(row)  # type: ignore[attr-defined]
    return function


@functools.cache
def public(name: str) -> Callable[..., Any]:
    """The callable as users get it: functions without array operands take a device."""
    function = getattr(f, name)
    return _placed(function, name) if describe.places(OPS[name]) else function


def names(space: str) -> dict[str, Callable[..., Any]]:
    """The functions of one namespace ("np", "npx", "nd") or the methods ("method"), by public name."""
    return {alias: public(op) for op, row in OPS.items() for alias in getattr(row.row, space).split()}


def register(row: Op) -> None:
    """Makes a row known to the C++ runtime: after this ``f.<name>`` calls it."""
    if not isinstance(row, Composite):
        _core.register_op(row)


def _register() -> None:
    describe.load_rows()
    for row in OPS.values():
        register(row)
    f._bind(make, array=_array.array, asarray=_array.asarray, is_training=_core.is_training, paused=autograd.pause)
    primitives.array_call = lambda name, *args: getattr(f, name)(*args)
    methods = names("method")
    _array.set_methods({k: v for k, v in methods.items() if k not in ("reshape", "transpose", "astype", "detach")})


_register()
