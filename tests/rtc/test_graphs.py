"""Fused groups of real graphs on the emulator, against the operators that they fuse, one by one on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from rtc.emulator import empty, numpy_type, on_cpu, prepare, run
from rtc.graphs import GRAPHS, Fused, groups

from minimx.rtc.compiler import find_compiler
from minimx.rtc.kernel import recipe_factory

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
TOLERANCE = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def drawn(rng: np.random.Generator, shape: tuple, dtype: str, strides: tuple) -> np.ndarray:
    """An array in C order or seen through strides."""
    values = rng.uniform(0, 2, shape) if "float" in dtype else rng.integers(0, 2, shape)
    x = empty(shape, dtype, strides or None)
    if 0 not in x.strides:
        x[...] = values.astype(numpy_type(dtype))
    return x


def recipe_of(x: Fused):
    """What a GPU runs."""
    return recipe_factory(x.group.form)(x.group)


@pytest.fixture(scope="module")
def recipes():
    """Recipe of every distinct group, compiled at once."""
    made = {x.group.key: recipe_of(x) for x in groups()}
    prepare(made.values())
    return made


def check(x: Fused, recipe) -> None:
    rng = np.random.default_rng(5)
    ins = [drawn(rng, *spec) for spec in x.ins]
    outs = [empty(*spec[:2]) for spec in x.outs]
    run(recipe, [*ins, *outs])
    want = on_cpu(x.kernel, ins, [spec[:2] for spec in x.outs])
    for g, w in zip(outs, want, strict=True):
        g, w, tolerance = g.astype("float64"), w.astype("float64"), TOLERANCE.get(g.dtype.name, 0)
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance, err_msg=f"{x.graph}: {x.group.title()}")


@pytest.mark.parametrize("graph", GRAPHS)
def test_fused_groups(graph, recipes):
    mine = {x.group.key: x for x in groups() if x.graph == graph}
    assert mine, "expected fusion to find something"
    for key, x in mine.items():
        # The text leaves out the first extent, so that a recipe is made for each node all the same.
        check(x, recipes[key] if recipes[key] == recipe_of(x) else recipe_of(x))
