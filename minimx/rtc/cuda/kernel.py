"""Kernels of a GPU by their factory's name: what csrc/bind asks for instead of the CPU's registry.

Adaptors rename (adaptors.py); convolutions and matrix products are cuDNN's and cuBLASLt's (csrc/cuda/conv.cc,
matmul.cc); everything else is a recipe, compiled (compile.py) and handed to csrc/cuda/launcher.cc. Fused groups whose
members are compiled already work at once and are compiled in the background (background.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...device import cuda
from ...errors import CompileError, NotSupported
from ...libraries import import_core
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..group import c_strides, number
from . import background, library
from .adaptors import ADAPTORS
from .compile import cubins, failed, ready
from .factories import FACTORIES
from .many import many
from .recipe import Argument, Code, Operand, Recipe, Scratch, Table, Value

_core = import_core()
LIBRARY = frozenset({"conv_fwd", "conv_fwd_stats", "conv_bwd_data", "conv_bwd_weights", "matmul"})
MOST_KERNELS = 4096  # that are kept here; whoever uses one keeps it alive

_kernels: dict[Any, Any] = {}


@dataclass(frozen=True)
class Pending:
    """A kernel to be, which waits to be compiled together with others by ``finished``."""

    write: Callable[[], Recipe]
    specs: tuple[Spec, ...]  # of inputs, then outputs
    outputs: int  # how many of them
    device_id: int
    key: Any  # in _kernels
    group: Any = None  # of a fused kernel: a Group, or one of another form
    members: Callable[[], tuple] | None = None  # of a fused kernel: what ../kernel.py's bind gives, of Pending kernels


def kernel_for(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any], device_id: int) -> Any:
    """The ``_core.Kernel`` of a factory on GPU ``device_id``. ins: what csrc/bind/rules.cc gives to CPU factories, with
    numbers of the host as ``weak``.

    Raises NotSupported where no recipe has the name, CompileError, and MissingExtra where a package is not installed.
    """
    return finished([wanted(name, ins, outs, attrs, device_id)])[0]


def wanted(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any], device_id: int) -> Any:
    """As ``kernel_for``, but maybe a Pending: whoever wants many kernels has them compiled together."""
    ins, outs = [given(s) for s in ins], [given(s) for s in outs]
    while name in ADAPTORS:
        name, ins, outs, attrs = ADAPTORS[name](ins, outs, attrs)
    if name in LIBRARY:
        make = functools.partial(cuda().make_library_kernel, name, ins, outs, attrs, device_id)
        return library.pending(make, key_of(name, ins, outs, attrs, device_id))
    if name not in FACTORIES:
        raise NotSupported(name, "an operator that GPUs have", "one without a recipe", "Move its operands to mx.cpu()")
    write = functools.partial(FACTORIES[name], ins, outs, attrs)
    return Pending(write, (*ins, *outs), len(outs), device_id, key_of(name, ins, outs, attrs, device_id))


def key_of(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any], device_id: int) -> tuple:
    """What tells a kernel from others."""
    return (name, *ins, *outs, len(ins), repr(sorted(attrs.items())), device_id)


def wanted_fused(
    group: Any,
    write: Callable[[Any], Recipe],
    in_specs: Sequence[tuple],
    out_specs: Sequence[tuple],
    device_id: int,
    members: Callable[[], tuple] | None = None,
    in_place: bool = False,
) -> Any:
    """The kernel of a fused group of any form, a Pending; data: the group's arrays, then its outputs. write: makes the
    group's recipe. members: what may run until it is compiled, made for ``in_place``.
    """
    specs = tuple(given(s) for s in (*in_specs, *out_specs))
    key = (group, in_place, device_id)
    return Pending(functools.partial(write, group), specs, len(out_specs), device_id, key, group, members)


def wanted_many(fused: Sequence[Pending]) -> Pending:
    """One kernel for many fused groups that differ in their extent only; data: that of the first, of the second, ..."""
    groups, device_id = tuple(k.group for k in fused if k.group is not None), fused[0].device_id
    specs = tuple(s for k in fused for s in k.specs)
    outputs = sum(k.outputs for k in fused)
    return Pending(functools.partial(many, groups), specs, outputs, device_id, (groups, device_id))


def finished(kernels: Sequence[Any]) -> list[Any]:
    """The kernels, with those that are Pending compiled, all together, and bound.

    Fused ones are not waited for where their members are compiled already: these run until the background has compiled
    them, and for good where that fails.
    """
    from_library = library.begin(kernels)
    pending = {k.key: k for k in kernels if isinstance(k, Pending)}
    done = {key: _kernels[key] for key in pending if key in _kernels}
    for device_id in sorted({k.device_id for k in pending.values()}):
        mine = {key: k for key, k in pending.items() if k.device_id == device_id and key not in done}
        if len(_kernels) + len(mine) > MOST_KERNELS:
            _kernels.clear()
        if mine:
            done |= finished_on(mine, cuda().arch(device_id))
    return [done[k.key] if isinstance(k, Pending) else from_library(k) for k in kernels]


def finished_on(mine: dict[Any, Pending], arch: str) -> dict[Any, Any]:
    """The kernels of one GPU by their keys.

    Groups with reductions are waited for: they add up in another order than their members, and every run of a program
    is to give the same bits, whenever the compiler is done.
    """
    recipes = {key: k.write() for key, k in mine.items()}
    codes = {key: [launch.code for launch in r.launches] for key, r in recipes.items()}
    unfused = {}  # key -> its members
    for key, k in mine.items():
        if k.members is None or k.group is None or k.group.form or ready(codes[key], arch):
            continue
        if there(members := k.members(), arch):
            unfused[key] = members
    waiting = list(unfused)
    made = compiled({key: c for key, c in codes.items() if key not in unfused}, mine, unfused, arch)
    done, takeovers = {}, []
    for key, r in recipes.items():  # another thread may have made it meanwhile: both then use one
        if key not in unfused:
            done[key] = _kernels.setdefault(key, bind(r, mine[key].specs, made))
            continue
        kernel = standing_in(mine[key], unfused[key], r.workspace)
        done[key] = _kernels.setdefault(key, kernel)
        if done[key] is kernel and key in waiting:
            takeovers.append(takeover(mine[key], r, kernel))
        elif done[key] is kernel:
            kernel.settle(None)
    if takeovers:
        background.begin(takeovers, arch)
    return done


def there(members: tuple, arch: str) -> bool:
    """True if no member of a group must be compiled."""
    pending = [k for k, _ in members[0] if isinstance(k, Pending)]
    return all(k.key in _kernels or ready([x.code for x in k.write().launches], arch) for k in pending)


def compiled(codes: dict[Any, list[Code]], mine: dict[Any, Pending], unfused: dict, arch: str) -> dict[str, bytes]:
    """Cubins by name. Fused kernels that fail to compile are entered into ``unfused`` with their members instead."""
    while True:
        for key in [key for key in codes if mine[key].members is not None and failed(codes[key], arch)]:
            del codes[key]
            unfused[key] = mine[key].members()  # type: ignore[misc]
            background.warn(mine[key].group)
        asked = [c for cs in codes.values() for c in cs]
        try:
            return cubins(asked, arch) if asked else {}
        except CompileError:
            if not any(mine[key].members is not None and failed(cs, arch) for key, cs in codes.items()):
                raise


def standing_in(k: Pending, members: tuple, workspace: int) -> Any:
    """A kernel that runs the members of a group until it is settled."""
    pairs, temporaries, constants = members
    kernels = finished([member for member, _ in pairs])
    operands = [places for _, places in pairs]
    return _core.make_fused_device(
        len(k.specs), list(zip(kernels, operands, strict=True)), temporaries, constants, workspace
    )


def takeover(k: Pending, r: Recipe, kernel: Any) -> background.Takeover:
    """What settles the kernel of a group once its recipe is compiled."""
    assert k.group is not None
    codes = tuple(dict.fromkeys(launch.code for launch in r.launches))

    def make(made: dict[str, bytes]) -> Any:
        _kernels[k.key] = final = bind(r, k.specs, made)
        return final

    return background.Takeover(k.group, codes, kernel, make)


def given(s: Sequence[Any]) -> Spec:
    """A Spec with all its strides. ``s``: (shape, dtype, strides, weak), and "" in place of weak is no."""
    shape, dtype, strides, weak = (*s, (), False)[:4]
    shape = tuple(shape)
    return Spec(shape, dtype, tuple(strides) if shape and strides else c_strides(shape), bool(weak))


def bind(recipe: Recipe, specs: Sequence[Spec], made: dict[str, bytes]) -> Any:
    """A compiled recipe as a kernel that C++ launches. specs: of inputs, then outputs. made: cubins by name."""
    launches = [
        (made[x.code.name], x.code.name, x.grid, x.block, x.shared, arguments(x.args, specs)) for x in recipe.launches
    ]
    return cuda().make_kernel(launches, recipe.workspace)


def arguments(args: Iterable[Argument], specs: Sequence[Spec]) -> list[tuple]:
    """What csrc/cuda/module.cc reads: one tuple an argument, and ("t", n) before the n members of a table."""
    out = []
    for a in args:
        if isinstance(a, Table):
            out += [("t", len(a.members)), *(argument(m, specs) for m in a.members)]
        else:
            out.append(argument(a, specs))
    return out


def argument(a: Argument, specs: Sequence[Spec]) -> tuple:
    """("p", operand, offset), ("s", operand, dtype), ("w", offset), ("v", number,
    dtype) or ("r",) for the three of the random state.
    """
    if isinstance(a, Operand):
        spec = specs[a.index]
        return ("s", a.index, spec.dtype) if spec.weak else ("p", a.index, a.offset)
    if isinstance(a, Scratch):
        return ("w", a.offset)
    if not isinstance(a, Value):
        return ("r",)
    kind = BY_NAME[a.dtype]
    if kind.kind == "f" and kind.size == 2:
        return ("v", int(number(a.value, a.dtype).view("int16")), "int16")
    return ("v", a.value if kind.kind == "f" else int(a.value), a.dtype)
