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


def pair(hybridize: bool, **options):
    """PyTorch's network and ours with its weights."""
    theirs = torch_resnet.make(**{"classes": CLASSES, **options})
    ours = mx.models.resnet50_v1b(classes=theirs.fc.out_features)
    mx.models.load_torchvision(ours, theirs.state_dict())
    if hybridize:
        ours.hybridize(static_alloc=True, static_shape=True)
    return theirs, ours


def batch(size: int, pixels: int, seed: int = 0):
    """Images and labels as NumPy arrays: a coarse pattern for each class, under noise."""
    rng = onp.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, size)
    patterns = onp.random.default_rng(99).normal(size=(CLASSES, 3, 4, 4)).repeat(pixels // 4, 2).repeat(pixels // 4, 3)
    images = patterns[labels] + 0.3 * rng.normal(size=(size, 3, pixels, pixels))
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


def gradients(theirs, ours, images, labels):
    """By PyTorch's names: PyTorch's gradients, in the type of its network, and ours in float32."""
    theirs.zero_grad()
    scores = theirs.train()(torch.from_numpy(images).to(theirs.fc.weight.dtype))
    torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels)).backward()
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(ours(mx.np.array(images)), mx.np.array(labels)).mean()
    loss.backward()
    parameters = ours.collect_params()
    return {
        name: (tensor.grad.numpy(), parameters[_translate(name)].grad().asnumpy())
        for name, tensor in theirs.named_parameters()
    }


@MODES
def test_every_gradient(hybridize):
    """On some batch of four: where rounding flips the sign of one ReLU, gradients before it differ by more than 1e-3.

    The reference is PyTorch in float64, which is nearer to both than they are to each other.
    """
    theirs, ours = pair(hybridize)
    theirs = theirs.double()
    errors: dict[str, float] = {}
    for seed in range(4):
        found = gradients(theirs, ours, *batch(4, 32, seed))
        errors = {name: min(distance(b, a), errors.get(name, 1.0)) for name, (a, b) in found.items()}
    assert len(errors) == sum(p.grad_req != "null" for p in ours.collect_params().values())
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
    theirs, ours = pair(hybridize, last_gamma=0.0)  # blocks begin as shortcuts, which keeps rounding from growing
    optimizer = torch.optim.SGD(theirs.train().parameters(), lr=5e-4, momentum=0.9, weight_decay=1e-4)
    settings = {"learning_rate": 5e-4, "momentum": 0.9, "wd": 1e-4}
    trainer = gluon.Trainer(ours.collect_params(), "sgd", settings)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(20):
        images, labels = batch(16, 32, seed=step)
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(images)), torch.from_numpy(labels))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        with autograd.record():
            loss = loss_fn(ours(mx.np.array(images)), mx.np.array(labels))
        loss.backward()
        trainer.step(len(labels))
        assert loss.mean().item() == pytest.approx(expected.item(), rel=1e-3), f"step {step}"
