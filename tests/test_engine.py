"""The engine from Python: order, errors with class, operator and line, policies, threads, fork, exit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import autograd
from minimx.gluon import nn
from minimx.ndarray import _core


@pytest.fixture
def naive():
    """The naive engine, and back."""
    before = mx.engine.set_engine("naive")
    yield
    mx.engine.set_engine(before)


def large(value: float = 1.0) -> mx.np.ndarray:
    """An array whose operators go to the worker."""
    return mx.np.full((512, 512), value)


# --- order -------------------------------------------------------------------------------------------------------


def test_push_is_ordered_by_what_it_touches():
    """Callbacks that write an array run in the order of pushes; readers see what was written before them."""
    x, seen = mx.np.zeros(1), []
    for k in range(20):
        mx.engine.push(lambda k=k: seen.append(k), writes=[x], name="append")
    x.wait_to_read()
    assert seen == list(range(20))


@pytest.mark.cpu_only("a GPU's memory is not the host's")
def test_operators_wait_for_callbacks():
    """An operator on an array that a callback is still filling."""
    host = np.zeros(4, "float32")
    x = mx.np.asarray(host)

    def fill():
        time.sleep(0.05)
        host[:] = 3

    mx.engine.push(fill, writes=[x])
    y = x * 2
    assert y.asnumpy().tolist() == [6] * 4


def test_a_write_waits_for_readers():
    """In-place work does not overtake those that still read."""
    x = large()
    y = x
    for _ in range(5):
        y = y @ x * (1 / 512)
    z = y + x
    x[:] = 100
    np.testing.assert_allclose(z.asnumpy(), 2, rtol=1e-4)
    assert x.asnumpy().min() == 100


def test_wait_all_and_priorities():
    """waitall returns when everything is done."""
    done = []
    arrays = [mx.np.zeros(1) for _ in range(10)]
    for i, x in enumerate(arrays):
        mx.engine.push(lambda i=i: (time.sleep(0.002), done.append(i)), writes=[x], priority=i)
    mx.waitall()
    assert sorted(done) == list(range(10))


@pytest.mark.parametrize("size", [4, 1_000_000])
def test_what_a_callback_writes_is_there_for_those_after_it(size):
    x = mx.np.zeros((size,))
    seen = []

    def fill() -> None:
        time.sleep(0.02)
        x[:] = 5
        y = x + 1  # reads what this callback itself holds
        seen.append(y[-1].item())

    mx.engine.push(fill, writes=[x], name="fill")
    doubled = x * 2
    assert doubled[-1].item() == 10 and seen == [6]


def test_callbacks_may_use_arrays():
    """Operators and waits inside a callback."""
    x, out = mx.np.ones(3), []
    mx.engine.push(lambda: out.append((mx.np.ones(3) * 5).asnumpy().sum()), reads=[x], writes=[mx.np.zeros(1)])
    mx.waitall()
    assert out == [15]


# --- errors ------------------------------------------------------------------------------------------------------


class Mine(Exception):
    """An error of the user's."""


def raise_mine():
    raise Mine("no luck")


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.asnumpy(),
        lambda x: x.item(),
        lambda x: x.wait_to_read(),
        lambda x: repr(x),
        lambda x: np.asarray(x),
        float,
        bool,
        lambda x: (x + 1).asnumpy(),
        lambda x: mx.np.tanh(x * 2).sum().item(),
    ],
)
def test_an_error_reaches_whoever_reads(read):
    """In its own class, naming the operator and the line that pushed it, also through operators in between."""
    x = mx.np.zeros(1)
    line = sys._getframe().f_lineno + 1
    mx.engine.push(raise_mine, writes=[x], name="unlucky")
    with pytest.raises(Mine, match="no luck") as caught:
        read(x)
    text = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "unlucky" in text and f"test_engine.py:{line}" in text
    x[:] = 2
    assert x.item() == 2, "a whole new value cures"
    forget()


def forget() -> None:
    """Lets waitall tell of the errors that a test made."""
    with contextlib.suppress(Mine, IndexError, ValueError):
        mx.waitall()


@pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are")
def test_an_index_error_names_operator_and_line():
    """An error of a kernel that runs on the worker, found when the result is read."""
    index = mx.np.zeros(300_000, dtype="int64")
    index[-1] = 7
    line = sys._getframe().f_lineno + 2
    with pytest.raises(IndexError) as caught:
        y = mx.np.ones((3, 4)).take(index, axis=0)
        y.asnumpy()
    text = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "take" in text and f"test_engine.py:{line}" in text
    forget()


@pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are")
def test_an_index_error_of_a_small_operator():
    """Such operators run at once, and so the traceback leads to the line."""
    line = sys._getframe().f_lineno + 2
    with pytest.raises(IndexError, match="7") as caught:
        mx.np.ones(3)[mx.np.array(np.array([0, 7]))].asnumpy()
    assert any(frame.lineno == line for frame in traceback.extract_tb(caught.value.__traceback__))
    forget()


def test_wait_all_tells_of_errors_nobody_saw():
    """Once."""
    x = mx.np.zeros(1)
    mx.engine.push(raise_mine, writes=[x])
    with pytest.raises(Mine):
        mx.waitall()
    mx.waitall()


def test_of_several_errors_the_earliest():
    """The cause, not what followed from it."""
    x, y = mx.np.zeros(1), mx.np.zeros(1)

    def first():
        time.sleep(0.02)
        raise Mine("first")

    def second():
        raise ValueError("second")

    mx.engine.push(first, writes=[x])
    mx.engine.push(second, writes=[y])
    with pytest.raises(Mine, match="first"):
        (x + y).asnumpy()
    for a in (x, y):
        a[:] = 0
    forget()


@pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are")
def test_sync_raises_where_it_is_called():
    """In synchronous mode the traceback is that of the line."""
    x = mx.np.zeros(1)
    with mx.engine.sync(), pytest.raises(Mine):
        mx.engine.push(raise_mine, writes=[x])
    index = mx.np.array(np.array([5]))
    with mx.engine.sync(), pytest.raises(IndexError):
        mx.np.ones(3)[index]
    forget()


def test_shape_errors_come_before_any_push():
    """At the call, also in asynchronous mode."""
    with pytest.raises(ValueError, match="expected"):
        large() @ mx.np.ones((3, 3))


# --- policies ----------------------------------------------------------------------------------------------------


def work() -> np.ndarray:
    """A bit of everything: small and large operators, in-place work, callbacks, a training step, a graph, draws."""
    mx.random.seed(1)
    net = nn.HybridSequential()
    net.add(nn.Dense(64, activation="relu"), nn.Dropout(0.3), nn.Dense(8))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    x = mx.np.random.normal(size=(128, 32))
    for _ in range(3):
        with autograd.record():
            y = (net(x) ** 2).mean()
        y.backward()
        for p in net.collect_params().values():
            p.data()[:] -= p.grad() * 0.1
        mx.engine.push(lambda: None, reads=[x], writes=[y])
        x[::2] *= 1.01
    z = large(0.5) @ large(0.01)
    z += mx.np.sin(z).T
    return np.concatenate([y.asnumpy().ravel(), x.asnumpy().ravel(), z.asnumpy().ravel()])


def test_all_policies_give_the_same(request):
    """Threaded, naive, synchronous, one thread and several: bit for bit where the number of threads is the same."""
    mx.settings.fusion, before = False, mx.settings.fusion
    want = work()
    with mx.engine.sync():
        np.testing.assert_array_equal(work(), want)
    request.getfixturevalue("naive")
    np.testing.assert_array_equal(work(), want)
    mx.settings.fusion = before


SIZE = 512  # operators on whole arrays go to the worker, those on pieces run inline
CUTS = [
    lambda x: x,
    lambda x: x.T,
    lambda x: x[::-1],
    lambda x: x[3:40, ::2],
    lambda x: x[::2, 5:8],
    lambda x: x[:1],
    lambda x: x[-1:, -1:],
]


def _step(module, arrays, kind: str, i: int, j: int, cut: int, other: int) -> None:
    """One statement of a random program, on NumPy's arrays or ours."""
    x, y = CUTS[cut](arrays[i]), CUTS[cut](arrays[j])
    if kind == "new":
        arrays[other] = arrays[i] * 0.5 + arrays[j] * 0.25
    elif kind == "view":
        arrays[other] = arrays[i].T
    elif kind == "write":
        x[...] = y * 0.5 + 1
    elif kind == "number":
        x[...] = 2.0
    elif kind == "in place":
        x *= 0.5
        x += y
        x -= 0.25 * y
    elif kind == "copy":
        arrays[other] = arrays[i].copy()
    elif kind == "sum":
        arrays[other][...] = arrays[i].sum(axis=0) * (1 / SIZE)
    else:
        arrays[other] = module.concatenate([arrays[i][: SIZE // 2], arrays[j][SIZE // 2 :]])


STATEMENTS = st.tuples(
    st.sampled_from(["new", "view", "write", "number", "in place", "copy", "sum", "concatenate"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, len(CUTS) - 1),
    st.integers(0, 3),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STATEMENTS, min_size=4, max_size=30))
def test_random_array_programs(program):
    """Views, in-place writes, small and large operators: what NumPy gives, whatever runs when."""
    start = [np.random.default_rng(k).uniform(-1, 1, (SIZE, SIZE)).astype("float32") for k in range(4)]
    want = [x.copy() for x in start]
    got = [mx.np.array(x) for x in start]
    for kind, i, j, cut, other in program:
        if kind == "in place" and np.shares_memory(want[i], want[j]) and i != j:
            continue  # NumPy's own result depends on its buffering
        _step(np, want, kind, i, j, cut, other)
        _step(mx.np, got, kind, i, j, cut, other)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-4, atol=1e-4)


def test_switching_policies():
    """set_engine tells what was."""
    assert mx.engine.set_engine("naive") == "threaded"
    assert mx.engine.set_engine("threaded") == "naive"


def test_number_of_threads():
    """Settable, with the same results."""
    before = mx.engine.num_threads()
    x = mx.np.random.uniform(size=(300, 300))
    results = []
    for n in (1, 2, before):
        mx.engine.set_num_threads(n)
        assert mx.engine.num_threads() == n
        results.append(mx.np.tanh(x).asnumpy())
    np.testing.assert_array_equal(results[0], results[1])


def test_back_pressure():
    """A tight limit on bytes in flight slows pushes down and loses nothing."""
    mx.engine.set_inflight_limit(1 << 20, 8)
    try:
        x = large()
        for _ in range(40):
            x = x + 1
        assert x.asnumpy().max() == 41
        assert _core.in_flight()[0] <= 8
    finally:
        mx.engine.set_inflight_limit(mx.settings.inflight_mb << 20, 4096)


# --- many Python threads -----------------------------------------------------------------------------------------


@pytest.mark.cpu_only("new threads have the CPU as their current device")
def test_threads():
    """Several threads with their own and shared arrays, errors included; each sees only its own failures."""
    shared = large(2.0)

    def run(k: int) -> float:
        x = mx.np.full((64, 64), float(k))
        for i in range(30):
            x = (x + shared[:64, :64]) * 0.5
            if i % 10 == 5:
                bad = mx.np.zeros(1)
                mx.engine.push(raise_mine, writes=[bad])
                with pytest.raises(Mine):
                    bad.item()
        return float(x.asnumpy().mean())

    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(run, range(18)))
    for k, value in enumerate(got):
        assert abs(value - (2 + (k - 2) * 0.5**30)) < 1e-4
    forget()


def test_sync_is_per_thread():
    """Another thread stays asynchronous."""
    order = []

    def other():
        x = mx.np.zeros(1)
        mx.engine.push(lambda: (time.sleep(0.05), order.append("callback")), writes=[x])
        order.append("pushed")
        x.wait_to_read()

    with mx.engine.sync():
        t = threading.Thread(target=other)
        t.start()
        t.join()
    assert order == ["pushed", "callback"]


# --- fork and exit -----------------------------------------------------------------------------------------------

IN_FLIGHT = """
    import os, sys, threading, time
    import minimx as mx
    x = mx.np.full((200, 200), 0.005)
    def start(n=30):
        y = x
        for _ in range(n):
            y = y @ x + 1
        return y
"""


def script(text: str, timeout: float = 60, **env: str) -> str:
    """Runs a program; returns its output."""
    program = textwrap.dedent(IN_FLIGHT) + textwrap.dedent(text)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore", **env}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout, env=variables
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_fork_with_work_in_flight():
    """The child computes, the parent's work is unharmed, again and again."""
    out = script("""
        for i in range(8):
            y = start()
            pid = os.fork()
            if pid == 0:
                z = start(5)
                product = (mx.np.ones((300, 300)) @ mx.np.ones((300, 300))).asnumpy()
                ok = abs(float(product[0, 0]) - 300) < 1e-3 and z.shape == (200, 200)
                z.wait_to_read()
                os._exit(0 if ok else 1)
            assert os.waitpid(pid, 0)[1] == 0
            y.wait_to_read()
        print("done")
    """)
    assert out == "done\n"


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_multiprocessing_fork():
    """What data loaders do: a pool of forked processes that use arrays."""
    out = script("""
        import multiprocessing as mp
        def work(k):
            return float((mx.np.full((200, 200), k) @ mx.np.ones((200, 200))).asnumpy()[0, 0])
        y = start()
        with mp.get_context("fork").Pool(3) as pool:
            assert pool.map(work, range(6)) == [200.0 * k for k in range(6)]
        y.wait_to_read()
        print("done")
    """)
    assert out == "done\n"


# Each is a way to leave with work in flight.
EXITS = [
    "y = start()",
    "y = start(); sys.exit(0)",
    "mx.engine.push(lambda: time.sleep(0.05), writes=[x])",
    "mx.engine.push(lambda: (_ for _ in ()).throw(ValueError('unseen')), writes=[mx.np.zeros(1)])",
    "threading.Thread(target=start).start()",
    "t = threading.Thread(target=lambda: [start(3) for _ in range(5)], daemon=True); t.start(); y = start()",
    "import atexit; atexit.register(lambda: start(2).asnumpy()); y = start()",
    "x.attach_grad()\nwith mx.autograd.record():\n    y = start(5)\ny.backward()",
    "net = mx.gluon.nn.Dense(50); net.initialize(); net.hybridize(); net(x); y = net(x)",
    "globals()['keep'] = [start(2) for _ in range(20)]; mx.engine.set_engine('naive')",
    "def loop():\n    while True: mx._core.profile_clear()\n"  # without Python's lock, which it asks for too late
    "for _ in range(3): threading.Thread(target=loop, daemon=True).start()\n"
    "time.sleep(0.05)",
]


def leave(number: int) -> None:
    """One exit, which must come, in order and without a crash."""
    script(EXITS[number % len(EXITS)])


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_exits_with_work_in_flight():
    """Twenty interpreters end while operators run."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave, range(20)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_exits():
    """The same, a thousand times."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave, range(1000)))


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_keyboard_interrupt_while_waiting():
    """Ctrl-C during a wait ends in KeyboardInterrupt and a clean exit."""
    out = script("""
        import signal
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        def hit(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, hit)
        try:
            mx.engine.push(lambda: time.sleep(0.5), writes=[x])
            x.wait_to_read()
            time.sleep(1)
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert out == "interrupted\n"
