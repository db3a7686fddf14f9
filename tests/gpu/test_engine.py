"""Order and memory on a GPU: streams among themselves and with the host, random workloads, the allocator.

The oracle is synchronous mode, in which every operator is waited for. Faults: test_faults.py.
"""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

import minimx as mx
from minimx.ndarray import _core

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

CPU, GPU = mx.cpu(), mx.gpu(0)
SIDE = 384  # arrays large enough that copies and products take a while


def busy(steps: int = 200) -> mx.np.ndarray:
    """Queues products for some milliseconds, and returns their result."""
    x = y = mx.np.full((2048, 2048), 1 / 2048)
    for _ in range(steps):
        y = y @ x
    return y


def pinned(values: np.ndarray) -> mx.np.ndarray:
    """A host array in pinned memory, from which copies to the GPU run on a stream of their own."""
    memory = mx.device.cuda().pinned(values.nbytes).view(values.dtype)[: values.size].reshape(values.shape)
    memory[...] = values
    return _core.borrow(memory, values.dtype.name, True)


# --- order -------------------------------------------------------------------------------------------------------


def test_operators_do_not_wait():
    """A call returns while the GPU works; reading waits."""
    busy(2).wait_to_read()
    start = time.perf_counter()
    y = busy(400)
    called = time.perf_counter() - start
    y.wait_to_read()
    assert called < (time.perf_counter() - start) / 2
    np.testing.assert_allclose(y.asnumpy(), 1 / 2048, rtol=1e-3)


def test_reading_waits_for_the_device():
    """asnumpy, item, numpy.asarray, copies to the host and bool see finished work."""
    one = busy() * 2048
    assert one[5, 7].item() == pytest.approx(1, rel=1e-3)
    y = busy() * 2048
    assert np.asarray(y).mean() == pytest.approx(1, rel=1e-3)
    host = mx.np.zeros((2048, 2048), device=CPU)
    (busy() * 2048).copyto(host)
    assert (host * 1).asnumpy().min() == pytest.approx(1, rel=1e-3)
    assert bool((busy() > 0).all())


def test_host_operators_and_device_operators_in_turn():
    """What the host still computes comes before a copy, and the copy before what overwrites its source."""
    a = mx.np.full((SIDE, SIDE), 1 / SIDE, device=CPU)
    for _ in range(20):
        for _ in range(3):
            a = a @ a * 1.0
        there = a.to_device(GPU)
        a[:] = 1 / SIDE  # waits for the copy, not for the GPU
        b = (there * 2).to_device(CPU)
        np.testing.assert_allclose(b.asnumpy(), 2 / SIDE, rtol=1e-4)


def test_the_source_of_a_copy_may_change_at_once():
    """Pageable memory is free again when the call is over, pinned memory by the engine's order."""
    for make in (lambda v: mx.np.array(v, device=CPU), pinned):
        x, kept = make(np.zeros(1 << 20, "float32")), []
        for k in range(30):
            x[:] = k
            kept.append(x.to_device(GPU))
        assert [y.sum().item() for y in kept] == [k * (1 << 20) for k in range(30)]


def test_compute_waits_for_the_copy_stream():
    """Operators on an array that the copy stream is still filling, and its next use on that stream after them."""
    rng = np.random.default_rng(0)
    host = rng.normal(size=(8, 1 << 20)).astype("float32")
    sources = [pinned(row) for row in host]
    for _ in range(5):
        made = [s.to_device(GPU) for s in sources]
        twice = [y * 2 for y in made]
        for y in made:
            y += 1  # after its reader
        for row, y, z in zip(host, made, twice, strict=True):
            np.testing.assert_array_equal(z.asnumpy(), row * 2)
            np.testing.assert_array_equal(y.asnumpy(), row + 1)


def test_memory_of_the_copy_stream_is_reused_in_order():
    """A block that compute reads late goes back to the copy stream only behind that reader."""
    total = mx.np.zeros(1 << 20)
    ones = np.ones(1 << 20, "float32")
    sources = [pinned(ones * k) for k in range(4)]
    keep = busy(100)  # compute is behind
    for k in range(40):
        batch = sources[k % 4].to_device(GPU)
        total += batch
        del batch  # the next copy may get this block
    assert (total.asnumpy() == 60).all() and keep is not None


def test_pinned_memory_is_reused_in_order():
    """A pinned block that is dropped while its copy is under way is not handed out before the copy is done."""
    keep = busy(100)
    made = []
    for k in range(40):
        made.append(pinned(np.full(1 << 18, k, "float32")).to_device(GPU))
    assert [y.sum().item() / (1 << 18) for y in made] == list(range(40)) and keep is not None


def test_callbacks_between_transfers():
    """Python callbacks on host arrays are ordered with the copies that read and write those."""
    host = np.zeros(1000, "float32")
    x = mx.np.asarray(host, device=CPU)
    y = mx.np.zeros(1000)
    for k in range(1, 11):

        def more(k=k):
            time.sleep(0.001)
            host[:] = host + k

        mx.engine.push(more, writes=[x], name="more")
        y += x.to_device(GPU)
        (y * 0 + x.to_device(GPU)).copyto(x)
    assert (y.asnumpy() == sum(k * (11 - k) for k in range(1, 11))).all() and host[0] == 55


# --- random workloads --------------------------------------------------------------------------------------------


class Workload:
    """Arrays on host and GPU, and random work on them that only depends on the seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.hosts = [np.ascontiguousarray(self.rng.uniform(-1, 1, (SIDE, SIDE)).astype("float32")) for _ in range(3)]
        self.arrays = [mx.np.asarray(h, device=CPU) for h in self.hosts]  # callbacks write through ``hosts``
        self.arrays += [mx.np.array(self.draw(), device=CPU) for _ in range(2)]
        self.arrays += [mx.np.array(self.draw(), device=GPU) for _ in range(5)]
        self.seen: list[np.ndarray] = []

    def draw(self) -> np.ndarray:
        return self.rng.uniform(-1, 1, (SIDE, SIDE)).astype("float32")

    def pick(self) -> tuple[mx.np.ndarray, mx.np.ndarray, mx.np.ndarray]:
        """An array, and two on its device (maybe itself) to read."""
        target = self.arrays[self.rng.integers(len(self.arrays))]
        near = [a for a in self.arrays if a.device == target.device]
        return target, *(near[i] for i in self.rng.integers(len(near), size=2))

    def step(self) -> None:
        """One piece of work."""
        target, a, b = self.pick()
        row = int(self.rng.integers(1, SIDE - 1))
        match int(self.rng.integers(11)):
            case 0:
                target[:] = a * 0.5 + b
            case 1:
                target[:] = a @ b * (1 / SIDE)
            case 2:
                target += mx.np.tanh(a)
            case 3:
                mx.np.multiply(a, 0.75, out=target)
            case 4:
                target[:row] = b[-row:] * 0.5
            case 5:
                target[row] = a.sum(axis=0) / SIDE
            case 6:
                other = self.arrays[self.rng.integers(len(self.arrays))]
                other.copyto(target)
            case 7:
                other = self.arrays[self.rng.integers(len(self.arrays))]
                target[:, row] = (other[row] * 2 - 1).to_device(target.device)
            case 8:
                number = int(self.rng.integers(len(self.hosts)))
                host, k = self.hosts[number], float(self.rng.uniform(0.5, 1))

                def scale():
                    host[...] *= np.float32(k)

                mx.engine.push(scale, reads=[], writes=[self.arrays[number]], name="scale")
            case 9:
                self.seen.append(target.asnumpy())
            case 10:
                target[:] = pinned(self.draw()).to_device(target.device) - mx.np.maximum(a, 0).T

    def run(self, steps: int) -> list[np.ndarray]:
        """All that was seen on the way, and the arrays at the end."""
        for _ in range(steps):
            self.step()
        return [*self.seen, *(a.asnumpy() for a in self.arrays)]


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_random_work_gives_what_synchronous_mode_gives(seed, replayed):
    """To the last bit, but for what repeats itself and was compiled together: sums of that may round otherwise."""
    near = {"rtol": 1e-5, "atol": 1e-6} if replayed else {"rtol": 0, "atol": 0}
    with mx.engine.sync():
        want = Workload(seed).run(120)
    for _ in range(2):
        with mx.engine.replay(replayed):
            got = Workload(seed).run(120)
        assert len(got) == len(want) and all(np.isfinite(w).all() for w in want)
        for i, (g, w) in enumerate(zip(got, want, strict=True)):
            np.testing.assert_allclose(g, w, err_msg=f"array {i}", **near)


def test_the_naive_engine_gives_the_same():
    """The whole engine in synchronous mode."""
    want = Workload(7).run(60)
    before = mx.engine.set_engine("naive")
    try:
        got = Workload(7).run(60)
    finally:
        mx.engine.set_engine(before)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_bulks_give_the_same():
    """Operators that are handed over together."""
    want = Workload(8).run(60)
    with mx.engine.bulk(10):
        got = Workload(8).run(60)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


# --- memory ------------------------------------------------------------------------------------------------------


def settled() -> dict[str, int]:
    """The counters when nothing is under way."""
    mx.waitall()
    gc.collect()
    return mx.device.memory_info(GPU)


def test_freed_memory_is_not_used_before_its_readers_are_through():
    """A storm of arrays that are dropped at once, and of others that write poison over whatever they get."""
    rng = np.random.default_rng(1)
    keep = busy(100)
    kept = []
    for k in range(300):
        size = int(rng.choice([1000, 5000, 100_000, 1_000_000]))
        x = mx.np.full(size, k)
        y = x * 2
        del x
        poison = mx.np.full(size, float("nan"))
        kept.append(y if k % 3 else y + mx.np.zeros(size))
        del poison
        if len(kept) > 20:
            kept.pop(int(rng.integers(len(kept))))
    for y in kept:
        values = y.asnumpy()
        assert (values == values[0]).all() and values[0] % 2 == 0
    assert keep is not None


def test_scratch_memory_belongs_to_one_operator():
    """Reductions and products with workspaces, one after another, of several sizes."""
    rng = np.random.default_rng(2)
    xs = [mx.np.array(rng.integers(0, 5, (n, m)).astype("float32")) for n, m in [(3, 70000), (700, 300), (40000, 5)]]
    for _ in range(30):
        sums = [(x.sum(), x.sum(axis=0), x.argmax(axis=1), mx.np.argsort(x, axis=1)) for x in xs]
    for x, (whole, rows, best, order) in zip(xs, sums, strict=True):
        host = x.asnumpy()
        assert whole.item() == host.sum()
        np.testing.assert_array_equal(rows.asnumpy(), host.sum(0))
        np.testing.assert_array_equal(best.asnumpy(), host.argmax(1))
        np.testing.assert_array_equal(order.asnumpy(), host.argsort(1, kind="stable"))


def test_counters():
    """used, cached and peak follow arrays as they come and go; the peak may be set anew."""
    GPU.empty_cache()
    size = 32 << 20
    before = settled()["used"]
    x = mx.np.zeros(size // 4)
    with_one = settled()
    assert with_one["used"] - before == size
    y = mx.np.zeros(size // 4)
    del y
    after = settled()
    assert after["used"] == with_one["used"] and after["peak"] >= before + 2 * size
    assert after["cached"] >= size
    mx.device.reset_peak_memory(GPU)
    assert mx.device.memory_info(GPU)["peak"] == after["used"]
    del x
    assert settled()["used"] == before


def test_views_share_their_arrays_memory():
    """A view allocates nothing and keeps the whole alive."""
    before = settled()["used"]
    x = mx.np.ones((1024, 1024))
    one = settled()["used"]
    row = x[3:5].T
    del x
    assert settled()["used"] == one > before
    assert row.sum().item() == 2048
    del row
    assert settled()["used"] == before


def test_freed_blocks_are_used_again():
    """Sizes that were there before take nothing new; empty_cache gives what is left back to the driver."""
    GPU.empty_cache()
    x = mx.np.ones(1 << 22)
    for _ in range(5):
        x = x + 1
    first = settled()
    for _ in range(200):
        x = x + 1
    again = settled()
    assert (again["used"], again["cached"]) == (first["used"], first["cached"]) and first["cached"] > 0
    free = mx.device.gpu_memory_info(0)[0]
    held = [mx.np.zeros(1 << 26) for _ in range(4)]
    del held
    assert settled()["cached"] >= 1 << 30
    GPU.empty_cache()
    assert settled()["cached"] == 0 and free > 0
    assert x[0].item() == 206


def test_a_training_loop_reaches_a_steady_state():
    """After the first steps, memory neither grows nor is asked of the driver."""
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(16, 3, in_channels=3), mx.gluon.nn.Activation("relu"), mx.gluon.nn.Dense(10))
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
    seen = []
    for _ in range(20):
        x = mx.np.ones((8, 3, 16, 16))
        with mx.autograd.record():
            loss = (net(x) ** 2).mean()
        loss.backward()
        trainer.step(8)
        info = settled()
        seen.append((info["used"], info["cached"]))
    assert len(set(seen[14:])) == 1  # replayed
