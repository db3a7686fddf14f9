"""Hybridized blocks whose fused kernels are compiled behind them. Without a GPU: ../rtc/test_background.py.

Each test is an interpreter of its own with a fresh cache, so that nothing was compiled before.
"""

from __future__ import annotations

import pytest

from .programs import run

pytestmark = pytest.mark.gpu

BEGIN = """
import threading
import numpy as np
import minimx as mx
from minimx import gluon
from minimx.rtc.cuda import background
from minimx.rtc.cuda import compile as cuda

gate, bad, right = threading.Event(), [], cuda.Nvrtc.run
gate.set()

def held_up(self, text, arch):
    assert gate.wait(60), "somebody waits for the compiler"
    assert not any(b in text for b in bad), "the compiler's words"
    return right(self, text, arch)

cuda.Nvrtc.run = held_up

class Net(gluon.HybridBlock):
    "Fused to one group with reductions."

    def forward(self, x):
        y = mx.npx.softmax(mx.np.tanh(x * 2.5 + 1))
        return y * mx.np.exp(x) - 0.5

class Pointwise(gluon.HybridBlock):
    "Fused to two groups of pointwise operators around one that does not fuse."

    def forward(self, x):
        y = mx.np.cumsum(mx.np.tanh(x * 2.5 + 1), axis=1)
        return y * mx.np.exp(x) - 0.5

def captured(net):
    return sum(e.forward.captured_graphs for e in net._cached.entries.values())

def values(seed):
    return mx.np.array(np.random.default_rng(seed).uniform(-1, 1, (6, 40)).astype("float32"))

mx.gpu(0).__enter__()
net = Net()
"""


def test_nobody_waits_after_an_imperative_run(tmp_path):
    """The compiler is held up: calls go through, by the members; then kernels take over, and runs are captured."""
    run(
        BEGIN
        + """
net = Pointwise()
want = [net(values(k)).asnumpy() for k in range(3)]
compiled = cuda.service.compiled
net.hybridize(static_alloc=True, static_shape=True)
gate.clear()
for k in (0, 1, 2, 0, 1, 2):
    np.testing.assert_array_equal(net(values(k)).asnumpy(), want[k])
states = [t.state for t in background._takeovers]
assert states == ["waiting"] * 2 and cuda.service.compiled == compiled, (states, mx.rtc.report())
assert captured(net) == 0 and "2 waiting" in mx.rtc.report()
gate.set()
assert mx.rtc.wait(60) and "2 ready, 0 waiting, 0 failed" in mx.rtc.report(), mx.rtc.report()
assert cuda.service.compiled == compiled + 2
kept = [values(k) for k in range(3)]
for k in (0, 1, 2, 0, 1, 2, 0, 1, 2):
    np.testing.assert_array_equal(net(kept[k]).asnumpy(), want[k])
assert captured(net) > 0
other = Pointwise()
other.hybridize()
gate.clear()
np.testing.assert_array_equal(other(kept[0]).asnumpy(), want[0])
assert len(background._takeovers) == 2, "a second net uses what is there"
gate.set()
""",
        MINIMX_CACHE_DIR=str(tmp_path),
    )


def test_groups_with_reductions_are_waited_for(tmp_path):
    """They add up in another order than their members, and all runs are to give the same bits."""
    run(
        BEGIN
        + """
net(values(0)).asnumpy()
compiled = cuda.service.compiled
net.hybridize(static_alloc=True, static_shape=True)
x = values(0)
first = net(x).asnumpy()
assert cuda.service.compiled == compiled + 1 and not background._takeovers, mx.rtc.report()
for _ in range(5):
    np.testing.assert_array_equal(net(x).asnumpy(), first)
assert captured(net) > 0
""",
        MINIMX_CACHE_DIR=str(tmp_path),
    )


def test_all_is_compiled_at_once_without_an_imperative_run(tmp_path):
    """Nothing is there: one wait for everything, and nothing takes over later."""
    run(
        BEGIN
        + """
net.hybridize()
got = net(values(0)).asnumpy()
assert not background._takeovers
np.testing.assert_allclose(got, Net()(values(0)).asnumpy(), rtol=1e-6)
""",
        MINIMX_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.parametrize("imperative_first", [True, False])
def test_a_fused_kernel_that_fails(tmp_path, imperative_first):
    """A warning, the members for good, right numbers, and graphs are captured all the same."""
    run(
        f"imperative_first = {imperative_first}\n"
        + BEGIN
        + """
import warnings
want = None
if imperative_first:
    want = net(values(0)).asnumpy()
bad.append("multiply, add, tanh")
net.hybridize(static_alloc=True, static_shape=True)
x = values(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    got = [net(x).asnumpy()]
    assert mx.rtc.wait(60)
(warned,) = [str(w.message) for w in caught if w.category is RuntimeWarning and "fuses" in str(w.message)]
assert "fuses multiply, add, tanh" in warned
assert "the compiler's words" in mx.rtc.report()
got += [net(x).asnumpy() for _ in range(5)]
assert captured(net) > 0
if want is None:
    want = Net()(x).asnumpy()
for y in got:
    np.testing.assert_array_equal(y, want)
""",
        MINIMX_CACHE_DIR=str(tmp_path),
    )


def test_without_fusion(tmp_path):
    """settings.fusion = False: programs of plain operators, and nothing in the background."""
    run(
        BEGIN
        + """
mx.settings.fusion = False
want = net(values(0)).asnumpy()
net.hybridize()
gate.clear()
np.testing.assert_array_equal(net(values(0)).asnumpy(), want)
steps = [e.forward.steps for e in net._cached.entries.values()]
assert len(steps) == 1 and "fused" not in steps[0] and len(steps[0]) >= 6, steps
assert not background._takeovers
""",
        MINIMX_CACHE_DIR=str(tmp_path),
    )
