"""What the benchmarks share: measuring rivals in turn, and printing what was found as a table and as JSON.

Times drift between machines, and with whatever else a machine is doing. So every case of a row is run a little, in
turn, again and again, and what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import minimx as mx
from minimx.graph import bulk

IMPORTED = time.perf_counter()  # seconds: when `import minimx` was done, unless it was imported before
Clock = Callable[[], float]
THREADS = 2  # for everybody, unless --threads says otherwise
MODES = "default,reduce-overhead"
COMPILE = {"nargs": "?", "const": MODES, "default": "", "metavar": "MODES",
           "help": f"torch.compile as well, in these of its modes ({MODES}); each takes a minute to start"}  # fmt: skip


def arguments(description: str, **more: dict[str, Any]) -> argparse.Namespace:
    """Options that all benchmarks have, and ``more`` of them: name to keywords of add_argument. Sets the threads.

    PyTorch is not imported where --first or --peers, options of bench/train.py, ask for a process without it.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="cpu, gpu or gpu:1")
    parser.add_argument("--threads", type=int, default=min(THREADS, os.cpu_count() or 1), help="for every rival")
    parser.add_argument("--rounds", type=int, default=7, help="turns; medians are taken over them")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    parser.add_argument("--tiny", action="store_true", help="one quick turn, to see that it works")
    for name, keywords in more.items():
        parser.add_argument(f"--{name}", **keywords)
    args = parser.parse_args()
    args.rounds = 1 if args.tiny else args.rounds
    mx.engine.set_num_threads(args.threads)
    alone = getattr(args, "first", False) or getattr(args, "peers", False)
    torch = None if alone else import_torch()
    if torch is not None:
        torch.set_num_threads(args.threads)
    return args


def import_torch() -> Any:
    """PyTorch, or None where the extra `peers` is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def import_cupy() -> Any:
    """CuPy, or None."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy


def mx_device(name: str) -> mx.Device:
    """The minimx device of ``--device``."""
    kind, _, number = name.partition(":")
    return mx.Device(kind, int(number or 0))


def torch_device(name: str) -> str:
    """PyTorch's word for it."""
    return name.replace("gpu", "cuda")


def waited(case: Callable[[], object], device: str, library: str) -> Callable[[], object]:
    """The case, and on a GPU a wait for it at the end. library: "PyTorch" or "CuPy"."""
    if device == "cpu":
        return case
    if library == "PyTorch":
        wait = partial(import_torch().cuda.synchronize, torch_device(device))
    else:
        wait = import_cupy().cuda.runtime.deviceSynchronize

    def run() -> None:
        kept = case()  # noqa: F841  alive until all is done
        wait()

    return run


def begin(who: str, make: Callable[[], Callable], device: str) -> tuple[Callable, float, int | None]:
    """Makes a case whose parameter is how many steps to run, and warms it up.

    Returns the case; the seconds from before it is made to the end of its first step; and the bytes of its arrays at
    their peak, from before it is made until it is warm, without what was in use before, by cases that were made before.
    minimx and PyTorch count what they give out themselves, workspaces too, also those in which PyTorch times cuDNN's
    engines in a first step; what they keep for later is left out. PyTorch counts nothing on a CPU: None.
    """
    gc.collect()
    mx.waitall()
    arrays = _Arrays(who, device)
    start = time.perf_counter()
    case = make()
    case(1)
    first = time.perf_counter() - start
    for _ in range(4):  # a call may be ten steps, or one that takes a second
        case(1)
    warm(case, 0.4)
    return case, first, arrays.peak()


class _Arrays:
    """What the library of a case has in arrays, bytes, from now on."""

    def __init__(self, who: str, device: str) -> None:
        self.ours, self.device, self.gpu = who.startswith("minimx"), device, device != "cpu"
        self.counts = self.ours or self.gpu
        self.cuda = import_torch().cuda if self.gpu and not self.ours else None
        if self.ours:
            mx.device.reset_peak_memory(mx_device(device))
            self.before = mx.device.memory_info(mx_device(device))["used"]
        elif self.gpu:
            self.cuda.init()
            self.cuda.reset_peak_memory_stats(torch_device(device))
            self.before = self.cuda.memory_allocated(torch_device(device))

    def peak(self) -> int | None:
        """The most since then, less what was there. Gives a GPU's memory that is kept for later to other libraries."""
        if not self.counts:
            return None
        if self.ours:
            most = mx.device.memory_info(mx_device(self.device))["peak"]
        else:
            most = self.cuda.max_memory_allocated(torch_device(self.device))
        if self.gpu:
            mx_device(self.device).empty_cache() if self.ours else self.cuda.empty_cache()
        return most - self.before


def warm(case: Callable[[], object], seconds: float = 1.5) -> None:
    """Calls it until what it repeats is compiled and runs as a program: see "Replay" in docs/engine.md.

    seconds: of each of two spells of calls, of which there are 16 at most.
    """
    for _ in range(2):
        end = time.perf_counter() + seconds
        for _ in range(16):
            case()
            if time.perf_counter() > end:
                break
        bulk.wait(100)
        mx.rtc.wait(100)


def _repeats(case: Callable[[], object], seconds: float, clock: Clock) -> int:
    """How many calls take about ``seconds``."""
    count = 1
    while True:
        start = clock()
        for _ in range(count):
            case()
        spent = clock() - start
        if spent >= seconds / 4 or count >= 1 << 20:
            return max(1, round(count * seconds / max(spent, 1e-9)))
        count *= 4


def in_turn(
    cases: dict[str, Callable[[], object]],
    rounds: int,
    seconds: float = 0.05,
    clock: Clock = time.perf_counter,
    cold: bool = True,
) -> dict[str, float]:
    """Median seconds a call of each case. A turn is about ``seconds`` of calls of one case; the first is warm-up. The
    order changes from round to round: what one case leaves behind, such as a hot GPU, is not always the same one's.

    A case has to wait for its own results. cold: warm them up before, which ``begin`` has done.
    """
    for case in cases.values() if cold else ():
        warm(case)
    repeats = {name: _repeats(case, seconds, clock) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    shuffled = random.Random(0)
    for _ in range(rounds):
        for name, case in shuffled.sample(list(cases.items()), len(cases)):
            start = clock()
            for _ in range(repeats[name]):
                case()
            times[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in times.items()}


class Report:
    """Rows of times. ``unit``: what the table shows them in, of _UNITS; ``items``: things done in a call, for rates."""

    def __init__(self, title: str, args: argparse.Namespace) -> None:
        self.title, self.args, self.rows = title, args, []

    def add(self, name: str, seconds: dict[str, float], items: int | None = None, **more: dict[str, Any]) -> None:
        """A row of seconds a call by who did it; names that begin with "minimx" are ours, the others are peers.

        more: what else is to stand in the JSON, by who.
        """
        peers = {who: t for who, t in seconds.items() if not who.startswith("minimx")}
        best = min(peers.values(), default=None)
        ratios = {who: best / t for who, t in seconds.items() if best and who not in peers}
        self.rows.append({"name": name, "seconds": seconds, "items": items, "ratios": ratios, **more})
        print(
            "  ".join([f"{name:40}", *(f"{who} {_show(t, items)}" for who, t in seconds.items()), *_said(ratios)]),
            flush=True,
        )

    def measure(self, name: str, makes: dict[str, Callable[[], Callable]], items: int | None = None) -> None:
        """A row of cases that are made, warmed up and measured as ``begin`` has it, then run in turn.

        Its JSON has the seconds to the first step as ``first``, and the bytes of arrays as ``peak``.
        """
        begun = {who: begin(who, make, self.args.device) for who, make in makes.items()}
        times = in_turn({who: case for who, (case, *_) in begun.items()}, self.args.rounds, seconds=0, cold=False)
        first, peak = ({who: found[i] for who, found in begun.items()} for i in (1, 2))
        self.add(name, times, items, first=first, peak=peak)

    def machine(self) -> dict[str, Any]:
        """What it was measured on."""
        torch = sys.modules.get("torch")
        versions = {"minimx": getattr(mx, "__version__", "?"), "torch": torch and torch.__version__}
        if torch and self.args.device != "cpu":
            versions["gpu"] = torch.cuda.get_device_name(torch_device(self.args.device))
        return {"processor": _processor(), "threads": self.args.threads, "load": os.getloadavg()[0], **versions}

    def finish(self) -> None:
        """Print the table and the JSON; write the JSON where ``--json`` says."""
        result = {"title": self.title, "machine": self.machine(), "rows": self.rows}
        print(f"\n{self.title}\n{self.table()}\n{json.dumps(result)}")
        if self.args.json:
            self.args.json.parent.mkdir(parents=True, exist_ok=True)
            self.args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Markdown: a column for each rival, and how many times as fast as the best peer ours are."""
        who = list(dict.fromkeys(name for row in self.rows for name in row["seconds"]))
        ours = [name for name in who if name.startswith("minimx")]
        lines = ["| | " + " | ".join([*who, *(f"{name} / best peer" for name in ours)]) + " |"]
        lines.append("|---" * (1 + len(who) + len(ours)) + "|")
        for row in self.rows:
            times = [_show(row["seconds"][w], row["items"]) if w in row["seconds"] else "" for w in who]
            ratios = [f"{row['ratios'][w]:.2f}x" if w in row["ratios"] else "" for w in ours]
            lines.append(f"| {row['name']} | " + " | ".join(times + ratios) + " |")
        return "\n".join(lines)


def _show(seconds: float, items: int | None) -> str:
    if items is not None:
        return f"{items / seconds:.2f}/s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _said(ratios: dict[str, float]) -> list[str]:
    return [f"[{who}: {ratio:.2f}x the best peer]" for who, ratio in ratios.items()]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
