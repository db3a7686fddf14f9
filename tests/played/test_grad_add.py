"""Kernels that sums of gradients (grad_req "add") take: only with ``--device played``, whose counters count them."""

from __future__ import annotations

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn


class Sums(nn.HybridBlock):
    """tanh(x w) + b w: pointwise, with a parameter that is used twice."""

    def __init__(self):
        super().__init__()
        self.weight = gluon.Parameter("weight", shape=(3, 4), init="one")
        self.bias = gluon.Parameter("bias", shape=(3, 4), init="one")

    def forward(self, x):
        """x: (3, 4)."""
        return mx.np.tanh(x * self.weight.data()) + self.bias.data() * self.weight.data()


def launched(net, counts, x):
    """Kernels of a backward pass."""
    with autograd.record():
        loss = net(x)
    before = counts()["launches"]
    loss.backward()
    return counts()["launches"] - before


def test_the_sum_is_made_where_the_gradient_is(counts):
    """One kernel for both gradients and both sums."""
    net, x = Sums(), mx.np.ones((3, 4))
    net.initialize()
    net.hybridize()
    for _ in range(2):
        plain = launched(net, counts, x)
    net.setattr("grad_req", "add")
    for _ in range(2):
        assert launched(net, counts, x) == plain


def test_imperative_sums_are_one_kernel(counts):
    x = mx.np.ones((3, 4))
    x.attach_grad()
    passes = []
    for req in ("write", "add"):
        x.attach_grad(req)
        with autograd.record():
            y = mx.np.tanh(x)
        before = counts()["launches"]
        with mx.engine.bulk(0):
            y.backward()
        passes.append(counts()["launches"] - before)
    assert passes[1] == passes[0] + 1
