"""CUDA dialect: a Group as a grid-stride kernel, for NVRTC. The twin of ../emit_host.py; nothing is launched here.

A thread takes ``kCount`` neighbouring elements at a time, so that every contiguous operand moves in accesses of 16
bytes. Each group has two kernels: ``NAME_wide``, for operands aligned to 16 bytes and a last axis divisible by the
count, and ``NAME`` for all others. Extents and strides are arguments: one kernel, many shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...ops.dtypes import BY_NAME
from .. import text
from ..group import Group, Operand

THREADS = 256  # of a block
WIDEST = 8  # elements a thread takes at once; 16 bytes of a 16-bit float, two accesses of a float32
OPTIONS = ("-std=c++17", "-default-device", "--fmad=false")


def source(groups: Sequence[Group]) -> str:
    """The text that NVRTC compiles: scalar functions, the rows' functions, the kernels of ``groups``."""
    kernels = "\n".join(kernel(g) for g in groups)
    return f"""\
{Path(__file__).with_name("prelude.h").read_text()}
namespace minimx {{
namespace scalar {{

{text.functions(groups)}
{kernels}
}}  // namespace scalar
}}  // namespace minimx
"""


def count(g: Group) -> int:
    """Elements that a thread of the wide kernel takes at once: as many as make 16 bytes of the smallest element."""
    types = [o.dtype for o in g.inputs if o.strides[-1] == 1] + [r.dtype for r in g.outputs]
    return min(WIDEST, 16 // min(BY_NAME[t].size for t in types))


def kernel(g: Group) -> str:
    """The template of one group's kernel and its two instances."""
    name = text.kernel_name(g)
    return f"// {g.title()}\n{_template(g, name)}\n{_instance(g, name, 1)}\n{_instance(g, name + '_wide', count(g))}"


def parameters(g: Group) -> list[tuple[str, str]]:
    """(type, name) of the arguments: operands, outputs, elements, extents but the first, strides of operands."""
    ps = [(f"const {text.ctype(o.dtype)}*", f"p{k}") for k, o in enumerate(g.inputs)]
    ps += [(f"{text.ctype(r.dtype)}*", f"q{k}") for k, r in enumerate(g.outputs)]
    ps.append(("int64_t", "n"))
    ps += [("int64_t", f"n{d}") for d in range(1, len(g.shape))]
    return ps + [("int64_t", f"s{k}_{d}") for k, o in enumerate(g.inputs) for d in _passed(g, o)]


def _passed(g: Group, o: Operand) -> list[int]:
    """Axes whose stride an operand needs told: not those of whole operands, nor steps of 1 along the last axis."""
    if g.whole(o):
        return []
    return [d for d in text.varying(o, len(g.shape)) if not (d == len(g.shape) - 1 and o.strides[d] == 1)]


def _declared(g: Group) -> str:
    return ", ".join(f"{t} {name}" for t, name in parameters(g))


def _instance(g: Group, name: str, wide: int) -> str:
    args = ", ".join(p for _, p in parameters(g))
    return (f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}({_declared(g)}) {{\n'
            f"  {text.kernel_name(g)}_of<{wide}>({args});\n}}\n")  # fmt: skip


def _template(g: Group, name: str) -> str:
    """Loads of ``kCount`` elements, the steps on each, stores."""
    last = len(g.shape) - 1
    lines = ["template <int kCount>", f"void {name}_of({_declared(g)}) {{",
             "  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kCount;",
             "  const int64_t step = int64_t(gridDim.x) * blockDim.x * kCount;",
             "  for (int64_t at = first; at < n; at += step) {"]  # fmt: skip
    partial = [o for o in g.inputs if not g.whole(o)]
    used = {d for o in partial for d in text.varying(o, last + 1)}
    lines += ["    " + line for line in text.index_lines(g, "at", [f"n{d}" for d in range(last + 1)], used, "int64_t")]
    for k, o in enumerate(g.inputs):
        lines.append("    " + _load(g, k, o))
    lines += [f"    Pack<{text.ctype(r.dtype)}, kCount> y{k};" for k, r in enumerate(g.outputs)]
    lines += ["#pragma unroll", "    for (int j = 0; j < kCount; ++j) {"]
    for k, o in enumerate(g.inputs):
        lines.append(f"      const {text.ctype(o.dtype)} x{k} = {_element(g, k, o)};")
    lines += text.steps(g, "      ")
    lines += [f"      y{k}.at[j] = {r.kind}{r.number};" for k, r in enumerate(g.outputs)]
    lines.append("    }")
    lines += [
        f"    *reinterpret_cast<Pack<{text.ctype(r.dtype)}, kCount>*>(q{k} + at) = y{k};"
        for k, r in enumerate(g.outputs)
    ]
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _place(g: Group, k: int, o: Operand) -> str:
    """Offset of the first of a thread's elements."""
    if g.whole(o):
        return "at"
    names = [f"s{k}_{d}" if d in _passed(g, o) else "1" for d in range(len(g.shape))]
    return text.offset(o, len(g.shape), names)


def _load(g: Group, k: int, o: Operand) -> str:
    t = text.ctype(o.dtype)
    if o.strides[-1] == 1:
        return f"const auto v{k} = *reinterpret_cast<const Pack<{t}, kCount>*>(p{k} + {_place(g, k, o)});"
    if o.strides[-1] == 0:
        return f"const {t} v{k} = p{k}[{_place(g, k, o)}];"
    return f"const {t}* v{k} = p{k} + {_place(g, k, o)};"


def _element(g: Group, k: int, o: Operand) -> str:
    if o.strides[-1] == 1:
        return f"v{k}.at[j]"
    return f"v{k}" if o.strides[-1] == 0 else f"v{k}[j * s{k}_{len(g.shape) - 1}]"
