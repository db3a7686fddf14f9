"""The most used operators on a million float32 elements: minimx against NumPy and PyTorch, a row each.

Unlike bench/ops.py, which looks at what a call costs, this looks at the kernels and at how they are spread over
threads. Run it with ``--threads 1`` too: what is slow there is slow arithmetic, what is slow only with more threads is
hand-over. On a machine that others use as well, ``--clock cpu`` counts the processor's time instead, of all threads.

    python bench/operators.py --only softmax,exp
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as onp
from common import Report, arguments, import_torch, in_turn

import minimx as mx
from minimx import autograd, npx

MILLION, SQUARE, LANES = (1_000_000,), (1000, 1000), (128, 1000)
torch: Any = import_torch() or SimpleNamespace()


def method(name: str, *args: Any) -> dict[str, Callable]:
    """The same method for everybody."""
    return dict.fromkeys(("mx", "np", "torch"), lambda x: getattr(x, name)(*args))


def function(name: str, theirs: str = "", *args: Any) -> dict[str, Callable]:
    """``mx.np.name``, ``numpy.name`` and ``torch.theirs``."""
    return {
        "mx": lambda *xs: getattr(mx.np, name)(*xs, *args),
        "np": lambda *xs: getattr(onp, name)(*xs, *args),
        "torch": lambda *xs: getattr(torch, theirs or name)(*xs, *args),
    }


def same(f: Callable) -> dict[str, Callable]:
    """Python's own operators."""
    return dict.fromkeys(("mx", "np", "torch"), f)


def network(name: str, theirs: Callable) -> dict[str, Callable]:
    """``npx.name``, which NumPy does not have."""
    return {"mx": lambda *xs: getattr(npx, name)(*xs), "torch": theirs}


def gradient(ours: Callable, theirs: Callable) -> dict[str, Callable]:
    """Forward and backward of a function, given ones."""

    def mx_both(x, ones):
        with autograd.record():
            y = ours(x)
        y.backward(ones)
        return x.grad

    def torch_both(x, ones):
        x.grad = None
        theirs(x).backward(ones)

    return {"mx": mx_both, "torch": torch_both}


def _nn() -> Any:
    return torch.nn.functional if hasattr(torch, "nn") else SimpleNamespace()


# name: (shapes, dtype, functions by rival)
ROWS: dict[str, tuple[tuple[tuple[int, ...], ...], str, dict[str, Callable]]] = {
    "a + b": ((MILLION, MILLION), "float32", same(lambda a, b: a + b)),
    "a * 2": ((MILLION,), "float32", same(lambda a: a * 2.0)),
    "a / b": ((MILLION, MILLION), "float32", same(lambda a, b: a / b)),
    "a > b": ((MILLION, MILLION), "float32", same(lambda a, b: a > b)),
    "matrix + row": ((SQUARE, (1000,)), "float32", same(lambda a, b: a + b)),
    "matrix + column": ((SQUARE, (1000, 1)), "float32", same(lambda a, b: a + b)),
    "where(a > 1, a, b)": (
        (MILLION, MILLION),
        "float32",
        {
            "mx": lambda a, b: mx.np.where(a > 1, a, b),
            "np": lambda a, b: onp.where(a > 1, a, b),
            "torch": lambda a, b: torch.where(a > 1, a, b),
        },
    ),
    "maximum": ((MILLION, MILLION), "float32", function("maximum")),
    "abs": ((MILLION,), "float32", function("abs")),
    "sqrt": ((MILLION,), "float32", function("sqrt")),
    "exp": ((MILLION,), "float32", function("exp")),
    "log": ((MILLION,), "float32", function("log")),
    "tanh": ((MILLION,), "float32", function("tanh")),
    "sin": ((MILLION,), "float32", function("sin")),
    "a ** 2.5": ((MILLION,), "float32", same(lambda a: a**2.5)),
    "relu": ((MILLION,), "float32", network("relu", lambda a: _nn().relu(a))),
    "sigmoid": ((MILLION,), "float32", network("sigmoid", lambda a: torch.sigmoid(a))),
    "gelu": ((MILLION,), "float32", network("gelu", lambda a: _nn().gelu(a))),
    "silu": ((MILLION,), "float32", network("silu", lambda a: _nn().silu(a))),
    "erf": ((MILLION,), "float32", network("erf", lambda a: torch.erf(a))),
    "sum": ((MILLION,), "float32", method("sum")),
    "sum, axis 0": ((SQUARE,), "float32", method("sum", 0)),
    "sum, axis 1": ((SQUARE,), "float32", method("sum", 1)),
    "mean, axis 1": ((SQUARE,), "float32", method("mean", 1)),
    "max": ((MILLION,), "float32", method("max")),
    "max, axis 1": (
        (SQUARE,),
        "float32",
        {"mx": lambda a: a.max(1), "np": lambda a: a.max(1), "torch": lambda a: torch.amax(a, 1)},
    ),
    "argmax, axis 1": ((SQUARE,), "float32", method("argmax", 1)),
    "argmax, axis 0": ((SQUARE,), "float32", method("argmax", 0)),
    "cumsum, axis 1": ((SQUARE,), "float32", method("cumsum", 1)),
    "var, axis 1": (
        (SQUARE,),
        "float32",
        {"mx": lambda a: a.var(1), "np": lambda a: a.var(1), "torch": lambda a: a.var(1, correction=0)},
    ),
    "softmax, 128 x 1000": ((LANES,), "float32", network("softmax", lambda a: torch.softmax(a, -1))),
    "softmax": ((SQUARE,), "float32", network("softmax", lambda a: torch.softmax(a, -1))),
    "log_softmax": ((SQUARE,), "float32", network("log_softmax", lambda a: torch.log_softmax(a, -1))),
    "softmax, with backward": (
        (SQUARE, SQUARE),
        "float32",
        gradient(lambda x: npx.softmax(x), lambda x: torch.softmax(x, -1)),
    ),
    "log_softmax, with backward": (
        (SQUARE, SQUARE),
        "float32",
        gradient(lambda x: npx.log_softmax(x), lambda x: torch.log_softmax(x, -1)),
    ),
    "layer_norm": (
        (SQUARE, (1000,), (1000,)),
        "float32",
        {"mx": lambda a, g, b: npx.layer_norm(a, g, b), "torch": lambda a, g, b: _nn().layer_norm(a, (1000,), g, b)},
    ),
    "float32 to float16": (
        (MILLION,),
        "float32",
        {
            "mx": lambda a: a.astype("float16"),
            "np": lambda a: a.astype("float16"),
            "torch": lambda a: a.to(torch.float16),
        },
    ),
    "float16 to float32": (
        (MILLION,),
        "float16",
        {
            "mx": lambda a: a.astype("float32"),
            "np": lambda a: a.astype("float32"),
            "torch": lambda a: a.to(torch.float32),
        },
    ),
    "float32 to bfloat16": (
        (MILLION,),
        "float32",
        {"mx": lambda a: a.astype("bfloat16"), "torch": lambda a: a.to(torch.bfloat16)},
    ),
    "bfloat16 to float32": (
        (MILLION,),
        "bfloat16",
        {"mx": lambda a: a.astype("float32"), "torch": lambda a: a.to(torch.float32)},
    ),
    "a + b, bfloat16": ((MILLION, MILLION), "bfloat16", {k: lambda a, b: a + b for k in ("mx", "torch")}),
    "a + b, float16": ((MILLION, MILLION), "float16", same(lambda a, b: a + b)),
    "int64 to float32": (
        (MILLION,),
        "int64",
        {
            "mx": lambda a: a.astype("float32"),
            "np": lambda a: a.astype("float32"),
            "torch": lambda a: a.to(torch.float32),
        },
    ),
    "transpose, copied": (
        (SQUARE,),
        "float32",
        {"mx": lambda a: a.T.copy(), "np": lambda a: a.T.copy(), "torch": lambda a: a.T.contiguous()},
    ),
    "concatenate": (
        (MILLION, MILLION),
        "float32",
        {
            "mx": lambda a, b: mx.np.concatenate([a, b]),
            "np": lambda a, b: onp.concatenate([a, b]),
            "torch": lambda a, b: torch.cat([a, b]),
        },
    ),
}


def rivals(shapes: tuple[tuple[int, ...], ...], dtype: str, backward: bool) -> dict[str, list]:
    """The same values as arrays of each rival."""
    rng = onp.random.default_rng(0)
    host = [rng.uniform(0.5, 1.5, shape).astype("float32") for shape in shapes]
    made = {"mx": [mx.np.array(a, dtype=dtype) for a in host]}
    if backward:
        made["mx"][0].attach_grad()
    if dtype != "bfloat16":
        made["np"] = [a.astype(dtype) for a in host]
    if hasattr(torch, "from_numpy"):
        made["torch"] = [torch.from_numpy(a).to(getattr(torch, dtype)) for a in host]
        if backward:
            made["torch"][0].requires_grad_()
    return made


def bound(who: str, f: Callable, xs: list) -> Callable[[], object]:
    """A call; ours waits for its result."""
    return (lambda: f(*xs).wait_to_read()) if who == "mx" else (lambda: f(*xs))


def main() -> None:
    args = arguments(
        __doc__,
        only={"default": "", "help": "rows whose name holds one of these, separated by commas"},
        clock={"choices": ("wall", "cpu"), "default": "wall", "help": "what is counted"},
    )
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    report = Report(f"Operators on a million elements, {args.threads} threads, {args.clock} time", args)
    names = {"mx": "minimx", "np": "NumPy", "torch": "PyTorch"}
    for name, (shapes, dtype, functions) in ROWS.items():
        if not any(part in name for part in args.only.split(",")):
            continue
        arrays = rivals(shapes, dtype, "backward" in name)
        cases = {names[k]: bound(k, functions[k], arrays[k]) for k in arrays if k in functions}
        report.add(name, in_turn(cases, args.rounds, 0.002 if args.tiny else 0.03, clock))
    report.finish()


if __name__ == "__main__":
    main()
