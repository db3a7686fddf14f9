"""Trainer: steps, stale gradients, several devices, schedules, shared parameters, files of states."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors, gluon
from minimx.gluon import Trainer, nn
from minimx.ndarray import _core

X = onp.random.default_rng(0).normal(size=(8, 3)).astype("float32")


def made(seed=0, **kwargs):
    mx.random.seed(seed)
    net = nn.HybridSequential()
    net.add(nn.Dense(4, activation="tanh", in_units=3, **kwargs), nn.Dense(1, in_units=4))
    net.initialize(mx.init.Normal(0.5))
    return net


def backward(net, scale=1.0):
    with autograd.record():
        loss = ((net(mx.np.array(X)) - 1) ** 2).sum() * scale
    loss.backward()
    return loss.item()


def weights(net):
    return [p.data().asnumpy() for p in net.collect_params().values()]


def test_a_step_is_the_gradient_over_the_batch_size():
    net = made()
    before = weights(net)
    backward(net)
    grads = [p.grad().asnumpy() for p in net.collect_params().values()]
    Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1}).step(8)
    for w, g, new in zip(before, grads, weights(net), strict=True):
        onp.testing.assert_allclose(new, w - 0.1 * g / 8, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["sgd", "nag", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "lamb", "lars", "ftrl", "signum"]
)
def test_training_lowers_the_loss(name):
    net = made()
    rates = {"lars": 0.1, "adadelta": 10.0, "ftrl": 0.5, "lamb": 0.1}
    kwargs = {"eta": 0.3} if name == "lars" else {}
    trainer = Trainer(net.collect_params(), name, {"learning_rate": rates.get(name, 0.02), **kwargs})
    losses = []
    for _ in range(30):
        losses.append(backward(net))
        trainer.step(8)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.cpu_only("is about devices of the CPU")
def test_stale_gradients():
    net, unused = made(), nn.Dense(1, in_units=1)
    unused.initialize()
    params = {**net.collect_params(), **{f"u.{n}": p for n, p in unused.collect_params().items()}}
    trainer = Trainer(params, "sgd")
    backward(net)
    with pytest.raises(errors.AutogradError, match=r"'weight' on cpu\(0\).*ignore_stale_grad"):
        trainer.step(1)
    before = unused.weight.data().asnumpy()
    trainer.step(1, ignore_stale_grad=True)
    assert (unused.weight.data().asnumpy() == before).all()
    after = weights(net)
    trainer.step(1, ignore_stale_grad=True)
    assert all((a == b).all() for a, b in zip(after, weights(net), strict=True))
    with pytest.raises(errors.AutogradError):
        trainer.update(1)


def test_parameters_without_gradient_are_left_alone():
    net = made()
    net[0].weight.grad_req = "null"
    before = net[0].weight.data().asnumpy()
    backward(net)
    Trainer(net.collect_params(), "sgd").step(1)
    assert (net[0].weight.data().asnumpy() == before).all()


def test_accumulated_gradients():
    a, b = made(), made()
    a.setattr("grad_req", "add")
    for net, times in ((a, 2), (b, 1)):
        trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        for _ in range(times):
            backward(net, 2 / times)
        trainer.step(8)
        trainer.zero_grad()
    assert all(onp.allclose(x, y, rtol=1e-5, atol=1e-7) for x, y in zip(weights(a), weights(b), strict=True))
    assert (a[0].weight.grad().asnumpy() == 0).all()


@pytest.mark.cpu_only("is about devices of the CPU")
def test_several_devices():
    p = gluon.Parameter("w", shape=(2,), init="ones")
    p.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    with autograd.record():
        heads = [(p.list_data()[0] * 1).sum(), (p.list_data()[1] * 3).sum()]
    autograd.backward(heads)
    trainer = Trainer([p], "sgd", {"learning_rate": 0.5, "momentum": 0.9})
    trainer.step(4)
    assert [d.tolist() for d in p.list_data()] == [[0.5, 0.5]] * 2 and [g.tolist() for g in p.list_grad()] == [
        [4, 4]
    ] * 2
    assert trainer.optimizer.num_update == 1


def test_shared_parameters_are_updated_once():
    net = nn.Sequential()
    net.add(nn.Dense(3, in_units=3, use_bias=False), nn.Dense(3, in_units=3, use_bias=False))
    net[1].weight = net[0].weight
    net.initialize("ones")
    backward(net)
    grad = net[0].weight.grad().asnumpy()
    Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0}).step(1)
    onp.testing.assert_allclose(net[0].weight.data().asnumpy(), 1 - grad, rtol=1e-5)


def test_multipliers_and_schedule():
    net = made()
    net[0].weight.lr_mult = 0.0
    before = net[0].weight.data().asnumpy()
    schedule = mx.lr_scheduler.FactorScheduler(step=1, factor=0.5, base_lr=1.0)
    trainer = Trainer(net.collect_params(), "sgd", {"lr_scheduler": schedule})
    for rate in (1.0, 1.0, 0.5):
        assert trainer.learning_rate == rate
        backward(net, 0.0)
        trainer.step(1)
    assert (net[0].weight.data().asnumpy() == before).all()
    with pytest.raises(errors.NotSupported):
        trainer.set_learning_rate(1)
    trainer = Trainer(net.collect_params(), "sgd")
    trainer.set_learning_rate(0.7)
    assert trainer.learning_rate == 0.7


@pytest.mark.parametrize(
    "name, kwargs", [("adam", {}), ("sgd", {"momentum": 0.9}), ("nadam", {}), ("rmsprop", {"centered": True})]
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_states_continue_exactly(tmp_path, name, kwargs, dtype):
    def start():
        net = made()
        net.cast(dtype)
        return net, Trainer(net.collect_params(), name, {"learning_rate": 0.01, "multi_precision": True, **kwargs})

    def run(net, trainer, steps):
        for _ in range(steps):
            with autograd.record():
                loss = ((net(mx.np.array(X, dtype=dtype)) - 1) ** 2).sum()
            loss.backward()
            trainer.step(8)

    net, trainer = start()
    run(net, trainer, 3)
    net.save_parameters(tmp_path / "net")
    trainer.save_states(tmp_path / "trainer")
    run(net, trainer, 3)
    other, resumed = start()
    other.load_parameters(tmp_path / "net")
    resumed.load_states(tmp_path / "trainer")
    run(other, resumed, 3)
    assert all((a == b).all() for a, b in zip(weights(net), weights(other), strict=True))
    assert resumed.optimizer.num_update == 6


def test_states_of_others(tmp_path):
    net = made()
    trainer = Trainer(net.collect_params(), "adam")
    backward(net)
    trainer.step(1)
    trainer.save_states(tmp_path / "adam")
    with pytest.raises(errors.FileFormatError, match="states of SGD, got Adam"):
        Trainer(net.collect_params(), "sgd").load_states(tmp_path / "adam")
    with pytest.raises(errors.FileFormatError, match="2 parameters"):
        Trainer(net[0].collect_params(), "adam").load_states(tmp_path / "adam")
    net.save_parameters(tmp_path / "net")
    with pytest.raises(errors.FileFormatError, match="states of a trainer"):
        trainer.load_states(tmp_path / "net")
    with pytest.raises(FileNotFoundError):
        trainer.load_states(tmp_path / "none")


def test_arguments():
    net = made()
    with pytest.raises(errors.ArgumentTypeError, match="collect_params"):
        Trainer([net[0]], "sgd")
    with pytest.raises(errors.NotSupported, match="kvstore"):
        Trainer(net.collect_params(), "sgd", kvstore="dist_sync")
    with pytest.raises(errors.ArgumentError, match="optimizer_params"):
        Trainer(net.collect_params(), mx.optimizer.SGD(), {"learning_rate": 1})
    backward(net)
    with pytest.raises(errors.ArgumentError, match="batch_size"):
        Trainer(net.collect_params(), "sgd").step(0)
    late = nn.Dense(1)
    late.initialize()
    with pytest.raises(gluon.DeferredInitializationError):
        Trainer(late.collect_params(), "sgd").step(1)


def test_what_changes_between_steps_is_noticed():
    """The trainer keeps what it gathered: factors, counts, states and parameters that change must still count."""
    net = made()
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.5})
    first, second = net[0].weight, net[0].bias

    def moved(parameter):
        before = {p: p.data().asnumpy() for p in (first, second)}
        backward(net)
        trainer.step(1)
        return abs(parameter.data().asnumpy() - before[parameter]).max()

    assert moved(first) > 0
    first.lr_mult = 0.0
    trainer._updater(0).states[0][0][:] = 0  # its momentum
    assert moved(first) == 0 and moved(second) > 0
    first.lr_mult = 1.0
    assert moved(first) > 0
    first.grad_req = "null"
    assert moved(first) == 0
    first.grad_req = "write"
    assert moved(first) > 0  # it has had fewer updates than the others by now
    counts = trainer.optimizer._counts[0]
    assert counts[0] == counts[1] - 1 and trainer.optimizer.num_update == counts[1]
    states = trainer._updater(0).states
    states[0] = tuple(mx.np.full(s.shape, 100.0) for s in states[0])
    assert moved(first) > 40  # a state that somebody put there is used
    net.initialize(mx.init.Zero(), force_reinit=True)
    assert moved(second) > 0


@pytest.mark.cpu_only("what is put off on a GPU may get the memory of the gradient before")
def test_a_trainer_holds_no_gradient():
    net = made()
    trainer = Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    address = []
    for _ in range(3):
        backward(net)
        trainer.step(1)
        address.append(_core.address(net[0].weight.grad()))
    assert address[0] != address[1]  # backward put a new array in the place of the old one
