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
from ..errors import GraphError
from ..ndarray import _core, ndarray
from .compile import Compiled, compile_function
from .ir import Graph, Value
from .lower import lower, value_bytes
from .memory import Tray, tray_of
from .passes.cleanup import call
from .prepare import Prepared, Store
from .trace import Traced, flatten, unflatten, zeros_for

MAX_SIGNATURES = 32


class Entry:
    """The programs of one signature, the arrays they captured, and what is kept that was computed from those.

    arguments: how the arrays of a call are nested in its arguments.
    """

    def __init__(self, compiled: Compiled, arguments: Any, store: Store, static_alloc: bool, static_shape: bool):
        self.compiled, self.arguments, self.static = compiled, arguments, (static_alloc, static_shape)
        self.captures = compiled.traced.captures
        self.prepared: Prepared | None = None
        if (parts := compiled.prepared) is not None:
            given = compiled.traced.arguments
            self.prepared = store.prepared(parts.prepare, [self.captures[i - given] for i in parts.sources])
            self.captures = [self.captures[i - given] for i in parts.inputs if i >= given]
        self.tree = compiled.traced.tree
        self.forward, self.last_backward, self.tray = lowered(compiled)
        self.adding: dict[tuple[bool, tuple[int, ...]], Any] = {}  # backward programs that add to gradients
        self.call = _core.CompiledCall(
            compiled.forward.name, self.forward, self.captures, self.prepared, compiled.outputs, *self.static
        )
        if self.last_backward is not None:
            wanted = [i for i, g in enumerate(compiled.gradients) if g is not None]
            self.call.set_gradient(compiled.kept, wanted, compiled.heads)

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

    def run(self, args: Sequence[ndarray]) -> Any:
        """Runs forward; puts a node on the tape if there is a backward."""
        return unflatten(self.tree, self.call.run(self, args))

    def recorded_gradient(self, ins: list[ndarray], heads: list[ndarray], stream: tuple[int, int]) -> list[ndarray]:
        """The gradients of the inputs that want one, on the tape themselves.

        ``stream`` is where the random numbers of the forward run began.
        """
        return interpret(self.compiled.joint, [*ins, *heads], stream)[self.compiled.outputs :]


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
        leaves: Sequence[ndarray] = args
        key = _core.call_key(args)
        if key is None:  # not arrays alone
            leaves = []
            tree = flatten(args, leaves)
            key = (repr(tree), _core.call_key(leaves))
        entry = self.entries.get(key)
        if entry is None:
            entry = self.entries[key] = self.entry(args)
            if len(self.entries) > MAX_SIGNATURES:
                self.entries.popitem(last=False)
        else:
            self.entries.move_to_end(key)
        return entry.run(leaves)

    def last(self) -> tuple[Sequence[Any], bool] | None:
        """Arguments like those of the last call, zeros, and whether it recorded; None before any."""
        if not self.entries:
            return None
        entry = next(reversed(self.entries.values()))
        zeros = zeros_for(entry.compiled.traced.graph, entry.compiled.traced.arguments)
        return unflatten(entry.arguments, zeros), entry.compiled.backward is not None

    def entry(self, args: Sequence[Any]) -> Entry:
        """The programs for arguments like ``args``."""
        leaves: list[ndarray] = []
        tree = flatten(args, leaves)
        compiled = self.compiled(leaves, tree, _core.is_recording())
        return Entry(compiled, tree, self.store, self.static_alloc, self.static_shape)

    def compiled(self, leaves: Sequence[ndarray], tree: Any, recording: bool) -> Compiled:
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
