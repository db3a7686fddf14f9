"""Runs recipes of minimx/rtc/cuda on the CPU, so that GPU kernels are tested where there is no GPU.

``launch(name, ins, outs, attrs)`` makes the recipe of a factory for NumPy operands and returns its outputs;
``cpu(name, ins, outs, attrs)`` has the CPU's kernel of the same name do the same; ``run(recipe, operands)`` runs a
recipe that one has. An input is an array (any strides; ``ml_dtypes`` has bfloat16) or, for a host scalar, a pair
(number, dtype); an output is (shape, dtype)::

    y, = launch("softmax", [x], [(x.shape, "float32")], {"outer": 2, "n": 5, "inner": 1, "log": 0})

Every recipe runs twice: threads and blocks in ascending and in descending order, operands at the end and at the
beginning of pages between pages that fault (in the first run aligned to their elements only), unwritten memory full of
NaN or of 0xA5. The results must be equal to the last bit. What a kernel does wrong is raised as EmulatorError. Read
next: emulator_memory.py, emulator_build.py; the machine itself is emulator.h, CUDA's words are in include/.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from rtc.emulator_build import KERNELS, EmulatorError, prepare
from rtc.emulator_memory import WAYS, Memory, Placed, Way

from minimx.ndarray import _core
from minimx.ops.table import Spec
from minimx.rtc.cuda import recipe as recipes
from minimx.rtc.cuda.adaptors import ADAPTORS
from minimx.rtc.cuda.factories import FACTORIES

NUMPY = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
STATE = (1234567890123456789, 3)  # (seed, call) of random kernels


def numpy_type(dtype: str) -> np.dtype:
    """``bfloat16`` is ml_dtypes'."""
    return NUMPY.get(dtype) or np.dtype(dtype)


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
    library, index = KERNELS[launch.code.name]
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
