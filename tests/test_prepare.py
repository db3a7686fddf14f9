"""Prepared values: what inference computes from parameters alone is computed once, kept, and never stale."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import HybridBlock, nn
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.prepare import split
from minimx.ndarray import _core


def layers():
    """A norm that folds into a convolution, and a layer without one."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, padding=1, use_bias=False, in_channels=16), nn.BatchNorm(), nn.Activation("relu"))
    net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(3))
    net.initialize(mx.init.Xavier())
    return net


def net_of(**options):
    """A hybridized net with statistics that are not 0 and 1, and an input."""
    net, x = layers(), mx.np.random.normal(size=(4, 16, 6, 6))
    with autograd.record():
        net(x)
    net.hybridize(**options)
    return net, x


def entries(net):
    """Of the compiled calls that do not record."""
    return [e for e in net._cached.entries.values() if e.compiled.backward is None]


class Counting:
    """A Program that counts its runs."""

    def __init__(self, program):
        self.program, self.runs = program, 0

    def run(self, *args):
        self.runs += 1
        return self.program.run(*args)


def counted(net):
    """Counts how often the one entry prepares, from now on."""
    prepared = entries(net)[0].prepared
    prepared.program = Counting(prepared.program)
    return prepared.program


def close(a, b):
    onp.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def eager_twin(net, x):
    """What the same parameters give in a net that runs imperatively."""
    twin = layers()
    twin(x)
    for p, q in zip(twin.collect_params().values(), net.collect_params().values(), strict=True):
        p.set_data(q.data())
    return twin(x).asnumpy()


@pytest.mark.parametrize("options", [{}, {"static_alloc": True, "static_shape": True}])
def test_prepares_once(options):
    net, x = net_of(**options)
    first = net(x).asnumpy()
    close(first, eager_twin(net, x))
    program = counted(net)
    for _ in range(3):
        onp.testing.assert_array_equal(net(x).asnumpy(), first)
    assert program.runs == 0


def by_set_data(net, x, path):
    net[1].gamma.set_data(net[1].gamma.data() * 2)


def by_operator(net, x, path):
    net[0].weight.data()[:] *= 0.5


def by_loading(net, x, path):
    other = layers()
    other(x)
    other.save_parameters(str(path / "p"))
    net.load_parameters(str(path / "p"))


def by_training(net, x, path):
    """Running statistics by the graph of a recorded call, weights by the optimizer."""
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
    with autograd.record():
        loss = (net(x * 3 + 1) ** 2).sum()
    loss.backward()
    trainer.step(4)


def by_statistics(net, x, path):
    with autograd.record():
        net(x * 3 + 1)


def by_numpy(net, x, path):
    """Through memory that NumPy sees, and keeps: no version is counted."""
    net.view = onp.asarray(memoryview(net[0].weight.data()))
    net(x)
    net.view *= 0.5


@pytest.mark.parametrize("change", [by_set_data, by_operator, by_loading, by_training, by_statistics, by_numpy])
@pytest.mark.parametrize("options", [{}, {"static_alloc": True, "static_shape": True}])
def test_follows_parameters(change, options, tmp_path, request):
    if change is by_numpy and request.config.getoption("--device") != "cpu":
        pytest.skip("NumPy sees main memory only")
    net, x = net_of(**options)
    for _ in range(2):
        before = net(x).asnumpy()
    kept = [_core.address(a) for a in entries(net)[0].prepared()]
    change(net, x, tmp_path)
    after = net(x).asnumpy()
    close(after, eager_twin(net, x))
    assert not onp.allclose(before, after)
    assert change is by_loading or kept == [_core.address(a) for a in entries(net)[0].prepared()]


def test_lent_memory_is_watched_until_it_comes_back(request):
    if request.config.getoption("--device") != "cpu":
        pytest.skip("NumPy sees main memory only")
    net, x = net_of()
    net(x)
    program = counted(net)
    view = memoryview(net[0].weight.data())
    net(x), net(x)
    assert program.runs == 2
    view.release()
    net(x), net(x)
    assert program.runs <= 3


def test_threads_see_the_old_or_the_new():
    """Several run the net while a parameter is written to: no result mixes both, and the last ones are new."""
    net, x = net_of()
    old = net(x).asnumpy()
    shift = net[1].beta.data() + 1
    found = []
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(lambda: [found.append(net(x).asnumpy()) for _ in range(40)]) for _ in range(3)]
        net[1].beta.set_data(shift)
        for run in runs:
            run.result()
    new = net(x).asnumpy()
    close(new, eager_twin(net, x))
    assert not onp.allclose(old, new)
    for y in found:
        assert onp.allclose(y, old, rtol=1e-5, atol=1e-6) or onp.allclose(y, new, rtol=1e-5, atol=1e-6)


def test_signatures_share_and_free():
    """Batches of other sizes keep nothing of their own, where their kernels want the same."""
    net, x = net_of()
    net(x), net(x[:3].copy())
    one, other = entries(net)
    assert one.prepared is other.prepared
    gone = weakref.ref(one.prepared)
    del one, other
    net.hybridize(False)
    gc.collect()
    assert gone() is None


def test_recorded_calls_prepare_nothing():
    net, x = net_of()
    x.attach_grad()
    with autograd.record(train_mode=False):
        net(x)
    assert all(e.prepared is None for e in net._cached.entries.values())


class Made(HybridBlock):
    """Hands out what it makes of a parameter, looks at it, and adds random numbers."""

    def __init__(self):
        super().__init__()
        self.w = gluon.Parameter("w", shape=(3, 5))

    def forward(self, x, y):
        w = self.w.data()
        turned = mx.np.transpose(mx.np.exp(w))
        noise = mx.np.random.normal(size=(5, 3)) * 0 + turned
        return turned, mx.np.reshape(w.T, (15,)) + x, noise, mx.np.matmul(y, turned[:, :1]), w * 2


def test_results_and_views():
    net, inputs = Made(), (mx.np.ones((1,)), mx.np.arange(5.0))
    net.initialize(mx.init.Normal(1.0))
    plain = [a.asnumpy() for a in net(*inputs)]
    net.hybridize()
    for _ in range(2):
        for a, b in zip(net(*inputs), plain, strict=True):
            close(a.asnumpy(), b)
    net.w.set_data(net.w.data() + 1)
    for a, b in zip(net(*inputs), net.forward(*inputs), strict=True):
        close(a.asnumpy(), b.asnumpy())


def node(op, inputs, shape, dtype="float32", **attrs):
    return Node(op, inputs, [Value(shape, dtype)], attrs)


def test_what_grows_is_not_kept():
    """A small parameter spread over much memory is cheaper to spread again."""
    w, x = Value((8,), "float32"), Value((1024, 8), "float32")
    made = node("exp", [w], (8,))
    out = node("add", [made.outputs[0], x], (1024, 8))
    assert split(Graph("g", [x, w], [made, out], [out.outputs[0]], lasting=frozenset([w]))) is not None
    small = Value((64, 1), "float32")
    wide = node("multiply", [Value((512,), "float32", name="w"), small], (64, 512))
    out = node("add", [wide.outputs[0], 1.0], (64, 512))
    g = Graph("g", wide.values, [wide, out], [out.outputs[0]], lasting=frozenset(wide.values))
    assert split(g) is None


def test_transposed_weights_are_written_out_for_convolutions():
    """A view costs nothing where the reader takes strides; a convolution would copy it at every run."""
    x, w = Value((2, 5, 5, 4), "float32"), Value((6, 4, 3, 3), "float32")
    turned = node("transpose", [w], (6, 3, 3, 4), axes=(0, 2, 3, 1))
    attrs = {"kernel": (3, 3), "num_filter": 6, "layout": "NHWC"}
    conv = node("convolution", [x, turned.outputs[0]], (2, 3, 3, 6), **attrs)
    parts = split(Graph("g", [x, w], [turned, conv], [conv.outputs[0]], lasting=frozenset([w])))
    assert parts is not None and [n.op for n in parts.rest.nodes] == ["convolution"]
    m = Value((4, 3), "float32")
    flat = node("transpose", [m], (3, 4), axes=None)
    product = node("matmul", [Value((2, 3), "float32"), flat.outputs[0]], (2, 4))
    assert split(Graph("g", [product.inputs[0], m], [flat, product], product.outputs, lasting=frozenset([m]))) is None
