"""Functions with a gradient of your own: a straight-through estimator trains a net of 1-bit activations.

sign(x) has gradient 0 nearly everywhere, so nothing would be learnt through it. The straight-through estimator
(Bengio et al. 2013, arXiv:1308.3432) hands the gradient on where |x| <= 1, as if the step had been a ramp.
Next: 06_own_layer.py.
"""

import argparse

import minimx as mx
from minimx import autograd, gluon, np
from minimx.gluon import nn


class Sign(autograd.Function):
    """-1 or 1; backward as of clip(x, -1, 1)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Computed as usual; what happens here is not recorded."""
        self.save_for_backward(x)
        return np.where(x >= 0, 1.0, -1.0)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """One gradient for each output comes in, one for each input goes out."""
        (x,) = self.saved_tensors
        return dy * (np.abs(x) <= 1)


class BinaryNet(gluon.Block):
    """A Block, not a HybridBlock: a graph cannot look into a Function."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Dense(64), nn.Dense(1)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, 2) -> (N,), above 0 for points inside the ring."""
        return self.out(Sign()(self.hidden(x))).reshape(-1)


def train(steps: int) -> float:
    """Tell points of a ring from others; the share that is told right."""
    mx.random.seed(0)
    net = BinaryNet()
    net.initialize(mx.init.Normal(1.0))
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.02})
    loss_fn = gluon.loss.SigmoidBinaryCrossEntropyLoss()
    right = 0.0
    for step in range(steps):
        x = np.random.uniform(-1, 1, size=(256, 2))
        inside = ((x * x).sum(axis=1) < 0.5).astype("float32")
        with autograd.record():
            scores = net(x)
            loss = loss_fn(scores, inside)
        loss.backward()
        trainer.step(256)
        right = ((scores > 0) == (inside > 0)).mean().item()
        if step % max(steps // 5, 1) == 0:
            print(f"step {step}: loss {loss.mean().item():.4f}, right {right:.2%}")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few steps")
    print(f"1-bit activations: {train(20 if parser.parse_args().tiny else 500):.2%} right")
