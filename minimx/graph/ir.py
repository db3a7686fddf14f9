"""The graph: typed values, nodes that are rows of the operator table, a printer and a verifier.

Single assignment: a value is made by one node or is an input. In-place writes of the traced code are values like
others; ``writes`` says which inputs take which value at the end. Passes (passes/) are functions graph -> graph. Shapes
are concrete.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import GraphError
from ..ops.arguments import c_strides, number_spec
from ..ops.dtypes import BY_NAME
from ..ops.table import OPS, Spec

_ids = itertools.count()


@dataclass(eq=False)
class Value:
    """An array of the graph. ``layout`` is "" (C order) or a blocked layout in oneDNN's notation ("aBcd8b")."""

    shape: tuple[int, ...]
    dtype: str
    layout: str = ""
    name: str = ""
    id: int = field(default_factory=lambda: next(_ids))

    def type(self) -> str:
        """``float32[2,3]``, with the layout if it has one."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]" + (f"@{self.layout}" if self.layout else "")

    @property
    def bytes(self) -> int:
        """Of its elements, without the padding that a blocked layout may add (lower.value_bytes)."""
        return math.prod(self.shape) * BY_NAME[self.dtype].size

    def like(self, **changes: Any) -> Value:
        """A new value of the same type, but for ``changes``."""
        return Value(**{"shape": self.shape, "dtype": self.dtype, "layout": self.layout, "name": self.name} | changes)


Arg = Value | bool | int | float | None
LIBRARY = ("conv", "matmul", "fully_connected")  # how the names of rows begin that a library computes


@dataclass(eq=False)
class Node:
    """One operator call. ``op`` is a row's name, or "fused", whose ``body`` is the graph of its members."""

    op: str
    inputs: list[Arg]
    outputs: list[Value]
    attrs: dict[str, Any] = field(default_factory=dict)
    site: str = ""
    body: Graph | None = None

    @property
    def values(self) -> list[Value]:
        """The inputs that are arrays."""
        return [x for x in self.inputs if isinstance(x, Value)]

    @property
    def is_view(self) -> bool:
        """True if its result shows the memory of its first input."""
        return self.body is None and self.op in OPS and OPS[self.op].kind == "view"

    @property
    def form(self) -> str:
        """How it runs: as a fused kernel ("pointwise", "rows", "fold"), in a "library", as a "kernel" or a "view"."""
        if self.body is not None:
            return self.attrs.get("form", "pointwise")
        if self.op.startswith(LIBRARY):
            return "library"
        return "view" if self.is_view else "kernel"


@dataclass(eq=False)
class Graph:
    """Inputs, nodes in an order that runs, outputs. ``writes``: (input, value) pairs stored back at the end of a
    run.
    """

    name: str
    inputs: list[Value]
    nodes: list[Node]
    outputs: list[Value]
    writes: list[tuple[Value, Value]] = field(default_factory=list)
    constants: dict[Value, Any] = field(default_factory=dict)  # arrays known when the graph was made
    gpu: int = -1  # number of the GPU that it runs on; -1: the CPU
    lasting: frozenset[Value] = frozenset()  # inputs that seldom change: what is made of them is kept (prepare.py)
    again: frozenset[Node] = frozenset()  # copies of nodes that run late, not where their operands are made (late.py)

    def copy(self) -> Graph:
        """The same graph over the same values, with nodes of its own: passes on one leave the other alone."""
        nodes = [replace(n, inputs=list(n.inputs), outputs=list(n.outputs)) for n in self.nodes]
        ins, outs, writes, constants = list(self.inputs), list(self.outputs), list(self.writes), dict(self.constants)
        return replace(self, inputs=ins, nodes=nodes, outputs=outs, writes=writes, constants=constants)

    def results(self) -> list[Value]:
        """Every value that must exist at the end."""
        return self.outputs + [v for _, v in self.writes]

    def replace(self, new: dict[Value, Value]) -> None:
        """Reads ``new[v]`` wherever ``v`` was read, in nodes, outputs and writes."""

        def now(x: Arg) -> Any:
            while isinstance(x, Value) and x in new:
                x = new[x]
            return x

        for n in self.nodes:
            n.inputs = [now(x) for x in n.inputs]
        self.outputs = [now(x) for x in self.outputs]
        self.writes = [(target, now(v)) for target, v in self.writes]

    def producers(self) -> dict[Value, Node]:
        """Node by value it makes."""
        return {v: n for n in self.nodes for v in n.outputs}

    def uses(self) -> dict[Value, list[Node]]:
        """Nodes that read a value, by value; outputs of the graph do not count."""
        found: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in n.values:
                found.setdefault(v, []).append(n)
        return found

    def verify(self) -> Graph:
        """Checks single assignment, order and types; returns the graph itself. Raises GraphError."""
        known = {*self.inputs, *self.constants}
        for n in self.nodes:
            where = f"graph {self.name}, node {n.op}"
            if n.op != "fused" and n.op not in OPS:
                raise GraphError(where, "an operator of the table", n.op, "A pass made a node that nothing runs")
            for v in n.values:
                if v not in known:
                    raise GraphError(where, "inputs made before", f"%{v.id}", "A pass lost or reordered its producer")
            for v in n.outputs:
                if v in known:
                    raise GraphError(where, "one producer per value", f"%{v.id} made twice", "A pass duplicated a node")
                known.add(v)
        for v in self.results():
            if v not in known:
                raise GraphError(
                    f"graph {self.name}", "outputs that some node makes", f"%{v.id}", "A pass removed a live node"
                )
        return self

    def pretty(self) -> str:
        """The graph as text, one node a line: ``%3: float32[2,3] = tanh(%1)``."""
        names: dict[Value, str] = {}
        lines = [f"graph {self.name}(" + ", ".join(f"{_named(v, names)}: {v.type()}" for v in self.inputs) + ") {"]
        for n in self.nodes:
            lines.extend(_node_lines(n, names, "  "))
        for target, v in self.writes:
            lines.append(f"  write {_named(target, names)} <- {_named(v, names)}")
        lines.append("  return " + ", ".join(_argument(v, names) for v in self.outputs))
        return "\n".join([*lines, "}"])

    def to_svg(self) -> str:
        """The graph as a picture, the text of an SVG file."""
        from .svg import to_svg

        return to_svg(self)

    def save_svg(self, path: str | Path) -> None:
        """Writes ``to_svg()`` to a file."""
        from .svg import save_svg

        save_svg(self, path)


def spec_of(x: Arg, strides: tuple[int, ...] | None = None) -> Spec | None:
    """What a rule sees of a node's input; an array lies in C order if no ``strides`` are given."""
    if isinstance(x, Value):
        return Spec(x.shape, x.dtype, c_strides(x.shape) if strides is None else strides)
    return None if x is None else number_spec(x)


def shown(v: Value, producers: dict[Value, Node]) -> Value:
    """The value whose memory a view shows, or ``v`` itself."""
    while (n := producers.get(v)) is not None and n.is_view:
        v = n.inputs[0]  # type: ignore[assignment]
    return v


def _named(v: Value, names: dict[Value, str]) -> str:
    return names.setdefault(v, f"%{len(names)}" + (f"_{v.name}" if v.name else ""))


def _argument(x: Arg, names: dict[Value, str]) -> str:
    return _named(x, names) if isinstance(x, Value) else repr(x)


def _node_lines(n: Node, names: dict[Value, str], indent: str) -> list[str]:
    args = ", ".join([_argument(x, names) for x in n.inputs] + [f"{k}={v!r}" for k, v in n.attrs.items()])
    outs = ", ".join(f"{_named(v, names)}: {v.type()}" for v in n.outputs)
    lines = [f"{indent}{outs} = {n.op}({args})" + (f"  # {n.site}" if n.site else "")]
    if n.body is not None:
        inner = dict(zip(n.body.inputs, (_argument(x, names) for x in n.values), strict=True))
        for m in n.body.nodes:
            lines.extend(_node_lines(m, inner, indent + "    | "))
        lines.append(f"{indent}    | -> " + ", ".join(_argument(v, inner) for v in n.body.outputs))
    return lines
