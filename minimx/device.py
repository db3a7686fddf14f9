"""Devices: where arrays live. ``mx.cpu(0)`` is main memory; ``mx.gpu(i)`` needs a build and a machine with a GPU.

``Context`` is Gluon 1's name of the same thing, and ``ctx=`` the same as ``device=`` everywhere.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from .errors import DeviceError


class Device:
    """A device by kind ("cpu", "gpu") and number. Equal devices are equal and hash alike."""

    __slots__ = ("device_id", "device_type")

    def __init__(self, device_type: str, device_id: int = 0):
        if isinstance(device_type, Device):
            device_type, device_id = device_type.device_type, device_type.device_id
        if device_type in ("cpu_pinned", "cpu_shared"):
            device_type = "cpu"
        if device_type not in ("cpu", "gpu"):
            raise DeviceError("Device", "kind 'cpu' or 'gpu'", repr(device_type), "Use mx.cpu() or mx.gpu(i)")
        self.device_type, self.device_id = device_type, int(device_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.device_type, self.device_id) == (other.device_type, other.device_id)

    def __hash__(self) -> int:
        return hash((self.device_type, self.device_id))

    def __repr__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    def empty_cache(self) -> None:
        """Gives memory that is kept for new arrays back to a GPU's driver; main memory's is the C library's own."""

    def __enter__(self) -> Device:
        _current().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current().pop()


Context = Device
_local = threading.local()


def _current() -> list[Device]:
    if not hasattr(_local, "stack"):
        _local.stack = [Device("cpu", 0)]
    return _local.stack


def cpu(device_id: int = 0) -> Device:
    """The CPU. Every number is the same memory; distinct numbers only let code for several devices run."""
    return Device("cpu", device_id)


def gpu(device_id: int = 0) -> Device:
    """GPU number ``device_id``. Arrays on it need a build with CUDA."""
    return Device("gpu", device_id)


cpu_pinned = cpu


def current_device() -> Device:
    """The device that new arrays go to: the innermost ``with device:``, else cpu(0)."""
    return _current()[-1]


current_context = current_device


def num_gpus() -> int:
    """Number of GPUs that this build can use: 0 for a CPU build."""
    return 0


def gpu_memory_info(device_id: int = 0) -> tuple[int, int]:
    """(free, total) bytes of GPU number ``device_id``. Raises DeviceError where this build has none."""
    raise DeviceError("gpu_memory_info", "a GPU of this build", gpu(device_id), "Install a build with CUDA")


def checked(device: Any, where: str = "array") -> Device:
    """``device`` (None: the current one) if this build has it, else DeviceError."""
    d = current_device() if device is None else Device(device)
    if d.device_type != "cpu":
        raise DeviceError(where, "a device of this build (cpu)", d, "Use mx.cpu(), or install a build with CUDA")
    return d


@contextlib.contextmanager
def device_scope(device: Device) -> Iterator[Device]:
    """``with`` block in which new arrays go to ``device``."""
    with device as d:
        yield d
