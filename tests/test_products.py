"""Matrix products with what comes with them: activations, and the gradient of a bias."""

from __future__ import annotations

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd
from minimx.gluon import nn
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.passes import products
from minimx.graph.passes.cleanup import call

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def drawn(*shape, dtype="float32"):
    return mx.np.random.normal(size=shape).astype(dtype)


def close(made, want, dtype):
    want = want.asnumpy()
    made = made.astype("float32" if dtype == "bfloat16" else made.dtype).asnumpy()
    onp.testing.assert_allclose(made, want, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(want).max(initial=0)))


def wide(x):
    return x if x.dtype == "float64" else x.astype("float32")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "rows, inner, out", [((3,), 5, 4), ((40,), 64, 70), ((2, 33), 50, 48), ((4,), 0, 3), ((0,), 3, 2)]
)
@pytest.mark.parametrize("act", ["relu", "gelu_tanh"])
def test_activation(act, rows, inner, out, dtype):
    x, w, b = drawn(*rows, inner, dtype=dtype), drawn(out, inner, dtype=dtype), drawn(out, dtype=dtype)
    for bias in (b, None):
        y = mx.np.matmul(wide(x), wide(w).T) + (0 if bias is None else wide(bias))
        want = getattr(mx.npx, act)(y)
        made = call("fully_connected_act", [x, w, bias], {"act": act, "flatten": len(rows) == 1})
        assert made.dtype == x.dtype and made.shape == want.shape
        close(made, want, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "a, b", [((3, 5), (5, 4)), ((2, 40, 64), (64, 70)), ((2, 1, 7, 5), (3, 5, 6)), ((3, 0), (0, 2))]
)
@pytest.mark.parametrize("act", ["", "relu"])
def test_product_with_bias(act, a, b, dtype):
    a, b, bias = drawn(*a, dtype=dtype), drawn(*b, dtype=dtype), drawn(b[-1], dtype=dtype)
    want = mx.np.matmul(wide(a), wide(b)) + wide(bias)
    close(call("matmul_act", [a, b, bias], {"act": act}), mx.npx.relu(want) if act else want, dtype)


def biased(x, w, b):
    return mx.np.matmul(x, w) + b


@pytest.mark.parametrize(
    "function, expected",
    [
        (biased, ["matmul_act"]),
        (lambda *a: mx.npx.relu(biased(*a)), ["matmul_act"]),
        (lambda x, w, b: mx.npx.gelu_tanh(mx.np.matmul(x, w)), ["matmul_act"]),
        (lambda *a: mx.np.tanh(biased(*a)), ["matmul", "add", "tanh"]),
        (lambda *a: (biased(*a), mx.np.matmul(*a[:2])), ["matmul", "add"]),
        (lambda x, w, b: mx.np.matmul(x, w) + b.reshape(-1, 1)[:, 0].sum(), None),
        (lambda x, w, b: mx.npx.relu(mx.np.matmul(x[0], w)), ["matmul", "relu"]),
    ],
)
def test_what_a_product_takes(function, expected):
    class Net(nn.HybridBlock):
        def forward(self, *args):
            return function(*args)

    net, args = Net(), (drawn(40, 64), drawn(64, 50), drawn(50))
    plain = net(*args)
    net.hybridize()
    for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (net(*args), plain)), strict=True):
        close(a, b, "float32")
    found = [op for op in ops(entry(net).forward) if op in ("matmul", "matmul_act", "add", "tanh", "relu", "gelu_tanh")]
    assert expected is None and "matmul_act" not in found or found == expected


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("m, k, n", [(3, 5, 4), (70, 64, 40), (4, 0, 3), (3, 2, 0)])
def test_sums_of_rows(m, k, n, dtype):
    a, b = drawn(k, m, dtype=dtype).T, drawn(k, n, dtype=dtype)
    product, sums = call("matmul_sums", [a, b], {})
    assert product.dtype == sums.dtype == a.dtype
    close(product, mx.np.matmul(wide(a), wide(b)), dtype)
    close(sums, wide(a).sum(1), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "a, b",
    [((3, 5), (5, 4)), ((70, 64), (64, 40)), ((64, 300), (300, 64)), ((2, 40, 64), (64, 70)), ((4, 0), (0, 3)),
     ((2, 1, 7, 5), (3, 5, 6)), ((0, 3), (3, 2))],
)  # fmt: skip
def test_added_to_an_array(a, b, dtype):
    a, b = drawn(*a[:-2], *a[:-3:-1], dtype=dtype).swapaxes(-1, -2), drawn(*b, dtype=dtype)
    product = mx.np.matmul(wide(a), wide(b))
    z = drawn(*product.shape, dtype=dtype)
    for lies in (z, mx.np.ascontiguousarray(z.T).T):
        made = call("matmul_onto", [a, b, lies], {})
        assert made.dtype == z.dtype and made.shape == z.shape
        close(made, wide(z) + product, dtype)
    if len(a.shape) == 2:
        made, sums = call("matmul_sums", [a, b, z], {})
        close(made, wide(z) + product, dtype)
        close(sums, wide(a).sum(1), dtype)


def test_a_sum_keeps_the_type():
    """The product is rounded once, with the sum."""
    one = mx.np.ones((1, 1), dtype="float16")
    assert call("matmul_onto", [one * 2048, one, one * 2048], {}).asnumpy().item() == 4096
    third = mx.np.array([[1 / 3]]).astype("float16")
    wanted = onp.float16(1 + float(third.asnumpy()[0, 0]) ** 2)
    assert call("matmul_onto", [third, third, one], {}).asnumpy().item() == wanted


def net_of(act, flatten=True):
    net = nn.HybridSequential()
    net.add(nn.Dense(48, activation=act, flatten=flatten), nn.Dense(32, flatten=flatten))
    net.initialize(mx.init.Xavier())
    return net


def entry(net):
    return list(net._cached.entries.values())[-1].compiled


def ops(g):
    return [m.op for n in g.nodes for m in (n.body.nodes if n.body else [n])]


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("act", ["relu", "gelu_tanh"])
def test_inference(act, flatten):
    net, x = net_of(act, flatten), drawn(16, 64) if flatten else drawn(2, 16, 64)
    plain = net(x)
    net.hybridize()
    close(net(x), plain, "float32")
    found = ops(entry(net).forward)
    assert found.count("fully_connected_act") == 1 and act not in found


@pytest.mark.parametrize("act", ["relu", "gelu_tanh"])
def test_training(act):
    """relu's gradient reads what fully_connected_act gives; gelu_tanh's reads what it does not."""
    made = []
    for hybrid in (False, True):
        mx.random.seed(2)
        net, x = net_of(act), drawn(16, 64)
        net(x)
        net.hybridize(hybrid)
        x.attach_grad()
        with autograd.record():
            y = net(x)
        y.backward(drawn(16, 32))
        made.append([y.asnumpy(), x.grad.asnumpy(), *(p.grad().asnumpy() for p in net.collect_params().values())])
    for a, b in zip(*made, strict=True):
        onp.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert (act in ops(entry(net).forward)) == (act == "gelu_tanh")
    if mx.current_device().device_type == "gpu":  # the last layer's gradient comes from outside, the first's from relu
        assert ops(entry(net).backward).count("matmul_sums") <= 1


def node(op, inputs, out, /, **attrs):
    return Node(op, inputs, [Value(out, "float32")], attrs)


def gradients(maker):
    """The graph of a layer's gradients, where ``maker(g)`` makes what they are made of; for a GPU."""
    g, x = Value((8, 4), "float32"), Value((8, 5), "float32")
    made = maker(g)
    d = made[-1].outputs[0] if made else g
    turned = node("transpose", [d], (4, 8), axes=None)
    dw = node("matmul", [turned.outputs[0], x], (4, 5))
    db = node("sum", [d], (4,), axis=(0,), keepdims=False)
    return Graph("g", [g, x], [*made, db, turned, dw], [dw.outputs[0], db.outputs[0]], gpu=0)


@pytest.mark.parametrize(
    "maker, joins",
    [
        (lambda g: [], True),
        (lambda g: [node("matmul", [g, Value((4, 4), "float32")], (8, 4))], True),
        (lambda g: [node("reshape", [g], (8, 4), shape=(8, 4), order="C", newshape=None)], True),
        (lambda g: [node("tanh", [g], (8, 4))], False),
        (lambda g: [node("softmax_of", [g], (8, 4))], False),
    ],
)
@pytest.mark.parametrize("has", [True, False])
def test_bias_gradient_joins_its_product(maker, joins, has, monkeypatch):
    """Only where no kernel of ours makes what is added up, and the library has an algorithm."""
    monkeypatch.setattr(products, "gains", lambda nodes, gpu: [has] * len(nodes))
    g = gradients(maker)
    extra = [v for n in g.nodes for v in n.values if v not in g.inputs and v not in g.producers()]
    g.inputs += extra
    after = products.absorb_into_products(g.verify()).verify()
    assert ("matmul_sums" in ops(after)) == (joins and has) == ("sum" not in ops(after))
