"""Gluon on a GPU, and on two: parameters, trainers, losses, metrics, random numbers, files; nothing strays."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from test_device import LOSSES, TAKING, arrays

import minimx as mx
from minimx import gluon
from minimx.ndarray import _core
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.gpu
GPU = mx.gpu(0)
two = pytest.mark.skipif("mx.device.num_gpus() < 2", reason="one GPU")


def moved(x, device):
    if isinstance(x, (list, tuple)):
        return type(x)(moved(v, device) for v in x)
    return mx.np.array(x, dtype=x.dtype.name, device=device) if isinstance(x, (np.ndarray, np.generic)) else x


@pytest.mark.parametrize("name", [n for n in TAKING if OPS[n].kind in ("composite", "host")])
def test_composites_stay(name):
    """With the CPU as the current device; values are compared by ``--device gpu`` over test_table.py."""
    from table_checks import samples

    types = OPS[name].row.dtypes
    for operands, attrs in samples(name, "float32" if "float32" in types or not types else types[0]):
        given = moved(operands, GPU)
        if not arrays(given):
            continue
        for x in (floats := [x for x in arrays(given) if x.dtype == "float32"]):
            x.attach_grad()
        try:
            with mx.autograd.record():
                made = arrays(getattr(f, name)(*given, **attrs))
        except NotImplementedError:
            made = arrays(getattr(f, name)(*given, **attrs))
        assert {y.device for y in made} <= {GPU}, attrs
        if heads := [y for y in made if _core.on_tape(y)]:
            mx.autograd.backward(heads)
            assert {x.grad.device for x in floats} == {GPU}


def test_objects_of_the_host():
    x, host = mx.np.ones(3, device=GPU), np.arange(3, dtype="float32")
    assert (x + host).asnumpy().tolist() == (host + x).asnumpy().tolist() == [1, 2, 3]
    assert (x * np.float32(2)).device == mx.np.maximum(x, [0, 2, 0]).device == GPU
    assert mx.np.concatenate([x, host]).asnumpy().tolist() == [1, 1, 1, 0, 1, 2]
    x[...] = host
    x[1:] = mx.np.zeros(2)
    assert x.asnumpy().tolist() == [0, 0, 0]
    with pytest.raises(mx.errors.DeviceError, match="operands on one device"):
        x + mx.np.ones(3)


def test_indexing():
    host = np.arange(12, dtype="float32").reshape(3, 4)
    x = mx.np.array(host, device=GPU)
    keys = [
        host > 5,
        [2, 0],
        (slice(None), np.array([1, 3])),
        (np.array([0, 2]), np.array([1, 1])),
        (host > 3) & (host < 9),
    ]
    for key in keys:
        np.testing.assert_array_equal(x[key].asnumpy(), host[key])
        ours = tuple(mx.np.array(k) if isinstance(k, np.ndarray) else k for k in key) if isinstance(key, tuple) else key
        np.testing.assert_array_equal(x[ours].asnumpy(), host[key])  # index arrays on the CPU
        y, want = x.copy(), host.copy()
        y[key], want[key] = 7, 7
        np.testing.assert_array_equal(y.asnumpy(), want)
    assert x[x > 5].device == GPU and mx.np.nonzero(x)[0].device == GPU


def test_copies_pickles_files(tmp_path):
    x = mx.np.array([1.5, 2.5], device=GPU)
    for y in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x)), mx.np.array(x), mx.np.asarray(x)):
        assert y.device == GPU and y.asnumpy().tolist() == [1.5, 2.5]
    mx.npx.save(str(tmp_path / "a"), {"x": x, "b": x.astype("bfloat16")})
    loaded = mx.npx.load(str(tmp_path / "a"))
    assert loaded["x"].asnumpy().tolist() == loaded["b"].astype("float32").asnumpy().tolist() == [1.5, 2.5]
    assert mx.np.array(x, device=mx.cpu()).device == mx.np.asarray(x, device=mx.cpu()).device == mx.cpu()
    with GPU:
        assert mx.np.asarray(np.ones(2)).device == mx.np.array([1]).device == mx.current_device() == GPU
    assert repr(x) == "array([1.5, 2.5], device=gpu(0))" and str(x) == "[1.5 2.5]"


@pytest.mark.parametrize("name", ["uniform", "normal", "randint", "gamma", "bernoulli"])
def test_random_numbers_are_those_of_the_cpu(name):
    draw = {
        "uniform": lambda d: mx.np.random.uniform(-1, 2, size=(1001,), device=d),
        "normal": lambda d: mx.np.random.normal(1, 2, size=(1001,), device=d),
        "randint": lambda d: mx.np.random.randint(-5, 100, size=(1001,), device=d),
        "gamma": lambda d: mx.np.random.gamma(2.0, 1.0, size=(1001,), device=d),
        "bernoulli": lambda d: mx.np.random.bernoulli(0.3, size=(1001,), device=d),
    }[name]
    made = []
    for device in (mx.cpu(), GPU):
        mx.random.seed(3, device=device)
        made.append([draw(device), draw(device)])
    assert {y.device for y in made[1]} == {GPU}
    for a, b in zip(*made, strict=True):  # a number at the edge of a rejection may be drawn again on one of them
        assert np.isclose(a.asnumpy(), b.asnumpy(), rtol=1e-5, atol=1e-5).sum() >= 1000


def test_random_composites():
    make = mx.np.random
    for y in (make.randn(2, device=GPU), make.rand(2, ctx=GPU), make.choice(9, 4, replace=False, device=GPU),
              make.permutation(5, device=GPU), make.lognormal(size=2, device=GPU)):  # fmt: skip
        assert y.device == GPU
    x = mx.np.arange(100, device=GPU)
    make.shuffle(x)
    assert sorted(x.asnumpy().tolist()) == list(range(100))


@pytest.mark.parametrize(
    "init", ["xavier", "normal", "orthogonal", "msraprelu", mx.init.Constant(3), mx.init.LSTMBias()]
)
def test_parameters_start_as_on_the_cpu(init):
    made = []
    for device in (mx.cpu(), GPU):
        mx.random.seed(1)
        p = (
            gluon.Parameter("weight", shape=(8, 4), init=init)
            if init != mx.init.LSTMBias()
            else gluon.Parameter("b", shape=(8,), init=init)
        )
        p.initialize(device=device)
        assert p.data().device == p.grad().device == device
        made.append(p.data().asnumpy())
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(0.1, 0.9, (4, 5)).astype("float32") for _ in range(2))
    labels, signs = np.array([0, 1, 2, 1], "float32"), np.array([1, -1, 1, -1], "float32")
    given = {
        "SoftmaxCrossEntropyLoss": (x, labels), "SoftmaxCELoss": (x, labels), "CosineEmbeddingLoss": (x, y, signs),
        "TripletLoss": (x, y, x + 1),
    }.get(name, (x, y))  # fmt: skip
    made = []
    for device in (mx.cpu(), GPU):
        loss, args = getattr(gluon.loss, name)(), moved(given, device)
        args[0].attach_grad()
        with mx.autograd.record():
            value = loss(*args)
        value.backward()
        assert value.device == args[0].grad.device == device
        made.append((value.asnumpy(), args[0].grad.asnumpy()))
    for a, b in zip(*made, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def network(device, **kwargs):
    mx.random.seed(5)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(16, activation="relu"), gluon.nn.BatchNorm(), gluon.nn.Dense(4))
    net.initialize(mx.init.Xavier(), device=device)
    return net


def batches(n=6):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 4, 8).astype("float32")) for _ in range(n)]


def trained(devices, optimizer="sgd", hybridize=False, **kwargs):
    """Weights and states after a few steps, the batch split over the devices."""
    net = network(devices)
    if hybridize:
        net.hybridize()
    net(mx.np.zeros((8, 5), device=devices[0]))
    trainer = gluon.Trainer(net.collect_params(), optimizer, kwargs)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for x, y in batches():
        parts = zip(*(gluon.utils.split_and_load(z, devices) for z in (x, y)), strict=True)
        with mx.autograd.record():
            losses = [loss(net(a), b) for a, b in parts]
        mx.autograd.backward(losses)
        gluon.utils.clip_global_norm(
            [g for p in net.collect_params().values() if p.grad_req != "null" for g in p.list_grad()], 50.0
        )
        trainer.step(8)
    return net, trainer


def weights(net, device=None):
    return {k: p.data(device).asnumpy() for k, p in net.collect_params().items() if p.grad_req != "null"}


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "nag", "adam", "adamw", "lamb", "rmsprop"])
def test_training_is_that_of_the_cpu(optimizer, hybridize):
    here, there = (weights(trained([d], optimizer, hybridize, learning_rate=0.01)[0]) for d in (mx.cpu(), GPU))
    for k, w in here.items():
        np.testing.assert_allclose(there[k], w, rtol=2e-3, atol=2e-4, err_msg=k)


def test_states_and_parameters_travel(tmp_path):
    net, trainer = trained([GPU], "adam")
    net.save_parameters(str(tmp_path / "w"))
    trainer.save_states(str(tmp_path / "s"))
    for device in (mx.cpu(), GPU):
        other = network(device)
        other.load_parameters(str(tmp_path / "w"), device=device)
        again = gluon.Trainer(other.collect_params(), "adam")
        again.load_states(str(tmp_path / "s"))
        assert {a.device for a in again.get_states().arrays.values()} == {device}
        for k, w in weights(net).items():
            np.testing.assert_array_equal(other.collect_params()[k].data().asnumpy(), w)
    net.reset_device(mx.cpu())
    assert net(mx.np.ones((2, 5))).device == mx.cpu()
    assert pickle.loads(pickle.dumps(gluon.Parameter("w", shape=(2,)))).name == "w"


@two
@pytest.mark.parametrize("hybridize", [False, True])
def test_two_devices_agree(hybridize):
    devices = [mx.gpu(0), mx.gpu(1)]
    net, _ = trained(devices, "sgd", hybridize, learning_rate=0.05)
    one, other = (weights(net, d) for d in devices)
    for k in one:
        np.testing.assert_array_equal(one[k], other[k])


@two
def test_arrays_between_devices():
    x = mx.np.arange(1 << 20, device=mx.gpu(0))
    x.attach_grad()
    with mx.autograd.record():
        y = ((x * 2).to_device(mx.gpu(1)) + 1).to_device(mx.gpu(0)).sum()
    y.backward()
    assert (x.grad.asnumpy() == 2).all()


@pytest.mark.parametrize(
    "make", [gluon.metric.Accuracy, lambda: gluon.metric.TopKAccuracy(2), gluon.metric.CrossEntropy, gluon.metric.Loss]
)
def test_metrics(make):
    rng = np.random.default_rng(0)
    pred, label = rng.dirichlet(np.ones(5), 8).astype("float32"), rng.integers(0, 5, 8).astype("float32")
    found = []
    for device in (mx.cpu(), GPU):
        metric = make()
        metric.update([mx.np.array(label, device=device)], [mx.np.array(pred, device=device)])
        found.append(metric.get()[1])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
