"""Batches for the GPU: pinned memory, copies that run beside compute, and what may use the memory again when."""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx._bridge import to_pinned
from minimx.gluon import data
from minimx.ndarray import _core

pytestmark = pytest.mark.gpu
GPU = mx.gpu(0)


def numbers(n=64, width=1000):
    return data.ArrayDataset(np.arange(n * width, dtype="float32").reshape(n, width), np.arange(n))


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2, "thread_pool": True}, {"num_workers": 2}])
def test_pinned_batches(workers):
    loader = data.DataLoader(numbers(), 8, pin_memory=True, **workers)
    for epoch in range(2):
        for i, (x, y) in enumerate(loader):
            assert _core.is_pinned(x) and _core.is_pinned(y) and x.device == mx.cpu()
            there = x.as_in_ctx(GPU)
            x[...] = -1  # comes after the copy
            there += 1
            np.testing.assert_array_equal(there.asnumpy(), np.arange(8000).reshape(8, 1000) + i * 8000 + 1, str(epoch))
            assert y.as_in_ctx(GPU).asnumpy().tolist() == list(range(i * 8, i * 8 + 8))
    loader.close()


@pytest.mark.parametrize("workers", [{}, {"num_workers": 2}])
def test_prefetch_to_device(workers):
    loader = data.DataLoader(numbers(), 8, prefetch_to_device=GPU, **workers)
    total = mx.np.zeros((), device=GPU)
    for x, y in loader:
        assert x.device == y.device == GPU
        total += x.sum() / 1e6 + y.sum()
    assert total.item() == pytest.approx(np.arange(64000).sum() / 1e6 + 2016, rel=1e-5)
    loader.close()


def test_copies_are_in_order():
    """Memory of both sides is used again and again, with the GPU far behind the host."""
    busy = mx.np.ones((2048, 2048), device=GPU)
    kept = []
    for i in range(100):
        x = to_pinned(np.full((1 << 18,), i, "float32")).to_device(GPU)
        busy = busy @ busy * 0
        kept.append(x.sum() + busy[0, 0])  # behind the product: x is read late
    assert [k.item() for k in kept] == [i * float(1 << 18) for i in range(100)]


def test_slices_of_pinned_batches():
    batch = to_pinned(np.arange(24, dtype="float32").reshape(4, 6))
    parts = mx.gluon.utils.split_and_load(batch, [GPU, GPU])
    assert [p.asnumpy().sum() for p in parts] == [66, 210]
    assert batch[:, ::2].to_device(GPU).asnumpy().tolist() == batch.asnumpy()[:, ::2].tolist()
    there = mx.np.zeros((4, 6), device=GPU)
    there[...] = batch
    batch.copyto(there)
    assert (there.asnumpy() == batch.asnumpy()).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_types(dtype):
    host = np.arange(10).astype(dtype)
    pinned = to_pinned(host)
    assert pinned.dtype == dtype
    np.testing.assert_array_equal(pinned.to_device(GPU).asnumpy(), host)
    assert to_pinned(np.zeros((0, 3), dtype)).to_device(GPU).shape == (0, 3)


def test_host_does_not_wait():
    """A copy from pinned memory returns before the GPU has done what is in front of it."""
    import time

    batch = to_pinned(np.ones((1 << 22,), "float32"))
    busy = mx.np.ones((8192, 8192), device=GPU)
    batch.to_device(GPU), (busy @ busy).wait_to_read()
    start = time.perf_counter()
    for _ in range(20):
        busy = busy @ busy * 1e-4
    there = batch.to_device(GPU)
    put = time.perf_counter() - start
    busy.wait_to_read()
    assert put < (time.perf_counter() - start) / 2
    assert there[0].item() == 1


def test_recording_sends_the_gradient_back():
    x = mx.np.ones(4)
    x.attach_grad()
    with mx.autograd.record():
        y = (x.as_in_ctx(GPU) * 3).sum()
    y.backward()
    assert x.grad.device == mx.cpu() and x.grad.asnumpy().tolist() == [3, 3, 3, 3]
