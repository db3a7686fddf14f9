"""GPUs: the same code on mx.gpu(0), graphs as one launch, memory, sharing with CuPy and PyTorch. See docs/gpu.md.

Where there is no GPU it says why, and runs on the CPU. Next: 10_fusion.py.
"""

import argparse
import importlib.util
import time

import minimx as mx
from minimx import autograd, gluon, np
from minimx.gluon import nn


def choose() -> mx.Device:
    """The first GPU, or the CPU."""
    if mx.num_gpus():
        free, total = mx.device.gpu_memory_info(0)
        print(f"gpu(0) of {mx.num_gpus()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
        return mx.gpu(0)
    print("no GPU:", mx.device.why_no_gpu())
    return mx.cpu()


def arrays(device: mx.Device, size: int) -> None:
    """Operators run where their operands are; who only queues is quick, and who reads waits."""
    with device:  # new arrays go there; device= does it for one
        x = np.random.normal(size=(size, size))
    x.wait_to_read()
    start = time.perf_counter()
    y = np.tanh(x @ x) + x.mean(axis=0)
    queued = time.perf_counter() - start
    total = y.sum().item()
    done = time.perf_counter() - start
    print(f"on {y.device}: sum {total:.3f}, queued in {queued * 1e3:.2f} ms, read after {done * 1e3:.2f} ms")
    print("brought home:", y[:2, :2].to_device(mx.cpu()).device, "and as NumPy:", type(y.asnumpy()).__name__)


def train(device: mx.Device, steps: int) -> None:
    """With static_alloc and static_shape a GPU runs the whole forward, and the whole backward, as one launch."""
    net = nn.HybridSequential()
    net.add(*(nn.Dense(128, activation="relu") for _ in range(6)), nn.Dense(10))
    net.initialize(mx.init.Xavier(), device=device)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    x = np.random.normal(size=(64, 20), device=device)
    y = x[:, :10].argmax(axis=1)

    def run() -> tuple[float, float]:
        """(milliseconds a step, loss): the only wait is at the end."""
        start = time.perf_counter()
        for _ in range(steps):
            with autograd.record():
                loss = loss_fn(net(x), y)
            loss.backward()
            trainer.step(len(x))
        last = loss.mean().item()
        return (time.perf_counter() - start) / steps * 1e3, last

    run()  # compiles
    imperative, _ = run()
    net.hybridize(static_alloc=True, static_shape=True)
    run()  # traces, compiles, captures
    hybrid, loss = run()
    print(f"a step: imperative {imperative:.3f} ms, hybridized {hybrid:.3f} ms; loss {loss:.4f}")


def memory(device: mx.Device) -> None:
    """What arrays use now, what is kept for new ones, and the most that was ever used."""
    mx.device.reset_peak_memory(device)
    x = np.zeros((1 << 20,), device=device)
    shown = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in mx.device.memory_info(device).items())
    print(f"memory of {device} with an array of {x.nbytes / 2**20:.0f} MiB: {shown}")


def sharing(device: mx.Device) -> None:
    """Other libraries see the same memory, and their streams wait for ours where an array changes hands."""
    x = np.arange(4, dtype="float32", device=device)
    if importlib.util.find_spec("torch"):
        import torch

        doubled = torch.from_dlpack(x) * 2
        print("doubled by PyTorch:", np.from_dlpack(doubled).tolist())
    if device.device_type == "gpu" and importlib.util.find_spec("cupy"):
        import cupy

        with mx.interop.stream(device):  # CuPy's work in our stream's order: it may also write
            cupy.asarray(x)[1:] += 10
        print("raised by CuPy:", x.tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="smaller arrays, fewer steps")
    tiny = parser.parse_args().tiny
    home = choose()
    arrays(home, 64 if tiny else 2048)
    train(home, 5 if tiny else 200)
    memory(home)
    sharing(home)
