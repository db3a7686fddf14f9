"""Devices: where arrays live. ``mx.cpu(0)`` is main memory; ``mx.gpu(i)`` is an NVIDIA GPU.

The CUDA part of a build, minimx._cuda, is loaded when a GPU is first asked for; until then, and where there is none,
nothing of CUDA is touched. ``Context`` is Gluon 1's name of a device, and ``ctx=`` the same as ``device=`` everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator
from typing import Any

from .config import settings
from .errors import ArgumentError, DeviceError
from .libraries import cuda_library_folders, import_core

_core = import_core()


class Device:
    """A device by kind ("cpu", "gpu") and number. Equal devices are equal and hash alike."""

    __slots__ = ("_hash", "device_id", "device_type")

    def __init__(self, device_type: str, device_id: int = 0):
        if isinstance(device_type, Device):
            device_type, device_id = device_type.device_type, device_type.device_id
        if device_type in ("cpu_pinned", "cpu_shared"):
            device_type = "cpu"
        if device_type not in ("cpu", "gpu"):
            raise DeviceError("Device", "kind 'cpu' or 'gpu'", repr(device_type), "Use mx.cpu() or mx.gpu(i)")
        self.device_type, self.device_id = device_type, int(device_id)
        self._hash = hash((device_type == "gpu", self.device_id))  # asked for often; the same in every process

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Device) and (self.device_type, self.device_id) == (other.device_type, other.device_id)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def empty_cache(self) -> None:
        """Gives memory that is kept for new arrays back to the system, or to a GPU's driver."""
        _core.empty_memory_cache(*checked(self, "empty_cache").key)

    @property
    def key(self) -> tuple[str, int]:
        """Kind and number."""
        return (self.device_type, self.device_id)

    def __enter__(self) -> Device:
        before = _core.current_device()
        _core.set_device(*checked(self, "with device").key)
        _outer().append(before)
        return self

    def __exit__(self, *_: object) -> None:
        _core.set_device(*_outer().pop())


Context = Device
_local = threading.local()


def _outer() -> list[tuple[str, int]]:
    """The devices that were current outside this thread's ``with device:`` blocks. The current one is _core's."""
    if not hasattr(_local, "outer"):
        _local.outer = []
    return _local.outer


@functools.cache
def known(device_type: str, device_id: int) -> Device:
    """The device, made once: they do not change."""
    return Device(device_type, device_id)


def cpu(device_id: int = 0) -> Device:
    """The CPU. Every number is the same memory; distinct numbers only let code for several devices run."""
    return known("cpu", device_id)


def gpu(device_id: int = 0) -> Device:
    """GPU number ``device_id``. Arrays on it need a build with CUDA."""
    return known("gpu", device_id)


cpu_pinned = cpu


def current_device() -> Device:
    """The device that new arrays go to: the innermost ``with device:``, else cpu(0). Inside an operator that is made of
    others, and in a traced graph or a walk back, it is that of its arrays.
    """
    return known(*_core.current_device())


current_context = current_device


@functools.cache
def cuda() -> Any:
    """The module minimx._cuda, ready for use. Raises DeviceError where this build or machine has none, saying why."""
    try:
        module = importlib.import_module("minimx._cuda")
    except ImportError as error:
        why = "one without" if getattr(error, "name", "") == "minimx._cuda" else str(error)
        way_out = 'Build with MINIMX_CUDA=on, and `pip install "minimx[cuda13]"`; or use mx.cpu()'
        raise DeviceError("gpu", "a build with the CUDA part (minimx._cuda)", why, way_out) from None
    module.set_library_folders([str(folder) for folder in cuda_library_folders()])
    _apply_library_settings(module)
    with contextlib.suppress(DeviceError):  # no driver: why_no_gpu() has its words
        if module.device_count():
            _core.set_gpu_backend(module.backend())
    return module


_library_settings = {"allow_tf32": False, "deterministic": True, "autotune": False}


def _apply_library_settings(module: Any) -> None:
    module.set_library_settings(**_library_settings, cache_folder=str(settings.cache_dir / "plans"))


def library_settings(**changes: bool) -> dict[str, bool]:
    """How cuDNN and cuBLASLt may compute on GPUs; returns what was set before. Operators heed a change at
    once; graphs keep what was set when they were compiled, so set it before the first step.

    allow_tf32: float32 products from 10-bit mantissas, some six times as fast (off: IEEE float32). deterministic: only
    algorithms that give the same bits every time, where there is one. autotune: time cuDNN's candidates for each
    convolution once, and what cuBLASLt does beside a product, and remember the fastest on disk. Raises ArgumentError
    for other names.
    """
    unknown = changes.keys() - _library_settings.keys()
    if unknown:
        raise ArgumentError("library_settings", f"some of {', '.join(_library_settings)}", sorted(unknown), "Use those")
    before = dict(_library_settings)
    _library_settings.update(changes)
    if _library_settings != before and num_gpus():
        _apply_library_settings(cuda())
        _core.renew_kernels()
    return before


@functools.cache
def why_no_gpu() -> str:
    """Why no GPU can be used, or an empty string."""
    try:
        return "" if cuda().device_count() else "the driver sees no GPU"
    except DeviceError as error:
        return str(error)


def num_gpus() -> int:
    """Number of GPUs that can be used: 0 where the build, the driver or the machine has none."""
    return 0 if why_no_gpu() else cuda().device_count()


def gpu_memory_info(device_id: int = 0) -> tuple[int, int]:
    """(free, total) bytes of GPU number ``device_id``, as its driver counts them. Raises DeviceError where there is
    none.
    """
    checked(gpu(device_id), "gpu_memory_info")
    free, total = cuda().memory(device_id)
    return free, total


def memory_info(device: Any = None) -> dict[str, int]:
    """Bytes that arrays on a device use, that are kept for new ones, and the peak of the former: ``used``, ``cached``,
    ``peak``.
    """
    return _core.memory_info(*checked(device, "memory_info").key)


def reset_peak_memory(device: Any = None) -> None:
    """The peak of ``memory_info`` starts anew from what is used now."""
    _core.reset_peak_memory(*checked(device, "reset_peak_memory").key)


def checked(device: Any, where: str = "array") -> Device:
    """``device`` (None: the current one) if it can be used, else DeviceError."""
    if device is None:
        return current_device()
    d = device if type(device) is Device else Device(device)
    if d.device_type == "gpu" and not 0 <= d.device_id < num_gpus():
        got = f"{d} of {num_gpus()}" if num_gpus() else f"{d}: {why_no_gpu()}"
        raise DeviceError(where, "a GPU that is here", got, "Use mx.gpu(0), or mx.cpu()")
    return d


@contextlib.contextmanager
def device_scope(device: Device) -> Iterator[Device]:
    """``with`` block in which new arrays go to ``device``."""
    with device as d:
        yield d
