"""Parameter, Constant and dicts of parameters: shapes, deferral, gradients, devices, casts, copies, errors."""

import copy
import pickle
import re

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors, gluon
from minimx.gluon import Constant, Parameter, ParameterDict, nn


def ready(**kwargs):
    parameter = Parameter("weight", **{"shape": (2, 3), "init": "ones", **kwargs})
    parameter.initialize()
    return parameter


@pytest.mark.cpu_only("is about devices of the CPU")
def test_initialize_and_read():
    p = ready()
    assert p.data().tolist() == [[1, 1, 1], [1, 1, 1]] and p.grad().tolist() == [[0] * 3] * 2
    assert p.data() is p.data(mx.cpu()) and p.data(ctx=mx.cpu()) is p.data() and p.var() is p.data()
    assert len(p.list_data()) == len(p.list_grad()) == 1
    assert p.list_ctx() == p.list_device() == [mx.cpu()]
    assert "weight (shape=(2, 3), dtype=float32)" in repr(p)


def test_own_initializer_wins_and_reinit():
    p = Parameter("w", shape=(2,), init="ones")
    p.initialize(init="zeros", default_init="zeros")
    assert p.data().tolist() == [1, 1]
    with pytest.warns(UserWarning, match="force_reinit=True"):
        p.initialize()
    p.set_data(mx.np.zeros((2,)))
    p.initialize(force_reinit=True)
    assert p.data().tolist() == [1, 1]


def test_many_that_keep_their_values_are_one_warning():
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2), nn.Dense(1, in_units=3))
    net[1].initialize(mx.init.Constant(2))
    for initialize in (net.initialize, net.collect_params().initialize):
        with pytest.warns(UserWarning) as told:
            initialize(mx.init.Constant(3))
        (only,) = told
        assert "force_reinit=True" in str(only.message) and only.filename == __file__
        assert re.search(r"'(1.weight' \(and 1|0.weight' \(and 3) more\) has", str(only.message))
    assert (net[1].weight.data().asnumpy() == 2).all() and (net[0].weight.data().asnumpy() == 3).all()


def test_unknown_initializers_are_told_at_once():
    for parameter in (nn.Dense(2, weight_initializer="xavi").weight, Parameter("w", shape=(2,), init="xavi")):
        with pytest.raises(errors.NameNotFound, match="'xavi'"):
            parameter.initialize()


def test_unknown_shapes():
    p = Parameter("w", shape=(3, 0, None), allow_deferred_init=True)
    assert p.shape == (3, -1, -1) and not p.is_shape_known
    with pytest.raises(gluon.NotInitialized, match=r"'w'.*initialize\(\)"):
        p.data()
    p.initialize()
    with pytest.raises(gluon.DeferredInitializationError, match=r"got \(3, \?, \?\)"):
        p.data()
    with pytest.raises(errors.ShapeError, match=r"\(3, \?, \?\)"):
        p.shape = (4, 1, 1)
    with pytest.raises(errors.ShapeError):
        p.shape = (3, 1)
    p.shape = (3, 2, 1)
    p.finish_deferred_init()
    assert p.data().shape == (3, 2, 1)
    with pytest.raises(errors.ShapeError, match="allow_deferred_init"):
        Parameter("v", shape=(0,)).initialize()


def test_gradients():
    p = ready(grad_req="add")
    for _ in range(2):
        with autograd.record():
            y = (p.data() * 3).sum()
        y.backward()
    assert (p.grad().asnumpy() == 6).all()
    p.zero_grad()
    assert (p.grad().asnumpy() == 0).all()
    array = p.data()
    p.grad_req = "null"
    assert p.data() is array
    with pytest.raises(errors.ArgumentError, match="grad_req 'null'"):
        p.grad()
    p.grad_req = "write"
    for _ in range(2):
        with autograd.record():
            y = (p.data() * 3).sum()
        y.backward()
    assert (p.grad().asnumpy() == 3).all()
    with pytest.raises(errors.ArgumentError, match="'write', 'add' or 'null'"):
        p.grad_req = "sometimes"
    assert ready(differentiable=False).grad_req == "null"


def test_freshness():
    p = ready()
    trainer = mx.gluon.Trainer([p], "sgd")
    assert not p.data().fresh_grad
    with autograd.record():
        y = p.data().sum()
    y.backward()
    assert p.data().fresh_grad
    trainer.step(1)
    assert not p.data().fresh_grad


def test_set_data():
    p = ready()
    array = p.data()
    p.set_data(onp.arange(6.0).reshape(2, 3))
    assert p.data() is array and p.data().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(errors.ShapeError, match=r"shape \(2, 3\)"):
        p.set_data(mx.np.ones((3, 2)))
    late = Parameter("w", shape=(0,), allow_deferred_init=True)
    late.initialize()
    late.set_data(mx.np.ones((4,)))
    assert late.shape == (4,) and late.data().tolist() == [1] * 4
    with pytest.raises(gluon.NotInitialized):
        Parameter("w", shape=(2,)).set_data(mx.np.ones((2,)))


def test_cast():
    p = ready()
    p.cast("float16")
    assert p.dtype == "float16" and str(p.data().dtype) == str(p.grad().dtype) == "float16"
    with pytest.raises(errors.DTypeError):
        p.cast("float12")


@pytest.mark.cpu_only("is about devices of the CPU")
def test_several_devices():
    devices = [mx.cpu(0), mx.cpu(1)]
    p = Parameter("w", shape=(2,), init="ones")
    p.initialize(ctx=devices)
    a, b = p.list_data()
    assert a is not b and p.list_device() == devices and p.data(mx.cpu(1)) is b and p.data() is a
    p.set_data(mx.np.zeros((2,)))
    assert b.tolist() == [0, 0]
    with pytest.raises(errors.DeviceError, match="reset_device"):
        p.data(mx.cpu(2))
    p.reset_ctx(mx.cpu(1))
    assert p.list_device() == [mx.cpu(1)] and p.data() is b
    with pytest.raises(errors.ArgumentError, match="distinct"):
        p.initialize(device=[mx.cpu(), mx.cpu()], force_reinit=True)


def test_constant():
    for c in [Constant([[1, 2]]), Constant("c", mx.np.array([[1, 2]]))]:
        c.initialize()
        assert c.data().tolist() == [[1, 2]] and c.grad_req == "null"
        c.grad_req = "write"
        assert c.grad_req == "null"


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies(clone):
    p = ready()
    q = clone(p)
    with autograd.record():
        y = (2 * q.data()).sum()
    y.backward()
    assert (q.grad().asnumpy() == 2).all() and (p.grad().asnumpy() == 0).all() and q.data() is not p.data()


@pytest.mark.cpu_only("is about devices of the CPU")
def test_dict(tmp_path):
    net = nn.Sequential()
    net.add(nn.Dense(3, in_units=2), nn.Dense(1, in_units=3))
    params = net.collect_params()
    assert isinstance(params, ParameterDict) and gluon.parameter.ParameterDict is ParameterDict
    assert list(params) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert list(params.select(".*bias")) == list(net.collect_params(".*bias")) == ["0.bias", "1.bias"]
    assert list(params.select("weight")) == []
    params.initialize(mx.init.Constant(2))
    assert (params["0.weight"].data().asnumpy() == 2).all() and (params["0.bias"].data().asnumpy() == 0).all()
    params.setattr("grad_req", "null")
    assert net[1].weight.grad_req == "null" and params.list_ctx() == [mx.cpu()]
    params.save(tmp_path / "p")
    params.setattr("grad_req", "add")
    params["0.weight"].set_data(mx.np.zeros((3, 2)))
    params.load(tmp_path / "p")
    assert (params["0.weight"].data().asnumpy() == 2).all()
    params.zero_grad()
    params.reset_ctx(mx.cpu())
    assert "0.weight: Parameter" in repr(params)


def test_gluon_1_params_get():
    class Old(gluon.Block):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.w = self.params.get("weight", shape=(2,), init="ones")
                self.params.get("other", shape=(1,))
                self.c = self.params.get_constant("fixed", [3.0])

        def forward(self, x):
            return x * self.w.data() + self.c.data()

    net = Old(prefix="old_")
    assert list(net.collect_params()) == ["w", "other", "c"] and net.name == "old"
    net.initialize()
    assert net(mx.np.ones((2,))).tolist() == [4, 4]
    shared = Old(params=net.params)
    assert shared.w is net.w
