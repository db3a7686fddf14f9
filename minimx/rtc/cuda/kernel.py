"""Kernels of a GPU by their factory's name: what csrc/bind asks for instead of the CPU's registry.

Adaptors rename (adaptors.py); convolutions and matrix products are cuDNN's and cuBLASLt's (csrc/cuda/conv.cc,
matmul.cc); everything else is a recipe, compiled (compile.py) and handed to csrc/cuda/launcher.cc.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def kernel_for(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any], device_id: int) -> Any:
    """The ``_core.Kernel`` of a factory on GPU ``device_id``. ins: what csrc/bind/rules.cc gives to CPU factories, with
    numbers of the host as ``weak``.

    Raises NotSupported where no recipe has the name, CompileError, and MissingExtra where a package is not installed.
    """
    ins, outs = [given(s) for s in ins], [given(s) for s in outs]
    while name in ADAPTORS:
        name, ins, outs, attrs = ADAPTORS[name](ins, outs, attrs)
    if name in LIBRARY:
        return cuda().make_library_kernel(name, ins, outs, attrs, device_id)
    if name not in FACTORIES:
        raise NotSupported(name, "an operator that GPUs have", "one without a recipe", "Move its operands to mx.cpu()")
    key = (name, *ins, *outs, len(ins), repr(sorted(attrs.items())), device_id)
    if key not in _kernels:
        if len(_kernels) >= MOST_KERNELS:
            _kernels.clear()
        _kernels[key] = bind(FACTORIES[name](ins, outs, attrs), ins, outs, device_id)
    return _kernels[key]


def fused_for(group: Group, in_specs: Sequence[tuple], out_specs: Sequence[tuple], device_id: int) -> Any:
    """The ``_core.Kernel`` of a fused group; data: the group's arrays, then its outputs."""
    ins, outs = [given(s) for s in in_specs], [given(s) for s in out_specs]
    return bind(pointwise.fused(group, ins, outs), ins, outs, device_id)


def given(s: Sequence[Any]) -> Spec:
    """A Spec with all its strides. ``s``: (shape, dtype, strides, weak), and "" in place of weak is no."""
    shape, dtype, strides, weak = (*s, (), False)[:4]
    shape = tuple(shape)
    return Spec(shape, dtype, tuple(strides) if shape and strides else c_strides(shape), bool(weak))


def bind(recipe: Recipe, ins: Sequence[Spec], outs: Sequence[Spec], device_id: int) -> Any:
    """Compiles a recipe, or finds it compiled, and makes it a kernel that C++ launches."""
    module, specs = cuda(), [*ins, *outs]
    made = cubins([launch.code for launch in recipe.launches], module.arch(device_id)) if recipe.launches else {}
    launches = [
        (made[x.code.name], x.code.name, x.grid, x.block, x.shared, [argument(a, specs) for a in x.args])
        for x in recipe.launches
    ]
    return module.make_kernel(launches, recipe.workspace)


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
