"""GPU recipes against the CPU's kernels, without a GPU: every row that names a factory, in every type and view.

The emulator (emulator.py) runs the CUDA text; the CPU's kernel of the same name is what it must agree with, exactly
where nothing is rounded. The quick suite takes samples of types and views; all of them are behind the marker ``slow``.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
from rtc.emulator import STATE, EmulatorError, cpu, launch, made, prepare, run
from rtc.recipe_cases import Call, calls, dtypes, rows

from minimx.ops.expr import Expr
from minimx.ops.kinds.elemwise import Elemwise
from minimx.ops.table import OPS
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import FACTORIES
from minimx.rtc.cuda.recipe import Recipe, code

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}  # of the largest element
# Factories that move elements or count: every bit is the same.
EXACT = set(
    """cast gather gather_static gather_elements paste concat argsort argreduce fill fill_with iota band one_hot
    ravel_index philox dropout pool_gather nothing""".split()
)
# Primitives that are the same on every processor: not those of analysis.
ROUNDED_ALIKE = set(
    """add subtract multiply divide negative abs sign copysign maximum minimum fmax fmin where var const
    less less_equal greater greater_equal equal not_equal isnan isinf isfinite signbit logical_and logical_or
    logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not left_shift right_shift floor ceil trunc rint
    sqrt gcd lcm fmod""".split()
)
GROUPS = 6  # elementwise rows, tested a share at a time


def exact(call: Call) -> bool:
    """True if CPU and GPU must agree to the last bit."""
    op = OPS[call.attrs.get("loop", call.row)]
    if call.factory in EXACT:
        return True
    return isinstance(op, Elemwise) and _alike(op.expr)


def _alike(e: Expr) -> bool:
    return e.op in ROUNDED_ALIKE and all(_alike(a) for a in e.args if isinstance(a, Expr))


def compare(call: Call, got: list[np.ndarray], want: list[np.ndarray]) -> None:
    """Raises AssertionError with the call where they differ by more than rounding."""
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        what = f"{call}, output {i}"
        if g.dtype.kind in "bui":
            np.testing.assert_array_equal(g, w, err_msg=what)
            continue
        tolerance = max(TOLERANCE.get(x.dtype.name, 0) for x in [g, *call.ins] if isinstance(x, np.ndarray))
        tolerance = 0 if exact(call) else tolerance
        with np.errstate(invalid="ignore"):
            g, w = g.astype("float64"), w.astype("float64")
        scale = max(np.abs(w[np.isfinite(w)]).max(initial=0), 1e-3)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def check(every: list[Call]) -> None:
    """Compiles the recipes of all calls at once, runs them, compares."""
    recipes = [made(c.factory, c.ins, c.outs, c.attrs) for c in every]
    prepare(recipes)
    for call, recipe in zip(every, recipes, strict=True):
        try:
            got = launch(call.factory, call.ins, call.outs, call.attrs, recipe=recipe)
        except EmulatorError as error:
            raise EmulatorError(f"{call}: {error}") from None
        compare(call, got, cpu(call.factory, call.ins, call.outs, call.attrs, STATE if call.random else None))
        if call.factory == "elemwise":
            check_in_place(call, recipe, got[0])


def check_in_place(call: Call, recipe: Recipe, want: np.ndarray) -> None:
    """The output may lie where an operand does, of the same size and in C order (minimx/graph/lower.py)."""
    for i, x in enumerate(call.ins):
        if isinstance(x, np.ndarray) and (x.shape, x.dtype) == (want.shape, want.dtype) and x.flags.c_contiguous:
            y = x.copy()
            run(recipe, [*call.ins[:i], y, *call.ins[i + 1 :], y])
            assert y.tobytes() == want.tobytes(), f"{call}: differs in place of operand {i}"


def known(call: Call) -> bool:
    """True if a recipe is what a GPU runs, not a library."""
    return call.factory in FACTORIES or call.attrs.get("kernel_name") in FACTORIES


def chosen(row: str) -> list[str]:
    """The types of a row that the quick suite takes: float32 where it has it, another one, and float64 where that has a
    kernel of its own.
    """
    types = list(dtypes(row))
    first = "float32" if "float32" in types else types[0]
    others = [t for t in types if t != first]
    some = others[zlib.crc32(row.encode()) % len(others) :][:1] if others else []
    plain = ["float64"] * any(part in row for part in ("pool", "convolution", "matmul"))
    return list(dict.fromkeys([first, *some, *plain]))


def calls_of(factories: set[str], every: bool) -> list[Call]:
    """Calls of all rows that name one of the factories."""
    return [c for op in rows() for d in (dtypes(op.name) if every else chosen(op.name))
            for c in calls(op.name, d, every) if c.factory in factories and known(c)]  # fmt: skip


POINTWISE = [op.name for op in rows() if isinstance(op, Elemwise)]
OTHERS = sorted({c.factory for op in rows() if op.name not in POINTWISE for d in chosen(op.name)
                 for c in calls(op.name, d) if known(c)})  # fmt: skip


@pytest.mark.parametrize("group", range(GROUPS))
def test_elementwise(group):
    """The first type in several views, another one in one."""
    every = [c for row in POINTWISE[group::GROUPS] for n, d in enumerate(chosen(row)) for c in calls(row, d)[n:]]
    check(every)


@pytest.mark.parametrize("factory", OTHERS)
def test_factory(factory):
    """All rows that name a factory."""
    check(calls_of({factory}, False))


# ---- teeth ----------------------------------------------------------------------------------------------------------


def changed(recipe: Recipe, old: str, new: str) -> Recipe:
    """The recipe with another text."""
    launches = []
    for one in recipe.launches:
        text = one.code.text.replace(one.code.name, "KERNEL")
        launches.append(dataclasses.replace(one, code=code("wrong", text.replace(old, new))))
    assert any(old in one.code.text for one in recipe.launches)
    return dataclasses.replace(recipe, launches=tuple(launches))


@pytest.mark.parametrize(("row", "old", "new"), [
    ("add", "a + b", "a - b"),
    ("gelu", "0.5", "0.5001"),
    ("add", "int end) {", "int end) { end -= 1;"),
])  # fmt: skip
def test_wrong_recipes_are_caught(row, old, new, monkeypatch):
    right = FACTORIES["elemwise"]
    monkeypatch.setitem(FACTORIES, "elemwise", lambda *specs: changed(right(*specs), old, new))
    with pytest.raises(AssertionError):
        check(calls(row, "float32")[:1])


# ---- everything -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("row", POINTWISE)
def test_elementwise_in_every_type_and_view(row):
    check([c for d in dtypes(row) for c in calls(row, d, True)])


@pytest.mark.slow
@pytest.mark.parametrize("factory", OTHERS)
def test_factory_in_every_type_and_view(factory):
    check(calls_of({factory}, True))
