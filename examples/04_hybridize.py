"""hybridize(): the same code as one compiled graph, what the graph looks like, and what it buys.

The first call of a hybridized block traces its Python code, for the shapes and types at hand; later calls replay the
graph. Next: 05_custom_function.py.
"""

import argparse
import time

import minimx as mx
from minimx import autograd, np, npx
from minimx.gluon import HybridBlock, nn


class Residual(HybridBlock):
    """x + relu(dense(x)), gated by its own mean: written as plain Python."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.dense = nn.Dense(units)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, units) -> (N, units)."""
        return x + npx.relu(self.dense(x)) * npx.sigmoid(x.mean(axis=1, keepdims=True))


def make_net(depth: int, units: int) -> nn.HybridSequential:
    net = nn.HybridSequential()
    net.add(*(Residual(units) for _ in range(depth)))
    net.initialize(mx.init.Xavier())
    return net


def seconds_a_step(net: HybridBlock, x: np.ndarray, steps: int) -> float:
    """Time of forward and backward, the middle one of ``steps``."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        with autograd.record():
            loss = net(x).sum()
        loss.backward()
        loss.wait_to_read()
        mx.waitall()
        times.append(time.perf_counter() - start)
    return sorted(times)[steps // 2]


def same_numbers(net: HybridBlock, x: np.ndarray) -> float:
    """Largest difference between the modes."""
    net.hybridize(False)
    imperative = net(x).asnumpy()
    net.hybridize()
    return float(abs(net(x).asnumpy() - imperative).max())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="fewer layers and steps")
    tiny = parser.parse_args().tiny
    depth, steps = (4, 5) if tiny else (20, 200)
    x = np.random.normal(size=(32, 64))
    block = Residual(64)
    block.initialize()
    print(block.graph(x).pretty())
    net = make_net(depth, 64)
    imperative = seconds_a_step(net, x, steps)
    print(f"largest difference between the modes: {same_numbers(net, x):.1e}")
    seconds_a_step(net, x, 3)  # compiles
    hybrid = seconds_a_step(net, x, steps)
    times = f"imperative {imperative * 1e3:.3f} ms, hybridized {hybrid * 1e3:.3f} ms"
    print(f"{depth} layers, a step: {times}: {imperative / hybrid:.1f}x")
