"""What runs beside compute on a GPU, and what waits for what: on played streams that a test stops in the middle of a
piece of work (streams.h). Nothing is measured: work that comes to its end while another stream stands still ran beside
it. Each check is also made where it must fail: on a GPU with a single stream, or without early sums.
"""

from __future__ import annotations

import json
import threading

import numpy
import pytest

import minimx as mx
from minimx import autograd, gluon, profiler
from minimx._bridge import to_pinned
from minimx.gluon import buckets, nn
from minimx.graph import bulk
from minimx.ndarray import _core
from minimx.profiler.records import STREAMS

SOON = 0.3  # seconds that something must not happen in; what must happen gets a minute
ROWS = {name.split()[0]: k for k, name in enumerate(STREAMS)}


class Streams:
    """The streams of the played GPUs, in their own time."""

    def __init__(self, module):
        self.module = module

    def stop(self, row, gpu=0):
        """The stream stands still in the middle of its next kernel, copy or sum, until ``go_on``."""
        self.module.stop_at_next(gpu, ROWS[row])

    def stands(self, row, gpu=0):
        """Waits until it does."""
        return self.module.stands(gpu, ROWS[row])

    def go_on(self):
        self.module.go_on()

    def reached(self, row, gpu=0, within=60.0):
        """Whether the stream does all that is on it now."""
        return self.module.reached(gpu, ROWS[row], within)


@pytest.fixture
def streams(request, counts, monkeypatch):
    import played

    module = played.install()
    monkeypatch.setattr(module, "sums", True)
    mx.waitall()
    module.set_own_time(True)
    with mx.engine.bulk(0), mx.engine.replay(False):  # a launch is where its call is
        yield Streams(module)
    module.go_on()
    mx.waitall()
    module.set_one_stream(False)
    module.set_own_time(request.config.getoption("--own-time"))


@pytest.fixture
def record(tmp_path):
    """Calls a function with the profiler on; what is in the rows of streams, by (row, name)."""

    def run(work):
        with profiler.profile(tmp_path / "timeline.json"):
            work()
        events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
        titles = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
        found: dict = {}
        for e in events:
            row = titles.get((e["pid"], e["tid"]), "")
            if e["ph"] == "X" and row in STREAMS:
                found.setdefault((row.split()[0], e["name"]), []).append(e)
        return found

    yield run
    profiler.dumps(reset=True)
    profiler.set_config(filename="profile.json")


def within(inner, outer):
    """Whether a bar lies between the ends of another, of whatever row."""
    return outer["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]


def done(x, seconds=60.0):
    """Whether an array can be read within so many seconds; the thread that tries goes on."""
    event = threading.Event()
    threading.Thread(target=lambda: (x.wait_to_read(), event.set()), daemon=True).start()
    return event.wait(seconds)


def uploads_beside(streams, seconds=60.0):
    """Whether a batch gets to the GPU while the compute stream stands in the middle of a product."""
    x, batch = mx.np.ones((8, 8)), to_pinned(numpy.full((4, 8), 3.0, "float32"))
    streams.stop("compute")
    y = x @ x
    assert streams.stands("compute")
    there = batch.to_device(mx.gpu(0))
    beside = streams.reached("copy", within=seconds)
    z = there @ y  # behind the product, and behind the copy
    assert not streams.reached("compute", within=SOON)
    streams.go_on()
    numpy.testing.assert_array_equal(z.asnumpy(), numpy.full((4, 8), 192))
    return beside


def test_a_copy_to_the_gpu_runs_beside_compute(streams, record):
    found = record(lambda: uploads_beside(streams))
    (copy,) = found["copy", "copy to the GPU"]
    assert within(copy, found["compute", "matmul"][0])
    assert copy["args"]["bytes"] == 4 * 8 * 4 and copy["args"]["GB/s"] > 0


def test_with_one_stream_it_does_not(streams):
    assert uploads_beside(streams)
    streams.module.set_one_stream(True)
    assert not uploads_beside(streams, SOON)


def test_compute_waits_for_the_copy_it_reads_and_for_no_other(streams, record):
    def work():
        x, batch = mx.np.ones((4, 8)), to_pinned(numpy.full((4, 8), 3.0, "float32"))
        streams.stop("copy")
        there = batch.to_device(mx.gpu(0))
        assert streams.stands("copy")
        y = x + 1
        assert streams.reached("compute") and y.sum().item() == 64
        z = there + y
        assert not streams.reached("compute", within=SOON)
        batch[:] = 0  # the host may not write before the copy has read
        streams.go_on()
        assert z.sum().item() == 160 and batch.sum().item() == 0

    found = record(work)
    (copy,), adds = found["copy", "copy to the GPU"], found["compute", "add"]
    assert within(adds[0], copy) and adds[1]["ts"] >= copy["ts"] + copy["dur"]
    waits = found["compute", "wait for the copy stream"]
    assert any(w["args"]["waits_for"] == "copy to the GPU" and w["dur"] > 1e6 * SOON / 2 for w in waits)
    table = json.loads(profiler.dumps(format="json"))["Time"]
    assert "compute stream: wait for the copy stream" in table["Waits of a GPU's streams"]
    assert table["On GPUs"]["copy to the GPU"]["Bytes"] == 4 * 8 * 4


def downloads_beside(streams, seconds=60.0):
    """Whether a result gets to the host while the compute stream is in the middle of what was called after it."""
    x = mx.np.ones((8, 8))
    loss = x.sum() * 2
    busy, free = threading.Event(), mx.np.zeros(1, device=mx.cpu())
    before = _core.host_threads()
    _core.set_host_threads(1)
    mx.engine.push(lambda: busy.wait(60), writes=[free])  # the copy is put on its stream after the product
    here = loss.to_device(mx.cpu())
    streams.stop("compute")
    y = x @ x
    assert streams.stands("compute")
    busy.set()
    beside = done(here, seconds)
    streams.go_on()
    assert here.item() == 128 and y.sum().item() == 512
    _core.set_host_threads(before)
    return beside


def test_a_copy_to_the_host_runs_beside_what_is_called_after_it(streams, record):
    found = record(lambda: downloads_beside(streams))
    copies = found["copy", "copy from the GPU"]
    assert any(within(copy, found["compute", "matmul"][0]) for copy in copies)


def test_with_one_stream_it_waits(streams):
    assert downloads_beside(streams)
    streams.module.set_one_stream(True)
    assert not downloads_beside(streams, SOON)


def test_a_copy_to_the_host_waits_for_what_it_reads(streams):
    x = mx.np.ones((8, 8))
    streams.stop("compute")
    y = x @ x
    here = y.to_device(mx.cpu())  # returns
    assert not done(here, SOON)
    y *= 0  # queued behind the copy
    streams.go_on()
    assert here.sum().item() == 512 and y.sum().item() == 0


@pytest.mark.parametrize("threads", [True, False], ids=["threads", "processes"])
def test_the_next_batch_gets_to_the_gpu_beside_compute(streams, threads):
    data = gluon.data.ArrayDataset(numpy.arange(32, dtype="float32").reshape(8, 4))
    loader = gluon.data.DataLoader(data, 2, num_workers=1, thread_pool=threads, prefetch_to_device=mx.gpu(0))
    batches = iter(loader)
    first, w = next(batches), mx.np.ones((4, 4))
    streams.stop("compute")
    y = first @ w
    second = next(batches)
    assert streams.reached("copy") and not streams.reached("compute", within=SOON)
    streams.go_on()
    numpy.testing.assert_array_equal(second.asnumpy(), numpy.arange(8, 16).reshape(2, 4))
    assert y.sum().item() == 4 * 28
    loader.close()


SIZES = (7, 6, 5, 4, 3)  # layers of different sizes: their sums can be told apart by their bytes


def training(devices):
    """(net, trainer, step): ``step(middle)`` calls ``middle`` between backward and update."""
    mx.random.seed(0)
    net = nn.Sequential()
    net.add(
        *(nn.Dense(b, activation="tanh", in_units=a, use_bias=False) for a, b in zip(SIZES, SIZES[1:], strict=False))
    )
    net.initialize(mx.init.Xavier(), device=mx.cpu())
    net.reset_device(devices)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    rng = numpy.random.default_rng(0)

    def step(middle=lambda: None):
        x = mx.np.array(rng.normal(size=(8, SIZES[0])).astype("f"))
        with autograd.record():
            losses = [(net(part) ** 2).sum() for part in gluon.utils.split_and_load(x, devices)]
        autograd.backward(losses)
        middle()
        trainer.step(8)

    return net, trainer, step


def sums_beside(streams, step, trainer, seconds=60.0):
    """Whether all of backward runs while the first sum over GPUs is under way."""
    seen, begin = [], streams.module.module.sum_copies
    for gpu in range(2):
        assert streams.reached("compute", gpu)

    def begin_and_look(*arrays):
        begin(*arrays)
        assert streams.stands("communication")

    def middle():
        begun = sum(bucket.sums is not None for bucket in trainer._buckets._buckets)
        seen.append(begun and all(streams.reached("compute", gpu, seconds) for gpu in range(2)))

    streams.stop("communication")
    streams.module.sum_copies = begin_and_look
    step(middle)
    del streams.module.sum_copies
    assert not streams.reached("compute", within=SOON)  # the update waits for the sums
    streams.go_on()
    mx.waitall()
    return bool(seen[0])


@pytest.fixture
def one_parameter_a_bucket(monkeypatch):
    monkeypatch.setattr(buckets, "BYTES", 1)


@pytest.mark.usefixtures("one_parameter_a_bucket")
def test_sums_over_gpus_run_beside_backward_the_last_layers_first(streams, record):
    _, trainer, step = training([mx.gpu(0), mx.gpu(1)])
    step(), step()
    found = record(lambda: sums_beside(streams, step, trainer))
    sums = [e for e in found["communication", "all-reduce"] if e["args"]["device"] == "gpu(0)"]
    assert [e["args"]["bytes"] for e in sums] == [4 * a * b for a, b in zip(SIZES, SIZES[1:], strict=False)][::-1]
    assert all(e["args"]["gpus"] == 2 and e["args"]["GB/s"] > 0 and __file__ in e["args"]["line"] for e in sums)
    grads = [e for e in found["compute", "tanh.grad0"] if e["args"]["device"] == "gpu(0)"]
    assert [within(e, sums[0]) for e in grads] == [False, True, True, True]  # those of the layers before
    waits = found["compute", "wait for the communication stream"]
    assert any(w["args"]["waits_for"] == "all-reduce" and w["dur"] > 1e6 * SOON / 2 for w in waits)
    row = json.loads(profiler.dumps(format="json"))["Time"]["Communication between GPUs"]["all-reduce"]
    assert row["Count"] == 8 and row["Bytes"] == 2 * sum(e["args"]["bytes"] for e in sums)
    assert "all-reduce" in profiler.dumps() and "GB/s" in profiler.dumps()


@pytest.mark.usefixtures("one_parameter_a_bucket")
def test_with_one_stream_or_without_early_sums_they_do_not(streams):
    _, trainer, step = training([mx.gpu(0), mx.gpu(1)])
    step(), step()
    assert sums_beside(streams, step, trainer)
    trainer._buckets._of.clear()  # nobody tells the buckets that gradients are there
    assert not sums_beside(streams, step, trainer, SOON)
    step()
    assert sums_beside(streams, step, trainer)
    streams.module.set_one_stream(True)
    assert not sums_beside(streams, step, trainer, SOON)


def test_each_gpu_has_a_list_of_its_own(streams, record):
    """Calls of two GPUs in turn are put off side by side: forward and backward of both run as programs."""
    _, _, step = training([mx.gpu(0), mx.gpu(1)])

    def steps(count):
        for _ in range(count):
            step()
            mx.waitall()
            assert bulk.wait(100)

    with mx.engine.bulk(32), mx.engine.replay(True):
        steps(24)
        found = record(lambda: steps(4))
    rows = [e["args"]["device"] for e in found["compute", "bulk"]]
    assert rows.count("gpu(0)") == rows.count("gpu(1)") > 0


@pytest.mark.usefixtures("one_parameter_a_bucket")
@pytest.mark.parametrize("replay", [False, True])
def test_training_on_two_gpus_gives_the_numbers_of_one(streams, replay):
    """Whatever the streams do meanwhile, and whether steps are put off whole or not."""
    nets = []
    for devices in ([mx.gpu(0), mx.gpu(1)], [mx.gpu(0)]):
        net, _, step = training(devices)
        with mx.engine.bulk(32 if replay else 0), mx.engine.replay(replay):
            for _ in range(16 if replay else 5):
                step()
        nets.append([[w.asnumpy() for w in p.list_data()] for p in net.collect_params().values()])
    for copies, (w,) in zip(*nets, strict=True):
        numpy.testing.assert_array_equal(copies[0], copies[1])
        numpy.testing.assert_allclose(copies[0], w, rtol=2e-4, atol=1e-5)
