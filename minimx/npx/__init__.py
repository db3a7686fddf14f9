"""``mx.npx``: neural operators and what NumPy lacks, made from the operator table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functions as _functions
from ..device import cpu, cpu_pinned, current_context, current_device, gpu, num_gpus
from ..engine import wait_all as waitall
from ..random import seed

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Functions come from the table at import."""


globals().update(_functions.names("npx"))


def set_np(shape: bool = True, array: bool = True, dtype: bool = False) -> None:
    """Gluon 2 code calls this first; minimx always has NumPy's semantics."""


def reset_np() -> None:
    """The reverse of set_np: nothing to do."""


def is_np_array() -> bool:
    """Always True: there is one array type."""
    return True


is_np_shape = is_np_array


def save(file: str, arr: Any) -> None:
    """Writes an array, a list or a dict of arrays; read it with ``load``. See minimx/serialization.py."""
    from ..serialization import save as write

    write(file, arr)


def load(file: str) -> Any:
    """Reads what ``save`` wrote."""
    from ..serialization import load as read

    return read(file)


__all__ = [name for name in globals() if not name.startswith("_") and name not in ("annotations", "Any")]
