"""What became of a function: its kernels, the bytes that they move against the least possible, and what stayed apart.

``net.fusion_report(x)`` prints as a table, and as one of HTML in notebooks; ``rows`` and ``to_dict()`` are its data,
``kernels[i].source`` is the text of a kernel. It compiles the function anew and looks at the passes (watch.py) and at
the steps (lower.py), on the CPU or for a GPU. Why neighbours are apart: apart.py. The table as text: tabular.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import rtc
from ..autograd import predict_mode, record
from ..ndarray import ndarray
from ..ops.dtypes import BY_NAME
from ..ops.table import f
from .apart import Apart, apart
from .compile import Compiled
from .ir import Graph, Node, Value
from .lower import Lowering, Step, lower, value_bytes
from .trace import flatten, zeros_for
from .watch import Snapshots, watched

# Rows whose kernels read an array for sums over channels, and then again for what is made with these.
NORMS = ("batch_norm_train", "batch_norm_relu")
NORM_GRADIENTS = ("batch_norm_grad", "batch_norm_relu_grad", "batch_norm_pair_grad")


@dataclass
class Kernel:
    """One step of a program. form: "pointwise", "rows" or "fold" (fused), "library", "kernel", or "copy".

    read, written: bytes; least: the same with each distinct operand once. launches: of a GPU. ns: where it was timed.
    """

    half: str
    name: str
    form: str
    members: list[str]
    output: str
    read: int
    written: int
    least: int
    launches: int = 1
    site: str = ""
    ns: float | None = None
    write: Callable[[], str] = field(default=lambda: "", repr=False)

    @property
    def source(self) -> str:
        """The text of the kernel, C++ or CUDA; empty where a library or the build made it."""
        return self.write()

    @property
    def moved(self) -> int:
        """Bytes."""
        return self.read + self.written

    @property
    def bandwidth(self) -> float | None:
        """GB/s, where it was timed."""
        return self.moved / self.ns if self.ns else None

    def to_dict(self) -> dict[str, Any]:
        """All but the text."""
        data = asdict(self)
        del data["write"]
        return data | {"bandwidth": self.bandwidth}


@dataclass
class Half:
    """Forward, backward, or a graph that is not cut. ideal: bytes of its inputs, outputs and writes, each once."""

    name: str
    graph: Graph
    kernels: list[Kernel]
    apart: list[Apart]
    ideal: int

    @property
    def moved(self) -> int:
        """Bytes."""
        return sum(k.moved for k in self.kernels)

    @property
    def launches(self) -> int:
        """Kernels that are started."""
        return sum(k.launches for k in self.kernels)

    def to_dict(self) -> dict[str, Any]:
        """The sums, and what stayed apart."""
        sums = {"launches": self.launches, "moved": self.moved, "ideal": self.ideal}
        return sums | {"apart": [a._asdict() for a in self.apart]}


@dataclass
class FusionReport:
    """The report of one function. before: (kernels, bytes) where every node runs on its own. ideal: bytes of what the
    whole function is given and gives, each once. copy_speed: GB/s of a large copy on the device, where it was timed.
    """

    title: str
    before: tuple[int, int]
    ideal: int
    halves: list[Half]
    copy_speed: float | None = None

    @property
    def kernels(self) -> list[Kernel]:
        """All of them, in the order in which they run."""
        return [k for h in self.halves for k in h.kernels]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each kernel."""
        return [k.to_dict() for k in self.kernels]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        halves = {h.name: h.to_dict() for h in self.halves}
        before = dict(zip(("launches", "moved"), self.before, strict=True))
        whole = {"title": self.title, "before": before, "ideal": self.ideal, "copy_speed": self.copy_speed}
        return whole | {"halves": halves, "kernels": self.rows}

    def __str__(self) -> str:
        from .tabular import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from .tabular import as_html

        return as_html(self)


def fusion_report(cached: Any, args: Sequence[Any], training: bool, time: bool) -> FusionReport:
    """The report of a CachedGraph for arguments like ``args``. ``time``: runs it, on copies of what it writes to."""
    seen, compiled, leaves = compiled_anew(cached, args, training)
    report = report_of(seen)
    if time:
        rtc.wait()
        for half, program, inputs in programs(compiled, leaves):
            note_times(report, half, program, inputs)
    return report


def step_report(step: Any, args: Sequence[ndarray], time: bool) -> FusionReport:
    """The report of a Step (step.py)."""
    report = report_of(step.passes())
    if time:
        rtc.wait()
        values = step.graph.inputs[len(args) :]
        given = [f.zeros(v.shape, v.dtype) if a is None else a for v, a in zip(values, step.captures, strict=True)]
        note_times(report, "step", step.program, [*args, *given])
    return report


def note_times(report: FusionReport, half: str, program: Any, inputs: list[ndarray]) -> None:
    """Runs the program of a half step by step."""
    kernels = next(h for h in report.halves if h.name == half).kernels
    for k, ns in zip(kernels, program.time_steps(inputs), strict=True):
        k.ns = ns
    report.copy_speed = copy_speed(report.halves[0].graph.gpu)


COPIED = 1 << 26  # bytes: more than caches hold, on a GPU twice


@functools.cache
def copy_speed(gpu: int) -> float:
    """GB/s that a copy of a large array reads and writes on a device (-1: the CPU), timed once."""
    size = COPIED if gpu < 0 else 4 * COPIED
    x = Value((size // 4,), "float32")
    y = x.like()
    graph = Graph("copy", [x], [Node("copy", [x], [y])], [y], gpu=gpu)
    (ns,) = lower(graph).time_steps(zeros_for(graph, 1))
    return 2 * size / ns


def compiled_anew(cached: Any, args: Sequence[Any], training: bool) -> tuple[Snapshots, Compiled, list[ndarray]]:
    """What passes leave behind when a CachedGraph is compiled, the compiled form, and the arrays in ``args``."""
    leaves: list[ndarray] = []
    tree = flatten(tuple(args), leaves)
    with watched() as seen, record() if training else predict_mode():
        compiled = cached.compiled(leaves, tree, training)
    return seen, compiled, leaves


def programs(c: Compiled, leaves: list[ndarray]) -> list[tuple[str, Any, list[ndarray]]]:
    """The programs of a compiled function with arrays to run them on: (half, program, inputs)."""
    arrays = [*leaves, *c.traced.captures]
    written = {v for v, _ in c.forward.writes}
    out, given = [], arrays
    if c.prepared is not None:
        prepare = lower(c.prepared.prepare)
        sources = [arrays[i] for i in c.prepared.sources]
        out.append(("prepare", prepare, sources))
        given = [*(arrays[i] for i in c.prepared.inputs), *prepare.run(sources, False)]
    given = [f.copy(a) if v in written else a for v, a in zip(c.forward.inputs, given, strict=True)]
    forward = lower(c.forward)
    out.append(("forward", forward, given))
    if c.backward is not None:
        made = forward.run(given, False)
        heads = [f.ones_like(made[i]) for i in c.heads]
        out.append(("backward", lower(c.backward), [*(given[i] for i in c.kept), *made[c.outputs :], *heads]))
    return out


def report_of(seen: Snapshots) -> FusionReport:
    """The report of what was compiled while somebody watched."""
    traced = next(g for name, g in seen if name == "dead_code")
    halves = {name.split(":")[0]: g for name, g in seen if ":" in name}
    whole = [g for name, g in seen if ":" not in name][-1]
    kinds = ", ".join(dict.fromkeys(v.type() for v in traced.inputs[:1]))
    made = [half_of(name, g) for name, g in halves.items()]
    return FusionReport(f"{traced.name} of {kinds}", alone(traced), ideal_of(whole), made)


def ideal_of(g: Graph) -> int:
    """Bytes of the inputs that a graph reads, and of what it gives and writes, each once."""
    used = {v for n in g.nodes for v in n.values}
    return sum(map(value_bytes, [v for v in g.inputs if v in used] + list(dict.fromkeys(g.results()))))


def alone(g: Graph) -> tuple[int, int]:
    """(kernels, bytes) where every node runs on its own; views are free."""
    nodes = [n for n in g.nodes if n.form != "view"]
    moved = [v for n in nodes for v in (*{*n.values, *n.outputs}, *read_again(n))]
    return len(nodes), sum(map(value_bytes, moved))


def half_of(name: str, g: Graph) -> Half:
    """One graph after its passes."""
    listing = Listing(g.verify())
    listing.run()
    kernels = [kernel_of(name, s, listing) for s in listing.steps]
    return Half(name, g, kernels, apart(g), ideal_of(g))


class Listing(Lowering):
    """A lowering that ends with the steps: nothing is compiled for a GPU, nor need there be one."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.copied: dict[int, Value] = {}  # by id of the step

    def copy(self, source: Value, target: Value) -> None:
        super().copy(source, target)
        self.copied[id(self.steps[-1])] = target

    def finish(self, outs: list[Value]) -> None:
        """In place of a Program nothing."""
        if self.graph.gpu >= 0:
            from .together import together

            self.steps = together(self.steps)

    def looks(self, v: Value) -> int:
        """Bytes of memory that a value shows: an axis along which it is broadcast counts once."""
        if v.layout or v not in self.places:
            return value_bytes(v)
        strides = self.places[v].strides
        return math.prod(d for d, s in zip(v.shape, strides, strict=True) if s) * BY_NAME[v.dtype].size


def kernel_of(half: str, s: Step, listing: Listing) -> Kernel:
    """The row of one step."""
    site = s.nodes[0].site if s.nodes else ""
    if id(s) in listing.copied:
        v = listing.copied[id(s)]
        size = value_bytes(v)
        return Kernel(half, "copy", "copy", ["copy"], v.type(), size, size, 2 * size, site=site)
    n = s.nodes[0]
    least = sum(listing.looks(v) for each in s.nodes for v in dict.fromkeys(each.values))
    read = least + sum(again(each, listing) for each in s.nodes)
    written = sum(value_bytes(v) for each in s.nodes for v in each.outputs)
    members = [m.op for m in n.body.nodes] if n.body is not None else [n.op]
    output = n.outputs[0].type() + (f" x {len(s.nodes)}" if len(s.nodes) > 1 else "")
    kernel = Kernel(half, n.op, n.form, members, output, read, written, least + written, site=site)
    launches = launches_of(s.kernel)
    if launches is not None:
        kernel.launches = max(len(launches), 1)
        kernel.name = launches[0].code.name if launches else kernel.name
        kernel.write = lambda: "\n".join(dict.fromkeys(x.code.text for x in launches))
    elif n.body is not None:
        group = functools.cache(lambda: group_of_node(n, listing))
        kernel.name, kernel.write = rtc.text.kernel_name(group()), lambda: rtc.emit_host.source([group()])
    return kernel


def again(n: Node, listing: Listing) -> int:
    """Bytes that a kernel reads a second time."""
    if n.body is None:
        return sum(map(listing.looks, read_again(n)))
    seen = [o.slot for o in group_of_node(n, listing).inputs]
    return sum(listing.looks(n.values[slot]) * (seen.count(slot) - 1) for slot in set(seen))


def read_again(n: Node) -> list[Value]:
    """Operands that a kernel which is not fused reads a second time."""
    if n.op in NORMS:
        return n.values[:1]
    return [v for v in n.values if v.shape == n.values[0].shape] if n.op in NORM_GRADIENTS else []


def group_of_node(n: Node, listing: Listing) -> Any:
    """What the kernel of a fused node is written from."""
    specs = [rtc.kernel.flat(listing.spec(v)) for v in n.values]
    return rtc.kernel.described(n.attrs.get("form", ""), rtc.kernel.Body(n.body, specs))


def launches_of(kernel: Any) -> Any:
    """The launches of a kernel of a GPU that is written here; None for other kernels."""
    from ..rtc.cuda.kernel import Pending

    return kernel.write().launches if isinstance(kernel, Pending) else None


__all__ = ["FusionReport", "Half", "Kernel", "fusion_report", "report_of", "step_report"]
