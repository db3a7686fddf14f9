"""Memory shared between the loader and its workers: nameless files, so there is nothing to leak or to clean up.

A ``SharedFile`` is a memfd (or an unlinked temporary file); it lives as long as some process has it open, and the
kernel frees it even when every process is killed. The loader makes the files and hands descriptors to the workers.
``write_tree``/``read_tree`` move a batch through one: arrays into the file, the rest as a small message.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._bridge import is_mx, map_arrays

_ALIGN = 64  # bytes: one cache line


def open_nameless() -> int:
    """Descriptor of an empty file that has no name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("minimx-batch", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedFile:
    """A growable shared mapping over descriptor ``fd``, which it owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None

    def view(self, size: int) -> memoryview:
        """At least ``size`` bytes, growing the file where needed. Earlier views stay valid."""
        if self._map is None or len(self._map) < size:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, max(size, mmap.PAGESIZE))
            self._map = mmap.mmap(self.fd, 0)
        return memoryview(self._map)

    def close(self) -> None:
        """Close the descriptor and let go of the mapping; twice does no harm."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd, self._map = -1, None


@dataclass(frozen=True)
class _Place:
    """Stands in a message for an array that lies in the shared file."""

    offset: int
    shape: tuple[int, ...]
    dtype: Any


def _round_up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def write_tree(file: SharedFile, tree: Any) -> tuple[int, Any]:
    """Copy the arrays in ``tree`` into ``file``; gives the bytes used and ``tree`` with places instead of arrays."""
    arrays: list[np.ndarray] = []
    size = 0

    def place(array: Any) -> Any:
        nonlocal size
        array = array.asnumpy() if is_mx(array) else array
        if array.dtype.hasobject:
            return array  # travels in the message
        arrays.append(array)
        offset, size = size, size + _round_up(array.nbytes)
        return _Place(offset, array.shape, array.dtype)

    message = map_arrays(tree, place)
    view = file.view(size) if size else memoryview(b"")
    offset = 0
    for array in arrays:
        np.ndarray(array.shape, array.dtype, buffer=view, offset=offset)[...] = array
        offset += _round_up(array.nbytes)
    return size, message


def read_tree(file: SharedFile, size: int, message: Any, convert: Callable[[np.ndarray], Any]) -> Any:
    """The tree written by ``write_tree``, each array passed through ``convert``, which must copy it."""
    view = file.view(size) if size else memoryview(b"")

    def restore(node: Any) -> Any:
        if isinstance(node, _Place):
            return convert(np.ndarray(node.shape, node.dtype, buffer=view, offset=node.offset))
        if isinstance(node, dict):
            return {key: restore(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            items = [restore(value) for value in node]
            return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
        return node

    return restore(message)


def write_object(obj: Any) -> tuple[int, list[int]]:
    """Pickle ``obj`` into a new nameless file, its arrays outside the pickle; gives descriptor and the parts' sizes.

    All workers map the one file, so a dataset in memory is not copied for each of them.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(obj, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(b.raw() for b in buffers)]
    fd = open_nameless()
    offset = 0
    for part in parts:
        done = 0
        while done < part.nbytes:  # one write moves at most 2 GiB
            done += os.pwrite(fd, part[done:], offset + done)
        offset += _round_up(part.nbytes)
    os.ftruncate(fd, max(offset, 1))
    return fd, [part.nbytes for part in parts]


def read_object(fd: int, sizes: list[int]) -> Any:
    """The object of ``write_object``; closes ``fd``. Its arrays are views of the file, copied only where written to."""
    view = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_COPY))
    os.close(fd)
    offset, parts = 0, []
    for size in sizes:
        parts.append(view[offset : offset + size])
        offset += _round_up(size)
    return pickle.loads(parts[0], buffers=parts[1:])
