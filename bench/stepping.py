"""Counts instructions exactly, on any Linux with ptrace: a child process is stepped through marked regions.

Neither a profiler nor a benchmark: no counters of the processor, no valgrind, and no times. Every instruction is one
stop of the child (some 20 us), so a region should be some ten thousand instructions. `bench/instructions.py` says what
is stepped through, and what the functions met on the way stand for.

The child calls `marked(case)` for each region; the parent gets one list of steps for each from `regions`, and from
`Symbols` the function that an address lies in. `calls` turns both into the tree of calls.
"""

from __future__ import annotations

import bisect
import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

_TRACEME, _CONTINUE, _SINGLESTEP, _GETREGS = 0, 7, 9, 12
_IP, _SP, _WORDS = 16, 19, 27  # of struct user_regs_struct

_REFUSED = 77  # exit status

Step = tuple[int, int]  # instruction pointer and stack pointer, before the instruction runs


def _ptrace() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return call


# ---- in the child ---------------------------------------------------------------------------------------------------


def offer() -> None:
    """Lets the parent step through this process, or ends it."""
    if _ptrace()(_TRACEME, 0, None, None) < 0:
        os._exit(_REFUSED)


def _between(case: Callable[[], object], stop: Callable[[int], None], number: int) -> None:
    stop(number)
    case()
    stop(number)


def marked(case: Callable[[], object], before: Callable[[], object], warm: int = 60) -> None:
    """Runs ``before`` and ``case`` ``warm`` times, until caches and the interpreter's specialized code are there; then
    once more, with ``case`` marked."""
    stop = ctypes.PyDLL(None)["raise"]  # keeps Python's lock: no other thread may use the stop for its own work
    for _ in range(warm):
        before()
        _between(case, stop, 0)
    before()
    _between(case, stop, signal.SIGSTOP)


# ---- in the parent --------------------------------------------------------------------------------------------------


class Child:
    """A process that steps through its marked regions. Ends with the ``with`` block."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.pid = os.posix_spawn(arguments[0], arguments, environment)
        self._ptrace, self._ended = _ptrace(), False

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _next(self, request: int) -> int | None:
        """Lets the child go on to its next stop. Returns the signal, or None at its end."""
        number = 0
        while True:
            if self._ptrace(request, self.pid, None, number) < 0:
                raise OSError(ctypes.get_errno(), "ptrace")
            stopped = self._stop()
            if stopped in (None, signal.SIGSTOP, signal.SIGTRAP):
                return stopped
            number = stopped  # for the child itself

    def _stop(self) -> int | None:
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSTOPPED(status):
            return os.WSTOPSIG(status)
        self._ended = True
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _REFUSED:
            raise PermissionError("stepping: expected to be allowed to trace a process, got a refusal. Allow ptrace.")
        if status:
            raise RuntimeError(f"stepping: expected the child to end well, got wait status {status}. See its output.")
        return None

    def regions(self) -> Iterator[list[Step]]:
        """The steps of each marked region. The child stands still while one is looked at."""
        registers = (ctypes.c_ulonglong * _WORDS)()
        at = self._stop()
        while at is not None:
            steps: list[Step] = []
            while (at := self._next(_SINGLESTEP)) == signal.SIGTRAP:
                self._ptrace(_GETREGS, self.pid, None, registers)
                steps.append((registers[_IP], registers[_SP]))
            yield steps
            at = self._next(_CONTINUE)


class Symbol(NamedTuple):
    """A function: the file's name up to its first dot, the demangled name, where it starts."""

    file: str
    name: str
    start: int


class Symbols:
    """Functions by address, of all files that a process has mapped by now, as binutils' `nm` reads them."""

    def __init__(self, pid: int) -> None:
        self._files: list[tuple[int, int, str, int]] = []  # first address, end, path, address that the file starts at
        bases: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, access, offset, _, _, *path = line.split(None, 5)
            if not path or not path[0].startswith("/"):
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            if int(offset, 16) == 0:
                bases.setdefault(path[0], start)
            if "x" in access and path[0] in bases:
                self._files.append((start, end, path[0], 0 if _is_fixed(path[0]) else bases[path[0]]))
        self._tables: dict[str, tuple[list[int], list[str]]] = {}
        self._known: dict[int, Symbol] = {}

    def at(self, address: int) -> Symbol:
        """The function that ``address`` lies in."""
        if address not in self._known:
            self._known[address] = self._find(address)
        return self._known[address]

    def _find(self, address: int) -> Symbol:
        for start, end, path, base in self._files:
            if start <= address < end:
                if path not in self._tables:
                    self._tables[path] = _functions(path)
                starts, names = self._tables[path]
                i = bisect.bisect_right(starts, address - base) - 1
                file = Path(path).name.split(".")[0]
                return Symbol(file, names[i], starts[i] + base) if i >= 0 else Symbol(file, "?", start)
        return Symbol("kernel", "?", 0)  # vdso


def _is_fixed(path: str) -> bool:
    """True for an executable that is not position-independent (ELF type EXEC)."""
    with open(path, "rb") as file:
        return struct.unpack_from("<H", file.read(18), 16)[0] == 2


def _functions(path: str) -> tuple[list[int], list[str]]:
    found = {}
    for table in (["-D"], []):  # a stripped file still has the symbols that it exports
        text = subprocess.run(["nm", "-C", "--defined-only", *table, path], capture_output=True, text=True).stdout
        for line in text.splitlines():
            address, kind, name = line.split(None, 2)
            if kind in "tTwWiu":
                found[int(address, 16)] = name
    starts = sorted(found)
    return starts, [found[a] for a in starts]


class Call(NamedTuple):
    """A function as it runs: who called it, and the stack pointer at its first instruction."""

    symbol: Symbol
    caller: Call | None
    stack: int


def calls(steps: list[Step], symbols: Symbols) -> list[Call]:
    """For each step the call that it belongs to. A jump into another function replaces the call it leaves."""
    first = symbols.at(steps[0][0])
    call = Call(first, None, sys.maxsize)
    found = []
    for ip, sp in steps:
        while call.caller and sp > call.stack:  # it has returned
            call = call.caller
        symbol = symbols.at(ip)
        if symbol != call.symbol or (ip == symbol.start and sp < call.stack):
            caller = call if sp < call.stack and ip == symbol.start else call.caller
            call = Call(symbol, caller, sp if ip == symbol.start else call.stack)
        found.append(call)
    return found
