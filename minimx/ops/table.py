"""The table: one row per operator, and what every row must be able to say of itself.

A row is made by ``elemwise``, ``reduce``, ``view``, ``kernel``, ``random``, ``host`` or ``composite`` (one file each in
``kinds/``; the rows themselves are in ``rows/``). From it derive the numpy reference, the kernels, the gradient, the
saved set, shape and type inference, the functions of np/npx/nd and the methods, the docs and the tests. Standard
library only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .dtypes import promote_all

OPS: dict[str, Op] = {}


class Spec(NamedTuple):
    """What a rule knows of an operand: an array, or a Python scalar (``weak``), or an absent optional (``None``
    instead).
    """

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] = ()
    weak: bool = False


@dataclass
class Plan:
    """What a rule answers for one signature; C++ keeps it (csrc/runtime/plan.h).

    outs: (shape, dtype) of each output. kernel: name of the factory and its attrs. casts: type that each operand is
    brought to first ('' = as it is). contiguous: operands are made C-contiguous first. view: (strides, offset) in
    elements if the one output shares operand 0's memory. saves_random: takes a number of the random stream.
    """

    outs: Sequence[tuple[tuple[int, ...], str]]
    kernel: str = ""
    attrs: dict[str, Any] = field(default_factory=dict)
    casts: Sequence[str] = ()
    contiguous: bool = False
    view: tuple[tuple[int, ...], int] | None = None
    random: bool = False


@dataclass
class Param:
    """One parameter of an operator: an operand (``arrays``: a sequence of them) or an attribute; ``optional`` may
    be None.
    """

    name: str
    is_operand: bool
    default: Any = inspect.Parameter.empty
    arrays: bool = False

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass
class Row:
    """What every kind of row says besides its rule; missing parts fail ``check()``."""

    np: str = ""
    npx: str = ""
    nd: str = ""
    method: str = ""
    doc: str = ""
    against: Any = None  # independent reference: numpy/scipy name, callable, or list of hand-checked points
    samples: Callable[..., list] | None = None  # sample(dtype, rng) -> [(operands, attrs)]
    errors: Sequence[tuple] = ()  # ((operands, attrs), exception class)
    domain: Any = (-3.0, 3.0)  # open interval from which test inputs are drawn, or one per operand
    dtypes: Sequence[str] = ()  # types that are tested
    amp: str = ""  # under mixed precision operands are brought to the "low" type or to "float32"; "": left as they are
    example: str = ""  # a session with np, npx, nd and mx at hand, for the docstring; run by the tests


class Op:
    """A row. Subclasses (``kinds/``) give ``plan`` and ``backward``."""

    kind = "op"
    random = False

    def __init__(self, name: str, params: list[Param], row: Row):
        if name in OPS:
            raise ValueError(
                f"operator {name!r}: expected a new name, got one that {OPS[name].kind} row has. Rename it."
            )
        self.name, self.params, self.row = name, params, row
        self.doc, mark, session = inspect.cleandoc(row.doc).partition("\n\n>>>")  # a docstring's example
        row.example = mark.strip() + session if mark else row.example
        OPS[name] = self

    @property
    def operands(self) -> list[Param]:
        """The array (or scalar) parameters, in order."""
        return [p for p in self.params if p.is_operand]

    @property
    def attributes(self) -> list[Param]:
        """The parameters that are part of a plan's key."""
        return [p for p in self.params if not p.is_operand]

    def plan(self, ins: Sequence[Spec | None], attrs: dict[str, Any]) -> Plan:
        """Output types, kernel and views for operands ``ins``. Raises ShapeError, DTypeError, ArgumentError."""
        raise NotImplementedError

    def backward(
        self, gs: Sequence, ins: Sequence, outs: Sequence, attrs: dict[str, Any], needs: Sequence[bool]
    ) -> list:
        """Gradients for the operands with ``needs``, written with operators; None is a zero. Traced once per
        signature.
        """
        return [None] * len(ins)

    def signature(self) -> inspect.Signature:
        """Signature as users see it."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Signature([inspect.Parameter(p.name, kind, default=p.default) for p in self.params])


def params_of(rule: Callable, skip: int = 0) -> list[Param]:
    """Parameters of a rule: before ``/`` operands (``xs: list`` is a sequence of arrays), after it attributes."""
    out = []
    for p in list(inspect.signature(rule).parameters.values())[skip:]:
        operand = p.kind is inspect.Parameter.POSITIONAL_ONLY
        out.append(Param(p.name, operand, p.default, operand and p.annotation in ("list", list)))
    return out


class _Functions:
    """``f``: every operator and composite as a function on arrays, for gradient rules and composites.

    Also what composites must ask of the layers above: ``array`` and ``asarray`` (for what users pass),
    ``is_training()`` and ``paused()`` (the tape's mode). All of it is bound when arrays exist (minimx/functions.py);
    here is the promise.
    """

    _make: Callable[[str], Callable] | None = None

    def _bind(self, make: Callable[[str], Callable], **services: Callable[..., Any]) -> None:
        self._make = make
        for name, service in services.items():
            setattr(self, name, service)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._make is None:
            raise AttributeError(f"f.{name}: expected arrays to exist, got the bare table. Import minimx first.")
        function = self._make(name)
        setattr(self, name, function)
        return function


f: Any = _Functions()


def broadcast(where: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's broadcast shape of ``shapes``; ShapeError if there is none."""
    from ..errors import ShapeError

    n = max((len(s) for s in shapes), default=0)
    out = [1] * n
    for s in shapes:
        for i, d in enumerate(s, n - len(s)):
            if d != 1 and out[i] != 1 and d != out[i]:
                raise ShapeError(
                    where,
                    "shapes that broadcast (equal or 1 from the right)",
                    " and ".join(map(str, shapes)),
                    "Reshape or expand_dims one of them",
                )
            if d != 1:
                out[i] = d
    return tuple(out)


def common_dtype(ins: Sequence[Spec | None]) -> str:
    """Promotion of the operands: arrays by promote, Python scalars weak."""
    arrays = [s.dtype for s in ins if s is not None and not s.weak]
    scalars = [{"float64": float, "int64": int, "bool": bool}[s.dtype] for s in ins if s is not None and s.weak]
    return promote_all(arrays, scalars)


def normal_axes(where: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """``axis`` as a sorted tuple of distinct non-negative numbers; None is all of them. Raises AxisError-like
    errors.
    """
    from ..errors import ArgumentError, IndexOutOfBounds

    if axis is None:
        return tuple(range(ndim))
    out = []
    for a in (axis,) if isinstance(axis, int) else axis:
        if not -ndim <= a < ndim:
            raise IndexOutOfBounds(
                where, f"axis in [{-ndim}, {ndim})", f"{a} for {ndim} dimensions", "Use an axis the array has"
            )
        out.append(a % ndim)
    if len(set(out)) != len(out):
        raise ArgumentError(where, "distinct axes", axis, "Drop the repeated one")
    return tuple(sorted(out))
