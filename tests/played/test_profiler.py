"""The profiler's rows of a GPU: only with ``--device played``, whose moments are the host's."""

from __future__ import annotations

import json

import pytest

import minimx as mx
from minimx import profiler
from minimx.gluon import nn


@pytest.fixture
def record(tmp_path, counts):
    """Calls a function; the timeline's events of it."""

    def run(work, **settings):
        with profiler.profile(tmp_path / "timeline.json", **settings):
            work()
        return json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]

    yield run
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json", step_by_step=False)


def on_gpu(events):
    """The device's work by name."""
    return [e for e in events if e.get("cat") == "device"]


def test_a_stream_has_a_row(record):
    x = mx.np.ones((4,))

    def work():
        (x + 1).asnumpy()

    events = record(work)
    titles = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    add, copy = (next(e for e in on_gpu(events) if e["name"] == name) for name in ("add", "copy from the GPU"))
    assert titles[add["pid"], 0] == "gpu(0)" and titles[add["pid"], add["tid"]] == "compute stream"
    assert add["ts"] + add["dur"] <= copy["ts"]  # in the order of the stream
    host = next(e for e in events if e["name"] == "add" and e.get("cat") == "operator")
    assert host["args"]["device"] == "gpu(0)" and host["args"]["operator"] == add["args"]["operator"]
    assert add["args"]["line"] == host["args"]["line"] and __file__ in add["args"]["line"]
    assert abs(add["ts"] - host["ts"]) < 1e5  # one clock, though a busy machine may stop either
    assert any(e["name"] == "memory of gpu(0)" for e in events)
    waits = [e for e in events if e.get("cat") == "wait" and e["name"] == "copy from the GPU"]
    assert waits[0]["args"]["waits_for"] == "add"


@pytest.mark.parametrize("fixed", [False, True], ids=["step by step", "captured"])
def test_hybridized(record, counts, fixed):
    net = nn.HybridSequential()
    net.add(*(nn.Dense(8, activation="tanh", in_units=8) for _ in range(3)))
    net.initialize()
    net.hybridize(static_alloc=fixed, static_shape=fixed)
    x = mx.np.ones((4, 8))
    for _ in range(20):
        net(x).wait_to_read()

    before = counts()["replays"]
    events = record(lambda: net(x).wait_to_read())
    (program,) = [e for e in events if e.get("cat") == "program"]
    work = [e for e in on_gpu(events) if e["args"]["operator"] == program["args"]["operator"]]
    steps = [e for e in events if e.get("cat") == "step"]
    if fixed and counts()["replays"] > before:
        assert [e["name"] for e in work] == ["HybridSequential"] and not steps
    else:
        assert not fixed
        assert [e["name"] for e in work] == [e["name"] for e in steps] and len(work) >= 3
    assert "On GPUs" in json.loads(profiler.dumps(format="json"))["Time"]


@pytest.fixture
def replayed(counts):
    """A loop that is replayed as a captured graph, ready for its next round; what gives the round's results."""
    with mx.engine.replay():
        x, w = (mx.np.array([0.1 * k * i for i in range(64)]).reshape((8, 8)) for k in (1, 2))
        seen = []

        def step():
            y = mx.np.dot(x, w)
            y = mx.np.exp(mx.np.sin(y) * 0.5 + 1)
            seen.append(y.sum().item())

        for _ in range(14):
            step()
        before = counts()["replays"]
        step()
        assert counts()["replays"] == before + 1
        yield step, seen


def test_a_captured_graph_lists_its_steps(record, replayed):
    step, _ = replayed
    events = record(step)
    (bulk,) = [e for e in on_gpu(events) if e["name"] == "bulk"]
    listed = bulk["args"]["steps"]
    assert len(listed) >= 2 and listed[0].startswith("matmul (test_profiler.py:")
    assert any(text.startswith("fused: sin, multiply, add, exp") for text in listed), listed
    assert not [e for e in events if e.get("cat") == "step"]


def test_step_by_step_each_step_has_its_own_bar(record, replayed, counts):
    step, seen = replayed
    before = counts()["replays"]
    events = record(step, step_by_step=True)
    assert counts()["replays"] == before
    (program,) = [e for e in events if e.get("cat") == "program"]
    work = [e for e in on_gpu(events) if e["args"]["operator"] == program["args"]["operator"]]
    steps = [e for e in events if e.get("cat") == "step"]
    assert [e["name"] for e in work] == [e["name"] for e in steps] and work[0]["name"] == "matmul"
    assert all(a["ts"] + a["dur"] <= b["ts"] + 0.01 for a, b in zip(work, work[1:], strict=False))
    assert "steps" not in work[0]["args"]
    (fused,) = [e for e in work if e["name"] == "fused"]
    assert fused["args"]["members"].startswith("sin, multiply, add, exp")
    assert "test_profiler.py" in fused["args"]["line"]
    assert any(name.startswith("fused: sin") for name in json.loads(profiler.dumps(format="json"))["Time"]["On GPUs"])
    step()  # afterwards as before, with the same results
    assert counts()["replays"] == before + 1 and len(set(seen)) == 1
