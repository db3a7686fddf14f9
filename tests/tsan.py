"""Threads of Python over a _core that was compiled with -fsanitize=thread: ``make test-tsan``. Not a test of pytest's.

Covers engine, runtime, bind layer and the kernels of csrc/cpu, as four Python threads use them: one array, one
hybridized net with one arena, autograd, callbacks, bulks, replayed training loops, random numbers, products on the
worker, with the profiler on and off. TSAN knows Python's lock, which is a mutex. It does not cover what it does not
see: oneDNN and libgomp are not compiled with it, so there is one OpenMP thread and no team, and what is inside them is
left out (SUPPRESSIONS), as is glibc's reuse of the thread-local memory of threads that have ended; NumPy and the
interpreter are not compiled with it. Every run also plants a race, two arrays over one memory that the engine does not
know to be one, which must be found.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SUPPRESSIONS = "race:libgomp.so\nrace:libdnnl\ncalled_from_lib:libdnnl.so\nrace:_dl_deallocate_tls\n"
FOUND = 66  # exit status when TSAN has reported
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """The parent: a package with the _core of the folder in argv[1], and two children that use it."""
    (core,) = Path(sys.argv[1]).resolve().glob("_core*.so")
    library = subprocess.check_output(["gcc", "-print-file-name=libtsan.so"], text=True).strip()
    with tempfile.TemporaryDirectory() as folder:
        package, settings = Path(folder, "minimx"), Path(folder, "suppressions")
        package.mkdir()
        settings.write_text(SUPPRESSIONS)
        for file in (ROOT / "minimx").iterdir():
            if file.suffix != ".so":
                (package / file.name).symlink_to(file)
        (package / core.name).symlink_to(core)
        Path(folder, "csrc").symlink_to(ROOT / "csrc")  # headers of kernels that are compiled on the way
        options = f"suppressions={settings} exitcode={FOUND} history_size=4 halt_on_error=1"
        environment = {"OMP_NUM_THREADS": "1", "LD_PRELOAD": library, "TSAN_OPTIONS": options, "PYTHONPATH": folder}
        for what, want in (("threads", 0), ("race", FOUND)):
            command = [sys.executable, __file__, "--child", what]
            quiet = subprocess.DEVNULL if want else None
            got = subprocess.run(command, env=os.environ | environment, stderr=quiet, timeout=900).returncode
            if got != want:
                sys.exit(f"tests/tsan.py: expected '{what}' to exit with {want}, got {got}.")
            print(f"{what}: as it should be", flush=True)


def threads() -> None:
    """Four threads at once, whose work is drawn by lot."""
    from concurrent.futures import ThreadPoolExecutor

    import minimx as mx
    from minimx import profiler

    mx.engine.set_num_threads(1)
    sys.setswitchinterval(1e-4)
    jobs = {job.__name__: job for job in work_of(mx)}
    jobs["replay"](0)
    assert mx.engine.bulk_counts()["programs"] > 0  # so it is what it is called

    def work(k):
        drawn = random.Random(k)
        for _ in range(40):
            jobs[drawn.choice(sorted(jobs))](k)

    for profiled in (False, True):
        if profiled:
            profiler.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        mx.waitall()
    profiler.stop()
    assert profiler.dumps(reset=True)


def work_of(mx) -> list:
    """What threads do, as functions of their number."""
    from minimx import autograd
    from minimx.gluon import nn

    net = nn.HybridSequential()
    net.add(nn.Dense(64, in_units=64, activation="relu"), nn.LayerNorm(in_channels=64), nn.Dense(64, in_units=64))
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    shared, big = mx.np.zeros(3000), mx.np.ones((300, 300))

    def add(k):
        shared[:] = shared + 1

    def train(k):
        x = mx.np.ones((8 + k, 64))
        x.attach_grad()
        with autograd.record():
            loss = (net(mx.np.tanh(x * x)) ** 2).sum()
        loss.backward()
        x.grad.asnumpy()

    def call(k):
        z = mx.np.zeros(3)
        mx.engine.push(lambda: z.__iadd__(1), writes=[z])
        assert z.sum().item() == 3

    def gather(k):
        with mx.engine.bulk(5):
            y = big
            for _ in range(6):
                y = y + 1
        assert y[0, 0].item() == 7

    w = [mx.np.ones((6, 6)) for _ in range(4)]
    for each in w:
        each.attach_grad()

    def replay(k):
        x = mx.np.ones((3 + k, 6))
        with mx.engine.replay():
            for _ in range(14):  # the last ones as one program
                with autograd.record():
                    loss = (mx.np.tanh(x @ w[k]) ** 2).mean()
                loss.backward()
                w[k] -= 0.01 * w[k].grad
                assert 0 < loss.item() < 2

    def multiply(k):
        assert (big @ big)[0, 0].item() == 300

    def infer(k):
        net(mx.np.random.normal(size=(8 + k, 64))).asnumpy()

    def measure(k):
        assert mx.device.memory_info(mx.cpu())["used"] > 0

    return [add, train, call, gather, replay, multiply, infer, measure]


def race() -> None:
    """The engine takes the two for different memory."""
    import numpy

    import minimx as mx
    from minimx.ndarray import _core

    mx.engine.set_num_threads(1)
    memory = numpy.ones(1 << 23, "float32")  # so large that no caller would do it
    a, b = (_core.borrow(memory, "float32") for _ in range(2))
    a += 1  # on the worker
    with mx.engine.sync():
        b += 1  # here
    mx.waitall()


if __name__ == "__main__":
    {"threads": threads, "race": race}[sys.argv[2]]() if "--child" in sys.argv else main()
