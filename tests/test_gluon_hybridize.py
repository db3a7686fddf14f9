"""Hybridized and imperative give the same numbers, by layer: outputs, gradients, statistics and random draws."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors, models
from minimx.gluon import HybridBlock, Parameter, Trainer, loss, nn

R = onp.random.default_rng(0)


def drawn(*shape):
    return R.normal(size=shape).astype("float32")


IMAGE, LINE, VOLUME, TABLE = drawn(2, 4, 8, 8), drawn(2, 4, 9), drawn(2, 4, 5, 5, 5), drawn(6, 4)


def parallel():
    block = nn.HybridConcatenate(axis=1)
    block.add(nn.Identity(), nn.Dense(3))
    return block


LAYERS = {
    "Dense": (lambda: nn.Dense(5, activation="tanh"), TABLE),
    "Dense, no flatten": (lambda: nn.Dense(5, flatten=False, use_bias=False), LINE),
    "Conv1D": (lambda: nn.Conv1D(6, 3, 2, 1, activation="relu"), LINE),
    "Conv2D": (lambda: nn.Conv2D(6, 3, padding=1, groups=2), IMAGE),
    "Conv2D NHWC": (lambda: nn.Conv2D(6, 3, layout="NHWC"), IMAGE),
    "Conv3D": (lambda: nn.Conv3D(6, 3), VOLUME),
    "Conv1DTranspose": (lambda: nn.Conv1DTranspose(6, 3, 2), LINE),
    "Conv2DTranspose": (lambda: nn.Conv2DTranspose(6, 3, 2, 1, 1), IMAGE),
    "Conv3DTranspose": (lambda: nn.Conv3DTranspose(6, 3), VOLUME),
    "MaxPool2D": (lambda: nn.MaxPool2D(3, 2, 1), IMAGE),
    "AvgPool2D": (lambda: nn.AvgPool2D(3, 2, 1, count_include_pad=False), IMAGE),
    "MaxPool1D": (lambda: nn.MaxPool1D(2), LINE),
    "AvgPool3D": (lambda: nn.AvgPool3D(2), VOLUME),
    "GlobalAvgPool2D": (lambda: nn.GlobalAvgPool2D(), IMAGE),
    "GlobalMaxPool2D": (lambda: nn.GlobalMaxPool2D(), IMAGE),
    "AdaptiveAvgPool2D": (lambda: nn.AdaptiveAvgPool2D(3), IMAGE),
    "BatchNorm": (lambda: nn.BatchNorm(), IMAGE),
    "BatchNorm of a table": (lambda: nn.BatchNorm(), TABLE),
    "BatchNorm, global": (lambda: nn.BatchNorm(use_global_stats=True, axis=-1), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2), IMAGE),
    "InstanceNorm": (lambda: nn.InstanceNorm(scale=True), IMAGE),
    "RMSNorm": (lambda: nn.RMSNorm(), TABLE),
    "Dropout": (lambda: nn.Dropout(0.4), IMAGE),
    "Dropout of axes": (lambda: nn.Dropout(0.4, axes=(2, 3)), IMAGE),
    "Flatten": (lambda: nn.Flatten(), IMAGE),
    "HybridLambda": (lambda: nn.HybridLambda(lambda F, x: F.tanh(x) * 2), IMAGE),
    "Concatenate": (parallel, TABLE),
    "PReLU": (lambda: nn.PReLU(in_channels=4), IMAGE),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), IMAGE),
    "ELU": (lambda: nn.ELU(), IMAGE),
    "SELU": (lambda: nn.SELU(), IMAGE),
    "GELU": (lambda: nn.GELU(), IMAGE),
    "SiLU": (lambda: nn.SiLU(), IMAGE),
    "Swish": (lambda: nn.Swish(1.5), IMAGE),
    "Mish": (lambda: nn.Mish(), IMAGE),
    "ReflectionPad2D": (lambda: nn.ReflectionPad2D(2), IMAGE),
    "PixelShuffle2D": (lambda: nn.PixelShuffle2D(2), IMAGE),
}


def step(net, x, train=True):
    """(output, input gradient, parameter gradients, parameters) of one forward and backward from a fixed seed."""
    mx.random.seed(5)
    x = mx.np.array(x)
    x.attach_grad()
    with autograd.record(train_mode=train):
        y = net(x)
        target = (y * mx.np.arange(y.size).reshape(y.shape) / y.size).sum()
    target.backward()
    parameters = net.collect_params()
    grads = {k: p.grad().asnumpy() for k, p in parameters.items() if p.grad_req != "null"}
    values = {k: p.data().asnumpy() for k, p in parameters.items()}
    return [y.asnumpy(), x.grad.asnumpy(), *grads.values(), *values.values()]


def twins(make, x, init=None):
    """The same block twice, the second hybridized; all shapes are settled."""
    nets = make(), make()
    for net in nets:
        mx.random.seed(1)
        net.initialize(init or mx.init.Normal(0.3))
        with autograd.predict_mode():
            net(mx.np.array(x))
    nets[1].hybridize()
    return nets


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, train):
    make, x = LAYERS[name]
    plain, hybrid = twins(make, x)
    for _ in range(2):
        for a, b in zip(step(plain, x, train), step(hybrid, x, train), strict=True):
            onp.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-5)


slow = pytest.mark.slow
MODELS = [("lenet", "NCHW"), ("resnet18_v1", "NCHW")]
MODELS += [pytest.param(f"resnet{v}", y, marks=slow) for v in ("18_v1", "18_v2", "50_v1b") for y in ("NCHW", "NHWC")][
    1:
]


@pytest.mark.parametrize("name, layout", MODELS)
def test_models(name, layout):
    """Gradients are compared with running statistics: with the batch's, rounding alone moves those of deep nets 1 %."""
    options = {"classes": 5, "thumbnail": True, "layout": layout} if name != "lenet" else {"classes": 5}
    x = drawn(2, 3, 32, 32) if layout == "NCHW" else drawn(2, 32, 32, 3)
    plain, hybrid = twins(lambda: models.get_model(name, **options), x, mx.init.Xavier())
    onp.testing.assert_allclose(step(hybrid, x)[0], step(plain, x)[0], rtol=2e-3, atol=2e-3)
    for a, b in zip(step(plain, x, False), step(hybrid, x, False), strict=True):
        assert onp.linalg.norm(b - a) <= 5e-3 * onp.linalg.norm(a) + 1e-6


@pytest.mark.parametrize("make", [loss.L2Loss, loss.HuberLoss, loss.SigmoidBCELoss, loss.SoftmaxCELoss])
def test_losses(make):
    pred, label = (
        drawn(4, 3),
        onp.array([0, 2, 1, 1]) if make is loss.SoftmaxCELoss else (drawn(4, 3) > 0).astype("float32"),
    )
    results = []
    for hybrid in (False, True):
        block, x = make(), mx.np.array(pred)
        if hybrid:
            block.hybridize()
        x.attach_grad()
        with autograd.record():
            y = block(x, mx.np.array(label))
        y.backward()
        results.append((y.asnumpy(), x.grad.asnumpy()))
    for a, b in zip(*results, strict=True):
        onp.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


def test_training_is_the_same():
    def run(hybrid):
        mx.random.seed(3)
        net = nn.HybridSequential()
        net.add(nn.Dense(16, activation="relu"), nn.BatchNorm(), nn.Dropout(0.2), nn.Dense(3))
        net.initialize(mx.init.Xavier())
        if hybrid:
            net.hybridize()
        trainer, criterion = (
            Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9}),
            loss.SoftmaxCELoss(),
        )
        x, y, losses = mx.np.array(drawn_once), mx.np.array(onp.arange(30) % 3), []
        for _ in range(15):
            with autograd.record():
                value = criterion(net(x), y)
            value.backward()
            trainer.step(30)
            losses.append(value.asnumpy().mean())
        return losses

    drawn_once = onp.random.default_rng(3).normal(size=(30, 4)).astype("float32")
    plain, hybrid = run(False), run(True)
    onp.testing.assert_allclose(hybrid, plain, rtol=1e-3)
    assert plain[-1] < plain[0]


def test_changes_after_hybridize_are_noticed():
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2, use_bias=False), nn.Dense(1, in_units=3, use_bias=False))
    net.initialize("ones")
    net.hybridize()
    x = mx.np.ones((1, 2))
    assert net(x).item() == 6
    net[0].weight.set_data(mx.np.zeros((3, 2)))
    assert net(x).item() == 0
    net[0].weight = Parameter("weight", shape=(3, 2), init="ones")
    net[0].initialize()
    assert net(x).item() == 6
    net.cast("float64")
    assert str(net(x.astype("float64")).dtype) == "float64"
    net.add(nn.HybridLambda(lambda x: x + 1))
    assert net(x.astype("float64")).item() == 7
    net[0].weight.grad_req = "null"
    for grad_req, want in [("write", 6), ("null", None), ("write", 6)]:
        net[0].weight.grad_req = grad_req
        with autograd.record():
            y = net(x.astype("float64")).sum()
        y.backward()
        if want is not None:
            assert net[0].weight.grad().sum().item() == want
    net.hybridize(False)
    assert net(x.astype("float64")).item() == 7


def test_several_inputs_outputs_and_signatures():
    class Two(HybridBlock):
        def forward(self, a, pair):
            return {"sum": a + pair[0], "rest": [pair[1] * 2, a]}

    net = Two()
    net.hybridize(static_alloc=True)
    for n in (2, 3, 2):
        out = net(mx.np.ones((n,)), (mx.np.ones((n,)), mx.np.zeros((n,))))
        assert (
            out["sum"].tolist() == [2] * n and out["rest"][0].tolist() == [0] * n and out["rest"][1].tolist() == [1] * n
        )


def test_branch_on_values_is_reported():
    class Branch(HybridBlock):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    net = Branch()
    net.hybridize()
    with pytest.raises(errors.GraphError):
        net(mx.np.ones((2,)))


def test_graph_can_be_printed():
    net = nn.Dense(3, activation="relu")
    net.initialize()
    assert "relu" in net.graph(mx.np.ones((1, 2))).pretty()
