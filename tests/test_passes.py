"""Passes that rewrite operators, with the same numbers: norm and ReLU absorbed or folded into convolutions, layouts."""

from __future__ import annotations

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd
from minimx.gluon import nn


def block(layout="NCHW", bias=False):
    net = nn.HybridSequential()
    axis = 1 if layout == "NCHW" else 3
    net.add(nn.Conv2D(16, 3, padding=1, use_bias=bias, layout=layout), nn.BatchNorm(axis=axis), nn.Activation("relu"))
    net.add(nn.Conv2D(32, 1, strides=2, use_bias=bias, layout=layout), nn.BatchNorm(axis=axis))
    net.initialize(mx.init.Xavier())
    return net


def data(layout="NCHW"):
    return mx.np.random.normal(size=(4, 16, 6, 6) if layout == "NCHW" else (4, 6, 6, 16))


def ops(net, index=-1):
    """Operators of the compiled forward graph, fused bodies included."""
    graph = list(net._cached.entries.values())[index].compiled.forward
    return [m.op for n in graph.nodes for m in (n.body.nodes if n.body else [n])]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bias", [False, True])
def test_inference_folds_norm(layout, bias):
    net, x = block(layout, bias), data(layout)
    with autograd.record():
        net(x)  # statistics that are not 0 and 1
    plain = net(x).asnumpy()
    net.hybridize()
    onp.testing.assert_allclose(net(x).asnumpy(), plain, rtol=1e-4, atol=1e-5)
    assert "batch_norm_infer" not in ops(net) and ops(net).count("convolution_relu") == 1


def test_folded_weights_follow_parameters():
    net, x = block(), data()
    net.hybridize()
    before = net(x).asnumpy()
    net[1].gamma.set_data(net[1].gamma.data() * 2)
    net[1].beta.set_data(net[1].beta.data() + 1)
    after = net(x).asnumpy()
    net.hybridize(False)
    onp.testing.assert_allclose(after, net(x).asnumpy(), rtol=1e-4, atol=1e-5)
    assert not onp.allclose(before, after)


class Residual(nn.HybridBlock):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = (
            nn.Conv2D(16, 3, padding=1, use_bias=False),
            nn.BatchNorm(),
            nn.Activation("relu"),
        )

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x)


def trained(make, hybrid):
    mx.random.seed(3)
    net, x = make(), data()
    net.initialize(mx.init.Xavier(), force_reinit=True)
    net(x)
    if hybrid:
        net.hybridize()
    x.attach_grad()
    with autograd.record():
        y = net(x)
    y.backward(mx.np.random.normal(size=y.shape))
    grads = [p.grad() for p in net.collect_params().values() if p.grad_req != "null"]
    return net, [y.asnumpy(), x.grad.asnumpy(), *(g.asnumpy() for g in grads)]


@pytest.mark.parametrize("make", [block, Residual])
def test_training_absorbs_relu(make):
    _, plain = trained(make, False)
    net, made = trained(make, True)
    for a, b in zip(plain, made, strict=True):
        onp.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    assert "batch_norm_relu" in ops(net) and "relu" not in ops(net)


def test_convolutions_meet_in_one_layout():
    net, x = block(), data()
    net(x)
    net.hybridize()
    net(x)
    graph = list(net._cached.entries.values())[-1].compiled.forward
    between = [n for n in graph.nodes if n.op == "reorder"]
    assert len(between) <= 2, graph.pretty()  # one on the way in, one on the way out
