"""Passes over batch norm on a GPU: hybridized training steps against the same operators one by one."""

from __future__ import annotations

import pytest
from test_passes import Branches, block, check_close, data, dense, ops, preactivation, trained

import minimx as mx
from minimx.models import get_model

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def on_gpu():
    """All arrays on the first GPU."""
    with mx.gpu():
        yield


def error(made, exact):
    """The largest distance, of each array relative to its largest element."""
    return max(abs(made[name] - x).max() / abs(x).max() for name, x in exact.items())


def backward_nodes(net):
    return list(net._cached.entries.values())[-1].compiled.backward.nodes


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_training_absorbs(make, layout, dtype):
    _, plain = trained(make(layout), False, layout, dtype)
    net, made = trained(make(layout), True, layout, dtype)
    if dtype == "bfloat16":  # whose rounding flips so many ReLUs that only the distance from float32 says something
        _, exact = trained(make(layout), False, layout, "float32")
        assert error(made, exact) <= 1.5 * error(plain, exact)
    else:
        check_close(made, plain, dtype)
    assert "relu" not in ops(net)
    grads = [n for n in backward_nodes(net) if n.op == "batch_norm_relu_grad"]
    assert sum(len(n.inputs) == 7 for n in grads) == (make is Branches)  # the gradient of its y comes in two parts


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
