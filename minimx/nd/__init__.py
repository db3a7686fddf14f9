"""``mx.nd``: Gluon 1's names for the same operators, for the mass of code that uses them.

The array type is ``mx.np.ndarray``; functions that Gluon 1 lacks are found under their NumPy name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functions as _functions
from .. import np as _np
from .. import npx as _npx
from ..ndarray import array, ndarray

NDArray = ndarray
if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Functions come from the table at import."""


globals().update(
    {k: v for space in (_np, _npx) for k, v in vars(space).items() if not k.startswith("_") and callable(v)}
)
globals().update(_functions.names("nd"))
from ..ndarray import array  # noqa: E402, F811
from ..np import random  # noqa: E402

save, load, waitall = _npx.save, _npx.load, _npx.waitall
__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
