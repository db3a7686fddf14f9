"""Host dialect: a Group as a C++ function over the elements [begin, end) of its outputs, for the machine's compiler.

The inner loop runs along the last axis, where every operand is contiguous, one value, or strided, and is plain enough
for the compiler to vectorise. Scalar functions: csrc/cpu/fused.h. The twin on the GPU: cuda/pointwise.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import host_folds, host_rows, text
from .group import Group

HEADER = """\
// Fused kernels, written and compiled at run time by minimx/rtc.
#include "cpu/fused.h"

namespace minimx {
namespace scalar {
namespace {
"""

FOOTER = """\
}  // namespace scalar
}  // namespace minimx
"""


def source(groups: Sequence[Any]) -> str:
    """The translation unit that holds the kernels of ``groups``."""
    kernels = "\n".join(kernel(g) for g in groups)
    return f"{HEADER}\n{text.functions(groups)}\n}}  // namespace\n\n{kernels}\n{FOOTER}"


def kernel(g: Any) -> str:
    """The function of one group."""
    lines = [f"// {g.title()}",
             f'extern "C" void {text.kernel_name(g)}(void* const* data, int64_t begin, int64_t end) {{']  # fmt: skip
    for k, o in enumerate(g.inputs):
        stored = "uint8_t" if o.dtype == "bool" else text.ctype(o.dtype)  # as contiguous_loop of elemwise_loop.h
        lines.append(f"  const auto* p{k} = static_cast<const {stored}*>(data[{o.slot}]);")
    for k, r in enumerate(g.outputs):
        lines.append(f"  auto* q{k} = static_cast<{text.ctype(r.dtype)}*>(data[{g.arrays + k}]);")
    bodies: dict[str, Callable[[Any], list[str]]]
    bodies = {"": pointwise, "rows": host_rows.body, "fold": host_folds.body}
    return "\n".join([*lines, *bodies[g.form](g), "}"]) + "\n"


def pointwise(g: Group) -> list[str]:
    """The body of a function over elements."""
    return _one_run(g) if len(g.shape) == 1 else _rows(g)


def _one_run(g: Group) -> list[str]:
    """Every operand is one run of elements or one value."""
    same = [f"  const {text.ctype(o.dtype)} x{k} = *p{k};" for k, o in enumerate(g.inputs) if o.strides == (0,)]
    return same + _loop(g, {k: f"p{k}" for k in range(len(g.inputs))}, "q", "begin", "end", "  ")


def _rows(g: Group) -> list[str]:
    """Runs along the last axis, between which the operands' places are worked out anew."""
    last = len(g.shape) - 1
    extent = [str(n) for n in g.shape]
    partial = [(k, o) for k, o in enumerate(g.inputs) if not g.whole(o)]
    used = {last} | {d for _, o in partial for d in text.varying(o, last + 1)}
    lines = ["  for (int64_t at = begin; at < end;) {  // a run along the last axis"]
    lines += ["    " + line for line in text.index_lines("at", extent, used, "int64_t")]
    lines.append(f"    const int64_t n = std::min<int64_t>({extent[last]} - i{last}, end - at);")
    runs = {}
    for k, o in enumerate(g.inputs):
        place = "at" if g.whole(o) else text.offset(o, last + 1)
        if o.strides[last] == 0:
            lines.append(f"    const {text.ctype(o.dtype)} x{k} = p{k}[{place}];")
        else:
            lines.append(f"    const auto* r{k} = p{k} + {place};")
            runs[k] = f"r{k}"
    lines += [f"    auto* s{k} = q{k} + at;" for k in range(len(g.outputs))]
    return [*lines, *_loop(g, runs, "s", "0", "n", "    "), "    at += n;", "  }"]


def _loop(g: Group, runs: dict[int, str], out: str, begin: str, end: str, indent: str) -> list[str]:
    """The innermost loop. Element i of an output depends on element i of the inputs only, so in place is no hazard."""
    lines = ["#pragma GCC ivdep", f"{indent}for (int64_t i = {begin}; i < {end}; ++i) {{"]
    for k, o in enumerate(g.inputs):
        if o.strides[-1]:
            step = "i" if o.strides[-1] == 1 else f"i * {o.strides[-1]}"
            lines.append(f"{indent}  const {text.ctype(o.dtype)} x{k} = {runs[k]}[{step}];")
    lines += text.steps(g, indent + "  ")
    for k, r in enumerate(g.outputs):
        lines.append(f"{indent}  " + text.assigned(f"{out}{k}[i]", f"{r.kind}{r.number}", r.dtype))
    return [*lines, indent + "}"]
