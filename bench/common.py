"""What the benchmarks share: measuring rivals in turn, and printing what was found as a table and as JSON.

Times drift between machines, and with whatever else a machine is doing. So every case of a row is run a little, in
turn, again and again, and what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minimx as mx
from minimx.graph import bulk

Clock = Callable[[], float]
THREADS = 2  # for everybody, unless --threads says otherwise


def arguments(description: str, **more: dict[str, Any]) -> argparse.Namespace:
    """Options that all benchmarks have, and ``more`` of them: name to keywords of add_argument. Sets the threads."""
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
    torch = import_torch()
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


def mx_device(name: str) -> mx.Device:
    """The minimx device of ``--device``."""
    kind, _, number = name.partition(":")
    return mx.Device(kind, int(number or 0))


def torch_device(name: str) -> str:
    """PyTorch's word for it."""
    return name.replace("gpu", "cuda")


def _warm(case: Callable[[], object]) -> None:
    """Calls it until what it repeats is compiled and runs as a program: see "Replay" in docs/engine.md."""
    for _ in range(2):
        end = time.perf_counter() + 1.5
        for _ in range(16):
            case()
            if time.perf_counter() > end:
                break
        bulk.wait(100)
        mx.rtc.wait(100)


def _repeats(case: Callable[[], object], seconds: float, clock: Clock) -> int:
    """How many calls take about ``seconds``."""
    _warm(case)
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
    cases: dict[str, Callable[[], object]], rounds: int, seconds: float = 0.05, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Median seconds a call of each case. A turn is about ``seconds`` of calls of one case; the first is warm-up.

    A case has to wait for its own results.
    """
    repeats = {name: _repeats(case, seconds, clock) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            start = clock()
            for _ in range(repeats[name]):
                case()
            times[name].append((clock() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in times.items()}


class Report:
    """Rows of times. ``unit``: what the table shows them in, of _UNITS; ``items``: things done in a call, for rates."""

    def __init__(self, title: str, args: argparse.Namespace) -> None:
        self.title, self.args, self.rows = title, args, []

    def add(self, name: str, seconds: dict[str, float], items: int | None = None) -> None:
        """A row of seconds a call by who did it; names that begin with "minimx" are ours, the others are peers."""
        peers = {who: t for who, t in seconds.items() if not who.startswith("minimx")}
        best = min(peers.values(), default=None)
        ratios = {who: best / t for who, t in seconds.items() if best and who not in peers}
        self.rows.append({"name": name, "seconds": seconds, "items": items, "ratios": ratios})
        print(
            "  ".join([f"{name:40}", *(f"{who} {_show(t, items)}" for who, t in seconds.items()), *_said(ratios)]),
            flush=True,
        )

    def machine(self) -> dict[str, Any]:
        """What it was measured on."""
        torch = import_torch()
        versions = {"minimx": getattr(mx, "__version__", "?"), "torch": torch and torch.__version__}
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
