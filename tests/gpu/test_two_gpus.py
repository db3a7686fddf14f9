"""Two GPUs: copies between them, sums over them by NCCL, and training on both with the numbers of one."""

from __future__ import annotations

import json

import numpy
import pytest

import minimx as mx
from minimx import autograd, gluon, profiler
from minimx.collectives import sum_copies
from minimx.gluon import buckets, nn
from minimx.ndarray import _core

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("mx.num_gpus() < 2", reason="needs two GPUs"),
]


@pytest.fixture
def devices():
    return [mx.gpu(0), mx.gpu(1)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "int64", "int8", "uint8"])
def test_sums_of_copies(devices, dtype):
    rng = numpy.random.default_rng(0)
    values = [[rng.integers(0, 20, shape).astype("int8") for _ in devices] for shape in ((3,), (1000, 7), ())]
    arrays = [[mx.np.array(v, device=d).astype(dtype) for v, d in zip(vs, devices, strict=True)] for vs in values]
    versions = [_core.version(x) for xs in arrays for x in xs]
    sum_copies(arrays)
    for xs, vs in zip(arrays, values, strict=True):
        for x in xs:
            numpy.testing.assert_array_equal(x.astype("float32").asnumpy(), vs[0].astype("f") + vs[1])
    assert all(a < b for a, b in zip(versions, (_core.version(x) for xs in arrays for x in xs), strict=True))


def test_sums_are_in_the_order_of_the_streams(devices):
    """What was put on the compute streams before counts, and what comes after sees the sum."""
    xs = [mx.np.ones((1 << 22,), device=d) for d in devices]
    for k in range(20):
        for x in xs:
            x *= 1.5
        sum_copies([xs])
        for x in xs:
            x /= 3
        assert mx.np.abs(xs[k % 2] - 1).max().item() < 1e-5


def test_copies_between_gpus(devices):
    x = mx.np.array(numpy.arange(12.0).reshape(3, 4), device=devices[0])
    y = x.T.to_device(devices[1]) * 2
    numpy.testing.assert_array_equal(y.asnumpy(), numpy.arange(12.0).reshape(3, 4).T * 2)


def train(devices, hybridize, steps=5):
    mx.random.seed(1)
    net = nn.HybridSequential()
    net.add(nn.Dense(32, activation="relu", in_units=8), nn.Dense(4, in_units=32))
    net.initialize(mx.init.Xavier(), device=mx.cpu())
    net.reset_device(devices)
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    rng = numpy.random.default_rng(0)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    losses = []
    for _ in range(steps):
        x, y = mx.np.array(rng.normal(size=(16, 8))), mx.np.array(rng.integers(0, 4, 16))
        parts = zip(gluon.utils.split_and_load(x, devices), gluon.utils.split_and_load(y, devices), strict=True)
        with autograd.record():
            each = [loss_fn(net(a), b) for a, b in parts]
        autograd.backward(each)
        trainer.step(16)
        losses.append(numpy.concatenate([loss.asnumpy() for loss in each]))
    weights = [[p.data(d).asnumpy() for d in devices] for p in net.collect_params().values()]
    for copies in weights:
        for w in copies[1:]:
            numpy.testing.assert_array_equal(w, copies[0])
    return losses


@pytest.mark.parametrize("hybridize", [False, True])
def test_training_on_two_is_training_on_one(devices, hybridize):
    numpy.testing.assert_allclose(train(devices, hybridize), train(devices[:1], hybridize), rtol=1e-4, atol=1e-5)


def test_sums_begin_before_backward_ends(devices, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "BYTES", 1 << 20)
    net = nn.Sequential()
    net.add(*(nn.Dense(2048, in_units=2048) for _ in range(8)))
    net.initialize(device=devices)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0})
    xs = [mx.np.ones((1024, 2048), device=d) for d in devices]

    def step():
        with autograd.record():
            losses = [net(x).sum() for x in xs]
        autograd.backward(losses)
        begun = sum(bucket.sums is not None for bucket in trainer._buckets._buckets)
        trainer.step(1)
        return begun

    assert [step() for _ in range(3)][-1] >= 8
    with profiler.profile(tmp_path / "timeline.json"):
        step()
        mx.waitall()
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json")
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    products = [e for e in events if e.get("cat") == "device" and e["name"] == "matmul"]
    sums = [e for e in events if e.get("cat") == "communication"]
    rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {e["name"] for e in sums} == {"all-reduce"} and len(sums) >= 2 * 8
    assert {rows[e["pid"], e["tid"]] for e in sums} == {"communication stream"}
    assert all(e["args"]["bytes"] and e["args"]["GB/s"] > 0 and e["args"]["gpus"] == 2 for e in sums)
    for gpu in {e["pid"] for e in sums}:  # the first sum begins before the last product of backward does
        assert min(e["ts"] for e in sums if e["pid"] == gpu) < max(e["ts"] for e in products if e["pid"] == gpu)
