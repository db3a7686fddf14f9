"""ResNet on a GPU: 20 steps against torchvision, float16 against float32, and the model zoo against the CPU.

Float32 without TF32 on both sides. The weights are those of ../peers/torch_resnet.py, under torchvision's names.
"""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

CLASSES, BATCH, PIXELS, STEPS = 10, 8, 64, 20
MODES = pytest.mark.parametrize("hybridize", [False, True], ids=["imperative", "hybridized"])
LAYOUTS = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, H, W) and labels: a coarse pattern for each class, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, BATCH)
    coarse = np.random.default_rng(99).normal(size=(CLASSES, 3, 4, 4))
    patterns = coarse.repeat(PIXELS // 4, 2).repeat(PIXELS // 4, 3)
    images = patterns[labels] + 0.3 * rng.normal(size=(BATCH, 3, PIXELS, PIXELS))
    return images.astype("float32"), labels.astype("int64")


def ours(images: np.ndarray, layout: str, dtype: str = "float32") -> mx.np.ndarray:
    """Images on the GPU in the layout and type."""
    return mx.np.array(images if layout == "NCHW" else images.transpose(0, 2, 3, 1), dtype=dtype)


@pytest.fixture(scope="module")
def theirs():
    """torchvision's ResNet-50 as it is before training, a state by name."""
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from peers import torch_resnet

    return torch_resnet.make(classes=CLASSES, last_gamma=0.0).state_dict()


@pytest.fixture(scope="module")
def expected(theirs) -> list[float]:
    """PyTorch's losses."""
    import torch
    import torchvision

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    home = "cuda" if torch.cuda.is_available() else "cpu"
    net = torchvision.models.resnet50(num_classes=CLASSES)
    net.load_state_dict(theirs)
    net.train().to(home)
    optimizer = torch.optim.SGD(net.parameters(), lr=5e-4, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(STEPS):
        images, labels = (torch.from_numpy(x).to(home) for x in batch(step))
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def network(state, layout: str = "NCHW", hybridize: bool = False):
    """Our ResNet-50 with torchvision's weights."""
    net = mx.models.resnet50_v1b(classes=CLASSES, layout=layout, in_channels=3)
    mx.models.load_torchvision(net, state)
    assert all(p.data().device == mx.gpu(0) for p in net.collect_params().values())
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    return net


@MODES
@LAYOUTS
def test_twenty_steps_of_torchvision(theirs, expected, layout, hybridize):
    net = network(theirs, layout, hybridize)
    settings = {"learning_rate": 5e-4, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    losses = []
    for step in range(STEPS):
        images, labels = batch(step)
        with autograd.record():
            loss = loss_fn(net(ours(images, layout)), mx.np.array(labels))
        loss.backward()
        trainer.step(BATCH)
        losses.append(loss.mean())
    np.testing.assert_allclose([x.item() for x in losses], expected, rtol=2e-3)
    assert expected[-1] < expected[0]


@LAYOUTS
def test_the_same_bits_every_time(theirs, layout):
    """Three steps twice: kernels and cuDNN's algorithms are deterministic."""
    runs = []
    for _ in range(2):
        net = network(theirs, layout)
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3, "momentum": 0.9})
        for step in range(3):
            images, labels = batch(step)
            with autograd.record():
                loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(ours(images, layout)), mx.np.array(labels))
            loss.backward()
            trainer.step(BATCH)
        runs.append({name: p.data().asnumpy() for name, p in net.collect_params().items()})
    for name, value in runs[0].items():
        np.testing.assert_array_equal(runs[1][name], value, err_msg=name)


def distance(a, b) -> float:
    """Largest difference relative to the largest value of ``b``."""
    a, b = np.asarray(a, "float64"), np.asarray(b, "float64")
    return float(abs(a - b).max() / max(abs(b).max(), 1e-30))


@MODES
@LAYOUTS
@pytest.mark.parametrize("dtype, near", [("float16", 0.03), ("bfloat16", 0.15)])
def test_a_step_in_sixteen_bits(theirs, layout, hybridize, dtype, near):
    """Scores and the last layer's gradient are near those of float32; the step leaves finite weights that moved."""
    images, labels = batch(0)
    found = []
    for kind in ("float32", dtype):
        net = network(theirs, layout, hybridize)
        net.cast(kind)
        settings = {"learning_rate": 0.01, "momentum": 0.9, "multi_precision": kind != "float32"}
        trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
        for _ in range(3):
            with autograd.record():
                scores = net(ours(images, layout, kind))
                loss = gluon.loss.SoftmaxCrossEntropyLoss()(scores.astype("float32"), mx.np.array(labels))
            loss.backward()
            if len(found) < 2 * (1 + (kind != "float32")):
                gradient = net.collect_params()["output.weight"].grad()
                found += [scores.astype("float32").asnumpy(), gradient.astype("float32").asnumpy()]
            trainer.step(BATCH)
        for name, p in net.collect_params().items():
            assert np.isfinite(p.data().astype("float32").asnumpy()).all(), name
    for wide, narrow in zip(found[:2], found[2:], strict=True):
        assert distance(narrow, wide) < near


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2", "resnet50_v1", "resnet50_v1b", "resnet50_v2", "lenet"])
@pytest.mark.parametrize("training", [False, True], ids=["predict", "train"])
def test_the_zoo_against_the_cpu(name, training):
    """Outputs of the same net on both devices; in train mode the statistics, too."""
    shape = (4, 1, 28, 28) if name == "lenet" else (4, 3, 64, 64)
    x = mx.np.array(np.random.default_rng(0).normal(size=shape).astype("float32"), device=mx.cpu())
    net = mx.models.get_model(name, classes=7)
    net.initialize(mx.init.Xavier(), ctx=mx.cpu())
    net(x)
    there = mx.models.get_model(name, classes=7)
    there.load_dict({k: p.data() for k, p in net.collect_params().items()}, device=mx.gpu(0))
    modes = autograd.train_mode if training else autograd.predict_mode
    with mx.cpu(), modes():
        want = net(x).asnumpy()
    with modes():
        plain = there(x.to_device(mx.gpu(0)))
    assert plain.device == mx.gpu(0)
    assert distance(plain.asnumpy(), want) < 1e-3
    parameters = there.collect_params()
    for key, p in net.collect_params().items():
        assert distance(parameters[key].data().asnumpy(), p.data().asnumpy()) < 1e-3, key
    there.hybridize(static_alloc=True, static_shape=True)
    with autograd.predict_mode():
        before = [there(x.to_device(mx.gpu(0))).asnumpy() for _ in range(3)]
        there.hybridize(active=False)
        for y in before:
            assert distance(y, there(x.to_device(mx.gpu(0))).asnumpy()) < 1e-4
