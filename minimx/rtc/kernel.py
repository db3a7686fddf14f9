"""The kernel of a "fused" node: members that run at once, and a compiled function that takes over when it is ready."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..libraries import import_core
from ..ops.dtypes import BY_NAME
from ..ops.emit import nanoseconds
from ..ops.table import OPS, Spec
from . import compile as compiling
from .folds import fold_group_of
from .group import Body, group_of, number
from .rows import row_group_of

_core = import_core()


def fused_kernel(
    node: Any, in_specs: Sequence[tuple], out_specs: Sequence[tuple], in_place: bool = False, gpu: int = -1
) -> Any:
    """The ``_core.Kernel`` of a node with a ``body``; data: the node's arrays, then its outputs. The node's attribute
    ``form``: none for a pointwise chain, "rows" (rows.py) or "fold" (folds.py) for one with reductions.

    Specs are (shape, dtype, element strides, layout), operands that broadcast in their own smaller shape. The kernel
    works at once, member by member; compilation is asked for and never waited for. ``in_place``: outputs may lie where
    operands do, so members must leave them alone until all have run. ``gpu``: number of the GPU it is for, whose kernel
    is Pending: whether its members run first is decided with the whole graph in view (cuda/kernel.py).
    """
    body = Body(node.body, [flat(s) for s in in_specs])
    group = described(node.attrs.get("form", ""), body)
    if gpu >= 0:
        from .cuda import wanted, wanted_fused

        later = functools.partial(bind, body, functools.partial(wanted, device_id=gpu), in_place)
        return wanted_fused(group, recipe_factory(group.form), in_specs, out_specs, gpu, later, in_place)
    members, temporaries, constants = bind(body, on_cpu, in_place)
    arrays = len(in_specs) + len(out_specs)
    kernel = _core.make_fused(arrays, group.items, cost_ns(group), members, temporaries, constants)
    if group.size:
        compiling.submit(group, kernel)
    return kernel


def described(form: str, body: Body) -> Any:
    """The canonical description of a body, of which kernels are written."""
    return {"": group_of, "rows": row_group_of, "fold": fold_group_of}[form](body)


def recipe_factory(form: str) -> Callable[[Any], Any]:
    """What makes the Recipe of a described group for a GPU."""
    from .cuda import fused_fold, fused_rows, pointwise

    factories: dict[str, Callable[[Any], Any]]
    factories = {"": pointwise.fused, "rows": fused_rows.fused, "fold": fused_fold.fused}
    return factories[form]


def flat(spec: tuple) -> tuple:
    """(shape, dtype, strides); a blocked array as the row of elements that it is in memory."""
    shape, dtype, strides, layout = (*spec, "")[:4]
    if not layout:
        return (tuple(shape), dtype, tuple(strides))
    return ((_core.layout_bytes((shape, dtype, (), layout)) // BY_NAME[dtype].size,), dtype, (1,))


def cost_ns(group: Any) -> float:
    """Estimate of one run: reading and writing the operands, and each row's arithmetic."""
    types = [o.dtype for o in group.inputs] + [r.dtype for r in group.outputs]
    each: float = sum(0.05 * BY_NAME[t].size for t in types)
    for s in group.steps:
        if s.row:
            row: Any = OPS[s.row]
            expr = row.step if row.kind == "reduce" else row.expr
            each += nanoseconds(expr, s.compute) - 0.05 * BY_NAME[s.compute].size
    return 5 + group.size * each


def on_cpu(name: str, ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Any:
    """A member's kernel."""
    return _core.make_kernel(name, ins, outs, attrs)


def bind(
    body: Body, make: Callable[..., Any], in_place: bool = False
) -> tuple[list[tuple[Any, list[int]]], list[int], list[bytes]]:
    """Members for ``make_fused``, the bytes of each temporary, and the constants. make: as ``on_cpu``.

    An operand of a member is the index of an array of the fused kernel, counted on through the constants, or ~i for
    temporary i, which serves several values in turn.
    """
    graph = body.graph
    arrays = len(graph.inputs) + len(graph.outputs)
    places = {v: i for i, v in enumerate(graph.inputs)}
    outputs = {body.source(v): i for i, v in enumerate(graph.outputs, len(graph.inputs))}
    if not in_place:
        places.update(outputs)
    ends = last_uses(body)
    members: list[tuple[Any, list[int]]] = []
    temporaries: list[int] = []
    free: list[int] = []
    constants: list[bytes] = []
    for at, m in enumerate(body.members):
        out = m.node.outputs[0]
        if out not in places:
            size = _bytes(body.types[out])
            mine = next((t for t in free if temporaries[~t] == size), None)
            if mine is None:
                temporaries.append(size)
                mine = ~(len(temporaries) - 1)
            else:
                free.remove(mine)
            places[out] = mine
        specs, operands = [], []
        for x, dtype in m.operands():
            if dtype is None:
                specs.append(body.types[x])
                operands.append(places[body.source(x)])
            else:
                specs.append(Spec((), dtype, (), True))
                operands.append(arrays + len(constants))
                constants.append(number(x, dtype).tobytes())
        members.append((make(m.plan.kernel, specs, [body.types[out]], m.plan.attrs), [*operands, places[out]]))
        over = [v for v, end in ends.items() if end == at and v not in outputs]
        free += [places[v] for v in over if places[v] < 0]
    for v, place in outputs.items() if in_place else ():
        members.append((make("cast", [body.types[v]], [body.types[v]], {}), [places[v], place]))
    return members, temporaries, constants


def last_uses(body: Body) -> dict[Any, int]:
    """The last member that reads each value, by the value whose memory it shows."""
    return {body.source(x): at for at, m in enumerate(body.members) for x, dtype in m.operands() if dtype is None}


def _bytes(x: Spec) -> int:
    return math.prod(x.shape) * BY_NAME[x.dtype].size
