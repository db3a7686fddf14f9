"""View rules, on their own: the strides that they answer show NumPy's result in the operand's memory. No array
library runs.

The rows themselves: minimx/ops/rows/shape.py. The same rows run for real in test_rules_samples.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from minimx.errors import IndexOutOfBounds, ShapeError
from minimx.ops.arguments import c_strides
from minimx.ops.keys import canonical_key, select
from minimx.ops.rows.gluon1 import ND_CODES, NPX_CODES, coded_shape
from minimx.ops.rows.shape import strides_after_reshape
from minimx.ops.table import OPS, Spec


def spec_of(x: np.ndarray) -> Spec:
    return Spec(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides))


def shown(base: np.ndarray, x: np.ndarray, plan) -> np.ndarray:
    """The plan's view of ``x``, itself a view of the flat array ``base``."""
    strides, offset = plan.view
    start = (x.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // x.itemsize + offset
    return as_strided(base[start:], plan.outs[0][0], [s * x.itemsize for s in strides])


def reference(name: str, x: np.ndarray, attrs: dict) -> np.ndarray:
    row = OPS[name].row
    if callable(row.against):
        return row.against(x, **attrs)
    function = getattr(np, row.against.split(".")[1])
    return function(x, *attrs.values()) if name == "reshape" else function(x, **attrs)


@pytest.mark.parametrize(
    "name", [n for n, op in OPS.items() if op.kind == "view" and op.row.samples and n != "stop_gradient"]
)
@pytest.mark.parametrize("layout", ["contiguous", "strided"])
def test_views_show_numpys_result(name, layout):
    for operands, attrs in OPS[name].row.samples("float32", np.random.default_rng(0)):
        shape = operands[0].shape
        base = np.arange(4 ** len(shape) * max(operands[0].size, 1), dtype="float32")
        x = base[: operands[0].size].reshape(shape)
        if layout == "strided" and x.size:
            x = base[: 2 * x.size].reshape(*shape, 2)[..., 1] if shape else x
        plan = OPS[name].plan([spec_of(x)], attrs)
        assert plan.outs[0][0] == reference(name, x, attrs).shape
        if not plan.contiguous and x.size:
            np.testing.assert_array_equal(shown(base, x, plan), reference(name, x, attrs))


@given(
    st.permutations([2, 3, 4, 1]),
    st.permutations(range(4)),
    st.sampled_from([(24,), (6, 4), (4, 6), (2, 12), (1, 24, 1), (2, 2, 6), (3, 8)]),
)
def test_reshape_copies_only_when_no_strides_exist(shape, axes, target):
    base = np.arange(24)
    x = base.reshape(shape).transpose(axes)
    strides = strides_after_reshape(spec_of(x), target)
    if strides is None:
        assert not np.shares_memory(x.reshape(target), base)
    else:
        np.testing.assert_array_equal(as_strided(base, target, [s * 8 for s in strides]), x.reshape(target))
        assert np.shares_memory(x.reshape(target), base)


@given(st.data())
def test_basic_keys_select_what_numpy_does(data):
    shape = data.draw(st.sampled_from([(4,), (3, 5), (2, 3, 4)]))
    slices = st.builds(
        slice, *(st.none() | st.integers(-6, 6) for _ in range(2)), st.sampled_from([None, 1, 2, -1, -2])
    )
    items = st.lists(slices | st.none(), max_size=len(shape)).map(tuple)
    key = data.draw(items.filter(lambda k: sum(v is not None for v in k) <= len(shape)))
    assert select("getitem", shape, canonical_key(key)).shape == np.zeros(shape)[key].shape


def test_keys_with_arrays_are_not_basic():
    for key in ([0, 1], np.array([1]), True, (slice(None), [0]), 1.5):
        assert canonical_key(key) is None
    assert canonical_key((1, np.int64(2), None, ..., slice(1, None))) == (1, 2, None, ..., (1, None, None))


def test_bad_keys_name_the_axis():
    with pytest.raises(IndexOutOfBounds, match=r"index in \[-3, 3\) for axis 1, got 3"):
        select("getitem", (2, 3), (0, 3))
    with pytest.raises(IndexOutOfBounds, match="at most 2 indices"):
        select("getitem", (2, 3), (0, 0, 0))


@pytest.mark.parametrize(
    ("shape", "target", "codes", "expected"),
    [
        ((2, 3, 4), (0, -1), ND_CODES, (2, -1)),
        ((2, 3, 4), (-3, 4), ND_CODES, (6, 4)),
        ((2, 3, 4), (-4, 1, 2, -2), ND_CODES, (1, 2, 3, 4)),
        ((6, 4), (-4, -1, 3, 0), ND_CODES, (2, 3, 4)),
        ((2, 3, 4), (-2, -5), NPX_CODES, (2, 12)),
        ((1, 3, 4), (-3, -4), NPX_CODES, (3, 4)),
        ((6, 4), (-6, 2, -1, -2), NPX_CODES, (2, 3, 4)),
    ],
)
def test_reshape_codes(shape, target, codes, expected):
    assert coded_shape(shape, target, codes) == expected


def test_code_for_an_axis_that_is_not_there():
    with pytest.raises(ShapeError, match="axis of length 1"):
        coded_shape((2, 3), (-3, -2), NPX_CODES)


def test_strides_of_empty_arrays_are_positive():
    assert c_strides((2, 0, 3)) == (3, 3, 1)
