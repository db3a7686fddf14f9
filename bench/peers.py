"""The table of ResNet-50 and BERT on a GPU (docs/performance.md) in one run: bench/train.py --peers.

Each row is a process of its own (train.py, bert.py, idle.py), the most telling first, and is printed when it is there:
a row that fails or a run that is stopped leaves the others. Below a row stand its arrays at their peak (GB of 10^9
bytes; what counts: common.begin) and the time to the first step of what torch.compile makes, its cache empty before the
first of its modes. minimx's first step is counted from after `import minimx`, with an empty cache and then with what
that run left there. The last columns: the best of minimx over the best peer, above 1 where minimx is better, and the
seconds that the row's processes took. On a CPU (--device cpu) rows go without torch.compile and CUDA graphs.

    python bench/train.py --device gpu --peers
    python bench/train.py --device gpu --peers --rows fp16,first,b8 --json runs/peers.json
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
LIMIT = 400  # seconds of a process
ROUNDS = 5
TRAIN, INFER = "train.py --training --layout NHWC", "train.py --inference --layout NHWC"
COLUMNS = {
    "whole step": ("minimx step",),
    "hybridized": ("minimx hybridized",),
    "imperative": ("minimx imperative",),
    "PyTorch eager": ("PyTorch channels_last", "PyTorch"),
    "torch.compile default": ("torch.compile default",),
    "reduce-overhead": ("torch.compile reduce-overhead",),
    "PyTorch CUDA graph": ("PyTorch CUDA graph",),
}
Found = dict[str, Any]  # the JSON of a process


class Row(NamedTuple):
    """A row of the table: a script of this folder with its options."""

    name: str
    command: str


ROWS = {
    "fp16": Row("ResNet-50 training step, b256, float16, images/s",
                f"{TRAIN} --batch 256 --dtype float16 --steps 10 --compile"),
    "first": Row("ResNet-50, b256, float16, time to the first step",
                 "train.py --first --layout NHWC --batch 256 --dtype float16"),
    "idle": Row("memory of the GPU after import and one array, MB", "idle.py"),
    "bf16": Row("ResNet-50 training step, b256, bfloat16, images/s",
                f"{TRAIN} --batch 256 --dtype bfloat16 --steps 10 --compile"),
    "amp": Row("ResNet-50 training step, b256, float16 by minimx's amp and a loss scale, images/s",
               f"{TRAIN} --batch 256 --dtype float16 --steps 10 --amp"),
    "b32": Row("ResNet-50 training step, b32, float16, images/s",
               f"{TRAIN} --batch 32 --dtype float16 --steps 20 --graph"),
    "b8": Row("ResNet-50 training step, b8, float16, images/s",
              f"{TRAIN} --batch 8 --dtype float16 --steps 20 --graph"),
    "bert": Row("BERT-base's encoder, b32 x 128, AdamW, bfloat16, sequences/s",
                "bert.py --dtype bfloat16 --steps 10 --compile"),
    "inf256": Row("ResNet-50 inference, b256, float16, images/s",
                  f"{INFER} --batch 256 --dtype float16 --steps 10 --compile reduce-overhead"),
    "inf1": Row("ResNet-50 inference, b1, float16, images/s",
                f"{INFER} --batch 1 --dtype float16 --steps 50 --compile reduce-overhead"),
    "tf32": Row("ResNet-50 training step, b256, TF32, images/s",
                f"{TRAIN} --batch 256 --dtype tf32 --steps 5 --compile reduce-overhead"),
}  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Prints the table, row by row, and the JSON of all; writes that after each row where ``--json`` says."""
    keys = [key for key in ROWS if args.device != "cpu" or key != "idle"]
    if args.rows:
        keys = args.rows.split(",")
        if unknown := set(keys) - ROWS.keys():
            sys.exit(f"bench/train.py: expected --rows of {','.join(ROWS)}, got {','.join(sorted(unknown))}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the row's process too
    start, found = time.perf_counter(), {}
    title = "minimx and PyTorch" + ", all rows tiny" * args.tiny
    print(f"{title}\n")
    print("| | " + " | ".join([*COLUMNS, "best over best peer", "seconds"]) + " |")
    print("|---" * (len(COLUMNS) + 3) + "|", flush=True)
    for key in keys:
        began = time.perf_counter()
        found[key] = row = measured(key, args)
        row["took"] = time.perf_counter() - began
        for text in lines(key, found):
            print(text, flush=True)
        if "error" in row:
            print(row["error"], file=sys.stderr, flush=True)
        whole = {"title": title, "took": time.perf_counter() - start, "rows": found}
        if args.json:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(f"\n{len(keys)} rows in {time.perf_counter() - start:.0f} s\n{json.dumps(whole)}")


def measured(key: str, args: argparse.Namespace) -> Found:
    """What the processes of a row found; ``error``: the last lines of one that failed."""
    command = ROWS[key].command
    with tempfile.TemporaryDirectory() as folder:
        try:
            if key != "first":
                return process(command, args, Path(folder), TORCHINDUCTOR_CACHE_DIR=f"{folder}/inductor")
            states = [process(command, args, Path(folder), MINIMX_CACHE_DIR=f"{folder}/minimx") for _ in range(2)]
        except (RuntimeError, OSError, ValueError) as error:
            return {"error": str(error)}
    seconds = [state["rows"][0]["seconds"] for state in states]
    return {**states[0], "rows": [{"name": "cold", "seconds": seconds[0]}, {"name": "warm", "seconds": seconds[1]}]}


def process(command: str, args: argparse.Namespace, folder: Path, **environment: str) -> Found:
    """The JSON of a script. Raises RuntimeError, with its last lines, where it failed or took longer than LIMIT."""
    if args.device == "cpu":
        command = command.partition(" --compile")[0].partition(" --graph")[0]  # they come last
    script, *options = shlex.split(command)
    options += ["--device", args.device, "--json", f"{folder}/found.json"]
    if script != "idle.py":
        options += ["--threads", str(args.threads), "--rounds", str(min(args.rounds, ROUNDS))]
        options += ["--tiny"] * args.tiny
    log = folder / "log"
    with log.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, str(HERE / script), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        )
        try:
            status: int | str = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = f"none after {LIMIT} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it has left running, such as torch.compile's workers
            child.wait()
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise RuntimeError(f"{command}: exit status {status}\n{tail}")
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def lines(key: str, found: dict[str, Found]) -> Iterator[str]:
    """The lines of a row, one of which has its time."""
    name, row = ROWS[key].name, found[key]
    values: dict[str, Any]
    took = f"{row['took']:.0f}"
    if "error" in row:
        yield line(f"{name}: failed, exit status and last lines on stderr", {}, max, str, took)
        return
    first = row["rows"][0]
    if key == "idle":
        held = {who: mb for who, mb in first["megabytes"].items() if mb is not None}
        values = {"minimx imperative": held.get("minimx"), "PyTorch": held.get("PyTorch")}
        name = f"{name} (a bare CUDA context: {held.get('CUDA context', 'unknown')})"
        yield line(name, _known(values), min, "{:.0f}".format, took)
    elif key == "first":
        compiled = found.get("fp16", {}).get("rows", [{}])[0].get("first", {})
        for state in row["rows"]:
            peers = {who: s for who, s in compiled.items() if who == "torch.compile default" and state is first}
            values = {**state["seconds"], **peers}
            yield line(f"{name}, {state['name']} cache, s", values, min, "{:.1f}".format, took * (state is not first))
    else:
        rates = {who: first["items"] / seconds for who, seconds in first["seconds"].items()}
        yield line(name, rates, max, lambda rate: f"{rate:,.0f}" if rate >= 100 else f"{rate:.2f}", took)
        peaks = {who: bytes_ / 1e9 for who, bytes_ in _known(first["peak"]).items()}
        yield line("its arrays at their peak, GB", peaks, min, "{:.2f}".format)
        if compiled := {who: s for who, s in first["first"].items() if who.startswith("torch.compile")}:
            yield line("its first step, s", compiled, min, "{:.1f}".format)


def line(name: str, values: dict[str, float], best: Callable, show: Callable[[float], str], took: str = "") -> str:
    """A line of markdown. best: max where more is better, min where less is; values are of those who are there."""
    cells = []
    for whos in COLUMNS.values():
        here = [values[who] for who in whos if who in values]
        cells.append(show(best(here)) if here else "")
    ours = [value for who, value in values.items() if who.startswith("minimx")]
    peers = [value for who, value in values.items() if not who.startswith("minimx")]
    ratio = ""
    if ours and peers:
        a, b = best(ours), best(peers)
        ratio = f"{a / b if best is max else b / a:.2f}x" if min(a, b) > 0 else ""
    return f"| {name} | " + " | ".join([*cells, ratio, took]) + " |"


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {who: value for who, value in values.items() if value is not None}
