"""Runs recipes of minimx/rtc/cuda on the CPU, so that GPU kernels are tested where there is no GPU.

``launch(name, ins, outs, attrs)`` makes the recipe of a factory for NumPy operands and returns its outputs;
``cpu(name, ins, outs, attrs)`` has the CPU's kernel of the same name do the same; ``run(recipe, operands)`` runs a
recipe that one has. An input is an array (any strides; ``ml_dtypes`` has bfloat16) or, for a host scalar, a pair
(number, dtype); an output is (shape, dtype)::

    y, = launch("softmax", [x], [(x.shape, "float32")], {"axis": -1, "kind": "softmax"})

Every recipe runs twice: threads and blocks in ascending and in descending order, operands at the end and at the
beginning of pages between pages that fault (in the first run aligned to their elements only), unwritten memory full of
NaN or of 0xA5. The results must be equal to the last bit. What a kernel does wrong is raised as EmulatorError. The
machine itself: emulator.h; CUDA's words: include/.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import mmap
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from minimx.ndarray import _core
from minimx.ops.table import Spec
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import recipe as recipes
from minimx.rtc.cuda.adaptors import ADAPTORS
from minimx.rtc.cuda.factories import FACTORIES

HERE = Path(__file__).parent
PRELUDE = Path(recipes.__file__).with_name("prelude.h")
FOLDER = Path(tempfile.gettempdir()) / f"minimx-emulator-{os.getuid()}"
FLAGS = ("-std=c++20", "-O1", "-w", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fwrapv",
         "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-fsanitize=alignment,bounds",
         "-fno-sanitize-recover=all")  # fmt: skip
SHARE = 24  # kernels in one run of the compiler
NUMPY = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
PAGE = mmap.PAGESIZE
STATE = (1234567890123456789, 3)  # (seed, call) of random kernels


class EmulatorError(AssertionError):
    """A kernel that does what a GPU would not forgive, or that does not compile."""


def numpy_type(dtype: str) -> np.dtype:
    """``bfloat16`` is ml_dtypes'."""
    return NUMPY.get(dtype) or np.dtype(dtype)


# ---- compilation ----------------------------------------------------------------------------------------------------

_KERNELS: dict[str, tuple[ctypes.CDLL, int]] = {}  # name of a code -> its library, its place there


def prepare(made: Iterable[recipes.Recipe]) -> None:
    """Compiles the codes of many recipes at once; ``run`` finds them later."""
    codes = {c.name: c for r in made for c in (launch.code for launch in r.launches) if c.name not in _KERNELS}
    missing = [c for c in codes.values() if not _load(c)]
    shares = [missing[i : i + SHARE] for i in range(0, len(missing), SHARE)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, shares))
    for c in missing:
        _load(c)


@functools.cache
def _identity() -> str:
    """What a library depends on beside the codes."""
    texts = [PRELUDE, HERE / "emulator.py", HERE / "emulator.h", *sorted((HERE / "include").iterdir())]
    return "".join([*(p.read_text() for p in texts), *FLAGS, find_compiler().version])


def _link(code: recipes.Code) -> Path:
    """The name on disk of the library that has a code."""
    return FOLDER / (hashlib.sha256((_identity() + code.text).encode()).hexdigest()[:32] + ".so")


def _load(code: recipes.Code) -> bool:
    if not _link(code).exists():
        return False
    library = ctypes.CDLL(str(_link(code).resolve()))
    names = ctypes.cast(library.kernel_names, ctypes.c_void_p) and _names(library)
    _KERNELS.update({name: (library, i) for i, name in enumerate(names)})
    return code.name in _KERNELS


def _names(library: ctypes.CDLL) -> list[str]:
    library.kernel_names.restype = ctypes.c_char_p
    return library.kernel_names().decode().split()


def source(codes: Sequence[recipes.Code]) -> str:
    """One file with several codes, each in a namespace of its own and with its own section of shared memory."""
    parts = ['#include "emulator.h"', f'namespace {{\n#include "{PRELUDE}"\n}}']
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


# ---- memory ---------------------------------------------------------------------------------------------------------

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


# ---- running --------------------------------------------------------------------------------------------------------


def run(recipe: recipes.Recipe, operands: Sequence[Any], state: tuple[int, int] = STATE,
        way: Way | None = None) -> None:  # fmt: skip
    """Runs the launches of a recipe on arrays (in place) and numbers: NumPy scalars, or pairs (number, dtype).

    An array that is given twice is one array: an output that lies where an input does.
    way: one of WAYS; without it both are run and must agree. state: (seed, call) of random kernels.
    """
    prepare([recipe])
    if way is not None:
        _run(recipe, operands, state, way)
        return
    before = [x.copy() if isinstance(x, np.ndarray) else None for x in operands]
    _run(recipe, operands, state, WAYS[0])
    after = [x.copy() if isinstance(x, np.ndarray) else None for x in operands]
    for x, old in zip(operands, before, strict=True):
        if old is not None and x.flags.writeable:
            x[...] = old
    _run(recipe, operands, state, WAYS[1])
    for i, (x, other) in enumerate(zip(operands, after, strict=True)):
        if other is not None and x.tobytes() != other.tobytes():
            same = np.ascontiguousarray(x).view(f"u{x.itemsize}") == np.ascontiguousarray(other).view(f"u{x.itemsize}")
            raise EmulatorError(
                f"{recipe.launches[0].code.name}: operand {i} depends on the order of threads or on memory that nobody "
                f"wrote, at {(~same).sum()} places, the first {np.argwhere(~same)[0].tolist()}: "
                f"{other[tuple(np.argwhere(~same)[0])]} and {x[tuple(np.argwhere(~same)[0])]}"
            )


def _run(recipe: recipes.Recipe, operands: Sequence[Any], state: tuple[int, int], way: Way) -> None:
    arrays = {id(x): Placed(x, way, f"operand {i}") for i, x in enumerate(operands) if isinstance(x, np.ndarray)}
    places = [arrays[id(x)] if isinstance(x, np.ndarray) else _number(x) for x in operands]
    scratch = Memory(recipe.workspace, way, what="the workspace", align=256)
    memories = [*arrays.values(), scratch]
    for launch in recipe.launches:
        _launch(launch, places, scratch, state, memories)
        for memory in memories:
            try:
                memory.check()
            except EmulatorError as error:
                raise EmulatorError(f"{launch.code.name}: {error}") from None
    for p in arrays.values():
        if p.array.flags.writeable:
            p.source[:] = p.bytes


def _number(x: Any) -> np.ndarray:
    """A host scalar as an array of one element; a pair says its type."""
    value, dtype = x if isinstance(x, tuple) else (x, getattr(x, "dtype", None))
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(numpy_type(dtype) if isinstance(dtype, str) else dtype).reshape(1)


def _arguments(launch: recipes.Launch, places: list, scratch: Memory, state: tuple[int, int]) -> list[np.ndarray]:
    """Each argument as an array of one element."""
    out = []
    for a in launch.args:
        if isinstance(a, recipes.Operand):
            place = places[a.index]
            out.append(np.array([place.pointer + a.offset], np.uintp) if isinstance(place, Placed) else place)
        elif isinstance(a, recipes.Scratch):
            out.append(np.array([scratch.address + a.offset], np.uintp))
        elif isinstance(a, recipes.Value):
            out.append(_number((a.value, a.dtype)))
        elif isinstance(a, recipes.Table):
            members = _arguments(dataclasses.replace(launch, args=a.members), places, scratch, state)
            out.append(np.frombuffer(b"".join(m.tobytes() for m in members), np.dtype((np.void, 8 * len(members)))))
        else:
            out += [np.array([s], np.uint64) for s in state] + [np.array([0], np.uintp)]
    return out


def _check_arguments(launch: recipes.Launch, library: ctypes.CDLL, index: int, args: list[np.ndarray]) -> None:
    """Arguments must be as many, and of the kinds and sizes, that the kernel's parameters are."""
    library.kernel_kinds.restype = library.kernel_sizes.restype = ctypes.c_char_p
    kinds, sizes = library.kernel_kinds(index).decode(), library.kernel_sizes(index)
    got = ["s" if s == "s" else "p" if a.dtype == np.uintp and s == "p" else "f" if a.dtype.kind in "fV" else "i"
           for a, s in zip(args, kinds, strict=False)]  # fmt: skip
    pairs = [f"{k}{s * 8 if k == 's' else s}" for k, s in zip(kinds, sizes, strict=True)]
    if len(args) != len(kinds) or [f"{g}{a.itemsize}" for g, a in zip(got, args, strict=True)] != pairs:
        rule = ", ".join(pairs)
        raise EmulatorError(f"{launch.code.name}: expected arguments ({rule}) (kind and bytes of each parameter), got "
                            f"({', '.join(f'{g}{a.itemsize}' for g, a in zip(got, args, strict=False))}), {len(args)} "
                            f"in all: {launch.args}")  # fmt: skip


def _launch(launch: recipes.Launch, places: list, scratch: Memory, state: tuple[int, int],
            memories: list[Memory]) -> None:  # fmt: skip
    library, index = _KERNELS[launch.code.name]
    threads = launch.block[0] * launch.block[1] * launch.block[2]
    if not (0 < threads <= 1024 and launch.block[2] <= 64 and min(launch.grid) > 0 and max(launch.grid[1:]) <= 65535
            and launch.grid[0] < 2**31 and 0 <= launch.shared <= 227 << 10):  # fmt: skip
        raise EmulatorError(f"{launch.code.name}: expected a launch that a GPU takes, got grid {launch.grid}, block "
                            f"{launch.block} and {launch.shared} bytes of shared memory")  # fmt: skip
    args = _arguments(launch, places, scratch, state)
    _check_arguments(launch, library, index, args)
    pointers = (ctypes.c_void_p * max(1, len(args)))(*(a.ctypes.data for a in args))
    message, fault = ctypes.create_string_buffer(1024), ctypes.c_void_p()
    way = scratch.way
    failed = library.run_kernel(index, pointers, (ctypes.c_uint * 3)(*launch.grid), (ctypes.c_uint * 3)(*launch.block),
                                ctypes.c_ulong(launch.shared), int(way.backwards), way.garbage, message, 1024,
                                ctypes.byref(fault))  # fmt: skip
    if failed:
        where = next((w for w in (m.near(fault.value) for m in memories) if w), "") if fault.value else ""
        raise EmulatorError(message.value.decode() + (f", {where}" if where else ""))


# ---- factories ------------------------------------------------------------------------------------------------------


def spec_of(x: Any) -> Spec:
    """The Spec of an array or of a pair (number, dtype)."""
    if isinstance(x, np.ndarray):
        return Spec(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides))
    return Spec((), _number(x).dtype.name, (), True)


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of a C-contiguous array."""
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))


def resolved(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict) -> tuple:
    """(name, ins, outs, attrs) of the factory that is left when adaptors have shown operands in another way."""
    while name in ADAPTORS:
        name, ins, outs, attrs = ADAPTORS[name](ins, outs, attrs)
    return name, ins, outs, attrs


def made(name: str, ins: Sequence[Any], outs: Sequence[tuple], attrs: dict) -> recipes.Recipe:
    """The recipe of a factory for operands as ``launch`` takes them."""
    out_specs = [Spec(tuple(s), d, tuple(strides[0]) if strides else c_strides(s)) for s, d, *strides in outs]
    name, *call = resolved(name, [spec_of(x) for x in ins], out_specs, attrs)
    return FACTORIES[name](*call)


def empty(shape: Sequence[int], dtype: str, strides: Sequence[int] | None = None) -> np.ndarray:
    """An array full of garbage, with the given strides in elements (none of them negative)."""
    kind = numpy_type(dtype)
    strides = c_strides(shape) if strides is None else strides
    extent = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if 0 not in shape else 0
    memory = np.full(extent * kind.itemsize, 0xA5, np.uint8).view(kind)
    return np.lib.stride_tricks.as_strided(memory, shape, [s * kind.itemsize for s in strides])


def launch(name: str, ins: Sequence[Any], outs: Sequence[tuple], attrs: dict | None = None,
           state: tuple[int, int] = STATE, recipe: recipes.Recipe | None = None) -> list[np.ndarray]:  # fmt: skip
    """Outputs of a factory's recipe. outs: (shape, dtype) or (shape, dtype, strides in elements) of each."""
    recipe = recipe or made(name, ins, outs, attrs or {})
    results = [empty(*o) for o in outs]
    before = [x.tobytes() if isinstance(x, np.ndarray) else b"" for x in ins]
    try:
        run(recipe, [*ins, *results], state)
    except EmulatorError as error:
        raise EmulatorError(f"{name}: {error}") from None
    for i, (x, old) in enumerate(zip(ins, before, strict=True)):
        if isinstance(x, np.ndarray) and x.tobytes() != old:
            raise EmulatorError(f"{name}: wrote to input {i}")
    return results


def cpu(
    name: str,
    ins: Sequence[Any],
    outs: Sequence[tuple],
    attrs: dict | None = None,
    state: tuple[int, int] | None = None,
) -> list[np.ndarray]:
    """Outputs of the CPU's kernel. state: (seed, call) of a random kernel, None for all others."""
    arrays = [x if isinstance(x, np.ndarray) else _number(x).reshape(()) for x in ins]
    specs = [[spec_of(x)[:3] for x in xs] for xs in (arrays, [empty(*o) for o in outs])]
    return on_cpu(_core.make_kernel(name, *specs, attrs or {}), arrays, outs, state)


def on_cpu(
    kernel: Any, arrays: Sequence[np.ndarray], outs: Sequence[tuple], state: tuple[int, int] | None = None
) -> list:
    """Outputs of a ``_core.Kernel``, run as the one step of a program, which sees arrays as the bytes they lie in."""
    ranges = [np.lib.array_utils.byte_bounds(x) if x.size else (x.ctypes.data,) * 2 for x in arrays]
    flat = [np.ctypeslib.as_array((ctypes.c_uint8 * (high - low)).from_address(low)) for low, high in ranges]
    results = [empty(*o) for o in outs]
    sizes = [np.subtract(*np.lib.array_utils.byte_bounds(y)[::-1]).item() if y.size else 0 for y in results]
    types = [[((n,), "uint8") for n in ns] for ns in ((f.size for f in flat), sizes)]
    program = _core.Program("emulator", types[0], [False] * len(flat), types[1], 0)
    slots = [("in", i, x.ctypes.data - low) for i, (x, (low, _)) in enumerate(zip(arrays, ranges, strict=True))]
    slots += [("out", i, 0) for i in range(len(results))]
    program.add_step(kernel, slots, "emulator", state is not None)
    kept = _core.random_state()
    _core.set_random_state(*(state or kept))
    got = [y.asnumpy() for y in program.run([_core.borrow(f.copy(), "uint8") for f in flat], False)]
    _core.set_random_state(*kept)
    return [
        np.lib.stride_tricks.as_strided(g.copy().view(y.dtype), y.shape, y.strides)
        for g, y in zip(got, results, strict=True)
    ]
