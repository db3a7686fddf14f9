"""Tracing: runs the real Python code once with arrays that only note what is done to them, and makes a Graph of it.

The notes are taken in C++ (csrc/runtime/trace.cc), behind the same ``invoke`` that runs operators eagerly. Concrete
arrays that the code uses (parameters above all) become inputs; the gradient is traced on from the same notes, with the
rows' own gradient rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..device import Device, cpu
from ..errors import DeviceError, GraphError
from ..ndarray import _core, ndarray
from ..ops.table import OPS, f
from .ir import Graph, Node, Value

is_tracing = _core.is_tracing


@dataclass
class Traced:
    """A traced function. tree: how its result is nested; captures: concrete arrays that became inputs after the
    arguments.
    """

    graph: Graph
    tree: Any
    captures: list[ndarray]
    arguments: int
    recorder: Recorder


@dataclass
class Recorder:
    """A trace in C++ and the IR made of its notes so far."""

    notes: Any
    values: dict[int, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def value(self, number: int) -> Value:
        """The IR value of a traced array's number."""
        if number not in self.values:
            shape, dtype, _ = self.notes.values()[number]
            self.values[number] = Value(shape, dtype)
        return self.values[number]

    def advance(self) -> list[Node]:
        """Turns the notes taken since the last call into nodes; returns those."""
        types = self.notes.values()
        new = []
        for op, attrs, args, outs, site in self.notes.nodes(len(self.nodes)):
            for number in [a[1] for a in args if isinstance(a, tuple)] + list(outs):
                if number not in self.values:
                    self.values[number] = Value(types[number][0], types[number][1])
            inputs = [self.values[a[1]] if isinstance(a, tuple) else a for a in args]
            new.append(Node(op, inputs, [self.values[o] for o in outs], dict(attrs), site))
        self.nodes.extend(new)
        return new

    def run(self, training: bool, function: Callable[[], Any]) -> Any:
        """Calls ``function`` with operators going to this trace."""
        self.notes.enter(training)
        try:
            return function()
        finally:
            self.notes.leave()


def flatten(x: Any, leaves: list) -> Any:
    """Appends the arrays of nested lists, tuples and dicts to ``leaves``; returns the nesting, for ``unflatten``."""
    if isinstance(x, ndarray):
        leaves.append(x)
        return len(leaves) - 1
    if isinstance(x, (list, tuple)):
        return (type(x), [flatten(v, leaves) for v in x])
    if isinstance(x, dict):
        return (dict, {k: flatten(v, leaves) for k, v in x.items()})
    return ("leaf", x)


def unflatten(tree: Any, leaves: Sequence) -> Any:
    """The reverse of ``flatten``."""
    if isinstance(tree, int):
        return leaves[tree]
    kind, content = tree
    if kind == "leaf":
        return content
    if kind is dict:
        return {k: unflatten(v, leaves) for k, v in content.items()}
    items = [unflatten(v, leaves) for v in content]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def gpu_of(arrays: Sequence[ndarray]) -> int:
    """Number of the GPU that arrays are on, -1 for the CPU."""
    return next((a.device.device_id for a in arrays if a.device.device_type == "gpu"), -1)


def zeros_for(g: Graph, arguments: int) -> list[ndarray]:
    """Arrays like the first inputs of a graph, on its device."""
    with Device("gpu", g.gpu) if g.gpu >= 0 else cpu():
        return [f.zeros(v.shape, v.dtype) for v in g.inputs[:arguments]]


def trace(name: str, function: Callable[..., Any], args: Sequence[ndarray], training: bool) -> Traced:
    """Traces ``function`` on arrays of the types of ``args``. Raises GraphError where it branches on values."""
    gpu = gpu_of(args)
    recorder = Recorder(_core.Trace(gpu))
    stand_ins = [recorder.notes.input(list(a.shape), _core.dtype_name(a)) for a in args]
    first = [recorder.notes.value_of(s) for s in stand_ins]
    result = recorder.run(training, lambda: function(*stand_ins))
    leaves: list = []
    tree = flatten(result, leaves)
    outs = [recorder.notes.value_of(x) for x in leaves]  # an argument or concrete array may be returned as it is
    nodes = recorder.advance()
    captures = recorder.notes.captures()
    changes = [
        *zip(first, map(recorder.notes.value_of, stand_ins), strict=True),
        *((i, last) for _, i, last in captures),
    ]
    recorder.notes.settle()
    inputs = [recorder.value(number) for number, _ in changes]
    writes = [(recorder.value(number), recorder.value(last)) for number, last in changes if number != last]
    graph = Graph(name, inputs, nodes, [recorder.value(o) for o in outs], writes, gpu=gpu)
    stray = next((a for a, _, _ in captures if gpu_of([a]) != gpu), None)
    if stray is not None:
        where = f"gpu({gpu})" if gpu >= 0 else "the CPU"
        raise DeviceError(name, f"arrays on {where}", f"one of shape {stray.shape} on {stray.device}",
                          "Move it with to_device()")  # fmt: skip
    return Traced(graph.verify(), tree, [a for a, _, _ in captures], len(args), recorder)


@dataclass
class Gradient:
    """The backward half of a traced function. gradients: value of the gradient by forward input, None where zero."""

    nodes: list[Node]
    heads: list[Value]  # gradients of the forward outputs: inputs of this half
    gradients: list[Value | None]


def differentiate(t: Traced, wanted: Sequence[bool], training: bool) -> Gradient:
    """Walks the forward nodes back with the rows' gradient rules; ``wanted`` says which inputs need a gradient."""
    rec = t.recorder
    numbers = {v: k for k, v in rec.values.items()}
    detached = {rec.values[k] for k, (_, _, cut) in enumerate(rec.notes.values()) if cut and k in rec.values}
    active = {v for v, w in zip(t.graph.inputs, wanted, strict=True) if w}
    made = {v for n in t.graph.nodes for v in n.outputs}
    for n in t.graph.nodes:
        if any(v in active for v in n.values):
            active.update(
                v for v in n.outputs if v.dtype.startswith(("float", "bfloat")) and not (v in detached and v in made)
            )
    heads = [rec.notes.input(list(v.shape), v.dtype) for v in t.graph.outputs]
    grads: dict[Value, Any] = {}

    def add(v: Value, g: Any) -> None:
        grads[v] = g if v not in grads else grads[v] + g

    def walk() -> None:
        for v, h in zip(t.graph.outputs, heads, strict=True):
            if v in active:
                add(v, h)
        for n in reversed(t.graph.nodes):
            if not any(v in grads for v in n.outputs):
                continue
            needs = [isinstance(v, Value) and v in active for v in n.inputs]
            if not any(needs):
                continue
            ins = [rec.notes.array(numbers[x]) if isinstance(x, Value) else x for x in n.inputs]
            outs = [rec.notes.array(numbers[v]) for v in n.outputs]
            gs = [grads[v] if v in grads else f.zeros_like(o) for v, o in zip(n.outputs, outs, strict=True)]
            for x, g in zip(n.inputs, OPS[n.op].backward(gs, ins, outs, n.attrs, needs), strict=False):
                if g is not None and isinstance(x, Value) and x in active:
                    add(x, g)

    rec.run(training, walk)
    found = [grads.get(v) if w else None for v, w in zip(t.graph.inputs, wanted, strict=True)]
    result = [None if g is None else rec.notes.value_of(g) for g in found]
    nodes = rec.advance()
    if len(rec.notes.captures()) != len(t.captures):
        raise GraphError(
            f"gradient of {t.graph.name}",
            "rules that use the traced arrays only",
            "a concrete array",
            "Fix the row's grad",
        )
    return Gradient(
        nodes, [rec.value(rec.notes.value_of(h)) for h in heads], [None if r is None else rec.value(r) for r in result]
    )
