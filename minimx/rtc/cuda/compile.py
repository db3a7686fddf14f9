"""NVRTC: recipes' texts go in, cubins come out; in memory, on disk (../cache.py), or compiled now, many at once.

Parsing the prelude takes most of the time of a small kernel, so missing kernels are compiled several in one program,
and programs on a pool of threads (NVRTC runs without the GIL). NVRTC is reached through NVIDIA's cuda-core, needs no
GPU, and is imported when the first text comes. Loading and launching: kernel.py, csrc/cuda/launcher.cc.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path

from ...config import settings
from ...errors import CompileError, MissingExtra
from ...libraries import cuda_include_folders
from ..cache import Cache, digest
from ..compiler import shared_header
from .recipe import Code

BATCH = 16  # kernels of one program
OPTIONS = ("-std=c++17", "-default-device", "--fmad=false")
NARROW = re.compile(r"\b(Half|BFloat16|__half2?|__nv_bfloat162?)\b")  # texts that need CUDA's headers of 16-bit floats
EXTRA = 'pip install "minimx[cuda13]"'


@functools.cache
def prelude() -> str:
    """The text before every kernel: prelude.h, and what the host has in common with CUDA."""
    own, primitives = Path(__file__).with_name("prelude.h").read_text(), shared_header("cpu/primitives.h")
    return "\n".join([own, "namespace minimx {", "namespace scalar {", primitives, "}", "}", ""])


def source(codes: Sequence[Code]) -> str:
    """What NVRTC compiles: the prelude, then each text in a namespace of its own, lines counted from its beginning."""
    lean = "" if any(NARROW.search(c.text) for c in codes) else "#define MINIMX_NO_NARROW\n"
    parts = [f'{lean}#line 1 "prelude.h"\n{prelude()}\nnamespace minimx {{\nnamespace scalar {{']
    parts += [f'namespace {c.name}_text {{\n#line 1 "{c.name}"\n{c.text}}}' for c in codes]
    return "\n".join([*parts, "}\n}\n"])


class Nvrtc:
    """NVRTC and the headers that it includes, found once. Raises MissingExtra where something is not installed."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import nvrtc
            from cuda.core import Program, ProgramOptions
        except ImportError as error:
            raise missing("the package cuda-core, to compile kernels for a GPU", error) from None
        self.program, self.options = Program, ProgramOptions
        try:
            _, *version = nvrtc.nvrtcVersion()
        except Exception as error:  # the loader of cuda-pathfinder has its own
            raise missing("the library NVRTC, to compile kernels for a GPU", error) from None
        self.version = ".".join(map(str, version))
        self.include = include_folders()

    def run(self, text: str, arch: str) -> bytes:
        """The cubin of a text. Raises what cuda-core raises, with the compiler's words."""
        options = self.options(std="c++17", arch=arch, fma=False, device_as_default_execution_space=True,
                               include_path=self.include or None)  # fmt: skip
        return bytes(self.program(text, "c++", options).compile("cubin").code)


def missing(what: str, error: BaseException) -> MissingExtra:
    """The error that names the extra to install."""
    first = str(error).partition("\n")[0]
    return MissingExtra("minimx.rtc.cuda", what, f"{type(error).__name__} ({first})", EXTRA)


def include_folders() -> list[str]:
    """Where cuda_fp16.h lies: NVIDIA's wheels, CUDA_HOME, the system; empty if nowhere."""
    chosen = next((f for f in cuda_include_folders() if (f / "cuda_fp16.h").exists()), None)
    return [] if chosen is None else [str(f) for f in (chosen, chosen / "cccl") if f.is_dir()]


class Service:
    """Compiles for one process. invariant: ``made`` and the counters change under ``lock`` only."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], Future[bytes]] = {}  # (arch, name of a code) -> its cubin
        self.shared: dict[bytes, bytes] = {}  # digest -> cubin: kernels of one program share its bytes
        self.failures: dict[str, str] = {}
        self.texts: dict[str, str] = {}  # by name, for whoever looks
        self.from_disk = self.compiled = 0
        self.seconds = 0.0
        self.reset()

    def reset(self) -> None:
        """Locks and threads of this process, also in a forked child, which keeps what is finished."""
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.made = {k: f for k, f in self.made.items() if f.done()}

    @functools.cached_property
    def nvrtc(self) -> Nvrtc:
        """The compiler. Raises MissingExtra."""
        return Nvrtc()

    @functools.cached_property
    def cache(self) -> Cache:
        """The folder that fused kernels of the host are kept in, too."""
        return Cache(settings.cache_dir / "rtc", settings.cache_mb << 20, ".cubin")

    def key(self, code: Code, arch: str) -> str:
        """All that a cubin depends on."""
        return digest(code.text, prelude(), " ".join(OPTIONS), arch, self.nvrtc.version)

    def ask(self, codes: Iterable[Code], arch: str, wait: bool) -> list[Future[bytes]]:
        """A future for each code; what is not there is compiled, the last batch on this thread if it is to wait."""
        codes = list(codes)
        self.nvrtc  # noqa: B018 - what is missing is raised here and now
        with self.lock:
            new = [c for c in dict.fromkeys(codes) if (arch, c.name) not in self.made]
            self.made.update({(arch, c.name): Future() for c in new})
            self.texts.update((c.name, c.text) for c in codes)
            asked = [self.made[arch, c.name] for c in codes]
        batches = self.batches([c for c in new if not self.find(c, arch)])
        mine = batches.pop() if batches and wait else []
        for batch in batches:
            self.threads().submit(self.compile, batch, arch)
        if mine:
            self.compile(mine, arch)
        return asked

    def find(self, code: Code, arch: str) -> bool:
        """Takes a cubin from disk, if it is there."""
        data = self.cache.read(self.key(code, arch))
        if data is not None:
            with self.lock:
                self.from_disk += 1
            self.finish(code, arch, data)
        return data is not None

    def there(self, code: Code, arch: str) -> bool:
        """True if a cubin is there or has failed; it is taken from disk, if it lies there."""
        future = self.made.get((arch, code.name))
        if future is None and (data := self.cache.read(self.key(code, arch))) is not None:
            with self.lock:
                new = (arch, code.name) not in self.made
                future = self.made.setdefault((arch, code.name), Future())
                self.from_disk += new
            if new:
                self.finish(code, arch, data)
        return future is not None and future.done()

    def batches(self, codes: list[Code]) -> list[list[Code]]:
        """Few programs, but one for each thread; texts that need the large headers apart from those that do not."""
        size = max(1, min(BATCH, -(-len(codes) // settings.num_threads)))
        out = []
        for narrow in (True, False):
            part = [c for c in codes if bool(NARROW.search(c.text)) == narrow]
            out += [part[i : i + size] for i in range(0, len(part), size)]
        return out

    def threads(self) -> ThreadPoolExecutor:
        """The pool, begun when first wanted."""
        with self.lock:
            if self.pool is None:
                self.pool = ThreadPoolExecutor(settings.num_threads, "minimx-nvrtc")
            return self.pool

    def compile(self, batch: list[Code], arch: str) -> None:
        """One program. Where a batch fails, a program for each of its kernels finds the culprit."""
        if not threading.main_thread().is_alive():  # the interpreter leaves: nobody waits any more
            return
        start = time.perf_counter()
        try:
            data = self.nvrtc.run(source(batch), arch)
        except Exception as error:
            if len(batch) > 1:
                for code in batch:
                    self.compile([code], arch)
                return
            self.fail(batch[0], arch, str(error))
            return
        except BaseException:  # interrupted: to be asked for again
            with self.lock:
                for code in batch:
                    self.made.pop((arch, code.name)).cancel()
            raise
        with self.lock:
            self.compiled += len(batch)
            self.seconds += time.perf_counter() - start
        with contextlib.suppress(OSError):  # no space, no rights: it is compiled all the same
            self.cache.store([self.key(c, arch) for c in batch], data)
        for code in batch:
            self.finish(code, arch, data)

    def finish(self, code: Code, arch: str, data: bytes) -> None:
        """Hands a cubin out."""
        self.made[arch, code.name].set_result(self.shared.setdefault(hashlib.sha256(data).digest(), data))

    def fail(self, code: Code, arch: str, words: str) -> None:
        """Hands a failure out: whoever wants the kernel gets it."""
        if not self.nvrtc.include and NARROW.search(code.text):
            what = "the header cuda_fp16.h, for kernels of 16-bit floats"
            self.made[arch, code.name].set_exception(missing(what, FileNotFoundError("none")))
            return
        lines = [f"rtc: expected NVRTC {self.nvrtc.version} to compile kernel {code.name} for {arch}, got errors. The "
                 "text is generated: please report it with what follows.", f"options: {' '.join(OPTIONS)}",
                 *(f"{i:4} | {line}" for i, line in enumerate(code.text.splitlines(), 1)), words]  # fmt: skip
        with self.lock:
            self.failures[code.name] = "\n".join(lines)
        self.made[arch, code.name].set_exception(CompileError(self.failures[code.name]))

    def report(self) -> list[str]:
        """What was compiled; nothing where nothing was asked for."""
        with self.lock:
            states = list(self.made.values())
            failures = list(self.failures.values())
        if not states:
            return []
        waiting = sum(not f.done() for f in states)
        lines = [f"cuda: {len(states)} kernels, {self.from_disk} from disk, {self.compiled} compiled in "
                 f"{self.seconds:.1f} s, {waiting} waiting, {len(failures)} failed",
                 f"compiler: NVRTC {self.nvrtc.version} {' '.join(OPTIONS)}",
                 f"cache: {self.cache.folder}"]  # fmt: skip
        return lines + failures


service = Service()
os.register_at_fork(after_in_child=lambda: service.reset())


def cubins(codes: Iterable[Code], arch: str) -> dict[str, bytes]:
    """The cubin that holds each kernel, by the kernel's name; several names may have one cubin. arch: ``sm_90``.

    Raises CompileError, with the numbered text and the compiler's words, and MissingExtra where NVRTC is not installed.
    """
    codes = list(codes)
    made = service.ask(codes, arch, wait=True)
    return {c.name: f.result() for c, f in zip(codes, made, strict=True)}


def prefetch(codes: Iterable[Code], arch: str) -> None:
    """Begins to compile what is not there, and returns. Errors come when the cubin is asked for."""
    service.ask(codes, arch, wait=False)


def ready(codes: Iterable[Code], arch: str) -> bool:
    """True if every cubin is there, in memory or on disk, or has failed: ``cubins`` would not wait."""
    return all(service.there(c, arch) for c in codes)


def failed(codes: Iterable[Code], arch: str) -> bool:
    """True if ``cubins`` would raise CompileError without waiting."""
    futures = [service.made.get((arch, c.name)) for c in codes]
    done = [f for f in futures if f is not None and f.done() and not f.cancelled()]
    return any(isinstance(f.exception(), CompileError) for f in done)


def wait(timeout: float | None = None) -> bool:
    """Waits until nothing is left to compile; False if ``timeout`` seconds did not do."""
    return not wait_for(list(service.made.values()), timeout).not_done


def report() -> list[str]:
    """Lines for minimx.rtc.report()."""
    return service.report()
