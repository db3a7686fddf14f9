"""CUDA text to shared objects of the CPU: the emulator's machine (emulator.h), the prelude, and many codes at once.

A library is kept in a temporary folder, by all that it depends on. What runs them: emulator.py.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import recipe as recipes
from minimx.rtc.cuda.compile import prelude

HERE = Path(__file__).parent
FOLDER = Path(tempfile.gettempdir()) / f"minimx-emulator-{os.getuid()}"
FLAGS = ("-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fwrapv",
         "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-fsanitize=alignment,bounds",
         "-fno-sanitize-recover=all")  # fmt: skip
SHARE = 24  # kernels in one run of the compiler


class EmulatorError(AssertionError):
    """A kernel that does what a GPU would not forgive, or that does not compile."""


KERNELS: dict[str, tuple[ctypes.CDLL, int]] = {}  # name of a code -> its library, its place there


def prepare(made: Iterable[recipes.Recipe]) -> None:
    """Compiles the codes of many recipes at once; ``run`` finds them later."""
    codes = {c.name: c for r in made for c in (launch.code for launch in r.launches) if c.name not in KERNELS}
    missing = [c for c in codes.values() if not _load(c)]
    shares = [missing[i : i + SHARE] for i in range(0, len(missing), SHARE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, shares))
    for c in missing:
        _load(c)


@functools.cache
def _identity() -> str:
    """What a library depends on beside the codes."""
    texts = [Path(__file__), HERE / "emulator.h", *sorted((HERE / "include").iterdir())]
    return "".join([prelude(), *(p.read_text() for p in texts), *FLAGS, find_compiler().version])


def _link(code: recipes.Code) -> Path:
    """The name on disk of the library that has a code."""
    return FOLDER / (hashlib.sha256((_identity() + code.text).encode()).hexdigest()[:32] + ".so")


def _load(code: recipes.Code) -> bool:
    if not _link(code).exists():
        return False
    library = ctypes.CDLL(str(_link(code).resolve()))
    names = ctypes.cast(library.kernel_names, ctypes.c_void_p) and _names(library)
    KERNELS.update({name: (library, i) for i, name in enumerate(names)})
    return code.name in KERNELS


def _names(library: ctypes.CDLL) -> list[str]:
    library.kernel_names.restype = ctypes.c_char_p
    return library.kernel_names().decode().split()


def source(codes: Sequence[recipes.Code]) -> str:
    """One file with several codes, each in a namespace of its own and with its own section of shared memory."""
    parts = ['#include "emulator.h"', f'namespace {{\n#line 1 "prelude.h"\n{prelude()}\n}}']
    for i, c in enumerate(codes):
        parts.append(f"""\
#undef __shared__
#define __shared__ static __attribute__((section("shared_{i}")))
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_{i}[], __stop_shared_{i}[];
namespace {{ namespace minimx {{ namespace scalar {{ namespace code_{i} {{
#line 1 "{c.name}"
{_dynamic(c.text)}
constexpr int most = {_most_threads(c)};
}} }} }} }}
#line 1 "emulator.py"
""")
    entries = [
        f'emulator::KernelOf<&minimx::scalar::code_{i}::{c.name}>::entry("{c.name}", minimx::scalar::code_{i}::most, '
        f"__start_shared_{i}, __stop_shared_{i}),"
        for i, c in enumerate(codes)
    ]
    names = " ".join(c.name for c in codes)
    return "\n".join([*parts, "static const emulator::KernelEntry kernels[] = {", *entries, f"""}};
extern "C" {{
const char* kernel_names() {{ return "{names}"; }}
const char* kernel_kinds(int i) {{ return kernels[i].kinds; }}
const unsigned char* kernel_sizes(int i) {{ return kernels[i].sizes; }}
int run_kernel(int i, void** args, const unsigned* grid, const unsigned* block, unsigned long shared, int backwards,
               int garbage, char* message, int size, const void** fault) {{
  return emulator::run_grid(kernels[i], args, grid, block, shared, backwards, garbage, message, size, fault);
}}
}}
"""])  # fmt: skip


def _dynamic(text: str) -> str:
    """Declarations of dynamic shared memory as pointers to the emulator's."""
    aligned = r"((?:__align__|alignas)\s*\([^)]*\)\s*)?"
    declared = rf"extern\s+__shared__\s+{aligned}([\w:<> ]+?)\s+{aligned}(\w+)\s*\[\s*\]\s*;"
    return re.sub(declared, r"static \2* const \4 = reinterpret_cast<\2*>(emulator::dynamic_shared);", text)


def _most_threads(code: recipes.Code) -> str:
    """The expression that the kernel bounds the threads of a block with."""
    bound = re.search(rf"__launch_bounds__\s*\(([^(),]+)[^()]*\)\s+{code.name}\b", code.text)
    return bound[1] if bound else "1024"


def _compile(codes: Sequence[recipes.Code]) -> None:
    """Compiles a share, and links the name of each code to the library."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        path = Path(work) / "codes.cc"
        path.write_text(source(codes))
        digest = hashlib.sha256((_identity() + path.read_text()).encode()).hexdigest()[:32]
        made = Path(work) / "codes.so"
        command = [*find_compiler().command, *FLAGS, f"-I{HERE}", f"-I{HERE / 'include'}", str(path), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise EmulatorError(f"{', '.join(c.name for c in codes)} does not compile:\n{done.stderr[:6000]}")
        library = FOLDER / f"library-{digest}.so"
        made.replace(library)
    for c in codes:
        link = FOLDER / f"link-{os.getpid()}-{c.name}"
        link.unlink(missing_ok=True)
        link.symlink_to(library)
        link.replace(_link(c))
