"""Friends on the GPU: CuPy, PyTorch, JAX and what else speaks DLPack or ``__cuda_array_interface__`` share our memory.

Who waits for whom: each library puts its work on streams of its own, and where an array changes hands the taker's
stream waits for the giver's. With DLPack nothing waits on the host; who takes ``__cuda_array_interface__`` (CuPy's
``asarray``, unless told otherwise by CUPY_CUDA_ARRAY_INTERFACE_SYNC=0) waits there for our stream. Work that another
library puts later on memory that both see is ordered only on the same stream: ``with interop.stream(mx.gpu(0)):`` puts
CuPy's work on ours. The host rows of the table run on CuPy this way, and CuPy takes its memory from us, so both use one
pool. The capsules themselves are csrc/bind/dlpack.cc; streams and events csrc/cuda/foreign.cc.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy

from . import device as _device
from .errors import ArgumentError, MissingExtra, NotSupported
from .libraries import import_core
from .ops.dtypes import BY_NAME
from .ops.kinds.host import result_type
from .ops.table import Spec

__all__ = ["cupy", "from_dlpack", "stream"]

_core = import_core()
_CPU, _GPU = 1, (2, 13)  # DLPack's device types: main memory; CUDA's own memory and its managed memory
_LEGACY_STREAM = 1  # CUDA's handle of the stream that libraries use if they use none


# ---- CuPy, its memory and its stream --------------------------------------------------------------------------------


@functools.cache
def cupy() -> Any:
    """The module cupy, with our allocator in use. Raises MissingExtra where it is not installed."""
    try:
        import cupy as module
    except ImportError as error:
        way_out = 'pip install "minimx[cuda13]" (or cuda12)'
        raise MissingExtra("gpu", "CuPy, which runs the rarer operators of a GPU", str(error), way_out) from None
    _device.cuda()
    module.cuda.set_allocator(_allocate)
    return module


class _Owner:
    """Memory of ours in CuPy's hands. When it comes back, our stream first waits for the one that it was used on."""

    def __init__(self, array: Any, device_id: int, their_stream: Any):
        self.array, self.device_id, self.their_stream = array, device_id, their_stream
        _device.cuda().make_stream_wait(device_id, their_stream.ptr)

    def __del__(self, cuda: Callable[[], Any] = _device.cuda) -> None:
        with contextlib.suppress(Exception):  # a lost device, or the end of the process
            cuda().wait_for_stream(self.device_id, self.their_stream.ptr)


def _owner(array: Any, device_id: int) -> Any:
    """What keeps ``array`` alive for CuPy's current stream: the array itself where that stream is ours."""
    current = cupy().cuda.get_current_stream()
    return array if current.ptr == _compute_stream(device_id) else _Owner(array, device_id, current)


class _Handle:
    """A stream by CUDA's stream protocol, which CuPy 14 asks for."""

    def __init__(self, address: int) -> None:
        self.address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.address)


def _as_cupy_stream(address: int, device_id: int) -> Any:
    """CuPy's object for a stream that is not its own."""
    cuda = cupy().cuda
    from_external = getattr(getattr(cuda, "Stream", None), "from_external", None)
    return from_external(_Handle(address)) if from_external else cuda.ExternalStream(address, device_id)


def _compute_stream(device_id: int) -> int:
    return _device.cuda().stream(device_id, "compute")


def _allocate(size: int) -> Any:
    """CuPy's allocator: blocks of our pool, in the order of CuPy's current stream."""
    cuda = cupy().cuda
    device_id = cuda.runtime.getDevice()
    block = _core.device_bytes(size, device_id)
    memory = cuda.UnownedMemory(_core.address(block), size, _owner(block, device_id), device_id)
    return cuda.MemoryPointer(memory, 0)


@contextlib.contextmanager
def stream(device: Any = None) -> Iterator[Any]:
    """``with`` block in which CuPy's work goes to a GPU's compute stream, between our operators, in program order.

    Gives the stream as CuPy's. Outside of it CuPy uses its own current stream: arrays may be exchanged, but what CuPy
    writes to an array of ours is only sure to be there after ``cupy.cuda.get_current_stream().synchronize()``.
    """
    home = _device.checked(_device.gpu(0) if device is None else device, "interop.stream")
    cuda = cupy().cuda
    ours = _as_cupy_stream(_compute_stream(home.device_id), home.device_id)
    with cuda.Device(home.device_id), ours:
        yield ours


def _cupy_array(address: int, shape: Sequence[int], dtype: Any, strides: Sequence[int], gpu: int, owner: Any) -> Any:
    """A cupy.ndarray over memory that is there; ``strides`` in bytes."""
    cuda = cupy().cuda
    memory = cuda.UnownedMemory(address, max(1, numpy.dtype(dtype).itemsize), owner, gpu)
    return cupy().ndarray(tuple(shape), dtype, cuda.MemoryPointer(memory, 0), tuple(strides))


def _numpy_type(name: str) -> Any:
    return numpy.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _view(x: Any, gpu: int) -> Any:
    """The array as CuPy's, for CuPy's current stream."""
    return _cupy_array(_core.address(x), x.shape, x.dtype, x.strides, gpu, _owner(x, gpu))


def _adopted(y: Any) -> Any:
    """An array of ours over that of CuPy, which was made on our stream; rare types become the next that we have."""
    cp = cupy()
    y = cp.asarray(y)
    if y.dtype.name not in BY_NAME:
        y = y.astype(result_type(y.dtype.name))
    strides = [s // y.itemsize for s in y.strides]
    return _core.borrow_device(y.data.ptr, list(y.shape), y.dtype.name, strides, y.device.id, y, False)


# ---- host rows ------------------------------------------------------------------------------------------------------

# What CuPy raises for what it lacks or will not do. Whatever it was: NumPy decides whether the call is right.
_NOT_ON_CUPY = (AttributeError, TypeError, ValueError, NotImplementedError, IndexError)


class CupyCall:
    """A host row as a kernel of a GPU: ``call(addresses, stream)`` puts the body's work on that stream and returns.

    The body runs on CuPy over the operands where they are. Where CuPy lacks what the body asks for (``linalg.eig`` of
    older versions, ``pinv`` of hermitian matrices), the call waits, runs on NumPy, and copies the results to the
    device; so do later calls of the same plan.
    """

    def __init__(
        self, row: Any, attrs: dict, present: Sequence[bool], ins: Sequence[Spec], outs: Sequence[Spec], gpu: int
    ):
        self.row, self.attrs, self.present, self.ins, self.outs, self.gpu = row, attrs, present, ins, outs, gpu
        self.on_host = False

    def __call__(self, addresses: Sequence[int], stream: int) -> None:
        cp = cupy()
        with cp.cuda.Device(self.gpu), _as_cupy_stream(stream, self.gpu):
            views = [self._operand(a, s) for a, s in zip(addresses, [*self.ins, *self.outs], strict=True)]
            given = iter(views[: len(self.ins)])
            arrays = [next(given) if there else None for there in self.present]
            for out, y in zip(views[len(self.ins) :], self._run(cp, arrays), strict=True):
                out[...] = y

    def _operand(self, address: int, s: Spec) -> Any:
        dtype = _numpy_type(s.dtype)
        if s.weak:  # a number, in main memory
            return cupy().asarray(numpy.frombuffer(ctypes.string_at(address, dtype.itemsize), dtype)[0])
        return _cupy_array(address, s.shape, dtype, [n * dtype.itemsize for n in s.strides], self.gpu, None)

    def _run(self, cp: Any, arrays: list) -> list:
        if not self.on_host:
            try:
                return self.row.run(cp, arrays, self.attrs)
            except _NOT_ON_CUPY:
                pass
        made = self.row.run(numpy, [a if a is None else cp.asnumpy(a) for a in arrays], self.attrs)
        self.on_host = True
        return [cp.asarray(y) for y in made]


def cupy_call(
    row: Any, attrs: dict, present: Sequence[bool], ins: Sequence[Spec], outs: Sequence[Spec], gpu: int
) -> Any:
    """The kernel of a host row on a GPU; CuPy is asked for when it first runs."""
    return CupyCall(row, attrs, present, ins, outs, gpu)


def run_dynamic(row: Any, operands: Sequence[Any], attrs: dict, gpu: int) -> Any:
    """The body of a dynamic host row on CuPy, which waits where the shape of the result asks for it. NotImplemented
    where CuPy is not there or cannot do it: then NumPy must.
    """
    if any(isinstance(x, _core.ndarray) and _core.dtype_name(x) == "bfloat16" for x in operands):
        return NotImplemented
    try:
        with stream(_device.gpu(gpu)):
            made = row.body(cupy(), *(_map(lambda x: _view(x, gpu), x) for x in operands), **attrs)
            return tuple(map(_adopted, made)) if isinstance(made, (tuple, list)) else _adopted(made)
    except (MissingExtra, *_NOT_ON_CUPY):
        return NotImplemented


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    if isinstance(x, _core.ndarray):
        return function(x)
    return type(x)(_map(function, v) for v in x) if isinstance(x, (list, tuple)) else x


# ---- what others ask an array of ours -------------------------------------------------------------------------------


def _gpu_of(x: Any, protocol: str) -> int:
    """Number of the array's GPU. AttributeError elsewhere, as if the array did not speak the protocol."""
    home = x.device
    if home.device_type != "gpu":
        raise AttributeError(f"ndarray.{protocol}: expected an array on a GPU, got one on {home}. Use to_device first.")
    return home.device_id


def cuda_array_interface(x: Any) -> dict[str, Any]:
    """``x.__cuda_array_interface__``, version 3: address, shape, strides in bytes, and the stream to wait for.

    https://nvidia.github.io/numba-cuda/user/cuda_array_interface.html
    """
    gpu = _gpu_of(x, "__cuda_array_interface__")
    _note_lent(x, gpu)
    if _core.dtype_name(x) == "bfloat16":
        raise AttributeError("ndarray.__cuda_array_interface__: expected a type of NumPy, got bfloat16. Use DLPack.")
    return {
        "shape": x.shape,
        "typestr": x.dtype.str,
        "data": (_core.address(x) if x.size else 0, False),
        "strides": None if _core.is_contiguous(x) else x.strides,
        "version": 3,
        "stream": _compute_stream(gpu),
    }


_lent: dict[int, tuple[Any, dict[int, Any]]] = {}  # by id: arrays given out by address, and the streams of the takers


def _note_lent(x: Any, gpu: int) -> None:
    """The protocol does not say where the taker works: CuPy's current stream, or CUDA's default one, is believed. Our
    stream waits for it before the memory of ``x``, which the taker keeps alive, is used again.
    """
    their_stream = sys.modules["cupy"].cuda.get_current_stream() if "cupy" in sys.modules else None
    handle = _LEGACY_STREAM if their_stream is None else their_stream.ptr
    key = id(x)
    _core.lend(x)
    if key not in _lent:
        _lent[key] = (weakref.ref(x, lambda _: _take_back(key, gpu)), {})
    _lent[key][1][handle] = their_stream  # which stays alive


def _take_back(key: int, gpu: int) -> None:
    for handle in _lent.pop(key)[1]:
        with contextlib.suppress(Exception):  # a lost device, or the end of the process
            _device.cuda().wait_for_stream(gpu, handle)


def cupy_getter(x: Any) -> Callable[[], Any]:
    """``x.__cupy_get_ndarray__``, for CuPy where no other protocol serves (bfloat16): only streams wait."""
    gpu = _gpu_of(x, "__cupy_get_ndarray__")
    return lambda: _view(x, gpu)


def dlpack_device(x: Any) -> tuple[int, int]:
    """``x.__dlpack_device__()``: (1, 0) for main memory, (2, i) for GPU i."""
    home = x.device
    return (_GPU[0], home.device_id) if home.device_type == "gpu" else (_CPU, 0)


def dlpack(
    x: Any,
    stream: int | None = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """``x.__dlpack__(...)``: a capsule over the memory of ``x``, as Python's array API standard has it.

    stream: where the caller will use it on a GPU: a handle of CUDA, 1 or None for the legacy default stream, 2 for the
    thread's own, -1 where the caller sees to the order itself. Raises BufferError where ``dl_device`` or ``copy``
    cannot be had.
    """
    here = dlpack_device(x)
    if dl_device is not None and tuple(dl_device) != here:
        if tuple(dl_device) != (_CPU, 0) or copy is False:
            raise BufferError(f"__dlpack__: expected dl_device {here}, or (1, 0) with a copy, got {dl_device}.")
        x, here = _core.to_device(x, "cpu", 0), (_CPU, 0)
    elif copy:
        x = x.copy()
    if here[0] == _CPU:
        return _core.to_dlpack(x, None, _versioned(max_version))
    if stream == 0:
        raise ArgumentError("__dlpack__", "stream 1 (legacy default), 2, -1 or a handle", 0, "Say which default stream")
    handle = None if stream == -1 else _LEGACY_STREAM if stream is None else int(stream)
    return _core.to_dlpack(x, handle, _versioned(max_version))


def _versioned(max_version: tuple[int, int] | None) -> bool:
    return max_version is not None and max_version[0] >= 1


# ---- what we ask arrays of others -----------------------------------------------------------------------------------


def on_gpu(x: Any) -> bool:
    """True for an array of another library that lies on a GPU."""
    if isinstance(x, (numpy.ndarray, list, tuple, int, float)):
        return False
    if hasattr(x, "__dlpack_device__"):
        return x.__dlpack_device__()[0] in _GPU
    return hasattr(x, "__cuda_array_interface__")


def from_dlpack(x: Any) -> Any:
    """An array of ours over the memory of ``x``, of whatever library. On a GPU our stream waits for what ``x`` comes
    from, and its memory is given back when our stream is through with it.

    Raises DTypeError for types that minimx lacks, BufferError where its library will not give it.
    """
    if not hasattr(x, "__dlpack_device__"):
        return from_dlpack(cupy().asarray(x))  # knows __cuda_array_interface__ only
    kind, number = x.__dlpack_device__()
    if kind not in _GPU:
        return _core.from_dlpack(_capsule(x))
    if number >= _device.num_gpus():
        raise NotSupported("from_dlpack", f"an array on one of {_device.num_gpus()} GPUs", f"GPU {number}", "Copy it")
    return _core.from_dlpack(_capsule(x, stream=_compute_stream(number)))


def _capsule(x: Any, **where: int) -> Any:
    """The capsule of ``x``, of version 1 where its library knows that."""
    try:
        return x.__dlpack__(max_version=(1, 0), **where)
    except TypeError:
        return x.__dlpack__(**where)
