"""The one seam between host-side code (data, metrics, images), which works on numpy arrays, and minimx arrays.

Nothing here imports the array library until an array has to be made, so data workers run on numpy alone. An array of
minimx is known by its ``asnumpy`` method; no class is imported to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy


def is_mx(x: Any) -> bool:
    """True for an array of minimx (``mx.np`` or ``mx.nd``), False for numpy arrays, lists and scalars."""
    return hasattr(x, "asnumpy")


def to_numpy(x: Any) -> numpy.ndarray:
    """``x`` as a numpy array: waits for a minimx array and copies it to the host, converts lists and scalars."""
    return numpy.asarray(x.asnumpy() if is_mx(x) else x)


def to_mx(x: numpy.ndarray, device: Any = None) -> Any:
    """A minimx array, on the CPU unless ``device`` says otherwise, with a copy of ``x``'s values and its type."""
    from minimx import cpu, np

    return np.array(x, dtype=x.dtype, device=cpu() if device is None else device)


def to_pinned(x: numpy.ndarray) -> Any:
    """As ``to_mx``, in pinned main memory: a copy from there to a GPU (``to_device``) runs beside everything else.

    Raises DeviceError where there is no GPU.
    """
    from minimx.device import cuda
    from minimx.ndarray import _core, dtype_name

    name, native = dtype_name(x.dtype), x.dtype.newbyteorder("=")
    memory = cuda().pinned(x.nbytes).view(native).reshape(x.shape)
    memory[...] = x
    return _core.borrow(memory, name, True)


def same_kind(like: Any, result: numpy.ndarray) -> Any:
    """``result`` as a minimx array beside ``like`` where that is one, else as it is."""
    return to_mx(result, like.device) if is_mx(like) else result


def map_arrays(tree: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply ``convert`` to every array in nested lists, tuples and dicts; other leaves stay."""
    if isinstance(tree, dict):
        return {key: map_arrays(value, convert) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [map_arrays(value, convert) for value in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return convert(tree) if isinstance(tree, numpy.ndarray) or is_mx(tree) else tree
