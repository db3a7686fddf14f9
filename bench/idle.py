"""What a process holds of a GPU's memory once it has imported a library and made one array, beside a bare CUDA context.

Counted by the driver (nvidia-smi's memory.used, MB of 2^20 bytes): with the process less before it, each in a process
of its own that does nothing else. Other processes on the GPU should keep still meanwhile.

    python bench/idle.py
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def hold_minimx(number: int) -> object:
    """An array of one element."""
    import minimx as mx

    kept = mx.np.ones((1,), device=mx.gpu(number))
    mx.waitall()
    return kept


def hold_torch(number: int) -> object:
    """The same."""
    import torch

    kept = torch.ones(1, device=f"cuda:{number}")
    torch.cuda.synchronize()
    return kept


@functools.cache
def driver() -> ctypes.CDLL:
    """NVIDIA's driver."""
    return ctypes.CDLL("libcuda.so.1")


def checked(function: str, *arguments: object) -> None:
    """Calls a function of the driver. Raises RuntimeError where it fails."""
    code = getattr(driver(), function)(*arguments)
    if code:
        raise RuntimeError(f"{function}: expected success, got CUresult {code}.")


def primary_context(number: int) -> ctypes.c_void_p:
    """The context of GPU ``number`` that every library of the CUDA runtime shares, and minimx; current from now on."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    checked("cuInit", 0)
    checked("cuDeviceGet", ctypes.byref(device), number)
    checked("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    checked("cuCtxSetCurrent", context)
    return context


HOLDERS: dict[str, Callable[[int], object]] = {
    "minimx": hold_minimx,
    "PyTorch": hold_torch,
    "CUDA context": primary_context,
}


def used(number: int) -> int:
    """MB in use on GPU ``number``, by all processes."""
    command = ["nvidia-smi", f"--id={number}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def held(who: str, number: int) -> int | None:
    """MB that the process of ``who`` holds; None where it failed: its words are on stderr."""
    before = used(number)
    command = [sys.executable, __file__, "--device", f"gpu:{number}", "--hold", who]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        ready = process.stdout.readline() == b"ready\n"
        found = used(number) - before if ready else None
        process.stdin.close()  # it may leave
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="gpu", help="gpu or gpu:1")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    parser.add_argument("--hold", choices=HOLDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    number = int(args.device.partition(":")[2] or 0)
    if args.hold:
        kept = HOLDERS[args.hold](number)  # noqa: F841
        print("ready", flush=True)
        sys.stdin.read()
        return
    found = {who: held(who, number) for who in HOLDERS}
    text = json.dumps({"title": "Idle device memory, MB", "rows": [{"name": "idle", "megabytes": found}]})
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    if found["minimx"] is None:
        sys.exit("bench/idle.py: expected minimx to make an array on the GPU, got what is said above.")


if __name__ == "__main__":
    main()
