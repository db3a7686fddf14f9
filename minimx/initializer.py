"""``mx.init``: how parameters get their first values. An initializer fills an array in place.

All randomness comes from ``mx.np.random``, so ``mx.random.seed`` governs it. A new one is a subclass with
``_init_weight(self, name, array)``, and ``@mx.init.register`` gives it a name. minimx/gluon/parameter.py calls them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as onp

from . import np
from .errors import ArgumentError, NameNotFound, ShapeError

__all__ = [
    "InitDesc",
    "Initializer",
    "register",
    "create",
    "Zero",
    "One",
    "Constant",
    "Uniform",
    "Normal",
    "Orthogonal",
    "Xavier",
    "MSRAPrelu",
    "Bilinear",
    "LSTMBias",
    "Mixed",
    "Load",
]

_REGISTRY: dict[str, type[Initializer]] = {}


class InitDesc(str):
    """A parameter's name, together with what else is known of it.

    ``attrs["__init__"]``: the parameter's own initializer (overrides the caller's). ``attrs["layout"]``: axis letters
    of a kernel, such as "OHWI", from which fans are counted.
    """

    attrs: dict[str, Any]

    def __new__(cls, name: str, attrs: dict[str, Any] | None = None) -> InitDesc:
        self = super().__new__(cls, name)
        self.attrs = attrs or {}
        return self


class Initializer:
    """Base of all initializers. Calling one fills ``array`` in place.

    Given an ``InitDesc``, the parameter's own initializer goes first. Given a plain string, the name's ending decides:
    bias, beta and mean are zeros, gamma and var are ones, all others are weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = kwargs

    def __call__(self, desc: str, array: Any) -> None:
        if isinstance(desc, InitDesc):
            own = desc.attrs.get("__init__")
            (self if own is None else create(own))._init_weight(desc, array)
        elif desc.endswith(("bias", "beta", "mean", "moving_avg", "min")):
            array[...] = 0
        elif desc.endswith(("gamma", "var", "max")):
            array[...] = 1
        else:
            self._init_weight(desc, array)

    def _init_weight(self, name: str, array: Any) -> None:
        """Fill ``array``; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__}._init_weight: a subclass of Initializer fills the array here")

    def dumps(self) -> str:
        """The initializer as JSON: its name and arguments, as ``create`` takes them."""
        return json.dumps([type(self).__name__.lower(), self._kwargs], default=lambda value: value.tolist())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._kwargs.items())})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def register(cls: type[Initializer]) -> type[Initializer]:
    """Class decorator: makes an initializer known to ``create`` under its name in lower case."""
    _REGISTRY[cls.__name__.lower()] = cls
    return cls


def _alias(*names: str) -> Any:
    def decorate(cls: type[Initializer]) -> type[Initializer]:
        _REGISTRY.update(dict.fromkeys(names, cls))
        return register(cls)

    return decorate


def create(init: Any, **kwargs: Any) -> Any:
    """An initializer from an initializer (returned as it is), a name, a JSON text of ``dumps``, or a callable.

    >>> create("xavier", magnitude=2.0)
    Xavier(rnd_type='uniform', factor_type='avg', magnitude=2.0)
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, type) and issubclass(init, Initializer):
        return init(**kwargs)
    if isinstance(init, str):
        if init.startswith("["):
            init, kwargs = json.loads(init)
        if init.lower() not in _REGISTRY:
            raise NameNotFound(
                "init.create", f"one of {', '.join(sorted(_REGISTRY))}", repr(init), "Register it, or fix the name"
            )
        return _REGISTRY[init.lower()](**kwargs)
    if callable(init):
        return _FromFunction(init)
    raise ArgumentError(
        "init.create", "an initializer, its name or a function", repr(init), "Pass for example mx.init.Xavier()"
    )


class _FromFunction(Initializer):
    """Wraps ``function(name, array)``."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._init_weight = function  # type: ignore[method-assign]


@_alias("zeros")
class Zero(Initializer):
    """All zeros."""

    def _init_weight(self, name: str, array: Any) -> None:
        array[...] = 0


@_alias("ones")
class One(Initializer):
    """All ones."""

    def _init_weight(self, name: str, array: Any) -> None:
        array[...] = 1


@register
class Constant(Initializer):
    """``value`` everywhere: a number, or an array-like that broadcasts to the parameter's shape."""

    def __init__(self, value: Any) -> None:
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, name: str, array: Any) -> None:
        simple = isinstance(self.value, (int, float)) or hasattr(self.value, "wait_to_read")
        array[...] = self.value if simple else np.array(onp.asarray(self.value), dtype=array.dtype)


@register
class Uniform(Initializer):
    """Uniform in [-scale, scale)."""

    def __init__(self, scale: float = 0.07) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _init_weight(self, name: str, array: Any) -> None:
        array[...] = np.random.uniform(-self.scale, self.scale, size=array.shape)


@register
class Normal(Initializer):
    """Normal with mean 0 and standard deviation ``sigma``."""

    def __init__(self, sigma: float = 0.01) -> None:
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _init_weight(self, name: str, array: Any) -> None:
        array[...] = np.random.normal(0.0, self.sigma, size=array.shape)


@register
class Orthogonal(Initializer):
    """Rows (or columns, where fewer) orthonormal, times ``scale``. Saxe et al. 2013, arXiv:1312.6120.

    Axes after the first count as one. ``rand_type``: "uniform" in [-1, 1) or "normal", the matrix that is decomposed.
    """

    def __init__(self, scale: float = 1.414, rand_type: str = "uniform") -> None:
        super().__init__(scale=scale, rand_type=rand_type)
        if rand_type not in ("uniform", "normal"):
            raise ArgumentError("init.Orthogonal", "rand_type 'uniform' or 'normal'", repr(rand_type))
        self.scale, self.rand_type = scale, rand_type

    def _init_weight(self, name: str, array: Any) -> None:
        rows, columns = array.shape[0], math.prod(array.shape[1:])
        draw = np.random.uniform if self.rand_type == "uniform" else np.random.normal
        low_or_mean = -1.0 if self.rand_type == "uniform" else 0.0
        matrix = draw(low_or_mean, 1.0, size=(rows, columns)).asnumpy()
        u, _, v = onp.linalg.svd(matrix, full_matrices=False)
        chosen = u if u.shape == matrix.shape else v
        array[...] = np.array(self.scale * chosen.reshape(array.shape), dtype="float32")


def fans(shape: Sequence[int], layout: str | None = None) -> tuple[int, int]:
    """(fan in, fan out) of a weight: inputs and outputs of a unit, times the kernel's size.

    Without ``layout`` axis 0 is the outputs and axis 1 the inputs (Dense, and NCHW convolutions).
    """
    letters = layout or "OI" + "*" * (len(shape) - 2)
    kernel = math.prod(n for n, letter in zip(shape, letters, strict=True) if letter not in "OI")
    return shape[letters.index("I")] * kernel, shape[letters.index("O")] * kernel


@register
class Xavier(Initializer):
    """Variance ``magnitude / fan``: uniform in +-sqrt(magnitude / fan) or normal with that standard deviation.

    Glorot and Bengio 2010. ``factor_type``: "in", "out" or "avg" of the fans. ``rnd_type``: "uniform" or "gaussian".
    """

    def __init__(self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3) -> None:
        super().__init__(rnd_type=rnd_type, factor_type=factor_type, magnitude=magnitude)
        if rnd_type not in ("uniform", "gaussian"):
            raise ArgumentError("init.Xavier", "rnd_type 'uniform' or 'gaussian'", repr(rnd_type))
        if factor_type not in ("in", "out", "avg"):
            raise ArgumentError("init.Xavier", "factor_type 'in', 'out' or 'avg'", repr(factor_type))
        self.rnd_type, self.factor_type, self.magnitude = rnd_type, factor_type, float(magnitude)

    def _init_weight(self, name: str, array: Any) -> None:
        if array.ndim < 2:
            way_out = "Give it another initializer, for example init='zeros'"
            raise ShapeError(f"init.{type(self).__name__}", f"at least 2 axes for {str(name)!r}", array.shape, way_out)
        fan_in, fan_out = fans(array.shape, getattr(name, "attrs", {}).get("layout"))
        fan = {"in": fan_in, "out": fan_out, "avg": (fan_in + fan_out) / 2}[self.factor_type]
        scale = math.sqrt(self.magnitude / max(fan, 1))
        if self.rnd_type == "uniform":
            array[...] = np.random.uniform(-scale, scale, size=array.shape)
        else:
            array[...] = np.random.normal(0.0, scale, size=array.shape)


@register
class MSRAPrelu(Xavier):
    """Normal with variance 2 / ((1 + slope^2) fan), for layers before (P)ReLU. He et al. 2015, arXiv:1502.01852."""

    def __init__(self, factor_type: str = "avg", slope: float = 0.25) -> None:
        super().__init__("gaussian", factor_type, 2.0 / (1 + slope**2))
        self._kwargs = {"factor_type": factor_type, "slope": slope}


@register
class Bilinear(Initializer):
    """Kernels (..., H, W) of a transposed convolution that upsamples bilinearly."""

    def _init_weight(self, name: str, array: Any) -> None:
        height, width = array.shape[-2:]
        factor = math.ceil(width / 2.0)
        centre = (2 * factor - 1 - factor % 2) / (2.0 * factor)
        across = 1 - onp.abs(onp.arange(width) / factor - centre)
        down = 1 - onp.abs(onp.arange(height) / factor - centre)
        kernel = (down[:, None] * across).astype("float32")
        array[...] = np.array(onp.broadcast_to(kernel, array.shape).copy(), dtype="float32")


@register
class LSTMBias(Initializer):
    """Zeros, and ``forget_bias`` for the forget gate: the second quarter of the bias (gates i, f, c, o)."""

    def __init__(self, forget_bias: float = 1.0) -> None:
        super().__init__(forget_bias=forget_bias)
        self.forget_bias = forget_bias

    def _init_weight(self, name: str, array: Any) -> None:
        hidden = array.shape[0] // 4
        array[...] = 0
        array[hidden : 2 * hidden] = self.forget_bias


class Mixed:
    """Initializers by name: the first of ``patterns`` (regular expressions) that matches picks its initializer.

    >>> init = Mixed([".*bias", ".*"], ["zeros", Xavier()])
    """

    def __init__(self, patterns: Sequence[str], initializers: Sequence[Any]) -> None:
        if len(patterns) != len(initializers):
            raise ArgumentError(
                "init.Mixed", "as many initializers as patterns", f"{len(initializers)} for {len(patterns)}"
            )
        self.map = [(re.compile(p), create(i)) for p, i in zip(patterns, initializers, strict=True)]

    def __call__(self, desc: str, array: Any) -> None:
        for pattern, initializer in self.map:
            if pattern.match(desc):
                initializer(desc, array)
                return
        patterns = [p.pattern for p, _ in self.map]
        raise NameNotFound(
            "init.Mixed", f"a name that one of {patterns} matches", repr(str(desc)), "Add '.*' as the last pattern"
        )


class Load:
    """Values from a file or dict by name; other names go to ``default_init``."""

    def __init__(self, param: Any, default_init: Any = None, verbose: bool = False) -> None:
        from .serialization import read

        source = param if isinstance(param, dict) else read(param).arrays
        self.param = {name.removeprefix("arg:").removeprefix("aux:"): value for name, value in source.items()}
        self.default_init = None if default_init is None else create(default_init)

    def __call__(self, desc: str, array: Any) -> None:
        value = self.param.get(str(desc))
        if value is not None:
            if tuple(value.shape) != tuple(array.shape):
                raise ShapeError(
                    "init.Load", f"shape {array.shape} for {str(desc)!r}", value.shape, "The file is another model's"
                )
            array[...] = value
        elif self.default_init is not None:
            self.default_init(desc, array)
        else:
            raise NameNotFound(
                "init.Load", f"a value for {str(desc)!r}", f"{len(self.param)} others", "Pass default_init"
            )
