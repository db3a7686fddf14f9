"""What the user marks in a profile: spans of time, counters, moments. Nothing of it costs more than a call when the
profiler does not run.

``scope`` and ``Event`` are spans of one thread and nest there; a ``Task`` or a ``Frame`` has a row of its own under its
domain, may end on another thread, and may overlap others.

>>> from minimx import profiler
>>> images = profiler.Domain("images")
>>> with profiler.scope("epoch 1"), images.new_task("decode"):
...     pass
"""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any

from ..errors import ArgumentError
from ..libraries import import_core

_core = import_core()
_numbers = itertools.count(1)


class Domain:
    """A name under which tasks, frames, counters and markers stand together."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name

    def new_task(self, name: str) -> Task:
        """A Task of this domain."""
        return Task(self, name)

    def new_frame(self, name: str) -> Frame:
        """A Frame of this domain."""
        return Frame(self, name)

    def new_counter(self, name: str, value: float | None = None) -> Counter:
        """A Counter of this domain."""
        return Counter(self, name, value)

    def new_marker(self, name: str) -> Marker:
        """A Marker of this domain."""
        return Marker(self, name)


class _Span:
    """Something that is started and stopped, or used in a ``with`` statement."""

    def __init__(self, domain: Domain | str, name: str, *, own_row: bool) -> None:
        self.domain, self.name, self._own_row = str(domain), name, own_row
        self._begin: int | None = None

    def start(self) -> None:
        """Begins it; again if it had begun before."""
        self._begin = _core.profile_now()

    def stop(self) -> None:
        """Ends it, and records it if the profiler runs now."""
        if self._begin is None:
            where = f"{type(self).__name__}.stop"
            raise ArgumentError(where, f"'{self.name}' to have been started", "one that was not", "Call start() first")
        number = next(_numbers) if self._own_row else 0
        _core.profile_add("span", self.name, self.domain, self._begin, 0.0, number)
        self._begin = None

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __str__(self) -> str:
        return self.name


class Task(_Span):
    """A piece of work of the user's, on a row of its own."""

    def __init__(self, domain: Domain, name: str) -> None:
        super().__init__(domain, name, own_row=True)


class Frame(_Span):
    """One pass of something that repeats: a step, an image of a video. On a row of its own."""

    def __init__(self, domain: Domain, name: str) -> None:
        super().__init__(domain, name, own_row=True)


class Event(_Span):
    """A span of the calling thread, among its operators. Start and stop on one thread."""

    def __init__(self, name: str) -> None:
        super().__init__("event", name, own_row=False)


class Counter:
    """A number that changes: its course is drawn."""

    def __init__(self, domain: Domain, name: str, value: float | None = None) -> None:
        self.domain, self.name, self.value = str(domain), name, 0.0
        if value is not None:
            self.set_value(value)

    def set_value(self, value: float) -> None:
        """Sets and records it."""
        self.value = float(value)
        _core.profile_add("counter", self.name, self.domain, 0, self.value)

    def increment(self, delta: float = 1) -> None:
        """Adds to it."""
        self.set_value(self.value + delta)

    def decrement(self, delta: float = 1) -> None:
        """Takes from it."""
        self.set_value(self.value - delta)

    def __iadd__(self, delta: float) -> Counter:
        self.increment(delta)
        return self

    def __isub__(self, delta: float) -> Counter:
        self.decrement(delta)
        return self

    def __str__(self) -> str:
        return self.name


class Marker:
    """A moment worth a line across the picture."""

    def __init__(self, domain: Domain, name: str) -> None:
        self.domain, self.name = str(domain), name

    def mark(self, scope: str = "process") -> None:
        """Records it now. ``scope`` is accepted as in MXNet: "global", "process", "thread", "task" or "marker"."""
        if scope not in ("global", "process", "thread", "task", "marker"):
            raise ArgumentError("Marker.mark", "global, process, thread, task or marker", repr(scope))
        _core.profile_add("mark", self.name, self.domain)


class scope(_Span):
    """``with`` block that is a span of the calling thread; blocks within it are drawn within. ``append_mode`` is
    accepted as in MXNet: what is nested is always shown under what it is in.
    """

    def __init__(self, name: str = "<unk>:", append_mode: bool = True) -> None:
        super().__init__("scope", name, own_row=False)
