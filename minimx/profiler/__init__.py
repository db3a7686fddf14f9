"""The profiler, as Gluon users know it: ``mx.profiler``. What ran when, on which thread or stream, and what waited.

``dump()`` writes a timeline that https://ui.perfetto.dev and chrome://tracing open; ``dumps()`` gives tables. Essay:
docs/profiler.md. Read next: records.py (what C++ has recorded), timeline.py, tables.py, scopes.py (marks of the user).

>>> import minimx as mx
>>> with mx.profiler.profile("timeline.json"):          # doctest: +SKIP
...     y = (mx.np.ones((100, 100)) * 2).sum().item()
"""

from __future__ import annotations

from .scopes import Counter, Domain, Event, Frame, Marker, Task, scope
from .session import dump, dumps, pause, profile, resume, set_config, set_state, start, state, stop

__all__ = [
    "Counter",
    "Domain",
    "Event",
    "Frame",
    "Marker",
    "Task",
    "dump",
    "dumps",
    "pause",
    "profile",
    "resume",
    "scope",
    "set_config",
    "set_state",
    "start",
    "state",
    "stop",
]
