"""Whole updates as a GPU would run them: how many launches they are, and that these compute what the CPU does."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from rtc.emulator import run

import minimx as mx
from minimx import amp
from minimx import optimizer as opt
from minimx.graph import lower as lowering
from minimx.graph import together as joining
from minimx.graph import trace as tracing
from minimx.graph.compile import compile_function
from minimx.optimizer.fused import Scaling, arrays_of

pytestmark = pytest.mark.cpu_only("counts and emulates what a GPU would do")


class Lowered(Exception):
    """Raised with the steps in place of compiling them."""


@pytest.fixture
def lowered(monkeypatch):
    """A function: (steps, numbers of the host, captured arrays) of a traced function's program on a GPU, or of its
    gradient's.
    """
    together = joining.together

    def stop(steps):
        raise Lowered(together(steps))

    def lower(function, args, half="forward"):
        with monkeypatch.context() as patch:
            patch.setattr(tracing, "gpu_of", lambda arrays: 0)
            patch.setattr(joining, "together", stop)
            wanted = (lambda t: [True] * len(t.graph.inputs)) if half == "backward" else None
            compiled = compile_function("traced", function, args, wanted is not None, wanted)
            lowering_ = lowering.Lowering(getattr(compiled, half))
            with pytest.raises(Lowered) as found:
                lowering_.run()
        return found.value.args[0], lowering_.numbers, compiled.traced.captures

    return lower


# ---- how many launches


def resnet_shapes():
    """The 161 parameters of ResNet-50 v1, in miniature: their number and ranks count here, not their sizes."""
    shapes = []
    for _ in range(53):  # convolution, gamma, beta
        shapes += [(4, 2, 3, 3), (4,), (4,)]
    return [*shapes, (5, 4), (5,)]


@pytest.fixture
def launches(lowered):
    """A function: how many kernels a GPU launches for an update of ResNet-50's parameters."""

    def count(optimizer, dtype, scaled):
        weights, grads = ([mx.np.zeros(s, dtype=dtype) for s in resnet_shapes()] for _ in range(2))
        optimizer.idx2name = {i: ("weight", "gamma", "beta")[i % 3] for i in range(len(weights))}
        optimizer.scaling = Scaling(amp.LossScaler()) if scaled else None
        states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(weights)]
        jobs = optimizer.jobs(range(len(weights)), weights, states, masters=True)
        places, values = optimizer._fused.scalars(jobs, optimizer.rescale_grad)
        steps, _, _ = lowered(optimizer.update_of(jobs, places), [mx.np.array(values), *grads, *arrays_of(jobs.jobs)])
        return sum(len(s.kernel.write().launches) for s in steps)

    return count


@pytest.mark.parametrize("name, dtype, scaled, most", [
    ("sgd", "float32", False, 3), ("adamw", "float32", False, 4), ("lars", "float32", False, 7),
    ("lamb", "float32", False, 14), ("sgd", "float16", True, 7), ("nag", "float32", True, 7),
    ("adam", "float32", True, 8), ("adamw", "float16", True, 9), ("lars", "float16", True, 12),
    ("lamb", "float16", True, 20)])  # fmt: skip
def test_launches_of_an_update(launches, name, dtype, scaled, most):
    """Weights in 16 bits have float32 masters; with a loss scale, finding overflow and the scale's own update count."""
    settings = {"learning_rate": 0.1, "rescale_grad": 1 / 32, "wd": 1e-4, "multi_precision": True}
    settings |= {"momentum": 0.9} if name in ("sgd", "nag", "lars") else {}
    assert launches(opt.create(name, **settings), dtype, scaled) <= most


def cast_in_layers(x, *ws):
    """Dense layers in mixed precision."""
    with amp.autocast("float16"):
        for w in ws:
            x = mx.npx.fully_connected(x, w, None, w.shape[0], True)
    return x


WEIGHTS = (8, 8, 8, 8, 8, 4)


def test_casts_of_parameters_are_one_launch(lowered):
    """Each layer casts its weight; all that lie in memory as they are read are cast together."""
    args = [mx.np.ones((2, 8)), *(mx.np.ones((n, 8)) for n in WEIGHTS)]
    names = [s.name for s in lowered(cast_in_layers, args)[0]]
    assert names.count("fully_connected") == 6 and len(names) == 7, names


def test_casts_of_gradients_are_one_launch(lowered):
    """Each layer's weight gradient is cast where it leaves: all at the end, with that of the data."""
    args = [mx.np.ones((2, 8)), *(mx.np.ones((n, 8)) for n in WEIGHTS)]
    steps = lowered(cast_in_layers, args, "backward")[0]
    names = [s.name for s in steps]
    assert names.count("matmul") == 12 and len(names) == 13, names
    assert len(steps[-1].kernel.write().launches) == 1 and names[-1] == "7 fused"


# ---- what they compute


def jobs_of(name, settings, dtype, bad):
    """(optimizer, jobs, gradients, scaler) of one seeded update, in which a gradient may be infinite."""
    rng = np.random.default_rng(0)
    shapes = [(4, 2, 3, 3), (4,), (5,), (300, 7), (7,)]
    weights = [mx.np.array(rng.normal(size=s), dtype=dtype) for s in shapes]
    grads = [mx.np.array(rng.normal(size=s) * 64, dtype=dtype) for s in shapes]
    if bad:
        grads[3][2, 3] = float("inf")
    optimizer = opt.create(name, learning_rate=0.1, rescale_grad=0.5, multi_precision=True, **settings)
    scaler = amp.LossScaler(64.0, scale_window=1)
    optimizer.scaling = Scaling(scaler)
    states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(weights)]
    return optimizer, optimizer.jobs(range(len(shapes)), weights, states, masters=True), grads, scaler


def emulated(steps, numbers, arrays):
    """Runs the steps' CUDA on copies of the arrays, and returns these."""
    inputs = [a.asnumpy().copy() for a in arrays]
    memory = {}

    def operand(block, offset, spec):
        dtype = np.dtype(ml_dtypes.bfloat16) if spec.dtype == "bfloat16" else np.dtype(spec.dtype)
        if block.kind == "host":
            return np.frombuffer(numbers[block.index], dtype)[0], spec.dtype
        made = inputs[block.index] if block.kind == "in" else memory.setdefault(block, np.zeros(block.bytes, np.uint8))
        reach = 1 + sum((d - 1) * s for d, s in zip(spec.shape, spec.strides, strict=True))
        flat = made.reshape(-1).view(np.uint8)[offset : offset + reach * dtype.itemsize].view(dtype)
        return np.lib.stride_tricks.as_strided(flat, spec.shape, [s * dtype.itemsize for s in spec.strides])

    for s in steps:
        run(s.kernel.write(), [operand(*o, spec) for o, spec in zip(s.operands, s.kernel.specs, strict=True)])
    return inputs


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name, settings", [("sgd", {"momentum": 0.9}), ("adamw", {"wd": 0.01}), ("lars", {}),
                                            ("lamb", {"wd": 0.01, "clip_gradient": 0.5})])  # fmt: skip
def test_scaled_updates_are_those_of_the_cpu(lowered, name, settings, dtype, bad):
    optimizer, jobs, grads, scaler = jobs_of(name, settings, dtype, bad)
    optimizer.apply(jobs, grads)
    want = [*grads, *arrays_of(jobs.jobs), *scaler.on(mx.cpu())]
    optimizer, jobs, grads, scaler = jobs_of(name, settings, dtype, bad)
    places, values = optimizer._fused.scalars(jobs, optimizer.rescale_grad)
    args = [mx.np.array(values, dtype="float32"), *grads, *arrays_of(jobs.jobs)]
    steps, numbers, captures = lowered(optimizer.update_of(jobs, places), args)
    got = emulated(steps, numbers, [*args, *captures])
    for w, g in zip(want[: len(args) - 1], got[1:], strict=False):
        np.testing.assert_allclose(g.astype("float64"), w.asnumpy().astype("float64"), rtol=1e-6, atol=1e-7)
    assert sorted(float(g) for g in got[len(args) :]) == sorted(x.item() for x in want[len(args) - 1 :])
