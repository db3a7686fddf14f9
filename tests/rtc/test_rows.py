"""Groups of rows: kernels of both dialects against the members run one by one, and what the description says."""

from __future__ import annotations

import numpy as np
import pytest
from rtc import emulator
from rtc.row_bodies import BODIES
from test_fusion import drawn

from minimx.graph.lower import lower
from minimx.rtc.cuda import fused_rows
from minimx.rtc.group import Body, c_strides
from minimx.rtc.rows import row_group_of

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
    arrays = [x.asnumpy() for x in args]
    seen = [view(x) for view, x in zip(views, arrays, strict=True)] if views else arrays
    group = group_of(graph, [tuple(s // x.itemsize for s in x.strides) for x in seen])
    recipe = fused_rows.fused(group)
    want = members_give(graph, args)
    got = [emulator.empty(y.shape, y.dtype.name) for y in want]
    emulator.run(recipe, [*seen, *got])
    near(got, want, graph.outputs, recipe.launches[0].code.text)
    return recipe


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BODIES)
def test_bodies(name, dtype):
    emulated(BODIES[name]((2, 3, 40), dtype))
