"""Lowering: a graph becomes a Program (csrc/runtime/program.h): bound kernels over buffers with planned places.

Each node asks its row for a plan, as eager code does, but with the strides and layouts that its operands have here;
views become other looks at a buffer. Read next: memory.py (places), csrc/runtime/program.cc (how it runs).
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, field
from typing import Any

from ..ndarray import _core, _device_host_call, _host_call
from ..ops.arguments import NUMBER_TYPES, c_strides
from ..ops.dtypes import BY_NAME
from ..ops.table import OPS, Plan, Spec
from . import memory
from .ir import Graph, Node, Value, shown, spec_of

RESHAPES = frozenset({"reshape", "expand_dims", "squeeze", "stop_gradient"})


@dataclass(eq=False)
class Block:
    """A piece of memory. kind: "in", "out", "const", "host" (a number; then ``index`` says which) or "arena", which may
    become a piece of the tray.
    """

    kind: str
    bytes: int
    index: int = 0
    first: int = -1  # steps that use it
    last: int = -1
    final: int = -1  # last node that reads what lies in it
    planned: memory.Buffer | None = None

    def slot(self, offset: int) -> tuple[str, int, int]:
        """Where the runtime finds byte ``offset`` of it."""
        if self.planned is None:
            return (self.kind, self.index, offset)
        return ("tray" if self.planned.in_tray else "arena", 0, self.planned.offset + offset)


@dataclass
class Place:
    """Where a value lies: block, strides and offset in elements."""

    block: Block
    strides: tuple[int, ...]
    offset: int = 0


@dataclass
class Step:
    """A kernel run to be: specs of its operands are fixed, places become slots once the memory is planned."""

    kernel: Any
    name: str
    operands: list[tuple[Block, int]]  # block and offset in bytes; outputs last
    random: bool = False
    outs: int = 1
    nodes: list[Node] = field(default_factory=list)  # whose work it is; of a copy the node that wants it, if any


@dataclass
class Lowering:
    """State while one graph is lowered."""

    graph: Graph
    tray: memory.Tray | None = None
    places: dict[Value, Place] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    constants: list[bytes] = field(default_factory=list)
    numbers: list[bytes] = field(default_factory=list)
    last_use: dict[Value, int] = field(default_factory=dict)
    in_place: dict[Value, Value] = field(
        default_factory=dict
    )  # values made right in the input that they are written to, or in what a product adds to
    reshaped: dict[Value, Value] = field(
        default_factory=dict
    )  # values made right in the output that is their reshape, or that products add to them

    # ---- places
    # ---------------------------------------------------------------------------------------------------------

    def block(self, kind: str, size: int, index: int = 0) -> Block:
        """A new block."""
        b = Block(kind, size, index)
        self.blocks.append(b)
        return b

    def constant(self, data: bytes) -> Block:
        """A block that holds ``data``."""
        self.constants.append(data)
        return self.block("const", len(data), len(self.constants) - 1)

    def number(self, x: float, dtype: str) -> Block:
        """A block that holds one number, which on a GPU travels with the launch."""
        data = _scalar_bytes(x, dtype)
        if self.graph.gpu < 0:
            return self.constant(data)
        self.numbers.append(data)
        return self.block("host", len(data), len(self.numbers) - 1)

    def spec(self, v: Value) -> tuple:
        """(shape, dtype, strides, layout) of a value where it lies."""
        return (v.shape, v.dtype, () if v.layout else self.places[v].strides, v.layout)

    def flat_spec(self, v: Value) -> tuple:
        """The same, but a blocked value as the row of elements that it is in memory: for pointwise kernels."""
        return (*outer_type(v), (1,), "") if v.layout else self.spec(v)

    def place_output(self, v: Value, outputs: dict[Value, int]) -> None:
        """Memory for a value that a kernel makes: a graph output's own, the input it is written to, or the arena."""
        if v in self.in_place:
            self.places[v] = self.places[self.in_place[v]]
            return
        size = value_bytes(v)
        leaves = self.reshaped.get(v, v)
        block = self.block("out", size, outputs[leaves]) if leaves in outputs else self.block("arena", size)
        block.final = self.last_use.get(v, -1)
        self.places[v] = Place(block, c_strides(v.shape))

    def operand(self, v: Value) -> tuple[Block, int]:
        """Block and byte offset of a value."""
        p = self.places[v]
        return (p.block, p.offset * BY_NAME[v.dtype].size)

    # ---- nodes
    # ----------------------------------------------------------------------------------------------------------

    def lower(self, n: Node, outputs: dict[Value, int]) -> None:
        """Adds the steps of a node."""
        begin = len(self.steps)
        self.add_node(n, outputs)
        for step in self.steps[begin:]:
            step.nodes = [n]

    def add_node(self, n: Node, outputs: dict[Value, int]) -> None:
        """The same, without noting whose they are."""
        if n.body is not None:
            return self.lower_fused(n, outputs)
        row = OPS[n.op]
        specs = [self.operand_spec(x) for x in n.inputs]
        plan = row.plan(specs, n.attrs)
        inputs = [self.prepared(x, plan) if isinstance(x, Value) else x for x in n.inputs]
        if plan.contiguous and inputs != n.inputs:
            plan = row.plan([self.operand_spec(x) for x in inputs], n.attrs)
        if plan.view is not None and not any(v in outputs for v in n.outputs):
            source = self.places[inputs[0]]  # type: ignore[index]
            self.places[n.outputs[0]] = Place(source.block, tuple(plan.view[0]), source.offset + plan.view[1])
            return None
        if plan.view is not None:  # a view that leaves the graph gets memory of its own
            view = n.outputs[0].like()
            source = self.places[inputs[0]]  # type: ignore[index]
            self.places[view] = Place(source.block, tuple(plan.view[0]), source.offset + plan.view[1])
            if (source.block.kind, source.block.index) == ("out", outputs[n.outputs[0]]):
                self.places[n.outputs[0]] = self.places[view]
                return None
            self.place_output(n.outputs[0], outputs)
            return self.copy(view, n.outputs[0])
        for v in n.outputs:
            self.place_output(v, outputs)
        self.add_kernel_step(n, plan, inputs)
        return None

    def operand_spec(self, x: Any) -> Spec | None:
        """What a rule sees of a node's input."""
        return spec_of(x, self.places[x].strides if isinstance(x, Value) and not x.layout else None)

    def prepared(self, v: Value, plan: Plan) -> Value:
        """The value itself, or a contiguous copy where the plan wants that."""
        p = self.places[v]
        if not plan.contiguous or v.layout or is_dense(v.shape, p.strides):
            return v
        copy = v.like()
        self.place_output(copy, {})
        self.copy(v, copy)
        return copy

    def copy(self, source: Value, target: Value) -> None:
        """A step that copies (and converts layouts and strides)."""
        name = "reorder" if source.layout or target.layout else "cast"
        kernel = _kernel(name, [self.spec(source)], [self.spec(target)], {}, self.graph.gpu)
        self.add_step(Step(kernel, "copy", [self.operand(source), self.operand(target)]))

    def add_kernel_step(self, n: Node, plan: Plan, inputs: list) -> None:
        """The step of a node whose outputs are placed."""
        ins, operands, casts = [], [], list(plan.casts) + [""] * len(inputs)
        spec = self.flat_spec if plan.kernel == "elemwise" else self.spec
        for x, cast in zip(inputs, casts, strict=False):
            if isinstance(x, Value):
                ins.append(spec(x))
                operands.append(self.operand(x))
            elif x is not None:
                dtype = cast or NUMBER_TYPES[type(x)]
                ins.append(((), dtype, (), "", True))
                operands.append((self.number(x, dtype), 0))
        outs = [spec(v) for v in n.outputs]
        if plan.kernel == "host":
            kernel = self.host_kernel(n, [x is not None for x in inputs], ins, outs)
        else:
            kernel = _kernel(plan.kernel, ins, outs, plan.attrs, self.graph.gpu)
        operands += [self.operand(v) for v in n.outputs]
        takes_over = inputs if plan.kernel == "elemwise" else [added_to(n)]
        if takes_over != [None]:
            self.reuse(n, takes_over)
            operands[-len(outs)] = self.operand(n.outputs[0])
        self.add_step(Step(kernel, n.op, operands, plan.random, len(outs)))

    def host_kernel(self, n: Node, present: list[bool], ins: list, outs: list) -> Any:
        """The kernel of a host row: Python over NumPy arrays, or on a GPU over CuPy's."""
        gpu, row = self.graph.gpu, OPS[n.op]
        if gpu < 0:
            return _core.make_host_kernel(_host_call(row, n.attrs, present), ins, outs)
        call = _device_host_call(row, n.attrs, present, table_specs(ins), table_specs(outs), gpu)
        return _core.make_device_host_kernel(call, len(ins) + len(outs))

    def lower_fused(self, n: Node, outputs: dict[Value, int]) -> None:
        """The step of a fused group."""
        from ..rtc import fused_kernel

        for v in n.outputs:
            self.place_output(v, outputs)
        g = self.graph
        in_place = len(n.outputs) > 1 and any(v in self.in_place for v in n.outputs)
        kernel = fused_kernel(n, [self.spec(v) for v in n.values], [self.spec(v) for v in n.outputs], in_place, g.gpu)
        size = math.prod(n.outputs[0].shape)
        if len(n.outputs) == 1 and all(math.prod(v.shape) <= size for v in n.values):  # else it may read one many times
            self.reuse(n, n.inputs)
        operands = [self.operand(v) for v in n.values] + [self.operand(v) for v in n.outputs]
        self.add_step(Step(kernel, "fused", operands, outs=len(n.outputs)))

    def reuse(self, n: Node, inputs: list) -> None:
        """In place: the output takes the memory of one of these inputs, of its size and not needed afterwards."""
        out = n.outputs[0]
        mine = self.places[out].block
        at = self.position[n]
        for x in inputs:
            if not isinstance(x, Value) or x.dtype != out.dtype or x.shape != out.shape or x.layout != out.layout:
                continue
            place = self.places[x]
            whole = place.offset == 0 and (x.layout or is_dense(x.shape, place.strides))
            same_size = mine.kind == place.block.kind == "arena" and place.block.bytes == mine.bytes
            views = [v for v in n.values if v is not x and self.places[v].block is place.block]
            if whole and same_size and place.block.final <= at and not views:  # x - x[:1] reads an element many times
                self.blocks.remove(mine)
                place.block.final = mine.final
                self.places[out] = Place(place.block, self.places[out].strides)
                return

    def add_step(self, step: Step) -> None:
        """Appends a step."""
        self.steps.append(step)

    def note_uses(self) -> None:
        """Notes when each block is in use."""
        for at, step in enumerate(self.steps):
            for block, _ in step.operands:
                block.first = at if block.first < 0 else block.first
                block.last = at

    # ---- the whole
    # ------------------------------------------------------------------------------------------------------

    def run(self) -> Any:
        """The finished Program."""
        g = self.graph
        self.position = {n: i for i, n in enumerate(g.nodes)}
        end = len(g.nodes)
        for i, n in enumerate(g.nodes):
            for v in n.values:
                self.last_use[v] = i
        for v in g.results():
            self.last_use[v] = end
        for i, v in enumerate(g.inputs):
            self.places[v] = Place(self.block("in", 0, i), c_strides(v.shape))
        for v, a in g.constants.items():
            self.places[v] = Place(self.constant(a.tobytes()), c_strides(v.shape))
        outs = g.outputs
        outputs: dict[Value, int] = {}
        for i, v in enumerate(outs):
            outputs.setdefault(v, i)
        self.keep_views_alive()
        self.find_in_place(outputs)
        self.find_reshaped(outputs)
        self.find_added(outputs)
        for n in g.nodes:
            self.lower(n, outputs)
        for i, v in enumerate(outs):  # an output that is an input, a constant or another output
            if self.places[v].block.kind != "out" or self.places[v].block.index != i:
                copy = v.like()
                self.places[copy] = Place(self.block("out", 0, i), c_strides(v.shape))
                self.copy(v, copy)
        targets = {t for t, _ in g.writes}
        staged = {v: self.staged(v) for t, v in g.writes if v in targets and v is not t}  # arrays that trade places
        for target, v in g.writes:
            if v in self.in_place:
                continue
            v = staged.get(v, v)
            copy = target.like()
            self.places[copy] = self.places[target]
            self.copy(v, copy)
        return self.finish(outs)

    def staged(self, v: Value) -> Value:
        """A copy of an input's elements."""
        copy = v.like()
        self.place_output(copy, {})
        self.copy(v, copy)
        return copy

    def find_in_place(self, outputs: dict[Value, int]) -> None:
        """A pointwise node may write its result right into an input, if it is the last to read what was there; so may
        products that add to it in turn. Any node may where nobody reads it.
        """
        producers = self.graph.producers()
        targets = [v for _, v in self.graph.writes]
        for target, v in self.graph.writes:
            n = producers.get(v)
            if n is None or v in outputs or targets.count(v) > 1 or v.dtype != target.dtype:
                continue
            alike = (v.shape, v.layout) == (target.shape, target.layout)
            if alike and target not in self.last_use and shown(v, producers) is v:
                self.in_place[v] = target
            if not is_pointwise(n):
                start, made = self.added_up(v)
                self.in_place |= dict.fromkeys(made if start is target else (), target)
                continue
            readers = [x for x in n.values if x is target]
            if any(x is not target and shown(x, producers) is target for x in n.values):
                continue  # x += x[:1] reads an element many times
            if self.last_use.get(target, -1) <= self.position[n] and all(x.shape == v.shape for x in readers):
                self.in_place[v] = target

    def find_added(self, outputs: dict[Value, int]) -> None:
        """A sum that products make in turn and that leaves the graph lies in the output from the first of them on."""
        producers = self.graph.producers()
        written = {v for _, v in self.graph.writes}
        for v in outputs:
            start, made = self.added_up(v)
            n = producers.get(start)
            if (
                not made
                or n is None
                or n.is_view
                or v in written
                or start in {*outputs, *self.in_place, *self.reshaped}
            ):
                continue
            self.reshaped[start] = v
            self.in_place |= dict.fromkeys(made, start)

    def added_up(self, total: Value) -> tuple[Value, list[Value]]:
        """Where the sum begins that products make in turn, up to ``total``, and what they make of it."""
        producers = self.graph.producers()
        made: list[Value] = []
        v = total
        while (n := producers.get(v)) is not None and (z := added_to(n)) is not None:
            again = any(shown(x, producers) is shown(z, producers) for x in n.values if x is not z)
            if again or self.last_use[z] > self.position[n]:
                break
            made.append(v)
            v = z
        return v, made

    def find_reshaped(self, outputs: dict[Value, int]) -> None:
        """A value of which an output is a reshape is made there: the same elements in the same order."""
        producers = self.graph.producers()
        for v in outputs:
            source = v
            while (n := producers.get(source)) is not None and n.body is None and n.op in RESHAPES:
                source = n.inputs[0]  # type: ignore[assignment]
            made = n is not None and not n.is_view and not source.layout
            if source is not v and made and not {source} & {*outputs, *self.in_place, *self.reshaped}:
                self.reshaped[source] = v

    def keep_views_alive(self) -> None:
        """A value lives as long as the views of it: last uses flow from views to their sources."""
        for n in reversed(self.graph.nodes):
            if n.is_view and isinstance(n.inputs[0], Value):
                source = n.inputs[0]
                self.last_use[source] = max(self.last_use.get(source, -1), self.last_use.get(n.outputs[0], -1))

    def in_tray(self, outs: list[Value]) -> list[memory.Buffer]:
        """What lies in the tray from the beginning or to the end: inputs that were saved there, outputs to be saved."""
        if self.tray is None:
            return []
        there, end = self.tray, len(self.steps)
        values = (outs if there.made else self.graph.inputs)[there.first : there.first + len(there.offsets)]
        found = [memory.Buffer(value_bytes(v), end, end) if there.made else memory.Buffer(value_bytes(v), -1, -1)
                 for v in values]  # fmt: skip
        for b in self.blocks:
            i = b.index - there.first
            if b.kind != ("out" if there.made else "in") or b.first < 0 or not 0 <= i < len(found):
                continue
            if there.made:
                found[i].first = min(found[i].first, b.first)
            else:
                found[i].last = max(found[i].last, b.last)
        for buffer, offset in zip(found, there.offsets, strict=True):
            buffer.offset = offset
        return found

    def finish(self, outs: list[Value]) -> Any:
        """Plans the memory and hands everything to C++."""
        g = self.graph
        if g.gpu >= 0:
            from .together import together

            self.steps = together(self.steps)
        self.note_uses()
        kernels = [s.kernel for s in self.steps]
        scratch: dict[int, Block] = {}  # of steps, which live as long as these
        if g.gpu >= 0:  # a graph's kernels are compiled together
            from ..rtc.cuda import finished

            kernels = finished(kernels)
            for at, kernel in enumerate(kernels):
                if kernel.workspace_bytes:
                    scratch[at] = self.block("arena", kernel.workspace_bytes)
                    scratch[at].first = scratch[at].last = at
        elif any(n.attrs.get("form") for n in g.nodes if n.body is not None):
            from ..rtc.compile import settle

            settle()
        buffers = []
        for b in self.blocks:
            if b.kind == "arena" and b.first >= 0:
                b.planned = memory.Buffer(b.bytes, b.first, b.last)
                buffers.append(b.planned)
        arena = memory.plan(buffers, self.in_tray(outs), self.tray.bytes if self.tray else 0)
        written = {target for target, _ in g.writes}
        program = _core.Program(
            g.name,
            [outer_type(v) for v in g.inputs],
            [v in written for v in g.inputs],
            [outer_type(v) for v in outs],
            arena,
            g.gpu,
        )
        if self.tray is not None:
            program.set_tray(*astuple(self.tray))
        for data in self.constants:
            program.add_constant(data)
        for data in self.numbers:
            program.add_constant(data, True)
        for at, (kernel, s) in enumerate(zip(kernels, self.steps, strict=True)):
            workspace = scratch[at].slot(0) if at in scratch else None
            slots = [b.slot(offset) for b, offset in s.operands]
            node = s.nodes[0] if s.nodes else None
            members = ", ".join(m.op for m in node.body.nodes) if node is not None and node.body is not None else ""
            program.add_step(kernel, slots, s.name, s.random, workspace, members, node.site if node else "", s.outs)
        return program


_kernels: dict[Any, Any] = {}


def table_specs(specs: list[tuple]) -> list[Spec]:
    """Kernel operands as the table's Specs; ``weak`` marks numbers of the host."""
    return [Spec(tuple(s[0]), s[1], tuple(s[2]), len(s) > 4 and s[4]) for s in specs]


def _kernel(name: str, ins: list, outs: list, attrs: dict, gpu: int) -> Any:
    """A bound kernel; equal ones are made once (a ResNet repeats its blocks). For a GPU it may be Pending."""
    if gpu >= 0:
        from ..rtc.cuda import wanted

        return wanted(name, table_specs(ins), table_specs(outs), attrs, gpu)
    key = (name, tuple(ins), tuple(outs), repr(sorted(attrs.items())), _core.num_threads())
    if key not in _kernels:
        if len(_kernels) > 4096:
            _kernels.clear()
        _kernels[key] = _core.make_kernel(name, ins, outs, attrs)
    return _kernels[key]


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """True for the strides of C order; axes of extent 1 do not matter."""
    expected = 1
    for d, s in zip(reversed(shape), reversed(strides), strict=True):
        if d != 1 and s != expected:
            return False
        expected *= d
    return True


def _scalar_bytes(x: float, dtype: str) -> bytes:
    import numpy

    from ..ndarray import NUMPY_DTYPES

    return numpy.asarray(x).astype(NUMPY_DTYPES[BY_NAME[dtype].code]).tobytes()


def is_pointwise(n: Node) -> bool:
    """True if element i of the outputs depends on element i of the operands (or on broadcast ones) only."""
    return not n.attrs.get("form") if n.body is not None else OPS[n.op].kind == "elemwise"


def added_to(n: Node) -> Value | None:
    """The operand that a product adds to, in whose place it may put the sum."""
    adds = n.op in ("matmul_onto", "matmul_sums") and len(n.inputs) == 3
    return n.inputs[2] if adds else None  # type: ignore[return-value]


def outer_type(v: Value) -> tuple[tuple[int, ...], str]:
    """Shape and type of an input or output as an array: a blocked value travels as its flat memory."""
    if not v.layout:
        return (v.shape, v.dtype)
    return ((value_bytes(v) // BY_NAME[v.dtype].size,), v.dtype)


def value_bytes(v: Value) -> int:
    """Bytes that a value takes in memory, with the padding of its layout."""
    return _core.layout_bytes((v.shape, v.dtype, (), v.layout)) if v.layout else v.bytes


def lower(graph: Graph, tray: memory.Tray | None = None) -> Any:
    """The Program of a graph. Raises GraphError for graphs that do not verify."""
    return Lowering(graph.verify(), tray).run()
