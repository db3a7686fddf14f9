"""Questions of the passes to a GPU's libraries, which know whether they have an engine for a node.

Who asks them, on many threads: minimx/rtc/cuda/library.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.arguments import c_strides
from ...ops.table import OPS, Spec
from ..ir import Node, spec_of


def answered(question: str, nodes: Sequence[Node], gpu: int) -> list[Any]:
    """The answer for each of ``nodes``, whose operands lie in C order."""
    from ...rtc.cuda.adaptors import ADAPTORS
    from ...rtc.cuda.library import answers

    calls = []
    for n in nodes:
        given = [spec_of(x) for x in n.inputs]
        plan = OPS[n.op].plan(given, n.attrs)
        outs = [Spec(tuple(shape), dtype, c_strides(tuple(shape))) for shape, dtype in plan.outs]
        ins = [s for s in given if s is not None]
        call: tuple[str, list[Spec], list[Spec], dict[str, Any]] = plan.kernel, ins, outs, plan.attrs
        while call[0] in ADAPTORS:
            call = ADAPTORS[call[0]](*call[1:])
        calls.append((*call[1:], gpu))
    return answers(question, calls)
