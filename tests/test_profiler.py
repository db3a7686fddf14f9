"""mx.profiler: what the timeline and the tables hold, and that recording disturbs nobody: threads, errors, forks."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

import minimx as mx
from minimx import autograd, errors, gluon, profiler
from minimx.gluon import nn

pytestmark = pytest.mark.cpu_only("the tests of GPUs' rows are in tests/played and tests/gpu")


@pytest.fixture
def record(tmp_path):
    """``with record() as events``: what the block leaves in the timeline."""
    reset()
    path = tmp_path / "timeline.json"

    class Recorded:
        def __init__(self, **settings):
            self.profile = profiler.profile(path, **settings)

        def __enter__(self):
            self.events = []
            self.profile.__enter__()
            return self.events

        def __exit__(self, *error):
            self.profile.__exit__(*error)
            self.events += json.loads(path.read_text())["traceEvents"]

    yield Recorded
    reset()


def reset():
    """As it was when the process began."""
    profiler.stop()
    profiler.dumps(reset=True)
    names = ("all", "symbolic", "imperative", "memory", "api")
    profiler.set_config(filename="profile.json", max_records=1 << 18, **{f"profile_{name}": False for name in names})


def named(events, name, phase="X"):
    """The events of that name."""
    return [e for e in events if e["name"] == name and e["ph"] == phase]


def within(inner, outer):
    """True if an event lies inside another on its row, to the rounding of microseconds."""
    row = (inner["pid"], inner["tid"]) == (outer["pid"], outer["tid"])
    end = inner["ts"] + inner["dur"]
    return row and outer["ts"] - 0.01 <= inner["ts"] and end <= outer["ts"] + outer["dur"] + 0.01


def line_here(offset=0):
    """file:line of the caller."""
    import sys

    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def large():
    """An operator that goes to the worker."""
    x = mx.np.ones((400, 400))
    return mx.np.dot(x, x)


def test_operators_with_their_line_and_bytes(record):
    x = mx.np.ones((10, 10))
    with record() as events:
        y = x + 1
        line = line_here(-1)
        z = large()
        z.wait_to_read()
    (add,) = named(events, "add")
    assert add["cat"] == "operator" and add["dur"] >= 0
    assert add["args"]["line"] == line
    assert add["args"]["bytes"] == y.nbytes and add["args"]["device"] == "cpu"
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert rows[add["tid"]] == threading.current_thread().name
    (product,) = named(events, "matmul")
    assert rows[product["tid"]] == "engine's worker"
    assert product["args"]["queued_us"] > 0
    assert all(e["ts"] >= 0 and e.get("dur", 0) >= 0 for e in events)


def test_a_wait_names_what_it_waits_for(record):
    out = mx.np.zeros(3)
    with record() as events:
        mx.engine.push(lambda: time.sleep(0.02), writes=[out], name="load")
        line = line_here(-1)
        out.wait_to_read()
    (wait,) = named(events, "wait_to_read")
    assert wait["args"]["waits_for"] == "load" and wait["args"]["called_at"] == line
    assert wait["dur"] > 10_000
    (load,) = named(events, "load")
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert rows[load["tid"]].startswith("engine's host thread")


def test_scopes_nest_and_end_when_the_block_raises(record):
    with record() as events:
        with profiler.scope("outer"):
            with profiler.scope("inner"):
                mx.np.ones(3) + 1
        with pytest.raises(KeyError), profiler.scope("failing"):
            raise KeyError("x")
        after = profiler.Event("after")
        after.start()
        after.stop()
    (outer,), (inner,), (add,) = (named(events, name) for name in ("outer", "inner", "add"))
    assert within(add, inner) and within(inner, outer)
    assert inner["args"]["line"].startswith(__file__)
    (failing,), (after,) = named(events, "failing"), named(events, "after")
    assert not within(failing, outer) and not within(after, failing)


def test_tasks_counters_and_markers(record):
    domain = profiler.Domain("images")
    counter = domain.new_counter("decoded", 3)
    with record() as events:
        task, frame = domain.new_task("first"), domain.new_frame("second")
        task.start()
        frame.start()
        task.stop()  # they cross, which spans of one row could not
        frame.stop()
        counter += 2
        counter.decrement()
        domain.new_marker("now").mark()
    begins = {e["name"]: e for e in events if e["ph"] == "b"}
    ends = {e["id"]: e for e in events if e["ph"] == "e"}
    assert set(begins) == {"first", "second"} and all(e["cat"] == "images" for e in begins.values())
    assert ends[begins["first"]["id"]]["ts"] <= ends[begins["second"]["id"]]["ts"]
    assert [e["args"]["value"] for e in named(events, "images: decoded", "C")] == [5, 4]
    assert named(events, "now", "i")
    with pytest.raises(errors.ArgumentError, match="been started"):
        profiler.Task(domain, "never").stop()


def mlp():
    """A small net, hybridized and compiled."""
    net = nn.HybridSequential()
    net.add(nn.Dense(8, activation="relu", in_units=8), nn.LayerNorm(in_channels=8), nn.Dense(4, in_units=8))
    net.initialize()
    net.hybridize()
    net(mx.np.ones((2, 8))).wait_to_read()
    return net


def test_hybridized_code_and_its_steps(record):
    net, x = mlp(), mx.np.ones((2, 8))
    with record() as events:
        net(x).wait_to_read()
        line = line_here(-1)
    (program,) = [e for e in events if e.get("cat") == "program"]
    steps = [e for e in events if e.get("cat") == "step"]
    assert program["name"] == "HybridSequential" and program["args"]["line"] == line
    assert [e["name"] for e in steps][-1] == "fully_connected" and len(steps) >= 3
    assert all(within(step, program) for step in steps)
    assert all(a["ts"] + a["dur"] <= b["ts"] + 0.01 for a, b in zip(steps, steps[1:], strict=False))
    assert all(step["args"]["operator"] == program["args"]["operator"] for step in steps)


def test_a_fused_group_names_its_members(record):
    class Chain(gluon.HybridBlock):
        def forward(self, x):
            return mx.np.exp(mx.np.sin(x) * 2 + 1)

    net = Chain()
    net.hybridize()
    x = mx.np.ones((64, 64))
    net(x).wait_to_read()
    with record() as events:
        net(x).wait_to_read()
    (fused,) = named(events, "fused")
    assert fused["args"]["members"] == "sin, multiply, add, exp"
    assert (
        "fused: sin, multiply, add, exp"
        in json.loads(profiler.dumps(format="json"))["Time"]["Steps of hybridized code"]
    )


def test_backward_has_the_line_of_backward(record):
    x = mx.np.ones(3)
    x.attach_grad()
    with record() as events:
        with autograd.record():
            y = mx.np.tanh(x).sum()
        y.backward()
        line = line_here(-1)
    grads = [e for e in events if ".grad" in e["name"] and e["ph"] == "X"]
    assert grads and all(e["args"]["line"] == line for e in grads)


def test_memory_is_counted(record):
    with record(profile_memory=True) as events:
        x = mx.np.ones((1000, 1000))
        x.wait_to_read()
        during = mx.device.memory_info(mx.cpu())["used"]
        mx.waitall()  # the worker, too, has let go of it
        del x
        mx.np.ones(3).wait_to_read()
    values = [e["args"]["bytes"] for e in named(events, "memory of cpu", "C")]
    assert max(values) - values[0] >= 4_000_000 and values[-1] < max(values)
    assert during in values
    assert {e.get("cat") for e in events if e["ph"] != "M"} == {"memory"}


@pytest.mark.parametrize(
    ("keyword", "categories"),
    [
        ("profile_symbolic", {"program", "step"}),
        ("profile_imperative", {"operator"}),
        ("profile_api", {"push", "wait"}),
        ("profile_all", {"program", "step", "operator", "push", "wait", "memory"}),
    ],
)
def test_what_is_shown(record, keyword, categories):
    net, x = mlp(), mx.np.ones((2, 8))
    with record(**{keyword: True}) as events:
        (net(x) + 1).wait_to_read()
        large().wait_to_read()
    assert {e.get("cat") for e in events if e["ph"] != "M"} == categories


def test_pause_and_resume(record):
    x = mx.np.ones(3)
    with record() as events:
        x + 1
        profiler.pause()
        assert profiler.state() == "pause"
        x - 1
        with profiler.scope("unseen"):
            pass
        profiler.resume()
        x * 2
    assert named(events, "add") and named(events, "multiply")
    assert not named(events, "subtract") and not named(events, "unseen")
    profiler.pause()
    profiler.resume()
    assert profiler.state() == "stop"


def test_threads_have_rows_of_their_own(record):
    def work(number):
        x = mx.np.ones(5)
        with profiler.scope(f"work {number}"):
            for _ in range(50):
                x = x + number
        assert x[0].item() == 1 + 50 * number

    with record() as events:
        threads = [threading.Thread(target=work, args=(i,), name=f"caller {i}") for i in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for i in range(2):
        (span,) = named(events, f"work {i}")
        assert sum(within(e, span) for e in named(events, "add")) == 50
    assert len({e["tid"] for e in named(events, "add")}) == 2


def test_an_operator_that_fails(record):
    out = mx.np.zeros(3)

    def fail():
        raise LookupError("gone")

    with record() as events:
        mx.engine.push(fail, writes=[out], name="read the disk")
        later = out + 1
        with pytest.raises(LookupError):
            later.asnumpy()
    assert named(events, "read the disk")[0]["args"]["failed"] and named(events, "add")[0]["args"]["failed"]


def test_an_error_nobody_has_seen_is_raised_after_the_file_is_written(tmp_path, record):
    out = mx.np.zeros(3)

    def fail():
        raise LookupError("gone")

    with pytest.raises(LookupError), record():
        mx.engine.push(fail, writes=[out], name="read the disk")
    assert named(json.loads((tmp_path / "timeline.json").read_text())["traceEvents"], "read the disk")
    assert profiler.state() == "stop"
    with pytest.raises(KeyError), record():
        raise KeyError("the block's own")
    assert profiler.state() == "stop"


def test_synchronous_and_gathered_operators_are_seen(record):
    x = mx.np.ones((300, 300))
    with record() as events:
        with mx.engine.sync():
            x - 1
        with mx.engine.bulk(5):
            y = x
            for _ in range(10):
                y = y * 2
        y.wait_to_read()
    assert len(named(events, "subtract")) == 1 and len(named(events, "multiply")) == 10


def test_tables(record):
    with record():
        for _ in range(7):
            mx.np.ones(3) + 1
        mx.np.ones(3) * 2
    found = json.loads(profiler.dumps(format="json"))
    row = found["Time"]["Operators"]["add"]
    assert row["Count"] == 7 and found["Unit"]["Time"] == "ms"
    assert 0 <= row["Min"] <= row["Avg"] <= row["Max"] <= row["Total"]
    assert row["Total"] == pytest.approx(7 * row["Avg"])
    text = profiler.dumps(sort_by="count", ascending=True)
    assert text.index("multiply") < text.index("add  ") and "Operators" in text
    by_name = profiler.dumps(sort_by="name", ascending=True)
    assert by_name.index("add  ") < by_name.index("multiply")
    profiler.dumps(reset=True)
    assert json.loads(profiler.dumps(format="json"))["Time"] == {}


def test_a_start_after_a_dump_begins_afresh(record):
    with record():
        mx.np.ones(3) + 1
    with record() as events:
        mx.np.ones(3) * 2
    assert not named(events, "add") and named(events, "multiply")


def test_a_dump_on_the_way_goes_on(tmp_path, record):
    with record() as events:
        mx.np.ones(3) + 1
        profiler.dump(finished=False)
        assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
        mx.np.ones(3) * 2
    assert named(events, "add") and named(events, "multiply")


def test_memory_of_records_is_bounded(tmp_path, record):
    x = mx.np.ones(3)
    with record(max_records=100) as events:
        for _ in range(500):
            x + 1
        x * 2
    assert 20 <= len(named(events, "add")) <= 100 and named(events, "multiply")  # the last are kept
    assert json.loads((tmp_path / "timeline.json").read_text())["otherData"]["dropped_records"] >= 900
    assert "made room" in profiler.dumps()


def test_continuous_dump(tmp_path, record):
    with record(continuous_dump=True, dump_period=0.05):
        mx.np.ones(3) + 1
        for _ in range(100):
            if (tmp_path / "timeline.json").exists():
                break
            time.sleep(0.02)
        assert named(json.loads((tmp_path / "timeline.json").read_text())["traceEvents"], "add")
    profiler.set_config(continuous_dump=False, dump_period=1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_begins_empty(record):
    with record() as events:
        mx.np.ones(3) + 1
        child = os.fork()
        if child == 0:
            code = 1
            try:
                clean = profiler.state() == "stop" and json.loads(profiler.dumps(format="json"))["Time"] == {}
                profiler.start()
                mx.np.ones(3) * 2
                profiler.stop()
                seen = json.loads(profiler.dumps(format="json"))["Time"]["Operators"]
                code = 0 if clean and "multiply" in seen and "add" not in seen else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert named(events, "add") and not named(events, "multiply")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"colour": 1}, TypeError, "known keywords, got 'colour'"),
        ({"profile_all": "yes"}, TypeError, "profile_all of type"),
        ({"max_records": 0}, ValueError, "above 0"),
        ({"profile_process": "server"}, ValueError, "no servers"),
    ],
)
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        profiler.set_config(**settings)


def test_wrong_calls(record):
    with pytest.raises(errors.ArgumentError, match="'run' or 'stop'"):
        profiler.set_state("go")
    with pytest.raises(errors.ArgumentError, match="table"):
        profiler.dumps(format="xml")
    with pytest.raises(errors.ArgumentError, match="sort_by"):
        profiler.dumps(sort_by="size")
    with record(), pytest.raises(errors.ArgumentError, match="stopped"):
        profiler.set_config(profile_all=True)


def test_off_nothing_is_recorded():
    profiler.dumps(reset=True)
    with profiler.scope("unseen"):
        mx.np.ones(3) + 1
    assert json.loads(profiler.dumps(format="json"))["Time"] == {}
