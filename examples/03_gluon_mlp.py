"""Gluon: a network, a loss, a trainer and a loop, on 8x8 images of handwritten digits. Next: 04_hybridize.py."""

import argparse

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.gluon.data import DataLoader
from minimx.gluon.data.vision import Digits, transforms


def loaders(batch_size: int) -> tuple[DataLoader, DataLoader]:
    """Batches of images (N, 1, 8, 8) in 0 .. 1 and labels (N,)."""
    halves = (Digits(train=train).transform_first(transforms.ToTensor()) for train in (True, False))
    train, valid = (DataLoader(half, batch_size, shuffle=i == 0) for i, half in enumerate(halves))
    return train, valid


def make_net() -> nn.HybridSequential:
    """Two hidden layers. Sizes of inputs are left out: the first batch tells them."""
    net = nn.HybridSequential()
    net.add(nn.Dense(128, activation="relu"), nn.Dropout(0.2), nn.Dense(64, activation="relu"), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    return net


def accuracy(net: nn.HybridSequential, batches: DataLoader) -> float:
    """Share of images whose best score is that of their label."""
    metric = gluon.metric.Accuracy()
    for images, labels in batches:
        metric.update(labels, net(images))
    return metric.get()[1]


def train(epochs: int) -> float:
    """Train and return the accuracy on images that were not trained on."""
    mx.random.seed(0)
    train_batches, valid_batches = loaders(32)
    net, loss_fn = make_net(), gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 3e-3})
    for epoch in range(epochs):
        total = gluon.metric.Loss()
        for images, labels in train_batches:
            with autograd.record():  # dropout drops, operators go on the tape
                loss = loss_fn(net(images), labels)
            loss.backward()
            trainer.step(len(labels))
            total.update(None, loss)
        print(f"epoch {epoch + 1}: loss {total.get()[1]:.4f}, validation accuracy {accuracy(net, valid_batches):.2%}")
    return accuracy(net, valid_batches)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="two epochs")
    reached = train(2 if parser.parse_args().tiny else 12)
    print(f"{reached:.2%} of the digits are read correctly")
