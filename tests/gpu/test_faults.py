"""What goes wrong on a GPU, and what is left working after it: devices, memory, compilers, forks, kernels, exits."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import CompileError, DeviceError
from minimx.gluon import nn
from minimx.rtc.cuda import FACTORIES
from minimx.rtc.cuda.recipe import Launch, Operand, Recipe, code

from .programs import run

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]

CPU, GPU = mx.cpu(), mx.gpu(0)


# --- devices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda d: mx.np.ones(3, device=d),
        lambda d: mx.np.array([1, 2], ctx=d),
        lambda d: mx.np.ones(3).to_device(d),
        lambda d: mx.np.ones(3).copyto(d),
        lambda d: d.__enter__(),
        lambda d: nn.Dense(2, in_units=2).initialize(ctx=d),
        mx.device.memory_info,
        lambda d: d.empty_cache(),
    ],
)
@pytest.mark.parametrize("number", [99, -1])
def test_a_device_that_is_not_there(use, number):
    with pytest.raises(DeviceError, match=rf"gpu\({number}\) of {mx.num_gpus()}"):
        use(mx.gpu(number))
    assert mx.current_device() == GPU and (mx.np.ones(3) + 1).sum().item() == 6


@pytest.mark.parametrize(
    "mix",
    [
        lambda a, b: a + b,
        lambda a, b: b * a,
        lambda a, b: a @ b,
        lambda a, b: mx.np.concatenate([a, b]),
        lambda a, b: mx.np.where(a > 0, a, b),
        lambda a, b: mx.npx.fully_connected(a, b, num_hidden=4, no_bias=True),
    ],
)
def test_operands_on_two_devices(mix):
    a, b = mx.np.ones((4, 4)), mx.np.ones((4, 4), device=CPU)
    with pytest.raises(DeviceError, match=r"gpu\(0\)") as caught:
        mix(a, b)
    assert "cpu(0)" in str(caught.value) and "to_device()" in str(caught.value)


@pytest.mark.parametrize("here, there", [(GPU, CPU), (CPU, GPU)], ids=["gpu", "cpu"])
def test_out_on_another_device(here, there):
    x, out = mx.np.ones((4, 4), device=here), mx.np.zeros((4, 4), device=there)
    for function in (lambda: mx.np.add(x, x, out=out), lambda: mx.np.sqrt(x, out=out)):
        with pytest.raises(DeviceError, match="expected an output on"):
            function()
    assert out.asnumpy().sum() == 0
    x.copyto(out)
    assert out.device == there and out.asnumpy().sum() == 16


def test_numbers_belong_to_no_device():
    x = mx.np.ones(3)
    assert (2 * x + np.float32(1)).device == GPU and (x + np.ones(3, "float32")).device == GPU


class Holds(gluon.HybridBlock):
    """Adds an array that is no parameter."""

    def __init__(self, kept):
        super().__init__()
        self.kept = kept

    def forward(self, x):
        return x * 2 + self.kept


@pytest.mark.parametrize("here, there", [(GPU, CPU), (CPU, GPU)], ids=["gpu", "cpu"])
@pytest.mark.parametrize("hybridize", [False, True], ids=["imperative", "hybridized"])
def test_a_block_that_holds_an_array_of_another_device(here, there, hybridize):
    block = Holds(mx.np.ones(3, device=there))
    if hybridize:
        block.hybridize()
    x = mx.np.ones(3, device=here)
    for _ in range(2):
        with pytest.raises(DeviceError, match="to_device"):
            block(x)
    block.kept = block.kept.to_device(here)
    assert block(x).asnumpy().tolist() == [3, 3, 3]


# --- memory ------------------------------------------------------------------------------------------------------

TOO_MANY = 32768  # samples of which a layer's outputs would fill the GPU twice


class Wide(gluon.HybridBlock):
    """(N, 1) -> (N, units): one weight a unit, so that the weights are small and the outputs large."""

    def __init__(self, units):
        super().__init__()
        self.weight = gluon.Parameter("weight", shape=(units,), init="ones")

    def forward(self, x):
        return mx.npx.relu(x * 0.5 + 1) * self.weight.data()


def train(net, trainer, samples: int) -> float:
    """One step on the sum of the squared outputs of a sample; its value before it."""
    x = mx.np.zeros((samples, 1))
    with autograd.record():
        y = net(x)
        loss = (y * y).sum() / samples
    loss.backward()
    trainer.step(1)
    return loss.item()


def used() -> int:
    """Bytes of live arrays, with those freed that only wait for the collector."""
    mx.waitall()
    gc.collect()
    return mx.device.memory_info(GPU)["used"]


def out_of_memory(net, trainer) -> str:
    """The words of a step that does not fit. (pytest.raises would keep the arrays of its frames.)"""
    try:
        train(net, trainer, TOO_MANY)
    except MemoryError as error:
        return str(error)
    raise AssertionError("the step fits")


@pytest.mark.parametrize("hybridize", [False, True], ids=["imperative", "hybridized"])
def test_out_of_memory_in_a_training_step(hybridize):
    """The message lists what uses memory, the memory of the step comes back, and smaller batches go on."""
    total = mx.device.gpu_memory_info(0)[1]
    net = Wide(2 * total // (4 * TOO_MANY))
    net.initialize()
    if hybridize:
        net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    first = train(net, trainer, 2)
    before = used()
    for _ in range(2):
        text = out_of_memory(net, trainer)
        head, *table = text.splitlines()
        assert "free on gpu(0) for " in head and "Arrays use" in head
        rows = [line for line in table if " MiB in " in line]
        assert rows and all(" arrays of " in line for line in rows)
        assert rows == sorted(rows, key=lambda line: -float(line.split()[0]))
        assert "smaller batch" in table[-1]
        assert not autograd.is_recording()
        assert abs(used() - before) < 1 << 20  # a graph keeps its constants
    losses = [train(net, trainer, samples) for samples in (2, 4, 2)]
    assert np.isfinite(losses).all() and losses[0] < first


def test_caches_are_freed_before_memory_runs_out():
    """Blocks that are only kept do not stand in the way of an allocation of another size."""
    piece = 64 << 20
    GPU.empty_cache()
    arrays = [mx.np.zeros(piece // 4) for _ in range(4)]
    del arrays
    used()
    assert mx.device.memory_info(GPU)["cached"] >= 4 * piece
    try:
        mx.np.empty(4 * mx.device.gpu_memory_info(0)[1] // 4)
    except MemoryError:
        pass
    assert mx.device.memory_info(GPU)["cached"] == 0
    assert mx.np.ones(piece // 4).sum().item() == piece // 4


# --- the compiler ------------------------------------------------------------------------------------------------

BROKEN = """\
extern "C" __global__ void KERNEL(long long* y) {
  y[0] = not_declared + 1;
}
"""


def one_launch(name: str, text: str):
    """A factory whose kernel gets the last operand, and only that."""
    return lambda ins, outs, attrs: Recipe((Launch(code(name, text), (1, 1, 1), (1, 1, 1), (Operand(len(ins)),)),))


def test_a_kernel_that_does_not_compile(monkeypatch):
    """The whole report at the call; nothing of it stays."""
    x = mx.np.arange(31).reshape(31, 1)
    monkeypatch.setitem(FACTORIES, "argreduce", one_launch("broken", BROKEN))
    for _ in range(2):
        with pytest.raises(CompileError) as caught:
            mx.np.argmax(x, axis=0)
        text = str(caught.value)
        assert "kernel broken_" in text and "sm_" in text and "options: -std=c++17" in text
        assert "   3 |   y[0] = not_declared + 1;" in text and text.count("not_declared") >= 2
    monkeypatch.undo()
    assert mx.np.argmax(x, axis=0).item() == 30
    assert (x + 1).sum().item() == 31 * 32 / 2


def test_a_graph_whose_kernel_does_not_compile(monkeypatch):
    """A hybridized block raises at its call, and works once the text is right."""

    class Best(gluon.HybridBlock):
        def forward(self, x):
            return mx.np.argmax(mx.npx.relu(x), axis=1)

    net, x = Best(), mx.np.arange(26).reshape(2, 13)
    net.hybridize()
    monkeypatch.setitem(FACTORIES, "argreduce", one_launch("broken", BROKEN))
    with pytest.raises(CompileError, match="not_declared"):
        net(x)
    monkeypatch.undo()
    assert net(x).asnumpy().tolist() == [12, 12]


# --- forks -------------------------------------------------------------------------------------------------------


def test_a_forked_child_is_told_and_its_parent_goes_on():
    out = run("""
        import os
        import minimx as mx

        x = mx.np.ones((64, 64), device=mx.gpu(0))
        y = x @ x
        child = os.fork()
        if not child:
            status = 1
            try:
                mx.np.ones(3, device=mx.gpu(0))
            except mx.errors.DeviceError as error:
                status = 0 if "fork" in str(error) and "spawn" in str(error) else 2
            try:
                y.asnumpy()
                status = 3
            except mx.errors.DeviceError:
                pass
            if (mx.np.ones((300, 300)) @ mx.np.ones((300, 300))).sum().item() != 300**3:
                status = 4
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), y.asnumpy().sum(), (y + x).sum().item())
    """)
    assert out.split() == ["0", str(64.0**3), str(64.0**3 + 64**2)]


def test_a_forked_child_drops_its_parents_arrays():
    """Freeing them in the child is none of the driver's business."""
    out = run("""
        import gc, os
        import minimx as mx

        x = [mx.np.ones((64, 64), device=mx.gpu(0)) for _ in range(5)]
        child = os.fork()
        if not child:
            del x
            gc.collect()
            mx.waitall()
            print((mx.np.ones(3) + 1).sum().item(), flush=True)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sum(x).sum().item())
    """)
    assert out.split() == ["6.0", "0", str(5 * 64.0**2)]


def test_a_forked_child_leaves_as_usual():
    """Through the interpreter's own end, with arrays of its parent in its hands."""
    out = run("""
        import os, sys
        import minimx as mx

        x = mx.np.ones((64, 64), device=mx.gpu(0)) + 1
        child = os.fork()
        if not child:
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), x.sum().item())
    """)
    assert out.split() == ["0", str(2 * 64.0**2)]


def test_a_fork_before_cuda_was_started():
    """A child may be the first to use the GPU."""
    out = run("""
        import os
        import minimx as mx

        child = os.fork()
        if not child:
            ok = mx.np.ones((64, 64), device=mx.gpu(0)).sum().item() == 64**2
            os._exit(0 if ok else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), mx.np.ones(3, device=mx.gpu(0)).sum().item())
    """)
    assert out.split() == ["0", "3.0"]


def test_spawned_processes_use_the_gpu(tmp_path):
    """multiprocessing's other way, with arrays of the GPU as arguments and results."""
    path = tmp_path / "spawned.py"
    path.write_text(
        """\
import multiprocessing as mp

import minimx as mx


def work(x):
    assert x.device == mx.gpu(0)
    return (x @ x).sum()


if __name__ == "__main__":
    x = mx.np.ones((8, 8), device=mx.gpu(0))
    with mp.get_context("spawn").Pool(2) as pool:
        made = pool.map(work, [x, x * 2, x * 3])
    assert all(y.device == mx.gpu(0) for y in made)
    print(*(int(y.item()) for y in made), flush=True)
"""
    )
    out = run(path)
    assert out.split() == ["512", "2048", "4608"]


# --- broken kernels ----------------------------------------------------------------------------------------------

# argmax as a kernel that writes 16 TiB behind its output: the device is lost to a process that runs it.
BREAK_ARGMAX = """
        import minimx as mx
        from minimx.errors import DeviceError
        from minimx.rtc.cuda import FACTORIES
        from minimx.rtc.cuda.recipe import Launch, Operand, Recipe, code

        TEXT = 'extern "C" __global__ void KERNEL(char* y) { y[1ll << 44] = 1; }'

        def wild(ins, outs, attrs):
            return Recipe((Launch(code("wild", TEXT), (1, 1, 1), (1, 1, 1), (Operand(len(ins)),)),))

        def caught(function):
            try:
                function()
            except DeviceError as error:
                return str(error)
            return "nothing"

        x = mx.np.ones((16, 16), device=mx.gpu(0)) + 1
        (mx.np.sqrt(x) * 2).wait_to_read()
        FACTORIES["argreduce"] = wild
"""


def test_a_device_error_comes_with_the_next_wait_and_stays():
    out = run(
        BREAK_ARGMAX
        + """
        def later():
            y = mx.np.argmax(x, axis=1)
            mx.np.sqrt(x).asnumpy()

        for function in (later, x.asnumpy, mx.waitall, lambda: (x * 2).asnumpy()):
            print(caught(function))
        print((mx.np.ones(3) + 1).sum().item())
    """
    )
    first, *others, cpu = out.splitlines()
    assert "illegal memory access" in first and "lost to this process" in first and "mx.engine.sync()" in first
    assert "argmax" in first.partition("put on the device last:")[2], "the operators are named"
    assert len(others) == 3 and all("gpu" in text and "illegal memory access" in text for text in others)
    assert cpu == "6.0"


def test_synchronous_mode_names_the_operator():
    out = run(
        BREAK_ARGMAX
        + """
        with mx.engine.sync():
            y = mx.np.sqrt(x)
            print(caught(lambda: mx.np.argmax(y, axis=1)))
    """
    )
    assert out.startswith("argmax: expected gpu(0) to run it, got: ") and "illegal memory access" in out


def test_a_device_error_in_a_captured_graph():
    """The graph is what is put on the device last."""
    out = run(
        BREAK_ARGMAX
        + """
        class Best(mx.gluon.HybridBlock):
            def forward(self, x):
                return mx.np.argmax(x * 3, axis=1)

        net = Best()
        net.hybridize(static_alloc=True, static_shape=True)

        def several():
            for _ in range(3):
                net(x).asnumpy()

        print(caught(several))
    """
    )
    assert "illegal memory access" in out and "argmax" in out


# --- threads, interrupts, exits ----------------------------------------------------------------------------------


def small_model() -> nn.HybridSequential:
    """Convolution, norm, pooling and dense layers."""
    net = nn.HybridSequential()
    net.add(nn.Conv2D(8, 3, in_channels=3), nn.BatchNorm(in_channels=8), nn.Activation("relu"), nn.GlobalAvgPool2D(),
            nn.Flatten(), nn.Dense(5, in_units=8))  # fmt: skip
    net.initialize(mx.init.Xavier())
    return net


def losses(net, seed: int, hybridize: bool) -> list[float]:
    """Ten steps of training, on whatever thread."""
    rng = np.random.default_rng(seed)
    with GPU:
        if hybridize:
            net.hybridize(static_alloc=True, static_shape=True)
        trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
        made = []
        for _ in range(10):
            x = mx.np.array(rng.normal(size=(4, 3, 8, 8)).astype("float32"))
            labels = mx.np.array(rng.integers(0, 5, 4))
            with autograd.record():
                loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), labels).mean()
            loss.backward()
            trainer.step(4)
            made.append(loss)
        return [x.item() for x in made]


@pytest.mark.parametrize("hybridize", [False, True], ids=["imperative", "hybridized"])
def test_threads_train_at_once(hybridize):
    """Four threads with a model each get what they get one after another."""
    nets = {}
    for way in ("alone", "together"):
        mx.random.seed(3)
        nets[way] = [small_model() for _ in range(4)]
    alone = [losses(net, seed, hybridize) for seed, net in enumerate(nets["alone"])]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(losses, nets["together"], range(4), [hybridize] * 4))
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    assert len({tuple(made) for made in alone}) == 4 and np.isfinite(alone).all()


def test_threads_have_devices_of_their_own():
    """The current device is the thread's."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(mx.current_device).result() == CPU
    assert mx.current_device() == GPU


IN_FLIGHT = """
        import atexit, os, sys, threading, time
        import minimx as mx

        x = mx.np.full((1000, 1000), 0.001, device=mx.gpu(0))
        c = mx.np.full((200, 200), 0.005)

        def start(n=300):
            y = x
            for _ in range(n):
                y = y @ x
            return y
"""
# Each is a way to leave with work in flight.
EXITS = [
    "y = start()",
    "y = start(); sys.exit(0)",
    "mx.engine.push(lambda: time.sleep(0.05), writes=[c]); y = start(); z = c.to_device(mx.gpu(0))",
    "threading.Thread(target=start).start()",
    "t = threading.Thread(target=lambda: [start(50) for _ in range(5)], daemon=True); t.start(); y = start()",
    "atexit.register(lambda: start(2).asnumpy()); y = start()",
    "x.attach_grad()\nwith mx.autograd.record():\n    y = start(5)\ny.backward()",
    "net = mx.gluon.nn.Dense(50); net.initialize(ctx=mx.gpu(0)); net.hybridize(static_alloc=True, static_shape=True)\n"
    "for _ in range(5): y = net(x)",
    "keep = [start(2) for _ in range(20)]; mx.engine.set_engine('naive')",
    "y = start(); z = y.copyto(mx.cpu()); w = c.to_device(mx.gpu(0)) + 1",
]


def leave(number: int) -> None:
    """One exit, which must come, in order and without a crash."""
    lines = EXITS[number % len(EXITS)].replace("\n", "\n        ")
    run(IN_FLIGHT + f"\n        {lines}\n")


def test_exits_with_work_in_flight():
    """Twenty interpreters end while the GPU runs."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave, range(20)))


def test_keyboard_interrupt_while_waiting():
    """Ctrl-C during a wait for the GPU ends in KeyboardInterrupt; work goes on after it."""
    out = run(
        IN_FLIGHT
        + """
        import signal

        def hit(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, hit)
        start(3).asnumpy()
        try:
            y = start(5000)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            y.asnumpy()
            time.sleep(5)
        except KeyboardInterrupt:
            print("interrupted")
        print((mx.np.ones(3, device=mx.gpu(0)) + 1).sum().item())
    """
    )
    assert out.split() == ["interrupted", "6.0"]
