"""Times of a GPU in a profile: the durations are the device's, on the host's clock. Rows and joins: ../played."""

from __future__ import annotations

import json
import time

import pytest

import minimx as mx
from minimx import profiler
from minimx.gluon import nn

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


@pytest.fixture
def record(tmp_path):
    """Calls a function; (the GPU's events, all events, milliseconds it took)."""

    def run(work):
        profiler.set_config(filename=tmp_path / "timeline.json")
        profiler.start()
        begin = time.perf_counter()
        work()
        mx.waitall()
        took = 1e3 * (time.perf_counter() - begin)
        profiler.dump()
        events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
        return [e for e in events if e.get("cat") == "device"], events, took

    yield run
    profiler.stop()
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json")


def test_kernels_take_their_time_one_after_another(record):
    x = mx.np.ones((4096, 4096))
    for _ in range(3):
        mx.np.dot(x, x).wait_to_read()

    def work():
        y = x
        for _ in range(10):
            y = mx.np.dot(y, x) / 4096
        y.wait_to_read()

    device, events, took = record(work)
    products = [e for e in device if e["name"] == "matmul"]
    assert len(products) == 10
    assert all(a["ts"] + a["dur"] <= b["ts"] + 5 for a, b in zip(device, device[1:], strict=False))
    busy = sum(e["dur"] for e in device) / 1e3
    assert 0.5 * took < busy <= 1.05 * took  # the GPU had work all the time, and no more than there was time
    host = {e["args"]["operator"]: e for e in events if e.get("cat") == "operator"}
    assert all(e["ts"] + 200 >= host[e["args"]["operator"]]["ts"] for e in products)  # not before they were launched
    assert any(e.get("cat") == "wait" and e["dur"] > 1000 for e in events)


def test_a_captured_graph_is_one_piece_of_work(record):
    net = nn.HybridSequential()
    net.add(*(nn.Dense(256, activation="tanh", in_units=256) for _ in range(4)))
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    x = mx.np.ones((64, 256))
    for _ in range(50):
        net(x).wait_to_read()
    device, _, _ = record(lambda: net(x).wait_to_read())
    assert device and all(e["dur"] > 0 for e in device)
    (graph,) = [e for e in device if e["name"] == "HybridSequential"]
    profiler.dumps(reset=True)
    profiler.set_config(step_by_step=True)
    steps, _, _ = record(lambda: net(x).wait_to_read())
    profiler.set_config(step_by_step=False)
    assert graph["args"]["steps"] and len(steps) >= 4 and all(e["dur"] > 0 for e in steps)


def test_many_launches_keep_few_events(record):
    """More moments than may wait: the oldest are read on the way, and none is lost."""
    x = mx.np.ones((64,))

    def work():
        y = x
        for _ in range(6000):
            y = y + 1
        assert y[0].item() == 6001

    with mx.engine.bulk(0):
        device, _, _ = record(work)
    assert sum(e["name"] == "add" for e in device) == 6000
    assert all(e["dur"] >= 0 for e in device)
