"""Where the operands of emulated kernels lie: between pages that fault, in memory full of garbage.

The emulator (emulator.py) runs every recipe in two ways, so that what depends on either shows.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass

import numpy as np
from rtc.emulator_build import EmulatorError

PAGE = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@dataclass(frozen=True)
class Way:
    """One of the two ways in which a recipe is run."""

    backwards: bool
    garbage: int  # what unwritten memory is full of


WAYS = (Way(False, 0xFF), Way(True, 0xA5))


class Memory:
    """``size`` bytes between two pages that fault: up to the second, or (backwards) ``phase`` behind the first."""

    def __init__(self, size: int, way: Way, phase: int = 0, what: str = "", align: int = 1) -> None:
        self.size, self.way, self.what = size, way, what
        inner = -(-(size + phase) // PAGE) * PAGE or PAGE
        self.map = mmap.mmap(-1, inner + 2 * PAGE)
        self.inner = np.frombuffer(self.map, np.uint8)[PAGE:-PAGE]
        self.inner[:] = way.garbage
        self.start = phase if way.backwards else (inner - size) // align * align
        self.bytes = self.inner[self.start : self.start + size]
        self.address = self.inner.ctypes.data + self.start
        self.first_page, self.last_page = self.inner.ctypes.data - PAGE, self.inner.ctypes.data + inner
        for page in (self.first_page, self.last_page):
            if _libc.mprotect(page, PAGE, mmap.PROT_NONE if hasattr(mmap, "PROT_NONE") else 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def __del__(self) -> None:
        for page in (self.first_page, self.last_page):
            _libc.mprotect(page, PAGE, mmap.PROT_READ | mmap.PROT_WRITE)

    def check(self) -> None:
        """Raises if something was written around the bytes."""
        around = (self.inner[: self.start], self.inner[self.start + self.size :])
        for part, side in zip(around, ("before", "behind"), strict=True):
            if (part != self.way.garbage).any():
                raise EmulatorError(f"wrote {side} {self.what}")

    def near(self, address: int) -> str:
        """Where a faulty address lies, if it is on one of the two pages."""
        if self.last_page <= address < self.last_page + PAGE:
            return f"{address - self.address - self.size} bytes behind the end of {self.what}"
        if self.first_page <= address < self.first_page + PAGE:
            return f"{self.address - address} bytes before the beginning of {self.what}"
        return ""


class Placed(Memory):
    """A copy of the memory that an array shows, gaps included."""

    def __init__(self, array: np.ndarray, way: Way, what: str) -> None:
        low, high = np.lib.array_utils.byte_bounds(array) if array.size else (array.ctypes.data,) * 2
        self.source = np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low))
        self.array = array  # owns the source
        super().__init__(high - low, way, low % 16 // array.itemsize * array.itemsize, what)
        self.bytes[:] = self.source
        self.pointer = self.address + (array.ctypes.data - low)
