"""No name is without a kernel on a GPU: those that rows' plans give, those that the CPU's sources register.

A name is known on a GPU as a recipe (FACTORIES), a library's kernel, or an adaptor of one of those.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rtc.emulator import launch, made, prepare
from rtc.pass_cases import pass_calls
from rtc.recipe_cases import calls, dtypes, rows

from minimx.ops.dtypes import ALL, BY_NAME
from minimx.ops.table import OPS, Spec
from minimx.rtc.cuda.adaptors import ADAPTORS
from minimx.rtc.cuda.factories import FACTORIES
from minimx.rtc.cuda.kernel import LIBRARY

KNOWN = {*FACTORIES, *LIBRARY, *ADAPTORS}
CPU_ONLY: set[str] = set()
# Rows without calls to test with: passes make all but ``empty``, and what they name others name too.
UNCALLED = {
    "batch_norm_relu": "batch_norm_fwd_train",
    "batch_norm_sums": "batch_norm_fwd_sums",
    "batch_norm_pair": "batch_norm_fwd_pair",
    "batch_norm_pair_grad": "batch_norm_bwd",
    "batch_norm_max_pool": "batch_norm_pool",
    "batch_norm_max_pool_grad": "batch_norm_bwd_pool",
    "channel_sums": "channel_sums",
    "batch_norm_infer_relu": "batch_norm_infer",
    "batch_norm_relu_grad": "batch_norm_bwd",
    "convolution_relu": "conv_fwd",
    "convolution_stats": "conv_fwd_stats",
    "fully_connected_act": "linear",
    "matmul_act": "matmul",
    "matmul_onto": "matmul",
    "matmul_sums": "matmul",
    "dropout_mask": "dropout",
    "reorder": "reorder",
    "empty": "nothing",
}
SOURCES = Path(__file__).parents[2] / "csrc" / "cpu"


def registered():
    """Names of the CPU's factories."""
    text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.cc")))
    return set(re.findall(r'register_kernel\(\s*"(\w+)"', text))


def planned(row):
    """Names that a row's plans give for the calls it is tested with, in every type; adaptors' targets too."""
    every = [c for dtype in dtypes(row) for c in calls(row, dtype)]
    return {c.factory for c in every} | {c.attrs["kernel_name"] for c in every if c.factory == "channels_last"}


@pytest.mark.parametrize("row", [op.name for op in rows()])
def test_plans_name_kernels_that_gpus_have(row):
    names = planned(row)
    assert names <= KNOWN, f"{row} asks for {sorted(names - KNOWN)}, which minimx/rtc/cuda has no recipe for"
    assert bool(names) != (row in UNCALLED), "rows are called by samples, or listed in UNCALLED"


def test_rows_are_of_known_kinds():
    """A kind not listed here would slip through: composites call rows, views share memory, host rows run on CuPy."""
    assert {op.kind for op in OPS.values()} == {"elemwise", "reduce", "kernel", "random", "composite", "view", "host"}
    assert set(UNCALLED.values()) <= KNOWN | CPU_ONLY


def test_every_factory_of_the_cpu_is_known():
    names = registered()
    assert len(names) > 40, "the pattern finds no registrations"
    assert names - KNOWN == CPU_ONLY
    extra = {"matmul_plain", "batch_norm_pool", "batch_norm_bwd_pool"}
    assert {*FACTORIES, *ADAPTORS} - names <= extra, "a recipe that no row can ask for"


@pytest.mark.parametrize("factory", ["cast", "gather", "put", "paste", "concat", "fill_with", "gather_elements"])
def test_movers_take_every_type(factory):
    """Recipes come for every element type; the text depends on its size alone where elements are only moved."""
    texts = {}
    for dtype in ALL:
        x, i, y = Spec((4, 6), dtype, (6, 1)), Spec((4, 6), "int64", (6, 1)), Spec((4, 6), dtype, (6, 1))
        attrs = {"outer": 1, "n": 4, "inner": 6, "count": 4, "mode": 0, "value": 1.0}
        attrs |= {"axis": 0, "flat": 0, "base": 0, "start": [0, 0], "step": [1, 1], "region": [4, 6]}
        recipe = FACTORIES[factory]([x, i][: 1 + ("gather" in factory or factory == "put")], [y], attrs)
        texts.setdefault(BY_NAME[dtype].size, set()).add(recipe.launches[-1].code.text)
    assert factory in ("cast", "put") or all(len(same) == 1 for same in texts.values())


def test_every_recipe_has_a_call():
    """Of a row's samples or of pass_cases.py: so ../gpu/sanitize.py runs all that GPUs run."""
    named = {name for op in rows() for name in planned(op.name)} | {c.factory for c in pass_calls()}
    assert not FACTORIES.keys() - named


def test_calls_of_passes_run():
    """On the emulator, twice, between pages that fault."""
    every = [c for c in pass_calls() if sum(x.size for x in c.ins) < 20000]
    recipes = [made(c.factory, c.ins, c.outs, c.attrs) for c in every]
    prepare(recipes)
    for call, recipe in zip(every, recipes, strict=True):
        launch(call.factory, call.ins, call.outs, call.attrs, recipe=recipe)
