"""Orders of operators: recorded, replayed exactly, and shuffled; a race that a shuffle finds comes again each time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import minimx as mx
from minimx.engine import Order
from minimx.errors import EngineError, FileFormatError

SIZE = 256  # matrix products of this size go to the worker


def starts(order: Order) -> list[tuple[str, str]]:
    return [(key, name) for kind, key, name in order.events if kind in ("start", "call")]


def callbacks() -> list[int]:
    """Six callbacks in no order, that are slow by chance; the order in which they ran."""
    ran: list[int] = []
    luck = np.random.default_rng()

    def callback(k: int) -> None:
        time.sleep(luck.uniform(0, 0.003))
        ran.append(k)

    for k in range(6):
        mx.engine.push(lambda k=k: callback(k), name=f"callback {k}")
    mx.waitall()
    return ran


def work() -> np.ndarray:
    """Operators of both lanes and of the caller, with a callback that pushes."""
    mx.random.seed(3)
    x = mx.np.random.uniform(size=(SIZE, SIZE))
    y, seen = x @ x, mx.np.zeros(3)

    def callback(y: mx.np.ndarray = y) -> None:
        seen[:] = y[0, :3] * 2

    mx.engine.push(callback, reads=[y], writes=[seen], name="callback")
    for k in range(5):
        y = mx.np.tanh(y @ x) + k
        y[:10] -= 1
    return np.concatenate([y.asnumpy().ravel(), seen.asnumpy()])


def test_replays_what_was_recorded(tmp_path):
    """Two threads run the callbacks: whichever ended before another started does so again."""
    for _ in range(3):
        with mx.engine.record_order() as order:
            callbacks()
        at = {(kind, name): i for i, (kind, _, name) in enumerate(order.events)}
        names = [f"callback {k}" for k in range(6)]
        apart = [(a, b) for a in names for b in names if at["end", a] < at["start", b]]
        assert len(apart) >= 6
        order.save(tmp_path / "order")
        assert Order.load(tmp_path / "order") == order
        for again in (order, tmp_path / "order", order):
            with mx.engine.replay_order(again):
                ran = [f"callback {k}" for k in callbacks()]
            assert all(ran.index(a) < ran.index(b) for a, b in apart)
    with mx.engine.shuffle_order(4) as order:  # one at a time: all are apart
        ran = callbacks()
    for _ in range(3):
        with mx.engine.replay_order(order):
            assert callbacks() == ran != sorted(ran)


def test_a_race_replays():
    """The last of two callbacks that write without saying so wins; which one is the order's, not luck's."""

    def race(luck: np.random.Generator) -> int:
        last = []
        for k in range(8):
            time.sleep(luck.uniform(0, 0.001))
            mx.engine.push(lambda k=k: (time.sleep(luck.uniform(0, 0.002)), last.append(k))[1], name="write")
        mx.waitall()
        return last[-1]

    with mx.engine.shuffle_order(5) as order:  # one at a time: the last to start is the last to write
        winner = race(np.random.default_rng(1))
    for seed in range(4):
        with mx.engine.replay_order(order):
            assert race(np.random.default_rng(seed)) == winner


def test_a_shuffle_is_the_same_each_time_and_another_for_each_seed():
    found = set()
    for seed in range(6):
        orders = []
        for _ in range(2):
            with mx.engine.shuffle_order(seed) as order:
                callbacks()
            orders.append(order)
        assert orders[0] == orders[1]
        found.add(tuple(starts(orders[0])))
    assert len(found) == 6


def test_what_is_declared_does_not_depend_on_the_order():
    want = work()
    for seed in range(8):
        with mx.engine.shuffle_order(seed) as order:
            assert np.array_equal(work(), want)
        with mx.engine.replay_order(order):
            assert np.array_equal(work(), want)
    assert ("1.4/2", "copy") in starts(order)  # what the callback pushes second


def test_a_shuffle_shows_a_race():
    """A callback reads what it does not declare, and the operator that it misses is queued before it."""

    def program() -> float:
        x = mx.np.ones((SIZE, SIZE))
        total, ready = mx.np.zeros(1), mx.np.zeros(1)
        y = x @ x  # on the worker

        def read() -> None:
            total[:] = 1 if first[0] else 0

        first = [False]
        mx.engine.push(lambda: first.__setitem__(0, True), reads=[y], writes=[ready], name="first")
        mx.engine.push(read, writes=[total], name="second")  # `first` is not an array: nobody orders them
        return total.item()

    results = {}
    for seed in range(10):
        for _ in range(2):
            with mx.engine.shuffle_order(seed):
                results.setdefault(seed, set()).add(program())
    assert all(len(r) == 1 for r in results.values())
    assert set().union(*results.values()) == {0.0, 1.0}


def test_another_program():
    def program(n: int, name: str = "work") -> None:
        for _ in range(n):
            mx.engine.push(lambda: None, name=name)
        mx.waitall()

    with mx.engine.record_order() as order:
        program(4)
    cases = {(4, "play"): "got the push of 'play'", (5, "work"): "got the push of 'work'", (3, "work"): "got"}
    for arguments, text in cases.items():
        with pytest.raises(EngineError, match=text) as caught, mx.engine.replay_order(order):
            program(*arguments)
        assert "replay_order: expected" in str(caught.value) and "record anew" in str(caught.value)
    with mx.engine.replay_order(order):
        program(4)


def test_failures_and_threads():
    """Operators that fail or are skipped, nested waits, two pushing threads, operators that run at once."""

    def program() -> tuple:
        x, y = mx.np.ones(4), mx.np.zeros(4)

        def fail() -> None:
            raise OSError("no")

        mx.engine.push(fail, writes=[y], name="fail")
        z = y + 1
        with pytest.raises(OSError, match="no"):
            z.asnumpy()
        other = threading.Thread(target=lambda: x.__iadd__(1))
        other.start()
        other.join()
        with mx.engine.sync():
            w = x * 3
        mx.engine.push(lambda: w.__setitem__(0, x.sum()), reads=[x, w], writes=[w], name="nested")
        return tuple(w.asnumpy().tolist())

    want = program()
    with mx.engine.record_order() as order:
        assert program() == want
    with mx.engine.replay_order(order):
        assert program() == want
    with mx.engine.shuffle_order(2) as order:
        assert program() == want
    with mx.engine.replay_order(order):
        assert program() == want


def test_two_threads_at_once():
    """Who pushes when, and who waits for whom, is in the order too."""
    luck = np.random.default_rng()

    def program() -> list[float]:
        x, y, met = mx.np.ones((SIZE, SIZE)), mx.np.ones(4), threading.Event()
        total = mx.np.zeros(1)

        def one() -> None:
            nonlocal x
            x = x * 2
            met.set()
            for _ in range(10):
                time.sleep(luck.uniform(0, 0.001))
                x = x @ x * (1 / SIZE)
                y[:] = y * 2
                x[0, 0].item()

        def other() -> None:
            met.wait()
            for k in range(10):
                time.sleep(luck.uniform(0, 0.001))
                mx.engine.push(lambda: time.sleep(luck.uniform(0, 0.001)), reads=[y], writes=[y], name="slow")
                y[:] = y + k
                total[:] = total * 3 + y[0]

        threads = [threading.Thread(target=one), threading.Thread(target=other)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return [total.item(), *y.asnumpy().tolist()]

    with mx.engine.record_order() as order:
        want = program()
    for _ in range(3):
        with mx.engine.replay_order(order):
            assert program() == want


def test_one_at_a_time_and_errors_pass():
    with mx.engine.record_order(), pytest.raises(EngineError, match="one recording"):
        with mx.engine.record_order():
            pass
    with pytest.raises(KeyError), mx.engine.record_order() as order:
        mx.engine.push(lambda: None, name="work")
        raise KeyError
    assert len(order) == 3
    with pytest.raises(KeyError), mx.engine.replay_order(order):
        raise KeyError
    assert mx.np.ones(3).sum().item() == 3


def test_files(tmp_path):
    path = tmp_path / "order"
    path.write_text("push 1.1 ones\nnonsense\n")
    with pytest.raises(FileFormatError, match="order:2: expected an event"):
        Order.load(path)
