"""What runs beside compute on the CPU, seen by the order of events and not by the clock. On a GPU: played/."""

import json
import os
import threading
import time

import numpy
import pytest

import minimx as mx
from minimx import profiler
from minimx.gluon import data

SOON = 0.3  # seconds that something must not happen in; what must happen gets a minute
pytestmark = pytest.mark.cpu_only("looks at the engine's own threads")


@pytest.fixture
def naive():
    """Everything runs at once."""
    mx.engine.set_engine("naive")
    yield
    mx.engine.set_engine("threaded")


def callback_beside(seconds=60.0):
    """Whether a product that was pushed after a callback is done before the callback ends."""
    computed, seen = threading.Event(), []
    loaded, x = mx.np.zeros(3), mx.np.ones((300, 300))
    mx.engine.push(lambda: seen.append(computed.wait(seconds)), writes=[loaded], name="load")
    (x @ x).wait_to_read()
    computed.set()
    loaded.wait_to_read()
    return seen[0]


def test_a_callback_runs_beside_compute(tmp_path):
    with profiler.profile(tmp_path / "timeline.json"):
        assert callback_beside()
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json")
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    load, product = (next(e for e in events if e["ph"] == "X" and e["name"] == n) for n in ("load", "matmul"))
    assert load["tid"] != product["tid"]
    assert load["ts"] + load["dur"] > product["ts"] + product["dur"]


@pytest.mark.usefixtures("naive")
def test_at_once_it_does_not():
    assert not callback_beside(SOON)


class Noted(data.Dataset):
    """Samples that leave a file when they are read."""

    def __init__(self, folder):
        self.folder = folder

    def __len__(self):
        return 8

    def __getitem__(self, i):
        with open(os.path.join(self.folder, str(i)), "w"):
            return numpy.full(2, i, "float32")


def loads_beside(folder, seconds=60.0, **kind):
    """Whether the batch after next is read while work on the first has not ended, and nobody has asked for it."""
    loader = data.DataLoader(Noted(str(folder)), 1, prefetch=2, **kind)
    batches, seen = iter(loader), []
    first = next(batches)

    def compute():
        end = time.monotonic() + seconds
        while not (there := (folder / "2").exists()) and time.monotonic() < end:
            time.sleep(0.005)
        seen.append(there)

    y = first * 2
    mx.engine.push(compute, reads=[first], writes=[y])
    y.wait_to_read()
    assert [int(b[0, 0].item()) for b in batches] == list(range(1, 8))
    loader.close()
    return seen[0]


@pytest.mark.parametrize("kind", [{"thread_pool": True}, {}], ids=["threads", "processes"])
def test_batches_are_read_beside_compute(tmp_path, kind):
    assert loads_beside(tmp_path, num_workers=1, **kind)


def test_without_workers_they_are_read_when_asked_for(tmp_path):
    assert not loads_beside(tmp_path, SOON)
