"""How much of a copy, and of sums over GPUs, hides behind compute: time together over the sum of the times alone.

0.5 is the best there is, where both alone take as long; 1.0 means one after the other. Rows of bench/gpu.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as onp
from common import in_turn, mx_device

import minimx as mx
from minimx import autograd, gluon
from minimx._bridge import to_pinned
from minimx.collectives import sum_copies
from minimx.device import cuda
from minimx.gluon import nn

LAYERS = 8
Row = tuple[str, dict[str, float]]


def rows(args: argparse.Namespace) -> Iterator[Row]:
    """(name, seconds of "compute", of the other alone, and of "both"). Those of two GPUs only where they are."""
    for direction in ("to the GPU", "to the host"):
        yield _timed(args, f"a copy {direction} beside products", copy_beside(args, direction))
    if mx.num_gpus() > 1 and cuda().nccl_version():
        yield _timed(args, "sums over two GPUs beside backward", sums_beside(args))


def share(times: dict[str, float]) -> tuple[float, float]:
    """(time together over the sum of the times alone, the least that it could be)."""
    *alone, both = times.values()
    return both / sum(alone), max(alone) / sum(alone)


def copy_beside(args: argparse.Namespace, direction: str) -> dict[str, Callable]:
    """256 MB, and as many products as take about as long. The copy is asked for first: it waits for what was before."""
    device = mx_device(args.device)
    size, n = (1 << 12, 32) if args.tiny else (1 << 26, 4096)
    x, there = mx.np.ones((n, n), device=device), mx.np.ones((size,), device=device)
    here = to_pinned(onp.ones(size, "float32"))

    def copy() -> Any:
        return here.to_device(device) if direction == "to the GPU" else there.to_device(mx.cpu())

    def products(count: int) -> None:
        for _ in range(count):
            mx.np.dot(x, x)

    count = min(1000, max(1, round(_once(copy) / _once(lambda: products(1)))))
    return _waited({"compute": lambda: products(count), "copy": copy, "both": lambda: (copy(), products(count))})


def sums_beside(args: argparse.Namespace) -> dict[str, Callable]:
    """Gradients of dense layers on two GPUs: backward alone, their sums alone, and as Trainer has it."""
    devices = [mx.gpu(0), mx.gpu(1)]
    width, batch = (16, 4) if args.tiny else (2048, 1024)
    xs = [mx.np.ones((batch, width), device=d) for d in devices]

    def made() -> nn.Sequential:
        net = nn.Sequential()
        net.add(*(nn.Dense(width, activation="relu", in_units=width) for _ in range(LAYERS)))
        net.initialize(mx.init.Xavier(), device=mx.cpu())
        net.reset_device(devices)
        return net

    def backward(net: nn.Sequential) -> None:
        with autograd.record():
            losses = [net(x).sum() for x in xs]
        autograd.backward(losses)

    plain, net = made(), made()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0})
    backward(plain)
    gradients = [p.list_grad() for p in plain.collect_params().values()]

    def both() -> None:
        backward(net)
        trainer.allreduce_grads()

    both(), both()  # buckets follow the order of the step before
    return _waited({"compute": lambda: backward(plain), "sums": lambda: sum_copies(gradients), "both": both})


def _waited(cases: dict[str, Callable]) -> dict[str, Callable]:
    def case(work: Callable) -> Callable:
        def run() -> None:
            with mx.engine.replay(False):  # which would leave out what nobody reads
                kept = work()  # noqa: F841  alive until all is done
                mx.waitall()

        return run

    return {f"minimx, {name}": case(work) for name, work in cases.items()}


def _once(work: Callable) -> float:
    """Seconds of the second call."""
    for _ in range(2):
        mx.waitall()
        start = time.perf_counter()
        with mx.engine.replay(False):
            kept = work()  # noqa: F841
            mx.waitall()
        took = time.perf_counter() - start
    return took


def _timed(args: argparse.Namespace, name: str, cases: dict[str, Callable]) -> Row:
    return name, in_turn(cases, args.rounds, 0 if args.tiny else 0.05)
