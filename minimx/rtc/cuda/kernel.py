"""Kernels of a GPU by their factory's name: what csrc/bind asks for instead of the CPU's registry.

Adaptors rename (adaptors.py); convolutions and matrix products are cuDNN's and cuBLASLt's (csrc/cuda/conv.cc,
matmul.cc); everything else is a recipe, compiled (compile.py) and handed to csrc/cuda/launcher.cc.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...device import cuda
from ...errors import NotSupported
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..group import Group, c_strides, number
from . import library, pointwise
from .adaptors import ADAPTORS
from .compile import cubins
from .factories import FACTORIES
from .many import many
from .recipe import Argument, Operand, Recipe, Scratch, Table, Value

LIBRARY = frozenset({"conv_fwd", "conv_bwd_data", "conv_bwd_weights", "matmul"})
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
    group: Group | None = None  # of a fused kernel


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


def wanted_fused(group: Group, in_specs: Sequence[tuple], out_specs: Sequence[tuple], device_id: int) -> Any:
    """The kernel of a fused group, a Pending; data: the group's arrays, then its outputs."""
    specs = tuple(given(s) for s in (*in_specs, *out_specs))
    write = functools.partial(pointwise.fused, group)
    return Pending(write, specs, len(out_specs), device_id, (group, device_id), group)


def wanted_many(fused: Sequence[Pending]) -> Pending:
    """One kernel for many fused groups that differ in their extent only; data: that of the first, of the second, ..."""
    groups, device_id = tuple(k.group for k in fused if k.group is not None), fused[0].device_id
    specs = tuple(s for k in fused for s in k.specs)
    outputs = sum(k.outputs for k in fused)
    return Pending(functools.partial(many, groups), specs, outputs, device_id, (groups, device_id))


def finished(kernels: Sequence[Any]) -> list[Any]:
    """The kernels, with those that are Pending compiled, all together, and bound."""
    from_library = library.begin(kernels)
    pending = {k.key: k for k in kernels if isinstance(k, Pending)}
    done = {key: _kernels[key] for key in pending if key in _kernels}
    for device_id in sorted({k.device_id for k in pending.values()}):
        mine = {key: k for key, k in pending.items() if k.device_id == device_id and key not in done}
        recipes = {key: k.write() for key, k in mine.items()}
        codes = [launch.code for r in recipes.values() for launch in r.launches]
        made = cubins(codes, cuda().arch(device_id)) if codes else {}
        if len(_kernels) + len(mine) > MOST_KERNELS:
            _kernels.clear()
        for key, r in recipes.items():  # another thread may have made it meanwhile: both then use one
            done[key] = _kernels.setdefault(key, bind(r, mine[key].specs, made))
    return [done[k.key] if isinstance(k, Pending) else from_library(k) for k in kernels]


def given(s: Sequence[Any]) -> Spec:
    """A Spec with all its strides. ``s``: (shape, dtype, strides, weak), and "" in place of weak is no."""
    shape, dtype, strides, weak = (*s, (), False)[:4]
    shape = tuple(shape)
    return Spec(shape, dtype, tuple(strides) if shape and strides else c_strides(shape), bool(weak))


def bind(recipe: Recipe, specs: Sequence[Spec], made: dict[str, bytes]) -> Any:
    """A compiled recipe as a kernel that C++ launches. specs: of inputs, then outputs. made: cubins by name."""
    launches = [
        (made[x.code.name], x.code.name, x.grid, x.block, x.shared, arguments(x.args, specs))
        for x in recipe.launches
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
