"""The memory plan: places for intermediates in one arena, so that those alive at the same time do not overlap.

Greedy by size (Pisarchyk and Lee 2020, arXiv:2001.03288): the largest buffer first, each at the lowest offset where it
meets no other buffer that lives when it does.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

ALIGN = 64


@dataclass
class Buffer:
    """Memory of ``bytes``, needed from step ``first`` to step ``last`` (both included)."""

    bytes: int
    first: int
    last: int
    offset: int = -1


def plan(buffers: list[Buffer]) -> int:
    """Sets every buffer's offset; returns the size of the arena in bytes."""
    placed: list[tuple[int, int, Buffer]] = []  # (offset, number, buffer) in order of offset
    arena = 0
    for number, b in enumerate(sorted(buffers, key=lambda b: -b.bytes)):
        at = 0
        for offset, _, other in placed:
            if other.last < b.first or b.last < other.first:
                continue
            if at + b.bytes <= offset:
                break
            at = max(at, offset + _aligned(other.bytes))
        b.offset = at
        insort(placed, (at, number, b))
        arena = max(arena, at + _aligned(b.bytes))
    return arena


def _aligned(n: int) -> int:
    return (n + ALIGN - 1) // ALIGN * ALIGN
