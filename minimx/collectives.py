"""What several devices of this process compute together: sums over their copies of arrays.

On GPUs it is NCCL's all-reduce on their communication streams (csrc/cuda/collectives.cc), all arrays in one call;
elsewhere, and where NCCL is missing, copies and additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import autograd
from .device import cuda
from .ndarray import _core

__all__ = ["sum_copies"]


def sum_copies(arrays: Sequence[Sequence[Any]]) -> None:
    """Puts the sum over its copies on every copy. ``arrays``: of each array its copies, one a device, alike in shape
    and type. Nothing is recorded. On GPUs the sum is the same bits everywhere.
    """
    several = [copies for copies in arrays if len(copies) > 1]
    if several and all(_on_gpus(copies) for copies in several) and cuda().nccl_version():
        by_devices: dict[tuple[int, ...], list] = {}
        for copies in several:
            by_devices.setdefault(tuple(x.device.device_id for x in copies), []).append(copies)
        for devices, group in by_devices.items():
            places = [(_core.dtype_name(c[0]), c[0].size, [_core.address(x) for x in c]) for c in group]
            cuda().sum_copies(list(devices), places)
            for x in (x for copies in group for x in copies):
                _core.wrote(x)
        return
    with autograd.pause():
        for copies in several:
            total = copies[0]
            for x in copies[1:]:
                total = total + x.to_device(total.device)
            for x in copies:
                x[...] = total.to_device(x.device)


def _on_gpus(copies: Sequence[Any]) -> bool:
    """True for contiguous copies on distinct GPUs."""
    devices = {x.device for x in copies}
    gpus = all(d.device_type == "gpu" for d in devices)
    return gpus and len(devices) == len(copies) and all(map(_core.is_contiguous, copies))
