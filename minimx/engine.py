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
from .orders import Order, checked, record_order, replay_order, shuffle_order  # noqa: F401

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
    """How many operator calls of this thread may be put off, to run together; returns the former number.

    size: 0 runs each call when it is made, -1 is the default (``settings.bulk_size``): pointwise operators of GPUs, and
    those on large arrays of the CPU, are put off, up to 32. What was put off until now runs. See ``bulk``, which also
    ends.
    """
    return _core.set_bulk_size(size)


@contextlib.contextmanager
def bulk(size: int) -> Iterator[None]:
    """``with`` block in which this thread's pointwise operators are put off and run together, ``size`` at a time at
    most; earlier at the block's end, when anyone reads what they make, before other operators, or after some
    milliseconds.

    Calls that come again in the same order, on the same types and shapes and with the same numbers, are compiled beside
    the program and run as fused kernels from then on, in which results that nobody holds are not written to memory.
    Other operators of the CPU, where they cannot run at once, are handed to the worker ``size`` at a time. Results are
    the same to the bit, and errors name the line of the call. Hybridized code is one operator as it is.

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


_REPLAY = {False: 0, True: 1, None: 2}


@contextlib.contextmanager
def replay(on: bool | None = True) -> Iterator[None]:
    """``with`` block in which sequences of operator calls that this thread repeats run as compiled programs.

    A sequence ends where ``autograd.record()`` begins, where a result is waited for, and where a hybridized block or
    ``Trainer.step`` runs. One that has come twice is put off as a whole when it comes again, compiled beside the
    program as hybridized code is, forward and backward in one, and from its eighth time on runs as that; on a GPU as a
    captured graph. Where the program does something else, what was put off runs one by one. Results agree with those
    without replay within rounding, and are the same in every run of a program.

    on: None is the default (``settings.replay``) of the main thread: sequences that run on a GPU, and those of the CPU
    whose operators take long beside the 0.4 us that putting one off costs.

    >>> import minimx as mx
    >>> x = mx.np.ones((4, 3))
    >>> with mx.engine.replay():
    ...     for _ in range(10):
    ...         y = mx.npx.softmax(x * 2).sum()
    ...         total = y.item()
    >>> round(total, 3)
    4.0
    """
    before = _core.set_replay(_REPLAY[on])
    try:
        yield
    finally:
        _core.set_replay(before)


def bulk_counts() -> dict[str, int]:
    """Since the start of the process: ``calls`` that were put off, ``lists`` of them that ran, programs that were
    ``compiled`` of such lists, and runs of these ``programs``.
    """
    return _core.bulk_counts()


def set_list_compiler(compiler: Callable[..., None] | None) -> None:
    """What makes programs of lists of calls that come again (minimx/graph/bulk.py); None: they run one by one."""
    _core.set_bulk_compiler(compiler)


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
    _core.set_default_bulk_size(settings.bulk_size)
    _core.set_default_replay(_REPLAY[settings.replay])
    if settings.engine == "naive":
        set_engine("naive")
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_quiet_wait)


def _end() -> None:
    """At exit."""
    _core.stop_watching_lists()
    _core.shutdown()


def _quiet_wait() -> None:
    """Before a fork: finish what is in flight. Failures stay with their arrays."""
    with contextlib.suppress(Exception):
        wait_all()


_start()
