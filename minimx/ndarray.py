"""The array: what Python adds to the C type ``ndarray`` of minimx._core. Conversions, NumPy's protocols, printing,
methods.

Operators and indexing are slots in C++ (csrc/bind/ndarray.cc); functions come from the table (minimx/functions.py). An
array is asynchronous: an operator returns at once, and whoever reads the values waits for them.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy

from . import device as _device
from . import errors, interop
from .libraries import import_core
from .ops.dtypes import BY_NAME, DTYPES
from .ops.keys import canonical_key
from .ops.table import f

_core = import_core()
if TYPE_CHECKING:
    from ._core import ndarray
else:
    ndarray = _core.ndarray
NUMPY_DTYPES = tuple(numpy.dtype(ml_dtypes.bfloat16 if d.name == "bfloat16" else d.name) for d in DTYPES)
_names: dict[Any, str] = {}  # what dtype_name has found: NumPy takes a microsecond to name a type
_RARE = {"uint16": "int32", "uint32": "int64", "uint64": "int64", "float128": "float64", "longdouble": "float64"}


def dtype_name(dtype: Any, default: str = "float32") -> str:
    """Name of an element type given as a string, NumPy type, dtype or Python type; DTypeError if minimx lacks it."""
    if dtype is None:
        return default
    try:
        return _names[dtype]
    except (KeyError, TypeError):  # unknown yet, or unhashable
        pass
    name = {float: "float32", int: "int64", bool: "bool"}.get(dtype) or getattr(dtype, "name", None) or str(dtype)
    if name not in BY_NAME:
        try:
            name = numpy.dtype(dtype).name
        except TypeError:
            pass
    if name not in BY_NAME:
        raise errors.DTypeError("dtype", "one of " + ", ".join(BY_NAME), repr(dtype), "Cast the data first")
    if isinstance(dtype, (str, type, numpy.dtype)):
        _names[dtype] = name
    return name


def array(obj: Any, dtype: Any = None, device: Any = None, ctx: Any = None, copy: bool = True) -> ndarray:
    """A new array with the values of ``obj`` (numbers, nested lists, arrays of minimx, NumPy or other libraries).

    dtype: by default that of ``obj`` if it is an array, else float32 (integers and bools of Python: float32 too, as
    in Gluon). device: by default that of an array of minimx or on a GPU, else the current one. Raises ShapeError for
    ragged lists, DTypeError for other objects.

    >>> array([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    wanted = device if device is not None else ctx
    named = None if dtype is None else dtype_name(dtype)
    home = None if wanted is None else _device.checked(wanted, "np.array")
    made = _core.plain_array(obj, named, None if home is None else home.key)
    if made is not None:
        return made
    if not isinstance(obj, ndarray) and interop.on_gpu(obj):
        obj = interop.from_dlpack(obj)
    if isinstance(obj, ndarray):
        made = f.copy(obj) if named in (None, _core.dtype_name(obj)) else f.cast(obj, named)
        return made if home is None else placed(made, home)
    typed = hasattr(obj, "dtype")
    host = _to_numpy(obj)
    name = named or (_own_type(host.dtype) if typed else "float32")
    own = numpy.array(host, dtype=NUMPY_DTYPES[BY_NAME[name].code], order="C")
    return placed(_core.borrow(own, name, alone=True), home or _device.current_device())


def placed(x: Any, home: _device.Device) -> Any:
    """A new array, on the device that it was asked for."""
    return _core.to_device(x, *home.key, True)


def asarray(obj: Any, dtype: Any = None, device: Any = None, ctx: Any = None) -> ndarray:
    """``obj`` as an array; no copy if it is one of that type and on that device already, and none of the memory of
    another library's array where possible. What it is made of on the host goes to the current device.
    """
    if not isinstance(obj, ndarray) and interop.on_gpu(obj):
        obj = interop.from_dlpack(obj)
    wanted = device if device is not None else ctx
    if isinstance(obj, ndarray) and (dtype is None or dtype_name(dtype) == _core.dtype_name(obj)):
        return obj if wanted is None else to_device(obj, wanted)
    home = _device.checked(wanted, "np.asarray")
    if home.device_type == "gpu":
        return array(obj, dtype, wanted)
    if isinstance(obj, numpy.ndarray) and dtype is None and obj.dtype in NUMPY_DTYPES:
        if all(s % obj.itemsize == 0 for s in obj.strides):
            return placed(_core.borrow(obj, dtype_name(obj.dtype)), home)
    return array(obj, dtype, device, ctx)


def from_dlpack(x: Any, device: Any = None, copy: bool | None = None) -> ndarray:
    """The array of another library (anything with ``__dlpack__``) over the same memory; with ``copy=True`` over its
    own.

    >>> from_dlpack(numpy.arange(3.0)).dtype
    dtype('float64')
    """
    if isinstance(x, ndarray):
        y = f.copy(x) if copy else x
    elif isinstance(x, numpy.ndarray):
        y = array(x) if copy else asarray(x)
    else:
        y = f.copy(interop.from_dlpack(x)) if copy else interop.from_dlpack(x)
    return y if device is None else to_device(y, device)


def shares_memory(a: ndarray, b: ndarray) -> bool:
    """True if both arrays look at one block of memory."""
    return _core.shares_memory(a, b)


def _to_numpy(obj: Any) -> numpy.ndarray:
    if isinstance(obj, (list, tuple)) and ndarray in map(type, obj):
        obj = [x.asnumpy() if isinstance(x, ndarray) else x for x in obj]
    try:
        host = numpy.asarray(obj)
    except ValueError as e:
        raise errors.ShapeError("np.array", "nested lists of equal lengths", str(e), "Pad them to one length") from None
    if host.dtype.kind not in "buif" and host.dtype.name != "bfloat16":
        raise errors.DTypeError(
            "np.array", "numbers", f"{type(obj).__name__} ({host.dtype})", "Convert to numbers first"
        )
    return host


@functools.cache
def _own_type(dtype: numpy.dtype) -> str:
    """The type of the table for NumPy's; its rarer ones become the next that holds them."""
    return _RARE.get(dtype.name, dtype.name)


def _operand(obj: Any, strict: bool) -> Any:
    """What an operator makes of an argument that is neither array nor Python number. NotImplemented lets Python go
    on.
    """
    if isinstance(obj, numpy.generic):
        return array(obj)
    if isinstance(obj, numpy.ndarray) or interop.on_gpu(obj):
        return asarray(obj)
    if isinstance(obj, (list, tuple)):
        return array(obj)
    if isinstance(obj, numbers.Integral):
        return array(int(obj), "int64")
    if isinstance(obj, numbers.Real):
        return array(float(obj), "float32")
    if hasattr(obj, "__array__") or hasattr(obj, "__dlpack__"):
        return array(numpy.asarray(obj))
    if not strict:
        return NotImplemented
    raise errors.ArgumentTypeError(
        "operator", "an array, a number or a list", type(obj).__name__, "Convert it with np.array"
    )


def _index_get(x: ndarray, key: Any) -> ndarray:
    basic = canonical_key(key)
    return f.index_get(x, _beside(x, key)) if basic is None else f.getitem(x, basic)


def _beside(x: ndarray, key: Any) -> Any:
    """A key whose arrays are where the indexed array is."""
    home = x.device
    if home.device_type == "cpu" or x._traced:
        return key
    return _map(lambda k: k if k._traced else _core.to_device(k, *home.key), key)


def _index_set(x: ndarray, key: Any, value: Any) -> None:
    if not isinstance(value, (ndarray, float, int)):
        value = asarray(value)
    if isinstance(value, ndarray) and not x._traced and not value._traced and value.device != x.device:
        value = _move(value, x.device, False)
    if isinstance(value, ndarray) and (_core.is_tracing() or _core.shares_memory(x, value)):
        _core.wrote_through(x, value)  # y[:1] *= 10 ends in y[:1] = view
    basic = canonical_key(key)
    if basic == (...,) or (basic == ((None, None, None),) and x.ndim):
        value = value if isinstance(value, ndarray) else array(value, x.dtype, x.device)
        changed = value if value.shape == x.shape else f.broadcast_to(value, x.shape)
    else:
        changed = f.index_set(x, _beside(x, key), value) if basic is None else f.slice_set(x, value, basic)
    f.copy(changed, out=x)


def _repr(x: ndarray) -> str:
    if x._traced:
        return f"<traced array {x.shape} {_core.dtype_name(x)}>"
    text = numpy.array2string(
        x.asnumpy().astype("float32" if _core.dtype_name(x) in ("bfloat16", "float16") else x.dtype),
        separator=", ",
        prefix="array(",
    )
    extra = "" if _core.dtype_name(x) in ("float32", "bool") else f", dtype={_core.dtype_name(x)}"
    extra += f", device={x.device}" if x.device.device_type == "gpu" else ""
    if x.size == 0 and x.shape != (0,):
        extra = f", shape={x.shape}{extra}"
    return f"array({text}{extra})"


def _str(x: ndarray) -> str:
    return repr(x) if x._traced else str(x.asnumpy())


def _contains(self: ndarray, value: Any) -> bool:
    return bool(f.any(f.equal(self, value)))


def _canonical(value: Any) -> Any:
    """An attribute in a form that can be a dictionary key: tuples for lists, names for types, Python numbers."""
    if isinstance(value, (list, tuple)):
        return tuple(_canonical(v) for v in value)
    if isinstance(value, slice):
        return (value.start, value.stop, value.step)
    if isinstance(value, (numpy.dtype, type)):
        return dtype_name(value)
    if isinstance(value, (numpy.generic, ndarray)):
        return value.item()
    if isinstance(value, numpy.ndarray):
        return tuple(value.tolist())
    if value is Ellipsis or value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, _device.Device):
        return repr(_device.checked(value))
    raise errors.ArgumentTypeError(
        "operator", "an attribute of numbers, strings or lists of them", type(value).__name__, "Pass arrays as operands"
    )


def _host_call(row: Any, attrs: dict, present: list[bool]) -> Callable:
    """A host row as a kernel: fills NumPy views of the outputs."""

    def run(ins: list, outs: list) -> None:
        left = iter(ins)
        arrays = [next(left) if p else None for p in present]
        for out, y in zip(outs, row.run(numpy, arrays, attrs), strict=True):
            out[...] = y

    return run


def _device_kernel(name: str, ins: list, outs: list, attrs: dict, device_id: int) -> Any:
    """The kernel of a GPU."""
    from .rtc.cuda import kernel_for

    return kernel_for(name, ins, outs, attrs, device_id)


def _device_host_call(row: Any, attrs: dict, present: list[bool], ins: list, outs: list, device_id: int) -> Callable:
    """A host row as a kernel of a GPU: a callable of (addresses, stream) that runs it on CuPy."""
    from .interop import cupy_call

    return cupy_call(row, attrs, present, ins, outs, device_id)


_core.set_hooks(
    {
        "asarray": _operand,
        "index_get": _index_get,
        "index_set": _index_set,
        "repr": _repr,
        "dtypes": NUMPY_DTYPES,
        "canonical": _canonical,
        "device": _device.known,
        "errors": errors,
        "host_call": _host_call,
        "device_kernel": _device_kernel,
        "device_host_call": _device_host_call,
    }
)


# ---- methods that are not operators
# -------------------------------------------------------------------------------------

_REQ = {"null": 0, "write": 1, "add": 2}


def attach_grad(self: ndarray, grad_req: str = "write", stype: Any = None) -> None:
    """Makes this array a variable: backward() puts its gradient in ``grad`` ("write"), adds it ("add") or not
    ("null").
    """
    if grad_req not in _REQ:
        raise errors.ArgumentError(
            "attach_grad", "grad_req 'write', 'add' or 'null'", repr(grad_req), "Use one of them"
        )
    _core.attach_grad(self, _REQ[grad_req], f.zeros_like(_core.detach(self)) if grad_req != "null" else None)


def backward(
    self: ndarray, out_grad: Any = None, retain_graph: bool = False, train_mode: bool = True, create_graph: bool = False
) -> None:
    """Gradients of this array with respect to the variables it was computed from; ``out_grad`` defaults to ones."""
    grads = None if out_grad is None else [out_grad]
    _core.backward(self, grads, (), retain_graph, create_graph, train_mode)


def copyto(self: ndarray, other: Any) -> ndarray:
    """Copies the elements into ``other``, an array of the same shape, or to a device (a new array there)."""
    if isinstance(other, ndarray):
        noted = _core.is_tracing() or (_core.is_recording() and self.device == other.device)
        if noted and self.shape == other.shape:
            name = _core.dtype_name(other)
            f.copy(self if _core.dtype_name(self) == name else f.cast(self, name), out=other)
        else:
            _core.copy_into(self, other)
        return other
    return _move(self, _device.checked(other, "copyto"), True)


def _move(x: ndarray, home: _device.Device, copy: bool) -> ndarray:
    """A copy on another device, whose gradient travels back."""
    here = x.device
    if here.device_type == home.device_type == "cpu" or (copy and here == home):
        return placed(f.copy(x), home)
    if x._traced:
        way_out = "Move arrays before the hybridized code"
        raise errors.GraphError("to_device", "one device while a graph is traced", f"{here} and {home}", way_out)
    made = _core.to_device(x, *home.key, beside=True)
    if _core.is_recording() and _core.on_tape(x):
        _core.record_python("to_device", lambda gs: [to_device(g, here) for g in gs], [x], [made])
    return made


def to_device(self: ndarray, device: Any) -> ndarray:
    """This array if it is on that device, else a copy there."""
    home = _device.checked(device, "to_device")
    return self if self.device == home else _move(self, home, False)


def astype(
    self: ndarray, dtype: Any, copy: bool = True, order: str = "K", casting: str = "unsafe", subok: bool = True
) -> ndarray:
    """The elements converted to another type; with ``copy=False`` the array itself if it has that type."""
    name = dtype_name(dtype)
    if name == _core.dtype_name(self):
        return f.copy(self) if copy else self
    return f.cast(self, name)


def zero_grad(self: ndarray) -> None:
    """Fills the gradient with zeros."""
    if self.grad is not None:
        self.grad[...] = 0


def drop_grad(self: ndarray) -> None:
    """The reverse of attach_grad: this array is no variable any more, and its gradient is given up."""
    _core.attach_grad(self, _REQ["null"], None)


def asscalar(self: ndarray) -> Any:
    """The one element as a Python number, as ``item``."""
    return self.item()


def tolist(self: ndarray) -> Any:
    """The elements as nested lists of Python numbers; a zero-dimensional array gives one number."""
    return self.asnumpy().tolist()


def tobytes(self: ndarray) -> bytes:
    """The elements in C order, as they lie in memory."""
    return self.asnumpy().tobytes()


def _matrix_transpose(self: ndarray) -> ndarray:
    """The last two axes exchanged."""
    return f.swapaxes(self, -1, -2)


def _transposed(self: ndarray) -> ndarray:
    """The axes reversed."""
    return f.transpose(self)


def _nbytes(self: ndarray) -> int:
    """Bytes that the elements take."""
    return self.size * self.itemsize


def _stype(self: ndarray) -> str:
    """Always "default": arrays are dense."""
    return "default"


def _fresh_grad(self: ndarray) -> bool:
    """True if backward() has written the gradient since attach_grad, or since a Trainer took it."""
    return _core.fresh_grads([self]) is None


def _array_protocol(self: ndarray, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
    """NumPy sees the same memory unless a copy or another type is asked for."""
    if self.device.device_type == "gpu":
        host = self.asnumpy()
    elif _core.dtype_name(self) == "bfloat16":
        host = numpy.asarray(memoryview(_core.bits(self))).view(ml_dtypes.bfloat16)
    else:
        host = numpy.asarray(memoryview(self))
    if dtype is not None and host.dtype != dtype:
        return host.astype(dtype)
    return host.copy() if copy else host


def _array_ufunc(self: ndarray, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """numpy.add(x, y) on minimx arrays stays in minimx where it has the function."""
    from . import np

    mine = getattr(np, ufunc.__name__, None)
    if method != "__call__" or mine is None:
        host = [a.asnumpy() if isinstance(a, ndarray) else a for a in args]
        return array(getattr(ufunc, method)(*host, **kwargs), device=self.device)
    return mine(*args, **kwargs)


def _array_function(self: ndarray, func: Any, types: Any, args: tuple, kwargs: dict) -> Any:
    from . import np

    mine = getattr(np, func.__name__, None)
    if mine is not None and func.__module__ == "numpy":
        return mine(*args, **kwargs)
    plain = [_map(ndarray.asnumpy, a) for a in args]
    return func(*plain, **{k: _map(ndarray.asnumpy, v) for k, v in kwargs.items()})


def _map(function: Callable, x: Any) -> Any:
    if isinstance(x, ndarray):
        return function(x)
    return type(x)(_map(function, v) for v in x) if isinstance(x, (list, tuple)) else x


def _rebuild(host: numpy.ndarray, kind: str = "cpu", number: int = 0) -> ndarray:
    """An array from its pickle: on the device where it was, or on the CPU where there is no such device."""
    there = kind == "cpu" or number < _device.num_gpus()
    return array(host, device=_device.Device(kind, number) if there else _device.cpu())


def _reshape(self: ndarray, *shape: Any, order: str = "C") -> ndarray:
    """The same elements in another shape: ``x.reshape(2, -1)`` or ``x.reshape((2, -1))``."""
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return f.reshape(self, wanted)


def _transpose(self: ndarray, *axes: Any) -> ndarray:
    """Axes reversed, or in the given order."""
    order = axes[0] if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], (tuple, list))) else axes
    return f.transpose(self, order or None)


def _iterate(self: ndarray) -> Any:
    return (self[i] for i in range(len(self)))


def _detach(self: ndarray) -> ndarray:
    """The same elements, off the tape."""
    return f.stop_gradient(self) if self._traced else _core.detach(self)


def _as_self(self: ndarray) -> ndarray:
    """This array: there is one array type."""
    return self


_METHODS: dict[str, Any] = {
    "attach_grad": attach_grad,
    "backward": backward,
    "copyto": copyto,
    "to_device": to_device,
    "as_in_ctx": to_device,
    "as_in_context": to_device,
    "as_in_device": to_device,
    "astype": astype,
    "detach": _detach,
    "zero_grad": zero_grad,
    "__array__": _array_protocol,
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
    "__dlpack__": interop.dlpack,
    "__dlpack_device__": interop.dlpack_device,
    "__cuda_array_interface__": property(interop.cuda_array_interface),
    "__cupy_get_ndarray__": property(interop.cupy_getter),
    "reshape": _reshape,
    "transpose": _transpose,
    "__iter__": _iterate,
    "asscalar": asscalar,
    "drop_grad": drop_grad,
    "tolist": tolist,
    "__str__": _str,
    "__contains__": _contains,
    "as_np_ndarray": _as_self,
    "as_nd_ndarray": _as_self,
    "__reduce__": lambda self: (_rebuild, (self.asnumpy(), *self.device.key)),
    "__deepcopy__": lambda self, memo: f.copy(self),
    "__copy__": lambda self: f.copy(self),
    "tobytes": tobytes,
    "__format__": lambda self, spec: format(self.item(), spec) if spec else repr(self),
    "T": property(_transposed),
    "mT": property(_matrix_transpose),
    "stype": property(_stype),
    "nbytes": property(_nbytes),
    "fresh_grad": property(_fresh_grad),
}


def set_methods(methods: dict[str, Any] | Sequence) -> None:
    """Adds methods to the array type; the table's come through here too."""
    for name, function in dict(methods).items():
        setattr(ndarray, name, function)


set_methods(_METHODS)
