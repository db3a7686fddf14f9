"""Pointwise chains in one kernel compiled at run time, against NumPy, PyTorch, and the same chain unfused.

    python bench/fuse.py                   # --compile also measures torch.compile, which takes a minute to start

"fused" is a hybridized block once its kernels are ready; "unfused" the same program before; "imperative" the calls as
they stand, put off and fused where they are large (docs/engine.md, "Bulk fusion"); "one by one" without that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as onp
from common import Report, arguments, import_torch, in_turn

import minimx as mx
from minimx.graph import bulk
from minimx.graph.lower import lower
from minimx.graph.passes.fusion import fuse
from minimx.graph.trace import trace

Chain = Callable[..., Any]


def wave(f: Any, x: Any, y: Any) -> Any:
    """The chain of docs/performance.md."""
    return f.tanh(x * y + 1) * f.sigmoid(x - y) + f.maximum(x, 0) / 2 - f.sqrt(f.abs(y) + 1)


def bias_gelu(f: Any, x: Any, y: Any) -> Any:
    """What follows a Dense layer of a transformer; y is one row."""
    z = x + y
    return 0.5 * z * (1 + f.tanh(0.79788456 * (z + 0.044715 * z * z * z)))


def momentum(f: Any, x: Any, y: Any) -> Any:
    """An optimizer's arithmetic: little work, all memory."""
    return x * 0.9 - (y + x * 1e-4) * 0.1


CHAINS: dict[str, tuple[Chain, tuple, tuple]] = {
    "tanh(x*y+1)*sigmoid(x-y)+max(x,0)/2-sqrt(abs(y)+1), 2048x2048": (wave, (2048, 2048), (2048, 2048)),
    "gelu(x + bias), 2048x2048": (bias_gelu, (2048, 2048), (2048,)),
    "x*0.9-(y+x*1e-4)*0.1, 2048x2048": (momentum, (2048, 2048), (2048, 2048)),
    "the first chain, 32x64": (wave, (32, 64), (32, 64)),
}


class NumPyFunctions:
    """NumPy's functions, and the one that it lacks."""

    tanh, maximum, sqrt, abs = onp.tanh, onp.maximum, onp.sqrt, onp.abs

    @staticmethod
    def sigmoid(x: onp.ndarray) -> onp.ndarray:
        """1 / (1 + e^-x)."""
        return 1 / (1 + onp.exp(-x))


class MinimxFunctions:
    """minimx's, from their two places."""

    tanh, maximum, sqrt, abs, sigmoid = mx.np.tanh, mx.np.maximum, mx.np.sqrt, mx.np.abs, mx.npx.sigmoid


def torch_functions(torch: Any) -> Any:
    """PyTorch's; its maximum wants arrays."""

    class Functions:
        tanh, sqrt, abs, sigmoid = torch.tanh, torch.sqrt, torch.abs, torch.sigmoid

        @staticmethod
        def maximum(x: Any, low: float) -> Any:
            return torch.clamp(x, min=low)

    return Functions


def cases(chain: Chain, x: onp.ndarray, y: onp.ndarray, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Everybody's call of the chain on the same numbers, checked against NumPy's answer."""
    want = chain(NumPyFunctions, x, y)
    xs = [mx.np.array(x), mx.np.array(y)]
    graph = trace("chain", lambda a, b: chain(MinimxFunctions, a, b), xs, False).graph
    plain, fused = lower(graph), lower(fuse(graph))
    for _ in range(3):
        chain(MinimxFunctions, *xs).wait_to_read()
        assert bulk.wait(120) and mx.rtc.wait(120), mx.rtc.report()

    def one_by_one() -> None:
        with mx.engine.bulk(0), mx.engine.replay(False):
            chain(MinimxFunctions, *xs).wait_to_read()

    made: dict[str, Callable[[], object]] = {
        "minimx fused": lambda: fused.run(xs, False)[0].wait_to_read(),
        "minimx unfused": lambda: plain.run(xs, False)[0].wait_to_read(),
        "minimx imperative": lambda: chain(MinimxFunctions, *xs).wait_to_read(),
        "minimx imperative, one by one": one_by_one,
        "NumPy": lambda: chain(NumPyFunctions, x, y),
    }
    onp.testing.assert_allclose(fused.run(xs, False)[0].asnumpy(), want, rtol=2e-5, atol=1e-5)
    torch = import_torch()
    if torch is not None:
        ts, functions = [torch.from_numpy(x), torch.from_numpy(y)], torch_functions(torch)
        made["PyTorch"] = lambda: chain(functions, *ts)
        if args.compile:
            compiled = torch.compile(lambda a, b: chain(functions, a, b))
            onp.testing.assert_allclose(compiled(*ts).numpy(), want, rtol=2e-5, atol=1e-5)
            made["torch.compile"] = lambda: compiled(*ts)
    return made


def main() -> None:
    """Command line of this script."""
    more = {"compile": {"action": "store_true", "help": "measure torch.compile too"}}
    args = arguments(str(__doc__).splitlines()[0], **more)
    report = Report("Fusion of pointwise chains, float32", args)
    rng = onp.random.default_rng(0)
    for name, (chain, *shapes) in CHAINS.items():
        x, y = (rng.uniform(-2, 2, s).astype("float32") for s in shapes)
        report.add(name, in_turn(cases(chain, x, y, args), args.rounds))
    report.finish()


if __name__ == "__main__":
    main()
