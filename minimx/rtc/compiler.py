"""The machine's C++ compiler: finding it, its options, one run of it. When and for what: compile.py."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..config import settings

# No -ffast-math: fused kernels give what unfused ones give. Contraction is off for the same reason (scalar_math.h).
FLAGS: tuple[str, ...] = (
    *("-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fwrapv"),
    *("-w", "-shared", "-fPIC"),
)
HEADERS = ("common/float16.h", "cpu/fused.h", "cpu/convert_scalar.h", "cpu/primitives.h",
           "cpu/scalar.h", "cpu/scalar_math.h", "cpu/scalar_special.h")  # fmt: skip
if platform.machine() == "x86_64":  # gcc and clang prefer 256 bits where 512 are there; long chains gain a quarter
    FLAGS += ("-mprefer-vector-width=512",)
CANDIDATES = ("c++", "g++", "clang++")
TIMEOUT = 300  # seconds for one run


def include_folder() -> Path:
    """Root of the headers that kernels include: beside this file when installed, else the source tree's csrc."""
    installed = Path(__file__).parent / "include"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "csrc"


def headers() -> str:
    """Text of all those headers, for the cache's key."""
    root = include_folder()
    return "".join((root / name).read_text() for name in HEADERS)


def shared_header(name: str) -> str:
    """The text of a header that the host and CUDA share (csrc/), without its namespaces and what it includes."""
    lines = (include_folder() / name).read_text().partition("#pragma once\n")[2].splitlines(keepends=True)
    return "".join(x for x in lines if not x.startswith(("#include", "namespace", "}  // namespace")))


@dataclass(frozen=True)
class Compiler:
    """A compiler command and what identifies it."""

    command: tuple[str, ...]
    version: str

    @property
    def flags(self) -> tuple[str, ...]:
        """Options of every run."""
        return (*FLAGS, f"-I{include_folder()}")

    @functools.cached_property
    def identity(self) -> str:
        """All that a kernel depends on beside its source."""
        return "\n".join([*self.command, self.version, *FLAGS, processor(), headers()])

    def run(self, source: Path, made: Path, started: list | None = None) -> str:
        """Compiles ``source`` to the shared object ``made`` at low priority. Returns "" or the compiler's complaint.

        ``started`` gets the process while it runs, so that whoever leaves can end it.
        """
        nice = ("nice", "-n", "10") if shutil.which("nice") else ()
        command = [*nice, *self.command, *self.flags, str(source), "-o", str(made)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, start_new_session=True)  # fmt: skip
        if started is not None:
            started.append(process)
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            output += f"\nended after {TIMEOUT} s"
        finally:
            if started is not None:
                started.remove(process)
        if process.returncode == 0 and made.exists():
            return ""
        return output.strip() or f"exit status {process.returncode}"


def find_compiler() -> Compiler | None:
    """The compiler of ``settings.cxx``, or the first of c++, g++, clang++ that runs; None where there is none."""
    wanted = [tuple(shlex.split(settings.cxx))] if settings.cxx else [(name,) for name in CANDIDATES]
    for command in wanted:
        found = _working(command)
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=8)
def _working(command: tuple[str, ...]) -> Compiler | None:
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run([path, *command[1:], "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Compiler((path, *command[1:]), done.stdout) if done.returncode == 0 else None


@functools.lru_cache(maxsize=1)
def processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    keys = ("vendor_id", "cpu family", "model\t", "stepping", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(keys)})) + os.uname().machine
