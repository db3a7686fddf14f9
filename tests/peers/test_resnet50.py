"""ResNet-50 v1b against PyTorch's with the same weights: logits, every gradient, and 20 steps of training."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.models.torchvision import _translate

torch = pytest.importorskip("torch", reason="the extra `peers` brings PyTorch")
torch_resnet = pytest.importorskip("torch_resnet")

pytestmark = pytest.mark.peers
MODES = pytest.mark.parametrize("hybridize", [False, True], ids=["imperative", "hybridized"])
CLASSES = 10


@pytest.fixture(scope="module", autouse=True)
def two_threads():
    """PyTorch with as many threads as minimx."""
    torch.set_num_threads(mx.engine.num_threads())


def pair(hybridize: bool, classes: int = CLASSES):
    """PyTorch's network and ours with its weights."""
    theirs = torch_resnet.make(classes)
    ours = mx.models.resnet50_v1b(classes=classes)
    mx.models.load_torchvision(ours, theirs.state_dict())
    if hybridize:
        ours.hybridize(static_alloc=True, static_shape=True)
    return theirs, ours


def batch(size: int, pixels: int, seed: int = 0):
    """Images and labels as NumPy arrays; images of a class have something in common, so that there is a slope."""
    rng = onp.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size)
    patterns = onp.random.default_rng(99).normal(size=(CLASSES, 3, pixels, pixels))
    images = rng.normal(size=(size, 3, pixels, pixels)) + patterns[labels]
    return images.astype("float32"), labels.astype("int64")


def distance(a, b) -> float:
    """Largest difference relative to the largest value of ``b``."""
    a, b = onp.asarray(a, "float64"), onp.asarray(b, "float64")
    return float(abs(a - b).max() / max(abs(b).max(), 1e-30))


@MODES
def test_logits_at_full_size(hybridize):
    theirs, ours = pair(hybridize, classes=1000)
    images, _ = batch(2, 224)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images)).numpy()
    assert distance(ours(mx.np.array(images)).asnumpy(), expected) < 1e-4


@MODES
def test_every_gradient(hybridize):
    theirs, ours = pair(hybridize)
    images, labels = batch(4, 64)
    torch.nn.functional.cross_entropy(theirs.train()(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    with autograd.record():
        loss = loss_fn(ours(mx.np.array(images)), mx.np.array(labels)).mean()
    loss.backward()
    parameters = ours.collect_params()
    errors = {
        name: distance(parameters[_translate(name)].grad().asnumpy(), theirs_.grad.numpy())
        for name, theirs_ in theirs.named_parameters()
    }
    assert len(errors) == sum(p.grad_req != "null" for p in parameters.values())
    assert {name: error for name, error in errors.items() if not error < 1e-3} == {}


@MODES
def test_batch_norm_statistics_after_a_step(hybridize):
    theirs, ours = pair(hybridize)
    images, _ = batch(4, 64)
    theirs.train()(torch.from_numpy(images))
    with autograd.record():
        ours(mx.np.array(images)).wait_to_read()
    parameters = ours.collect_params()
    for name, value in theirs.named_buffers():
        if name.endswith("running_mean"):
            assert distance(parameters[_translate(name)].data().asnumpy(), value.numpy()) < 1e-4, name


@MODES
def test_twenty_steps_of_training(hybridize):
    theirs, ours = pair(hybridize)
    optimizer = torch.optim.SGD(theirs.train().parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    settings = {"learning_rate": 1e-3, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(ours.collect_params(), "sgd", settings)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(20):
        images, labels = batch(4, 64, seed=step)
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        with autograd.record():
            loss = loss_fn(ours(mx.np.array(images)), mx.np.array(labels))
        loss.backward()
        trainer.step(len(labels))
        assert loss.mean().item() == pytest.approx(expected.item(), rel=1e-3), f"step {step}"
