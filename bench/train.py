"""ResNet-50 (v1b): training steps and inference, minimx in its three forms, PyTorch in those that its users know.

Synthetic data in the device's memory, SGD with momentum. On a GPU the peers are PyTorch eager and, with --compile,
torch.compile, both channels_last under autocast. The targets: docs/performance.md.

    python bench/train.py --batch 8 --size 224
    python bench/train.py --device gpu --batch 256 --dtype float16 --layout NHWC --compile
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as onp
from common import Report, arguments, import_torch, in_turn, mx_device, torch_device

import minimx as mx
from minimx import autograd, gluon

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))


def batch(args: argparse.Namespace, layout: str = "NCHW") -> tuple[onp.ndarray, onp.ndarray]:
    """Images and labels."""
    rng = onp.random.default_rng(0)
    shape = {"N": args.batch, "C": 3, "H": args.size, "W": args.size}
    images = rng.normal(size=[shape[axis] for axis in layout]).astype("float32")
    return images, rng.integers(0, 1000, args.batch)


def ours(args: argparse.Namespace, how: str) -> tuple[Callable, Callable]:
    """(training steps, inference), each waiting for its results. how: "step", "hybridized" or "imperative"."""
    device = mx_device(args.device)
    images, labels = (mx.np.array(a, device=device) for a in batch(args, args.layout))
    images = images.astype("float32" if args.dtype == "tf32" else args.dtype)
    net = mx.models.resnet50_v1b(in_channels=3, layout=args.layout)
    net.initialize(mx.init.Xavier(), device=device)
    if args.dtype in ("float16", "bfloat16"):
        net.cast(args.dtype)
    if how != "imperative":
        net.hybridize(static_alloc=True, static_shape=True)
    settings = {"learning_rate": 1e-3, "momentum": 0.9, "wd": 1e-4, "multi_precision": args.dtype.endswith("16")}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    step = gluon.TrainStep(net, loss_fn, trainer)

    def train() -> None:
        for _ in range(args.steps):
            if how == "step":
                step(images, labels)
                continue
            with autograd.record():
                loss = loss_fn(net(images), labels)
            loss.backward()
            trainer.step(args.batch)
        mx.waitall()

    def infer() -> None:
        for _ in range(args.steps):
            out = net(images)
        out.wait_to_read()

    return train, infer


def theirs(args: argparse.Namespace, channels_last: bool, compiled: bool = False) -> tuple[Callable, Callable]:
    """The same in PyTorch."""
    import torch
    import torch_resnet

    device = torch_device(args.device)
    dtype = getattr(torch, args.dtype) if args.dtype.endswith("16") else None
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.dtype == "tf32"
    form = torch.channels_last if channels_last else torch.contiguous_format
    images, labels = (torch.from_numpy(a).to(device) for a in batch(args))
    images = images.to(dtype or torch.float32).contiguous(memory_format=form)
    net: Any = torch_resnet.make().to(device, memory_format=form)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    run = torch.compile(net) if compiled else net

    def scope() -> Any:
        return torch.autocast(device.partition(":")[0], dtype=dtype, enabled=dtype is not None)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def train() -> None:
        net.train()
        for _ in range(args.steps):
            optimizer.zero_grad()
            with scope():
                loss = torch.nn.functional.cross_entropy(run(images), labels)
            loss.backward()
            optimizer.step()
        wait()

    def infer() -> None:
        net.eval()
        with torch.inference_mode(), scope():
            for _ in range(args.steps):
                run(images)
        wait()

    return train, infer


def main() -> None:
    size = {"type": int, "metavar": "N"}
    args = arguments(
        __doc__,
        batch={**size, "default": 8},
        size={**size, "default": 224},
        steps={**size, "default": 1, "help": "steps between waits (on a GPU 10 and more)"},
        dtype={"default": "float32", "choices": ["float32", "tf32", "float16", "bfloat16"]},
        layout={"default": "NCHW", "choices": ["NCHW", "NHWC"], "help": "of minimx; PyTorch runs in both"},
        compile={"action": "store_true", "help": "torch.compile as well: it takes a minute to start"},
        training={"action": "store_true", "help": "training steps only"},
        inference={"action": "store_true", "help": "inference only"},
    )
    if args.tiny:
        args.batch, args.size, args.steps = 2, 32, 1
    if args.device != "cpu":
        mx.device.library_settings(allow_tf32=args.dtype == "tf32", deterministic=False, autotune=True)
    hows = ("hybridized", "imperative") if args.inference else ("step", "hybridized", "imperative")
    rivals = {f"minimx {how}": ours(args, how) for how in hows}
    if import_torch() is not None:
        if args.device == "cpu":
            rivals["PyTorch"] = theirs(args, False)
        rivals["PyTorch channels_last"] = theirs(args, True)
        if args.compile:
            rivals["torch.compile channels_last"] = theirs(args, True, True)
    report = Report(f"ResNet-50, batch {args.batch}, {args.size} x {args.size}, {args.dtype}, images a second", args)
    for i, what in enumerate(("training step", "inference")):
        if args.inference and i == 0 or args.training and i == 1:
            continue
        cases = {who: pair[i] for who, pair in rivals.items() if i == 0 or who != "minimx step"}
        for case in cases.values():
            case()  # compile
        mx.rtc.wait()
        for case in cases.values():
            case(), case()  # settle
        report.add(what, in_turn(cases, args.rounds, seconds=0), items=args.batch * args.steps)
    report.finish()


if __name__ == "__main__":
    main()
