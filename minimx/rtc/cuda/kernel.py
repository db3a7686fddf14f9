"""Kernels of a GPU by their factory's name: what csrc/bind asks for instead of the CPU's registry.

Adaptors rename (adaptors.py); convolutions and matrix products are cuDNN's and cuBLASLt's (csrc/cuda/conv.cc,
matmul.cc); everything else is a recipe, compiled (compile.py) and handed to csrc/cuda/launcher.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...device import cuda
from ...errors import NotSupported
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..group import Group, c_strides, number
from . import pointwise
from .adaptors import ADAPTORS
from .compile import cubins
from .factories import FACTORIES
from .recipe import Argument, Operand, Recipe, Scratch, Value

LIBRARY = frozenset({"conv_fwd", "conv_bwd_data", "conv_bwd_weights", "matmul"})
MOST_KERNELS = 4096  # that are kept here; whoever uses one keeps it alive

_kernels: dict[Any, Any] = {}


@dataclass(frozen=True)
class Pending:
    """A kernel to be: its recipe is written, and waits to be compiled together with others by ``finished``."""

    recipe: Recipe
    specs: tuple[Spec, ...]  # of inputs, then outputs
    device_id: int
    key: Any  # in _kernels


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
        return cuda().make_library_kernel(name, ins, outs, attrs, device_id)
    if name not in FACTORIES:
        raise NotSupported(name, "an operator that GPUs have", "one without a recipe", "Move its operands to mx.cpu()")
    key = (name, *ins, *outs, len(ins), repr(sorted(attrs.items())), device_id)
    found = _kernels.get(key)
    return found or Pending(FACTORIES[name](ins, outs, attrs), (*ins, *outs), device_id, key)


def wanted_fused(group: Group, in_specs: Sequence[tuple], out_specs: Sequence[tuple], device_id: int) -> Any:
    """The kernel of a fused group, maybe a Pending; data: the group's arrays, then its outputs."""
    specs, key = tuple(given(s) for s in (*in_specs, *out_specs)), (group, device_id)
    return _kernels.get(key) or Pending(pointwise.fused(group), specs, device_id, key)


def finished(kernels: Sequence[Any]) -> list[Any]:
    """The kernels, with those that are Pending compiled, all together, and bound."""
    pending = {k.key: k for k in kernels if isinstance(k, Pending)}
    done = {key: _kernels[key] for key in pending if key in _kernels}
    for device_id in sorted({k.device_id for k in pending.values()}):
        mine = {key: k for key, k in pending.items() if k.device_id == device_id and key not in done}
        codes = [launch.code for k in mine.values() for launch in k.recipe.launches]
        made = cubins(codes, cuda().arch(device_id)) if codes else {}
        done |= {key: bind(k.recipe, k.specs, made) for key, k in mine.items()}
    if len(_kernels) + len(done) > MOST_KERNELS:
        _kernels.clear()
    _kernels.update(done)
    return [done[k.key] if isinstance(k, Pending) else k for k in kernels]


def given(s: Sequence[Any]) -> Spec:
    """A Spec with all its strides. ``s``: (shape, dtype, strides, weak), and "" in place of weak is no."""
    shape, dtype, strides, weak = (*s, (), False)[:4]
    shape = tuple(shape)
    return Spec(shape, dtype, tuple(strides) if shape and strides else c_strides(shape), bool(weak))


def bind(recipe: Recipe, specs: Sequence[Spec], made: dict[str, bytes]) -> Any:
    """A compiled recipe as a kernel that C++ launches. specs: of inputs, then outputs. made: cubins by name."""
    launches = [
        (made[x.code.name], x.code.name, x.grid, x.block, x.shared, [argument(a, specs) for a in x.args])
        for x in recipe.launches
    ]
    return cuda().make_kernel(launches, recipe.workspace)


def argument(a: Argument, specs: Sequence[Spec]) -> tuple:
    """What csrc/cuda/module.cc reads: ("p", operand, offset), ("s", operand, dtype), ("w", offset), ("v", number,
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
