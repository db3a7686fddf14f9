"""``mx.nd``: Gluon 1's names for the same operators, for the mass of code that uses them.

The array type is ``mx.np.ndarray``; functions that Gluon 1 lacks are found under their NumPy name. For editors and type
checkers the functions are in ``__init__.pyi``, written by ``python -m minimx.ops stubs``.
"""

from __future__ import annotations

from .. import functions as _functions
from .. import np as _np
from .. import npx as _npx

globals().update({name: x for space in (_np, _npx) for name in space.__all__ if callable(x := getattr(space, name))})
globals().update({name: f for name, f in _functions.names("nd").items() if "." not in name})

from ..ndarray import array, ndarray  # noqa: E402
from . import random  # noqa: E402

NDArray = ndarray
__all__ = [name for name in globals() if not name.startswith("_") and name not in ("annotations", "name", "space", "x")]
