"""Dead code, common subexpressions, constants: passes that only take away."""

from __future__ import annotations

from typing import Any

from ...device import cpu
from ...ndarray import _core
from ...ops.table import OPS, f
from ..ir import Graph, Node, Value

MAX_FOLDED = 1 << 20  # elements of a constant worth keeping


def _is_pure(n: Node) -> bool:
    """True if running the node twice gives the same and changes nothing else."""
    return n.op == "fused" or not OPS[n.op].random


def dead_code(g: Graph) -> Graph:
    """Drops nodes whose results nobody needs. Random nodes stay: eager code draws too."""
    live = set(g.results())
    kept = []
    for n in reversed(g.nodes):
        if any(v in live for v in n.outputs) or not _is_pure(n):
            live.update(n.values)
            kept.append(n)
    g.nodes = kept[::-1]
    g.constants = {v: a for v, a in g.constants.items() if v in live}
    return g


def common_subexpressions(g: Graph) -> Graph:
    """Computes equal things once: same operator, attributes and inputs."""
    seen: dict[Any, Node] = {}
    new: dict[Value, Value] = {}
    nodes = []
    for n in g.nodes:
        n.inputs = [new.get(x, x) if isinstance(x, Value) else x for x in n.inputs]
        inputs = tuple(x.id if isinstance(x, Value) else (type(x), repr(x)) for x in n.inputs)
        key = (n.op, inputs, repr(sorted(n.attrs.items())))
        if _is_pure(n) and n.body is None and key in seen:
            new.update(zip(n.outputs, seen[key].outputs, strict=True))
            continue
        seen[key] = n
        nodes.append(n)
    g.nodes = nodes
    g.replace(new)
    return g


def identities(g: Graph) -> Graph:
    """Drops copies, for values do not change, and products with 1."""
    new = {n.outputs[0]: source for n in g.nodes if (source := _same(n)) is not None}
    g.nodes = [n for n in g.nodes if n.outputs[0] not in new]
    g.replace(new)
    return g


def _same(n: Node) -> Value | None:
    """The input that a node's output is equal to."""
    first, *others = n.inputs or [None]
    if not isinstance(first, Value) or (first.shape, first.dtype) != (n.outputs[0].shape, n.outputs[0].dtype):
        return None
    by_one = n.op in ("multiply", "divide") and others[0] == 1 and not isinstance(others[0], Value)
    return first if n.op == "copy" or by_one else None


def fold_constants(g: Graph) -> Graph:
    """Runs nodes that depend on no input now, once, and keeps their results."""
    nodes = []
    for n in g.nodes:
        small = all(_size(v) <= MAX_FOLDED for v in n.outputs)
        if n.body is not None or not _is_pure(n) or not small or not all(v in g.constants for v in n.values):
            nodes.append(n)
            continue
        args = [g.constants[x] if isinstance(x, Value) else x for x in n.inputs]
        with cpu():
            made = call(n.op, args, n.attrs)
        for v, a in zip(n.outputs, made if isinstance(made, tuple) else (made,), strict=True):
            g.constants[v] = a if _core.is_contiguous(a) else f.copy(a)
    g.nodes = nodes
    return g


def call(op: str, args: list, attrs: dict, record: bool = False) -> Any:
    """The operator on concrete arrays as they are, without mixed precision; by default off the tape."""
    row = OPS[op]
    function = getattr(f, op)
    if any(p.arrays for p in row.operands):
        at = next(i for i, p in enumerate(row.operands) if p.arrays)
        tail = len(row.operands) - at - 1
        end = len(args) - tail
        args = [*args[:at], args[at:end], *args[end:]]
    recording, low = _core.set_recording(record), _core.swap_low_type(None)
    try:
        return function(*args, **attrs)
    finally:
        _core.set_recording(recording)
        _core.swap_low_type(low)


def _size(v: Value) -> int:
    n = 1
    for d in v.shape:
        n *= d
    return n
