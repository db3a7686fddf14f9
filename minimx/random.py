"""The random stream: one counter-based generator for all devices (Philox4x32-10, Salmon et al. 2011).

Its state is two numbers, the seed and how many random operators have run; eager and hybridized code draw the same.
"""

from __future__ import annotations

from typing import Any

from .ndarray import _core

_MASK = (1 << 64) - 1


def seed(seed: int, device: Any = "all", ctx: Any = "all") -> None:
    """Starts the stream anew. The same seed gives the same numbers, whatever the number of threads."""
    _core.set_random_state(int(seed) & _MASK, 0)


def get_state() -> tuple[int, int]:
    """(seed, calls so far): all there is to save."""
    return _core.random_state()


def set_state(state: tuple[int, int]) -> None:
    """Continues from a saved state."""
    _core.set_random_state(*state)
