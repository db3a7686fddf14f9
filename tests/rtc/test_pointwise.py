"""Pointwise recipes and copies on the emulator, against the CPU's kernels of the same names, to the last bit."""

from __future__ import annotations

import itertools

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


def agree(*calls):
    """Both ways of running each (name, ins, out, attrs) give what the CPU gives. All are compiled at once."""
    recipes = [emulator.made(name, ins, [out], attrs) for name, ins, out, attrs in calls]
    emulator.prepare(recipes)
    for (name, ins, out, attrs), recipe in zip(calls, recipes, strict=True):
        (got,) = emulator.launch(name, ins, [out], attrs, recipe=recipe)
        (want,) = emulator.cpu(name, ins, [out], attrs)
        said = f"{name} {attrs} of {[getattr(x, 'strides', x) for x in ins]} -> {out}"
        np.testing.assert_array_equal(got.astype("float64"), want.astype("float64"), said, strict=True)


def row(loop, dtype, *ins, shape, out=""):
    """The call of an elementwise row."""
    return ("elemwise", list(ins), (shape, out or dtype), {"loop": loop, "dtype": dtype})


def cast(x, dtype, *strides):
    """The call of a copy."""
    return ("cast", [x], (x.shape, dtype, *strides), {})


def text(name, ins, outs, attrs):
    """The kernel's text."""
    return emulator.made(name, ins, outs, attrs).launches[0].code.text


HOW = ("whole", "transposed", "reversed", "sliced", "shown")


def test_rows_on_whole_arrays():
    shapes = [(), (1,), (7,), (1000,), (16, 48), (5, 7, 3), (2, 1, 3, 4, 8)]
    types = ["float32", "float16", "bfloat16", "float64", "int8", "int64"]
    agree(*(row("multiply", t, drawn(s, t), drawn(s, t), shape=s) for s in shapes for t in types))
    agree(*(row("greater", t, drawn(s, t), drawn(s, t), shape=s, out="bool") for s in shapes[3:5] for t in types))


@pytest.mark.parametrize("shape", [(6, 5, 16), (3, 4, 5)])
def test_operands_of_any_strides(shape):
    agree(*(row("subtract", t, drawn(shape, t, a), drawn(shape, t, b), shape=shape)
            for a, b in itertools.product(HOW, HOW) for t in ("float16", "float32")[: 1 + (a == b)]))  # fmt: skip


def test_broadcasting():
    pairs = [((4, 6, 8), (8,)), ((4, 6, 8), (6, 1)), ((4, 6, 7), (7,)), ((4, 6, 7), (6, 1)), ((1, 6, 1), (4, 1, 16)),
             ((3, 1), ()), ((1, 1), (5, 1))]  # fmt: skip
    agree(*(row("add", t, drawn(a, t), drawn(b, t), shape=np.broadcast_shapes(a, b))
            for a, b in pairs for t in ("float32", "bfloat16", "uint8")))  # fmt: skip


def test_operands_of_other_types_are_converted():
    types = [("float16", "float32", "float32"), ("int32", "float16", "float16"), ("bool", "int64", "int64")]
    agree(*(row("add", c, drawn((33, 8), a), drawn((33, 8), b, "transposed"), shape=(33, 8)) for a, b, c in types),
          row("add", "float32", *[drawn((9, 8), "float32")] * 2, shape=(9, 8), out="float16"))  # fmt: skip


def test_numbers_come_by_value():
    calls = []
    for t in ("float32", "float16", "bfloat16", "int64", "uint8"):
        x = drawn((5, 40), t)
        calls += [row("multiply", t, x, (2.75, t), shape=x.shape), row("add", t, (3, t), (2, t), shape=()),
                  row("where", t, drawn((40,), "bool"), x, (1, t), shape=x.shape)]  # fmt: skip
    agree(*calls)
    name, ins, out, attrs = calls[0]
    assert "x1 =" not in text(name, ins, [out], attrs)


def test_unaligned_views_are_right():
    agree(*(row("add", "float16", drawn((4099 + k,), "float16")[k:], drawn((4099,), "float16"), shape=(4099,))
            for k in (1, 3, 8)))  # fmt: skip


def test_grid_may_be_smaller_than_the_work(monkeypatch):
    monkeypatch.setattr(pointwise, "BLOCKS", 2)
    monkeypatch.setattr(copy, "BLOCKS", 2)
    x = drawn((90, 130), "float16")
    column = drawn((90, 1), "float16")
    agree(*(row("add", "float16", x, y, shape=x.shape) for y in (x, column)), cast(x.T, "float32"))


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


def test_casts_between_all_types():
    turned = [cast(drawn((40, 50), a, "transposed"), b) for a, b in zip(ALL, ALL[3:] + ALL[:3], strict=True)]
    agree(*(cast(drawn((100,), a), b) for a, b in itertools.product(ALL, ALL)), *turned)


def test_layouts_are_transposed_by_tiles():
    calls = []
    for t, shape in itertools.product(("float16", "float64", "bool"), ((2, 65, 70), (3, 8, 9, 33), (100, 8), (8, 200))):
        last = np.moveaxis(drawn(shape, t), -1, 1) if len(shape) > 2 else drawn(shape, t).T
        assert "__shared__" in text("cast", [last], [(last.shape, t)], {})
        calls += [cast(last, t), cast(np.ascontiguousarray(last), t, [s // last.itemsize for s in last.strides])]
    agree(*calls)


def test_copies_of_any_strides():
    everywhere = ((512, 16, 1), (1, 8, 80), (1000, 50, 3), (16, 500, 1))
    types = (("float32", "float32"), ("float16", "float32"), ("uint8", "bool"))
    calls = [cast(drawn((8, 10, 16), a, how), b, strides)
             for (how, strides), (a, b) in zip(itertools.product(HOW, everywhere), itertools.cycle(types))]  # fmt: skip
    wide = drawn((10, 1), "float16")
    agree(*calls, *(("cast", [wide], ((8, 10, 16), "float16", strides), {}) for strides in everywhere))


def test_copies_that_convert_nothing_share_kernels():
    names = {text("cast", [drawn((9,), d)], [((9,), d)], {}) for d in ("float32", "int32")}
    assert len(names) == 1 and "Half" not in text("cast", [drawn((9,), "float16")], [((9,), "float16")], {})
    assert FACTORIES["cast"] is copy.cast
