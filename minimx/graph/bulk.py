"""Bulks: a list of operator calls that the runtime has put off becomes one Program, compiled in the background.

The calls come from csrc/runtime/deferred.h, which says when they are put off, and goes on running equal lists one by
one until their Program is there. Here they become a Graph, of values instead of memory that is written to, get the
passes that a hybridized step gets (step.py), and are lowered. Essay: docs/engine.md, "Bulk fusion".
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import rtc
from ..errors import GraphError
from ..ndarray import _core
from ..ops.arguments import number_spec
from ..ops.table import OPS
from .compile import cleaned, finished
from .ir import Graph, Node, Value, spec_of
from .lower import RESHAPES, lower
from .watch import noted

__all__ = ["Call", "graph_of", "program_of", "submit", "wait"]

NAMED = 12  # rows that a warning names
GRACE = 2.0  # seconds that the end of a process waits for a pass to end


class Call(NamedTuple):
    """One operator call. args: ids of values, None, ("number", x), or where x is another from run to run ("number", x,
    id): the value ``id`` is it in the type that kernels take. outs: new ids. into: ids of values whose memory the
    results are written to; the new ids then stand for that memory. site: the user's line.
    """

    op: str
    attrs: dict[str, Any]
    args: Sequence[Any]
    outs: Sequence[int]
    into: Sequence[int] | None = None
    site: str = ""


def varies(x: Any) -> bool:
    """Is an argument of a call a number that is another from run to run?"""
    return isinstance(x, tuple) and len(x) == 3


@dataclass(eq=False)
class Memory:
    """Memory that values lie in: what it holds now, in the shape and type of the value that it was made for."""

    holds: Value
    writes: int = 0  # so far


@dataclass
class Look:
    """What an id stands for: a memory, or with ``node`` what that view shows of the id ``source``.

    value: the array as of ``seen`` writes to the memory.
    """

    memory: Memory
    value: Value
    seen: int = 0
    source: int = -1
    node: Node | None = None


@dataclass
class Replay:
    """The calls so far as nodes of a graph, in which nothing is written to."""

    looks: dict[int, Look] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def read(self, number: int) -> Value:
        """The value that an id has now: a view of memory that was written to since is made anew."""
        look = self.looks[number]
        if look.seen != look.memory.writes:
            if look.node is None:
                look.value = look.memory.holds
            else:
                view = look.node
                look.value = self.add(view.op, [self.read(look.source), *view.inputs[1:]], view.attrs, view.site)[0]
            look.seen = look.memory.writes
        return look.value

    def add(self, op: str, inputs: list[Any], attrs: dict[str, Any], site: str) -> list[Value]:
        """Appends a node, with casts where its plan asks for another type; returns its outputs."""
        plan = OPS[op].plan([spec_of(x) for x in inputs], attrs)
        casts = [*plan.casts, *[""] * len(inputs)]
        for i, (x, dtype) in enumerate(zip(inputs, casts, strict=False)):
            if isinstance(x, Value) and dtype:
                inputs[i] = self.cast(x, dtype, site)
        outs = [Value(tuple(shape), dtype) for shape, dtype in plan.outs]
        self.nodes.append(Node(op, inputs, outs, dict(attrs), site))
        return outs

    def add_varying(self, c: Call) -> list[Value]:
        """Appends the node of a call with numbers that vary: computed in their type, of the types that numbers give."""
        inputs: list[Any] = [self.argument(x) for x in c.args]
        specs = [number_spec(x[1]) if isinstance(x, tuple) else spec_of(v) for x, v in zip(c.args, inputs, strict=True)]
        asked = [(tuple(shape), dtype) for shape, dtype in OPS[c.op].plan(specs, c.attrs).outs]
        own = OPS[c.op].plan([spec_of(v) for v in inputs], c.attrs).outs
        if [(tuple(shape), dtype) for shape, dtype in own] == asked:
            return self.add(c.op, inputs, c.attrs, c.site)
        number = next(v for x, v in zip(c.args, inputs, strict=True) if varies(x))
        same = [self.cast(v, number.dtype, c.site) if isinstance(v, Value) else v for v in inputs]
        outs = self.add(c.op, same, c.attrs, c.site)
        return [self.cast(v, dtype, c.site) for v, (_, dtype) in zip(outs, asked, strict=True)]

    def cast(self, v: Value, dtype: str, site: str) -> Value:
        """The value in a type."""
        return v if v.dtype == dtype else self.add("cast", [v], {"dtype": dtype}, site)[0]

    def argument(self, x: Any) -> Any:
        """What an argument of a call is now."""
        if isinstance(x, tuple):
            return self.read(x[2]) if varies(x) else x[1]
        return x if x is None else self.read(x)

    def call(self, c: Call) -> None:
        """Appends a call."""
        if any(varies(x) for x in c.args):
            outs = self.add_varying(c)
        else:
            outs = self.add(c.op, [self.argument(x) for x in c.args], c.attrs, c.site)
        node = self.nodes[-1]
        for i, (number, made) in enumerate(zip(c.outs, outs, strict=True)):
            if c.into is not None:
                self.write(number, c.into[i], made, c.site)
            elif node.is_view:
                memory = self.looks[c.args[0]].memory
                self.looks[number] = Look(memory, made, memory.writes, c.args[0], node)
            else:
                self.looks[number] = Look(Memory(made), made)

    def write(self, number: int, target: int, made: Value, site: str) -> None:
        """``made`` becomes what ``target`` shows; ``number`` is ``target`` from now on."""
        look = self.looks[target]
        memory = look.memory
        whole = made = self.cast(made, look.value.dtype, site)
        while look.node is not None:
            if look.node.op not in RESHAPES:
                way_out = "Run such lists one by one"
                raise GraphError("bulk", "writes to all of an array's memory", f"one through {look.node.op}", way_out)
            look = self.looks[look.source]
        if whole.shape != memory.holds.shape:
            whole = self.add("reshape", [whole], {"shape": memory.holds.shape}, site)[0]
        memory.holds, memory.writes = whole, memory.writes + 1
        now = self.looks[target]
        now.value, now.seen = made, memory.writes
        self.looks[number] = now


def graph_of(
    externals: Sequence[tuple], calls: Sequence[Sequence], live: Sequence[int], gpu: int = -1, name: str = "bulk"
) -> Graph:
    """The graph of a list of calls, before any pass.

    externals: (shape, dtype) of arrays that exist, with the ids 0, 1, ...; its inputs, which it writes back where calls
    wrote to them. Two of them may overlap only if no call writes to either. calls: see Call. live: its outputs, ids
    that each stand for the memory they lie in, as it is at the end. gpu: number of the GPU, -1 for the CPU.

    Raises GraphError where a call writes to a part of memory that a view shows.
    """
    inputs = [Value(tuple(shape), dtype) for shape, dtype in externals]
    given = [Memory(v) for v in inputs]
    replay = Replay({i: Look(m, m.holds) for i, m in enumerate(given)})
    for c in calls:
        replay.call(Call(*c))
    outputs = [replay.looks[i].memory.holds for i in live]
    writes = [(v, m.holds) for v, m in zip(inputs, given, strict=True) if m.writes]
    return Graph(name, inputs, replay.nodes, outputs, writes, gpu=gpu).verify()


def program_of(externals: Sequence[tuple], calls: Sequence[Sequence], live: Sequence[int], gpu: int = -1) -> Any:
    """The ``_core.Program`` of a list of calls: ``graph_of`` after the passes. A list of pointwise calls alone gives
    the bits that they give one by one; others agree within rounding, with the same bits every run.
    """
    g = noted("traced", graph_of(externals, calls, live, gpu))
    return lower(finished(cleaned(g), "bulk"))


# ---- in the background ----------------------------------------------------------------------------------------------


class Compiler:
    """The thread that compiles lists, one after the other, and ends when there is none for a while.

    invariant: the fields change under ``changed`` only.
    """

    def __init__(self) -> None:
        self.closing = False
        self.reset()

    def reset(self) -> None:
        """For a new process: a forked child has no thread, and what was asked for was its parent's."""
        self.changed = threading.Condition()
        self.jobs: deque[tuple] = deque()
        self.busy = False
        self.thread: threading.Thread | None = None

    def submit(self, job: tuple) -> None:
        """Asks for a job, the arguments of ``submit``."""
        with self.changed:
            self.jobs.append(job)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="minimx-bulk", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def work(self) -> None:
        """The thread."""
        _core.set_bulk_size(0)
        while True:
            with self.changed:
                self.busy = False
                self.changed.notify_all()
                if not self.changed.wait_for(lambda: self.jobs or self.closing, 10) or self.closing:
                    self.thread = None
                    return
                job = self.jobs.popleft()
                self.busy = True
            self.compile(*job)

    def compile(self, externals: Sequence, calls: Sequence, live: Sequence[int], gpu: int, done: Callable) -> None:
        """Makes one program and hands it over, or None where that fails."""
        program = None
        try:
            program = program_of(externals, calls, live, gpu)
            rtc.wait()
        except Exception as error:  # this thread has nobody to raise to
            if not self.closing:
                warn(calls, error)
        done(program)

    def wait(self, timeout: float | None) -> bool:
        """Waits until nothing is left to compile."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.jobs and not self.busy, timeout)

    def close(self) -> None:
        """At exit: no job is begun any more, and one that ends soon is waited for."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()
            thread = self.thread
        if thread is not None:
            thread.join(GRACE)


def warn(calls: Sequence[Sequence], error: Exception) -> None:
    """Says that a list stays as it is."""
    rows = list(dict.fromkeys(c[0] for c in calls))
    named = ", ".join(rows[:NAMED]) + (f" and {len(rows) - NAMED} more rows" if len(rows) > NAMED else "")
    text = f"bulk: expected one program of {named}, got {type(error).__name__}: {error} They run one by one."
    with contextlib.suppress(Warning):  # where warnings are errors
        warnings.warn(text, RuntimeWarning, stacklevel=2)


_compiler = Compiler()
atexit.register(_compiler.close)
os.register_at_fork(after_in_child=_compiler.reset)


def submit(
    externals: Sequence[tuple], calls: Sequence[Sequence], live: Sequence[int], gpu: int, done: Callable[[Any], None]
) -> None:
    """Has ``program_of`` the arguments computed by a thread, which calls ``done`` with the program; with None if there
    is none, after a warning that names the rows.
    """
    _compiler.submit((externals, calls, live, gpu, done))


def wait(timeout: float | None = None) -> bool:
    """Waits until all lists are compiled; False if ``timeout`` seconds did not do. Their kernels may still be on their
    way: see ``rtc.wait``.
    """
    return _compiler.wait(timeout)
