"""TrainStep: a step as one program gives the numbers of record, backward and trainer.step, and says what it cannot."""

from __future__ import annotations

import numpy
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import ArgumentError, AutogradError, NotSupported
from minimx.gluon import nn

LOSS = gluon.loss.SoftmaxCrossEntropyLoss()
OPTIMIZERS = {
    "momentum": ("sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-3}),
    "clip": ("sgd", {"learning_rate": 0.5, "clip_gradient": 0.01}),
    "adam": ("adam", {"learning_rate": 0.01}),
    "adamw": ("adamw", {"learning_rate": 0.01, "wd": 0.1}),
    "lamb": ("lamb", {"learning_rate": 0.01}),
    "schedule": ("nag", {"momentum": 0.9, "lr_scheduler": lambda n: 0.1 / (1 + n)}),
}


def batches(count=6, dtype="float32"):
    rng = numpy.random.default_rng(0)
    x = [mx.np.array(rng.normal(size=(4, 3, 8, 8))).astype(dtype) for _ in range(count)]
    return list(zip(x, [mx.np.array(rng.integers(0, 10, 4)) for _ in range(count)], strict=True))


def made(optimizer, dtype="float32", **more):
    """A net with all that makes a step: statistics that are written, random numbers, shapes settled late."""
    mx.random.seed(3)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, padding=1), nn.BatchNorm(), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Dropout(0.3),
            nn.Dense(10))  # fmt: skip
    net.initialize(mx.init.Xavier())
    net.cast(dtype)
    net(mx.np.zeros((1, 3, 8, 8), dtype=dtype))
    name, arguments = OPTIMIZERS[optimizer]
    return net, gluon.Trainer(net.collect_params(), name, {**arguments, **more})


def plain(net, trainer, data):
    losses = []
    for x, y in data:
        with autograd.record():
            loss = LOSS(net(x), y)
        loss.backward()
        trainer.step(len(x))
        losses.append(loss.asnumpy())
    return numpy.array(losses)


def parameters(net):
    return {name: p.data().astype("float32").asnumpy() for name, p in net.collect_params().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_numbers_are_those_of_the_plain_lines(optimizer):
    data = batches()
    a, trainer_a = made(optimizer)
    b, trainer_b = made(optimizer)
    mx.random.seed(7)
    expected = plain(a, trainer_a, data)
    mx.random.seed(7)
    step = gluon.TrainStep(b, LOSS, trainer_b)
    numpy.testing.assert_allclose([step(x, y).asnumpy() for x, y in data], expected, rtol=1e-4, atol=1e-6)
    for name, value in parameters(a).items():
        numpy.testing.assert_allclose(parameters(b)[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert trainer_a.optimizer.num_update == trainer_b.optimizer.num_update == len(data)


def test_sixteen_bits_with_masters():
    data = batches(dtype="bfloat16")
    a, trainer_a = made("momentum", "bfloat16", multi_precision=True)
    b, trainer_b = made("momentum", "bfloat16", multi_precision=True)
    mx.random.seed(7)
    plain(a, trainer_a, data)
    mx.random.seed(7)
    step = gluon.TrainStep(b, LOSS, trainer_b)
    for x, y in data:
        step(x, y)
    for name, value in parameters(a).items():
        numpy.testing.assert_allclose(parameters(b)[name], value, rtol=0.03, atol=0.03, err_msg=name)


@pytest.mark.parametrize("whole", [True, False])
def test_gradients_that_are_added_up(whole):
    """With grad_req "add" the update reads the sum of all gradients since zero_grad, which lies in parameter.grad()."""
    data, found = batches(7), []
    for one_program in (False, True):
        net, trainer = made("momentum")
        step = gluon.TrainStep(net, LOSS, trainer) if one_program else None
        chosen = net if whole else net[0]
        mx.random.seed(7)
        for i, (x, y) in enumerate(data):
            if i in (0, 6):  # before the first program, and behind some
                chosen.setattr("grad_req", "add" if i == 0 else "write")
            if i == 3:
                trainer.zero_grad()
            step(x, y) if step is not None else plain(net, trainer, [(x, y)])
            if i == 5:
                sums = {k: p.grad().asnumpy() for k, p in net.collect_params().items() if p.grad_req == "add"}
        assert step is None or len(step._steps) == 2
        found.append({**parameters(net), **{f"sum of {k}": v for k, v in sums.items()}})
    assert len(sums) == (6 if whole else 2)
    for name, value in found[0].items():
        numpy.testing.assert_allclose(found[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_it_is_one_program_with_nothing_saved():
    net, trainer = made("momentum")
    step = gluon.TrainStep(net, LOSS, trainer)
    (x, y), *rest = batches(3)
    gradients = {name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"}
    step(x, y)
    after = {name: net.collect_params()[name].grad().asnumpy() for name in gradients}
    assert any((after[name] != g).any() for name, g in gradients.items()), "the first step runs the plain lines"
    for x, y in rest:
        step(x, y)
    assert all((net.collect_params()[name].grad().asnumpy() == g).all() for name, g in after.items())
    (compiled,) = step._steps.values()
    assert len(compiled.graph.outputs) == 1
    written = [target.shape for target, _ in compiled.graph.writes]
    assert len(written) == 2 * len(gradients) + 2, "weights and momenta, and the two running statistics"


def test_states_and_batch_sizes_may_change():
    data = batches(8)
    a, trainer_a = made("momentum")
    b, trainer_b = made("momentum")
    step = gluon.TrainStep(b, LOSS, trainer_b)
    mx.random.seed(7)
    expected = plain(a, trainer_a, data[:4])
    trainer_a.set_states(trainer_a.get_states())
    trainer_a.set_learning_rate(0.01)
    expected = [*expected, *plain(a, trainer_a, [(x[:2], y[:2]) for x, y in data[4:]])]
    mx.random.seed(7)
    got = [step(x, y).asnumpy() for x, y in data[:4]]
    trainer_b.set_states(trainer_b.get_states())
    trainer_b.set_learning_rate(0.01)
    got += [step(x[:2], y[:2]).asnumpy() for x, y in data[4:]]
    for g, e in zip(got, expected, strict=True):
        numpy.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-6)


def test_a_net_that_returns_its_loss():
    class Model(nn.HybridSequential):
        def forward(self, x, y):
            return LOSS(super().forward(x), y).mean()

    net = Model()
    net.add(nn.Dense(10, in_units=4))
    net.initialize()
    step = gluon.TrainStep(net, None, gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5}))
    x, y = mx.np.ones((6, 4)), mx.np.zeros(6)
    losses = [step(x, y, batch_size=1).item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


def test_what_it_cannot_do():
    net = nn.HybridSequential()
    net.add(nn.Dense(2, in_units=3), nn.Dense(2, in_units=2))
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    x, y = mx.np.ones((4, 3)), mx.np.zeros(4)
    with pytest.raises(ArgumentError, match="TrainStep: expected a gluon.Trainer"):
        gluon.TrainStep(net, LOSS, "sgd")
    with pytest.raises(ArgumentError, match="TrainStep: expected arrays to train on"):
        gluon.TrainStep(net, LOSS, trainer)()
    with pytest.raises(AutogradError, match="a backward that reaches parameter"):
        gluon.TrainStep(net[0], LOSS, trainer)(x, y)
    kind = net[0].weight.data().device.device_type
    if kind == "gpu" and mx.num_gpus() < 2:
        return
    both = [mx.Device(kind, i) for i in range(2)]
    net.reset_device(both)
    with pytest.raises(NotSupported, match="parameters on one device"):
        gluon.TrainStep(net, LOSS, trainer)(x, y)
