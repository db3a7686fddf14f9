"""Checking loaded values against a model's parameters, whole, before any parameter changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import DTypeError, NameNotFound, ShapeError
from ..ndarray import dtype_name
from .parameter import Parameter

__all__ = ["load_into"]

_SHOWN = 8  # names listed in an error


def load_into(
    parameters: Mapping[str, Parameter],
    values: Mapping[str, Any],
    where: str,
    device: Any = None,
    allow_missing: bool = False,
    ignore_extra: bool = False,
    cast_dtype: bool = False,
    dtype_source: str = "current",
) -> None:
    """Give ``parameters`` the arrays of the same names in ``values``.

    Raises NameNotFound for names missing or left over (unless allowed), ShapeError and DTypeError for what does not
    fit; then nothing has changed. A parameter with several names needs only one of them. With ``cast_dtype`` types may
    differ: dtype_source "current" keeps the parameter's, "saved" takes the file's.
    """
    _check_names(parameters, values, where, allow_missing, ignore_extra)
    pairs = [(p, values[name]) for name, p in parameters.items() if name in values]
    _check_shapes(pairs, where)
    if not cast_dtype:
        _check_types(pairs, where)
    for parameter, value in pairs:
        parameter.load_init(value, device, cast=dtype_source == "current")


def _check_names(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any], where: str, allow_missing: bool, ignore_extra: bool
) -> None:
    given = {id(parameters[name]) for name in values if name in parameters}
    missing = [f"{name} {p.shape}" for name, p in parameters.items() if id(p) not in given]
    extra = [f"{name} {tuple(value.shape)}" for name, value in values.items() if name not in parameters]
    if missing and not allow_missing:
        has = f"none for {_listed(missing)}" + (f"; the file has {_listed(extra)} instead" if extra else "")
        raise NameNotFound(where, "a value for each parameter", has, "Is it the same model? Or pass allow_missing=True")
    if extra and not ignore_extra:
        raise NameNotFound(
            where, "only names of the model", _listed(extra), "Is it the same model? Or pass ignore_extra=True"
        )


def _check_shapes(pairs: list[tuple[Parameter, Any]], where: str) -> None:
    wrong = [
        f"{p.label}: model {p.shape}, file {tuple(v.shape)}"
        for p, v in pairs
        if p.shape is not None
        and (len(p.shape) != len(v.shape) or any(a not in (-1, b) for a, b in zip(p.shape, v.shape, strict=True)))
    ]
    if wrong:
        raise ShapeError(
            where, "the model's shapes", _listed(wrong), "Build the model with the sizes it was saved with"
        )


def _check_types(pairs: list[tuple[Parameter, Any]], where: str) -> None:
    wrong = [
        f"{p.label}: model {p.dtype}, file {dtype_name(v.dtype)}" for p, v in pairs if p.dtype != dtype_name(v.dtype)
    ]
    if wrong:
        raise DTypeError(where, "the model's types", _listed(wrong), "Pass cast_dtype=True, or cast the model first")


def _listed(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
