"""What runs beside compute, seen by the order of events in a profile and not by the clock."""

import json
import threading

import pytest

import minimx as mx
from minimx import profiler


@pytest.mark.cpu_only("looks at the engine's own threads")
def test_a_callback_runs_beside_compute(tmp_path):
    """The callback ends only after a product that was pushed later has: one behind the other would never end."""
    computed = threading.Event()
    loaded, x = mx.np.zeros(3), mx.np.ones((300, 300))
    with profiler.profile(tmp_path / "timeline.json"):
        mx.engine.push(lambda: computed.wait(60), writes=[loaded], name="load")
        (x @ x).wait_to_read()
        computed.set()
        loaded.wait_to_read()
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json")
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    load, product = (next(e for e in events if e["ph"] == "X" and e["name"] == n) for n in ("load", "matmul"))
    assert load["tid"] != product["tid"]
    assert load["ts"] + load["dur"] > product["ts"] + product["dur"]
