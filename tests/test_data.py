"""gluon.data: datasets, samplers, batchify, the loader (processes, threads, crashes, resume), vision and transforms."""

import gc
import gzip
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx import errors
from minimx._bridge import to_numpy
from minimx.gluon import data
from minimx.gluon.data import batchify, rng, vision
from minimx.gluon.data.vision import transforms as T

ROOT = pathlib.Path(__file__).parents[1]
KINDS = [{}, {"num_workers": 1}, {"num_workers": 2, "thread_pool": True}]
PROCESSES = {"num_workers": 2, "timeout": 60}
PROCESS = {"num_workers": 1, "timeout": 60}


def host(tree):
    """A batch with numpy arrays for minimx arrays; refuses anything else."""
    if isinstance(tree, (list, tuple)):
        return [host(x) for x in tree]
    assert isinstance(tree, mx.ndarray)
    return tree.asnumpy()


def same(a, b):
    """Whether two lists of batches are equal bit for bit."""
    return len(a) == len(b) and all(
        len(x) == len(y)
        and all(
            u.dtype == v.dtype and u.shape == v.shape and u.tobytes() == v.tobytes() for u, v in zip(x, y, strict=True)
        )
        for x, y in zip(host(a), host(b), strict=True)
    )


class Numbers(data.Dataset):
    """Sample i is i; ``faults`` maps places to what happens there."""

    def __init__(self, length, faults=None):
        self.length, self.faults, self.noted = length, faults or {}, []

    def __len__(self):
        return self.length

    def note_broken(self, name):
        self.noted.append(name)

    def __getitem__(self, index):
        match self.faults.get(index):
            case None:
                return np.float32(index)
            case "raise":
                raise LookupError(f"nothing at {index}")
            case "raise unpicklable":
                raise Unpicklable(1, 2)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(1000)
            case "broken":
                raise data.BrokenSample(f"file{index}", "an image", "noise")
            case "engine":
                return np.bool_("minimx._core" in sys.modules)
            case "random":
                return np.float64(random.random() + np.random.rand())


class Unpicklable(Exception):
    def __init__(self, a, b):
        super().__init__("two")


def jitter():
    """Digits with random augmentation of all sorts."""
    steps = [T.RandomResizedCrop(8), T.RandomFlipLeftRight(), T.RandomColorJitter(0.3, 0.3, 0.3, 0.1), T.ToTensor()]
    return vision.Digits(channels=3).take(40).transform_first(T.Compose(steps))


# Datasets


def test_views_of_a_dataset():
    numbers = data.SimpleDataset(list(range(10)))
    assert list(numbers.shard(3, 0)) == [0, 1, 2, 3] and list(numbers.shard(3, 2)) == [7, 8, 9]
    assert list(numbers.filter(lambda x: x % 3 == 0)) == [0, 3, 6, 9]
    assert list(numbers.take(3)) == [0, 1, 2] and len(numbers.take(None)) == 10 and len(numbers.take(99)) == 10
    assert list(numbers.sample(data.IntervalSampler(10, 5))) == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    assert numbers.take(3)[-1] == 2
    assert list(numbers.transform(lambda x: x * x, lazy=False).take(4)) == [0, 1, 4, 9]


def test_transform_is_lazy_and_spreads_tuples():
    calls = []
    pairs = data.ArrayDataset([1, 2], [3, 4])
    lazy = pairs.transform(lambda x, y: calls.append(x) or x + y)
    assert not calls and [lazy[0], lazy[1]] == [4, 6] and calls == [1, 2]
    assert pairs.transform_first(lambda x: -x)[1] == (-2, 4)
    assert data.ArrayDataset([5, 6]).transform_first(str)[0] == "5"


@given(length=st.integers(0, 50), shards=st.integers(1, 9))
def test_shards_are_a_balanced_partition(length, shards):
    numbers = data.SimpleDataset(range(length))
    parts = [list(numbers.shard(shards, i)) for i in range(shards)]
    assert sum(parts, []) == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_dataset_errors():
    numbers = data.SimpleDataset(range(3))
    with pytest.raises(errors.ShapeError, match=r"lengths \[2, 3\]"):
        data.ArrayDataset([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="at least one"):
        data.ArrayDataset()
    with pytest.raises(ValueError, match="num_shards"):
        numbers.shard(2, 2)
    with pytest.raises(ValueError, match="count >= 0"):
        numbers.take(-1)
    with pytest.raises(TypeError, match="sampler"):
        numbers.sample(3)
    with pytest.raises(IndexError, match="below 2, got 2"):
        numbers.take(2)[2]
    with pytest.raises(NotImplementedError, match="Dataset.__len__"):
        len(data.Dataset())


# Samplers


@given(
    length=st.integers(0, 40),
    size=st.integers(1, 9),
    last=st.sampled_from(["keep", "discard", "rollover"]),
    rounds=st.integers(1, 4),
)
def test_batch_sampler(length, size, last, rounds):
    batches = data.BatchSampler(data.SequentialSampler(length), size, last)
    seen = []
    for _ in range(rounds):
        expected = len(batches)
        got = list(batches)
        assert len(got) == expected
        seen += got
    assert all(len(b) == size for b in seen) or last == "keep"
    flat = sum(seen, [])
    order = list(range(length)) * rounds
    if last == "keep":
        assert flat == order
    elif last == "rollover":
        assert flat == order[: len(order) // size * size]
    else:
        assert len(flat) == rounds * (length // size * size)


@given(length=st.integers(1, 30), interval=st.integers(1, 30), rollover=st.booleans())
def test_interval_sampler(length, interval, rollover):
    if interval > length:
        with pytest.raises(ValueError, match="interval"):
            data.IntervalSampler(length, interval)
        return
    sampler = data.IntervalSampler(length, interval, rollover)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert sorted(order) == (list(range(length)) if rollover else list(range(0, length, interval)))


def test_random_sampler_is_a_function_of_seed_and_round():
    a, b = data.RandomSampler(100, seed=1), data.RandomSampler(100, seed=1)
    first, second = list(a), list(a)
    assert sorted(first) == sorted(second) == list(range(100)) and first != second
    b.load_state_dict({"seed": 1, "round": 1})
    assert list(b) == second
    assert list(data.RandomSampler(100, seed=2)) != first
    assert list(data.FilterSampler(lambda x: x > 6, range(10))) == [7, 8, 9]


def test_batch_sampler_errors():
    with pytest.raises(ValueError, match="last_batch 'keep'"):
        data.BatchSampler(data.SequentialSampler(3), 2, "drop")
    with pytest.raises(ValueError, match="batch_size >= 1"):
        data.BatchSampler(data.SequentialSampler(3), 0)


# Batchify


def test_stack_types_and_shapes():
    assert batchify.Stack()([1, 2]).dtype == np.int64
    assert batchify.Stack()([0.5, 2.0]).dtype == np.float32
    assert batchify.Stack()([np.float64(0.5)]).dtype == np.float64
    assert batchify.Stack("float16")([[1, 2], [3, 4]]).dtype == np.float16
    with pytest.raises(errors.ShapeError, match="batchify.Pad"):
        batchify.Stack()([np.zeros(2), np.zeros(3)])


@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6), round_to=st.sampled_from([None, 1, 4]))
def test_pad(lengths, round_to):
    rows = [np.arange(1, n + 1, dtype=np.float32) for n in lengths]
    out, given_lengths = batchify.Pad(val=-1, round_to=round_to, ret_length=True)(rows)
    assert given_lengths.tolist() == lengths
    width = max(lengths)
    assert out.shape == (len(rows), -(-width // (round_to or 1)) * (round_to or 1))
    for row, n in zip(out, lengths, strict=True):
        assert row[:n].tolist() == list(range(1, n + 1)) and (row[n:] == -1).all()


def test_pad_axis_and_the_others():
    two = batchify.Pad(axis=0)([np.ones((2, 3)), np.ones((4, 3))])
    assert two.shape == (2, 4, 3) and two.sum() == 18
    with pytest.raises(errors.ShapeError, match="axis 0 only"):
        batchify.Pad(axis=0)([np.ones((2, 3)), np.ones((2, 4))])
    assert [a.shape for a in batchify.Append()([np.ones(2), np.ones(3)])] == [(1, 2), (1, 3)]
    assert batchify.AsList()(("a", "b")) == ["a", "b"]
    group = batchify.Group(batchify.Stack(), batchify.Pad())
    images, rows = group([(1, [1.0]), (2, [1.0, 2.0])])
    assert images.tolist() == [1, 2] and rows.tolist() == [[1, 0], [1, 2]]
    with pytest.raises(ValueError, match="2 elements, got 1"):
        group([(1,)])


def test_default_batchify_keeps_the_structure():
    samples = [({"x": np.zeros(2), "name": "a"}, 1.5), ({"x": np.ones(2), "name": "b"}, 2.5)]
    first, second = data.default_batchify_fn(samples)
    assert first["x"].shape == (2, 2) and first["name"] == ["a", "b"] and second.dtype == np.float32


# The loader


@pytest.mark.parametrize("kind", KINDS)
def test_loader_gives_every_sample_in_order(kind):
    loader = data.DataLoader(data.ArrayDataset(np.arange(10), np.arange(10) * 2.0), 4, **kind)
    batches = host(list(loader))
    assert len(loader) == len(batches) == 3
    assert [b[0].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[2][1].tolist() == [16, 18] and batches[0][1].dtype == np.float64
    assert len(host(list(loader))) == 3
    loader.close()


def test_results_do_not_depend_on_the_workers():
    runs = []
    for kind in [*KINDS, {"num_workers": 2, "prefetch": 3}]:
        loader = data.DataLoader(jitter(), 16, shuffle=True, **kind)
        runs.append([list(loader), list(loader)])
        loader.close()
    for first, second in runs[1:]:
        assert same(first, runs[0][0]) and same(second, runs[0][1])
    assert not same(runs[0][0], runs[0][1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last_batch", ["keep", "rollover"])
def test_resume_is_exact(kind, last_batch):
    def make():
        return data.DataLoader(jitter(), 16, shuffle=True, last_batch=last_batch, **kind)

    straight = data.DataLoader(jitter(), 16, shuffle=True, last_batch=last_batch)
    whole = [list(straight) for _ in range(3)]
    for stop in (0, 1, len(whole[1])) if kind != KINDS[1] else (1,):
        first = make()
        list(first)
        epoch = iter(first)
        for _ in range(stop):
            next(epoch)
        state = json.loads(json.dumps(first.state_dict()))
        assert state["epoch"] == 1 and state["batch"] == stop
        second = make()
        second.load_state_dict(state)
        assert same(list(second), whole[1][stop:])
        assert same(list(second), whole[2])
        assert second.state_dict()["epoch"] == 3 and second.state_dict()["batch"] == 0
        first.close(), second.close()


def test_state_in_the_middle_is_that_of_batches_given_out_not_made():
    loader = data.DataLoader(Numbers(40), 2, prefetch=8, **PROCESS)
    epoch = iter(loader)
    for _ in range(3):
        next(epoch)
    assert loader.state_dict()["batch"] == 3
    loader.load_state_dict({**loader.state_dict(), "batch": 5})
    assert host([next(iter(loader))])[0].tolist() == [10, 11]
    with pytest.raises(ValueError, match="state_dict"):
        loader.load_state_dict({"epoch": 1})
    loader.close()


def test_leaving_an_epoch_early_and_two_at_once():
    loader = data.DataLoader(Numbers(40), 4, **PROCESSES)
    for _ in range(3):
        assert to_numpy(next(iter(loader))).tolist() == [0, 1, 2, 3]
    pairs = [(to_numpy(a).tolist(), to_numpy(b).tolist()) for a, b in zip(loader, loader, strict=True)]
    assert len(pairs) == 10 and all(a == b for a, b in pairs)
    assert len(list(loader)) == 10
    loader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_own_batch_sampler_and_lists(kind):
    loader = data.DataLoader([10, 20, 30], batch_sampler=[[2, 0], [1]], **kind)
    assert [b.tolist() for b in host(list(loader))] == [[30, 10], [20]]
    loader.close()


def test_loader_arguments():
    numbers = Numbers(4)
    for wrong, message in [
        ({}, "batch_size, or batch_sampler"),
        ({"batch_size": 2, "batch_sampler": [[1]]}, "batch_sampler alone"),
        ({"batch_size": 2, "shuffle": True, "sampler": [1]}, "shuffle or sampler"),
        ({"batch_size": 2, "num_workers": -1}, "num_workers"),
        ({"batch_size": 2, "last_batch": "drop"}, "last_batch"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.DataLoader(numbers, **wrong)
    with pytest.raises(TypeError, match="__getitem__"):
        data.DataLoader(iter([]), 2)
    accepted = data.DataLoader(numbers, 2, pin_memory=True, pin_device_id=0, try_nopython=False)
    assert len(list(accepted)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_broken_samples_are_skipped_and_noted(kind):
    numbers = Numbers(8, {1: "broken", 4: "broken", 5: "broken", 6: "broken", 7: "broken"})
    loader = data.DataLoader(numbers.transform(float), 4, **kind)
    assert [b.tolist() for b in host(list(loader))] == [[0, 2, 3]]
    assert sorted(numbers.noted) == ["file1", "file4", "file5", "file6", "file7"]
    assert len(host(list(loader))) == 1
    loader.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_arrives_in_its_own_class_and_the_loader_goes_on(kind):
    loader = data.DataLoader(Numbers(6, {2: "raise"}), 2, **kind)
    epoch = iter(loader)
    assert to_numpy(next(epoch)).tolist() == [0, 1]
    with pytest.raises(LookupError, match="nothing at 2") as caught:
        next(epoch)
    if kind == KINDS[1]:
        assert "in __getitem__" in str(caught.value.__cause__)
    assert to_numpy(next(epoch)).tolist() == [4, 5]
    with pytest.raises(StopIteration):
        next(epoch)
    loader.close()


def test_an_exception_that_cannot_be_sent_arrives_as_text():
    loader = data.DataLoader(Numbers(2, {1: "raise unpicklable"}), 2, **PROCESS)
    with pytest.raises(errors.WorkerError, match="Unpicklable: two"):
        list(loader)
    loader.close()


@pytest.mark.parametrize(("fault", "message"), [("kill", "killed by SIGKILL"), ("exit", "exited with status 3")])
def test_a_dead_worker_is_reported_and_replaced(fault, message):
    numbers = Numbers(8, {5: fault})
    loader = data.DataLoader(numbers, 2, **PROCESS)
    with pytest.raises(errors.WorkerError, match=message):
        list(loader)
    assert children() == []
    numbers.faults.clear()
    assert len(list(loader)) == 4
    loader.close()


def test_time_out_ends_the_workers():
    loader = data.DataLoader(Numbers(4, {2: "hang"}), 2, num_workers=1, timeout=1.5)
    epoch = iter(loader)
    next(epoch)
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="batch within 1.5 seconds"):
        next(epoch)
    assert time.monotonic() - start < 5
    assert children() == []


def children():
    """Command lines of this process's living children that are workers."""
    path = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
    found = [pathlib.Path(f"/proc/{pid}/cmdline") for pid in path.read_text().split()]
    return [text for p in found if p.exists() and b"minimx_data_worker" in (text := p.read_bytes())]


def test_nothing_leaks():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()
    shared, before = set(os.listdir("/dev/shm")), descriptors()
    loader = data.DataLoader(Numbers(50), 5, **PROCESSES)
    next(iter(loader))
    assert len(children()) == 2 and descriptors() > before
    del loader
    gc.collect()
    assert children() == []
    assert descriptors() == before
    assert set(os.listdir("/dev/shm")) == shared


def test_workers_run_without_the_engine_and_with_seeded_libraries():
    loader = data.DataLoader(Numbers(2, dict.fromkeys(range(2), "engine")), 1, **PROCESS)
    assert not np.concatenate(host(list(loader))).any()
    loader.close()
    draws = []
    for workers in (1, 2):
        loader = data.DataLoader(Numbers(6, dict.fromkeys(range(6), "random")), 2, num_workers=workers)
        draws.append(np.concatenate(host(list(loader))))
        loader.close()
    assert (draws[0] == draws[1]).all() and len(set(draws[0])) == 6


def test_what_cannot_be_pickled_is_served_by_threads():
    loader = data.DataLoader(Numbers(4).transform(lambda x: x + 1), 2, num_workers=2)
    with pytest.warns(RuntimeWarning, match="Threads are used instead"):
        assert [b.tolist() for b in host(list(loader))] == [[1, 2], [3, 4]]
    assert children() == []
    loader.close()


def run_script(tmp_path, text):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=environment)


def test_a_script_without_main_guard(tmp_path):
    """Works while the dataset comes from modules, is refused with the way out when its class is in the script."""
    ran = run_script(
        tmp_path,
        """
        from minimx.gluon import data
        print("start")
        loader = data.DataLoader(list(range(6)), 2, num_workers=2)
        print(len(list(loader)))
        """,
    )
    assert ran.stdout.split() == ["start", "3"], ran.stderr
    refused = run_script(
        tmp_path,
        """
        from minimx.gluon import data
        class Mine(data.Dataset):
            def __len__(self): return 6
            def __getitem__(self, i): return i
        loader = data.DataLoader(Mine(), 2, num_workers=2)
        print(len(list(loader)))
        """,
    )
    assert refused.returncode == 1 and "if __name__ == '__main__':" in refused.stderr.splitlines()[-1]


def test_a_class_in_a_guarded_script_and_exit_with_work_in_flight(tmp_path):
    ran = run_script(
        tmp_path,
        """
        from minimx.gluon import data
        class Mine(data.Dataset):
            def __len__(self): return 60
            def __getitem__(self, i): return float(i)
        if __name__ == "__main__":
            loader = data.DataLoader(Mine(), 2, num_workers=2)
            print(next(iter(loader)).tolist())
        """,
    )
    assert ran.returncode == 0 and ran.stdout.strip() == "[0.0, 1.0]" and not ran.stderr, ran.stderr


def test_workers_end_with_a_killed_loader(tmp_path):
    """Also those in the middle of a sample that takes for ever."""
    script = """
        import os, signal
        from minimx.gluon import data
        from test_data import Numbers, children
        loader = data.DataLoader(Numbers(8, {3: "hang"}), 1, num_workers=2)
        epoch = iter(loader)
        next(epoch), next(epoch)
        print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    ran = run_script(tmp_path, script)
    pids = ran.stdout.split()
    assert ran.returncode == -signal.SIGKILL and len(pids) == 2, ran.stderr
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    """False for processes that are gone, and for dead ones whom nobody has waited for."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_in_memory_arrays_are_shared_and_private():
    """Workers map one copy of the dataset, and may write to their view of it without others seeing it."""
    array = np.arange(1000.0)
    loader = data.DataLoader(data.SimpleDataset(array).transform(Scribble(array)), 10, **PROCESS)
    batches = np.concatenate(host(list(loader)))
    assert (batches == np.arange(1000.0)).all() and array[0] == 0
    loader.close()


class Scribble:
    def __init__(self, array):
        self.array = array

    def __call__(self, x):
        value = self.array[int(x)]
        self.array[int(x)] = -1
        return value


@pytest.mark.parametrize("kind", KINDS)
def test_minimx_arrays_as_dataset(kind):
    """They give minimx samples by hand, numpy samples to transforms in a loader, and minimx batches."""
    x, y = mx.np.arange(12.0).reshape(6, 2), np.arange(6)
    dataset = data.ArrayDataset(x, y)
    assert isinstance(dataset[1][0], mx.ndarray) and dataset[1][0].asnumpy().tolist() == [2, 3]
    loader = data.DataLoader(dataset.transform_first(only_numpy).take(4), 3, **kind)
    batches = host(list(loader))
    assert [b[0].tolist() for b in batches] == [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]
    loader.close()


def only_numpy(x):
    assert type(x) is np.ndarray
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_minimx_arrays_from_a_transform(kind):
    """A transform may ask for the engine: then its worker loads it."""
    loader = data.DataLoader(data.SimpleDataset([1.0, 2.0, 3.0]).transform(with_engine), 2, **kind)
    assert [b.tolist() for b in host(list(loader))] == [[[2, 2]] * 1 + [[4, 4]], [[6, 6]]]
    loader.close()


def with_engine(x):
    return mx.np.ones(2) * x * 2


def test_seed_of_the_library_orders_the_loader():
    def orders(seed):
        mx.random.seed(seed)
        loader = data.DataLoader(list(range(20)), 20, shuffle=True)
        return [to_numpy(b).tolist() for _ in range(2) for b in loader]

    assert orders(1) == orders(1) != orders(2)


# Random numbers


def test_generator_is_keyed_by_seed_epoch_and_sample():
    def draw(*place):
        rng.enter(*place)
        try:
            return rng.generator().random()
        finally:
            rng.leave()

    values = [draw(s, e, i) for s in (0, 1) for e in (0, 1) for i in (0, 1, "name")]
    assert len(set(values)) == len(values)
    assert draw(1, 1, "name") == values[-1]
    assert rng.generator().random() != rng.generator().random()


# Readers


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes()) if path.suffix == ".gz" else head + array.tobytes())


@pytest.mark.parametrize("cls", [vision.MNIST, vision.FashionMNIST])
def test_mnist(tmp_path, cls):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    with pytest.raises(FileNotFoundError, match=r"Download http.*train-images-idx3-ubyte.gz"):
        cls(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    dataset = cls(tmp_path)
    assert len(dataset) == 5 and (dataset[3][0] == images[3][..., None]).all() and dataset[3][1] == 3
    assert dataset[0][1].dtype == np.int32
    assert cls(tmp_path, transform=lambda x, y: y)[2] == 2
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\5ab")
    with pytest.raises(errors.FileFormatError, match=r"\(5,\) bytes of data, got 2"):
        cls(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images.tobytes())[:99])
    with pytest.raises(errors.FileFormatError, match="gzip"):
        cls(tmp_path)


def test_cifar(tmp_path):
    import tarfile

    rows = np.random.default_rng(0).integers(0, 10, (3, 3074), dtype=np.uint8)
    with pytest.raises(FileNotFoundError, match="cifar-10-binary.tar.gz"):
        vision.CIFAR10(tmp_path / "none")
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}.bin").write_bytes(rows[:, 1:].tobytes())
    ten = vision.CIFAR10(tmp_path)
    assert len(ten) == 15 and ten[4][1] == rows[1, 1] and ten[4][0].shape == (32, 32, 3)
    assert (ten[4][0][:, :, 2] == rows[1, 2 + 2048 :].reshape(32, 32)).all()
    (tmp_path / "train.bin").write_bytes(rows.tobytes())
    with tarfile.open(tmp_path / "cifar-100-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "train.bin", "cifar-100-binary/train.bin")
    (tmp_path / "train.bin").unlink()
    assert vision.CIFAR100(tmp_path)[1][1] == rows[1, 0]
    assert vision.CIFAR100(tmp_path, fine_label=True)[1][1] == rows[1, 1]
    with pytest.raises(errors.FileFormatError, match=r"test\.bin"):
        vision.CIFAR100(tmp_path, train=False)
    (tmp_path / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(errors.FileFormatError, match="records of 3073 bytes, got 5"):
        vision.CIFAR10(tmp_path)


def test_digits():
    train, valid = vision.Digits(), vision.Digits(train=False)
    assert (len(train), len(valid)) == (1442, 355)
    image, label = train[0]
    assert image.shape == (8, 8, 1) and image.dtype == np.uint8 and label.dtype == np.int32
    images = np.stack([x for x, _ in train])
    assert images.min() == 0 and images.max() == 255
    counts = np.bincount([y for _, y in valid])
    assert len(counts) == 10 and counts.min() >= 34
    big = vision.Digits(size=32, channels=3)[0][0]
    assert big.shape == (32, 32, 3) and (big[..., 0] == big[..., 2]).all()
    assert abs(big.mean() - image.mean()) < 3


# Images in folders


@pytest.fixture
def folder(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for name, level in (("cat", 10), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (12 + i, 10), (level, i, 0)).save(tmp_path / name / f"{i}.png")
    Image.new("L", (9, 9), 77).save(tmp_path / "dog" / "grey.JPG", "JPEG")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_image_folder(folder):
    dataset = vision.ImageFolderDataset(folder)
    assert dataset.synsets == ["cat", "dog"] and len(dataset) == 7
    image, label = dataset[4]
    assert image.shape == (10, 13, 3) and image[0, 0].tolist() == [200, 1, 0] and label == 1
    assert dataset[6][0].shape == (9, 9, 3)
    assert vision.ImageFolderDataset(folder, flag=0)[0][0].shape == (10, 12, 1)
    with pytest.raises(IndexError):
        dataset[7]
    listed = vision.ImageListDataset(folder, [[3, "cat/0.png"], [1, 2, "dog/0.png"]])
    assert listed[0][1] == 3 and listed[1][1].tolist() == [1, 2]
    (folder / "list.tsv").write_text("0\t5\tcat/1.png\n1\t6\tdog/1.png\n")
    assert vision.ImageListDataset(folder, folder / "list.tsv")[1][1] == 6


@pytest.mark.parametrize("kind", KINDS)
def test_broken_images_are_counted_once_and_never_fatal(folder, kind):
    (folder / "cat" / "1.png").write_bytes(b"no image")
    whole = (folder / "dog" / "grey.JPG").read_bytes()
    (folder / "dog" / "grey.JPG").write_bytes(whole[: len(whole) // 2])
    dataset = vision.ImageFolderDataset(folder)
    loader = data.DataLoader(dataset.transform_first(T.Resize(8)), 2, **kind)
    for _ in range(2):
        assert sum(len(y) for _, y in host(list(loader))) == 5
        assert dataset.broken == 2
    assert {os.path.basename(name) for name in dataset.broken_files} == {"1.png", "grey.JPG"}
    loader.close()
    with pytest.raises(errors.FileFormatError, match=r"cat/1\.png: expected an image that Pillow can read"):
        vision.ImageFolderDataset(folder, skip_broken=False)[1]


def test_image_folder_errors(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such folder.*CLASS/NAME.jpg"):
        vision.ImageFolderDataset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="got a file"):
        vision.ImageFolderDataset(folder / "cat" / "0.png")
    with pytest.raises(errors.FileFormatError, match="a folder for each class"):
        vision.ImageFolderDataset(folder / "cat")
    (folder / "emu").mkdir()
    with pytest.raises(errors.FileFormatError, match=r"at least one image .* none in .*emu"):
        vision.ImageFolderDataset(folder)
    (folder / "emu").rmdir()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'minimx\[vision\]'"):
        vision.ImageFolderDataset(folder)[0]


# Transforms


def picture(h=20, w=30, c=3, dtype=np.uint8):
    x = np.random.default_rng(1).integers(0, 256, (h, w, c))
    return x.astype(dtype)


def test_tensor_and_normalize():
    x = picture()
    y = T.ToTensor()(x)
    assert y.shape == (3, 20, 30) and y.dtype == np.float32
    np.testing.assert_allclose(y, x.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert T.ToTensor()(np.stack([x, x])).shape == (2, 3, 20, 30)
    z = T.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])(y)
    np.testing.assert_allclose(z[1], (y[1] - 0.2) / 0.6, rtol=1e-5)
    assert T.Normalize(0.5, 0.5)(y).dtype == np.float32
    assert T.Cast("float16")(x).dtype == np.float16
    assert T.ToTensor()(x, 7)[1] == 7
    with pytest.raises(errors.ShapeError, match="Put ToTensor"):
        T.Normalize()(x)
    with pytest.raises(errors.ShapeError, match="1 or 3 values"):
        T.Normalize([1, 2])(y)
    with pytest.raises(ValueError, match="without zeros"):
        T.Normalize(0, 0)


def test_sizes_are_width_then_height():
    x = picture(20, 30)
    for t in (T.Resize((9, 7)), T.CenterCrop((9, 7)), T.RandomCrop((9, 7)), T.RandomResizedCrop((9, 7))):
        assert t(x).shape == (7, 9, 3), t
    assert T.Resize(10, keep_ratio=True)(x).shape == (10, 15, 3)
    assert T.Resize(10)(x).shape == (10, 10, 3)
    assert T.CenterCrop(40)(x).shape == (40, 40, 3)
    assert (T.CropResize(2, 3, 9, 7)(x) == x[3:10, 2:11]).all()
    assert T.CropResize(2, 3, 9, 7, (4, 5))(x).shape == (5, 4, 3)
    assert (T.CenterCrop((10, 20))(x) == x[:, 10:20]).all()
    with pytest.raises(ValueError, match="inside the image of width 30"):
        T.CropResize(25, 0, 9, 7)(x)
    with pytest.raises(ValueError, match="positive size"):
        T.Resize(0)


def test_random_crop_with_padding_covers_the_border():
    x = np.full((8, 8, 1), 9, np.uint8)
    seen = np.zeros((8, 8), bool)
    for _ in range(60):
        y = T.RandomCrop(8, pad=2)(x)
        assert y.shape == x.shape
        seen |= y[..., 0] == 0
    assert seen[0].any() and seen[:, 0].any() and not seen[2:6, 2:6].any()


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    interp=st.sampled_from([0, 1, 3, 4]),
    channels=st.sampled_from([1, 3]),
)
def test_resize_is_the_same_by_pillow_and_by_matrices(size, out, interp, channels):
    pytest.importorskip("PIL")
    from minimx import image

    x = 64 + picture(*size, channels) // 2  # Pillow clips between its two passes, where filters overshoot
    by_pillow = image.imresize(x, *out, interp)
    by_matrix = image.resize_matrix(x, *out, interp)
    assert by_pillow.shape == by_matrix.shape == (out[1], out[0], channels)
    if interp:  # nearest may round a tie the other way
        assert np.abs(by_pillow.astype(int) - by_matrix).max() <= 2
    assert image.imresize(x.astype(np.float32), *out, interp).dtype == np.float32


def test_flips_happen_about_half_the_time():
    x = picture()
    for t, mirrored in ((T.RandomFlipLeftRight(), x[:, ::-1]), (T.RandomFlipTopBottom(), x[::-1])):
        results = [t(x) for _ in range(200)]
        flipped = sum((y == mirrored).all() for y in results)
        assert 60 < flipped < 140 and all((y == x).all() or (y == mirrored).all() for y in results)
    assert (T.RandomFlipLeftRight(p=1)(x) == x[:, ::-1]).all() and (T.RandomFlipLeftRight(p=0)(x) == x).all()
    with pytest.raises(ValueError, match="from 0 to 1"):
        T.RandomFlipLeftRight(p=2)


def test_rotation():
    x = picture(21, 21, 3, np.float32)
    np.testing.assert_allclose(T.Rotate(90)(x), np.rot90(x), atol=1e-2)
    np.testing.assert_allclose(T.Rotate(0)(x), x, atol=1e-3)
    ones = np.full((20, 30, 1), 100, np.uint8)
    assert T.Rotate(30)(ones).min() == 0
    assert T.Rotate(30, zoom_in=True)(ones).min() >= 99
    wide = T.Rotate(45, zoom_out=True)(ones)
    assert wide.shape == ones.shape and wide[0, 0, 0] == 0 and wide[10, 15, 0] == 100
    assert T.RandomRotation((-10, 10), rotate_with_proba=0)(x) is x
    assert T.RandomRotation((90, 90))(x).shape == x.shape
    with pytest.raises(ValueError, match="zoom_in or zoom_out"):
        T.Rotate(3, True, True)


COLORS = [
    T.RandomBrightness(0.5),
    T.RandomContrast(0.5),
    T.RandomSaturation(0.5),
    T.RandomHue(0.5),
    T.RandomColorJitter(0.4, 0.4, 0.4, 0.4),
    T.RandomLighting(0.5),
    T.RandomGray(1.0),
]


@pytest.mark.parametrize("t", COLORS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_colors_keep_type_and_input(t, dtype):
    x = picture(dtype=dtype)
    before = x.copy()
    y = t(x)
    assert y.shape == x.shape and y.dtype == x.dtype and (x == before).all() and not (y == x).all()


def test_colors_do_what_they_say():
    x = picture(dtype=np.float32)
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)
    ratio = T.RandomBrightness(0.5)(x) / np.where(x == 0, 1, x)
    assert np.ptp(ratio[x > 0]) < 1e-5 and 0.5 <= ratio[x > 0].mean() <= 1.5
    np.testing.assert_allclose(T.RandomSaturation(0.5)(x) @ [0.299, 0.587, 0.114], luma, rtol=1e-3)
    np.testing.assert_allclose(T.RandomHue(0.5)(x) @ [0.299, 0.587, 0.114], luma, rtol=1e-2, atol=0.5)
    np.testing.assert_allclose(T.RandomGray(1)(x)[..., 1], luma, rtol=1e-5)
    shift = T.RandomLighting(1.0)(x) - x
    assert np.ptp(shift[..., 0]) < 1e-3
    white = np.full((4, 4, 3), 255, np.uint8)
    assert T.RandomContrast(0.9)(white).min() >= 254
    assert (T.RandomColorJitter()(x) == x).all()
    with pytest.raises(errors.ShapeError, match="RGB image"):
        T.RandomGray(1.0)(picture(c=1))


def test_compose_and_random_apply():
    x = picture()
    steps = T.Compose([T.Resize(8), T.ToTensor(), lambda v: v * 2])
    assert steps(x).shape == (3, 8, 8) and steps(x, 1)[1] == 1 and len(steps) == 3
    assert T.HybridCompose([T.Cast()])(x).dtype == np.float32
    applied = [T.RandomApply(T.Cast(), p=0.5)(x).dtype == np.float32 for _ in range(100)]
    assert 25 < sum(applied) < 75
    assert T.HybridRandomApply([T.Cast(), T.RandomFlipLeftRight(1)], p=0)(x) is x
    with pytest.raises(ValueError, match="functions, got a int"):
        T.Compose([3])
    assert "Resize(size=(8, 8)" in repr(T.Resize(8))


# Image functions


def test_image_functions_on_numpy(folder):
    from minimx import image

    x = picture(20, 30)
    assert image.decode((folder / "cat" / "0.png").read_bytes()).shape == (10, 12, 3)
    crop, box = image.center_crop(x, (10, 8))
    assert box == (10, 6, 10, 8) and (crop == x[6:14, 10:20]).all()
    crop, (x0, y0, w, h) = image.random_crop(x, (10, 8))
    assert (crop == x[y0 : y0 + h, x0 : x0 + w]).all() and (w, h) == (10, 8)
    assert image.resize_short(x, 10).shape == (10, 15, 3)
    normal = image.color_normalize(x, np.array([1, 2, 3]), 2.0)
    np.testing.assert_allclose(normal, (x - np.array([1.0, 2, 3])) / 2)
    with pytest.raises(FileNotFoundError):
        image.decode(str(folder / "none.png"))
    with pytest.raises(errors.ShapeError, match=r"\(H, W, C\)"):
        image.imresize(np.zeros((2, 2)), 3, 3)


def test_image_functions_and_transforms_on_minimx_arrays(folder):
    image = mx.image.imread(folder / "dog" / "0.png")
    assert isinstance(image, mx.ndarray) and image.shape == (10, 12, 3) and image.dtype == np.uint8
    assert mx.image.imread(folder / "dog" / "0.png", to_rgb=False).asnumpy()[0, 0].tolist() == [0, 0, 200]
    decoded = mx.image.imdecode((folder / "dog" / "0.png").read_bytes(), flag=0)
    assert decoded.shape == (10, 12, 1)
    for f in (T.Resize(8), T.CenterCrop(8), T.RandomCrop(8), T.RandomResizedCrop(8), T.RandomFlipLeftRight(1)):
        y = f(image)
        assert isinstance(y, mx.ndarray), f
        assert (y.asnumpy() == 200)[..., 0].all()
    tensor = T.Compose([T.RandomFlipLeftRight(), T.ToTensor(), T.Normalize(0.5, 0.5)])(image)
    assert isinstance(tensor, mx.ndarray) and tensor.shape == (3, 10, 12) and tensor.dtype == np.float32
    assert isinstance(mx.image.imresize(image, 5, 4), mx.ndarray)
    assert isinstance(mx.image.color_normalize(image, mx.np.array([1.0, 2, 3])), mx.ndarray)
