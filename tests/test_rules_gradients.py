"""First and second derivatives of every row that has some, against differences of float64 results.

Elementwise rows and reductions have their own tests; rows whose operands must lie in a special set are named in SKIP.
"""

import numpy as np
import pytest

import minimx as mx
from minimx import autograd
from minimx.errors import AutogradError, NotSupported
from minimx.ops.table import OPS, f

STEP = 1e-5
PLACES = 8  # elements of an operand whose derivatives are checked
SKIP = {"cholesky", "eigvalsh"}  # numpy reads one triangle; the gradient is the symmetric one (see below)
ROWS = [
    n
    for n, op in OPS.items()
    if op.kind in ("view", "kernel", "host", "composite")
    and op.row.samples is not None
    and n not in SKIP
    and (not op.row.dtypes or "float64" in op.row.dtypes)
]


def to_mx(x):
    if isinstance(x, np.ndarray):
        return mx.np.array(x, dtype=x.dtype)
    if isinstance(x, list) and x and isinstance(x[0], np.ndarray):
        return [to_mx(v) for v in x]
    return x


def floats(values):
    """The float64 arrays among ``values``."""
    out = []
    for v in values:
        if isinstance(v, (list, tuple)):
            out += floats(v)
        elif hasattr(v, "attach_grad") and v.dtype == "float64":
            out.append(v)
    return out


class Weighted:
    """A scalar function of an operator's results, with fixed random weights; and of its gradients."""

    def __init__(self, name, operands, attrs, rng):
        results = 1 if name == "cross_entropy" else None  # its logsumexp is saved for the gradient and has none
        self.call = lambda: floats([getattr(f, name)(*operands, **attrs)])[:results]
        self.variables = floats(operands)
        if name == "batch_norm":  # the running statistics are no variables
            self.variables = self.variables[:3]
        with autograd.train_mode():
            self.weights = [self._draw(y, rng) for y in self.call()]
        self.directions = [self._draw(v, rng) for v in self.variables]

    @staticmethod
    def _draw(like, rng):
        return mx.np.array(rng.standard_normal(like.shape), dtype="float64")

    def value(self):
        with autograd.train_mode():
            return self._dot(self.call(), self.weights)

    def slope(self):
        """Derivative in the fixed directions, on the tape."""
        with autograd.record():
            gradients = autograd.grad(self._dot(self.call(), self.weights), self.variables, create_graph=True)
            return self._dot(gradients, self.directions)

    @staticmethod
    def _dot(xs, ws):
        total = 0.0
        for x, w in zip(xs, ws, strict=True):
            total = f.sum(x * w) + total
        return total


def differences(function, variables, rng):
    """(variable number, place, derivative by central differences) for some places of each variable."""
    for k, v in enumerate(variables):
        start = v.asnumpy()
        places = list(np.ndindex(start.shape))
        for i in rng.permutation(len(places))[:PLACES]:
            ends = []
            for sign in (1, -1):
                moved = start.copy()
                moved[places[i]] += sign * STEP
                v[...] = mx.np.array(moved, dtype="float64")
                ends.append(function().item())
            yield k, places[i], (ends[0] - ends[1]) / (2 * STEP)
        v[...] = mx.np.array(start, dtype="float64")


def compare(scalar, function, variables, rng, tolerance):
    for v in variables:
        v.attach_grad()
    scalar().backward()
    gradients = [v.grad.asnumpy() for v in variables]
    for k, place, expected in differences(function, variables, rng):
        np.testing.assert_allclose(
            gradients[k][place], expected, rtol=tolerance, atol=tolerance, err_msg=f"operand {k}{place}"
        )


def recorded(function):
    def run():
        with autograd.record():
            return function()

    return run


@pytest.mark.parametrize("name", ROWS)
def test_derivatives(name):
    rng = np.random.default_rng(2)
    for operands, attrs in OPS[name].row.samples("float64", rng):
        if name == "batch_norm":
            operands[4], attrs = abs(operands[4]) + 0.5, {"fix_gamma": False}
        case = Weighted(name, [to_mx(x) for x in operands], attrs, rng)
        if not case.variables or not case.weights:
            continue
        try:
            compare(recorded(case.value), case.value, case.variables, rng, 1e-6)
            compare(case.slope, case.slope, case.variables, rng, 1e-5)
        except AutogradError as e:  # a constant, or linear: there is no second derivative
            assert "not on the tape" in str(e)
        except NotSupported as e:  # a host row without a gradient says so
            assert "with a gradient" in str(e)


def test_the_test_has_teeth(monkeypatch):
    """A gradient with a dropped term is found."""
    row = OPS["matmul"]
    whole = row.grad
    monkeypatch.setattr(row, "grad", lambda *args: [g * 0.5 for g in whole(*args)])
    case = Weighted("matmul", [to_mx(np.ones((7, 3))), to_mx(np.ones((3, 5)))], {}, np.random.default_rng(0))
    with pytest.raises(AssertionError):
        compare(recorded(case.value), case.value, case.variables, np.random.default_rng(0), 1e-6)


def test_cholesky_gradient_is_the_symmetric_one():
    a = np.array([[4.0, 1.0], [1.0, 3.0]])
    x = mx.np.array(a, dtype="float64")
    x.attach_grad()
    with autograd.record():
        y = f.sum(mx.np.linalg.cholesky(x) * mx.np.array([[1.0, 0.0], [2.0, 3.0]], dtype="float64"))
    y.backward()
    weights = np.array([[1.0, 0.0], [2.0, 3.0]])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        d = np.zeros((2, 2))
        d[i, j] = d[j, i] = STEP
        slope = ((np.linalg.cholesky(a + d) - np.linalg.cholesky(a - d)) * weights).sum() / (2 * STEP)
        np.testing.assert_allclose((x.grad.asnumpy() * (d > 0)).sum(), slope, rtol=1e-6)
