"""Training in 16 bits gets where float32 gets: the digits job, and 20 steps of ResNet-50 beside PyTorch's autocast.

In mixed precision (mx.amp, with a loss scale for float16), and with all of the net in 16 bits (net.cast, and float32
copies of the weights in the optimizer).
"""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx import amp, autograd, gluon
from minimx.gluon.data import DataLoader
from minimx.gluon.data.vision import Digits, transforms

from .test_resnet import BATCH, CLASSES, STEPS, batch, network, ours, theirs  # noqa: F401 - theirs is a fixture

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

EPOCHS, SIZE, RATE = 10, 32, 0.05
NARROW = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
WAYS = pytest.mark.parametrize("way", ["amp", "cast"])


class Training:
    """A net, its trainer, and steps in a type: ``way`` is "float32", "amp" or "cast"."""

    def __init__(self, net, way: str, dtype: str, **settings) -> None:
        self.net, self.way, self.dtype = net, way, dtype
        if way == "cast":
            net.cast(dtype)
        self.trainer = gluon.Trainer(net.collect_params(), "sgd", settings | {"multi_precision": way == "cast"})
        self.loss = gluon.loss.SoftmaxCrossEntropyLoss()
        if way == "amp":
            with self.mode():
                amp.init_trainer(self.trainer)
        self.whole = gluon.TrainStep(net, self.loss, self.trainer)

    def mode(self):
        """Mixed precision, or not."""
        return amp.autocast(self.dtype if self.way == "amp" else None)

    def scores(self, images):
        """In float32, whatever the net computes in."""
        with self.mode():
            return self.net(images.astype(self.dtype) if self.way == "cast" else images).astype("float32")

    def step(self, images, labels, whole: bool = False):
        """One step; the losses. whole: as one program."""
        if whole:
            with self.mode():
                return self.whole(images.astype(self.dtype) if self.way == "cast" else images, labels)
        with autograd.record():
            loss = self.loss(self.scores(images), labels)
            if self.way == "amp":
                with amp.scale_loss(loss, self.trainer) as scaled:
                    pass
            else:
                scaled = loss
        autograd.backward(scaled)
        self.trainer.step(len(labels))
        return loss


def accuracy_of_digits(way: str, dtype: str, hybridize: bool = True, whole: bool = False) -> float:
    """Accuracy on digits that were not trained on, of a small ResNet after a few epochs."""
    mx.random.seed(1)
    np.random.seed(1)
    train, valid = (
        DataLoader(Digits(train=half, size=SIZE, channels=3).transform_first(transforms.ToTensor()), 64, shuffle=half)
        for half in (True, False)
    )
    net = mx.models.get_model("resnet18_v1b", classes=10)
    net.initialize(mx.init.Xavier())
    job = Training(net, way, dtype, learning_rate=RATE, momentum=0.9, wd=1e-4)
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    device = mx.current_device()
    for epoch in range(EPOCHS):
        job.trainer.set_learning_rate(RATE * (1 - epoch / EPOCHS))
        for images, labels in train:
            job.step(images.to_device(device), labels.to_device(device), whole)
    metric = gluon.metric.Accuracy()
    for images, labels in valid:
        metric.update(labels.to_device(device), job.scores(images.to_device(device)))
    return metric.get()[1]


@pytest.fixture(scope="module")
def wide() -> float:
    """What float32 reaches."""
    with mx.gpu(0):
        reached = accuracy_of_digits("float32", "float32")
    assert reached > 0.95
    return reached


@WAYS
@NARROW
def test_digits(wide, dtype, way):
    assert abs(accuracy_of_digits(way, dtype) - wide) < 0.02


def test_digits_operator_by_operator(wide):
    """Not hybridized: nothing is fused."""
    assert abs(accuracy_of_digits("amp", "float16", hybridize=False) - wide) < 0.02


@NARROW
def test_digits_in_whole_steps(wide, dtype):
    """Forward, backward and update as one program."""
    assert abs(accuracy_of_digits("amp", dtype, whole=True) - wide) < 0.02


def losses_of_torch(state, dtype: str) -> list[float]:
    """PyTorch's losses in its own mixed precision."""
    import torch
    import torchvision

    net = torchvision.models.resnet50(num_classes=CLASSES)
    net.load_state_dict(state)
    net.train().to("cuda")
    optimizer = torch.optim.SGD(net.parameters(), lr=5e-4, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype == "float16")
    losses = []
    for step in range(STEPS):
        images, labels = (torch.from_numpy(x).to("cuda") for x in batch(step))
        with torch.autocast("cuda", getattr(torch, dtype)):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("dtype, near", [("float16", 0.01), ("bfloat16", 0.05)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@WAYS
def test_twenty_steps_beside_autocast(theirs, dtype, near, layout, way):  # noqa: F811
    """The losses of ResNet-50 follow PyTorch's."""
    want = losses_of_torch(theirs, dtype)
    job = Training(network(theirs, layout, True), way, dtype, learning_rate=5e-4, momentum=0.9, wd=1e-4)
    got = []
    for step in range(STEPS):
        images, labels = batch(step)
        got.append(job.step(ours(images, layout), mx.np.array(labels)).mean().item())
    assert len(labels) == BATCH and want[-1] < want[0] and got[-1] < got[0]
    np.testing.assert_allclose(got, want, rtol=near)
