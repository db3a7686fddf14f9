"""Groups with reductions: what is expanded, which nodes become one kernel, and that the numbers stay."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx.graph import compile as compiling
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.lower import lower
from minimx.graph.passes import domains
from minimx.graph.trace import differentiate, trace
from minimx.ops.table import f

np, npx = mx.np, mx.npx


@pytest.fixture(autouse=True)
def forms(monkeypatch):
    """Reductions are fused on the CPU too."""
    monkeypatch.setattr(domains, "ON_CPU", True)


def array(*shape, dtype="float32", seed=0):
    return np.array(numpy.random.default_rng([seed, *shape]).normal(size=shape), dtype=dtype)


def graph_of(function, args, order=0):
    """The graph of a function in training, or of its gradients, or of the gradients of these."""
    t = trace("f", function, args, True)
    for _ in range(order):
        gradient = differentiate(t, [v.dtype.startswith(("float", "bfloat")) for v in t.graph.inputs], True)
        grads = list(dict.fromkeys(g for g in gradient.gradients if g is not None))
        t = replace(t, graph=replace(compiling.join(t, gradient), outputs=grads).verify())
    return compiling.cleaned(t.graph)


def without_groups(g):
    """The graph with the members of its groups in the groups' places."""
    nodes = []
    for n in g.nodes:
        if n.body is None:
            nodes.append(n)
            continue
        values = dict(zip(n.body.inputs, n.values, strict=True)) | dict(zip(n.body.outputs, n.outputs, strict=True))
        for m in n.body.nodes:
            values |= {v: values.get(v, v.like()) for v in m.outputs}
            inputs = [values[x] if isinstance(x, Value) else x for x in m.inputs]
            nodes.append(Node(m.op, inputs, [values[v] for v in m.outputs], m.attrs, m.site))
    return Graph(g.name, g.inputs, nodes, g.outputs, g.writes, g.constants, g.gpu).verify()


def check(function, args, order=0, tolerance=1e-5, compiled=False):
    """The plain graph and the grouped one give the same; returns the grouped one."""
    g = graph_of(function, args, order)
    plain = lower(g.copy())
    grouped = compiling.finished(g, "test")
    fused = lower(grouped if compiled else without_groups(grouped))
    if compiled:
        assert mx.rtc.wait(100) and " 0 failed" in mx.rtc.report(), mx.rtc.report()
    given = [*args, *(array(*v.shape, dtype=v.dtype, seed=i) for i, v in enumerate(g.inputs[len(args) :], 1))]
    results = []
    for program in (plain, fused):
        mx.random.seed(7)
        results.append([x.asnumpy().astype("float64") for x in program.run(given, False)])
    for a, b in zip(*results, strict=True):
        scale = numpy.abs(a[numpy.isfinite(a)]).max(initial=1)
        numpy.testing.assert_allclose(b, a, atol=tolerance * scale, rtol=tolerance)
    return grouped


def kernels(g):
    """What runs, views left out: rows' names, and groups as ``form: members``."""
    row = mx.ops.table.OPS
    return [
        n.op if n.body is None else f"{n.attrs.get('form', 'pointwise')}: {' '.join(m.op for m in n.body.nodes)}"
        for n in g.nodes
        if n.body is not None or row[n.op].kind != "view"
    ]


def forms_of(g):
    """As ``kernels``, groups by their form alone."""
    return [k.partition(":")[0] for k in kernels(g)]


# ---- numbers --------------------------------------------------------------------------------------------------------

SHAPES = ((3, 4, 8), (3, 4, 8), (4, 8), (8,), (3, 4, 1), (3, 1, 1), (4, 1), ())
FLOATS = ("float32", "float64")


@st.composite
def programs(draw):
    """Operands (shape, dtype), and calls: (name, value, further values or attributes)."""
    operands = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(FLOATS)), min_size=2, max_size=4))
    calls = []
    for known in range(len(operands), len(operands) + draw(st.integers(3, 14))):
        value = st.integers(0, known - 1)
        kinds = "unary binary binary scalar where reduce reduce softmax norm dropout cast view".split()
        kind = draw(st.sampled_from(kinds))
        name = {
            "unary": st.sampled_from(("tanh", "sigmoid", "sin", "negative", "relu", "gelu")),
            "binary": st.sampled_from(("add", "subtract", "multiply", "maximum")),
            "scalar": st.sampled_from(("add", "multiply")),
            "reduce": st.sampled_from(("sum", "mean", "max", "sum_squares")),
            "softmax": st.sampled_from(("softmax", "log_softmax", "masked_softmax")),
            "norm": st.sampled_from(("layer_norm", "rms_norm")),
            "view": st.sampled_from(("expand_dims", "flatten", "broadcast", "transpose")),
        }.get(kind)
        axes = st.one_of(st.none(), st.integers(-3, 2), st.lists(st.integers(0, 2), max_size=3, unique=True))
        calls.append(
            (kind, draw(name) if name is not None else kind, draw(value), draw(value), draw(axes), draw(st.booleans()))
        )
    return operands, calls


def run_calls(operands, calls, keep):
    """The program on arrays; every ``keep``-th result is returned, and the last."""
    values = list(operands)
    for call in calls:
        try:
            values.append(run_call(values, *call))
        except (mx.errors.ShapeError, mx.errors.IndexOutOfBounds, mx.errors.ArgumentError):
            values.append(values[call[2]])
    made = values[len(operands) :]
    return [v for i, v in enumerate(made) if i % keep == 0] + made[-1:]


def run_call(values, kind, name, a, b, axes, flag):
    x, y = values[a], values[b]
    last = x.shape[-1:] or (1,)
    if kind == "unary":
        return getattr(f, name)(x)
    if kind == "binary":
        return getattr(f, name)(x, y)
    if kind == "scalar":
        return getattr(f, name)(x, -0.7)
    if kind == "where":
        return f.where(f.greater(x, 0.1), x, y)
    if kind == "reduce":
        axes = tuple(i for i in axes if i < x.ndim) if isinstance(axes, list) else axes
        return getattr(f, name)(f.sin(x), axis=axes, keepdims=flag)
    if kind == "softmax":
        axis = axes if isinstance(axes, int) else -1
        return npx.masked_softmax(x, x > 0, axis) if name == "masked_softmax" else getattr(f, name)(x, axis)
    if kind == "norm":
        scale = f.ones(last, str(x.dtype)) * 1.5
        return f.layer_norm(x, scale, scale, eps=0.1) if name == "layer_norm" else f.rms_norm(x, scale, eps=0.1)
    if kind == "dropout":
        return f.dropout(x, 0.3)
    if kind == "cast":
        return f.cast(x, "float32" if flag else "float64")
    if name == "expand_dims":
        return f.expand_dims(x, -1 if flag else 0) if x.ndim < 4 else x
    if name == "flatten":
        return f.reshape(x, (-1, last[0]))
    return f.broadcast_to(x, y.shape) if name == "broadcast" else f.transpose(x)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs(), st.sampled_from((2, 5, 50)), st.integers(0, 2))
def test_random_graphs_keep_their_numbers(program, keep, order):
    operands, calls = program
    args = [array(*shape, dtype=dtype, seed=i) for i, (shape, dtype) in enumerate(operands)]
    check(lambda *xs: run_calls(xs, calls, keep), args, order, 2e-4)
