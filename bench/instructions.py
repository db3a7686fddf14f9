"""The budget of the hot path: instructions by stage and allocations of typical calls, exact and free of noise.

    python bench/instructions.py                                  # the table
    python bench/instructions.py --functions "a + b"              # where the instructions of one case are
    python bench/instructions.py --write tests/instructions.json  # what tests/test_instructions.py compares with
    python bench/instructions.py --times                          # the same calls in nanoseconds, which noise is in

How it counts is in `stepping.py`, what it found in docs/engine.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stepping
from stepping import Call, Symbols

# A function that a pattern fits begins the stage, and what it calls belongs to it up to the next that one fits; the
# first that fits counts. All of the interpreter is "Python", and below a kernel everything is the kernel.
STAGES = {
    "kernel": r"::run\(void\* const\*, void\*\) const$",
    "engine": r"^minimx::(launch|engine)\b|push_queued",
    "plan": r"^minimx::(plan_for|Op::find|Signature::|bind::intern_attributes)",
    "output": r"^minimx::(Storage::allocate|Array::empty|Array::over)",
    "tape": r"^minimx::(record|backward|GradProgram|TapeNode|\(anonymous namespace\)::Walk)",
    "free": r"bind::\(anonymous namespace\)::dealloc|^minimx::Storage::~",
    "wrap": r"^minimx::bind::wrap\b",
    "arguments": r"^minimx::bind::|^pybind11::",
    "list": r"^minimx::(Deferred|KnownList|KnownLists|Repeats|CallList)::",
    "invoke": r"^minimx::(invoke|copy_into|Program::|\(anonymous namespace\)::(Run|run_plan))",
}
ORDER = ["Python", "arguments", "plan", "output", "invoke", "list", "engine", "kernel", "tape", "wrap", "free"]


def nothing() -> None:
    """What is taken off every count: the call of a Python function."""


Cases = Iterator[tuple[str, Callable[[], object], Callable[[], object]]]


def cases() -> Cases:
    """Name and call of each row, made when its turn comes, and what to do before each call without counting it."""
    yield "nothing", nothing, nothing
    yield from operators()
    yield from layers()


def operators() -> Cases:
    """Rows of single operators, and of some on the tape."""
    import minimx as mx
    from minimx import autograd, npx
    from minimx.graph import bulk
    from minimx.ndarray import _core

    a, b = mx.np.ones((10,)), mx.np.ones((10,))
    yield "a + b", lambda: a + b, nothing
    yield "a + 1", lambda: a + 1, nothing
    yield "a[2:8]", lambda: a[2:8], nothing
    yield "np.sum(a, axis=0)", lambda: mx.np.sum(a, axis=0), nothing
    few = mx.np.array([1, 3, 5], dtype="int64")
    yield "a[few]", lambda: a[few], nothing
    yield "a.asnumpy()", lambda: a.asnumpy(), nothing
    yield "np.array([1.5, 2.5])", lambda: mx.np.array([1.5, 2.5]), nothing

    x, w = mx.np.ones((10,)), mx.np.ones((10,))
    x.attach_grad(), w.attach_grad()

    def relu() -> None:
        with autograd.record():
            npx.relu(x)

    def chain() -> None:
        with autograd.record():
            y = npx.relu(x * w + 1).sum()
        y.backward()

    yield "relu(x), recorded", relu, nothing
    yield "relu(x * w + 1).sum(), backward", chain, nothing

    def begin_list() -> None:
        _core.run_deferred()
        _ = a + b

    with mx.engine.bulk(64):
        yield "a + b, put off", lambda: a + b, begin_list

    def replayed() -> None:
        chain()
        x.grad.wait_to_read()

    with mx.engine.replay():
        for _ in range(20):
            replayed()
        bulk.wait(), mx.rtc.wait()
        yield "relu(x * w + 1).sum(), replayed", replayed, nothing


def layers() -> Cases:
    """Rows of Gluon: layers, hybridized ones, an update."""
    import minimx as mx
    from minimx import autograd, gluon
    from minimx.gluon import nn

    rows = mx.np.ones((2, 8))
    dense = nn.Dense(4, in_units=8, activation="relu")
    dense.initialize()
    yield "Dense(4, relu)", lambda: dense(rows), nothing
    small = nn.HybridSequential()
    small.add(nn.Dense(8, in_units=8, activation="relu"), nn.Dense(4, in_units=8))
    small.initialize()
    small.hybridize(static_alloc=True, static_shape=True)
    small(rows), mx.rtc.wait()
    yield "2 x Dense, hybridized", lambda: small(rows), nothing

    def step() -> None:
        with autograd.record():
            y = small(rows)
        y.backward()

    yield "2 x Dense, hybridized, backward", step, nothing

    many = nn.HybridSequential()
    many.add(*(nn.Dense(4, in_units=4) for _ in range(5)))
    many.initialize()
    trainer = gluon.Trainer(many.collect_params(), "sgd", {"learning_rate": 0.0, "momentum": 0.9})
    four = mx.np.ones((2, 4))

    def gradients() -> None:
        with autograd.record():
            loss = many(four).sum()
        loss.backward()

    gradients(), trainer.step(2), mx.rtc.wait()
    yield "trainer.step, 10 parameters", lambda: trainer.step(2), gradients


def _child(names: list[str]) -> None:
    import minimx as mx

    mx.engine.set_num_threads(1)
    sys.setswitchinterval(1e6)  # other threads get the lock where this one waits, and nowhere else
    gc.disable()
    stepping.offer()
    for name, case, before in cases():
        if name in names:
            stepping.marked(case, before)
    sys.stdout.flush()
    os._exit(0)


@dataclass
class Count:
    """What a case took. ``own``: of the stages, minimx's own instructions, kernels left out; ``heap``: its calls of
    malloc.
    """

    stages: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    heap: int = 0

    @property
    def total(self) -> int:
        return sum(self.stages.values())

    def less(self, other: Count) -> Count:
        """This without what ``other`` took as well."""
        counters = []
        for mine, others in ((getattr(self, k), getattr(other, k)) for k in ("stages", "functions", "own")):
            counters.append(Counter(mine))
            counters[-1].subtract(others)
        return Count(*counters, self.heap - other.heap)


def _is_python(call: Call) -> bool:
    return call.symbol.file.startswith(("libpython", "python"))


def _stage(call: Call, known: dict[int, str]) -> str:
    if id(call) not in known:
        above = _stage(call.caller, known) if call.caller else "Python"
        if above == "kernel":
            stage = above
        elif _is_python(call):
            stage = "Python"
        else:
            fits = (s for s, pattern in STAGES.items() if re.search(pattern, call.symbol.name))
            stage = next(fits, above) if call.symbol.file == "_core" else above
        known[id(call)] = stage
    return known[id(call)]


def _asks_heap(call: Call) -> bool:
    """Whether minimx asks for memory here, itself or through the C++ library."""
    if not re.match(r"(malloc|aligned_alloc|calloc|realloc)\b", call.symbol.name):
        return False
    caller = call.caller
    while caller and not caller.symbol.file.startswith(("_core", "libpython", "python")):
        caller = caller.caller
    return caller is not None and caller.symbol.file == "_core"


def counted(found: list[Call]) -> Count:
    """Counts steps, given the call that each belongs to."""
    count, known = Count(), {}
    seen, asker = set(), None
    for call in found:
        stage = _stage(call, known)
        count.stages[stage] += 1
        count.functions[f"{stage:10} {call.symbol.file}: {call.symbol.name}"] += 1
        count.own[stage] += call.symbol.file == "_core" and stage != "kernel"
        if id(call) not in seen:
            seen.add(id(call))
            if _asks_heap(call):
                count.heap += call.caller is not asker  # malloc may jump back to its own beginning
                asker = call.caller
    return count


def measure(names: list[str] | None = None) -> dict[str, Count]:
    """What each case takes, or those of ``names``. Raises RuntimeError where stepping is not allowed."""
    names = ["nothing", *(names or [name for name, _, _ in cases() if name != "nothing"])]
    environment = dict(os.environ, PYTHONHASHSEED="0")
    counts = {}
    with stepping.Child([sys.executable, __file__, "--child", *names], environment) as child:
        for name, steps in zip(names, child.regions(), strict=True):
            counts[name] = counted(stepping.calls(steps, Symbols(child.pid)))
    call = counts.pop("nothing")
    return {name: count.less(call) for name, count in counts.items()}


def machine() -> dict[str, str]:
    """What the counts depend on: compiler, processor (-march=native) and Python."""
    import minimx._core as core

    comment = subprocess.run(["readelf", "-p", ".comment", core.__file__], capture_output=True, text=True).stdout
    compiler = re.search(r"(GCC|clang).*?(\d+)\.\d+", comment)
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return {
        "compiler": " ".join(compiler.groups()) if compiler else "?",
        "processor": "avx512" if "avx512f" in flags else "avx2",
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def table(counts: dict[str, Count]) -> str:
    """Markdown: a line for each case, a column for each stage."""
    stages = [s for s in ORDER if any(c.stages[s] for c in counts.values())]
    lines = ["| instructions | " + " | ".join(["all", *stages, "malloc"]) + " |", "|---" * (len(stages) + 3) + "|"]
    for name, count in counts.items():
        cells = [f"{count.total:,}", *(f"{count.stages[s]:,}" for s in stages), str(count.heap)]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kept(count: Count) -> dict[str, Any]:
    """What the test compares: minimx's own instructions by stage, and its allocations."""
    return {"own": {s: count.own[s] for s in ORDER if count.own[s]}, "heap": count.heap}


def times(repeats: int = 400) -> dict[str, int]:
    """Nanoseconds of each case: the middle one of many single calls, less that of a call of nothing."""
    found = {}
    for name, case, before in cases():
        spans = []
        for _ in range(60 + repeats):
            before()
            begin = time.perf_counter_ns()
            case()
            spans.append(time.perf_counter_ns() - begin)
        found[name] = round(statistics.median(spans[60:]))
    call = found.pop("nothing")
    return {name: took - call for name, took in found.items()}


def as_json(counts: dict[str, Count]) -> str:
    """The table that the test compares with."""
    return json.dumps({"machine": machine(), "cases": {n: kept(c) for n, c in counts.items()}}, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", metavar="CASE", help="list the functions of this case")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the counts as JSON")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--times", action="store_true", help="nanoseconds instead")
    args = parser.parse_args()
    if args.child:
        return _child(args.child)
    if args.times:
        print(*(f"{took:9,} ns  {name}" for name, took in times().items()), sep="\n")
        return print("load of the machine:", *os.getloadavg())
    counts = measure()
    print(table(counts))
    if args.functions:
        print(*(f"{n:7,} {what[:150]}" for what, n in counts[args.functions].functions.most_common(70)), sep="\n")
    if args.write:
        args.write.write_text(as_json(counts), encoding="utf-8")


if __name__ == "__main__":
    main()
