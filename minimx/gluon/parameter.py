"""Parameter: a named array that a block learns, one copy per device, made when its shape is known.

The shape may have unknown sizes (0, -1 or None); then the values wait ("deferred initialisation") until a layer has
seen its first input. Dicts of parameters are in parameter_dict.py, the registration in blocks in block.py.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as onp

from .. import autograd, initializer, np
from ..device import Device, cpu, current_device, num_gpus
from ..errors import ArgumentError, DeviceError, MXError, ShapeError
from ..ndarray import dtype_name

__all__ = ["Parameter", "Constant", "NotInitialized", "DeferredInitializationError"]

CHANGES = [0]  # how often the arrays of any parameter, or its grad_req, have changed


class NotInitialized(MXError, RuntimeError):
    """A parameter's values were asked for before ``initialize``."""


class DeferredInitializationError(NotInitialized):
    """A parameter's values were asked for while its shape is still unknown."""


class Parameter:
    """A weight and its gradient.

    name: what it is called in its block. grad_req: "write", "add" or "null" (no gradient). shape: sizes, of which
    unknown ones are 0, -1 or None. lr_mult, wd_mult: factors on the trainer's learning rate and weight decay. init: its
    own initializer, which wins over the one given to ``initialize``. allow_deferred_init: an unknown shape may wait for
    the first input. differentiable: False fixes grad_req to "null". layout: axis letters of a kernel ("OHWI"), for
    initializers. stype, grad_stype: only "default" exists.

    >>> import minimx as mx
    >>> w = mx.gluon.Parameter("weight", shape=(2, 3), init="ones")
    >>> w.initialize()
    >>> w.data().sum().item()
    6.0
    """

    def __init__(
        self,
        name: str = "",
        grad_req: str = "write",
        shape: int | Sequence[int | None] | None = None,
        dtype: Any = "float32",
        lr_mult: float = 1.0,
        wd_mult: float = 1.0,
        init: Any = None,
        allow_deferred_init: bool = False,
        differentiable: bool = True,
        stype: str = "default",
        grad_stype: str = "default",
        layout: str | None = None,
    ) -> None:
        if (stype, grad_stype) != ("default", "default"):
            raise ArgumentError(f"Parameter {name!r}", "stype and grad_stype 'default'", (stype, grad_stype))
        self.name = name
        self.path = ""  # name from the outermost block that collected it, such as features.0.weight
        self.lr_mult, self.wd_mult = lr_mult, wd_mult
        self.init, self.layout = init, layout
        self.allow_deferred_init, self.differentiable = allow_deferred_init, differentiable
        self._shape = None if shape is None else _as_shape(shape)
        self._dtype = dtype_name(dtype)
        self._grad_req = "null"
        self._arrays: dict[Device, Any] = {}
        self._only: Any = None  # the array, when there is exactly one device: the quick way of data()
        self._device: Device | None = None  # and its device
        self._deferred: tuple[Any, Any, list[Device]] | None = None  # own init, default init, devices
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()  # blocks; their graphs hold the arrays
        self.grad_req = grad_req if differentiable else "null"

    # What it is

    @property
    def label(self) -> str:
        """The name to show people: from the outermost block when known."""
        return self.path or self.name or "(unnamed)"

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.label} (shape={self.shape}, dtype={self.dtype})"

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Sizes, -1 where unknown; None when even their number is unknown. May be set once for each unknown size."""
        return self._shape

    @shape.setter
    def shape(self, new: Sequence[int]) -> None:
        new, old = _as_shape(new), self._shape
        if old is not None and (len(old) != len(new) or any(a not in (-1, b) for a, b in zip(old, new, strict=True))):
            raise ShapeError(f"Parameter {self.label!r}", f"shape {_show(old)}", new, "Does the input fit the layer?")
        self._shape = new

    @property
    def is_shape_known(self) -> bool:
        """True when every size is known."""
        return self._shape is not None and -1 not in self._shape

    @property
    def dtype(self) -> str:
        """Name of the element type. Setting it casts the values."""
        return self._dtype

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self.cast(dtype)

    @property
    def grad_req(self) -> str:
        """What backward does to the gradient: "write" it, "add" to it, or "null": there is none. May be set."""
        return self._grad_req

    @grad_req.setter
    def grad_req(self, grad_req: str) -> None:
        if grad_req not in ("write", "add", "null"):
            raise ArgumentError(f"Parameter {self.label!r}", "grad_req 'write', 'add' or 'null'", repr(grad_req))
        grad_req = grad_req if self.differentiable else "null"
        if grad_req != self._grad_req:
            self._grad_req = grad_req
            self._attach()

    # Giving it values

    def initialize(
        self,
        init: Any = None,
        device: Any = None,
        default_init: Any = None,
        force_reinit: bool = False,
        ctx: Any = None,
    ) -> None:
        """Fill with the parameter's own initializer, else ``init``, else ``default_init`` (Uniform(0.07)).

        device (or ctx): one device or several, each gets a copy; the current device by default. With an unknown shape
        it happens at the first input. Warns and does nothing when there are values already, unless force_reinit. Raises
        NameNotFound for an initializer that does not exist.
        """
        if self._arrays and not force_reinit:
            warn_kept([self])
            return
        own = init if self.init is None else self.init
        own = None if own is None else initializer.create(own)
        default = initializer.create(default_init or initializer.Uniform())
        self._keep({})
        self._deferred = (own, default, _as_devices(device if ctx is None else ctx))
        if self.is_shape_known:
            self.finish_deferred_init()
        elif not self.allow_deferred_init:
            self._deferred = None
            way_out = "Give all sizes, or allow_deferred_init=True"
            raise ShapeError(f"Parameter {self.label!r}", "a known shape to initialize", self.shape, way_out)

    def finish_deferred_init(self) -> None:
        """Make the values that ``initialize`` promised. DeferredInitializationError while the shape is unknown."""
        if self._deferred is None:
            return
        if not self.is_shape_known:
            self._raise_uninitialized()
        own, default, devices = self._deferred
        desc = initializer.InitDesc(self.path or self.name, {"layout": self.layout})
        if own is not None:
            desc.attrs["__init__"] = own
        self._make(devices, lambda array: default(desc, array))

    def _make(self, devices: Sequence[Device], fill: Callable[[Any], None]) -> None:
        """New arrays: filled on the CPU, so that every device starts from the same bits, and copied to the devices."""
        assert self._shape is not None  # whoever calls this knows it
        with autograd.pause(), cpu():
            made = np.zeros(self._shape, dtype=self._dtype)
            fill(made)
            arrays = {device: made if device == made.device else made.copyto(device) for device in devices}
        self._deferred = None
        self._keep(arrays)

    def _keep(self, arrays: dict[Device, Any]) -> None:
        """Take ``arrays`` as the values and give them gradients."""
        self._arrays = arrays
        self._device, self._only = next(iter(arrays.items())) if len(arrays) == 1 else (None, None)
        self._attach()

    def _attach(self) -> None:
        """Give the arrays gradients as grad_req says; graphs that were made with other arrays or wishes are void."""
        CHANGES[0] += 1
        for array in self._arrays.values():
            array.attach_grad(self._grad_req)
        for block in list(self._owners):
            block._structure_changed()

    def set_data(self, data: Any) -> None:
        """Set the values on all devices to ``data`` (array-like of the same shape; it settles unknown sizes)."""
        self.shape = onp.shape(data) if not hasattr(data, "shape") else data.shape
        if self._deferred is not None:
            self._make(self._deferred[2], lambda array: _assign(array, data))
            return
        for array in self._known().values():
            with autograd.pause():
                _assign(array, data)

    def load_init(self, data: Any, device: Any = None, cast: bool = False) -> None:
        """Take loaded values, initialising the parameter if nobody did. ``cast``: keep own type, else take theirs."""
        self.shape = data.shape
        if not cast and dtype_name(data.dtype) != self._dtype:
            self.cast(data.dtype)
        devices = None if device is None else _as_devices(device)
        if not self._arrays:
            planned = self._deferred[2] if self._deferred else _as_devices(None)
            self._make(devices or planned, lambda array: _assign(array, data))
            return
        if devices and devices != list(self._arrays):
            self.reset_device(devices)
        self.set_data(data)

    # Reading it

    def data(self, device: Any = None, ctx: Any = None) -> Any:
        """The values on ``device`` (or ctx); without one, the only copy, or that of the current device.

        Raises NotInitialized, DeferredInitializationError, or DeviceError when the device has no copy. While a graph is
        traced, an array that comes from here is noted as an input of the graph.
        """
        if self._only is not None and device is None and ctx is None:
            return self._only
        return self._find(device if ctx is None else ctx)

    def beside(self, x: Any) -> Any:
        """The copy on the device of the array ``x``; with one copy that one, and the operator checks. For layers."""
        return self._only if self._only is not None else self._find(x.device)

    def _find(self, device: Any) -> Any:
        arrays = self._known()
        if device is None:
            device = self._device if self._device is not None else current_device()
        if device not in arrays:
            way_out = "Call reset_device, or move the input"
            raise DeviceError(f"Parameter {self.label!r}", f"one of its devices {list(arrays)}", device, way_out)
        return arrays[device]

    def _known(self) -> dict[Device, Any]:
        if not self._arrays:
            self._raise_uninitialized()
        return self._arrays

    def _raise_uninitialized(self) -> None:
        where = f"Parameter {self.label!r}"
        if self._deferred is not None:
            way_out = "Run the block once on data, or give the layer its in_units, in_channels or the like"
            raise DeferredInitializationError(where, "a known shape", _show(self.shape), way_out)
        raise NotInitialized(
            where, "values", "none", "Call initialize() on the block first, and load or train after it"
        )

    def grad(self, device: Any = None, ctx: Any = None) -> Any:
        """The gradient on ``device``. Raises like ``data``, and when grad_req is "null"."""
        if self._grad_req == "null":
            raise ArgumentError(f"Parameter {self.label!r}", "a gradient", "grad_req 'null'", "Set grad_req = 'write'")
        return self._find(device if ctx is None else ctx).grad

    def list_data(self) -> list[Any]:
        """The values on every device, in the order of initialisation."""
        return list(self._known().values())

    def list_grad(self) -> list[Any]:
        """The gradients on every device."""
        return [self.grad(device) for device in self._known()]

    def list_device(self) -> list[Device]:
        """The devices it lives on, or will."""
        return list(self._deferred[2]) if self._deferred is not None else list(self._known())

    list_ctx = list_device

    def var(self) -> Any:
        """Gluon 1's symbol of the parameter; here the array itself."""
        return self.data()

    # Changing it

    def zero_grad(self) -> None:
        """Set the gradients to 0. Nothing to do without gradients."""
        if self._grad_req != "null":
            for array in self._arrays.values():
                array.grad[...] = 0

    def reset_device(self, device: Any) -> None:
        """Move to ``device``, one or several."""
        devices = _as_devices(device)
        if self._arrays:
            source = next(iter(self._arrays.values()))
            with autograd.pause():
                arrays = {d: self._arrays[d] if d in self._arrays else source.copyto(d) for d in devices}
            self._keep(arrays)
        elif self._deferred is not None:
            self._deferred = (*self._deferred[:2], devices)
        else:
            self._raise_uninitialized()

    def reset_ctx(self, ctx: Any) -> None:
        """Gluon 1's name of ``reset_device``."""
        self.reset_device(ctx)

    def cast(self, dtype: Any) -> None:
        """Change the element type of values and gradients. Gradients become 0."""
        self._dtype = dtype_name(dtype)
        with autograd.pause():
            self._keep({device: array.astype(self._dtype) for device, array in self._arrays.items()})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owners": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copies and pickles get gradients of their own. Those of a GPU that is not here come to the CPU."""
        self.__dict__.update(state)
        self._owners = weakref.WeakSet()
        if self._deferred is not None:
            self._deferred = (*self._deferred[:2], list(dict.fromkeys(map(_or_cpu, self._deferred[2]))))
        self._keep({array.device: array for array in self._arrays.values()})


class Constant(Parameter):
    """A parameter that is not learnt: ``Constant(value)``, or ``Constant(name, value)`` as in Gluon 1."""

    def __init__(self, name: Any, value: Any = None) -> None:
        if value is None:
            name, value = "const", name
        value = value if hasattr(value, "asnumpy") else np.array(value)
        self.value = value
        super().__init__(
            name, "null", tuple(value.shape), value.dtype, init=initializer.Constant(value), differentiable=False
        )


def __getattr__(name: str) -> Any:
    """``gluon.parameter.ParameterDict``, where Gluon has it."""
    if name == "ParameterDict":
        from .parameter_dict import ParameterDict

        return ParameterDict
    raise AttributeError(f"gluon.parameter.{name}: expected {', '.join(__all__)} or ParameterDict, got no such name.")


def warn_kept(parameters: Sequence[Parameter]) -> None:
    """Warns the caller's caller that ``initialize`` has left these as they are, if there are any."""
    if not parameters:
        return
    first, others = repr(parameters[0].label), len(parameters) - 1
    who = f"Parameter {first}" if not others else f"Parameter {first} (and {others} more)"
    warnings.warn(f"{who} has values already and keeps them. Pass force_reinit=True to draw new ones.", stacklevel=3)


def _as_shape(shape: int | Sequence[int | None]) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else shape
    return tuple(-1 if n is None or n <= 0 else int(n) for n in sizes)


def _show(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else "(" + ", ".join("?" if n < 0 else str(n) for n in shape) + ")"


def _as_devices(device: Any) -> list[Device]:
    if device is None:
        return [current_device()]
    devices = list(device) if isinstance(device, (list, tuple)) else [device]
    if not devices or len(set(devices)) != len(devices):
        raise ArgumentError("Parameter", "one or more distinct devices", devices, "Name each device once")
    return devices


def _or_cpu(device: Device) -> Device:
    return device if device.device_type == "cpu" or device.device_id < num_gpus() else cpu()


def _assign(array: Any, data: Any) -> None:
    array[...] = data if hasattr(data, "asnumpy") else np.array(data, dtype=array.dtype)
