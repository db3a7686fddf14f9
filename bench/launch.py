"""What a launch costs by itself: an empty kernel, launched through cuLaunchKernel in a loop of C, sustained.

The floor under operators that are called one by one: a row of gpu.py and of engine.py. The loop is compiled when it is
wanted, by the compiler that fusion on a CPU has; the kernel is NVRTC's. It runs in the primary context and on the
compute stream that minimx uses.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from common import in_turn, mx_device
from idle import checked, driver, primary_context

import minimx as mx
from minimx.device import cuda
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda.compile import service

CALLS = 1000  # between waits
KERNEL = 'extern "C" __global__ void empty() {}'
LOOP = """
using Launch = int (*)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                       void**);
extern "C" int launch_all(Launch launch, void* function, void* stream, int count) {
  int failed = 0;
  for (int i = 0; i < count && !failed; ++i)
    failed = launch(function, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
  return failed;
}
"""


def rows(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, float]]]:
    """(name, seconds of one launch), where the device is a GPU."""
    if args.device != "cpu":
        times = in_turn({"C": launches(mx_device(args.device).device_id)}, args.rounds, 0)
        yield "a raw launch: cuLaunchKernel of an empty kernel", {who: t / CALLS for who, t in times.items()}


def launches(number: int) -> Callable[[], None]:
    """CALLS launches on GPU ``number``, then a wait. Raises RuntimeError where the driver or the compiler refuses."""
    mx.np.ones((1,), device=mx.gpu(number)).wait_to_read()
    primary_context(number)
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    checked("cuModuleLoadData", ctypes.byref(module), cubin(number))
    checked("cuModuleGetFunction", ctypes.byref(function), module, b"empty")
    loop, stream = compiled_loop(), ctypes.c_void_p(cuda().stream(number, "compute"))
    launch = ctypes.cast(driver().cuLaunchKernel, ctypes.c_void_p)

    def run() -> None:
        failed = loop(launch, function, stream, CALLS)
        if failed:
            raise RuntimeError(f"launch: expected cuLaunchKernel to launch, got CUresult {failed}.")
        checked("cuStreamSynchronize", stream)

    return run


def cubin(number: int) -> bytes:
    """The kernel for GPU ``number``."""
    return service.nvrtc.run(KERNEL, cuda().arch(number))


def compiled_loop() -> Callable[..., int]:
    """The function of LOOP."""
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("launch: expected a C++ compiler, got none. Set MINIMX_CXX.")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "loop.cc"), Path(folder, "loop.so")
        source.write_text(LOOP, encoding="utf-8")
        if complaint := compiler.run(source, made):
            raise RuntimeError(f"launch: expected the compiler to take the loop, got: {complaint}")
        return ctypes.CDLL(str(made)).launch_all
