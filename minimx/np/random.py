"""``mx.np.random``: NumPy's distributions on the one stream that ``mx.random.seed`` starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import functions as _functions

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Functions come from the table at import."""


globals().update({n.removeprefix("random."): f for n, f in _functions.names("np").items() if n.startswith("random.")})

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
