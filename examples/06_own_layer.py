"""A layer of your own, with parameters whose shape the first input decides, in Gluon 2's form and in Gluon 1's.

Next: 07_data_loader.py.
"""

import argparse

import minimx as mx
from minimx import autograd, gluon, np, npx
from minimx.gluon import HybridBlock, Parameter


class Maxout(HybridBlock):
    """max over k of (x W_k + b_k): Goodfellow et al. 2013, arXiv:1302.4389. Gluon 2's form."""

    def __init__(self, units: int, pieces: int) -> None:
        super().__init__()
        self._units, self._pieces = units, pieces
        self.weight = Parameter(shape=(units * pieces, -1), allow_deferred_init=True)  # -1: not known yet
        self.bias = Parameter(shape=(units * pieces,), init="zeros")

    def infer_shape(self, x: np.ndarray) -> None:
        """Called once, with the first input."""
        self.weight.shape = (self._units * self._pieces, x.shape[1])

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, inputs) -> (N, units)."""
        size = self._units * self._pieces
        y = npx.fully_connected(x, self.weight.data(), self.bias.data(), num_hidden=size, flatten=False)
        return y.reshape(-1, self._units, self._pieces).max(axis=2)


class Scale(HybridBlock):
    """Gluon 1's form: ``F`` has the operators, parameters arrive as arguments. The same block, traced the same way."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.gamma = self.params.get("gamma", shape=(1,), init="ones")

    def hybrid_forward(self, F, x, gamma):  # noqa: N803
        """x * gamma."""
        return F.broadcast_mul(x, gamma)


def train(steps: int) -> float:
    """Fit |x| summed over 3 numbers, which maxout can say exactly; gives the last loss."""
    mx.random.seed(0)
    net = gluon.nn.HybridSequential()
    net.add(Maxout(8, 2), Scale(), gluon.nn.Dense(1))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.02})
    loss_fn = gluon.loss.L2Loss()
    for step in range(steps):
        x = np.random.normal(size=(64, 3))
        with autograd.record():
            loss = loss_fn(net(x).reshape(-1), np.abs(x).sum(axis=1))
        loss.backward()
        trainer.step(64)
        if step % max(steps // 5, 1) == 0:
            print(f"step {step}: loss {loss.mean().item():.4f}")
    net.summary(x)
    return loss.mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few steps")
    print(f"last loss {train(10 if parser.parse_args().tiny else 400):.4f}")
