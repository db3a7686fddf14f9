"""The scalar language, on its own: sharing, simplification, derivatives by differences, and the C++ text it prints.

No array library runs. The language: minimx/ops/expr.py; the printer: minimx/ops/emit_expr.py.
"""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minimx.ops import expr
from minimx.ops.emit_expr import literal, statements
from minimx.ops.primitives import e, numpy_call

x, y = expr.var("x"), expr.var("y")


def text(root, **options) -> str:
    return "\n".join(statements({"": root}, indent="", **options))


def value(root, **values):
    return expr.evaluate(root, values, numpy_call)


def test_equal_expressions_are_one_object():
    assert e.tanh(x * y + 1) is e.tanh(x * y + 1)
    assert x * y is not y * x
    assert expr.const(1) is not expr.const(1.0) and expr.const(1) is not expr.const(True)


@pytest.mark.parametrize("root", [x + 0, 0 + x, x - 0, 1 * x, x * 1, x / 1, e.negative(-x), e.where(y > 0, x, x)])
def test_identities_are_simplified(root):
    assert root is x


def test_what_may_be_nan_is_kept():
    assert (x - x).op == "subtract" and (x / x).op == "divide"


def test_constants_are_folded():
    assert (expr.const(2) * 3 + 1).value == 7


def test_a_branch_on_a_value_is_refused():
    with pytest.raises(TypeError, match=r"expected no branch on a value, got bool\(\)"):
        _ = 1 if x > 0 else 0


def test_variables_come_in_order_of_first_use():
    assert expr.variables(y * 2 + e.exp(x) * y) == ["y", "x"]


# --- derivatives -----------------------------------------------------------------------------------------------------

UNARY = ["exp", "log1p", "tanh", "sigmoid", "sqrt", "sin", "cos", "arctan", "erf", "rsqrt", "cbrt", "arcsinh"]


def trees(depth: int):
    leaf = st.sampled_from([x, y, expr.const(0.5), expr.const(2)])
    if depth == 0:
        return leaf
    below = trees(depth - 1)
    unary = st.builds(lambda name, a: getattr(e, name)(expr.lift(a) * 0.3 + 1.0), st.sampled_from(UNARY), below)
    binary = st.builds(lambda f, a, b: f(a, b), st.sampled_from([lambda a, b: a + b, lambda a, b: a * b,
                       lambda a, b: a / (b * b + 1), e.maximum, e.hypot]), below, below)  # fmt: skip
    return st.one_of(leaf, unary, binary)


@example(e.maximum(x, expr.const(0.5)), 0.5, 1.5)
@given(trees(3), st.floats(0.3, 0.9), st.floats(1.1, 1.6))
def test_derivatives_agree_with_differences(root, at_x, at_y):
    if not isinstance(root, expr.Expr):
        return
    h = 1e-6
    with np.errstate(all="ignore"):
        for name, d in zip("xy", expr.derivative(root, expr.var("g"), ["x", "y"]), strict=True):
            at = {"x": np.float64(at_x), "y": np.float64(at_y)}
            up, down = at | {name: at[name] + h}, at | {name: at[name] - h}
            numeric = (value(root, **up) - value(root, **down)) / (2 * h)
            exact = 0.0 if d is None else value(d, **at, g=1.0)
            if np.isfinite(numeric) and np.isfinite(exact) and abs(numeric) < 1e3:
                here = value(root, **at)
                low, high = sorted(((value(root, **up) - here) / h, (here - value(root, **down)) / h))
                if high - low > 1e-3 * max(1, abs(numeric)):  # a kink: a slope between those of its sides
                    assert low - 1e-3 <= exact <= high + 1e-3, (root, name)
                else:
                    assert exact == pytest.approx(numeric, rel=1e-3, abs=1e-4), (root, name)


def test_a_shared_part_is_differentiated_once():
    shared = e.exp(x)
    (d,) = expr.derivative(shared * shared, expr.var("g"), ["x"])
    assert [n.op for n in expr.topological([d])].count("exp") == 1


def test_no_dependence_is_none():
    assert expr.derivative(e.exp(x), expr.var("g"), ["x", "y"])[1] is None
    assert expr.derivative(e.floor(x), expr.var("g"), ["x"]) == [None]


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (x * y + 1, "return x * y + T(1);"),
        (x * (y + 1), "return x * (y + T(1));"),
        (x - (y - 1), "return x - (y - T(1));"),
        (x - y - 1, "return x - y - T(1);"),
        (x / (y / 2), "return x / (y / T(2));"),
        (-(x + y), "return -(x + y);"),
        (e.where(x > 0, y, 0), "return x > T(0) ? y : T(0);"),
        (e.where(x > 0, y, e.where(y > 0, x, 1)), "return x > T(0) ? y : (y > T(0) ? x : T(1));"),
        (e.logical_and(x > 0, y > 0), "return (x > T(0)) && (y > T(0));"),
        (e.maximum(x, 0.5), "return maximum(x, T(0.5));"),
        (x, "return x;"),
    ],
)
def test_text_has_the_parentheses_it_needs(root, expected):
    assert text(root) == expected


def test_shared_parts_get_names():
    t = e.tanh(x)
    assert text(t * t + y) == "const T t0 = tanh(x);\nreturn t0 * t0 + y;"


def test_names_of_truth_values_are_bool():
    positive = x > 0
    assert text(e.where(positive, y, 0) + e.where(positive, 1, y)).startswith("const bool t0 = x > T(0);")


def test_small_integers_wrap_at_each_step():
    assert text((x + y) * 2, wraps=True) == "const T t0 = x + y;\nreturn t0 * T(2);"


def test_several_results_share_their_parts():
    t = e.exp(x)
    lines = statements({"a": t + 1, "b": t * y}, indent="")
    assert lines == ["const T t0 = exp(x);", "const T a = t0 + T(1);", "const T b = t0 * y;"]


def test_literals():
    assert [literal(v) for v in (1, 0.5, True, -np.inf, float("nan"))] == [
        "T(1)", "T(0.5)", "true", "T(-INFINITY)", "T(NAN)"]  # fmt: skip
