"""Pointwise recipes and copies on the emulator, against the CPU's kernels of the same names, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rtc import emulator

from minimx.ops.dtypes import ALL
from minimx.rtc.cuda import FACTORIES, copy, pointwise
from minimx.rtc.cuda.recipe import Recipe

rng = np.random.default_rng(7)


def drawn(shape, dtype, how="whole"):
    """An array. how: "whole", "transposed", "reversed", "sliced" (an offset and gaps), "shown" (stride 0)."""
    if how == "shown":
        return np.broadcast_to(drawn((*shape[:-1], 1), dtype), shape)
    if how == "transposed":
        return drawn(shape[::-1], dtype).T
    if how in ("reversed", "sliced"):
        steps = [slice(None, None, -1)] * len(shape) if how == "reversed" else [slice(1, 2 * n + 1, 2) for n in shape]
        big = drawn(shape if how == "reversed" else [2 * n + 2 for n in shape], dtype)
        return big[tuple(steps)]
    values = rng.integers(-9, 9, shape) if dtype != "bool" else rng.integers(0, 2, shape)
    values = np.abs(values) if dtype == "uint8" else values
    return (values / 3 if "float" in dtype else values).astype(emulator.numpy_type(dtype))


def agree(name, ins, out, attrs):
    """Both ways of running a recipe give what the CPU gives."""
    (got,), (want,) = emulator.launch(name, ins, [out], attrs), emulator.cpu(name, ins, [out], attrs)
    np.testing.assert_array_equal(got.astype("float64"), want.astype("float64"), f"{name} {attrs} {out}", strict=True)


def text(name, ins, outs, attrs):
    """The kernel's text."""
    return emulator.made(name, ins, outs, attrs).launches[0].code.text


HOW = ("whole", "transposed", "reversed", "sliced", "shown")


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1000,), (16, 48), (5, 7, 3), (2, 1, 3, 4, 8)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int8", "int64"])
def test_binary_rows_on_whole_arrays(shape, dtype):
    ins = [drawn(shape, dtype), drawn(shape, dtype)]
    agree("elemwise", ins, (shape, dtype), {"loop": "multiply", "dtype": dtype})
    agree("elemwise", ins, (shape, "bool"), {"loop": "greater", "dtype": dtype})


@pytest.mark.parametrize("a", HOW)
@pytest.mark.parametrize("b", HOW)
@pytest.mark.parametrize("shape", [(6, 5, 16), (3, 4, 5)])
def test_operands_of_any_strides(a, b, shape):
    for dtype in ("float32", "float16"):
        ins = [drawn(shape, dtype, a), drawn(shape, dtype, b)]
        agree("elemwise", ins, (shape, dtype), {"loop": "subtract", "dtype": dtype})


@pytest.mark.parametrize("shapes", [[(4, 6, 8), (8,)], [(4, 6, 8), (6, 1)], [(4, 6, 7), (7,)], [(4, 6, 7), (6, 1)],
                                    [(1, 6, 1), (4, 1, 16)], [(3, 1), ()], [(1, 1), (5, 1)]])  # fmt: skip
def test_broadcasting(shapes):
    out = np.broadcast_shapes(*shapes)
    for dtype in ("float32", "bfloat16", "uint8"):
        agree("elemwise", [drawn(s, dtype) for s in shapes], (out, dtype), {"loop": "add", "dtype": dtype})


def test_operands_of_other_types_are_converted():
    for types in (("float16", "float32", "float32"), ("int32", "float16", "float16"), ("bool", "int64", "int64")):
        ins = [drawn((33, 8), types[0]), drawn((33, 8), types[1], "transposed")]
        agree("elemwise", ins, ((33, 8), types[2]), {"loop": "add", "dtype": types[2]})
    agree("elemwise", [drawn((9, 8), "float32")] * 2, ((9, 8), "float16"), {"loop": "add", "dtype": "float32"})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "uint8"])
def test_numbers_come_by_value(dtype):
    x = drawn((5, 40), dtype)
    agree("elemwise", [x, (2.75, dtype)], (x.shape, dtype), {"loop": "multiply", "dtype": dtype})
    agree("elemwise", [(3, dtype), (2, dtype)], ((), dtype), {"loop": "add", "dtype": dtype})
    condition = drawn((40,), "bool")
    agree("elemwise", [condition, x, (1, dtype)], (x.shape, dtype), {"loop": "where", "dtype": dtype})
    assert "x1 =" not in text("elemwise", [x, (2, dtype)], [(x.shape, dtype)], {"loop": "add", "dtype": dtype})


def test_outputs_of_any_strides():
    for strides in ((1, 6), (64, 2), (16, 1)):
        agree("elemwise", [drawn((6, 16), "float32"), drawn((16,), "float32")], ((6, 16), "float32", strides),
              {"loop": "add", "dtype": "float32"}) if strides != (1, 6) else None  # fmt: skip
        agree("cast", [drawn((6, 6), "float32")], ((6, 6), "float16", strides), {})


def test_unaligned_views_are_right():
    for offset in (1, 3, 8):
        ins = [drawn((4099 + offset,), "float16")[offset:], drawn((4099,), "float16")]
        agree("elemwise", ins, ((4099,), "float16"), {"loop": "add", "dtype": "float16"})


def test_grid_may_be_smaller_than_the_work(monkeypatch):
    monkeypatch.setattr(pointwise, "BLOCKS", 2)
    monkeypatch.setattr(copy, "BLOCKS", 2)
    x = drawn((90, 130), "float16")
    agree("elemwise", [x, x], (x.shape, "float16"), {"loop": "add", "dtype": "float16"})
    agree("elemwise", [x, drawn((90, 1), "float16")], (x.shape, "float16"), {"loop": "add", "dtype": "float16"})
    agree("cast", [x.T], (x.T.shape, "float32"), {})


def test_large_arrays_count_in_64_bits(monkeypatch):
    x = np.broadcast_to(np.float16(1), (1 << 16, 1 << 15, 2))
    assert "int64_t n" in text("elemwise", [x, x], [(x.shape, "float16")], {"loop": "add", "dtype": "float16"})
    small = [drawn((3, 5, 7), "float32", how) for how in ("transposed", "reversed")]
    recipes = []
    for name, ins in (("elemwise", small), ("cast", [drawn((40, 5, 50), "float32", "transposed")])):
        attrs = {"loop": "add", "dtype": "float32"} if name == "elemwise" else {}
        with monkeypatch.context() as m:
            m.setattr(pointwise, "SMALL", 1)
            recipes.append(emulator.made(name, ins, [(ins[0].shape, "float32")], attrs))
        assert "int64_t n" in recipes[-1].launches[0].code.text
        (got,) = emulator.launch(name, ins, [(ins[0].shape, "float32")], recipe=recipes[-1])
        np.testing.assert_array_equal(got, emulator.cpu(name, ins, [(ins[0].shape, "float32")], attrs)[0])


def test_nothing_is_launched_for_nothing():
    x = drawn((0, 3), "float32")
    assert emulator.made("elemwise", [x, x], [((0, 3), "float32")], {"loop": "add", "dtype": "float32"}) == Recipe(())
    assert emulator.made("cast", [x], [((0, 3), "float16")], {}) == Recipe(())


def test_kernels_are_shared_among_shapes():
    def name(*shapes):
        out = np.broadcast_shapes(*shapes)
        attrs = {"loop": "add", "dtype": "float32"}
        ins = [drawn(s, "float32") for s in shapes]
        return emulator.made("elemwise", ins, [(out, "float32")], attrs).launches[0].code.name

    assert name((5,), (5,)) == name((9, 16, 3), (9, 16, 3))
    assert name((5, 8), (8,)) == name((7, 3, 16), (16,))
    assert name((5, 8), (8,)) != name((5, 7), (7,))


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 49, 64, 1000, 65537, 2**30 - 1, 2**30])
def test_division_by_multiplication(divisor):
    m = pointwise.magic(divisor)
    for x in {0, 1, divisor - 1, divisor, 3 * divisor + 1, 2**31 - 1, 2**31 // divisor * divisor - 1, 123456789}:
        if x < 2**31:
            high = x * (m & 0xFFFFFFFF) >> 32
            assert (high + x) % 2**32 >> (m >> 32) == x // divisor
    assert 0 < m < 2**63 and m & 0xFFFFFFFF == m % 2**32


# ---- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", ALL)
@pytest.mark.parametrize("b", ALL)
def test_casts_between_all_types(a, b):
    agree("cast", [drawn((100,), a)], ((100,), b), {})
    agree("cast", [drawn((40, 50), a, "transposed")], ((40, 50), b), {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(2, 65, 70), (3, 8, 9, 33), (100, 8), (8, 200)])
def test_layouts_are_transposed_by_tiles(dtype, shape):
    last = np.moveaxis(drawn(shape, dtype), -1, 1) if len(shape) > 2 else drawn(shape, dtype).T
    assert "__shared__" in text("cast", [last], [(last.shape, dtype)], {})
    agree("cast", [last], (last.shape, dtype), {})
    back = np.empty(last.shape, emulator.numpy_type(dtype)).transpose(np.argsort([-s for s in last.strides]))
    assert math.prod(back.shape) == last.size
    lying = tuple(s // last.itemsize for s in last.strides)
    agree("cast", [np.ascontiguousarray(last)], (last.shape, dtype, lying), {})


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("strides", [(512, 16, 1), (1, 8, 80), (1000, 50, 3), (16, 500, 1)])
def test_copies_of_any_strides(how, strides):
    for a, b in (("float32", "float32"), ("float16", "float32"), ("uint8", "bool")):
        agree("cast", [drawn((8, 10, 16), a, how)], ((8, 10, 16), b, strides), {})
    agree("cast", [drawn((10, 1), "float16")], ((8, 10, 16), "float16", strides), {})


def test_copies_that_convert_nothing_share_kernels():
    names = {text("cast", [drawn((9,), d)], [((9,), d)], {}) for d in ("float32", "int32")}
    assert len(names) == 1 and "Half" not in text("cast", [drawn((9,), "float16")], [((9,), "float16")], {})
    assert FACTORIES["cast"] is copy.cast
