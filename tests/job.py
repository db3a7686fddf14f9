"""A training job in a type: what the convergence tests of both devices run.

``Training`` does the steps, in float32, in mixed precision, or with all of the net in 16 bits; ``accuracy`` trains on
the digits that ship with minimx and says how many others are then read correctly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import minimx as mx
from minimx import amp, autograd, gluon
from minimx.gluon.data import DataLoader
from minimx.gluon.data.vision import Digits, transforms

BATCH = 64
SCALE = 256  # of a loss that is added up over the images; the default is for means, and would skip the first steps


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
                amp.init_trainer(self.trainer, amp.LossScaler(SCALE) if dtype == "float16" else None)
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


def accuracy(
    make: Callable[[], Any], way: str, dtype: str, epochs: int, rate: float, size: int = 8, hybridize: bool = True,
    whole: bool = False,
) -> float:  # fmt: skip
    """The share of unseen digits that the net of ``make``, trained with a rate that falls to 0, reads correctly."""
    mx.random.seed(1)
    np.random.seed(1)
    train, valid = (
        DataLoader(
            Digits(train=half, size=size, channels=3).transform_first(transforms.ToTensor()), BATCH, shuffle=half
        )
        for half in (True, False)
    )
    net = make()
    net.initialize(mx.init.Xavier())
    job = Training(net, way, dtype, learning_rate=rate, momentum=0.9, wd=1e-4)
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    device = mx.current_device()
    for epoch in range(epochs):
        job.trainer.set_learning_rate(rate * (1 - epoch / epochs))
        for images, labels in train:
            job.step(images.to_device(device), labels.to_device(device), whole)
    metric = gluon.metric.Accuracy()
    for images, labels in valid:
        metric.update(labels.to_device(device), job.scores(images.to_device(device)))
    return metric.get()[1]
