"""Recipes that move elements, on the emulator: gather, put, paste, concat, fill against the CPU's kernels.

What the table's samples do not reach (test_recipes.py): rows that are whole words or not, misaligned views, repeated
indices, long lists, sorts of several blocks and passes, indices out of range.
"""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from rtc.emulator import cpu, launch, made, numpy_type, prepare

from minimx.ops.table import Spec
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import gather, join, lists, moving

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

rng = np.random.default_rng(3)
MODES = (0, 1, 2)  # raise, clip, wrap


def drawn(shape, dtype="float32"):
    """Numbers whose sums are exact in every type but the 8-bit ones, which wrap."""
    low = 0 if dtype in ("bool", "uint8") else -4
    return rng.integers(low, 2 if dtype == "bool" else 5, shape).astype(numpy_type(dtype))


def moved(x):
    """The same elements one place behind where an allocation begins."""
    memory = np.zeros(x.size + 1, x.dtype)
    memory[1:] = x.ravel()
    return memory[1:].reshape(x.shape)


def agree(*calls):
    """The recipes and the CPU's kernels give the same bits. calls: (name, ins, outs, attrs)."""
    prepare([made(*call) for call in calls])
    for call in calls:
        for g, w in zip(launch(*call), cpu(*call), strict=True):
            np.testing.assert_array_equal(g.view(f"u{g.itemsize}"), w.view(f"u{w.itemsize}"), err_msg=str(call))


def together(test):
    """A test that yields calls: they are compiled together, then each is compared."""

    @functools.wraps(test)
    def run(**arguments):
        agree(*test(**arguments))

    return run


def blocks(outer, n, inner, count, **more):
    return {"outer": outer, "n": n, "inner": inner, "count": count} | more


# ---- gather ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16", "float32", "float64"])
@together
def test_gather(dtype):
    for inner, outer, mode, place in itertools.product((1, 3, 16, 600), (1, 3), MODES, (np.asarray, moved)):
        i = rng.integers(-7 if mode == 0 else -20, 7 if mode == 0 else 20, (11,))
        ins = [place(drawn((outer, 7, inner), dtype)), place(i)]
        yield ("gather", ins, [((outer, 11, inner), dtype)], blocks(outer, 7, inner, 11, mode=mode))


@together
def test_gather_by_a_number():
    yield ("gather", [drawn((3, 4)), (-1, "int64")], [((4,), "float32")], blocks(1, 3, 4, 1, mode=0))


@together
def test_gather_of_many_rows():
    x, i = drawn((5, 2)), rng.integers(0, 5, (70000,))
    yield ("gather", [x, i], [((70000, 2), "float32")], blocks(1, 5, 2, 70000, mode=0))


def test_out_of_range_is_clipped_where_the_cpu_raises():
    x = drawn((4, 2))
    (y,) = launch("gather", [x, np.array([9, -9, -1])], [((3, 2), "float32")], blocks(1, 4, 2, 3, mode=0))
    np.testing.assert_array_equal(y, x[[3, 0, 3]])
    (y,) = launch("put", [x[:3], np.array([9, -9, -1])], [((4, 2), "float32")], blocks(1, 4, 2, 3, mode=0))
    np.testing.assert_array_equal(y, [x[1], [0, 0], [0, 0], x[0] + x[2]])


@pytest.mark.parametrize(
    "indices", [[0], [2, 1, 0, 1, 2, 3, 4, 3, 2], [0, 0, 0, 3, 3, 1], [4, 2, 0], list(range(5)) * 80]
)
@together
def test_static_indices(indices):
    n = len(indices)
    yield ("gather_static", [drawn((2, 5, 3))], [((2, n, 3), "float32")], blocks(2, 5, 3, n, indices=indices))
    yield ("put_static", [drawn((2, n, 3))], [((2, 5, 3), "float32")], blocks(2, 5, 3, n, indices=indices))


def test_runs_are_the_list():
    for numbers in ([5], [0, 0, 0, 1, 2], [3, 1, 4, 1, 5, 9, 2, 6], list(range(100)), [2, 1, 0, 1, 2, 3, 4, 3, 2]):
        runs = gather.runs(numbers)
        ends = [at for at, _, _ in runs[1:]] + [len(numbers)]
        told = [a + k * s for (at, a, s), end in zip(runs, ends, strict=True) for k in range(end - at)]
        assert told == numbers
    assert gather.runs([0, 0, 0, 1, 2]) == [(0, 0, 0), (3, 1, 1)]


@pytest.mark.parametrize("mode", MODES)
@together
def test_gather_elements(mode):
    for dtype, (outer, n, inner, count) in itertools.product(("bool", "float16", "int32", "float64"),
                                                             [(2, 5, 3, 4), (1, 4, 1, 300), (3, 2, 1, 0)]):  # fmt: skip
        i = rng.integers(-n, n, (outer, count, inner)) if mode == 0 else rng.integers(-9, 9, (outer, count, inner))
        ins = [drawn((outer, n, inner), dtype), i]
        yield ("gather_elements", ins, [(i.shape, dtype)], blocks(outer, n, inner, count, mode=mode))


@together
def test_ravel_index():
    i, j = rng.integers(-4, 4, (3, 5)), rng.integers(0, 6, (5,))
    for mode, ins in itertools.product(MODES, ([i, j, (2, "int64")], [i.T.copy().T, j[::-1], np.int64(1)[None]])):
        yield ("ravel_index", ins, [((3, 5), "int64")], {"dims": [4, 6, 3], "mode": mode})
    yield ("ravel_index", [(1, "int64"), (2, "int64")], [((), "int64")], {"dims": [4, 6], "mode": 1})


# ---- put ------------------------------------------------------------------------------------------------------------


def put_call(outer, n, inner, count, index, dtype="float32", base=0, mode=0, place=np.asarray, **more):
    ins = [drawn((outer, count, inner), dtype), index, *([drawn((outer, n, inner), dtype)] if base else [])]
    attrs = blocks(outer, n, inner, count, mode=mode, base=base, **more)
    return "put", [place(x) for x in ins], [((outer, n, inner), dtype)], attrs


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "bfloat16", "float32", "float64"])
@together
def test_put(dtype):
    for (base, is_set), inner in itertools.product(itertools.product((0, 1), repeat=2), (1, 3, 16)):
        place = moved if inner == 3 else np.asarray
        yield put_call(2, 6, inner, 20, rng.integers(-6, 6, 20), dtype, base, set=is_set, place=place)


@pytest.mark.parametrize("mode", MODES)
@together
def test_put_by_modes_and_numbers(mode):
    yield put_call(1, 5, 4, 9, rng.integers(-5 if mode == 0 else -30, 5 if mode == 0 else 30, 9), mode=mode)
    yield put_call(1, 5, 4, 0, np.zeros(0, "int64"), mode=mode, base=1)
    ins = [drawn((1, 4)), (-2, "int64")]
    yield ("put", ins, [((5, 4), "float32")], blocks(1, 5, 4, 1, mode=0, base=0, set=1))


@pytest.mark.parametrize(("n", "count"), [(7, 3000), (70000, 2500), (300, 1025), (1, 200), (256, 1024), (9, 33)])
@together
def test_put_sorts_over_blocks_and_passes(n, count):
    index = rng.integers(0, n, count)
    index[: count // 3] = n // 2  # a long list
    yield put_call(1, n, 2, count, index)
    yield put_call(1, n, 1, count, index, "int32", base=1)


def test_put_adds_in_the_order_of_the_indices():
    """To the bit, also where sums round; beyond LONG additions to a row they are only close."""
    v = rng.normal(size=(1, 600, 8)).astype("float32")
    index = np.repeat(np.arange(10), 60)
    rng.shuffle(index)
    attrs = blocks(1, 10, 8, 600, mode=0)
    assert np.bincount(index).max() <= lists.LONG
    agree(("put", [v, index], [((1, 10, 8), "float32")], attrs))
    index[:500] = 3
    outs = [((1, 10, 8), "float32")]
    np.testing.assert_allclose(launch("put", [v, index], outs, attrs)[0], cpu("put", [v, index], outs, attrs)[0],
                               rtol=1e-5, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("base", [0, 1])
@together
def test_put_elements(base):
    for dtype, (outer, n, inner, count) in itertools.product(
        ("uint8", "bfloat16", "float32"), [(3, 5, 4, 1), (2, 6, 3, 30), (2, 7, 2, 100), (1, 40, 1, 3000), (2, 3, 4, 0)]
    ):
        i = rng.integers(-n, n, (outer, count, inner))
        ins = [drawn(i.shape, dtype), i, *([drawn((outer, n, inner), dtype)] if base else [])]
        if dtype == "bfloat16":
            ins = [x if x.dtype == i.dtype else (x / 8).astype(x.dtype) for x in ins]
        yield ("put_elements", ins, [((outer, n, inner), dtype)], blocks(outer, n, inner, count, mode=0, base=base))


# ---- paste and concat -----------------------------------------------------------------------------------------------

REGIONS = [  # shape of y, start, step, region
    ((4, 5), (1, 2), (1, 1), (2, 3)),
    ((4, 5), (3, 4), (-1, -2), (4, 2)),
    ((3, 40), (0, 4), (1, 1), (3, 32)),
    ((3, 41), (1, 3), (2, 1), (1, 30)),
    ((2, 3, 4, 8), (0, 1, 0, 0), (1, 1, 1, 1), (2, 2, 4, 8)),
    ((2, 3, 4), (0, 0, 0), (1, 1, 1), (2, 3, 4)),
    ((600,), (3,), (7,), (80,)),
    ((3, 4), (1, 1), (1, 1), (0, 2)),
    ((), (), (), ()),
    ((5, 1, 6), (2, 0, 0), (1, 1, 1), (2, 1, 6)),
]


@pytest.mark.parametrize("case", REGIONS, ids=str)
@together
def test_paste(case):
    shape, start, step, region = case
    attrs = {"start": [*start], "step": [*step], "region": [*region], "value": -1.5}
    for dtype in ("uint8", "float16", "float32", "int64"):
        y = [(shape, dtype)]
        v, base = drawn(region, dtype), drawn(shape, dtype)
        yield ("paste", [v], y, attrs | {"base": 0})
        yield ("paste", [moved(v), base], y, attrs | {"base": 1})
        yield ("paste", [np.asarray(v, order="F"), np.broadcast_to(base[..., :1], shape) if shape else base], y,
              attrs | {"base": 1})  # fmt: skip
        yield ("paste", [(3, dtype), base], y, attrs | {"base": 1})
        yield ("paste", [v[..., :1] if region else v], y, attrs | {"base": 0})


@together
def test_paste_writes_strided_arrays():
    """y lies with its first axis innermost, as channels-last values of programs do."""
    shape, dtype = (3, 4, 5), "float32"
    attrs = {"start": [1, 0, 2], "step": [1, 1, 1], "region": [2, 4, 3], "value": 0.0, "base": 1}
    yield ("paste", [drawn((2, 4, 3)), drawn(shape)], [(shape, dtype, (1, 3, 12))], attrs)


CONCATS = [  # axes before, lengths, axes after
    ((2, 3), (4, 16, 0, 8), (4,)),
    ((), (5, 3, 7), ()),
    ((9,), (1, 2), (3,)),
    ((2,), (1,) * 20, (5,)),
]


@pytest.mark.parametrize("dtype", ["bool", "bfloat16", "float32", "float64"])
@together
def test_concat(dtype):
    for lead, widths, tail in CONCATS:
        ins = [drawn((*lead, w, *tail), dtype) for w in widths]
        y = [((*lead, sum(widths), *tail), dtype)]
        yield ("concat", ins, y, {"axis": len(lead), "flat": 0})
        yield ("concat", [moved(x) for x in ins], y, {"axis": len(lead), "flat": 0})
        yield ("concat", ins, [((math.prod(y[0][0]),), dtype)], {"axis": 0, "flat": 1})
    yield ("concat", [drawn((0, 3), dtype)] * 2, [((0, 3), dtype)], {"axis": 0, "flat": 0})


@together
def test_concat_of_strided_arrays():
    ins = [drawn((4, 2, 3)).T, drawn((3, 5, 8))[:, :, ::2]]
    yield ("concat", ins, [((3, 7, 4), "float32")], {"axis": 1, "flat": 0})
    yield ("concat", ins, [((3, 7, 4), "float32", (28, 1, 7))], {"axis": 1, "flat": 0})


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32"]
)
def test_numbers_become_the_elements_that_the_cpu_makes(dtype):
    for value in (0.0, 1.0, -1.0, 2.75, -0.0, 300.0, 1e6, -3e9, 1e30, 0.1, 65519.0, 65520.0, math.inf, math.nan):
        attrs = {"start": [0], "step": [1], "region": [0], "value": value, "base": 0}
        (want,) = cpu("paste", [drawn((0,), dtype)], [((1,), dtype)], attrs)
        raw = join.bits_of(value, dtype).to_bytes(want.itemsize, "little", signed=True)
        if math.isnan(value) and "float" in dtype:
            assert np.isnan(np.frombuffer(raw, want.dtype)[0].astype("float32"))
        else:
            assert raw == want.tobytes(), value


# ---- fill -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "bfloat16", "float32", "float64"])
@together
def test_fill(dtype):
    for shape in [(), (3,), (1000,), (2, 7), (0, 2)]:
        yield ("fill", [], [(shape, dtype)], {"value": 1.5})
        yield ("fill_with", [(2, dtype)], [(shape, dtype)], {})
    yield ("fill", [drawn((3,))], [((3,), dtype)], {"value": -1.0})
    yield ("fill_with", [drawn((1, 4), dtype)], [((5, 4), dtype)], {})
    yield ("fill_with", [drawn((5, 1), dtype)], [((5, 40), dtype)], {})
    yield ("iota", [], [((70,), dtype)], {"start": 1, "step": 1})
    yield ("iota", [], [((33,), dtype)], {"start": 0.25, "step": 0.5})
    yield ("iota", [], [((99,), dtype)], {"start": 0.1, "step": 0.3})
    for low, high in [(0, 0), (-(1 << 40), 1), (1, 2)]:
        yield ("band", [], [((5, 8), dtype)], {"low": low, "high": high})
    for depth, i in itertools.product((5, 16), (np.array([[0, 4], [-1, 99]]), (2, "int64"))):
        shape = (*getattr(i, "shape", ()), depth)
        yield ("one_hot", [i], [(shape, dtype)], {"depth": depth, "on": 1.0, "off": 0.0})


def test_nothing_does_nothing():
    assert not made("nothing", [], [((3,), "float32")], {}).launches


# ---- what is shared -------------------------------------------------------------------------------------------------


def test_grids_cover_and_stay_within_limits():
    for rows, columns in itertools.product((1, 3, 1000, 1 << 28), (1, 5, 257, 1 << 27)):
        (gx, gy, _), (x, y, _) = moving.grid_for(rows, columns)
        assert x * y == moving.THREADS and gy <= 65535 and gx < 1 << 31
    assert moving.word_bytes(48, 8) == 8 and moving.word_bytes(0) == 16 and moving.word_bytes(6) == 2


def test_large_arrays_are_counted_in_64_bits():
    x, y = (Spec((n, 4), "float32", (4, 1)) for n in (1 << 29, 8))
    i = Spec((8,), "int64", (1,))
    recipe = gather.gather([x, i], [y], blocks(1, 1 << 29, 4, 8, mode=0))
    assert "using Index = int64_t" in recipe.launches[0].code.text
    prepare([recipe])


# --- changes of layout ---------------------------------------------------------------------------------------------

FORWARD, BACK = (0, 2, 3, 1), (0, 3, 1, 2)
SHAPES = [(70, 66, 3, 3), (64, 3, 7, 7), (3, 40, 5, 9), (2, 8, 1, 6), (33, 1, 3, 3), (2, 100, 8, 8)]


@pytest.mark.parametrize("types", [("float16", "float16"), ("float32", "float16"), ("float16", "float32")])
@pytest.mark.parametrize("shape", SHAPES)
def test_layout_changes(shape, types):
    """Kernels and images from channels first to channels last and back, perhaps into another type."""
    source, target = types
    for axes in (FORWARD, BACK):
        x = drawn(shape, source)
        view = x.transpose(axes)
        name = "reorder" if source == target else "cast"
        (y,) = launch(name, [view], [(view.shape, target)], {"layout": ""})
        np.testing.assert_array_equal(y, view.astype(numpy_type(target)))


def test_few_channels_are_filled_up_from_planes():
    """What csrc/cuda/conv.cc does to images: channels first in memory, eight of them last behind it."""
    x = drawn((2, 3, 5, 6), "float16")
    view = x.transpose(FORWARD)
    attrs = {"start": [0] * 4, "step": [1] * 4, "region": list(view.shape), "base": 0, "value": 0.0}
    (y,) = launch("paste", [view], [((*view.shape[:3], 8), "float16")], attrs)
    np.testing.assert_array_equal(y[..., :3], view)
    assert not y[..., 3:].any()
