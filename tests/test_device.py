"""Arrays stay beside their operands: every row, gradients, hosts' numbers, indexing, layers, losses and optimizers.

All CPU numbers are one memory, yet arrays remember theirs and operators refuse two of them at once, so cpu(1) stands in
for a GPU here: whatever makes an array on the current device, cpu(0), fails. On a GPU: tests/gpu/test_front.py.
"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from table_cases import SAMPLES
from table_checks import leaves, samples

import minimx as mx
from minimx import gluon
from minimx.ndarray import _core
from minimx.ops import describe
from minimx.ops.table import OPS, f

HERE = mx.cpu(1)


def moved(x):
    """NumPy arrays of nested lists as arrays on HERE."""
    if isinstance(x, (list, tuple)):
        return type(x)(moved(v) for v in x)
    return mx.np.array(x, dtype=x.dtype.name, device=HERE) if isinstance(x, (np.ndarray, np.generic)) else x


def arrays(x):
    return [y for y in leaves(x) if isinstance(y, mx.np.ndarray)]


TAKING = [name for name, row in OPS.items() if (row.row.samples or name in SAMPLES) and not describe.creates(row)]


@pytest.mark.parametrize("name", TAKING)
def test_rows_stay(name):
    types = OPS[name].row.dtypes
    for operands, attrs in samples(name, "float32" if "float32" in types or not types else types[0]):
        given = moved(operands)
        if not arrays(given):
            continue
        floats = [x for x in arrays(given) if x.dtype == "float32"]
        for x in floats:
            x.attach_grad()
        try:
            with mx.autograd.record():
                made = arrays(getattr(f, name)(*given, **attrs))
        except NotImplementedError:  # no gradient
            made = arrays(getattr(f, name)(*given, **attrs))
        assert {y.device for y in made} <= {HERE}, attrs
        heads = [y for y in made if _core.on_tape(y)]
        if heads:
            mx.autograd.backward(heads)
            assert {x.grad.device for x in floats} == {HERE}


@pytest.mark.cpu_only("takes the CPU for where arrays are made")
def test_made_where_asked():
    make = mx.np.random
    for y in (make.rand(2, ctx=HERE), make.randint(0, 5, size=3, device=HERE), make.choice(5, 2, device=HERE),
              make.permutation(4, device=HERE), make.lognormal(size=2, device=HERE), make.uniform(size=2, device=HERE),
              mx.np.full((2,), 1, device=HERE), mx.np.arange(3, device=HERE)):  # fmt: skip
        assert y.device == HERE
    x = mx.np.ones(3)
    assert mx.np.full_like(x, 2, device=HERE).device == HERE
    assert mx.np.full_like(x.to_device(HERE), 2).device == HERE
    with HERE:
        assert mx.np.full_like(x, 2).device == mx.cpu(0)
        assert mx.np.array([1, 2]).device == mx.current_device() == HERE
    assert mx.current_device() == mx.cpu(0)


def test_objects_of_the_host_come_to_the_arrays():
    x = mx.np.ones(3, device=HERE)
    ones = np.ones(3, "float32")
    for y in (x + ones, ones + x, x * np.float32(2), mx.np.maximum(x, [1, 2, 3]), mx.np.concatenate([x, ones]),
              mx.np.where(np.array([True, False, True]), x, 0), mx.np.add(ones, x)):  # fmt: skip
        assert y.device == HERE
    with pytest.raises(mx.errors.DeviceError, match="operands on one device"):
        x + mx.np.ones(3)


def test_indexing_stays():
    x = mx.np.arange(6, device=HERE).reshape(2, 3)
    for y in (
        x[x > 2],
        x[[1, 0]],
        x[:, np.array([True, False, True])],
        x[np.array([0]), [1]],
        x[mx.np.array([1], device=HERE)],
    ):
        assert y.device == HERE
    x[x > 2] = 0
    x[:, [0, 1]] = np.ones((2, 2), "float32")
    x[0] = mx.np.zeros(3)  # from another device
    assert x.device == HERE and x.asnumpy().tolist() == [[0, 0, 0], [1, 1, 0]]
    assert {y.device for y in mx.np.nonzero(x)} == {mx.np.unique(x).device} == {HERE}


def test_pickles_and_copies_keep_their_device():
    x = mx.np.ones(2, device=HERE)
    assert pickle.loads(pickle.dumps(x)).device == HERE
    parameter = gluon.Parameter("w", shape=(2,))
    parameter.initialize(device=[HERE, mx.cpu(0)])
    again = pickle.loads(pickle.dumps(parameter))
    assert again.list_device() == [HERE, mx.cpu(0)] and again.data(HERE).device == HERE


def test_parameters_start_alike_everywhere():
    def start(device):
        mx.random.seed(7)
        layer = gluon.nn.Dense(3, in_units=4)
        layer.initialize(mx.init.Xavier(), device=device)
        assert layer.weight.data().device == device
        return layer.weight.data().asnumpy()

    np.testing.assert_array_equal(start(mx.cpu(0)), start(HERE))


LOSSES = [n for n in gluon.loss.__all__ if n not in ("Loss",)]


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay(name):
    loss = getattr(gluon.loss, name)()
    rng = np.random.default_rng(0)
    x, y = (mx.np.array(rng.uniform(0.1, 0.9, (4, 5)), dtype="float32", device=HERE) for _ in range(2))
    labels = mx.np.array([0, 1, 2, 1], device=HERE)
    signs = mx.np.array([1, -1, 1, -1], device=HERE)
    given = {
        "SoftmaxCrossEntropyLoss": (x, labels), "SoftmaxCELoss": (x, labels), "CosineEmbeddingLoss": (x, y, signs),
        "TripletLoss": (x, y, x + 1),
    }.get(name, (x, y))  # fmt: skip
    x.attach_grad()
    with mx.autograd.record():
        made = loss(*given)
    made.backward()
    assert made.device == x.grad.device == HERE


@pytest.mark.parametrize("name", sorted(mx.optimizer.optimizer._REGISTRY))
def test_training_stays(name):
    net = gluon.nn.Sequential()
    net.add(gluon.nn.Dense(4, activation="relu"), gluon.nn.BatchNorm(), gluon.nn.Dropout(0.5), gluon.nn.Dense(2))
    net.initialize(device=HERE)
    trainer = gluon.Trainer(net.collect_params(), name)
    x = mx.np.array(np.random.default_rng(0).normal(size=(8, 3)), dtype="float32", device=HERE)
    with mx.autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), mx.np.zeros(8, device=HERE))
    loss.backward()
    gluon.utils.clip_global_norm([p.grad() for p in net.collect_params().values() if p.grad_req != "null"], 1.0)
    trainer.step(8)
    assert {a.device for a in trainer.get_states().arrays.values()} <= {HERE}
    assert {p.data().device for p in net.collect_params().values()} == {HERE}
