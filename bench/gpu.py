"""What a GPU's operators cost from Python: sustained `a + b` and a raw launch (launch.py), bandwidth of a fused chain,
a small model; and what overlaps (overlap.py).

`a + b` is called a thousand times before anyone waits, each a launch of its own: nothing is put off, or all but the
last would be left out. "launch thread" is the same with the engine told to put no operator inline: its worker makes the
launches. Chains of imperative calls that are put off: bench/engine.py.

    python bench/gpu.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import engine
import launch
import numpy as onp
import overlap
from common import Report, arguments, import_cupy, import_torch, in_turn, mx_device, torch_device

import minimx as mx
from minimx import gluon, npx
from minimx.ndarray import _core

CALLS = 1000  # between waits
CHAIN = 20  # pointwise operators


def add(args: argparse.Namespace, size: int) -> dict[str, Callable]:
    """CALLS additions of two arrays of ``size`` elements, then a wait."""

    def repeat(a: Any, b: Any, wait: Callable) -> Callable:
        def run() -> None:
            with mx.engine.bulk(0), mx.engine.replay(False):
                for _ in range(CALLS):
                    a + b
                wait()

        return run

    host = onp.random.default_rng(0).uniform(size=(2, size)).astype("float32")
    ours = [mx.np.array(x, device=mx_device(args.device)) for x in host]
    inline = repeat(*ours, mx.waitall)

    def threaded() -> None:
        before = _core.inline_threshold_ns()
        _core.set_inline_threshold_ns(0)
        try:
            inline()
        finally:
            _core.set_inline_threshold_ns(before)

    cases = {"minimx": inline, "minimx, launch thread": threaded}
    torch, cupy = import_torch(), import_cupy()
    if torch is not None:
        theirs = [torch.from_numpy(x).to(torch_device(args.device)) for x in host]
        cases["PyTorch"] = repeat(*theirs, torch.cuda.synchronize)
    if cupy is not None:
        theirs = [cupy.asarray(x) for x in host]
        cases["CuPy"] = repeat(*theirs, cupy.cuda.runtime.deviceSynchronize)
    return cases


def dear(x: Any, tanh: Callable, sigmoid: Callable, clip: Callable) -> Any:
    """CHAIN pointwise operators, half of them functions whose arithmetic takes longer than memory does."""
    for _ in range(CHAIN // 4):
        x = tanh(x) * 1.5 + sigmoid(x) - 0.25
    return x


def cheap(x: Any, tanh: Callable, sigmoid: Callable, clip: Callable) -> Any:
    """CHAIN pointwise operators that are an instruction or two each."""
    for _ in range(CHAIN // 4):
        x = clip(x * 1.5 + 0.5 - x * x, -4, 4)
    return x


class Chain(gluon.HybridBlock):
    """A chain, of which a fusing compiler reads x once and writes the result once."""

    def __init__(self, body: Callable) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Any) -> Any:
        return self.body(x, mx.np.tanh, npx.sigmoid, mx.np.clip)


def chain(args: argparse.Namespace, size: int, body: Callable) -> dict[str, Callable]:
    """The chain over ``size`` float32, hybridized; a copy of as many bytes beside it."""
    device = mx_device(args.device)
    x = mx.np.ones((size,), device=device)
    net = Chain(body)
    net.hybridize(static_alloc=True)
    cases = {
        "minimx": lambda: net(x).wait_to_read(),
        "minimx, a copy": lambda: x.copy().wait_to_read(),
    }
    torch = import_torch()
    if torch is not None and not args.tiny:

        def run(t: Any) -> Any:
            return body(t, torch.tanh, torch.sigmoid, torch.clip)

        tensor = torch.ones(size, device=torch_device(args.device))
        compiled = torch.compile(run)
        cases["PyTorch"] = lambda: (run(tensor), torch.cuda.synchronize())
        cases["torch.compile"] = lambda: (compiled(tensor), torch.cuda.synchronize())
    return cases


def main() -> None:
    args = arguments(__doc__)
    args.device = "gpu" if args.device == "cpu" else args.device
    if not mx.num_gpus():
        sys.exit(f"bench/gpu.py: expected a GPU, got none: {mx.device.why_no_gpu()}")
    report = Report("A GPU's operators from Python", args)
    for size in (10, 1000, 100_000, 10_000_000):
        times = in_turn(add(args, size), args.rounds, 0)
        report.add(f"a + b, {size:,} elements", {who: t / CALLS for who, t in times.items()})
    for name, times in launch.rows(args):
        report.add(name, times)
    size = 1 << (20 if args.tiny else 26)
    for name, body in (("pointwise operators", cheap), ("pointwise operators with tanh and sigmoid", dear)):
        cases = chain(args, size, body)
        cases["minimx"]()
        mx.rtc.wait()
        times = in_turn(cases, args.rounds, 0.02)
        report.add(f"{CHAIN} {name} over {size >> 20} M float32", times)
        ours, copied = (8 * size / times[who] / 1e12 for who in ("minimx", "minimx, a copy"))
        print(f"  moves {ours:.2f} TB/s; a copy {copied:.2f}")
    report.add(
        "20 x Dense(64) + relu, b32, forward and backward", in_turn(engine.small_model(args, True), args.rounds, 0.05)
    )
    for name, times in overlap.rows(args):
        report.add(name, times)
        print("  together over the sum of both alone: {:.2f}; it could be {:.2f}".format(*overlap.share(times)))
    report.finish()


if __name__ == "__main__":
    main()
