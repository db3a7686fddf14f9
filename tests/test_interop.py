"""What interop.py does that can be seen without a GPU: DLPack on the CPU, and host rows on a CuPy that is NumPy.

The stand-in for CuPy looks at main memory by address, as CuPy does at a GPU's. The real one: tests/gpu/test_interop.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import types

import ml_dtypes
import numpy as np
import pytest
from table_cases import SAMPLES
from table_checks import samples

import minimx as mx
from minimx import interop
from minimx.errors import ArgumentError, DTypeError, MissingExtra
from minimx.ndarray import _core
from minimx.ops.kinds.host import Host
from minimx.ops.table import OPS, Spec

# ---- DLPack ---------------------------------------------------------------------------------------------------------


class Exporter:
    """An array of a library that is not NumPy, and knows DLPack before version 1 only."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize("name", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("wrap", [Exporter, mx.np.array, lambda a: a])
def test_dlpack_shares_memory(name, wrap):
    host = np.arange(12).reshape(3, 4).astype(name)
    x = wrap(host)
    y = mx.np.from_dlpack(x) if not isinstance(x, mx.np.ndarray) else np.from_dlpack(x)
    np.testing.assert_array_equal(np.asarray(y), host)
    back = np.from_dlpack(y[::-1, 1:]) if isinstance(y, mx.np.ndarray) else y[::-1, 1:]
    np.testing.assert_array_equal(back, host[::-1, 1:])
    y[0, 0] = 1
    assert np.asarray(x.array if isinstance(x, Exporter) else x)[0, 0] == 1


def test_dlpack_outlives_its_source():
    y = mx.np.from_dlpack(Exporter(np.arange(1000.0)))
    z = np.from_dlpack(mx.np.arange(1000))
    gc.collect()
    assert y.sum().item() == z.sum() == 499500


def test_dlpack_of_bfloat16():
    x = mx.np.array([1, 2], dtype="bfloat16")
    y = interop.from_dlpack(x)
    assert y.dtype == ml_dtypes.bfloat16 and mx.np.shares_memory(x, x)
    y[0] = 5
    assert x.asnumpy().astype(float).tolist() == [5, 2]


def test_dlpack_asks_for_what_there_is():
    x = mx.np.ones(2)
    assert x.__dlpack_device__() == (1, 0) and not hasattr(x, "__cuda_array_interface__")
    assert not hasattr(x, "__cupy_get_ndarray__")
    with pytest.raises(BufferError, match="dl_device"):
        x.__dlpack__(dl_device=(2, 0))
    y = np.from_dlpack(x, copy=True)
    y[0] = 7
    assert x[0] == 1
    with pytest.raises(DTypeError, match="minimx has"):
        mx.np.from_dlpack(Exporter(np.ones(2, "complex64")))
    capsule = x.__dlpack__()
    _core.from_dlpack(capsule)
    with pytest.raises(ArgumentError, match="nobody has used"):
        _core.from_dlpack(capsule)


def test_read_only_memory_stays_so():
    host = np.arange(3.0)
    host.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        mx.np.from_dlpack(host)[0] = 1


# ---- host rows ------------------------------------------------------------------------------------------------------


class Memory:
    def __init__(self, address, size, owner, device_id):
        self.address, self.owner = address, owner


def _ndarray(shape, dtype, pointer, strides):
    """A NumPy view of main memory by address."""
    dtype, low = np.dtype(dtype), sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s < 0)
    high = sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if s > 0) + dtype.itemsize
    block = (ctypes.c_char * (high - low)).from_address(pointer.address + low)
    return np.ndarray(shape, dtype, block, -low, strides)


def stand_in(**lacks):
    """CuPy as far as interop.py asks for it, over main memory. ``lacks``: functions of linalg that it has not."""
    used = []

    def put_on(stream, device_id):
        used.append(stream)
        return contextlib.nullcontext()

    cuda = types.SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(), ExternalStream=put_on, UnownedMemory=Memory,
        MemoryPointer=lambda memory, offset: memory,
    )  # fmt: skip
    linalg = types.SimpleNamespace(**{n: getattr(np.linalg, n) for n in dir(np.linalg) if n not in lacks})
    names = {n: getattr(np, n) for n in ("interp", "searchsorted", "asarray")}
    return types.SimpleNamespace(cuda=cuda, ndarray=_ndarray, linalg=linalg, asnumpy=np.asarray, used=used, **names)


STATIC = [
    n for n, row in OPS.items() if isinstance(row, Host) and not row.dynamic and (row.row.samples or n in SAMPLES)
]


def run(name, cp, monkeypatch):
    """Each sample call of a host row through CupyCall, against the row on NumPy; returns the calls."""
    monkeypatch.setattr(interop, "cupy", lambda: cp)
    row, calls = OPS[name], []
    for operands, attrs in samples(name, "float32"):
        given = [np.ascontiguousarray(x) for x in operands]
        specs = [Spec(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides)) for x in given]
        attrs = {p.name: p.default for p in row.attributes} | attrs
        want = row.run(np, given, attrs)
        outs = [np.full_like(y, 77, order="C") for y in want]
        out_specs = [Spec(y.shape, y.dtype.name, tuple(s // y.itemsize for s in y.strides)) for y in outs]
        call = interop.cupy_call(row, attrs, [True] * len(given), specs, out_specs, 0)
        call([x.ctypes.data for x in [*given, *outs]], 42)
        for got, y in zip(outs, want, strict=True):
            np.testing.assert_array_equal(got, y)
        calls.append(call)
    return calls


@pytest.mark.parametrize("name", STATIC)
def test_host_rows(name, monkeypatch):
    cp = stand_in()
    calls = run(name, cp, monkeypatch)
    assert calls and not any(c.on_host for c in calls) and set(cp.used) == {42}


def test_what_cupy_lacks_runs_on_the_host(monkeypatch):
    (call,) = run("inv", stand_in(inv=True), monkeypatch)[:1]
    assert call.on_host


def test_absent_operands_and_numbers(monkeypatch):
    monkeypatch.setattr(interop, "cupy", stand_in)
    row = types.SimpleNamespace(run=lambda xp, arrays, attrs: [arrays[0] * arrays[2] + (arrays[1] is None)])
    x, number, out = np.arange(3.0), np.array(2.5), np.zeros(3)
    here = Spec((3,), "float64", (1,))
    call = interop.cupy_call(row, {}, [True, False, True], [here, Spec((), "float64", (), True)], [here], 0)
    call([x.ctypes.data, number.ctypes.data, out.ctypes.data], 1)
    assert out.tolist() == [1, 3.5, 6]


def test_an_error_of_the_call_is_the_users(monkeypatch):
    monkeypatch.setattr(interop, "cupy", stand_in)
    singular, out = np.zeros((2, 2)), np.zeros((2, 2))
    here = Spec((2, 2), "float64", (2, 1))
    call = interop.cupy_call(OPS["inv"], {}, [True], [here], [here], 0)
    with pytest.raises(np.linalg.LinAlgError):
        call([singular.ctypes.data, out.ctypes.data], 1)
    assert not call.on_host


def test_missing_cupy_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(MissingExtra, match=r"minimx\[cuda13\]"):
        interop.cupy.__wrapped__()
