"""GPUs that the CPU plays (played.cc): ``pytest --device played`` runs any test on them, where there is no GPU; with
``--own-time`` their streams run late, each on a thread of its own, so that an order which is missing shows.

Kernels are those of the CPU, so what is tested is all that lies around them: csrc/runtime's device paths, lowering for
a GPU, the Python front. The module is compiled once and kept by the digest of its sources.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

import minimx as mx
from minimx import collectives, device, interop
from minimx.graph.passes import conv_stats, inference, norm, norm_pool, pairs, products
from minimx.ndarray import NUMPY_DTYPES, _core, _host_call
from minimx.ops.dtypes import BY_NAME
from minimx.ops.table import Spec
from minimx.rtc import cuda
from minimx.rtc.compiler import find_compiler

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
RANDOM = {"draw", "dropout"}  # kernels whose first operand is the random state


class PlayedModule:
    """What minimx.device.cuda() gives in place of minimx._cuda."""

    sums = False  # whether there is an NCCL

    def __init__(self, module: Any) -> None:
        self.module = module
        self._pinned: list[numpy.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def memory(self, device_id: int) -> tuple[int, int]:
        """(free, total) bytes."""
        return (1 << 34, 1 << 34)

    def set_library_settings(self, **settings: Any) -> None:
        """The CPU's libraries have no such settings."""

    def nccl_version(self) -> str:
        """Of what sums float32 arrays here, if it is asked to; without it sums are copies and additions."""
        return "played" if self.sums else ""

    def pinned(self, size: int) -> numpy.ndarray:
        """Main memory, never given back: its address means pinned memory from now on."""
        array = numpy.empty(size, "uint8")
        self._pinned.append(array)
        self.module.note_pinned(array.ctypes.data, size)
        return array

    def stream(self, device_id: int, kind: str) -> int:
        """A handle that nobody uses."""
        return 0


def load() -> PlayedModule:
    """The module, compiled if need be."""
    import pybind11

    sources = [
        HERE / "played.cc",
        HERE / "streams.h",
        *sorted((CSRC / "runtime").glob("*.h")),
        *sorted((CSRC / "common").glob("*.h")),
    ]
    text = "".join(p.read_text() for p in sources) + sys.version
    folder = Path(tempfile.gettempdir()) / f"minimx-played-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            emit = [sys.executable, "-m", "minimx.ops.emit", f"{work}/generated"]
            subprocess.run(emit, check=True, env=environment, timeout=60)
            include = [work, CSRC, pybind11.get_include(), sysconfig.get_paths()["include"]]
            command = [*find_compiler().command, "-std=c++20", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"]  # type: ignore[union-attr]
            made = Path(work) / "played.so"
            arguments = [*(f"-I{folder}" for folder in include), str(HERE / "played.cc"), "-o", str(made)]
            subprocess.run([*command, *arguments], check=True, timeout=100)
            made.replace(library)
    spec = importlib.util.spec_from_file_location("played_gpu", library)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return PlayedModule(module)


def tuples(specs: Sequence[Any]) -> list[tuple]:
    """Specs as _core.make_kernel takes them."""
    given = [Spec(*s) if not isinstance(s, Spec) else s for s in specs]
    return [(s.shape, s.dtype, s.strides, "", bool(s.weak)) for s in given]


def host_call(row: Any, attrs: dict, present: list[bool], ins: list[Spec], outs: list[Spec], device_id: int) -> Any:
    """A host row on NumPy, over the addresses of its operands, which are C-contiguous."""
    run = _host_call(row, attrs, present)

    def view(address: int, s: Spec) -> numpy.ndarray:
        dtype = NUMPY_DTYPES[BY_NAME[s.dtype].code]
        size = max(1, int(numpy.prod(s.shape, dtype="int64")) * dtype.itemsize)
        return numpy.frombuffer((ctypes.c_char * size).from_address(address), dtype, size // dtype.itemsize)[
            : int(numpy.prod(s.shape, dtype="int64"))
        ].reshape(s.shape)

    def call(addresses: list[int], stream: int) -> None:
        install().synchronize(device_id)
        views = [view(a, s) for a, s in zip(addresses, [*ins, *outs], strict=True)]
        run(views[: len(ins)], views[len(ins) :])

    return call


@functools.cache
def install() -> PlayedModule:
    """From now on ``mx.gpu(0)`` and ``mx.gpu(1)`` are played. For the whole process."""
    module = load()
    _core.set_gpu_backend(module.backend())
    device.cuda = collectives.cuda = lambda: module  # type: ignore[assignment]
    device.why_no_gpu.cache_clear()

    def wanted(name: str, ins: Sequence, outs: Sequence, attrs: dict, device_id: int) -> Any:
        name = "cast" if name == "reorder" else name  # strides are all the layout there is
        kernel = _core.make_kernel(name, tuples(ins), tuples(outs), attrs)
        random = name in RANDOM
        scalars = [i for i, s in enumerate(tuples(ins)) if s[4]]
        return _core.adopt_kernel(module.on_device(kernel.capsule(), len(ins) + len(outs), scalars, random))

    def wanted_fused(
        group: Any, write: Any, ins: Sequence, outs: Sequence, device_id: int, members: Any, in_place: bool
    ) -> Any:
        pairs, temporaries, constants = members()
        kernel = _core.make_fused_device(len(ins) + len(outs), pairs, temporaries, constants, 0)
        kernel.settle(None)
        return kernel

    cuda.wanted, cuda.kernel_for, cuda.wanted_fused, cuda.finished = wanted, wanted, wanted_fused, list
    interop.cupy_call = host_call
    conv_stats.statistics_pay = lambda nodes, gpu: [False] * len(nodes)  # there is no cuDNN to ask
    inference.engines_fuse = products.gains = lambda nodes, gpu: [True] * len(nodes)  # kernels of the CPU do
    norm.absorb_sums = lambda g: g  # kernels of the CPU do not take a gradient in two parts
    pairs.gradients = lambda g: g  # nor two norms at once
    norm_pool.site_at = lambda n, reading: None  # nor a norm before a pool
    assert mx.num_gpus() == 2
    return module
