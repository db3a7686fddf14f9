"""What several devices of this process compute together: sums over their copies of arrays.

On GPUs it is NCCL's all-reduce on their communication streams (csrc/cuda/collectives.cc), all arrays in one call;
elsewhere, and where NCCL is missing, copies and additions. How those streams stand to the compute streams, and what a
profile shows of it: ``communicate`` in csrc/runtime/backend.cc.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from . import autograd, np
from .device import cuda
from .ndarray import _core

__all__ = ["Sums", "sum_copies"]


def sum_copies(arrays: Sequence[Sequence[Any]]) -> None:
    """Puts the sum over its copies on every copy. ``arrays``: of each array its copies, one a device, alike in shape
    and type. Nothing is recorded. On GPUs the sum is the same bits everywhere.
    """
    several = [copies for copies in arrays if len(copies) > 1]
    if not _by_nccl(several):
        with autograd.pause():
            for copies in several:
                for x, total in zip(copies, _added(copies), strict=True):
                    x[...] = total
        return
    for devices in _begun(several, several):
        _core.join_communication(devices)
    for x in (x for copies in several for x in copies):
        _core.wrote(x)


class Sums:
    """Sums over copies that have begun: on GPUs they run beside what is put on the compute streams from now on.

    ``arrays`` as for ``sum_copies``; they stay as they are. Whoever wants the sums calls ``wait`` first, which does not
    hold up the host. ``unchanged``: nobody has written to the arrays since.
    """

    def __init__(self, arrays: Sequence[Sequence[Any]]) -> None:
        self._devices: list[list[int]] = []
        self.sums: list[list[Any]] = []
        self._arrays, self._versions = arrays, self._now(arrays)
        with autograd.pause():
            if _by_nccl(arrays):
                self.sums = [[np.empty_like(x) for x in copies] for copies in arrays]
                self._devices = _begun(arrays, self.sums)
            else:
                self.sums = [_added(copies) for copies in arrays]

    @staticmethod
    def _now(arrays: Sequence[Sequence[Any]]) -> bytes | None:
        return _core.versions([x for copies in arrays for x in copies])

    @property
    def unchanged(self) -> bool:
        """False also where another library sees the memory."""
        return self._versions is not None and self._versions == self._now(self._arrays)

    def wait(self) -> list[list[Any]]:
        """The sums on every device, for work that is put there later."""
        for devices in self._devices:
            _core.join_communication(devices)
        self._devices, self._arrays = [], []
        return self.sums

    def __del__(self) -> None:
        self.wait()  # before the memory is used for something else


def _begun(arrays: Sequence[Sequence[Any]], sums: Sequence[Sequence[Any]]) -> list[list[int]]:
    """Begins to sum ``arrays`` into ``sums``, in a call of NCCL for each set of devices. Those sets."""
    by_devices: dict[tuple[int, ...], list] = {}
    for copies, totals in zip(arrays, sums, strict=True):
        by_devices.setdefault(tuple(x.device.device_id for x in copies), []).append((copies, totals))
    for devices, group in by_devices.items():
        places = [
            (_core.dtype_name(c[0]), c[0].size, [_core.address(x) for x in c], [_core.address(x) for x in t])
            for c, t in group
        ]
        size = sum(copies[0].nbytes for copies, _ in group)
        begin = functools.partial(cuda().sum_copies, list(devices), places)
        _core.communicate(devices, "all-reduce", size, begin)
    return [list(devices) for devices in by_devices]


def _added(copies: Sequence[Any]) -> list[Any]:
    """The sum, made on the first device, as a new array on each."""
    total = copies[0]
    for x in copies[1:]:
        total = total + x.to_device(total.device)
    return [total, *(total.copyto(x.device) for x in copies[1:])]


def _by_nccl(arrays: Sequence[Sequence[Any]]) -> bool:
    return bool(arrays) and all(map(_on_gpus, arrays)) and bool(cuda().nccl_version())


def _on_gpus(copies: Sequence[Any]) -> bool:
    """True for contiguous copies on distinct GPUs."""
    devices = {x.device for x in copies}
    gpus = all(d.device_type == "gpu" for d in devices)
    return gpus and len(devices) == len(copies) and all(map(_core.is_contiguous, copies))
