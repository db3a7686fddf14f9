"""How blocks and packs are cut, for all recipes that work on rows, and the text they begin with (collective.h)."""

from __future__ import annotations

from pathlib import Path

THREADS = 256  # of a block, unless a recipe says otherwise
SMS = 132  # multiprocessors to keep busy: an H100's. A constant, so that results do not depend on the device
COLLECTIVE = Path(__file__).with_name("collective.h").read_text()


def pack_of(itemsize: int, run: int, most: int = 8) -> int:
    """Elements that a thread takes at once from contiguous runs: as many as make 16 bytes, if they divide ``run``."""
    count = min(most, 16 // itemsize)
    return count if run % count == 0 else 1


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below ``n``; 1 for n <= 1."""
    return 1 << max(0, n - 1).bit_length()


def ceil(n: int, each: int) -> int:
    """n / each, rounded up."""
    return -(-n // each)
