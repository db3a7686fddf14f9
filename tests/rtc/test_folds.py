"""Fold groups (minimx/rtc/folds.py) on the emulator, through NVRTC and through the host's compiler, against the unfused
graph on the CPU. Bodies are built by hand here; which nodes become such groups is tested with the passes.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rtc import emulator
from rtc.test_nvrtc import codes, compile_all, nvrtc  # noqa: F401
from rtc.test_ptx import ptx
from rtc.test_text import GOLDEN, told

import minimx as mx
from minimx.errors import GraphError
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.lower import lower
from minimx.ops.dtypes import BY_NAME
from minimx.ops.table import OPS, Spec
from minimx.rtc import emit_host
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import compile as compiling
from minimx.rtc.cuda import fused_fold, pointwise
from minimx.rtc.cuda.fused_fold import FoldText
from minimx.rtc.cuda.recipe import Recipe
from minimx.rtc.folds import fold_group_of, takes
from minimx.rtc.group import Body, c_strides
from minimx.rtc.text import kernel_name

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

rng = np.random.default_rng(11)
ERROR = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def drawn(shape, dtype="float32", how="whole"):
    """An array. how: "whole", "transposed", "sliced" (an offset and gaps), "reversed"."""
    if not shape:
        return drawn((1,), dtype).reshape(())
    if how == "transposed":
        return drawn(shape[::-1], dtype).T
    if how == "sliced":
        return drawn([2 * n + 2 for n in shape], dtype)[tuple(slice(1, 2 * n + 1, 2) for n in shape)]
    if how == "reversed":
        return drawn(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)]
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    values = rng.uniform(-2, 2, shape)
    return values.astype(emulator.numpy_type(dtype)) if "float" in dtype else (values * 5).astype(dtype)


class Made:
    """A body in the making: ``made("add", x, y)`` adds a node and is its output."""

    def __init__(self) -> None:
        self.graph = Graph("fold", [], [], [])
        self.arrays: list[np.ndarray] = []

    def input(self, x: np.ndarray) -> Value:
        v = Value(x.shape, x.dtype.name)
        self.graph.inputs.append(v)
        self.arrays.append(x)
        return v

    def __call__(self, op: str, *inputs: Any, **attrs: Any) -> Value:
        row = OPS[op]
        attrs = {p.name: p.default for p in row.attributes if not p.required} | attrs
        specs = [Spec(x.shape, x.dtype, c_strides(x.shape)) if isinstance(x, Value)
                 else Spec((), "float64" if isinstance(x, float) else "int64", (), True) for x in inputs]  # fmt: skip
        (shape, dtype), *_ = row.plan(specs, attrs).outs
        out = Value(tuple(shape), dtype)
        self.graph.nodes.append(Node(op, list(inputs), [out], attrs))
        return out

    def gives(self, *outputs: Value) -> Made:
        self.graph.outputs = list(outputs)
        return self

    def group(self):
        specs = [(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides)) for x in self.arrays]
        return fold_group_of(Body(self.graph, specs))

    def wanted(self) -> list[np.ndarray]:
        """What the graph's operators give one by one."""
        args = [mx.np.array(x.astype("float32") if x.dtype.name == "bfloat16" else np.array(x, order="C"),
                            dtype=x.dtype.name) for x in self.arrays]  # fmt: skip
        return [y.asnumpy() for y in lower(self.graph).run(args, False)]


def check(made: Made, outputs: list[np.ndarray]) -> None:
    """The fused kernel's outputs are the unfused operators', within rounding."""
    for got, want, v in zip(outputs, made.wanted(), made.graph.outputs, strict=True):
        error = ERROR.get(v.dtype, 0)
        got, want = got.astype("float64"), want.astype("float64")
        np.testing.assert_allclose(got, want, error, error * max(1, math.sqrt(made.group().each) / 8),
                                   err_msg=made.group().title())  # fmt: skip


def agree(*bodies: Made) -> list[Recipe]:
    """Recipes on the emulator."""
    recipes = [fused_fold.fused(m.group()) for m in bodies]
    emulator.prepare(recipes)
    for made, recipe in zip(bodies, recipes, strict=True):
        outs = [emulator.empty(v.shape, v.dtype) for v in made.graph.outputs]
        emulator.run(recipe, [*made.arrays, *outs])
        check(made, outs)
    return recipes


# ---- bodies ---------------------------------------------------------------------------------------------------------


def bias_gradient(shape, dtype="float16", axis=0, how="whole"):
    """g * gelu'(x), stored, and its sums."""
    made = Made()
    g, x = made.input(drawn(shape, dtype, how)), made.input(drawn(shape, dtype))
    d = made("multiply", g, made("tanh", x))
    return made.gives(d, made("sum", d, axis=axis))


def mean_square(shape, dtype="float32", axis=None):
    """mean((x - y) ** 2)."""
    made = Made()
    d = made("subtract", made.input(drawn(shape, dtype)), made.input(drawn(shape, dtype)))
    return made.gives(made("mean", made("multiply", d, d), axis=axis))


def norm_gradient(rows, n, dtype="float16"):
    """dgamma and dbeta of layer norm: operands that are broadcast along the columns and along the rows."""
    made = Made()
    dy, x = made.input(drawn((rows, n), dtype)), made.input(drawn((rows, n), dtype))
    mean, rstd = made.input(drawn((rows, 1))), made.input(drawn((rows, 1)))
    shift = made.input(drawn((n,)))
    wide = made("cast", dy, dtype="float32")
    hat = made("multiply", made("subtract", made("cast", x, dtype="float32"), mean), rstd)
    gamma = made("sum", made("multiply", wide, made("add", hat, shift)), axis=0)
    return made.gives(made("cast", gamma, dtype=dtype), made("sum", wide, axis=0))


def pooling(shape, dtype="float16", axis=1):
    """The mean over the middle, with a bias and a ReLU behind."""
    made = Made()
    x = made("relu", made.input(drawn(shape, dtype)))
    bias = made.input(drawn((shape[-1],), dtype))
    return made.gives(made("relu", made("add", made("mean", x, axis=axis), bias)))


def several(shape, dtype, axis):
    """A sum and an extreme together, of an operand in two ways, joined behind; one of them is a result, too."""
    made = Made()
    x = made.input(drawn(shape, dtype))
    total = made("sum", made("multiply", x, 2), axis=axis, keepdims=True)
    top = made("max", made("negative", x), axis=axis, keepdims=True)
    return made.gives(made("add", total, top), top, made("any", x, axis=axis))


def agree_on_host(*bodies: Made) -> None:
    """Functions of the host's compiler, for all results at once and for parts of them."""
    groups = [m.group() for m in bodies]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "folds.cc", Path(folder) / "folds.so"
        source.write_text(emit_host.source(list({g.key: g for g in groups}.values())))
        complaint = find_compiler().run(source, made)
        assert not complaint, complaint
        library = ctypes.CDLL(str(made))
    for body, g in zip(bodies, groups, strict=True):
        function = getattr(library, kernel_name(g))
        for parts in (1, 3):
            outs = [emulator.empty(v.shape, v.dtype) for v in body.graph.outputs]
            data = (ctypes.c_void_p * (len(body.arrays) + len(outs)))(*(x.ctypes.data for x in [*body.arrays, *outs]))
            cuts = [g.items * k // parts for k in range(parts + 1)]
            for begin, end in itertools.pairwise(cuts):
                function(data, ctypes.c_int64(begin), ctypes.c_int64(end))
            check(body, outs)


# ---- emulator -------------------------------------------------------------------------------------------------------

SHAPES = [((300, 7), 1), ((300, 7), 0), ((3, 1001), 1), ((9, 2048), 0), ((40, 64, 3, 8), (0, 2)), ((1, 1), (0, 1)),
          ((4, 8, 16, 16), (0, 2, 3)), ((64, 100, 2), (0, 2)), ((5,), 0), ((2, 3, 4), (0, 1, 2)),
          ((1, 6), 0)]  # fmt: skip


@pytest.mark.parametrize("run", [agree, agree_on_host])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bodies_over_all_axes(dtype, run):
    run(*(bias_gradient(s, dtype, a) for s, a in SHAPES), *(mean_square(s, dtype, a) for s, a in SHAPES))


@pytest.mark.parametrize("run", [agree, agree_on_host])
def test_several_reductions_of_every_type(run):
    types = ("float32", "float16", "bfloat16", "float64", "int32", "int64")
    run(*(several(s, t, a) for s, a in SHAPES[:6] for t in types))


@pytest.mark.parametrize("run", [agree, agree_on_host])
@pytest.mark.parametrize("how", ["transposed", "sliced", "reversed"])
def test_operands_of_any_strides(how, run):
    run(*(bias_gradient(s, "float32", a, how) for s, a in [*SHAPES[:7], ((64, 48), 0), ((64, 48), 1)]))


@pytest.mark.parametrize("run", [agree, agree_on_host])
def test_operands_that_are_broadcast(run):
    run(norm_gradient(40, 24), norm_gradient(700, 32, "bfloat16"), norm_gradient(33, 7, "float32"))


@pytest.mark.parametrize("run", [agree, agree_on_host])
def test_pooling(run):
    run(pooling((3, 49, 64)), pooling((2, 5, 6, 33), "float32", (1, 2)), pooling((2, 9, 8), "bfloat16"))


def test_many_elements():
    bodies = [mean_square((70_000,)), bias_gradient((5000, 16)), bias_gradient((2, 6000, 3), "float32", 1),
              mean_square((130_001,), "float16"), several((6000, 8), "int64", 0)]  # fmt: skip
    assert [len(r.launches) for r in agree(*bodies)] == [2] * 5
    agree_on_host(*bodies)


def test_numbers_that_are_not_finite_and_ends_of_packs():
    made = Made()
    x = drawn((4, 1003))
    x[0, 5], x[1, 1001], x[2, 0] = np.nan, np.inf, -np.inf
    v = made.input(x)
    made.gives(made("max", made("multiply", v, 1.0), axis=1), made("sum", v, axis=1), made("all", v, axis=1))
    agree(made)
    agree_on_host(made)


def test_a_store_in_place_of_an_operand():
    made = bias_gradient((700, 64))
    g, x = made.arrays
    recipe = fused_fold.fused(made.group())
    want, sums = made.wanted()[0].astype("float64"), emulator.empty((64,), "float16")
    emulator.run(recipe, [g, x, g, sums])
    np.testing.assert_allclose(g.astype("float64"), want, 4e-3, 4e-3)
    np.testing.assert_allclose(sums.astype("float64"), want.sum(0), 1e-2, 1e-2)


def test_large_arrays_count_in_64_bits(monkeypatch):
    monkeypatch.setattr(pointwise, "SMALL", 1)
    recipes = agree(norm_gradient(70, 24), bias_gradient((40, 6, 3, 8), "float32", (0, 2)), mean_square((5000,)))
    assert all("using Index = int64_t" in launch.code.text for r in recipes for launch in r.launches)


# ---- descriptions, texts, cuts --------------------------------------------------------------------------------------


def test_equal_kernels_are_shared_among_shapes():
    def names(made):
        return [launch.code.name for launch in fused_fold.fused(made.group()).launches]

    assert names(bias_gradient((4096, 768))) == names(bias_gradient((9000, 3072)))
    assert names(mean_square((70_000,))) == names(mean_square((300, 400)))
    assert names(bias_gradient((4096, 768))) != names(bias_gradient((4096, 767)))


def test_axes_are_merged_and_ordered():
    assert bias_gradient((4, 5, 6, 7), axis=(0, 1, 2)).group().shape == (120, 7)
    assert mean_square((4, 5, 6)).group().shape == (120,)
    g = norm_gradient(6, 6).group()
    assert [o.strides for o in g.inputs] == [(6, 1), (6, 1), (1, 0), (1, 0), (0, 1)]
    assert g.title().startswith("cast, subtract") or "sum, sum" in g.title()


def test_a_square_space_tells_rows_from_columns():
    """A vector over the folded axis, another over the kept one, both as long, made inside from smaller values."""
    made = Made()
    x, rows, columns = made.input(drawn((8, 8))), made.input(drawn((8, 1))), made.input(drawn((8,)))
    scale = made("broadcast_to", made("exp", rows), shape=(8, 8))
    total = made("sum", made("multiply", made("multiply", x, scale), made("tanh", columns)), axis=0)
    made.gives(made("multiply", total, made("tanh", columns)))
    agree(made)
    agree_on_host(made)


def test_what_is_no_fold_is_refused():
    made = Made()
    x = made.input(drawn((4, 5)))
    for outputs in ([made("subtract", x, made("max", x, axis=1, keepdims=True))], [made("exp", x)],
                    [made("sum", x, axis=0), made("sum", x, axis=1)]):  # fmt: skip
        nodes = made.graph.nodes
        live = {v for n in nodes for v in n.outputs if n.outputs[0] in outputs or n.op in ("sum", "max")}
        made.graph.nodes = [n for n in nodes if n.outputs[0] in live or n.outputs[0] in outputs]
        with pytest.raises(GraphError, match="fold group"):
            made.gives(*outputs).group()
        made.graph.nodes = nodes


def test_where_kernels_are_written():
    assert takes((768,), (4096,), {"float16"}, True) and takes((), (1 << 25,), {"float32"}, True)
    assert takes((), (1 << 20,), {"float32"}, False) and not takes((), (1 << 25,), {"float32"}, False)
    assert not takes((0, 3), (5,), {"float32"}, True) and not takes((3,), (1,), {"float32"}, True)
    assert not takes((3,), (1000,), {"float32"}, False)


@pytest.mark.parametrize("shape", [(4096, 768), (4096, 3072), (256 * 56 * 56, 64), (32_768, 1024)])
def test_column_sums_keep_the_device_busy(shape):
    first, second = fused_fold.fused(of_shapes(bias_gradient, shape).group()).launches
    assert "fold_columns<256, 8, 4>" in first.code.text
    assert 2.5 * 132 < first.grid[0] * first.grid[1] <= 4 * 132
    assert second.block[1] * 17 > first.grid[1]  # no thread joins more than a few


def test_means_keep_the_device_busy():
    first, second = fused_fold.fused(of_shapes(mean_square, (25_000_000,), "float16").group()).launches
    assert "fold_rows<256, 8, 4>" in first.code.text and first.grid[1] > 480 and second.grid == (1, 1, 1)


def of_shapes(body, shape, *args):
    """The body over arrays that take no memory."""
    with pytest.MonkeyPatch.context() as m:
        m.setitem(globals(), "drawn", lambda s, dtype="float32", how="": shown(s, dtype))
        return body(shape, *args)


def shown(shape, dtype):
    """An array of C order whose elements nobody may read."""
    kind = np.dtype(emulator.numpy_type(dtype))
    return np.lib.stride_tricks.as_strided(np.zeros(1, kind), shape, [s * kind.itemsize for s in c_strides(shape)])


@functools.cache
def typical():
    """Kernels of a training step in half precision, and others that are written differently."""
    bodies = [of_shapes(bias_gradient, (4096, 768)), of_shapes(mean_square, (1 << 24,), "float16"),
              of_shapes(pooling, (64, 49, 2048)), norm_gradient(512, 768), several((40, 64, 9), "bfloat16", (0, 2)),
              several((300, 7), "float64", 0), mean_square((64, 100, 8), "float32", 1),
              bias_gradient((64, 48), "float16", 1, "transposed")]  # fmt: skip
    return [(m, fused_fold.fused(m.group())) for m in bodies]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_texts_compile(nvrtc, arch):  # noqa: F811
    compile_all(nvrtc, codes(r for _, r in typical()), arch)


def loads(text):
    """How many reads of arrays NVRTC must have left of a kernel: each walk (fold.h's each_pack) has its own."""
    packs = (text.at_once > 1) + 1
    narrow = text.pack > 1 and any(x.how == "pack" for x in (*text.loads, *text.stores))
    tail = text.is_rows and text.pack > 1
    count = 0
    for x in (x for x in text.loads if not x.once):
        apart = 1 if x.how == "one" else text.pack
        wide = max(1, text.pack * BY_NAME[x.dtype].size // 16) if x.how == "pack" else apart
        count += packs * wide + narrow * apart + tail
    return count


def test_no_read_is_lost(nvrtc):  # noqa: F811
    """NVRTC has dropped what right code added up (fold.h says where): nothing but its output tells."""
    texts = [(recipe.launches[0].code, FoldText(m.group())) for m, recipe in typical()]
    kernels = ptx(compiling.source([code for code, _ in texts])).split(".entry ")[1:]
    for code, text in texts:
        (mine,) = (k for k in kernels if k.startswith(code.name))
        assert mine.count("ld.global") >= loads(text), text.group.title()


@pytest.mark.parametrize(("name", "number"), [("bias_gradient", 0), ("mean_square", 1)])
def test_text_is_as_reviewed(name, number):
    made, recipe = typical()[number]
    cuda = "\n".join(told(launch) for launch in recipe.launches)
    for path, got in ((GOLDEN / f"{name}.cu", cuda), (GOLDEN / f"{name}.cc", emit_host.kernel(made.group()))):
        if os.environ.get("MINIMX_GOLDEN") == "write":
            path.write_text(got)
        assert got == path.read_text()


def random_body(seed):
    """A few steps of operands that broadcast and lie in any way, reductions of them, steps behind, some stored."""
    r = random.Random(seed)
    shape = tuple(r.choice((1, 2, 3, 5, 8, 16, 33)) for _ in range(r.randint(1, 4)))
    axes = tuple(sorted(r.sample(range(len(shape)), r.randint(1, len(shape)))))
    made, hows = Made(), ("whole", "transposed", "sliced", "reversed")
    values = [made.input(drawn(shape, r.choice(("float32", "float16", "int32")), r.choice(hows)))]
    for _ in range(r.randint(0, 3)):
        part = tuple(n if r.random() < 0.6 else 1 for n in shape)[r.randint(0, len(shape)) :]
        values.append(made.input(drawn(part, r.choice(("float32", "bfloat16", "uint8")), r.choice(hows))))
    space = values[0]
    for _ in range(r.randint(0, 4)):
        space = made(r.choice(("add", "multiply", "maximum")), space, r.choice([*values, 2.5]))
        values.append(made("negative", space) if r.random() < 0.3 else space)
    keeps, whole = r.random() < 0.5, [v for v in values if v.shape == shape]
    results = [made(r.choice(("sum", "max", "mean", "sum_squares")), r.choice(whole), axis=axes, keepdims=keeps)
               for _ in range(r.randint(1, 3))]  # fmt: skip
    outputs = [made("add", results[0], made.input(drawn(results[0].shape, "float32"))), *results[1:]]
    stored = [v for v in whole if v not in made.graph.inputs]
    return made.gives(*dict.fromkeys([*outputs, *r.sample(stored, min(1, len(stored)))]))


@pytest.mark.parametrize("run", [agree, agree_on_host])
def test_random_bodies(run):
    run(*(random_body(seed) for seed in range(24)))
