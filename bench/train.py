"""ResNet-50 (v1b): training steps and inference, minimx in its three forms, PyTorch in those that its users know.

Synthetic data in the device's memory, SGD with momentum. On a GPU the peers are PyTorch eager, with --compile
torch.compile, with --graph a CUDA graph of a whole step; all channels_last under autocast. The JSON also has the peak
of each case's arrays (bytes) and the time to its first step (seconds): common.begin says what they count, and a peer
that is compiled finds cuDNN's engines chosen by eager code. The targets: docs/performance.md.

    python bench/train.py --batch 8 --size 224
    python bench/train.py --device gpu --batch 256 --dtype float16 --layout NHWC --compile
    python bench/train.py --device gpu --peers  # the whole table of docs/performance.md: peers.py
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any

import common
import numpy as onp
import peers
from common import Report, arguments, import_torch, mx_device, torch_device

import minimx as mx
from minimx import amp, autograd, gluon

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "peers"))


def batch(args: argparse.Namespace, layout: str = "NCHW") -> tuple[onp.ndarray, onp.ndarray]:
    """Images and labels: the same arrays for all who ask."""
    shape = {"N": args.batch, "C": 3, "H": args.size, "W": args.size}
    return _batch(tuple(shape[axis] for axis in layout), args.batch)


@cache
def _batch(shape: tuple[int, ...], count: int) -> tuple[onp.ndarray, onp.ndarray]:
    rng = onp.random.default_rng(0)
    return rng.standard_normal(shape, "float32"), rng.integers(0, 1000, count)


def ours(args: argparse.Namespace, how: str, training: bool) -> Callable:
    """Training steps or inference; waits for the results. how: "step", "hybridized" or "imperative"."""
    device = mx_device(args.device)
    images, labels = (mx.np.array(a, device=device) for a in batch(args, args.layout))
    images = images.astype("float32" if args.dtype == "tf32" else args.dtype)
    net = mx.models.resnet50_v1b(in_channels=3, layout=args.layout)
    net.initialize(mx.init.Xavier(), device=device)
    low = args.dtype in ("float16", "bfloat16")
    if args.amp:
        amp.init(args.dtype)
    elif low:
        net.cast(args.dtype)
    if how != "imperative":
        net.hybridize(static_alloc=True, static_shape=True)
    settings = {"learning_rate": 1e-3, "momentum": 0.9, "wd": 1e-4, "multi_precision": low and not args.amp}
    trainer = gluon.Trainer(net.collect_params(), "sgd", settings)
    if args.amp:
        amp.init_trainer(trainer)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    step = gluon.TrainStep(net, loss_fn, trainer)

    def train(steps: int = args.steps) -> None:
        for _ in range(steps):
            if how == "step":
                step(images, labels)
                continue
            with autograd.record():
                loss = loss_fn(net(images), labels)
                with amp.scale_loss(loss, trainer) if args.amp else nullcontext(loss) as scaled:
                    autograd.backward(scaled)
            trainer.step(args.batch)
        mx.waitall()

    def infer(steps: int = args.steps) -> None:
        outs: deque = deque(maxlen=steps if how == "imperative" else 1)  # what is dropped may not be computed
        for _ in range(steps):
            outs.append(net(images))
        outs[-1].wait_to_read()

    return train if training else infer


def theirs(args: argparse.Namespace, training: bool, channels_last: bool = True, mode: str = "eager") -> Callable:
    """The same in PyTorch. mode: "eager", "graph" (training only), or torch.compile's."""
    import torch
    import torch_resnet

    device = torch_device(args.device)
    dtype = getattr(torch, args.dtype) if args.dtype.endswith("16") else None
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = args.dtype == "tf32"
    form = torch.channels_last if channels_last else torch.contiguous_format
    images, labels = (torch.from_numpy(a).to(device) for a in batch(args))
    images = images.to(dtype or torch.float32).contiguous(memory_format=form)
    net: Any = torch_resnet.make().to(device, memory_format=form).train(training)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    run = net if mode in ("eager", "graph") else torch.compile(net, mode=None if mode == "default" else mode)
    cast = {"dtype": dtype, "enabled": dtype is not None, "cache_enabled": mode != "graph"}

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.partition(":")[0], **cast):
            loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.partition(":")[0], **cast):
            run(images)

    work = step if training else forward
    if mode == "graph":
        work = captured(torch, step, optimizer)

    def repeat(steps: int = args.steps) -> None:
        for _ in range(steps):
            work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return repeat


def captured(torch: Any, step: Callable[[], None], optimizer: Any) -> Callable[[], None]:
    """The step as a CUDA graph over its own static inputs, captured as PyTorch's notes on CUDA graphs have it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # minimx has threads of its own
        step()

    def replay(_: Callable = step) -> None:  # which holds the arrays that the graph uses
        graph.replay()

    return replay


def rivals(args: argparse.Namespace, training: bool) -> dict[str, Callable[[], Callable]]:
    """What makes each case, by its name."""
    hows = ("step", "hybridized", "imperative") if training else ("hybridized", "imperative")
    made: dict[str, Callable[[], Callable]] = {f"minimx {how}": partial(ours, args, how, training) for how in hows}
    if import_torch() is not None:
        if args.device == "cpu":
            made["PyTorch"] = partial(theirs, args, training, False)
        made["PyTorch channels_last"] = partial(theirs, args, training)
        for mode in filter(None, args.compile.split(",")):
            made[f"torch.compile {mode}"] = partial(theirs, args, training, mode=mode)
        if args.graph and training and args.device != "cpu":
            made["PyTorch CUDA graph"] = partial(theirs, args, training, mode="graph")
    return made


def first_step(args: argparse.Namespace) -> dict[str, float]:
    """Seconds from after `import minimx` to the end of the first whole step, but for those that data took."""
    start = time.perf_counter()
    batch(args, args.layout)
    drawn = time.perf_counter() - start
    ours(args, "step", True)(1)
    return {"minimx step": time.perf_counter() - drawn - common.IMPORTED}


def main() -> None:
    size = {"type": int, "metavar": "N"}
    args = arguments(
        __doc__,
        batch={**size, "default": 8},
        size={**size, "default": 224},
        steps={**size, "default": 1, "help": "steps between waits (on a GPU 10 and more)"},
        dtype={"default": "float32", "choices": ["float32", "tf32", "float16", "bfloat16"]},
        layout={"default": "NCHW", "choices": ["NCHW", "NHWC"], "help": "of minimx; PyTorch runs in both"},
        compile=common.COMPILE,
        amp={"action": "store_true", "help": "minimx by amp.init and a loss scale, not by net.cast"},
        graph={"action": "store_true", "help": "PyTorch's CUDA graph of a whole training step as well"},
        training={"action": "store_true", "help": "training steps only"},
        inference={"action": "store_true", "help": "inference only"},
        first={"action": "store_true", "help": "only the time to minimx's first whole step"},
        peers={"action": "store_true", "help": "the whole table of docs/performance.md, a process for each row"},
        rows={"default": "", "help": f"with --peers: some of {','.join(peers.ROWS)}"},
    )
    if args.peers:
        peers.run(args)
        return
    if args.tiny:
        args.batch, args.size, args.steps = 2, 32, 1
    if args.device != "cpu":
        mx.device.library_settings(allow_tf32=args.dtype == "tf32", deterministic=False, autotune=True)
    report = Report(f"ResNet-50, batch {args.batch}, {args.size} x {args.size}, {args.dtype}, images a second", args)
    if args.first:
        report.add("time to the first step", first_step(args))
    for training in (True, False):
        if args.first or (args.inference if training else args.training):
            continue
        what = "training step" if training else "inference"
        report.measure(what, rivals(args, training), items=args.batch * args.steps)
        gc.collect()
    report.finish()


if __name__ == "__main__":
    main()
