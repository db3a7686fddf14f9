"""Every kernel of minimx/rtc/cuda under NVIDIA's compute-sanitizer: ``python tests/gpu/sanitize.py --tool memcheck``.

Each factory runs a few calls of tests/rtc/recipe_cases.py, of several types and layouts; then small nets train three
steps, for fused kernels, for norms with neighbours and for updates of many parameters at once. Operands lie in
allocations of exactly their size, made for them by CuPy past all caches, so that memcheck sees a byte too far. Prints
one line if all is well.
"""

from __future__ import annotations

import argparse
import ctypes
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
from rtc.recipe_cases import Call, calls, dtypes, rows

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
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
                if resolved(call) in FACTORIES and size(call) <= MOST_ELEMENTS:
                    by_factory.setdefault(resolved(call), []).append(call)
    picked: list[Call] = []
    for every in by_factory.values():
        seen: set[Any] = set()
        of_row: dict[str, int] = {}
        for call in sorted(every, key=size, reverse=True):
            kind = (BY_NAME[call.outs[0][1]].size, call.view)
            if call.row not in of_row and len(of_row) == MOST_ROWS:
                continue
            known = of_row.get(call.row, 0)
            if known and (kind in seen or len(seen) >= MOST_CALLS):
                continue
            of_row[call.row] = known + 1
            seen.add(kind)
            picked.append(call)
    if missing := FACTORIES.keys() - by_factory.keys():
        print("no calls of:", *sorted(missing))
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


def kernels() -> int:
    """Runs the chosen calls; all texts are compiled together first."""
    picked = chosen()
    made = finished([wanted(c.factory, *specs(c), c.attrs, 0) for c in picked])
    memory = Exact()
    for call, kernel in zip(picked, made, strict=True):
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
    for dtype, hybridize in (("float32", False), ("float32", True), ("float16", True)):
        one = net()
        one.initialize()
        one.cast(dtype)
        if hybridize:
            one.hybridize(static_alloc=True, static_shape=True)
        trainer = gluon.Trainer(one.collect_params(), "adam", {"learning_rate": 0.01})
        loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
        for _ in range(3):
            x = mx.np.array(rng.normal(size=(7, 6, 9, 10)), dtype=dtype)
            labels = mx.np.array(rng.integers(0, 6, 7))
            with autograd.record():
                loss = loss_fn(one(x), labels).mean()
            loss.backward()
            trainer.step(7)
        mx.waitall()


class Residual(gluon.HybridBlock):
    """A stem with its pool, and a block whose shortcut is projected: what norms of GPUs take in (passes/norm.py,
    conv_stats.py, pairs.py, norm_pool.py).
    """

    def __init__(self) -> None:
        super().__init__()
        last = {"layout": "NHWC", "use_bias": False}
        self.stem = nn.Conv2D(64, 7, 2, 3, in_channels=3, **last)
        self.one, self.two, self.side = (nn.Conv2D(64, k, padding=k // 2, in_channels=64, **last) for k in (1, 3, 1))
        self.norms = nn.HybridSequential()
        self.norms.add(*(nn.BatchNorm(axis=3, in_channels=64) for _ in range(4)))
        self.pool, self.out = nn.MaxPool2D(3, 2, 1, layout="NHWC"), nn.Dense(6, in_units=64)

    def forward(self, x: Any) -> Any:
        """(N, H, W, 3) -> (N, 6)."""
        stem, one, two, side = self.norms
        x = self.pool(mx.npx.relu(stem(self.stem(x))))
        y = mx.npx.relu(one(self.one(x)))
        return self.out(mx.npx.relu(two(self.two(y)) + side(self.side(x))).mean((1, 2)))


def residual() -> None:
    """The norms of a residual net, by the usual lines and as whole steps."""
    rng = np.random.default_rng(0)
    for dtype, whole in (("float16", False), ("bfloat16", True)):
        net = Residual()
        net.initialize(mx.init.Xavier())
        net.cast(dtype)
        net.hybridize(static_alloc=True, static_shape=True)
        trainer = gluon.Trainer(net.collect_params(), "lamb", {"multi_precision": True})
        loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
        step = gluon.TrainStep(net, loss_fn, trainer)
        x, labels = mx.np.array(rng.normal(size=(4, 32, 32, 3)), dtype=dtype), mx.np.array(rng.integers(0, 6, 4))
        for _ in range(3):
            if whole:
                step(x, labels)
                continue
            with autograd.record():
                loss = loss_fn(net(x), labels)
            loss.backward()
            trainer.step(4)
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
    with mx.gpu(0):
        count = kernels()
        training()
        residual()
    print(f"{count} calls of {len(FACTORIES)} factories and five small nets, {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
