"""Random numbers for data: one generator per SAMPLE, so that results depend on nothing but what is asked for.

While a loader fetches sample ``index`` in epoch ``epoch``, ``generator()`` gives Philox keyed by the loader's seed with
its counter set to (epoch, index). So an augmented sample is the same whichever worker makes it, however many workers
there are, and after a resume. Outside a loader ``generator()`` is one stream for the process.

In a loader's worker processes Python's ``random`` and ``numpy.random`` are also seeded, once per batch.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np

_WORD = (1 << 64) - 1


class _Current(threading.local):
    place: tuple[int, int, int] | None = None
    generator: np.random.Generator | None = None


_current = _Current()
_free: dict[int, np.random.Generator] = {}


def base_seed() -> int:
    """The seed of ``mx.random``; 0 in a process without minimx's arrays."""
    random = sys.modules.get("minimx.random")
    return int(random.get_state()[0]) if random else 0


def keyed(seed: int, *place: int) -> np.random.Generator:
    """A generator that is a pure function of ``seed`` and up to three integers (Salmon et al. 2011, Philox4x64)."""
    counter = [0, *(p & _WORD for p in place)]
    counter += [0] * (4 - len(counter))
    key = np.array([seed & _WORD, (seed >> 64) & _WORD], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(counter, dtype=np.uint64)))


def enter(seed: int, epoch: int, index: Any) -> None:
    """From here on, in this thread, random numbers are those of sample ``index`` in ``epoch``."""
    number = int(index) if isinstance(index, (int, np.integer)) else _stable_hash(index)
    _current.place, _current.generator = (seed, epoch, number), None


def leave() -> None:
    """Random numbers come from the process's own stream again."""
    _current.place = _current.generator = None


def generator() -> np.random.Generator:
    """The numpy generator that random transforms draw from; see the head of this file."""
    if _current.place is None:
        seed = base_seed()
        if seed not in _free:
            _free.clear()
            _free[seed] = keyed(seed, _WORD, _WORD)
        return _free[seed]
    if _current.generator is None:
        seed, epoch, number = _current.place
        _current.generator = keyed(seed, epoch, number)
    return _current.generator


def _stable_hash(key: Any) -> int:
    """A hash of a non-integer sample key that is the same in every process (unlike ``hash``)."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")
