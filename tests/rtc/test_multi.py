"""Looks at many arrays in few launches (minimx/rtc/cuda/multi.py), and how many launches an update takes."""

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
from minimx.ops.table import OPS, Spec
from minimx.optimizer.fused import Scaling, arrays_of
from minimx.rtc.cuda.factories import FACTORIES
from minimx.rtc.group import c_strides

TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}


def recipe_of(name, sizes, types):
    """(recipe, shape and type of the result)."""
    specs = [Spec((n,), t, (1,)) for n, t in zip(sizes, types, strict=True)]
    plan = OPS[name].plan(specs, {})
    ((shape, dtype),) = plan.outs
    return FACTORIES[plan.kernel](specs, [Spec(shape, dtype, c_strides(shape))], plan.attrs), shape, dtype


def looked_at(name, arrays, types):
    """(what the kernel finds, how many launches it takes)."""
    recipe, shape, dtype = recipe_of(name, [a.size for a in arrays], types)
    out = np.empty(shape, dtype)
    run(recipe, [*arrays, out])
    return out, len(recipe.launches)


def drawn(sizes, types):
    rng = np.random.default_rng(0)
    return [rng.normal(size=n).astype(TYPES[t]) for n, t in zip(sizes, types, strict=True)]


@pytest.mark.parametrize("types", [["float32"], ["float16"], ["bfloat16", "float32"], ["float64", "float16"]])
def test_sums_of_squares(types):
    sizes = [1, 7, 0, 255, 256, 4096, 16384, 16385, 40001]
    types = [types[i % len(types)] for i in range(len(sizes))]
    arrays = drawn(sizes, types)
    got, launches = looked_at("multi_sum_squares", arrays, types)
    want = [(a.astype("float64") ** 2).sum() for a in arrays]
    np.testing.assert_allclose(got, want, rtol=2e-6)
    assert launches == len(set(types)) + 1


def test_unaligned_arrays():
    base = np.random.default_rng(0).normal(size=5000).astype("float32")
    arrays = [base[i : i + 1200 + i].copy() for i in range(8)]
    got, _ = looked_at("multi_sum_squares", arrays, ["float32"] * 8)
    np.testing.assert_allclose(got, [(a.astype("float64") ** 2).sum() for a in arrays], rtol=2e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", TYPES)
def test_one_element_that_is_not_finite(dtype, value):
    sizes = [3, 20000, 77]
    for which, at in ((0, 2), (1, 0), (1, 19999), (2, 13)):
        arrays = drawn(sizes, [dtype] * 3)
        assert looked_at("multi_all_finite", arrays, [dtype] * 3)[0]
        arrays[which][at] = value
        assert not looked_at("multi_all_finite", arrays, [dtype] * 3)[0]


def test_large_numbers_are_finite():
    largest = [np.full(9, np.finfo(t).max if t != "bfloat16" else 3e38).astype(TYPES[t]) for t in TYPES]
    assert looked_at("multi_all_finite", largest, list(TYPES))[0]


def test_nothing_to_look_at():
    assert looked_at("multi_all_finite", drawn([0], ["float32"]), ["float32"])[0]
    assert looked_at("multi_sum_squares", drawn([0, 0], ["float32"] * 2), ["float32"] * 2)[0].tolist() == [0, 0]


def test_many_arrays_take_few_launches():
    sizes = [5 + 9 * i for i in range(250)]
    arrays = drawn(sizes[:80], ["float32"] * 80)
    got, _ = looked_at("multi_sum_squares", arrays, ["float32"] * 80)
    np.testing.assert_allclose(got, [(a.astype("float64") ** 2).sum() for a in arrays], rtol=2e-6)
    for name in ("multi_sum_squares", "multi_all_finite"):
        recipe, *_ = recipe_of(name, sizes, ["float32"] * 250)
        assert len(recipe.launches) == 3
        assert all(8 * len(x.args[0].members) <= 4096 - 64 for x in recipe.launches)


# ---- a whole update


def resnet_shapes():
    """The 161 parameters of ResNet-50 v1, in miniature: their number and ranks count here, not their sizes."""
    shapes = []
    for _ in range(53):  # convolution, gamma, beta
        shapes += [(4, 2, 3, 3), (4,), (4,)]
    return [*shapes, (5, 4), (5,)]


class Lowered(Exception):
    """Raised with the steps in place of compiling them."""


@pytest.fixture
def steps_of(monkeypatch):
    """A function: the steps of a traced function's program on a GPU."""
    together = joining.together

    def stop(steps):
        raise Lowered(together(steps))

    def steps(function, args):
        graph = compile_function("traced", function, args, False, None).forward
        with pytest.raises(Lowered) as lowered:
            lowering.lower(graph)
        return lowered.value.args[0]

    monkeypatch.setattr(tracing, "gpu_of", lambda arrays: 0)
    monkeypatch.setattr(joining, "together", stop)
    return steps


@pytest.fixture
def launches(steps_of):
    """A function: how many kernels a GPU launches for an update of ResNet-50's parameters."""

    def count(optimizer, dtype, scaled):
        weights, grads = ([mx.np.zeros(s, dtype=dtype) for s in resnet_shapes()] for _ in range(2))
        optimizer.idx2name = {i: ("weight", "gamma", "beta")[i % 3] for i in range(len(weights))}
        optimizer.scaling = Scaling(amp.LossScaler()) if scaled else None
        states = [optimizer.create_state_multi_precision(i, w) for i, w in enumerate(weights)]
        jobs = optimizer.jobs(range(len(weights)), weights, grads, states, masters=True)
        places, values = optimizer._fused.scalars(jobs, optimizer.rescale_grad)
        steps = steps_of(optimizer.update_of(jobs, places), [mx.np.array(values), *arrays_of(jobs)])
        return sum(len(s.kernel.write().launches) for s in steps)

    return count


@pytest.mark.cpu_only("counts what a GPU would do")
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


@pytest.mark.cpu_only("counts what a GPU would do")
def test_casts_of_parameters_are_one_launch(steps_of):
    """Each layer casts its weight; all that lie in memory as they are read are cast together."""
    weights = [mx.np.ones((n, 8)) for n in (8, 8, 8, 8, 8, 4)]

    def net(x, *ws):
        with amp.autocast("float16"):
            for w in ws:
                x = mx.npx.fully_connected(x, w, None, w.shape[0], True)
        return x

    names = [s.name for s in steps_of(net, [mx.np.ones((2, 8)), *weights])]
    assert names.count("fully_connected") == 6 and len(names) == 7, names
