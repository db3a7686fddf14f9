"""Friends on the GPU: CuPy, PyTorch and JAX see our memory and we theirs, in order, and host rows run on CuPy."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pytest
from table_cases import SAMPLES
from table_checks import close, samples, to_numpy, tolerance

import minimx as mx
from minimx import interop
from minimx.ndarray import _core
from minimx.ops.kinds.host import Host
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")

TYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
MANY = 1 << 24  # elements: enough that work on them takes a while


def ones(*shape, **how):
    return mx.np.ones(shape, device=mx.gpu(0), **how)


# ---- CuPy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
def test_cupy_shares_memory(dtype):
    x = mx.np.arange(12, device=mx.gpu(0)).reshape(3, 4).astype(dtype)
    view = cupy.asarray(x[::-1, 1:])
    assert view.dtype == dtype and view.data.ptr == _core.address(x[::-1, 1:])
    np.testing.assert_array_equal(cupy.asnumpy(view), x.asnumpy()[::-1, 1:])
    back = mx.np.asarray(view)
    assert back.device == mx.gpu(0) and back.dtype == dtype
    with interop.stream(mx.gpu(0)):
        view[...] = 1
    assert (x.asnumpy()[:, 1:] == 1).all() and (back.asnumpy() == 1).all()


def test_cuda_array_interface():
    x = ones(3, 4)
    said = x.T.__cuda_array_interface__
    assert said["shape"] == (4, 3) and said["strides"] == (4, 16) and said["version"] == 3
    assert said["data"] == (_core.address(x), False) and said["stream"] == mx.device.cuda().stream(0, "compute")
    assert x.__cuda_array_interface__["strides"] is None
    assert not hasattr(x.astype("bfloat16"), "__cuda_array_interface__") and not hasattr(
        mx.np.ones(1), "__cuda_array_interface__"
    )


class InterfaceOnly:
    """An array that knows nothing but __cuda_array_interface__."""

    def __init__(self, array):
        self.__cuda_array_interface__, self.array = array.__cuda_array_interface__, array


def test_takes_the_interface():
    theirs = cupy.arange(6, dtype="float32").reshape(2, 3)
    ours = mx.np.asarray(InterfaceOnly(theirs))
    assert ours.asnumpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert _core.address(ours) == theirs.data.ptr


def test_makers_take_arrays_of_others():
    theirs = cupy.arange(4, dtype="float32")
    for make in (mx.np.asarray, mx.np.from_dlpack):
        assert _core.address(make(theirs)) == theirs.data.ptr
    for y in (mx.np.array(theirs), mx.np.from_dlpack(theirs, copy=True)):
        assert y.device == mx.gpu(0) and _core.address(y) != theirs.data.ptr
    assert mx.np.array(theirs, device=mx.cpu()).device == mx.cpu()
    assert mx.np.from_dlpack(theirs, device=mx.cpu()).asnumpy().tolist() == [0, 1, 2, 3]
    assert (ones(4) + theirs).asnumpy().tolist() == [1, 2, 3, 4]


def test_cupy_waits_for_us_and_we_for_cupy():
    """Long work on one side, a read on the other: ten times, on CuPy's default stream and on one of its own."""
    for theirs in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with theirs:
            for i in range(10):
                x = ones(MANY)
                for _ in range(10):
                    x = x * 1.0 + 1.0
                y = cupy.asarray(x) + i
                for _ in range(10):
                    y = y + 1
                z = mx.np.asarray(y) - 1.0
                del x, y
                assert z.min().item() == z.max().item() == 20 + i


def test_memory_comes_from_our_pool():
    interop.cupy()
    before = mx.device.memory_info(mx.gpu(0))["used"]
    block = cupy.zeros(1 << 20, dtype="float32")
    assert mx.device.memory_info(mx.gpu(0))["used"] - before >= 4 << 20
    del block
    assert mx.device.memory_info(mx.gpu(0))["used"] <= before + 4096


def test_memory_is_not_reused_too_early():
    """What CuPy has dropped while its stream still works on it is not given to an operator of ours before."""
    with cupy.cuda.Stream(non_blocking=True):
        for i in range(20):
            slow = cupy.ones(MANY, dtype="float32")
            for _ in range(5):
                cupy.multiply(slow, 1, out=slow)
            kept = slow + i
            del slow
            garbage = mx.np.full((MANY,), -1.0, device=mx.gpu(0))
            assert float(kept.min()) == float(kept.max()) == 1 + i
            del garbage, kept


def test_address_in_other_hands():
    """The same for memory of ours that CuPy got by address, whose owner is the array."""
    with cupy.cuda.Stream(non_blocking=True):
        for i in range(20):
            theirs = cupy.asarray(mx.np.full((MANY,), float(i), device=mx.gpu(0)))
            kept = theirs * 1
            for _ in range(5):
                kept += theirs
            del theirs
            garbage = mx.np.full((MANY,), -1.0, device=mx.gpu(0))
            assert float(kept.min()) == float(kept.max()) == 6 * i
            del garbage, kept
    gc.collect()
    assert not interop._lent


def test_borrowed_memory_is_given_back():
    gc.collect()
    used = mx.device.memory_info(mx.gpu(0))["used"]
    for _ in range(50):
        y = mx.np.asarray(cupy.ones(1 << 20, dtype="float32")) + 1
    assert y[0].item() == 2
    del y
    mx.waitall()
    gc.collect()
    assert mx.device.memory_info(mx.gpu(0))["used"] <= used + (1 << 20)


# ---- host rows ------------------------------------------------------------------------------------------------------

HOST = [n for n, row in OPS.items() if isinstance(row, Host) and (row.row.samples or n in SAMPLES)]
BY_PROMISE = {"eigh", "eig", "svd", "qr"}  # signs and order are the library's


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", [n for n in HOST if n not in BY_PROMISE])
def test_host_rows(name, dtype):
    if (name, dtype) == ("lstsq", "float16"):
        pytest.skip("neither NumPy nor CuPy has it in float16")
    for operands, attrs in samples(name, dtype):
        here = [mx.np.array(x) for x in operands]
        there = [x.to_device(mx.gpu(0)) for x in here]
        made = getattr(f, name)(*there, **attrs)
        assert {y.device for y in (made if isinstance(made, tuple) else (made,))} == {mx.gpu(0)}
        close(to_numpy(made), to_numpy(getattr(f, name)(*here, **attrs)), tolerance(dtype, made), f"{name} {attrs}")


def test_decompositions():
    x = np.random.default_rng(0).normal(size=(3, 4, 4)).astype("float32")
    on = mx.np.array(x, device=mx.gpu(0))
    u, s, vh = mx.np.linalg.svd(on)
    np.testing.assert_allclose((u * s[:, None] @ vh).asnumpy(), x, atol=1e-4)
    q, r = mx.np.linalg.qr(on)
    np.testing.assert_allclose((q @ r).asnumpy(), x, atol=1e-4)
    w, v = mx.np.linalg.eigh(on @ on.swapaxes(-1, -2))
    np.testing.assert_allclose((v * w[:, None] @ v.swapaxes(-1, -2)).asnumpy(), x @ x.swapaxes(-1, -2), atol=1e-3)
    w, v = mx.np.linalg.eig(mx.np.array([[2.0, 1.0], [0.0, 1.0]], device=mx.gpu(0)))
    assert sorted(w.asnumpy().tolist()) == [1, 2] and v.device == mx.gpu(0)
    assert mx.np.linalg.pinv(on, hermitian=False).device == mx.gpu(0)


def test_host_rows_follow_the_stream():
    """A host row between operators of ours, with nothing waiting on the host; and its gradient."""
    x = ones(512, 512) * 0.01 + mx.np.eye(512, device=mx.gpu(0))
    x.attach_grad()
    with mx.autograd.record():
        y = mx.np.linalg.inv(x * 2) * 3
    y.backward()
    want = np.linalg.inv(x.asnumpy() * 2) * 3
    np.testing.assert_allclose(y.asnumpy(), want, rtol=1e-3, atol=1e-4)
    assert np.isfinite(x.grad.asnumpy()).all()


@pytest.mark.parametrize("name", ["nonzero", "flatnonzero", "argwhere", "unique", "bincount"])
def test_dynamic_rows(name):
    host = np.array([3, 0, 1, 3, 0, 2])
    here, there = (getattr(mx.np, name)(mx.np.array(host, device=d)) for d in (mx.cpu(), mx.gpu(0)))
    for a, b in zip(
        here if isinstance(here, tuple) else (here,), there if isinstance(there, tuple) else (there,), strict=True
    ):
        assert b.device == mx.gpu(0) and b.dtype == a.dtype
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())


def test_hybridized_host_row():
    class Solve(mx.gluon.HybridBlock):
        def forward(self, a, b):
            return mx.np.linalg.solve(a, b) + 1

    net = Solve()
    a, b = ones(4, 4) + mx.np.eye(4, device=mx.gpu(0)), ones(4, 2)
    plain = net(a, b).asnumpy()
    for static in (False, True):
        net.hybridize(static_alloc=static, static_shape=static)
        for i in range(6):
            garbage = [mx.np.full((n, 4), i, device=mx.gpu(0)) for n in range(1, 9)]  # takes what was let go
            np.testing.assert_allclose(net(a, b).asnumpy(), plain, rtol=1e-5)
            assert all((g.asnumpy() == i).all() for g in garbage)


# ---- DLPack ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*TYPES, "bfloat16"])
def test_torch(dtype):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch without CUDA")
    x = mx.np.arange(6, device=mx.gpu(0)).reshape(2, 3).astype(dtype)
    theirs = torch.from_dlpack(x.T)
    assert theirs.device.type == "cuda" and theirs.data_ptr() == _core.address(x)
    assert str(theirs.dtype) == f"torch.{dtype}" and theirs.shape == (3, 2)
    np.testing.assert_array_equal(theirs.cpu().float().numpy(), x.T.astype("float32").asnumpy())
    ours = mx.np.from_dlpack(theirs)
    assert _core.address(ours) == _core.address(x) and ours.dtype == x.dtype and ours.shape == (3, 2)


@pytest.mark.parametrize("own_stream", [False, True])
def test_torch_in_order(own_stream):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch without CUDA")
    with torch.cuda.stream(torch.cuda.Stream() if own_stream else torch.cuda.default_stream()):
        for i in range(10):
            x = ones(MANY)
            for _ in range(10):
                x = x * 1.0 + 1.0
            y = torch.from_dlpack(x) + i
            for _ in range(10):
                y = y + 1
            z = mx.np.from_dlpack(y) - 1.0
            del x, y
            garbage = torch.full((MANY,), -1.0, device="cuda")
            assert z.min().item() == z.max().item() == 20 + i
            del garbage


def test_jax(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("jax without CUDA")
    x = mx.np.arange(6, device=mx.gpu(0)).reshape(2, 3)
    theirs = jax.numpy.from_dlpack(x)
    np.testing.assert_array_equal(np.asarray(theirs), x.asnumpy())
    ours = mx.np.from_dlpack(theirs * 2)
    assert ours.device == mx.gpu(0) and ours.asnumpy().tolist() == [[0, 2, 4], [6, 8, 10]]


def test_dlpack_says_where():
    x = ones(2)
    assert x.__dlpack_device__() == (2, 0)
    assert np.from_dlpack(x, device="cpu").tolist() == [1, 1]
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(mx.errors.ArgumentError, match="stream"):
        x.__dlpack__(stream=0)
    for stream in (None, 1, 2, -1):
        assert _core.from_dlpack(x.__dlpack__(stream=stream)).asnumpy().tolist() == [1, 1]


def test_pickle_and_numpy():
    x = ones(2)
    assert pickle.loads(pickle.dumps(x)).device == mx.gpu(0)
    assert np.asarray(x).tolist() == np.array(x).tolist() == [1, 1]
    assert repr(x) == "array([1., 1.], device=gpu(0))"
