"""What elementwise and reduction rows derive from their rules, in pure Python: types, shapes, emitted loops,
the plain twins against the independent references, gradients by differences.

No array library runs: the same rows on real arrays are the business of test_table.py.
"""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from minimx.errors import ArgumentError, DTypeError, IndexOutOfBounds, ShapeError
from minimx.ops import emit, expr
from minimx.ops.dtypes import ALL, FLOATS, INTEGERS
from minimx.ops.emit_reduce import struct
from minimx.ops.kinds.elemwise import Elemwise
from minimx.ops.kinds.reduce import Reduce
from minimx.ops.primitives import numpy_call
from minimx.ops.table import OPS, Spec

ELEMWISE = [op for op in OPS.values() if isinstance(op, Elemwise)]
REDUCE = [op for op in OPS.values() if isinstance(op, Reduce)]
INT, FLOAT = Spec((), "int64", (), True), Spec((), "float64", (), True)


def array(dtype: str, *shape: int) -> Spec:
    return Spec(shape, dtype)


def out_dtype(name: str, *ins: Spec, **attrs) -> str:
    return OPS[name].plan(ins, attrs).outs[0][1]


# --- types and shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ins", "expected"),
    [
        ("add", ("int8", "uint8"), "int16"),
        ("add", ("int64", "float16"), "float16"),
        ("add", ("float16", "bfloat16"), "float32"),
        ("add", ("bool", "bool"), "bool"),
        ("subtract", ("bool", "bool"), "int64"),
        ("divide", ("int32", "int32"), "float32"),
        ("power", ("int32", "int16"), "int32"),
        ("exp", ("int64",), "float32"),
        ("exp", ("bfloat16",), "bfloat16"),
        ("less", ("float32", "int8"), "bool"),
        ("bitwise_and", ("bool", "uint8"), "uint8"),
        ("where", ("float32", "int8", "int16"), "int16"),
        ("floor", ("int32",), "int32"),
        ("isnan", ("float64",), "bool"),
    ],
)
def test_elementwise_types(name, ins, expected):
    assert out_dtype(name, *(array(d, 2) for d in ins)) == expected


@pytest.mark.parametrize(
    ("name", "dtype", "scalar", "expected"),
    [
        ("add", "uint8", INT, "uint8"),
        ("add", "int32", FLOAT, "float32"),
        ("multiply", "float16", FLOAT, "float16"),
        ("multiply", "bool", INT, "int64"),
        ("maximum", "float64", INT, "float64"),
    ],
)
def test_python_scalars_are_weak(name, dtype, scalar, expected):
    assert out_dtype(name, array(dtype, 2), scalar) == expected


def test_comparisons_with_python_integers_hold_any_integer():
    assert OPS["less"].plan([array("uint8", 2), INT], {}).casts == ["int64", "int64"]
    assert OPS["less"].plan([array("uint8", 2), array("uint8")], {}).casts == ["uint8", "uint8"]


def test_a_condition_takes_no_part_in_promotion():
    plan = OPS["where"].plan([array("float64", 2), array("float16", 2), FLOAT], {})
    assert plan.casts == ["bool", "float16", "float16"]


@pytest.mark.parametrize("name", ["bitwise_and", "left_shift", "gcd"])
def test_integer_rows_refuse_floats(name):
    with pytest.raises(DTypeError, match=rf"^{name}: expected operands of type bool, uint8.*, got float32\."):
        OPS[name].plan([array("float32", 2), array("int8", 2)], {})


@given(mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_dims=4))
def test_shapes_broadcast_as_numpy(shapes):
    specs = [array("float32", *s) for s in shapes.input_shapes]
    assert OPS["where"].plan(specs, {}).outs[0][0] == shapes.result_shape


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ShapeError, match=r"^add: expected shapes that broadcast .*, got \(2, 3\) and \(4,\)\."):
        OPS["add"].plan([array("float32", 2, 3), array("float32", 4)], {})


def test_operands_left_out_choose_the_row_without_them():
    clip, x = OPS["clip"], array("float32", 3)
    lower, upper = clip.plan([x, FLOAT, None], {}), clip.plan([x, None, FLOAT], {})
    assert (lower.attrs["loop"], lower.casts) == ("clip.without_a_max", ["float32", "float32", ""])
    assert (upper.attrs["loop"], upper.casts) == ("clip.without_a_min", ["float32", "", "float32"])
    assert clip.plan([x, None, None], {}).attrs["loop"] == "clip.without_a_min_a_max"


@given(st.lists(st.integers(0, 4), max_size=4), st.data())
def test_reduced_shapes_are_numpys(shape, data):
    one = st.integers(-len(shape), len(shape) - 1) if shape else st.nothing()
    several = st.lists(one, unique_by=lambda a: a % len(shape)).map(tuple) if shape else st.just(())
    axis = data.draw(st.none() | one | several)
    keepdims = data.draw(st.booleans())
    plan = OPS["sum"].plan([array("float32", *shape)], {"axis": axis, "keepdims": keepdims})
    assert plan.outs[0][0] == np.zeros(shape).sum(axis, keepdims=keepdims).shape


@pytest.mark.parametrize(
    ("name", "dtype", "asked", "out", "loop"),
    [
        ("sum", "uint8", None, "int64", "int64"),
        ("sum", "bool", None, "int64", "int64"),
        ("sum", "float16", None, "float16", "float32"),
        ("sum", "float16", "float64", "float64", "float64"),
        ("sum", "float32", "int8", "int8", "int64"),
        ("mean", "int32", None, "float32", "float64"),
        ("mean", "bfloat16", None, "bfloat16", "float32"),
        ("max", "int8", None, "int8", "int64"),
        ("any", "float64", None, "bool", "bool"),
    ],
)
def test_reductions_accumulate_in_a_wide_type(name, dtype, asked, out, loop):
    plan = OPS[name].plan([array(dtype, 3)], {"dtype": asked} if asked else {})
    assert (plan.outs[0][1], plan.attrs["dtype"]) == (out, loop)
    assert loop in OPS[name].loop_dtypes()


def test_reduction_errors():
    x = array("float32", 2, 0)
    with pytest.raises(
        ShapeError, match=r"^max: expected at least one element to reduce, got shape \(2, 0\) and axis 1"
    ):
        OPS["max"].plan([x], {"axis": 1})
    assert OPS["max"].plan([x], {"axis": 0}).outs[0][0] == (0,)  # nothing is asked for
    with pytest.raises(IndexOutOfBounds, match=r"^sum: expected axis in \[-2, 2\), got 2"):
        OPS["sum"].plan([x], {"axis": 2})
    with pytest.raises(ArgumentError, match="distinct axes"):
        OPS["sum"].plan([x], {"axis": (0, -2)})
    with pytest.raises(DTypeError, match="^mean: expected a float type, got int32"):
        OPS["mean"].plan([x], {"dtype": "int32"})


# --- what is emitted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ELEMWISE, ids=lambda op: op.name)
def test_every_plan_finds_its_loop(op):
    compiled = set(emit.compute_types(op))
    for dtype in ALL:
        ins = [array("bool" if op.condition and i == 0 else dtype, 2) for i in range(len(op.names))]
        try:
            asked = op.plan(ins, {}).attrs["dtype"]
        except DTypeError:
            continue
        assert ("float32" if asked in ("float16", "bfloat16") else asked) in compiled


def test_the_text_of_a_row_is_what_one_would_write():
    assert emit.function(OPS["relu"]).splitlines()[1:] == [
        "struct relu_ {",
        "  template <class T>",
        "  static T f(T x) {",
        "    return maximum(x, T(0));",
        "  }",
        "};",
    ]
    assert "    const T t0 = sigmoid(x);" in emit.function(OPS["silu.grad0"])
    assert "    return acc / n;" in struct(OPS["mean"])


def test_files_are_the_same_at_every_run():
    assert all(make() == make() for make in emit.FILES.values())
    shares = [[op.name for op in share] for share in emit._shares()]
    assert sorted(sum(shares, [])) == sorted(op.name for op in ELEMWISE)


def test_a_gradient_of_one_operation_needs_no_kernel_of_its_own():
    assert "add.grad0" not in OPS and "where.grad1" not in OPS and "exp.grad0" not in OPS
    assert "tanh.grad0" in OPS and "gelu.grad0" in OPS


@pytest.mark.parametrize(
    ("name", "saved"), [("exp", "gy"), ("tanh", "gy"), ("sigmoid", "gy"), ("relu", "yg"), ("sin", "gx"), ("add", "g")]
)
def test_gradients_save_only_what_they_use(name, saved):
    assert set(expr.variables(OPS[name].grads[0])) == set(saved)


# --- twins, references, gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in ELEMWISE if "." not in op.name], ids=lambda op: op.name)
def test_the_twin_agrees_with_the_reference(op):
    rng = np.random.default_rng(1)
    dtype = "float64" if "float64" in op.row.dtypes else "int64"
    for operands, _ in op.row.samples(dtype, rng):
        missing = op.params[len(operands) :]
        if isinstance(op.row.against, list) or any(p.default is None for p in missing):
            continue
        module, _, function = op.row.against.rpartition(".") if isinstance(op.row.against, str) else ("", "", "")
        against = getattr(importlib.import_module(module), function) if module else op.row.against
        np.testing.assert_allclose(op.reference(*operands), against(*operands), rtol=1e-9, atol=1e-12)
    for at, y in op.row.against if isinstance(op.row.against, list) else []:
        assert op.reference(*map(np.float64, at if isinstance(at, tuple) else (at,))) == pytest.approx(y, abs=1e-12)


SMOOTH = [op for op in ELEMWISE if "float64" in op.row.dtypes and set(op.grads) != {None}]


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_gradients_agree_with_differences(op):
    rng = np.random.default_rng(2)
    operands = [rng.uniform(*d, 40) if not (op.condition and i == 0) else rng.random(40) > 0.5
                for i, d in enumerate(op.domains())]  # fmt: skip
    g, h = rng.uniform(0.5, 1.5, 40), 1e-6
    values = dict(zip(op.names, operands, strict=True)) | {"y": op.reference(*operands), "g": g}
    for i, d in enumerate(op.grads):
        if d is None:
            continue
        up, down = (op.reference(*(x + s * (k == i) if k == i else x for k, x in enumerate(operands))) for s in (h, -h))
        np.testing.assert_allclose(
            expr.evaluate(d, values, numpy_call) + 0 * g, g * (up - down) / (2 * h), rtol=1e-4, atol=1e-5
        )


def test_the_difference_test_has_teeth():
    gelu, g, x = OPS["gelu"], expr.var("g"), expr.var("x")
    dropped = g * (0.5 * (1 + expr.call("erf", x * 0.7071067811865476)))  # without x * phi(x)
    at = np.linspace(-1, 1, 9)
    right, wrong = (expr.evaluate(d, {"x": at, "g": 1.0}, numpy_call) for d in (gelu.grads[0], dropped))
    assert abs(right - wrong).max() > 0.1


FAR_OUT = """gelu gelu_tanh silu swish mish softplus log_sigmoid sigmoid tanh elu selu softsign
             sigmoid_cross_entropy""".split()


@pytest.mark.parametrize("name", FAR_OUT)
def test_activations_and_gradients_are_finite_far_out(name):
    op = OPS[name]
    with np.errstate(all="ignore"):  # factors may overflow where a selection drops them
        for x in map(np.float32, (1e20, -1e20, 50, -50)):
            operands = [x, *[np.float32(1)] * (len(op.names) - 1)]
            y = op.reference(*operands)
            values = dict(zip(op.names, operands, strict=True)) | {"y": y, "g": np.float32(1)}
            assert np.isfinite(y) and np.isfinite(expr.evaluate(op.grads[0], values, numpy_call))


@pytest.mark.parametrize("op", REDUCE, ids=lambda op: op.name)
def test_the_plain_reduction_agrees_with_the_reference(op):
    rng = np.random.default_rng(3)
    against = op.row.against
    against = against if callable(against) else getattr(np, against.split(".")[1])
    for (x,), attrs in op.row.samples("float64", rng):
        np.testing.assert_allclose(op.reference(x, **attrs), against(x, **attrs), rtol=1e-12)


@pytest.mark.parametrize("op", ELEMWISE + REDUCE, ids=lambda op: op.name)
def test_every_row_says_what_it_is(op):
    assert op.doc.endswith((".", "?")) and op.row.dtypes
    if "." not in op.name:
        assert op.row.against is not None and op.row.samples is not None
    if op.kind == "elemwise":
        assert set(op.row.dtypes) <= {*ALL} and (set(op.row.dtypes) & {*FLOATS, *INTEGERS})
