"""The dependency engine's settings: threads, synchronous mode, bounds. Essay: docs/engine.md.

>>> import minimx as mx
>>> with mx.engine.sync():            # every operator runs at once, on this thread: for debugging
...     y = mx.np.ones(3) + 1
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .config import settings
from .libraries import import_core

_core = import_core()


def wait_all() -> None:
    """Blocks until every operator in flight has finished; raises the first error that no reader has seen."""
    _core.wait_all()


def num_threads() -> int:
    """Threads that work inside one large operator."""
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Sets how many threads work inside one large operator, at least one."""
    _core.set_num_threads(count)


def set_inflight_limit(size: int, operators: int) -> None:
    """How much may be queued, in bytes and in operators, before whoever pushes more is blocked."""
    _core.set_inflight_limit(size, operators)


@contextlib.contextmanager
def sync() -> Iterator[None]:
    """``with`` block in which this thread's operators run at once, in program order, and raise where they are
    called.
    """
    scope = _core.SyncScope()
    try:
        yield
    finally:
        del scope


def set_engine(name: str) -> str:
    """ "threaded" (default) or "naive" (everything at once, on the caller). Waits for work in flight; returns the
    former.
    """
    return "naive" if _core.set_naive(name == "naive") else "threaded"


def set_bulk_size(size: int) -> int:
    """How many operators of this thread are handed to the worker together; returns the former number. Default 0: each
    by itself. What was gathered until now is handed over. See ``bulk``, which also ends.
    """
    return _core.set_bulk_size(size)


@contextlib.contextmanager
def bulk(size: int) -> Iterator[None]:
    """``with`` block in which this thread's operators, where they cannot run at once, are gathered and handed to the
    worker ``size`` at a time; and earlier at the block's end, when anyone waits for them, or when order demands it.

    It saves the worker's wake-ups in loops of many small operators behind a large one, and delays the first of each
    bulk. Results and errors are the same. Hybridized code is one operator as it is.

    >>> import minimx as mx
    >>> with mx.engine.bulk(20):
    ...     y = mx.np.ones((300, 300))
    ...     for _ in range(50):
    ...         y = y * 0.5 + 1
    >>> round(y[0, 0].item(), 3)
    2.0
    """
    before = set_bulk_size(size)
    try:
        yield
    finally:
        set_bulk_size(before)


def push(
    function: Callable[[], Any], reads: Sequence = (), writes: Sequence = (), name: str = "callback", priority: int = 0
) -> None:
    """Queues a Python callable that runs on a host thread once the arrays it reads and writes are free for it.

    An exception it raises surfaces, in its own class, where an array of ``writes`` is read.
    """
    _core.push(function, list(reads), list(writes), name, priority)


def _start() -> None:
    import atexit
    import os

    set_num_threads(settings.num_threads)
    _core.set_inflight_limit(settings.inflight_mb << 20, 4096)
    if settings.engine == "naive":
        set_engine("naive")
    atexit.register(_core.shutdown)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_quiet_wait)


def _quiet_wait() -> None:
    """Before a fork: finish what is in flight. Failures stay with their arrays."""
    with contextlib.suppress(Exception):
        wait_all()


_start()
