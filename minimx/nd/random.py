"""``mx.nd.random``: Gluon 1's names of the distributions; those that it lacks are NumPy's, from ``mx.np.random``."""

from __future__ import annotations

from ..functions import names as _names
from ..np import random as _random

globals().update({name: getattr(_random, name) for name in _random.__all__})
globals().update({n.removeprefix("random."): f for n, f in _names("nd").items() if n.startswith("random.")})

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
