"""Small and large operators, imperative: minimx against NumPy and PyTorch (on a GPU CuPy, too), forward, and forward
with backward.

With 10 elements the arithmetic is free and what is left is the cost of calling an operator at all: rows that
bench/engine.py has, too. Every call waits for its result.

    python bench/ops.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as onp
from common import Report, arguments, import_cupy, import_torch, in_turn, mx_device, torch_device, waited

import minimx as mx
from minimx import autograd, npx

Case = dict[str, Callable[[], object]]


class Rivals:
    """The same arrays for everybody, and cases over them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.torch = args, import_torch()
        self.cupy = import_cupy() if args.device != "cpu" else None

    def arrays(self, *shapes: tuple[int, ...]) -> dict[str, list]:
        """Arrays of float32 by rival."""
        rng = onp.random.default_rng(0)
        return self.hold([rng.uniform(0.5, 1.5, shape).astype("float32") for shape in shapes])

    def hold(self, host: list[onp.ndarray]) -> dict[str, list]:
        """Arrays of these values and types by rival."""
        device = mx_device(self.args.device)
        made = {"minimx": [mx.np.array(a, dtype=a.dtype.name, device=device) for a in host], "NumPy": host}
        if self.torch is not None:
            made["PyTorch"] = [self.torch.from_numpy(a.copy()).to(torch_device(self.args.device)) for a in host]
        if self.cupy is not None:
            made["CuPy"] = [self.cupy.asarray(a) for a in host]
        return made

    def case(self, arrays: dict[str, list], **functions: Callable | None) -> Case:
        """Calls of ``functions`` on the arrays: "mx", "np", "torch", and "cp", for which "np" does by its protocols.

        All by way of as much Python; minimx is waited for.
        """
        mine, numpy = partial(functions["mx"], *arrays["minimx"]), functions.get("np")
        named = {"NumPy": numpy, "PyTorch": functions.get("torch"), "CuPy": functions.get("cp", numpy)}
        made: Case = {"minimx": lambda: mine().wait_to_read()}
        for who, function in named.items():
            if function is not None and who in arrays:
                call = partial(function, *arrays[who])
                made[who] = (lambda call=call: call()) if who == "NumPy" else waited(call, self.args.device, who)
        return made


def small_rows(r: Rivals) -> dict[str, Case]:
    """An operator of each kind on so few elements that its arithmetic is free."""
    torch, device = r.torch, mx_device(r.args.device)
    everybody, rng = ("mx", "np", "torch"), onp.random.default_rng(0)
    some = r.hold([onp.arange(10, dtype="float32"), onp.array([7, 2, 5, 2])])
    normal = {
        "mx": lambda: mx.np.random.normal(size=(10,), device=device),
        "np": lambda: rng.standard_normal(10, "float32"),
        "torch": torch and (lambda: torch.randn(10, device=torch_device(r.args.device))),
        "cp": r.cupy and (lambda: r.cupy.random.standard_normal(10, dtype="float32")),
    }
    convolution = {
        "mx": lambda x, w: npx.convolution(x, w, kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True),
        "torch": torch and (lambda x, w: torch.conv2d(x, w, padding=1)),
    }
    exp = {"mx": mx.np.exp, "np": onp.exp, "torch": torch and torch.exp}
    cast = dict.fromkeys(("mx", "np"), lambda a: a.astype("int32")) | {"torch": lambda a: a.to(torch.int32)}
    pair = {
        "mx": lambda: mx.np.array([1.5, 2.5], device=device),
        "np": lambda: onp.array([1.5, 2.5], "float32"),
        "torch": torch and (lambda: torch.tensor([1.5, 2.5], device=torch_device(r.args.device))),
        "cp": r.cupy and (lambda: r.cupy.array([1.5, 2.5], "float32")),
    }
    fetch = {
        "mx": lambda a: (a.asnumpy(), a)[1],
        "np": lambda a: a.copy(),
        "torch": torch and (lambda a: a.cpu().numpy().copy()),
        "cp": r.cupy and (lambda a: r.cupy.asnumpy(a)),
    }
    return {
        "a + b, 10 elements": r.case(r.arrays((10,), (10,)), **dict.fromkeys(everybody, lambda a, b: a + b)),
        "exp, 10 elements": r.case(r.arrays((10,)), **exp),
        "sum, 10 elements": r.case(r.arrays((10,)), **dict.fromkeys(everybody, lambda a: a.sum())),
        "view a[2:8], 10 elements": r.case(r.arrays((10,)), **dict.fromkeys(everybody, lambda a: a[2:8])),
        "matmul 16 x 16": r.case(r.arrays((16, 16), (16, 16)), **dict.fromkeys(everybody, lambda a, b: a @ b)),
        "convolution 3x3, 8 x 8, 4 channels": r.case(r.arrays((1, 4, 8, 8), (4, 4, 3, 3)), **convolution),
        "10 normal numbers": r.case(r.arrays(), **normal),
        "float32 to int32, 10 elements": r.case(r.arrays((10,)), **cast),
        "np.array([1.5, 2.5])": r.case(r.arrays(), **pair),
        "to NumPy, 10 elements": r.case(r.arrays((10,)), **fetch),
        "a[i], 4 of 10 elements": r.case(some, **dict.fromkeys(everybody, lambda a, i: a[i])),
    }


def large_rows(r: Rivals) -> dict[str, Case]:
    """Operators whose arithmetic counts, and a chain of 20 whose results nobody looks at in between."""
    torch, big, everybody = r.torch, (1000, 1000), ("mx", "np", "torch")

    def add(a, b):
        return a + b

    def chain(x):
        for _ in range(20):
            x = x * 0.5 + 1.0
        return x

    rows = {
        f"a + b, {n:,} elements": r.case(r.arrays((n,), (n,)), **dict.fromkeys(everybody, add)) for n in (1000, 10**6)
    }
    rows["a + b, broadcast (1000, 1000) + (1000,)"] = r.case(r.arrays(big, (1000,)), **dict.fromkeys(everybody, add))
    rows["a.T + b, 1000 x 1000"] = r.case(r.arrays(big, big), **dict.fromkeys(everybody, lambda a, b: a.T + b))
    rows["x * 0.5 + 1, 20 times, 10 elements"] = r.case(r.arrays((10,)), **dict.fromkeys(everybody, chain))
    rows["exp, 1,000,000 elements"] = r.case(r.arrays((10**6,)), mx=mx.np.exp, np=onp.exp, torch=torch and torch.exp)
    rows["sum, 1,000,000 elements"] = r.case(r.arrays((10**6,)), **dict.fromkeys(everybody, lambda a: a.sum()))
    rows["mean over axis 1, 1000 x 1000"] = r.case(r.arrays(big), **dict.fromkeys(everybody, lambda a: a.mean(1)))
    rows["matmul 512 x 512"] = r.case(r.arrays((512, 512), (512, 512)), **dict.fromkeys(everybody, lambda a, b: a @ b))
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

        cases["PyTorch"] = waited(theirs, r.args.device, "PyTorch")
    return cases


def main() -> None:
    args = arguments(__doc__)
    rivals = Rivals(args)
    report = Report("Operators, imperative, time a call", args)
    rows = small_rows(rivals) | large_rows(rivals)
    for n in (10, 10**6):
        rows[f"(x*w+1).relu().sum() and backward, {n:,}"] = backward_row(rivals, n)
    for name, cases in rows.items():
        report.add(name, in_turn(cases, args.rounds, seconds=0.002 if args.tiny else 0.05))
    report.finish()


if __name__ == "__main__":
    main()
