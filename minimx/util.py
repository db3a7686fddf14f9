"""``mx.util``: the switches of NumPy's semantics that Gluon 2 code sets; minimx always has them."""

from __future__ import annotations

import contextlib
from typing import TypeVar

_T = TypeVar("_T")


def set_np(shape: bool = True, array: bool = True, dtype: bool = False) -> None:
    """Gluon 2 code calls this first; minimx always has NumPy's semantics."""


def reset_np() -> None:
    """The reverse of set_np: nothing to do."""


def is_np_array() -> bool:
    """Always True: there is one array type."""
    return True


def use_np(decorated: _T) -> _T:
    """The decorator of Gluon 2 code for classes and functions with NumPy's semantics; returns what it is given."""
    return decorated


def np_shape(active: bool = True) -> contextlib.AbstractContextManager[None]:
    """A ``with`` block in which nothing is different."""
    return contextlib.nullcontext()


is_np_shape = is_np_array
np_array = np_shape
use_np_array = use_np_shape = use_np

__all__ = [
    "is_np_array",
    "is_np_shape",
    "np_array",
    "np_shape",
    "reset_np",
    "set_np",
    "use_np",
    "use_np_array",
    "use_np_shape",
]
