"""ResNet-50 (v1b): training steps and inference, minimx hybridized and imperative, PyTorch eager in both layouts.

Synthetic data in the device's memory, SGD with momentum. The target: docs/performance.md.

    python bench/train.py --batch 8 --size 224
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as onp
from common import Report, arguments, import_torch, in_turn, mx_device, torch_device

import minimx as mx
from minimx import autograd, gluon

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))


def batch(args: argparse.Namespace) -> tuple[onp.ndarray, onp.ndarray]:
    """Images and labels."""
    rng = onp.random.default_rng(0)
    images = rng.normal(size=(args.batch, 3, args.size, args.size)).astype("float32")
    return images, rng.integers(0, 1000, args.batch)


def ours(args: argparse.Namespace, hybridize: bool) -> tuple[Callable, Callable]:
    """(training step, inference), each waiting for its result."""
    device = mx_device(args.device)
    images, labels = (mx.np.array(a, device=device) for a in batch(args))
    net = mx.models.resnet50_v1b(in_channels=3)
    net.initialize(mx.init.Xavier(), device=device)
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1e-3, "momentum": 0.9, "wd": 1e-4})
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()

    def train() -> None:
        with autograd.record():
            loss = loss_fn(net(images), labels)
        loss.backward()
        trainer.step(args.batch)
        mx.waitall()

    return train, lambda: net(images).wait_to_read()


def theirs(args: argparse.Namespace, channels_last: bool) -> tuple[Callable, Callable]:
    """The same in PyTorch, eager."""
    import torch
    import torch_resnet

    device = torch_device(args.device)
    form = torch.channels_last if channels_last else torch.contiguous_format
    images, labels = (torch.from_numpy(a).to(device) for a in batch(args))
    images = images.contiguous(memory_format=form)
    net = torch_resnet.make().to(device, memory_format=form)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def train() -> None:
        net.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        wait()

    def infer() -> None:
        net.eval()
        with torch.inference_mode():
            net(images)
        wait()

    return train, infer


def main() -> None:
    size = {"type": int, "metavar": "N"}
    args = arguments(__doc__, batch={**size, "default": 8}, size={**size, "default": 224})
    if args.tiny:
        args.batch, args.size = 2, 32
    rivals = {"minimx hybridized": ours(args, True), "minimx imperative": ours(args, False)}
    if import_torch() is not None:
        rivals["PyTorch"] = theirs(args, False)
        rivals["PyTorch channels_last"] = theirs(args, True)
    report = Report(f"ResNet-50, batch {args.batch}, {args.size} x {args.size}, float32, images a second", args)
    for i, what in enumerate(("training step", "inference")):
        cases = {who: pair[i] for who, pair in rivals.items()}
        for case in cases.values():
            case(), case()  # compile, settle
        report.add(what, in_turn(cases, args.rounds, seconds=0), items=args.batch)
    report.finish()


if __name__ == "__main__":
    main()
