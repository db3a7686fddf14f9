"""``mx.npx.random``: distributions with a batch shape, on the one stream that ``mx.random.seed`` starts."""

from __future__ import annotations

from ..functions import names as _names
from ..random import seed

_table = _names("npx")
bernoulli, normal_n, uniform_n = _table["bernoulli"], _table["normal_n"], _table["uniform_n"]

__all__ = ["bernoulli", "normal_n", "seed", "uniform_n"]
