"""Every kernel of minimx/rtc/cuda under NVIDIA's compute-sanitizer: ``python tests/gpu/sanitize.py --tool memcheck``.

Each factory runs a few calls of tests/rtc/recipe_cases.py and pass_cases.py, of several types and layouts, with
operands in allocations of exactly their size, made for them by CuPy past all caches, so that memcheck sees a byte too
far. Then fused groups run, and small nets train three steps, for updates of many parameters at once. There are no
convolutions and matrix products: the tool would take minutes to instrument NVIDIA's libraries.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests, for recipe_cases; minimx itself is installed

from rtc.emulator import empty, numpy_type, spec_of
from rtc.pass_cases import pass_calls
from rtc.recipe_cases import Call, calls, dtypes, rows
from rtc.row_bodies import BODIES, Draft, as_node

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.graph.ir import Graph, Value
from minimx.graph.lower import lower
from minimx.ndarray import _core
from minimx.ops.dtypes import BY_NAME
from minimx.ops.table import Spec
from minimx.rtc.cuda import FACTORIES, finished, wanted

OPTIONS = {
    "memcheck": ("--leak-check", "no"),
    "racecheck": ("--racecheck-report", "all"),
    "initcheck": (),
    "synccheck": (),
}
FOUND = 17  # exit status where the tool found something
MOST_CALLS = 6  # of a factory
MOST_ROWS = 24  # of a factory; elementwise ones differ by one expression
QUIET = 60  # seconds after which the inner process says where it is
MOST_ELEMENTS = 1 << 16  # of all operands of a call: the tools are slow


def resolved(call: Call) -> str:
    """The factory behind adaptors."""
    return call.attrs.get("kernel_name", call.factory)


def size(call: Call) -> int:
    """Elements of all operands."""
    ins = sum(x.size for x in call.ins if isinstance(x, np.ndarray))
    return ins + sum(int(np.prod(shape)) for shape, *_ in call.outs)


def chosen() -> list[Call]:
    """A few calls of every factory that differ in row, element size or layout; the largest that are not too large."""
    by_factory: dict[str, list[Call]] = {}
    for op in rows():
        for dtype in dtypes(op.name):
            for call in calls(op.name, dtype):
                if resolved(call) in FACTORIES:
                    by_factory.setdefault(resolved(call), []).append(call)
    for call in pass_calls():
        by_factory.setdefault(call.factory, []).append(call)
    picked: list[Call] = []
    for every in by_factory.values():
        seen: set[Any] = set()
        of_row: dict[str, int] = {}
        for call in sorted((c for c in every if size(c) <= MOST_ELEMENTS), key=size, reverse=True):
            kind = (BY_NAME[call.outs[0][1]].size, call.view)
            if call.row not in of_row and len(of_row) == MOST_ROWS:
                continue
            known = of_row.get(call.row, 0)
            if known and (kind in seen or len(seen) >= MOST_CALLS):
                continue
            of_row[call.row] = known + 1
            seen.add(kind)
            picked.append(call)
    return picked


class Exact:
    """Allocations on the GPU of exactly as many bytes as asked for."""

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy

    def array(self, values: np.ndarray) -> Any:
        """The bytes of ``values`` there, as an array of ours."""
        cp = self.cupy
        memory = cp.cuda.Memory(max(values.size, 1))  # cudaMalloc itself, not a pool
        there = cp.ndarray((values.size,), "uint8", cp.cuda.MemoryPointer(memory, 0))
        if values.size:
            there.set(values)
            cp.cuda.get_current_stream().synchronize()
        return _core.borrow_device(memory.ptr, [values.size], "uint8", [1], 0, there, False)


def flat(x: np.ndarray) -> tuple[np.ndarray, int]:
    """All bytes between the first and the last element in memory, and where among them element 0 is."""
    if not x.size:
        return np.empty(0, "uint8"), 0
    low, high = np.lib.array_utils.byte_bounds(x)
    return np.frombuffer(ctypes.string_at(low, high - low), "uint8"), x.ctypes.data - low


def specs(call: Call) -> tuple[list[Spec], list[Spec]]:
    """Of inputs and outputs; host scalars are weak."""
    ins = [spec_of(x) if isinstance(x, np.ndarray) else Spec((), x[1], (), True) for x in call.ins]
    return ins, [spec_of(empty(*o)) for o in call.outs]


def run(call: Call, kernel: Any, place: Callable[[np.ndarray], Any], gpu: int = 0) -> list[Any]:
    """The kernel as the one step of a program, over operands where ``place`` puts their bytes; returns those."""
    operands = [*call.ins, *(empty(*o) for o in call.outs)]
    pieces = [flat(x) for x in operands if isinstance(x, np.ndarray)]
    program = _core.Program(call.row, [((p.size,), "uint8") for p, _ in pieces], [True] * len(pieces), [], 0, gpu)
    slots: list[tuple[str, int, int]] = []
    arrays = 0
    for x in operands:
        if isinstance(x, np.ndarray):
            slots.append(("in", arrays, pieces[arrays][1]))
            arrays += 1
        else:
            value = np.asarray(x[0]).astype(numpy_type(x[1])).tobytes()
            slots.append(("host", program.add_constant(value, True), 0))
    program.add_step(kernel, slots, call.row, call.random)
    placed = [place(p) for p, _ in pieces]
    program.run(placed, False)
    mx.waitall()
    return placed


def told(what: str) -> None:
    """A line to whoever waits, at once."""
    print(f"  {what}", flush=True)


def kernels() -> int:
    """Runs the chosen calls; all texts are compiled together first."""
    picked = chosen()
    made = finished([wanted(c.factory, *specs(c), c.attrs, 0) for c in picked])
    told("compiled")
    memory = Exact()
    for n, (call, kernel) in enumerate(zip(picked, made, strict=True)):
        if n % 50 == 0:
            told(f"{n} of {len(picked)} calls")
        run(call, kernel, memory.array)
    return len(picked)


def training() -> None:
    """Norms, pools, dropout, loss and optimizer, imperative and as graphs; nothing of NVIDIA's libraries."""

    def net() -> nn.HybridSequential:
        made = nn.HybridSequential()
        made.add(nn.BatchNorm(in_channels=6), nn.Activation("relu"), nn.MaxPool2D(), nn.Dropout(0.3))
        made.add(nn.LayerNorm(in_channels=5), nn.GELU(), nn.GlobalAvgPool2D(), nn.Flatten())
        return made

    rng = np.random.default_rng(0)
    for dtype, hybridize, rule in (("float32", False, "adam"), ("float32", True, "adam"), ("float16", True, "lamb")):
        one = net()
        one.initialize()
        one.cast(dtype)
        if hybridize:
            one.hybridize(static_alloc=True, static_shape=True)
        trainer = gluon.Trainer(one.collect_params(), rule, {"learning_rate": 0.01, "multi_precision": True})
        loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
        for _ in range(3):
            x = mx.np.array(rng.normal(size=(7, 6, 9, 10)), dtype=dtype)
            labels = mx.np.array(rng.integers(0, 6, 7))
            with autograd.record():
                loss = loss_fn(one(x), labels).mean()
            loss.backward()
            trainer.step(7)
        mx.waitall()


def drawn(rng: np.random.Generator, v: Value) -> Any:
    """An operand for a value of a graph, on the GPU."""
    values = rng.normal(0, 1, v.shape)
    return mx.np.array(values > 0 if v.dtype in ("bool", "uint8") else values, dtype=v.dtype)


def squares(shape: tuple[int, ...], dtype: str) -> Graph:
    """A body of a "fold" node: what is multiplied on the way into two sums over the first axis."""
    d = Draft()
    x, y = (d.cast(d.given(shape, dtype), dtype="float32") for _ in range(2))
    return d.graph(d.sum(d.multiply(x, y), axis=0), d.sum(d.multiply(x, x), axis=0))


def groups() -> None:
    """Fused groups of rows and folds, of many elements and of few."""
    rng = np.random.default_rng(0)
    for shape, dtype in itertools.product(((8, 16, 128), (3, 5, 1000)), ("float32", "float16")):
        bodies = [(body, "rows") for name, body in BODIES.items() if name != "rms_norm"]
        for body, form in [*bodies, (squares, "fold")]:
            graph = body(shape, dtype)
            lower(as_node(graph, 0, form)).run([drawn(rng, v) for v in graph.inputs], False)
    mx.waitall()


def under(tool: str) -> int:
    """This script again, under the tool. Its exit status."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    found = shutil.which("compute-sanitizer") or shutil.which(f"{home}/bin/compute-sanitizer")
    if not found:
        print(
            "compute-sanitizer: expected it on PATH or in CUDA_HOME/bin, found it in neither. Install CUDA's toolkit."
        )
        return 2
    command = [found, "--tool", tool, *OPTIONS[tool], "--error-exitcode", str(FOUND), "--print-limit", "20"]
    command += ["--target-processes", "application-only", sys.executable, __file__, "--inside"]
    return subprocess.run(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", choices=OPTIONS, default="memcheck", help="what to look for")
    parser.add_argument("--inside", action="store_true", help="run the kernels in this process, under no tool")
    options = parser.parse_args()
    start = time.monotonic()
    if not options.inside:
        status = under(options.tool)
        print(f"{options.tool}: {'clean' if not status else f'exit status {status}'}, {time.monotonic() - start:.0f} s")
        return status
    faulthandler.dump_traceback_later(QUIET, repeat=True)  # where it hangs, if it does
    with mx.gpu(0):
        count = kernels()
        told("fused groups")
        groups()
        told("small nets")
        training()
    faulthandler.cancel_dump_traceback_later()
    seconds = time.monotonic() - start
    print(f"{count} calls of {len(FACTORIES)} factories, fused groups and three small nets: {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
