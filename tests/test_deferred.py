"""Calls that are put off: nothing but speed may show. How a list becomes a program: test_bulk_fusion.py."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import autograd, profiler
from minimx.graph import bulk
from minimx.ndarray import _core

SIZE = 64


@pytest.fixture(autouse=True)
def _no_lists_of_others():
    _core.forget_lists()
    with numpy.errstate(all="ignore"), mx.engine.replay(False):
        yield


def ready() -> None:
    """Everything asked for is compiled."""
    assert bulk.wait(100) and mx.rtc.wait(100)


def counted(f, size=SIZE):
    """(what f gives in a bulk, how the counts grew)."""
    with mx.engine.bulk(size):
        _core.run_deferred()
        before = mx.engine.bulk_counts()
        out = f()
        after = mx.engine.bulk_counts()
    return out, {k: after[k] - before[k] for k in after}


def chain(x, y):
    return (mx.np.tanh(x * y + 1) * mx.npx.sigmoid(x - y) + mx.np.maximum(x, 0) / 2) - mx.np.sqrt(mx.np.abs(y) + 1)


# ---- one program ----------------------------------------------------------------------------------------------------


def test_a_chain_becomes_one_program_of_the_same_bits():
    x, y = mx.np.random.normal(size=(40, 50)), mx.np.random.normal(size=(40, 50))
    with mx.engine.bulk(0):
        want = chain(x, y).asnumpy()
    for run in range(5):
        got, counts = counted(lambda: chain(x, y).asnumpy())
        numpy.testing.assert_array_equal(got, want)
        assert (counts["calls"], counts["lists"]) == (13, 1)
        assert counts["programs"] == (run > 1)
        ready()


def test_other_numbers_shapes_and_wiring_are_other_lists():
    x = mx.np.arange(6.0)

    def run(f):
        got, counts = counted(lambda: f().asnumpy())
        ready()
        return got.tolist(), counts["programs"]

    for _ in range(4):
        run(lambda: (x + 1) * 2)
    assert run(lambda: (x + 1) * 2) == ([2, 4, 6, 8, 10, 12], 1)
    assert run(lambda: (x + 1) * 3) == ([3, 6, 9, 12, 15, 18], 0)
    assert run(lambda: (x[:3] + 1) * 2) == ([2, 4, 6], 0)
    assert run(lambda: (x + 1) * (x + 1)) == ([1, 4, 9, 16, 25, 36], 0)
    assert run(lambda: (x + True) * 2)[1] == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int32", "bool"])
def test_numbers_that_vary_are_inputs_of_one_program(dtype):
    """A schedule, say. The second run that sees another number asks for the program that takes it as it comes."""
    x = mx.np.array([-2, -1, 0, 1, 2, 3]).astype(dtype)

    def run(a, b):
        y = (x * a + 1) - mx.np.maximum(b, x)
        return mx.np.where(x < b, y / 3, a), (y > a).astype("float32")

    for i in range(8):
        a, b = 0.1 + i / 3, -i if i % 2 else 3
        with mx.engine.bulk(0):
            want = [z.astype("float64").asnumpy() for z in run(a, b)]
        got, counts = counted(lambda a=a, b=b: [z for z in run(a, b) if z.wait_to_read() is None])
        for z, w in zip(got, want, strict=True):
            numpy.testing.assert_array_equal(z.astype("float64").asnumpy(), w)
        assert bool(counts["programs"]) == (i > 2)
        ready()


def test_what_is_held_is_written_and_what_is_not_is_not():
    """A result that is dropped before the list runs costs no memory; one that is kept is there, also in a program that
    was made when nobody kept it: that is another one.
    """
    x = mx.np.ones((1000, 250))

    def dropped():
        return [(x + 1) * 2 - 3]

    def kept():
        a = x + 1
        b = a * 2
        return [a, b, b - 3]

    for f, values, blocks in ((dropped, [1], 1), (kept, [2, 4, 1], 3), (dropped, [1], 1)) * 3:
        gc.collect()
        mx.waitall()
        used = mx.device.memory_info(x.device)["used"]

        def held(f=f, used=used):
            out = f()
            mx.waitall()
            return out, mx.device.memory_info(x.device)["used"] - used

        (out, grown), counts = counted(held)
        assert [a[0, 0].item() for a in out] == values
        assert abs(grown - blocks * 1_000_000) < 500_000
        del out
        ready()
    assert counts["programs"] == 1


def test_writes_in_place_views_and_broadcasts():
    def work():
        x, y = mx.np.arange(12.0).reshape(3, 4), mx.np.ones(4)
        x += y
        row = x[1]
        x *= 2
        flat = x.reshape(12)
        flat -= 1
        y[:] = row + x[0]
        z = x.T + 1
        part = mx.np.zeros((2, 2))
        part[0] = y[:2] * 2  # to a part: not put off
        return [a.asnumpy() for a in (x, row, flat, y, z, part)]

    with mx.engine.bulk(0):
        want = work()
    for _ in range(4):
        got, counts = counted(work)
        for a, b in zip(got, want, strict=True):
            numpy.testing.assert_array_equal(a, b)
        assert counts["calls"] >= 5
        ready()


UNARY = (
    mx.np.tanh,
    mx.np.negative,
    mx.np.square,
    mx.npx.relu,
    lambda a: a.astype("float16"),
    lambda a: a.astype("int32"),
)
BINARY = (mx.np.add, mx.np.multiply, mx.np.subtract, mx.np.maximum)


def random_program(seed):
    """A function that does the same pseudo-random things every time; returns what it holds at the end."""
    rng = random.Random(seed)
    arrays = [mx.np.array(numpy.array([rng.uniform(-2, 2) for _ in range(12)], "float32")) for _ in range(3)]
    for _ in range(rng.randint(3, 25)):
        i, kind = rng.randrange(len(arrays)), rng.randrange(9)
        x, y = arrays[i], rng.choice(arrays)
        if kind < 2:
            made = rng.choice(UNARY)(x)
        elif kind < 4:
            made = rng.choice(BINARY)(x, y.reshape(x.shape)) if x.size == y.size else x * 0.5
        elif kind == 4:
            made = x.reshape(rng.choice(((3, 4), (12,), (2, 6)))) if x.size == 12 else x[0:1]
        elif kind == 5 and x.size > 1:
            made = x[1:] if rng.random() < 0.5 else x.reshape(-1)[::2]
        elif kind == 6 and x.dtype == numpy.float32:
            x += 1
            made = x * rng.choice((2, 0.25))
        elif kind == 7:
            made = x.sum()  # not pointwise
        else:
            made = x - float(x.reshape(-1)[0].item()) if rng.random() < 0.3 and x.size else x + 1
        if made.ndim == 0:
            made = made.reshape(1)
        arrays.append(made)
        if rng.random() < 0.4:
            del arrays[rng.randrange(len(arrays))]
    return [a.asnumpy() for a in arrays]


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 7, 64]))
@settings(max_examples=60, deadline=None)
def test_random_programs_do_not_show_it(seed, size):
    with mx.engine.bulk(0):
        want = random_program(seed)
    before, mx.settings.fusion = mx.settings.fusion, False
    try:
        for _ in range(3):
            with mx.engine.bulk(size):
                got = random_program(seed)
            assert bulk.wait(100)
            for a, b in zip(got, want, strict=True):
                numpy.testing.assert_array_equal(a, b)
    finally:
        mx.settings.fusion = before


def test_gradients_are_the_same_bits():
    def work():
        x, w = mx.np.linspace(-2, 2, 60).reshape(6, 10), mx.np.linspace(0.1, 1, 10)
        for a in (x, w):
            a.attach_grad()
        for _ in range(2):
            with autograd.record():
                loss = (chain(x * w, w + 2) ** 2).mean()
            loss.backward()
            w -= 0.1 * w.grad
        return [a.asnumpy() for a in (loss, x.grad, w.grad, w)]

    with mx.engine.bulk(0):
        want = work()
    for _ in range(4):
        got, counts = counted(work)
        for a, b in zip(got, want, strict=True):
            numpy.testing.assert_array_equal(a, b)
        assert counts["calls"] > 20
        ready()
    assert counts["programs"] >= 4


def test_what_a_saved_array_was_is_checked_as_ever():
    with mx.engine.bulk(SIZE):
        x = mx.np.ones(3)
        x.attach_grad()
        with autograd.record():
            y = mx.np.exp(x)
            z = y * 2
        y += 1
        with pytest.raises(mx.errors.AutogradError, match="written to in place"):
            z.backward()


# ---- when it runs ---------------------------------------------------------------------------------------------------


def test_size_ends_a_list():
    _, counts = counted(lambda: [mx.np.ones(3) for _ in range(1)] and add_up(10), size=4)
    assert counts["lists"] == 3  # at 4, at 8, and by the reader


def add_up(times):
    x = mx.np.zeros(3)
    for _ in range(times):
        x = x + 1
    return x.asnumpy()


def test_time_ends_a_list():
    """Nobody reads, and it runs all the same."""
    with mx.engine.bulk(SIZE):
        x = mx.np.ones(3)
        x.wait_to_read()
        before = mx.engine.bulk_counts()["lists"]
        y = x + 1
        end = time.monotonic() + 20
        while mx.engine.bulk_counts()["lists"] == before and time.monotonic() < end:
            time.sleep(0.002)
        assert mx.engine.bulk_counts()["lists"] == before + 1
        assert y[0].item() == 2


@pytest.mark.parametrize("way", ["asnumpy", "item", "dlpack", "waitall", "float", "print", "buffer", "push", "pickle"])
def test_whoever_looks_sees_it(way):
    import pickle

    with mx.engine.bulk(SIZE):
        x = mx.np.ones(1)
        y = (x + 1) * 3
        if way == "waitall":
            mx.waitall()
        seen: list = []
        if way == "push":
            mx.engine.push(lambda: seen.append(y.item()), reads=[y])
            mx.waitall()
        ways = {
            "asnumpy": lambda: y.asnumpy()[0],
            "item": y.item,
            "dlpack": lambda: numpy.from_dlpack(y.to_device(mx.cpu()))[0],
            "waitall": y.item,
            "float": lambda: float(y),
            "print": lambda: 6 if "6" in repr(y) else 0,
            "buffer": lambda: numpy.asarray(y)[0],
            "push": lambda: seen[0],
            "pickle": lambda: pickle.loads(pickle.dumps(y)).item(),
        }
        assert ways[way]() == 6


def test_a_lent_array_is_seen_at_once():
    """NumPy's view of an array that is written to afterwards; and an array over NumPy's memory."""
    with mx.engine.bulk(SIZE):
        x = mx.np.zeros(3, device=mx.cpu())
        view = numpy.from_dlpack(x)
        x += 1
        x.wait_to_read()
        assert view.tolist() == [1, 1, 1]
        theirs = numpy.zeros(3, "float32")
        ours = mx.np.from_dlpack(theirs) if hasattr(mx.np, "from_dlpack") else mx.np.array(theirs)
        y = ours + 1
        theirs += 5
        assert y.asnumpy().tolist() in ([1, 1, 1], [6, 6, 6])


def test_another_thread_may_use_what_waits():
    with mx.engine.bulk(SIZE):
        for _ in range(20):
            x = mx.np.ones(5) + 1
            found: list = []

            def read(k, x=x, found=found):
                found.append((x * k).asnumpy()[0])

            threads = [threading.Thread(target=read, args=(k,)) for k in (1, 2)]
            y = x * 3
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert sorted(found) == [2, 4] and y[0].item() == 6


def test_threads_with_lists_of_their_own():
    failures: list = []

    def work(k):
        with mx.engine.bulk(7):
            for i in range(150):
                x = mx.np.full((10,), float(k))
                for _ in range(k % 5 + 2):
                    x = x * 0.5 + i
                want = float(k)
                for _ in range(k % 5 + 2):
                    want = want * 0.5 + i
                if not numpy.allclose(x.asnumpy(), want):
                    failures.append((k, i))

    device = mx.current_device()

    def on_device(k):
        with device:
            work(k)

    threads = [threading.Thread(target=on_device, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_sync_and_naive_mean_at_once():
    with mx.engine.bulk(SIZE):
        x = mx.np.ones(3) + 1
        with mx.engine.sync():
            before = mx.engine.bulk_counts()["calls"]
            y = x * 2
            assert mx.engine.bulk_counts()["calls"] == before
        assert y[0].item() == 4


@pytest.mark.cpu_only("by default only the CPU's large operators are put off")
def test_by_default_large_operators_are_put_off():
    small, large = mx.np.ones((3, 3)), mx.np.ones((1000, 1000))
    mx.waitall()
    before = mx.engine.bulk_counts()["calls"]
    y = small * 2 + 1
    assert mx.engine.bulk_counts()["calls"] == before
    z = large * 2 + 1
    assert mx.engine.bulk_counts()["calls"] == before + 2
    assert y[0, 0].item() == z[0, 0].item() == 3


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_wrong_arguments_raise_at_the_call():
    with mx.engine.bulk(SIZE):
        x = mx.np.ones(3) + 1
        with pytest.raises(mx.errors.ShapeError):
            x + mx.np.ones(4)
        assert x[0].item() == 2


@pytest.mark.cpu_only("memory of the CPU")
def test_a_failure_names_the_line_of_the_call():
    """Memory is asked for when the list runs, and there is none."""
    with mx.engine.bulk(SIZE):
        x = mx.np.ones(1) + 1
        huge = mx.np.broadcast_to(x, (1 << 24, 1 << 24))
        y = huge + 1  # THIS LINE
        with pytest.raises(MemoryError) as raised:
            y.wait_to_read()
        with open(__file__) as file:
            line = next(i for i, text in enumerate(file, 1) if "# THIS LINE" in text)
        told = [str(raised.value), *getattr(raised.value, "__notes__", [])]
        assert any(f"{os.path.basename(__file__)}:{line}" in text for text in told), told
        assert (x + 1)[0].item() == 3


@pytest.mark.cpu_only("indices of a GPU are not looked at")
def test_a_failure_in_a_program_is_that_of_its_step():
    """It names the call, and what the program has not begun to write keeps what it holds."""
    table, weights = mx.np.ones((20, 3)), mx.np.zeros((2, 3))
    for i in range(12):
        rows = mx.np.array([0, 1 if i < 11 else 99], dtype="int32")
        with mx.engine.replay():
            double = table * 2
            taken = mx.np.tanh(double)[rows]  # THE STEP
            weights += taken * 0.5
            if i < 11:
                weights.wait_to_read()
                ready()
                continue
            before = mx.engine.bulk_counts()["programs"]
            with pytest.raises(mx.errors.IndexOutOfBounds) as raised:
                taken.wait_to_read()
            assert mx.engine.bulk_counts()["programs"] == before + 1
    with open(__file__) as file:
        line = next(i for i, text in enumerate(file, 1) if "# THE STEP" in text)
    told = " ".join(getattr(raised.value, "__notes__", [str(raised.value)]))
    assert "'take'" in told and f"{os.path.basename(__file__)}:{line}" in told and "in 'bulk'" in told
    numpy.testing.assert_allclose(weights.asnumpy(), numpy.tanh(2) * 5.5 * numpy.ones((2, 3)), rtol=1e-5)
    numpy.testing.assert_array_equal(double.asnumpy(), 2)


@pytest.mark.cpu_only("memory of the CPU")
def test_memory_that_is_not_there_is_one_error():
    """Of a chain in several lists: who has seen it has seen all of it."""
    rows, columns = mx.np.ones((1 << 23, 1)), mx.np.ones((1, 1 << 23))
    with mx.engine.bulk(2), pytest.raises(mx.errors.OutOfMemory) as raised:
        x = rows * columns
        for _ in range(4):
            x = mx.np.sqrt(x + rows)
        x.wait_to_read()
    assert "'multiply'" in raised.value.__notes__[0]
    mx.waitall()


@pytest.mark.cpu_only("processes of the CPU")
def test_forks_and_exits_with_calls_that_wait():
    text = """
        x = mx.np.ones(3) + 1
        mx.engine.set_bulk_size(50)
        y = x * 2
        pid = os.fork()
        if pid == 0:
            z = y + 1
            os._exit(0 if z[0].item() == 5 and (z * 2)[0].item() == 10 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert (y * 2)[0].item() == 8
        last = y * 3
        print("done")
    """
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    program = "import os\nimport minimx as mx\n" + textwrap.dedent(text)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=variables)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


# ---- to see it ------------------------------------------------------------------------------------------------------


@pytest.mark.cpu_only("records of the CPU")
def test_a_profile_shows_the_fused_group(tmp_path):
    x, y = mx.np.random.normal(size=(40, 50)), mx.np.random.normal(size=(40, 50))
    for _ in range(3):
        counted(lambda: chain(x, y).asnumpy())
        ready()
    profiler.set_config(filename=str(tmp_path / "profile.json"), profile_all=True)
    profiler.start()
    counted(lambda: chain(x, y).asnumpy())
    profiler.stop()
    table = profiler.dumps(reset=True)
    assert "bulk" in table and "fused" in table
