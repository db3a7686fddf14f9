"""``mx.np.linalg``: linear algebra, on the host library (NumPy) for now."""

from __future__ import annotations

from .. import functions as _functions

globals().update({n.removeprefix("linalg."): f for n, f in _functions.names("np").items() if n.startswith("linalg.")})

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
