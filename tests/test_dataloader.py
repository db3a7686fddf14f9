"""The DataLoader: processes and threads give the same, resume is exact, crashes are reported, nothing leaks."""

import gc
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time
import types

import numpy as np
import pytest

import minimx as mx
from minimx import errors
from minimx._bridge import to_numpy
from minimx.gluon import data
from minimx.gluon.data import vision
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


@pytest.mark.cpu_only("counts the system's files, of which tests side by side make more")
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
        from test_dataloader import Numbers, children
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.cpu_only("plays a GPU itself")
def test_pinned_batches(kind, monkeypatch):
    """On a machine that seems to have a GPU: batches are copies, in memory that it gave."""
    from minimx.ndarray import _core  # here: workers import this file, without the engine

    given = []

    def pinned(size):
        given.append(size)
        return np.empty(size, "uint8")

    monkeypatch.setattr("minimx.device.cuda", lambda: types.SimpleNamespace(pinned=pinned))
    monkeypatch.setattr("minimx.device.num_gpus", lambda: 1)
    numbers = np.arange(30, dtype="float32").reshape(10, 3)
    loader = data.DataLoader(numbers, 4, pin_memory=True, **kind)
    plain = data.DataLoader(numbers, 4, pin_memory=True, pin_device_id=1)  # which is not there
    batches = list(loader)
    assert len(given) >= len(batches)
    for x, y in zip(batches, plain, strict=True):
        assert _core.is_pinned(x) and not _core.is_pinned(y)
        assert x.dtype == y.dtype and (x.asnumpy() == y.asnumpy()).all()
    loader.close()


def test_prefetch_to_a_device_that_is_not_there():
    with pytest.raises(mx.errors.DeviceError, match="DataLoader: expected a GPU that is here"):
        iter(data.DataLoader([1, 2], 2, prefetch_to_device=mx.gpu(63)))
