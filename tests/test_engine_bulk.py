"""Bulks, thread counts, Ctrl-C and exits of the engine, from Python. The rest: test_engine.py. Alone: tests/cpp."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minimx as mx
from minimx import autograd
from minimx.gluon import nn
from minimx.ndarray import _core

SIZE = 256  # matrix products of this size go to the worker
EVEN = 1 / SIZE


def script(text: str, **env: str) -> str:
    """Runs a program in an interpreter of its own; returns what it prints."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore", **env}
    program = "import os, signal, sys, threading, time\nimport minimx as mx\n" + textwrap.dedent(text)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=variables)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


# --- bulk --------------------------------------------------------------------------------------------------------


def work() -> np.ndarray:
    """Operators that queue, in chains, in place and through views; a callback; a training step; draws."""
    mx.random.seed(3)
    x = mx.np.random.uniform(size=(SIZE, SIZE))
    y = x @ x * (1 / SIZE)
    z = y
    for k in range(12):
        z = mx.np.tanh(z @ x) + y[::-1] * k
        y += 0.5 * z
        y[:10] -= 1
    mx.engine.push(lambda: None, reads=[y], writes=[x])
    net = nn.Sequential()
    net.add(nn.Dense(SIZE, activation="relu"), nn.Dropout(0.4), nn.Dense(SIZE))
    net.initialize(mx.init.Xavier())
    with autograd.record():
        loss = (net(y) ** 2).mean()
    loss.backward()
    grads = [p.grad().asnumpy().ravel() for p in net.collect_params().values()]
    return np.concatenate([loss.asnumpy().ravel(), z.asnumpy().ravel(), y.asnumpy().ravel(), *grads])


@pytest.mark.parametrize("size", [0, 1, 2, 15, 1000])
def test_the_same_in_bulk(size):
    """Bit for bit, also while another thread does the same with another size."""
    want = work()
    with mx.engine.bulk(size):
        np.testing.assert_array_equal(work(), want)


def product(x: mx.np.ndarray) -> mx.np.ndarray:
    """Something for the worker: the same again, if each element is ``EVEN``."""
    return x @ x


@pytest.mark.cpu_only("operators on a GPU are put on its stream at once")
def test_an_open_bulk_waits():
    """Until it is full, the block ends, or somebody reads."""
    x = mx.np.full((SIZE, SIZE), EVEN)
    mx.waitall()
    with mx.engine.bulk(100):
        y = product(x)
        time.sleep(0.05)
        assert _core.in_flight()[0] > 0, "nothing has asked for it"
        assert y[0, 0].item() == EVEN
        z = product(y)
    mx.waitall()
    assert _core.in_flight()[0] == 0 and z[0, 0].item() == EVEN
    assert mx.engine.set_bulk_size(-1) == -1


def test_blocks_nest_and_end_by_exceptions():
    """The outer size is back, and what was gathered has been handed over."""
    x = mx.np.full((SIZE, SIZE), EVEN)
    with mx.engine.bulk(50):
        with pytest.raises(KeyError), mx.engine.bulk(20):
            y = product(x)
            raise KeyError
        assert mx.engine.set_bulk_size(50) == 50
        y.wait_to_read()
    assert mx.engine.set_bulk_size(-1) == -1


def test_other_threads_wait_for_an_open_bulk():
    """A reader, and a callback that nobody waits for inside the engine."""
    x, called = mx.np.full((SIZE, SIZE), EVEN), threading.Event()
    with mx.engine.bulk(100):
        y = product(x)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: y[0, 0].item()).result(20) == EVEN
        z = product(y)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: mx.engine.push(called.set, reads=[z])).result(20)
        assert called.wait(20)


def test_sync_and_naive_inside_a_bulk():
    """At once means at once."""
    x = mx.np.full((SIZE, SIZE), EVEN)
    with mx.engine.bulk(100):
        y = product(x)
        with mx.engine.sync():
            assert product(y)[0, 0].item() == EVEN
        before = mx.engine.set_engine("naive")
        z = product(y)
        mx.engine.set_engine(before)
    assert z[0, 0].item() == EVEN


@pytest.mark.cpu_only("a GPU clips indices instead of waiting for what they are")
def test_errors_in_a_bulk():
    """They reach whoever reads, with operator and line, and nobody else."""
    index = mx.np.zeros(300_000, dtype="int64")
    index[-1] = 7
    x = mx.np.ones((3, 4))
    with mx.engine.bulk(100):
        good = product(mx.np.full((SIZE, SIZE), EVEN))
        line = sys._getframe().f_lineno + 1
        bad = x.take(index, axis=0)
        after = bad + 1
        more = product(good)
    assert more[0, 0].item() == EVEN
    for y in (bad, after):
        with pytest.raises(IndexError) as caught:
            y.asnumpy()
        text = "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert "take" in text and f"{os.path.basename(__file__)}:{line}" in text
    mx.waitall()


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_fork_inside_a_bulk():
    """Both sides go on."""
    out = script("""
        x = mx.np.ones((256, 256))
        with mx.engine.bulk(100):
            for _ in range(5):
                y = x @ x
                pid = os.fork()
                if pid == 0:
                    z = x @ x
                    os._exit(0 if z[0, 0].item() == 256 else 1)
                z = y @ x
                assert os.waitpid(pid, 0)[1] == 0
        print(z[0, 0].item())
    """)
    assert float(out) == 65536


# --- number of threads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["eager", "graph"])
@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_kernels_follow_the_number_of_threads(call):
    """Those of plans and programs too, which were made for another number: the team grows, the results agree."""
    out = script(f"""
        mx.engine.set_num_threads(1)
        x = mx.np.random.normal(size=(4, 64, 32, 32))
        net = mx.gluon.nn.Conv2D(64, 3, padding=1, in_channels=64)
        net.initialize()
        net.hybridize()
        def eager():
            return mx.npx.convolution(x, net.weight.data(), kernel=(3, 3), num_filter=64, pad=(1, 1), no_bias=True)
        def graph():
            return net(x)
        results = []
        for n in (1, 4, 2, 1):
            mx.engine.set_num_threads(n)
            results.append({call}().asnumpy())
            print(len(os.listdir("/proc/self/task")))
        assert all(abs(y - results[0]).max() < 1e-4 for y in results)
    """)
    alone, four, *_ = map(int, out.split())
    assert four >= alone + 3


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_libgomp_spins_shortly_unless_told_otherwise():
    """The variable is gone once libgomp has read it; what the user says stands."""
    show = "import os, minimx; print('GOMP_SPINCOUNT' in os.environ)"
    for mine, want in (({}, "'3000'"), ({"GOMP_SPINCOUNT": "77"}, "'77'")):
        env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
        env |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_DISPLAY_ENV": "verbose", **mine}
        done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=60, env=env)
        assert done.stdout.strip() == str(bool(mine))
        assert f"GOMP_SPINCOUNT = {want}" in done.stderr


# --- Ctrl-C ------------------------------------------------------------------------------------------------------

WAITS = {
    "read": "x.wait_to_read()",
    "values": "x.asnumpy()",
    "all": "mx.waitall()",
    "sync": "with mx.engine.sync(): x += 1",
    "room": "mx.engine.set_inflight_limit(1 << 30, 1); mx.engine.push(lambda: None, writes=[mx.np.zeros(1)])",
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_ctrl_c_ends_a_wait(wait):
    """Soon, whatever is waited for; afterwards the engine works, and the array is what it was."""
    out = script(f"""
        x, release = mx.np.zeros(1), threading.Event()
        mx.engine.push(release.wait, writes=[x])
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        began = time.perf_counter()
        try:
            {WAITS[wait]}
        except KeyboardInterrupt:
            print(time.perf_counter() - began < 5)
        mx.engine.set_inflight_limit(1 << 30, 100)
        release.set()
        x += 5
        print(x.item())
    """)
    assert out.split() == ["True", "5.0"]


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_a_handler_may_use_arrays():
    """It runs inside the wait, which goes on if it raises nothing."""
    out = script("""
        x, release = mx.np.zeros(1), threading.Event()
        def handler(*_):
            print(float((mx.np.ones((256, 256)) @ mx.np.ones((256, 256)))[0, 0]))
            release.set()
        signal.signal(signal.SIGUSR1, handler)
        mx.engine.push(release.wait, writes=[x])
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        x.wait_to_read()
    """)
    assert float(out) == 256


# --- exit --------------------------------------------------------------------------------------------------------

LEAVE = """
    import random
    random.seed({seed})
    x = mx.np.full((200, 200), 0.005)
    keep = []
    def start():
        y = x
        for _ in range(random.randrange(1, 25)):
            y = y @ x + 1
            if random.random() < 0.3:
                mx.engine.push(lambda: time.sleep(random.random() * 0.003), reads=[y], writes=[mx.np.zeros(1)])
            if random.random() < 0.1:
                mx.engine.push(lambda: keep.append((x + 1).asnumpy()), reads=[y], writes=[y])
            if random.random() < 0.05:
                mx.engine.push(lambda: 1 / 0, writes=[mx.np.zeros(1)])
        return y
    if random.random() < 0.5:
        mx.engine.set_bulk_size(random.randrange(2, 30))
    for _ in range(random.randrange(3)):
        threading.Thread(target=start, daemon=random.random() < 0.5).start()
    keep.append(start())
    if random.random() < 0.2:
        sys.exit(0)
"""


def leave(seed: int) -> None:
    """One interpreter that ends with callbacks, errors, threads, bulks and operators in flight."""
    script(LEAVE.format(seed=seed))


@pytest.mark.cpu_only("runs programs of its own, on the CPU")
def test_exits_with_callbacks_in_flight():
    """Twenty times."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave, range(20)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hundreds_of_exits_with_callbacks_in_flight():
    """Three hundred more."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(leave, range(20, 320)))
