"""The checks can fail: each fault planted here must be caught by the check that guards against it.

Faults are planted in rows and passes by replacing attributes, or in rows of their own. A race in the engine is in
tests/cpp (MINIMX_PLANT_RACE), a broken kernel of the fusion compiler in test_fusion.py.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import table_cases
import table_checks
from table_checks import check_gradient, check_hybrid, check_second_gradient, check_twin, check_values

import minimx as mx
from minimx import autograd
from minimx.graph import compile as compiling
from minimx.graph import lower as lowering
from minimx.graph import memory
from minimx.graph.ir import Graph
from minimx.ops.expr import var
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.usefixtures("unfused")
caught = pytest.raises(AssertionError)


@pytest.fixture
def fresh():
    """Rows keep plans and gradient programs by signature: shapes that no other test uses meet the planted fault."""
    sizes = itertools.count(int(time.monotonic() * 1000) % 500 + 7)
    return lambda: next(sizes)


def real(n: int, *more: int) -> np.ndarray:
    """An operand of a shape of its own."""
    return np.random.default_rng(n).uniform(0.5, 2, (n, *more))


# --- gradients ---------------------------------------------------------------------------------------------------


def test_a_dropped_term_of_a_gradient(monkeypatch, fresh):
    """matmul's gradient without one operand's half; reductions' with the wrong factor; a forgotten operand."""
    row = OPS["matmul"]
    right = row.grad
    monkeypatch.setattr(row, "grad", lambda gs, ins, outs, attrs, needs: [right(gs, ins, outs, attrs, needs)[0], None])
    with caught:
        check_gradient(f.matmul, [real(3, fresh()), real(fresh() - 1, 2)], {}, "planted")


def test_a_wrong_factor(monkeypatch, fresh):
    """A tenth of a percent is enough."""
    row = OPS["sum"]
    monkeypatch.setattr(row, "grad", lambda g, x, y, axes: g * 1.001)
    with caught:
        check_gradient(f.sum, [real(fresh())], {}, "planted")


@pytest.mark.parametrize("name", ["tanh", "gelu", "logaddexp", "sqrt", "hypot"])
def test_a_dropped_factor_of_an_expression(monkeypatch, fresh, name):
    """An elementwise gradient that forgets what it multiplies with."""
    row, n = OPS[name], fresh()
    operands = [real(n) for _ in row.params]
    check_gradient(getattr(f, name), operands, {}, name)
    monkeypatch.setattr(row, "grads", [var("g") * 1.0001] + row.grads[1:])
    monkeypatch.delitem(OPS, f"{name}.grad0")
    with caught:
        check_gradient(getattr(f, name), [real(n + 1000) for _ in row.params], {}, "planted")


def test_a_missing_sum_over_broadcast_axes(monkeypatch, fresh):
    """Without sum_to_like, shapes or values of gradients of broadcast operands are wrong."""
    monkeypatch.setattr(
        f,
        "sum_to_like",
        lambda g, x: f.reshape(f.getitem(g, (0,) * (g.ndim - x.ndim)), x.shape) if g.shape != x.shape else g,
    )
    n = fresh()
    with caught:
        check_gradient(f.multiply, [real(3, n), real(n)], {}, "planted")


def test_a_second_derivative_that_is_zero(fresh):
    """A gradient computed off the tape is right to first order and silent to second."""

    class Cube(autograd.Function):
        def forward(self, x):
            self.save_for_backward(x.detach())
            return x**3

        def backward(self, dy):
            (x,) = self.saved_tensors
            return 3 * x * x * dy

    operands = [real(fresh())]
    check_gradient(lambda x: Cube()(x), operands, {}, "planted")
    with caught:
        check_second_gradient(lambda x: Cube()(x), operands, {}, "planted")


def test_a_gradient_for_the_wrong_operand(monkeypatch, fresh):
    """Two gradients that trade places."""
    row = OPS["matmul"]
    right = row.grad

    def swapped(gs, ins, outs, attrs, needs):
        a, b = right(gs, ins, outs, attrs, needs)
        return [f.transpose(b), f.transpose(a)]

    monkeypatch.setattr(row, "grad", swapped)
    n = fresh()
    with caught:
        check_gradient(f.matmul, [real(n, n), real(n, n)], {}, "planted")


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["exp", "sum", "softmax", "concatenate", "take", "matmul", "batch_norm_train", "layer_norm", "cumsum", "argsort"],
)
def test_wrong_kernels(name):
    """A kernel that is off in one element, by little, or by one in an integer."""
    right = getattr(f, name)

    def wrong(*args, **attrs):
        made = right(*args, **attrs)
        first = (made[0] if isinstance(made, (list, tuple)) else made).asnumpy().copy()
        if first.size:
            flat = first.reshape(-1)
            flat[-1] += max(abs(flat).max() * 1e-3, 1e-3) if first.dtype.kind == "f" else 1
        return mx.np.array(first) if not isinstance(made, (list, tuple)) else (mx.np.array(first), *made[1:])

    assert check_values(name, "float32") > 0
    with caught:
        check_values(name, "float32", wrong)


def test_a_wrong_reference_lambda(monkeypatch):
    """Kernel and lambda disagree: the twin notices."""
    row = OPS["tanh"]
    monkeypatch.setattr(row, "rule", lambda x: np.tanh(x) * (1 + 1e-4))
    with caught:
        check_twin("tanh", "float32")


def test_a_wrong_type_or_shape():
    """Results of another shape do not pass for equal by broadcasting."""
    with caught:
        check_values("sum", "float32", lambda a, axis=None, keepdims=False: f.sum(a, axis=axis, keepdims=True))


def test_a_reference_that_is_gone(monkeypatch):
    """A row without a reference compares nothing, and says so."""
    monkeypatch.setitem(table_cases.REFERENCES, "exp", None)
    monkeypatch.setattr(OPS["exp"].row, "against", "")
    assert check_values("exp", "float32") == 0 and table_checks.reference("exp") is None


# --- graphs ------------------------------------------------------------------------------------------------------


def net(x, y):
    """Enough for every pass to act on."""
    z = mx.np.tanh(x * y) + mx.np.tanh(x * y)
    return z.sum(axis=0) + mx.np.exp(-y.T).sum(axis=1), (z - y) * 0.5


def hybrid(fresh):
    """Runs the check that must fail."""
    n = fresh()
    with caught:
        check_hybrid(net, [real(4, n).astype("float32"), real(4, n).astype("float32") - 1], {}, "float32", "planted")


def test_the_net_is_right(fresh):
    """Without a fault the check passes."""
    n = fresh()
    check_hybrid(net, [real(4, n).astype("float32"), real(4, n).astype("float32") - 1], {}, "float32", "as it is")


def test_a_pass_that_merges_too_much(monkeypatch, fresh):
    """Common subexpressions that forget the inputs."""

    def merge(g: Graph) -> Graph:
        seen: dict = {}
        new: dict = {}
        nodes = []
        for n in g.nodes:
            key = (n.op, n.outputs[0].shape)
            if key in seen:
                new.update(zip(n.outputs, seen[key].outputs, strict=True))
                continue
            seen[key] = n
            nodes.append(n)
        g.nodes = nodes
        g.replace(new)
        return g

    monkeypatch.setattr(compiling, "JOINT", (merge,))
    n = fresh()
    with pytest.raises((AssertionError, mx.MXError)):  # the verifier may be first
        check_hybrid(net, [real(4, n).astype("float32"), real(4, n).astype("float32") - 1], {}, "float32", "planted")


def test_a_pass_that_loses_a_sign(monkeypatch, fresh):
    """negative nodes dropped."""

    def lose(g: Graph) -> Graph:
        g.replace({n.outputs[0]: n.inputs[0] for n in g.nodes if n.op == "negative"})
        g.nodes = [n for n in g.nodes if n.op != "negative"]
        return g

    monkeypatch.setattr(compiling, "JOINT", (*compiling.JOINT, lose))
    hybrid(fresh)


def test_a_memory_plan_that_overlaps(monkeypatch, fresh):
    """All buffers at one place."""

    def plan(buffers, fixed=(), tray=0):
        for b in buffers:
            b.offset = 0
        return max((b.bytes for b in buffers), default=0)

    monkeypatch.setattr(memory, "plan", plan)
    hybrid(fresh)


def test_a_tray_taken_for_empty(monkeypatch, fresh):
    """Intermediates are put over what is saved."""
    monkeypatch.setattr(lowering.Lowering, "in_tray", lambda self, outs: [])
    hybrid(fresh)


def test_in_place_too_early(monkeypatch, fresh):
    """An operand that is still needed is written over."""
    right = lowering.Lowering.reuse

    def reuse(self, n, inputs):
        for x in inputs:
            if x in self.places:
                self.places[x].block.final = -1
        right(self, n, inputs)

    monkeypatch.setattr(lowering.Lowering, "reuse", reuse)
    n = fresh()

    def chain(x, y):
        a = mx.np.tanh(x)
        b = a * y
        return b + a

    with caught:
        check_hybrid(chain, [real(4, n).astype("float32"), real(4, n).astype("float32")], {}, "float32", "planted")


def test_a_gradient_cut_off_in_the_graph(monkeypatch, fresh):
    """The joint graph with one gradient replaced by another."""
    right = compiling.differentiate

    def wrong(t, needs, training):
        g = right(t, needs, training)
        g.gradients = [g.gradients[0]] * len(g.gradients)
        return g

    monkeypatch.setattr(compiling, "differentiate", wrong)
    hybrid(fresh)


def test_a_fusion_that_computes_something_else(monkeypatch, fresh):
    """A group whose members trade an operand; the hybridized twin notices."""
    mx.settings.fusion = True
    from minimx.graph.passes import fusion

    right = fusion.fuse

    def fuse(g: Graph) -> Graph:
        g = right(g)
        for n in g.nodes:
            for member in n.body.nodes if n.body is not None else ():
                if member.op in ("subtract", "multiply", "add") and len(member.inputs) == 2:
                    member.op = {"subtract": "add", "add": "subtract", "multiply": "add"}[member.op]
        return g

    monkeypatch.setattr(fusion, "fuse", fuse)
    hybrid(fresh)


# --- races -------------------------------------------------------------------------------------------------------


@pytest.mark.cpu_only("shares memory with NumPy")
def test_a_dependency_that_was_not_declared():
    """A callback that writes an array without saying so is seen by the order test: what reads it comes too early."""
    host = np.zeros(1, "float32")
    x = mx.np.asarray(host)

    def fill():
        time.sleep(0.1)
        host[0] = 1

    mx.engine.push(fill, writes=[mx.np.zeros(1)], name="forgets x")
    early = (x * 1).item()
    mx.waitall()
    mx.engine.push(fill, writes=[x], name="declares x")
    host[0] = 0
    late = (x * 1).item()
    assert (early, late) == (0, 1)
