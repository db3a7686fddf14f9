"""The memory plan: places for intermediates, so that those alive at the same time do not overlap.

Greedy by size (Pisarchyk and Lee 2020, arXiv:2001.03288): the largest buffer first, each at the lowest offset where it
meets no other buffer that lives when it does. There are two pieces of memory: a program's arena, and the tray, which
holds what a graph's forward run saves for its backward run. Forward uses what of the tray is not yet taken, backward
what has been read for the last time; only what does not fit there goes to the arena.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

ALIGN = 256  # what kernels of a GPU may ask of their scratch memory


@dataclass
class Buffer:
    """Memory of ``bytes``, needed from step ``first`` to step ``last`` (both included)."""

    bytes: int
    first: int
    last: int
    offset: int = -1
    in_tray: bool = False


@dataclass(frozen=True)
class Tray:
    """A block of ``bytes`` where arrays lie at ``offsets``: outputs of the program that made it, from number ``first``
    on, or inputs of the one that takes it.
    """

    made: bool
    first: int
    offsets: tuple[int, ...]
    bytes: int


def tray_of(sizes: Sequence[int], order: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """(offsets, bytes) of arrays of these sizes, made in this order: so that what is free stays in one piece."""
    offsets, end = [0] * len(sizes), 0
    for i in order:
        offsets[i] = end
        end += _aligned(sizes[i])
    return tuple(offsets), end


def plan(buffers: Sequence[Buffer], fixed: Sequence[Buffer] = (), tray: int = 0) -> int:
    """Sets every buffer's place; returns the size of the arena in bytes. fixed: what lies in the tray of that size."""
    both = _Space(tray), _Space(None)
    for b in fixed:
        both[0].take(b, b.offset)
    for b in sorted(buffers, key=lambda b: -b.bytes):
        b.in_tray = tray > 0 and both[0].fits(b)
        if not b.in_tray:
            both[1].fits(b)
    return both[1].end


@dataclass
class _Space:
    """Memory of a size, or of any: then ``end`` is what it must have."""

    bytes: int | None
    end: int = 0
    placed: list[tuple[int, int, Buffer]] = field(default_factory=list)  # (offset, number, buffer) in order of offset

    def fits(self, b: Buffer) -> bool:
        """Gives the buffer the lowest place that is free while it lives, if there is one."""
        at = 0
        for offset, _, other in self.placed:
            if other.last < b.first or b.last < other.first:
                continue
            if at + b.bytes <= offset:
                break
            at = max(at, offset + _aligned(other.bytes))
        if self.bytes is not None and at + b.bytes > self.bytes:
            return False
        self.take(b, at)
        return True

    def take(self, b: Buffer, at: int) -> None:
        b.offset = at
        insort(self.placed, (at, len(self.placed), b))
        self.end = max(self.end, at + _aligned(b.bytes))


def _aligned(n: int) -> int:
    return (n + ALIGN - 1) // ALIGN * ALIGN
