"""Passes over batch norm on a GPU: hybridized training steps against the same operators one by one."""

from __future__ import annotations

import numpy as np
import pytest
from test_passes import Branches, block, check_close, data, dense, ops, preactivation, trained

import minimx as mx
from minimx.gluon import nn
from minimx.models import get_model
from minimx.ops.table import f

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def on_gpu():
    """All arrays on the first GPU."""
    with mx.gpu():
        yield


def backward_nodes(net):
    return list(net._cached.entries.values())[-1].compiled.backward.nodes


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_training_absorbs(make, layout, dtype):
    _, plain = trained(make(layout), False, layout, dtype)
    net, made = trained(make(layout), True, layout, dtype)
    check_close(made, plain, dtype)
    assert "relu" not in ops(net)
    parts = {"batch_norm_relu_grad": 7, "batch_norm_pair_grad": 11}
    both = [n for n in backward_nodes(net) if len(n.inputs) == parts.get(n.op)]
    assert [n.op for n in both] == ["batch_norm_pair_grad"] * (make is Branches), "the gradient of its y has two parts"


def stem(layout):
    """As a ResNet begins."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(64, 3, padding=1, use_bias=False, layout=layout), nn.BatchNorm(axis=layout.index("C")))
    net.add(nn.Activation("relu"), nn.MaxPool2D(3, 2, 1, layout=layout))
    return net


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pools_absorb_norms(layout, dtype):
    _, plain = trained(stem(layout), False, layout, dtype)
    net, made = trained(stem(layout), True, layout, dtype)
    check_close(made, plain, dtype)
    assert ("batch_norm_max_pool" in ops(net)) == (dtype != "float32")


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("shape", [(8, 24, 24, 64), (4, 7, 9, 32), (2, 8, 8, 3)], ids=str)
def test_convolution_with_sums(shape, deterministic):
    """By cuDNN or by a pass of its own; the same every time."""
    x = mx.np.random.normal(size=shape).astype("float16")
    w = (mx.np.random.normal(size=(48, 3, 3, shape[-1])) * 0.1).astype("float16")
    attrs = {"stride": (2, 1), "pad": (1, 1), "layout": "NHWC"}
    before = mx.device.library_settings(deterministic=deterministic)
    try:
        want = f.convolution(x, w, None, **attrs).astype("float64").asnumpy()
        for _ in range(3):
            y, *sums = (a.astype("float64").asnumpy() for a in f.convolution_stats(x, w, **attrs))
            np.testing.assert_allclose(y, want, rtol=0, atol=2e-3 * abs(want).max())
            for got, exact in zip(sums, (y, y * y), strict=True):
                exact = exact.reshape(-1, 48).sum(0)
                np.testing.assert_allclose(got, exact, rtol=0, atol=1e-3 * abs(exact).max())
    finally:
        mx.device.library_settings(**before)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_resnet_leaves_no_relu(layout):
    """Nothing of the size of the activations is left to pointwise kernels, but for the sum behind the first pooling."""
    net = get_model("resnet50_v1", classes=10, layout=layout, in_channels=3)
    x = mx.np.random.normal(size=(2, 3, 64, 64) if layout == "NCHW" else (2, 64, 64, 3))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    with mx.autograd.record():
        y = net(x)
    y.backward()
    assert ops(net).count("batch_norm_relu") == 49 and "relu" not in ops(net)
    rest = [m for n in backward_nodes(net) for m in (n.body.nodes if n.body else [n]) if m.op in ("add", "relu.grad0")]
    assert sum(len(m.outputs[0].shape) == 4 for m in rest) == 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_inference_absorbs(make, layout, dtype):
    net, _ = trained(make(layout), False, layout, dtype)
    x = data(layout).astype(dtype)
    plain = net(x).astype("float32").asnumpy()
    net.hybridize()
    check_close({"y": net(x).astype("float32").asnumpy()}, {"y": plain}, dtype)
    assert "relu" not in ops(net)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_inference_folds_norm(layout):
    net, x = block(layout), data(layout)
    with mx.autograd.record():
        net(x)
    plain = net(x).asnumpy()
    net.hybridize()
    check_close({"y": net(x).asnumpy()}, {"y": plain}, "float32")
    found = ops(net)  # without TF32 cuDNN may have no engine that takes in the ReLU
    assert "batch_norm_infer" not in found and found.count("convolution_relu") + found.count("relu") == 1
