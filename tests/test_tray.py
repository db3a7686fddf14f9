"""The tray: what forward saves for backward lies in one block, whose free places both use for intermediates."""

from __future__ import annotations

import numpy as onp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import autograd
from minimx.errors import AutogradError
from minimx.gluon import nn
from minimx.graph import memory
from minimx.ndarray import _core

lives = st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 10))


@settings(max_examples=200, deadline=None)
@given(st.lists(lives, max_size=12), st.lists(lives, max_size=30), st.booleans())
def test_plan(saved, rows, made):
    """Nothing overlaps what lives when it does; what was saved stays where it is."""
    offsets, size = memory.tray_of([row[0] for row in saved], range(len(saved)))
    fixed = [memory.Buffer(b, first if made else -1, 40 if made else first, offset)
             for (b, first, _), offset in zip(saved, offsets, strict=True)]  # fmt: skip
    buffers = [memory.Buffer(b, first, first + length) for b, first, length in rows]
    arena = memory.plan(buffers, fixed, size)
    assert [b.offset for b in fixed] == list(offsets)
    for b in buffers:
        assert 0 <= b.offset and b.offset + b.bytes <= (size if b.in_tray else arena)
    everything = [(b, b.in_tray) for b in buffers] + [(b, True) for b in fixed]
    for i, (b, in_tray) in enumerate(everything):
        for other, beside in everything[:i]:
            if in_tray == beside and b.first <= other.last and other.first <= b.last:
                assert b.offset + b.bytes <= other.offset or other.offset + other.bytes <= b.offset


def net_and_data(depth=6, width=32):
    mx.random.seed(1)
    net = nn.HybridSequential()
    for _ in range(depth):
        net.add(nn.Dense(width, activation="tanh", in_units=width), nn.Dropout(0.3))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    return net, mx.np.random.normal(size=(16, width))


def test_no_backward_program_without_gradients():
    """Neither that which uses up what was saved, nor that which leaves it."""
    net, x = net_and_data(depth=1)
    net(x)
    (entry,) = net._cached.entries.values()
    assert entry.backward is None and entry.last_backward is None


def test_retained_graphs_can_be_walked_again():
    """Twice with what was saved left alone, then once using it up: the same gradients; after that there is none."""
    net, x = net_and_data()
    x.attach_grad()
    with autograd.record():
        y = net(x)
    found = []
    for retain in (True, True, False):
        y.backward(retain_graph=retain)
        found.append([x.grad.asnumpy(), *(p.grad().asnumpy() for p in net.collect_params().values())])
    for again in found[1:]:
        for a, b in zip(found[0], again, strict=True):
            onp.testing.assert_array_equal(a, b)
    with pytest.raises(AutogradError, match="freed"):
        y.backward()


def test_what_failed_is_not_read_again():
    """An error in the middle of backward has used up what was saved: then there is no second try."""
    net, x = net_and_data(1)
    with autograd.record():
        y = net(x)
    entry = next(iter(net._cached.entries.values()))

    def failing(last, places):
        raise MemoryError

    entry.backward_into = failing
    with pytest.raises(MemoryError):
        y.backward()
    del entry.backward_into
    with pytest.raises(AutogradError, match="used up"):
        y.backward()


def test_second_order():
    x = mx.np.array([0.3, -0.2])

    class Net(nn.HybridBlock):
        def forward(self, x):
            return mx.np.sin(mx.np.exp(x))

    net = Net()
    net.hybridize()
    x.attach_grad()
    with autograd.record():
        (g,) = autograd.grad(net(x), [x], create_graph=True, retain_graph=True)
    g.backward()
    e = onp.exp(x.asnumpy())
    onp.testing.assert_allclose(x.grad.asnumpy(), e * onp.cos(e) - e * e * onp.sin(e), rtol=1e-5)


class Chain(nn.HybridBlock):
    """Every step saves one array and makes others: their sum is what a backward pass cannot do without."""

    def forward(self, x):
        for _ in range(20):
            x = mx.np.cumsum(mx.np.sin(x), axis=1) * 0.01
        return x


@pytest.mark.cpu_only("counts the host's memory")
def test_backward_needs_little_more_than_what_was_saved():
    net = Chain()
    net.hybridize()
    x = mx.np.ones((512, 512))
    x.attach_grad()
    for _ in range(2):
        _core.reset_peak_memory()
        before = _core.memory_info()["used"]
        with autograd.record():
            y = net(x)
        y.backward()
        x.grad.wait_to_read()
    compiled = next(iter(net._cached.entries.values())).compiled
    saved = sum(onp.prod(v.shape) * 4 for v in compiled.forward.outputs[compiled.outputs :])
    size = 512 * 512 * 4
    assert saved >= 19 * size
    assert _core.memory_info()["peak"] - before <= 1.25 * saved + 4 * size  # blocks of the host come in size classes
    entry = next(iter(net._cached.entries.values()))
    assert max(entry.forward.arena_bytes, entry.last_backward.arena_bytes) <= 2 * size
