"""Sample inputs of rows: ``samples=drawn(case((2, 3), (3,), axis=0), ...)`` draws arrays of those shapes.

An operand is given as a shape (uniform in the row's usual range), a list of shapes, ``Ints(shape, high)``,
``Positive(shape)``, or a Python number or array, taken as it is. NumPy comes in with the generator the tests pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Ints(NamedTuple):
    """Integers in [low, high)."""

    shape: tuple[int, ...]
    high: int
    low: int = 0


class Positive(NamedTuple):
    """Reals in [0.5, 3)."""

    shape: tuple[int, ...]


def case(*operands: Any, **attrs: Any) -> tuple:
    """One call: operands as above, then attributes."""
    return operands, attrs


def _draw(operand: Any, dtype: str, rng: Any) -> Any:
    if isinstance(operand, Ints):
        return rng.integers(operand.low, operand.high, operand.shape)
    dtype = "float32" if dtype == "bfloat16" else dtype
    if isinstance(operand, Positive):
        return rng.uniform(0.5, 3, operand.shape).astype(dtype)
    if isinstance(operand, list):
        return [_draw(o, dtype, rng) for o in operand]
    if isinstance(operand, tuple):
        if dtype == "bool":
            return rng.integers(0, 2, operand).astype(bool)
        return rng.uniform(0 if dtype == "uint8" else -3, 3, operand).astype(dtype)
    return operand


def drawn(*cases: tuple) -> Callable[[str, Any], list]:
    """A row's ``samples``: the cases with arrays in place of the shapes."""
    return lambda dtype, rng: [([_draw(o, dtype, rng) for o in operands], attrs) for operands, attrs in cases]
