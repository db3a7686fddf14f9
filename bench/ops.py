"""Small and large operators, imperative: minimx against NumPy and PyTorch, forward, and forward with backward.

With 10 elements the arithmetic is free and what is left is the cost of calling an operator at all.

    python bench/ops.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as onp
from common import Report, arguments, import_torch, in_turn, mx_device, torch_device

import minimx as mx
from minimx import autograd, npx

Case = dict[str, Callable[[], object]]


class Rivals:
    """The same arrays three times, and cases over them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.torch = args, import_torch()

    def arrays(self, *shapes: tuple[int, ...]) -> dict[str, list]:
        """Arrays of each rival by name."""
        rng = onp.random.default_rng(0)
        host = [rng.uniform(0.5, 1.5, shape).astype("float32") for shape in shapes]
        made = {"minimx": [mx.np.array(a, device=mx_device(self.args.device)) for a in host], "NumPy": host}
        if self.torch is not None:
            made["PyTorch"] = [self.torch.from_numpy(a.copy()).to(torch_device(self.args.device)) for a in host]
        return made

    def case(self, arrays: dict[str, list], **functions: Callable) -> Case:
        """Calls of ``functions`` (by rival, "mx", "np", "torch") on the arrays; ours wait for the result."""
        named = {"minimx": functions["mx"], "NumPy": functions.get("np"), "PyTorch": functions.get("torch")}

        def bind(who: str, function: Callable) -> Callable:
            xs = arrays[who]
            if who == "minimx":
                return lambda: function(*xs).wait_to_read()
            if who == "PyTorch" and self.args.device != "cpu":
                return lambda: (function(*xs), self.torch.cuda.synchronize())
            return lambda: function(*xs)

        return {who: bind(who, f) for who, f in named.items() if f is not None and who in arrays}


def forward_rows(r: Rivals) -> dict[str, Case]:
    """Single operators, and a chain of 20 whose results nobody looks at in between."""
    torch, big = r.torch, (1000, 1000)

    def add(a, b):
        return a + b

    def chain(x):
        for _ in range(20):
            x = x * 0.5 + 1.0
        return x

    rows = {
        f"a + b, {n:,} elements": r.case(r.arrays((n,), (n,)), mx=add, np=add, torch=add) for n in (10, 1000, 10**6)
    }
    rows["a + b, broadcast (1000, 1000) + (1000,)"] = r.case(r.arrays(big, (1000,)), mx=add, np=add, torch=add)
    rows["a.T + b, 1000 x 1000"] = r.case(
        r.arrays(big, big), **dict.fromkeys(("mx", "np", "torch"), lambda a, b: a.T + b)
    )
    rows["x * 0.5 + 1, 20 times, 10 elements"] = r.case(r.arrays((10,)), mx=chain, np=chain, torch=chain)
    exp = {"mx": mx.np.exp, "np": onp.exp, "torch": torch and torch.exp}
    for n in (10, 10**6):
        rows[f"exp, {n:,} elements"] = r.case(r.arrays((n,)), **exp)
    total = dict.fromkeys(("mx", "np", "torch"), lambda a: a.sum())
    for n in (10, 10**6):
        rows[f"sum, {n:,} elements"] = r.case(r.arrays((n,)), **total)
    rows["mean over axis 1, 1000 x 1000"] = r.case(
        r.arrays(big), **dict.fromkeys(("mx", "np", "torch"), lambda a: a.mean(1))
    )
    product = dict.fromkeys(("mx", "np", "torch"), lambda a, b: a @ b)
    for n in (16, 512):
        rows[f"matmul {n} x {n}"] = r.case(r.arrays((n, n), (n, n)), **product)
    view = dict.fromkeys(("mx", "np", "torch"), lambda a: a[2:8])
    rows["view a[2:8], 10 elements"] = r.case(r.arrays((10,)), **view)
    softmax = {"mx": npx.softmax, "torch": torch and (lambda a: torch.softmax(a, -1))}
    rows["softmax 128 x 1000"] = r.case(r.arrays((128, 1000)), **softmax)
    return rows


def backward_row(r: Rivals, n: int) -> Case:
    """Forward and backward of (x * w + 1).relu().sum()."""
    made = r.arrays((n,), (n,))
    x, w = made["minimx"]
    x.attach_grad()
    w.attach_grad()

    def ours():
        with autograd.record():
            y = npx.relu(x * w + 1).sum()
        y.backward()
        w.grad.wait_to_read()
        x.grad.wait_to_read()

    cases = {"minimx": ours}
    if r.torch is not None:
        tx, tw = (a.requires_grad_() for a in made["PyTorch"])

        def theirs():
            tx.grad = tw.grad = None
            (tx * tw + 1).relu().sum().backward()

        cases["PyTorch"] = theirs
    return cases


def main() -> None:
    args = arguments(__doc__)
    rivals = Rivals(args)
    report = Report("Operators, imperative, time a call", args)
    rows = forward_rows(rivals)
    for n in (10, 10**6):
        rows[f"(x*w+1).relu().sum() and backward, {n:,}"] = backward_row(rivals, n)
    for name, cases in rows.items():
        report.add(name, in_turn(cases, args.rounds, seconds=0.002 if args.tiny else 0.05))
    report.finish()


if __name__ == "__main__":
    main()
