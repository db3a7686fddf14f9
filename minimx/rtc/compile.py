"""The background compiler: groups go in, functions come out. Equal groups share a kernel.

A kernel is looked for on disk (cache.py) when it is asked for, and otherwise compiled later, several in one run of the
compiler. Only programs with reductions in their groups wait, once (``settle``). What fails stays unfused, is reported
once as a warning, and is explained by ``report()``.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import sys
import threading
import time
import warnings
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import settings
from ..errors import NameNotFound
from . import emit_host
from .cache import Cache, digest
from .compiler import Compiler, find_compiler
from .group import Group
from .text import kernel_name

BATCH = 8  # kernels in one run of the compiler
MOST_SECONDS = 300  # that a program waits for its kernels with reductions; its members run then
MAX_KERNELS = 4096  # of one process; groups beyond stay unfused


@dataclass(eq=False)
class Entry:
    """One group's kernel. state: "waiting", then "ready" or "failed"; kernels: those to be told when it is ready."""

    group: Group
    name: str
    key: str
    state: str = "waiting"
    origin: str = ""  # "disk" or "compiled in 0.8 s"
    address: int = 0
    complaint: str = ""
    kernels: list[Any] = field(default_factory=list)


class Service:
    """Compiles for one process. Settings are read when the first group comes.

    invariant: ``entries`` and the fields of an Entry change under ``lock`` only; the compiler runs without it.
    """

    def __init__(self) -> None:
        self.entries: dict[Any, Entry] = {}
        self.compiler: Compiler | None = None
        self.cache: Cache | None = None
        self.asked = False  # for the compiler
        self.closing = False
        self.process = os.getpid()
        self.running: list = []  # compiler processes
        self.reset_threads()
        every_service.add(self)

    def reset_threads(self) -> None:
        """Locks and worker of this process, also in a forked child, whose worker did not come along."""
        self.lock = threading.Condition()
        self.worker: threading.Thread | None = None
        self.running = []

    # ---- asking -----------------------------------------------------------------------------------------------------

    def submit(self, group: Group, kernel: Any) -> None:
        """Asks for the function of ``group``; ``kernel.set_function`` is called with it, now or later or never."""
        if not settings.fusion or not self.ready():
            return
        with self.lock:
            entry = self.entries.get(group.key) or self.enter(group)
            if entry is None:
                return
            if entry.state == "ready":
                kernel.set_function(entry.address)
            elif entry.state == "waiting":
                entry.kernels.append(kernel)
                self.start()

    def ready(self) -> bool:
        """True where there is a compiler."""
        if not self.asked:
            self.asked = True
            self.compiler = find_compiler()
            if self.compiler is not None:
                self.cache = Cache(settings.cache_dir / "rtc", settings.cache_mb << 20)
        return self.compiler is not None

    def enter(self, group: Group) -> Entry | None:
        """A new entry, ready if its kernel is on disk."""
        if len(self.entries) >= MAX_KERNELS:
            return None
        assert self.compiler is not None and self.cache is not None
        entry = Entry(group, kernel_name(group), digest(emit_host.source([group]), self.compiler.identity))
        self.entries[group.key] = entry
        path = self.cache.find(entry.key)
        if path is not None:
            self.load(entry, path, "disk")
        return entry

    def load(self, entry: Entry, path: Path, origin: str) -> None:
        """Takes the function from a shared object. A file from disk that does not load is made again."""
        try:
            function = getattr(ctypes.CDLL(str(path)), entry.name)
        except (OSError, AttributeError) as error:
            if origin != "disk":
                self.fail(entry, f"the compiled kernel does not load: {error}")
            return
        entry.address = ctypes.cast(function, ctypes.c_void_p).value or 0
        entry.state, entry.origin = "ready", origin
        for kernel in entry.kernels:
            kernel.set_function(entry.address)
        entry.kernels.clear()

    def fail(self, entry: Entry, complaint: str) -> None:
        """Gives up on an entry: its kernels stay unfused."""
        first = all(e.state != "failed" for e in self.entries.values())
        entry.state, entry.complaint = "failed", complaint
        entry.kernels.clear()
        if first and not self.closing:  # which kills a running compiler
            with contextlib.suppress(Warning):  # this thread has nobody to raise to
                rows = ", ".join(entry.group.rows)
                text = (
                    f"rtc: expected a kernel that fuses {rows}, got an error of the compiler. See minimx.rtc.report()."
                )
                warnings.warn(text, RuntimeWarning, stacklevel=2)

    # ---- compiling --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Makes sure that the worker lives."""
        if self.worker is None or not self.worker.is_alive():
            self.worker = threading.Thread(target=self.work, name="minimx-rtc", daemon=True)
            self.worker.start()
        self.lock.notify_all()

    def work(self) -> None:
        """The worker: batches of waiting entries until there are none for a while."""
        while not self.closing:
            with self.lock:
                batch = self.waiting()[:BATCH]
                if not batch:
                    if not self.lock.wait(10):
                        self.worker = None
                        return
                    continue
            self.compile(batch)
            with self.lock:
                self.lock.notify_all()

    def waiting(self, forms: bool = False) -> list[Entry]:
        """Entries to compile: those with reductions, which somebody waits for, and without ``forms`` the others too."""
        found = [e for e in self.entries.values() if e.state == "waiting" and (e.group.form or not forms)]
        return sorted(found, key=lambda e: not e.group.form)

    def compile(self, batch: list[Entry]) -> None:
        """One run of the compiler; where a batch fails, one for each of its kernels finds the culprit."""
        assert self.compiler is not None and self.cache is not None
        start = time.perf_counter()
        source, made = self.cache.temporary(".cc"), self.cache.temporary(".so")
        try:
            source.write_text(emit_host.source([e.group for e in batch]))
            complaint = self.compiler.run(source, made, self.running)
            if not complaint:
                self.cache.store([e.key for e in batch], made.read_bytes())
        except OSError as error:  # no space, no rights, no compiler any more
            complaint = f"{type(error).__name__}: {error}"
        finally:
            for path in (source, made):
                with contextlib.suppress(OSError):
                    path.unlink()
        if complaint and len(batch) > 1 and not self.closing:
            for e in batch:
                self.compile([e])
            return
        with self.lock:
            for e in batch:
                if complaint:
                    self.fail(e, complaint)
                else:
                    self.load(e, self.cache.path(e.key), f"compiled in {time.perf_counter() - start:.1f} s")

    def wait(self, timeout: float | None = None, forms: bool = False) -> bool:
        """Waits until nothing is left to compile (or no ``forms``); False if ``timeout`` seconds did not do."""
        with self.lock:
            if self.waiting(forms):
                self.start()
            return self.lock.wait_for(lambda: not self.waiting(forms), timeout)

    def close(self) -> None:
        """Ends a running compiler; nothing waits for it at exit."""
        self.closing = True
        for process in list(self.running):
            process.kill()
        if self.cache is not None and self.cache.problem and self.process == os.getpid():
            shutil.rmtree(self.cache.folder, ignore_errors=True)

    # ---- telling ----------------------------------------------------------------------------------------------------

    def report(self) -> str:
        """What was asked for and what came of it."""
        with self.lock:
            entries = list(self.entries.values())
        if not settings.fusion:
            return "rtc: fusion is off (settings.fusion)"
        if not self.asked:
            return "rtc: nothing was asked for"
        if self.compiler is None:
            return "rtc: no C++ compiler found (settings.cxx, c++, g++, clang++); operators run unfused"
        states = {s: sum(e.state == s for e in entries) for s in ("ready", "waiting", "failed")}
        lines = [f"rtc: {len(entries)} kernels, " + ", ".join(f"{n} {s}" for s, n in states.items()),
                 f"compiler: {' '.join(self.compiler.command)} {' '.join(self.compiler.flags)}"]  # fmt: skip
        if self.cache is not None:
            lines.append(f"cache: {self.cache.folder}" + (f" (not {self.cache.problem})" if self.cache.problem else ""))
        for e in entries:
            lines.append(f"{e.name} {e.state}{f' ({e.origin})' if e.origin else ''}: {e.group.title()}")
        for e in entries:
            if e.state == "failed":
                lines += ["", *self.failure(e)]
        return "\n".join(lines)

    def failure(self, e: Entry) -> list[str]:
        """A failed kernel: rows, options, numbered source, and the compiler's words."""
        assert self.compiler is not None
        source = emit_host.source([e.group]).splitlines()
        return [f"{e.name} failed. Rows fused: {', '.join(e.group.rows)}", f"options: {' '.join(self.compiler.flags)}",
                *(f"{i:4} | {line}" for i, line in enumerate(source, 1)), e.complaint]  # fmt: skip


every_service: weakref.WeakSet[Service] = weakref.WeakSet()
service = Service()


@atexit.register
def _close_all() -> None:
    for s in every_service:
        s.close()


def _reset_all() -> None:
    for s in every_service:
        s.reset_threads()


os.register_at_fork(after_in_child=_reset_all)


def submit(group: Group, kernel: Any) -> None:
    """Asks for the compiled function of a group; returns at once."""
    service.submit(group, kernel)


def settle() -> None:
    """Waits for the kernels with reductions that were asked for.

    They add up in another order than their members do, and a program is to give the same bits in every run, whenever
    the compiler is done. Pointwise kernels give what their members give, so nobody waits for those.
    """
    service.wait(MOST_SECONDS, forms=True)


def wait(timeout: float | None = None) -> bool:
    """Waits until every kernel asked for is compiled or has failed; False if ``timeout`` seconds did not do.

    For benchmarks and tests: programs run unfused meanwhile, so nothing else needs it.
    """
    end = None if timeout is None else time.monotonic() + timeout
    waits = [service.wait, *(module.wait for module in _cuda_modules())]
    return all(w(None if end is None else max(0.0, end - time.monotonic())) for w in waits)


def _cuda_modules() -> list[Any]:
    """What compiles in cuda/, in a process that uses GPUs."""
    names = [f"minimx.rtc.cuda.{name}" for name in ("compile", "background")]
    return [sys.modules[name] for name in names if name in sys.modules]


def source_of(name: str) -> str:
    """The text of a kernel of this process by its name, as ``report()`` or a profiler shows it: C++ or CUDA.

    Raises NameNotFound.
    """
    for e in list(service.entries.values()):
        if e.name == name:
            return emit_host.source([e.group])
    cuda = sys.modules.get("minimx.rtc.cuda.compile")
    if cuda is not None and name in cuda.service.texts:
        return cuda.service.texts[name]
    way_out = "Take a name that minimx.rtc.report() or a profiler shows"
    raise NameNotFound("rtc.source_of", "a kernel that was asked for in this process", repr(name), way_out)


def report() -> str:
    """What was compiled, by what, from where; for a failure the rows, options, numbered source and message."""
    return "\n".join([service.report(), *(line for module in _cuda_modules() for line in module.report())])
