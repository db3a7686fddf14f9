"""CachedGraph: what a hybridized block calls instead of its Python code. One compiled graph per input signature.

Signatures are shapes, types, train mode and which arguments need gradients. The least recently used are dropped beyond
``MAX_SIGNATURES``. A call that records puts one node on the tape; its gradient is the compiled backward graph.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..device import current_device
from ..errors import AutogradError, GraphError
from ..ndarray import _core, ndarray
from ..ops.table import f
from .compile import Compiled, compile_function
from .ir import Graph, Value
from .lower import lower, value_bytes
from .memory import Tray, tray_of
from .passes.cleanup import call
from .prepare import Prepared, Store
from .trace import Traced, flatten, unflatten

MAX_SIGNATURES = 32


class Entry:
    """The programs of one signature, the arrays they captured, and what is kept that was computed from those."""

    def __init__(self, compiled: Compiled, store: Store, static_alloc: bool, static_shape: bool):
        self.compiled, self.static = compiled, (static_alloc, static_shape)
        self.captures = compiled.traced.captures
        self.prepared: Prepared | None = None
        if (parts := compiled.prepared) is not None:
            given = compiled.traced.arguments
            self.prepared = store.prepared(parts.prepare, [self.captures[i - given] for i in parts.sources])
            self.captures = [self.captures[i - given] for i in parts.inputs if i >= given]
        self.tree = compiled.traced.tree
        self.forward, self.last_backward, self.tray = lowered(compiled)
        self.adding: dict[tuple[bool, tuple[int, ...]], Any] = {}  # backward programs that add to gradients
        self.wanted = [i for i, g in enumerate(compiled.gradients) if g is not None]

    @functools.cached_property
    def backward(self) -> Any:
        """The backward program that leaves what was saved as it is, for a graph that is retained; None without one."""
        return lower(self.compiled.backward) if self.compiled.backward is not None else None

    def backward_into(self, last: bool, places: tuple[int, ...]) -> Any:
        """The backward program, using up what was saved or not, that adds the gradients at these places in place."""
        if not places:
            return self.last_backward if last else self.backward
        if (last, places) not in self.adding:
            self.adding[last, places] = lower(self.compiled.adding(places), self.tray if last else None)
        return self.adding[last, places]

    def run(self, args: list[ndarray]) -> Any:
        """Runs forward; puts a node on the tape if there is a backward."""
        ins = args + self.captures if self.prepared is None else args + self.captures + self.prepared()
        stream = _core.random_state()
        made = self.forward.run(ins, *self.static, self.compiled.outputs)
        outs = made[: self.compiled.outputs]
        if self.last_backward is not None:
            self.record(ins, outs, made[self.compiled.outputs :], stream)
        return unflatten(self.tree, outs)

    def record(self, ins: list[ndarray], outs: list[ndarray], saved: list[ndarray], stream: tuple[int, int]) -> None:
        """One node on the tape for the whole graph; ``stream`` is where the random numbers of this run began."""
        c = self.compiled
        kept = [(ins[i], _core.version(ins[i])) for i in c.kept]
        plain = [_core.detach(o) for o in outs]
        places = [g for g in c.gradients if g is not None]
        used = False

        def backward(gs: list, targets: list) -> list:
            for x, version in kept:
                if _core.version(x) != version:
                    raise AutogradError(
                        "backward",
                        f"the arrays that {c.forward.name} read as they were",
                        f"one of shape {x.shape} written to in place since",
                        "Write to a copy instead",
                    )
            nonlocal used
            if used:  # an error came between, or the tape would have said so
                raise AutogradError(
                    "backward", "saved arrays that are still there", "used up ones", "Run forward again"
                )
            heads = [f.zeros_like(plain[i]) if g is None else g for i, g in enumerate(gs)]
            if _core.is_recording():
                grads = interpret(c.joint, [*ins, *heads], stream)[c.outputs :]
                return [grads[place] for place in places]
            into = {place: t for place, t in zip(places, targets, strict=False) if fits(t, ins[self.wanted[place]])}
            used = _core.backward_frees()
            given = [x for x, _ in kept] + saved + [heads[i] for i in c.heads]
            made = iter(self.backward_into(used, tuple(into)).run([*given, *into.values()], *self.static))
            return [None if place in into else next(made) for place in places]

        _core.record_python(c.forward.name, backward, [ins[i] for i in self.wanted], outs, True)


def fits(target: ndarray | None, x: ndarray) -> bool:
    """Whether the gradient of x can be added to the target in place: there is one, of the same type."""
    return target is not None and target.shape == x.shape and target.dtype == x.dtype


def lowered(c: Compiled) -> tuple[Any, Any, Tray | None]:
    """The forward program, the backward program that uses up what forward saved, and where that lies, if there are."""
    if c.backward is None:
        return lower(c.forward), None, None
    saved = c.forward.outputs[c.outputs :]
    if not saved:
        return lower(c.forward), lower(c.backward), None
    position = {v: i for i, n in enumerate(c.forward.nodes) for v in n.outputs}
    order = sorted(range(len(saved)), key=lambda i: position.get(saved[i], -1))
    place = tray_of([value_bytes(v) for v in saved], order)
    tray = Tray(False, len(c.kept), *place)
    return lower(c.forward, Tray(True, c.outputs, *place)), lower(c.backward, tray), tray


def interpret(g: Graph, inputs: Sequence[ndarray], stream: tuple[int, int]) -> list[ndarray]:
    """Runs a graph operator by operator on arrays, recording if recording is on: the plain twin of its Program.

    Random operators draw what they drew in the run that began at ``stream``.
    """
    env: dict[Value, ndarray] = dict(zip(g.inputs, inputs, strict=True))
    home = inputs[0].device if inputs else current_device()
    env |= {v: a.to_device(home) for v, a in g.constants.items()}
    now = _core.random_state()
    _core.set_random_state(*stream)
    try:
        with home:
            for n in g.nodes:
                args = [env[x] if isinstance(x, Value) else x for x in n.inputs]
                made = call(n.op, args, n.attrs, _core.is_recording())
                env.update(zip(n.outputs, made if isinstance(made, tuple) else (made,), strict=True))
    finally:
        _core.set_random_state(*now)
    return [env[v] for v in g.outputs]


class CachedGraph:
    """Compiled forms of a block by signature."""

    def __init__(self, block: Any, static_alloc: bool = False, static_shape: bool = False):
        self.block, self.static_alloc, self.static_shape = block, static_alloc, static_shape
        self.entries: OrderedDict[Any, Entry] = OrderedDict()
        self.store = Store()

    def __call__(self, *args: Any) -> Any:
        leaves: list[ndarray] = []
        tree = flatten(args, leaves)
        recording = _core.is_recording()
        key = (
            repr(tree),
            tuple((x.shape, x.dtype, x.device) for x in leaves),
            _core.is_training(),
            tuple(_core.on_tape(x) for x in leaves) if recording else None,
            _core.num_threads(),  # kernels keep the number they were made for
            _core.precision_key(),  # mixed precision
        )
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = Entry(
                self.compiled(leaves, tree, recording), self.store, self.static_alloc, self.static_shape
            )
            if len(self.entries) > MAX_SIGNATURES:
                self.entries.popitem(last=False)
        else:
            self.entries.move_to_end(key)
        return entry.run(leaves)

    def compiled(self, leaves: list[ndarray], tree: Any, recording: bool) -> Compiled:
        """Traces the block for arrays like ``leaves``."""

        def function(*arrays: ndarray) -> Any:
            return self.block._call_eager(*unflatten(tree, arrays))

        def wanted(t: Traced) -> list[bool]:
            return [_core.on_tape(x) and str(x.dtype).startswith(("float", "bfloat")) for x in [*leaves, *t.captures]]

        if _core.is_tracing():
            raise GraphError(
                type(self.block).__name__, "no tracing inside a trace", "a nested one", "Call the block directly"
            )
        name = type(self.block).__name__
        return compile_function(
            name, function, leaves, _core.is_training(), wanted if recording else None, not recording
        )

    def graph(self, *args: Any) -> Graph:
        """The optimised forward graph for arguments like ``args``."""
        leaves: list[ndarray] = []
        tree = flatten(args, leaves)
        return self.compiled(leaves, tree, False).forward
