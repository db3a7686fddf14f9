"""What the engine and the hot path cost: queueing, waiting, an operator of each kind, chains, Python threads, and what
hybridize() buys for small operators.

Whoever computes on a GPU is waited for at the end of each call; there a raw launch (launch.py) is the floor of one.

    python bench/engine.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import launch
import numpy as onp
import ops
from common import Report, arguments, import_cupy, import_torch, in_turn, mx_device, torch_device, waited

import minimx as mx
from minimx import autograd, gluon, npx
from minimx.gluon import nn
from minimx.graph import bulk


def costs(args: argparse.Namespace) -> dict[str, Callable]:
    """The price of single steps of the hot path."""
    device = mx_device(args.device)
    x, small = mx.np.ones((10,), device=device), mx.np.ones((4096,), device=device)
    big = mx.np.ones((1 << 20,), device=device)

    def synchronous() -> None:
        with mx.engine.sync():
            (small + 1).wait_to_read()

    def callback() -> None:
        mx.engine.push(_nothing, writes=[x], name="nothing")
        x.wait_to_read()

    return {
        "read what is ready: x.wait_to_read()": x.wait_to_read,
        "wait for everything: mx.waitall()": mx.waitall,
        "inline: x + 1, 10 elements": lambda: x + 1,
        "inline, read: (x + 1).wait_to_read()": lambda: (x + 1).wait_to_read(),
        "inline, 4,096 elements": lambda: (small + 1).wait_to_read(),
        "the same inside sync()": synchronous,
        "over a worker: big + 1 and wait, 1 M elements": lambda: (big + 1).wait_to_read(),
        "Python callback on a host thread, and wait": callback,
        "fetch: x.asnumpy(), 10 elements": x.asnumpy,
        "fetch: x[0].item()": lambda: x[0].item(),
    }


def _nothing() -> None:
    pass


def chain(args: argparse.Namespace, length: int, size: int) -> dict[str, Callable]:
    """``length`` dependent additions, read once at the end."""
    ours = mx.np.ones((size,), device=mx_device(args.device))

    def run(x):
        for _ in range(length):
            x = x + 1
        return x

    def one_by_one() -> None:
        with mx.engine.bulk(0), mx.engine.replay(False):
            run(ours).wait_to_read()

    def in_a_bulk() -> None:
        with mx.engine.bulk(128):
            run(ours).wait_to_read()

    host = onp.ones(size, "float32")
    cases = {
        "minimx": _compiled(lambda: run(ours).wait_to_read()),
        "minimx one by one": one_by_one,
        "minimx in a bulk": _compiled(in_a_bulk),
        "NumPy": lambda: run(host),
    }
    torch = import_torch()
    if torch is not None:
        tensor = torch.ones(size, device=torch_device(args.device))
        cases["PyTorch"] = waited(lambda: run(tensor), args.device, "PyTorch")
    cupy = import_cupy() if args.device != "cpu" else None
    if cupy is not None:
        array = cupy.ones(size, "float32")
        cases["CuPy"] = waited(lambda: run(array), args.device, "CuPy")
    return cases


def _compiled(case: Callable) -> Callable:
    """The case, after calls that were put off have been compiled."""
    for _ in range(9):
        case()
        bulk.wait()
        mx.rtc.wait()
    return case


def small_model(args: argparse.Namespace, train: bool) -> dict[str, Callable]:
    """20 x (Dense(64), relu), batch 32: all overhead. With ``train`` forward and backward, else forward."""
    host = onp.random.default_rng(0).normal(size=(32, 64)).astype("float32")
    cases = {}
    for who, hybrid in (("minimx hybridized", True), ("minimx imperative", False)):
        net = nn.HybridSequential()
        net.add(*(nn.Dense(64, activation="relu", in_units=64) for _ in range(20)))
        net.initialize(mx.init.Xavier(), device=mx_device(args.device))
        if hybrid:
            net.hybridize(static_alloc=True, static_shape=True)
        x = mx.np.array(host, device=mx_device(args.device))
        cases[who] = step = _step(net, x, train)
    cases["minimx replayed"] = _compiled(_replayed(step))
    torch = import_torch()
    if torch is not None:
        layers = [layer for _ in range(20) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU())]
        cases["PyTorch"] = _torch_step(torch.nn.Sequential(*layers), torch.from_numpy(host), args.device, train)
    return cases


def _step(net: gluon.HybridBlock, x: mx.np.ndarray, train: bool) -> Callable:
    def forward() -> None:
        net(x).wait_to_read()

    def both() -> None:
        with autograd.record():
            loss = npx.relu(net(x)).sum()
        loss.backward()
        mx.waitall()

    return both if train else forward


def _replayed(step: Callable) -> Callable:
    def replayed() -> None:
        with mx.engine.replay():
            step()

    return replayed


def at_once(args: argparse.Namespace, width: int, batch: int, hybrid: bool, train: bool) -> dict[str, Callable]:
    """10 calls of 5 x Dense(width) in each of 1, 2 and 4 Python threads, each with a net of its own."""
    x = mx.np.ones((batch, width), device=mx_device(args.device))

    def work() -> Callable:
        net = nn.HybridSequential()
        net.add(*(nn.Dense(width, activation="relu", in_units=width) for _ in range(5)))
        net.initialize(mx.init.Xavier(), device=mx_device(args.device))
        if hybrid:
            net.hybridize(static_alloc=True, static_shape=True)
        step = _step(net, x, train)
        return lambda: [step() for _ in range(10)]

    pools = [ThreadPoolExecutor(1) for _ in range(4)]  # a job stays on its thread

    def together(jobs: list[Callable], threads: int) -> Callable:
        def run() -> None:
            for done in [pool.submit(job) for pool, job in zip(pools[:threads], jobs, strict=False)]:
                done.result()

        return run

    jobs = [work() for _ in range(4)]
    cases = {f"minimx, {n} threads": together(jobs, n) for n in (1, 2, 4)}
    torch = import_torch()
    if torch is not None and not hybrid:

        def theirs() -> Callable:
            layers = [m for _ in range(5) for m in (torch.nn.Linear(width, width), torch.nn.ReLU())]
            step = _torch_step(torch.nn.Sequential(*layers), torch.ones(batch, width), args.device, train)
            return lambda: [step() for _ in range(10)]

        others = [theirs() for _ in range(4)]
        cases |= {f"PyTorch, {n} threads": together(others, n) for n in (1, 2, 4)}
    return cases


def _torch_step(net, x, device: str, train: bool) -> Callable:
    import torch

    net, x = net.to(torch_device(device)), x.to(torch_device(device))

    def forward() -> None:
        with torch.inference_mode():
            net(x)

    def both() -> None:
        net.zero_grad()
        net(x).relu().sum().backward()

    return waited(both if train else forward, device, "PyTorch")


def main() -> None:
    args = arguments(__doc__)
    seconds = 0.002 if args.tiny else 0.05
    report = Report("Engine and hot path, time a call", args)
    for name, case in costs(args).items():
        report.add(name, in_turn({"minimx": case}, args.rounds, seconds))
    for name, cases in ops.small_rows(ops.Rivals(args)).items():
        report.add(name, in_turn(cases, args.rounds, seconds))
    for name, times in launch.rows(args):
        report.add(name, times)
    for length in (1, 10, 100):
        report.add(f"chain of {length} x + 1, 10 elements", in_turn(chain(args, length, 10), args.rounds, seconds))
    report.add("chain of 10 x + 1, 1 M elements", in_turn(chain(args, 10, 1 << 20), args.rounds, seconds))
    for name, train in (("forward", False), ("forward and backward", True)):
        times = in_turn(small_model(args, train), args.rounds, seconds)
        report.add(f"20 x Dense(64) + relu, b32, {name}", times)
        gain = times["minimx imperative"] / times["minimx hybridized"]
        replayed = times["minimx imperative"] / times["minimx replayed"]
        print(f"  hybridized over imperative: {gain:.2f}x, replayed over imperative: {replayed:.2f}x")
    for (width, batch), hybrid, train in product(((256, 32), (16, 4)), (False, True), (False, True)):
        what = f"{'hybridized' if hybrid else 'imperative'}, {'forward and backward' if train else 'forward'}"
        times = in_turn(at_once(args, width, batch, hybrid, train), args.rounds, seconds)
        report.add(f"threads at once: 5 x Dense({width}), b{batch}, {what}", times)
        for who in ("minimx", "PyTorch")[: len(times) // 3]:
            two, four = (n * times[f"{who}, 1 threads"] / times[f"{who}, {n} threads"] for n in (2, 4))
            print(f"  work done by 2 and 4 threads of {who}, over one: {two:.2f}x, {four:.2f}x")
    report.finish()


if __name__ == "__main__":
    main()
