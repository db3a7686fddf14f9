"""Groups of rows: kernels of both dialects against the members run one by one, and what the description says."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from rtc import emulator
from rtc.row_bodies import (
    BODIES,
    Draft,
    as_node,
    layer_norm,
    layer_norm_dx,
    masked_log_softmax,
    rms_norm,
    softmax,
    sums,
)
from rtc.test_nvrtc import codes, compile_all, nvrtc  # noqa: F401
from test_fusion import drawn

import minimx as mx
from minimx.errors import GraphError, NotSupported
from minimx.graph.lower import lower
from minimx.ops.table import OPS
from minimx.rtc import emit_host
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import fused_rows
from minimx.rtc.cuda.row import ROW
from minimx.rtc.group import Body, c_strides
from minimx.rtc.rows import Phases, row_group_of, takes

DTYPES = ("float32", "float16", "bfloat16", "float64")
NEAR = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


def group_of(graph, strides=None):
    """The RowGroup of a body, whose inputs are contiguous or have the strides given."""
    given = strides or [c_strides(v.shape) for v in graph.inputs]
    return row_group_of(Body(graph, [(v.shape, v.dtype, s) for v, s in zip(graph.inputs, given, strict=True)]))


def operands(graph):
    """An array of the framework for each input."""
    return [drawn(v.shape, v.dtype, i) for i, v in enumerate(graph.inputs)]


def members_give(graph, args):
    """What the body gives, node by node."""
    return [y.asnumpy() for y in lower(graph).run(args, False)]


def near(got, want, of, what=""):
    """Equal within rounding of the type, of sums of many."""
    for g, w, v in zip(got, want, of, strict=True):
        dtype = v.dtype
        tolerance = NEAR.get(dtype, 0)
        g, w = g.astype("float64"), w.astype("float64")
        scale = np.max(np.abs(w[np.isfinite(w)]), initial=1.0)
        np.testing.assert_allclose(g, w, rtol=4 * tolerance, atol=4 * tolerance * scale, err_msg=what)


def emulated(graph, views=None):
    """A body's recipe on the emulator against its members. views: how each input is seen, a function of its array."""
    args = operands(graph)
    seen = [x.asnumpy() for x in args]
    if views:
        seen = [view(x) for view, x in zip(views, seen, strict=True)]
        args = [mx.np.array(np.ascontiguousarray(x), dtype=x.dtype.name) for x in seen]
    group = group_of(graph, [tuple(s // x.itemsize for s in x.strides) for x in seen])
    recipe = fused_rows.fused(group)
    want = members_give(graph, args)
    got = [emulator.empty(y.shape, y.dtype.name) for y in want]
    emulator.run(recipe, [*seen, *got])
    near(got, want, graph.outputs, recipe.launches[0].code.text)
    return recipe


# ---- the GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BODIES)
def test_bodies(name, dtype):
    emulated(BODIES[name]((2, 3, 40), dtype))


@pytest.mark.parametrize("n", [1, 2, 3, 32, 197, 768, 1000, 4096, 8192])
def test_lengths(n):
    for body, dtype in ((softmax, "float16"), (layer_norm, "float32"), (sums, "int32")):
        emulated(body((3, n), dtype))


@pytest.mark.parametrize("rows", [1, 2, 31, 1000])
def test_counts(rows):
    for body in (layer_norm, sums):
        emulated(body((rows, 24), "float32"))


def test_the_grid_may_be_smaller_than_the_rows():
    recipe = emulated(softmax((300, 8), "float32"))
    (launch,) = recipe.launches
    graph = softmax((300, 8), "float32")
    few = dataclasses.replace(recipe, launches=(dataclasses.replace(launch, grid=(2, 1, 1)),))
    args = operands(graph)
    got = [emulator.empty((300, 8), "float32")]
    emulator.run(few, [args[0].asnumpy(), *got])
    near(got, members_give(graph, args), graph.outputs)


def test_rows_may_lie_anywhere():
    """Transposed, with a pitch, reversed, every third element, broadcast, and two axes that do not merge."""
    for shape in ((4, 6, 40), (4, 1, 33)):
        for views in (
            [transposed, pitched, lambda x: x, lambda x: x, lambda x: x],
            [reversed_rows, stretched, repeated, lambda x: x, stretched],
        ):
            emulated(layer_norm(shape, "float32"), views)
    emulated(rms_norm((3, 8, 12), "float16"), [transposed, lambda x: x])
    emulated(rms_norm((3, 8, 12), "float32"), [pitched, transposed])
    emulated(masked_log_softmax((2, 3, 5, 24), "float32"), [transposed, pitched])


def transposed(x):
    """The same elements, the last two axes the other way round in memory."""
    return np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)


def pitched(x):
    """Rows with three more elements behind each."""
    return np.concatenate([x, x[..., :3]], -1)[..., : x.shape[-1]]


def stretched(x):
    """Every third element of longer rows."""
    return np.repeat(x, 3, -1)[..., ::3]


def reversed_rows(x):
    """From the end to the beginning in memory."""
    return np.ascontiguousarray(x[::-1, ..., ::-1])[::-1, ..., ::-1]


def repeated(x):
    """One element in place of all."""
    return np.broadcast_to(x.reshape(-1)[0], x.shape)


def test_an_output_may_lie_where_an_operand_does():
    graph = layer_norm_dx((5, 40), "float32")
    args = operands(graph)
    want = members_give(graph, args)
    arrays = [x.asnumpy().copy() for x in args]
    emulator.run(fused_rows.fused(group_of(graph)), [*arrays, arrays[0]])
    near(arrays[:1], want, graph.outputs)


def test_many_rows_are_one_text():
    texts = {
        fused_rows.fused(group_of(layer_norm((m, 512), "float16"))).launches[0].code for m in (4096, 8192, 1 << 20)
    }
    assert len(texts) == 1
    (wide,) = fused_rows.fused(group_of(softmax((1 << 22, 512), "float16"))).launches
    assert "using Index = int64_t" in wide.code.text


def test_what_is_kept():
    """x - mean is done again, exp(x - max) and a sum of two arrays are not."""

    def kept(graph):
        group = group_of(graph)
        return [group.rows[k] for k in sorted(Phases(group).kept)]

    assert kept(softmax((4, 64), "float32")) == ["exp"]
    assert kept(layer_norm((4, 64), "float32")) == ["add"]
    assert kept(rms_norm((4, 64), "float32")) == []
    assert Phases(group_of(softmax((4, 64), "float32"))).words() == 1


def test_which_rows_are_taken():
    assert takes(8192, 4, {"float32", "float16"}, True) and not takes(1 << 20, 1, {"float16"}, True)
    assert takes(8192, 2, {"float64"}, True) and not takes(16384, 2, {"float64"}, True)
    assert takes(20000, 3, {"float32", "bfloat16"}, False) and not takes(30000, 3, {"float32", "float16"}, False)
    assert not takes(0, 1, {"float32"}, True)
    with pytest.raises(NotSupported, match="registers"):
        fused_rows.fused(group_of(softmax((2, 1 << 20), "float32")))


def test_bodies_that_are_no_rows_are_refused():
    d = Draft()
    x = d.given((4, 4), "float32")
    with pytest.raises(GraphError, match="at least one reduction"):
        group_of(d.graph(d.exp(x)))
    d = Draft()
    x = d.given((4, 4), "float32")
    with pytest.raises(GraphError, match="last axes"):
        group_of(d.graph(d.sum(x, axis=0, keepdims=False)))
    d = Draft()
    x = d.given((4, 4), "float32")
    with pytest.raises(GraphError, match="read where they were made"):
        group_of(d.graph(d.add(x, d.sum(x, axis=1))))  # a column's sum to each element of a row
    d = Draft()
    x, y = d.given((4, 4), "float32"), d.given((3, 4), "float32")
    total = d.sum(x, axis=1)
    with pytest.raises(GraphError, match="members over"):
        group_of(d.graph(total, d.exp(y)))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_text_compiles(nvrtc, arch):  # noqa: F811
    shapes = {"float32": (2, 3, 1000), "float16": (2, 4, 768), "bfloat16": (2, 4, 96), "float64": (2, 3, 35)}
    graphs = [body(shape, dtype) for body in BODIES.values() for dtype, shape in shapes.items()]
    recipes = [fused_rows.fused(group_of(g)) for g in graphs]
    compile_all(nvrtc, codes(recipes), arch)


def every_reduction(dtype):
    """A body with all reductions of the table over the rows of one array, and a step that reads the first."""
    d = Draft()
    x = d.given((3, 37), dtype)
    made = [d.call(op.name, (x,), {"axis": -1, "keepdims": op.name == "max"})
            for op in OPS.values() if op.kind == "reduce" and dtype in op.row.dtypes]  # fmt: skip
    return d.graph(*made, d.equal(x, d.max(x, axis=-1, keepdims=True)))


@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "uint8", "bool"])
def test_every_reduction(dtype):
    emulated(every_reduction(dtype))


# ---- the CPU ---------------------------------------------------------------------------------------------------------


def on_host(graph):
    """A body as a fused node of a program, after its kernel was compiled, against its members."""
    args = operands(graph)
    program = lower(as_node(graph))
    want = members_give(graph, args)
    near([y.asnumpy() for y in program.run(args, False)], want, graph.outputs)  # maybe the members
    assert mx.rtc.wait(120)
    near([y.asnumpy() for y in program.run(args, False)], want, graph.outputs)


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("dtype", DTYPES)
def test_host(dtype):
    for body in BODIES.values():
        on_host(body((2, 3, 40), dtype))
    on_host(every_reduction(dtype))
    assert "failed" not in mx.rtc.report().replace("0 failed", "")


def test_strides_and_lengths_on_host():
    """Rows of one element, of odd numbers, of many; vectors; two outputs of rows."""
    for shape in ((1, 1), (5, 3), (7, 197), (2, 4096)):
        on_host(layer_norm(shape, "float32"))
        on_host(sums(shape, "int32"))


# ---- text ------------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden"
TEXTS = {
    "rows_layer_norm.cu": lambda: fused_rows.fused(group_of(layer_norm((4096, 768), "float16"))).launches[0].code.text,
    "rows_softmax.cc": lambda: emit_host.source([group_of(softmax((128, 1000), "float32"))]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_as_reviewed(name):
    """To accept a change: MINIMX_GOLDEN=write pytest tests/rtc/test_rows.py."""
    got, path = TEXTS[name]().replace(ROW, '#include "row.h"\n'), GOLDEN / name
    if os.environ.get("MINIMX_GOLDEN") == "write":
        path.write_text(got)
    assert got == path.read_text()
