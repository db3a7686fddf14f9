"""BERT-base's encoder: training steps with AdamW, minimx as whole steps, hybridized and imperative, PyTorch eager and
compiled.

Synthetic data in the device's memory, mean squared error, dropout 0.1. PyTorch's is nn.TransformerEncoder (post-norm,
GELU, its fused attention) under autocast with the fused AdamW; minimx's weights are of the type that is asked for, with
float32 masters. The JSON also has the peak of arrays and the time to the first step, as bench/train.py has them. The
targets: docs/performance.md.

    python bench/bert.py --device gpu --dtype bfloat16 --compile
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as onp
from common import COMPILE, Report, arguments, import_torch, mx_device, torch_device

import minimx as mx
from minimx import autograd, gluon


def batch(args: argparse.Namespace) -> tuple[onp.ndarray, onp.ndarray]:
    """Inputs and targets: (N, T, C)."""
    rng = onp.random.default_rng(0)
    shape = (args.batch, args.time, args.units)
    return rng.normal(size=shape).astype("float32"), rng.normal(size=shape).astype("float32")


def ours(args: argparse.Namespace, how: str) -> Callable:
    """Training steps that wait for their results. how: "step", "hybridized" or "imperative"."""
    x, y = (mx.np.array(a, device=mx_device(args.device)).astype(args.dtype) for a in batch(args))
    net = mx.models.BERTEncoder(args.layers, args.units, 4 * args.units, args.units // 64, 0.1)
    net.initialize(mx.init.Normal(0.02), device=mx_device(args.device))
    net.cast(args.dtype)
    if how == "hybridized":
        net.hybridize(static_alloc=True, static_shape=True)
    settings = {"learning_rate": 1e-4, "wd": 0.01, "multi_precision": args.dtype != "float32"}
    trainer = gluon.Trainer(net.collect_params(), "adamw", settings)
    loss_fn = gluon.loss.L2Loss()
    step = gluon.TrainStep(net, loss_fn, trainer)

    def train(steps: int = args.steps) -> None:
        for _ in range(steps):
            if how == "step":
                step(x, y)
                continue
            with autograd.record():
                loss = loss_fn(net(x), y)
            loss.backward()
            trainer.step(args.batch)
        mx.waitall()

    return train


def theirs(args: argparse.Namespace, mode: str | None) -> Callable:
    """The same in PyTorch. mode: None for eager, else torch.compile's."""
    import torch

    device, dtype = torch_device(args.device), getattr(torch, args.dtype)
    x, y = (torch.from_numpy(a).to(device) for a in batch(args))
    layer = torch.nn.TransformerEncoderLayer(
        args.units, args.units // 64, 4 * args.units, 0.1, activation="gelu", batch_first=True
    )
    net = torch.nn.TransformerEncoder(layer, args.layers, enable_nested_tensor=False).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.01, fused=device.startswith("cuda"))
    run: Any = net if mode is None else torch.compile(net, mode=None if mode == "default" else mode)

    def train(steps: int = args.steps) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device.partition(":")[0], dtype=dtype, enabled=args.dtype != "float32"):
                loss = torch.nn.functional.mse_loss(run(x), y)
            loss.backward()
            optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return train


def main() -> None:
    size = {"type": int, "metavar": "N"}
    args = arguments(
        __doc__,
        batch={**size, "default": 32},
        time={**size, "default": 128, "help": "tokens of a sequence"},
        layers={**size, "default": 12},
        units={**size, "default": 768},
        steps={**size, "default": 1, "help": "steps between waits (on a GPU 10 and more)"},
        dtype={"default": "float32", "choices": ["float32", "float16", "bfloat16"]},
        compile=COMPILE,
    )
    if args.tiny:
        args.batch, args.time, args.layers, args.units, args.steps = 2, 8, 1, 64, 1
    made = {f"minimx {how}": partial(ours, args, how) for how in ("step", "hybridized", "imperative")}
    if import_torch() is not None:
        made["PyTorch"] = partial(theirs, args, None)
        made |= {f"torch.compile {mode}": partial(theirs, args, mode) for mode in filter(None, args.compile.split(","))}
    report = Report(f"BERT encoder, {args.batch} x {args.time}, {args.dtype}, sequences a second", args)
    report.measure("training step", made, items=args.batch * args.steps)
    report.finish()


if __name__ == "__main__":
    main()
