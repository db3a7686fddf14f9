"""``mx.np.random``: NumPy's distributions on the one stream that ``mx.random.seed`` starts."""

from __future__ import annotations

from .. import functions as _functions
from ..random import seed as seed

globals().update({n.removeprefix("random."): f for n, f in _functions.names("np").items() if n.startswith("random.")})

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
