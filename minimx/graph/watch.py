"""To look at passes: ``with watched() as seen`` collects every graph that a pass leaves behind, as (pass, graph).

Nobody watching costs nothing. Shown by ``net.graph_passes(x)`` and ``net.fusion_report(x)`` (report.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from .ir import Graph

Snapshots = list[tuple[str, Graph]]

_watching: ContextVar[Snapshots | None] = ContextVar("watching", default=None)


@contextlib.contextmanager
def watched() -> Iterator[Snapshots]:
    """Collects copies of the graphs that this thread compiles meanwhile, in order."""
    seen: Snapshots = []
    token = _watching.set(seen)
    try:
        yield seen
    finally:
        _watching.reset(token)


def noted(name: str, g: Graph) -> Graph:
    """The graph itself; whoever watches gets a copy under ``name``."""
    seen = _watching.get()
    if seen is not None:
        seen.append((name, g.copy()))
    return g
