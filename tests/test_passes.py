"""Passes that rewrite operators, with the same numbers: norm and ReLU absorbed or folded into convolutions, layouts."""

from __future__ import annotations

import numpy as onp
import pytest

import minimx as mx
from minimx import amp, autograd
from minimx.gluon import nn
from minimx.graph.lower import lower
from minimx.graph.passes.cleanup import call, dead_code, identities
from minimx.graph.passes.spread import spread_early
from minimx.graph.trace import trace


def block(layout="NCHW", bias=False):
    net = nn.HybridSequential()
    axis = 1 if layout == "NCHW" else -1
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
    taken = ops(net).count("convolution_relu")  # a GPU's float32 may have no engine for it
    assert "batch_norm_infer" not in ops(net) and (taken == 1 or x.device.device_type == "gpu")


@pytest.mark.parametrize("layout", ["NCW", "NWC", "NCDHW", "NDHWC"])
def test_inference_folds_norm_of_any_rank(layout):
    conv = nn.Conv1D if len(layout) == 3 else nn.Conv3D
    shape = [{"N": 2, "C": 4}.get(axis, 5) for axis in layout]
    net, x = nn.HybridSequential(), mx.np.random.normal(size=shape)
    net.add(conv(6, 3, groups=2, layout=layout), nn.BatchNorm(axis=layout.index("C") - len(layout)))
    net.initialize()
    with autograd.record():
        net(x)
    plain = net(x).asnumpy()
    net.hybridize()
    onp.testing.assert_allclose(net(x).asnumpy(), plain, rtol=1e-4, atol=1e-5)
    assert "batch_norm_infer" not in ops(net)


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


def test_folded_weights_are_rounded_once():
    """In mixed precision: from the float32 parameters, not from their casts."""
    net, x = block(), data()
    net(x)
    amp.init("bfloat16")
    try:
        net.hybridize()
        net(x)
    finally:
        amp.disable()
    prepare = list(net._cached.entries.values())[-1].compiled.prepared.prepare
    casts = [m for n in prepare.nodes for m in (n.body.nodes if n.body else [n]) if m.op == "cast"]
    assert [m.outputs[0].dtype for m in casts] == ["bfloat16"] * 2, prepare.pretty()


class Branches(nn.HybridBlock):
    """relu(norm(conv(x)) + branch(x)) twice; the branch of the first is a norm as well, of the second what it reads."""

    def __init__(self, layout="NCHW"):
        super().__init__()
        for name in ("body", "side", "last"):
            net = nn.HybridSequential()
            net.add(nn.Conv2D(16, 3, padding=1, use_bias=False, layout=layout), nn.BatchNorm(axis=layout.index("C")))
            setattr(self, name, net)

    def forward(self, x):
        y = mx.npx.relu(self.body(x) + self.side(x))
        return mx.npx.relu(y + self.last(y))


def preactivation(layout="NCHW"):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(axis=layout.index("C")), nn.Activation("relu"), nn.Conv2D(32, 3, layout=layout))
    return net


def dense(layout="NCHW"):
    net = nn.HybridSequential()
    net.add(nn.Flatten(), nn.Dense(20), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3))
    return net


def trained(net, hybrid, layout="NCHW", dtype="float32"):
    """The net, and what a training step leaves: its value, gradients and running statistics."""
    mx.random.seed(3)
    x = data(layout).astype(dtype)
    net.initialize(mx.init.Xavier(), force_reinit=True)
    net.cast(dtype)
    net(x)
    net.hybridize(hybrid)
    x.attach_grad()
    with autograd.record():
        y = net(x)
    y.backward(mx.np.random.normal(size=y.shape).astype(dtype))
    parameters = net.collect_params()
    left = {n: p.data() if p.grad_req == "null" else p.grad() for n, p in parameters.items()}
    return net, {k: v.astype("float32").asnumpy() for k, v in {"y": y, "x": x.grad, **left}.items()}


def check_close(made, plain, dtype):
    """Equal, but for what float rounding leaves, measured by the largest element.

    In 16 bits values near 0 may be on the other side of a ReLU, and a few elements of gradients are then quite others:
    gradients are measured by their root mean square.
    """
    tolerance, of_gradients = {"float32": (1e-4, 1e-4), "float16": (2e-2, 0.1), "bfloat16": (4e-2, 0.25)}[dtype]
    for name, b in plain.items():
        if dtype == "float32" or name == "y" or "running" in name:
            onp.testing.assert_allclose(made[name], b, rtol=0, atol=tolerance * max(1, abs(b).max()), err_msg=name)
        else:
            off, size = (onp.sqrt((x.astype("float64") ** 2).mean()) for x in (made[name] - b, b))
            assert off <= of_gradients * max(1, size), (name, off, size)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_training_absorbs_relu(make, layout, dtype):
    _, plain = trained(make(layout), False, layout, dtype)
    net, made = trained(make(layout), True, layout, dtype)
    check_close(made, plain, dtype)
    forward = list(net._cached.entries.values())[-1].compiled.forward
    takers = ("batch_norm_relu", "batch_norm_pair")  # the latter, and norms from sums, on GPUs in 16 bits
    norms = [n for n in forward.nodes if n.op in takers or (n.op == "batch_norm_sums" and n.attrs["relu"])]
    assert len(norms) == (2 if make is Branches else 1) and "relu" not in ops(net)
    left = [n.op for n in list(net._cached.entries.values())[-1].compiled.backward.nodes]
    assert "batch_norm_relu_grad" in left and "relu.grad0" not in left


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("make", [block, Branches, preactivation, dense])
def test_inference_absorbs_relu(make, layout, dtype):
    """In convolutions, or where the norm cannot move into one, in the norm."""
    net, _ = trained(make(layout), False, layout, dtype)
    x = data(layout).astype(dtype)
    plain = net(x).astype("float32").asnumpy()
    net.hybridize()
    check_close({"y": net(x).astype("float32").asnumpy()}, {"y": plain}, dtype)
    takes = dtype != "float32" or x.device.device_type == "cpu"  # else cuDNN may have no engine
    assert not takes or ops(net).count("convolution_relu") == {block: 1, Branches: 2}.get(make, 0)
    assert ops(net).count("batch_norm_infer_relu") == (make in (preactivation, dense))
    assert (not takes or "relu" not in ops(net)) and "batch_norm_infer" not in ops(net)


def test_gradient_by_given_statistics():
    """The ReLU goes into the norm, and its gradient stays."""
    made = []
    for hybrid in (False, True):
        net = nn.HybridSequential()
        net.add(nn.BatchNorm(use_global_stats=True), nn.Activation("relu"))
        net, left = trained(net, hybrid)
        made.append(left)
    check_close(made[1], made[0], "float32")
    assert "batch_norm_infer_relu" in ops(net)


class Of(nn.HybridBlock):
    """A function of a norm, and of what it reads."""

    def __init__(self, function):
        super().__init__()
        self.norm, self.function = nn.BatchNorm(in_channels=6 if function is turned else 16), function

    def forward(self, x):
        return self.function(self.norm, x)


def read_twice(norm, x):
    y = norm(x)
    return mx.npx.relu(y) * y


def read_behind_the_sum(norm, x):
    y = norm(x) + x
    return mx.npx.relu(y), y


def of_another(norm, x):
    return mx.npx.relu(x * 2) + norm(x)


def own_residual(norm, x):
    """A residual made from the norm's own statistics cannot be there before it."""
    p = norm.gamma.data(), norm.beta.data(), norm.running_mean.data(), norm.running_var.data()
    y, mean, _ = mx.npx.batch_norm(x, *p, output_mean_var=True)
    return mx.npx.relu(y + mx.np.broadcast_to(mean.reshape(1, -1, 1, 1), y.shape))


def turned(norm, x):
    """A view that is handed out: its channels lie apart forward, and together backward, where it is made again."""
    y = mx.np.moveaxis(x, 3, 1)
    return mx.npx.relu(norm(y)), y


@pytest.mark.parametrize("function", [read_twice, read_behind_the_sum, own_residual, of_another, turned])
def test_relu_stays_where_it_must(function):
    made = []
    for hybrid in (False, True):
        mx.random.seed(3)
        net, x = Of(function), data()
        net.initialize()
        net(x)
        net.hybridize(hybrid)
        x.attach_grad()
        with autograd.record():
            out = net(x)
            total = sum((y * y).sum() for y in (out if isinstance(out, tuple) else (out,)))
        total.backward()
        made.append({"total": total.asnumpy(), "x": x.grad.asnumpy()})
    check_close(made[1], made[0], "float32")
    assert "relu" in ops(net) and "batch_norm_relu" not in ops(net)


def test_convolutions_meet_in_one_layout():
    net, x = block(), data()
    net(x)
    net.hybridize()
    net(x)
    graph = list(net._cached.entries.values())[-1].compiled.forward
    between = [n for n in graph.nodes if n.op == "reorder"]
    assert len(between) <= 2, graph.pretty()  # one on the way in, one on the way out


CASES = [
    ((2, 16, 9, 9), (32, 16, 3, 3), {"pad": (1, 1)}),
    ((2, 5, 7, 8), (6, 5, 1, 1), {"stride": (2, 2)}),
    ((2, 8, 10), (8, 2, 3), {"num_group": 4}),
    ((1, 4, 4, 5, 6), (3, 4, 2, 2, 2), {}),
    ((2, 9, 9, 16), (32, 3, 3, 16), {"pad": (1, 1), "layout": "NHWC"}),
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("x, w, attrs", CASES)
def test_convolution_adds_residual(x, w, attrs, dtype):
    """With and without bias; the bias may be float32, the residual may lie in any way."""
    x, w = (mx.np.random.normal(size=s).astype(dtype) for s in (x, w))
    kernel = w.shape[1:-1] if attrs.get("layout") else w.shape[2:]
    y = mx.npx.convolution(x, w, kernel=kernel, num_filter=w.shape[0], no_bias=True, **attrs).astype("float32")
    b, z = mx.np.random.normal(size=(w.shape[0],)), mx.np.random.normal(size=y.shape).astype(dtype)
    turned = mx.np.swapaxes(mx.np.swapaxes(z, 0, 1).copy(), 0, 1)
    wide = b if attrs.get("layout") else b.reshape(-1, *(1,) * (len(y.shape) - 2))
    for bias, residual in ((None, z), (b, z), (b, turned), (b, None)):
        want = y + wide if bias is not None else y
        want = mx.np.maximum(want + residual.astype("float32") if residual is not None else want, 0).asnumpy()
        made = call("convolution_relu", [x, w, bias, residual], attrs)
        assert made.dtype == x.dtype
        tolerance = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}[dtype]
        onp.testing.assert_allclose(made.astype("float32").asnumpy(), want, atol=tolerance * abs(want).max(), rtol=0)


def test_arithmetic_on_one_number_comes_after_its_spreading():
    """The gradient of a mean of means: no kernel for the number itself, and none for products with 1."""

    def gradient(x, g):
        rows = mx.np.broadcast_to(mx.np.expand_dims(g * 0.25 * 1.0, 0) - 1, x.shape[:1])
        many = mx.np.broadcast_to(mx.np.expand_dims(rows / 3, 1), x.shape)
        return many * x, mx.np.broadcast_to(mx.np.exp(g), x.shape)

    args = [mx.np.random.normal(size=(300, 400)), mx.np.array(2.0)]
    g = trace("f", gradient, args, False).graph
    before = mx.np.concatenate([y.reshape(-1) for y in gradient(*args)]).asnumpy()
    g = dead_code(spread_early(identities(g)))
    small = [n.op for n in g.nodes if n.outputs[0].shape != (300, 400)]
    assert small == ["expand_dims", "broadcast_to", "expand_dims", "exp"]  # views, and what is dear
    made = mx.np.concatenate([y.reshape(-1) for y in lower(g).run(args, False)]).asnumpy()
    onp.testing.assert_array_equal(made, before)
