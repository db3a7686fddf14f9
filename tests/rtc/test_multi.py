"""Looks at many arrays in few launches (minimx/rtc/cuda/multi.py)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from rtc.emulator import run

from minimx.ops.table import OPS, Spec
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
