"""Graphs: the text, the verifier, every pass against its plain twin, memory plans, lowering of what is unusual."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_checks import close

import minimx as mx
from minimx import autograd
from minimx.errors import GraphError
from minimx.gluon import nn
from minimx.graph import compile as compiling
from minimx.graph import memory
from minimx.graph.cached import interpret
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.lower import lower
from minimx.graph.passes.cleanup import common_subexpressions, dead_code, fold_constants, identities
from minimx.graph.passes.layout import assign_layouts
from minimx.graph.passes.norm import absorb_relu
from minimx.graph.trace import trace
from minimx.ndarray import _core
from minimx.ops.table import OPS, f

pytestmark = pytest.mark.usefixtures("unfused")


def traced(function, *args):
    """The graph of a function."""
    return trace("test", function, [mx.np.array(a) for a in args], False).graph


def run(graph: Graph, *args) -> list[np.ndarray]:
    """Lowers and runs."""
    return [y.asnumpy() for y in lower(graph).run([mx.np.array(a) for a in args], False)]


def rand(*shape):
    """Inputs."""
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype("float32")


# --- the text and the verifier -----------------------------------------------------------------------------------


def test_pretty():
    """What a graph prints: types, operators, attributes, the user's line."""
    text = traced(lambda x: mx.np.tanh(x * 2).sum(axis=0), rand(2, 3)).pretty()
    lines = text.splitlines()
    assert lines[0] == "graph test(%0: float32[2,3]) {" and lines[-1] == "}"
    assert re.match(r"  %1: float32\[2,3\] = multiply\(%0, 2\)", lines[1])
    assert "= tanh(%1)" in lines[2] and "axis=0" in lines[3] and lines[4] == "  return %3"
    assert "test_graph.py" in text, "nodes name the line that made them"


def test_net_graph():
    """net.graph(x).pretty()."""
    net = nn.Dense(3, activation="relu", in_units=4)
    net.initialize()
    text = net.graph(mx.np.ones((2, 4))).pretty()
    assert "fully_connected" in text and "relu" in text and "float32[2,3]" in text


def test_sites():
    """Every node that user code made knows its line."""
    graph = traced(lambda x: mx.np.exp(x), rand(2))
    (node,) = graph.nodes
    assert node.site.split(":")[0].endswith("test_graph.py")


def test_sites_in_a_folder_that_is_called_minimx(tmp_path):
    """Only minimx's own files are passed over, not those of a checkout or project of that name."""
    script = tmp_path / "minimx" / "script.py"
    script.parent.mkdir()
    script.write_text("def function(x):\n    return x + 1\n")
    space = {}
    exec(compile(script.read_text(), str(script), "exec"), space)
    (node,) = trace("f", space["function"], [mx.np.ones((2,))], False).graph.nodes
    assert node.site == f"{script}:2"


def test_verifier():
    """Unknown operators, unmade inputs, values made twice, lost outputs."""
    x, y, z = Value((2,), "float32"), Value((2,), "float32"), Value((2,), "float32")
    good = [Node("tanh", [x], [y])]
    Graph("g", [x], good, [y]).verify()
    for inputs, nodes, outputs in (
        ([x], [Node("no_such", [x], [y])], [y]),
        ([x], [Node("tanh", [z], [y])], [y]),
        ([x], good + [Node("exp", [x], [y])], [y]),
        ([x], good, [z]),
        ([x], [Node("exp", [y], [z]), *good], [z]),
    ):
        with pytest.raises(GraphError):
            Graph("g", inputs, nodes, outputs).verify()


def test_copy_is_apart():
    """Passes on a copy leave the original alone."""
    graph = traced(lambda x: mx.np.tanh(x) + mx.np.tanh(x), rand(3))
    before = graph.pretty()
    dead_code(common_subexpressions(graph.copy()))
    assert graph.pretty() == before


# --- passes that take away ---------------------------------------------------------------------------------------


def ops(graph: Graph) -> list[str]:
    """Names of the nodes."""
    return [n.op for n in graph.nodes]


def test_dead_code():
    """Unused nodes go; random ones stay, for the stream's sake."""

    def function(x):
        mx.np.exp(x)
        mx.np.random.uniform(size=(2,))
        return mx.np.tanh(x)

    assert ops(dead_code(traced(function, rand(2)))) == ["uniform", "tanh"]


def test_common_subexpressions():
    """Equal calls once; different attributes, scalars of different types and draws stay apart."""

    def function(x):
        a = mx.np.exp(x) + mx.np.exp(x)
        b = x.sum(axis=0) * x.sum(axis=1)
        c = (x * 1) + (x * 1.0) + (x * True)
        d = mx.np.random.uniform(size=(3,)) + mx.np.random.uniform(size=(3,))
        return a + b + c + d

    graph = common_subexpressions(traced(function, rand(3, 3)))
    assert ops(graph).count("exp") == 1 and ops(graph).count("sum") == 2 and ops(graph).count("uniform") == 2
    assert ops(graph).count("multiply") == 4


def test_identities_and_constants():
    """Copies vanish; what depends on nothing is computed once."""
    graph = fold_constants(identities(traced(lambda x: x.copy() * (mx.np.ones(3) + mx.np.arange(3)), rand(3))))
    graph = dead_code(graph)
    assert ops(graph) == ["multiply"] and len(graph.constants) == 1
    np.testing.assert_allclose(run(graph, np.ones(3, "float32"))[0], [1, 2, 3])


# --- random programs: every pass against the plain twin ----------------------------------------------------------

STEPS = {
    "add": lambda xs, i, j: xs[i] + xs[j],
    "mul": lambda xs, i, j: xs[i] * xs[j],
    "tanh": lambda xs, i, j: mx.np.tanh(xs[i]),
    "t": lambda xs, i, j: xs[i].T,
    "flip": lambda xs, i, j: xs[i][::-1, :],
    "sum": lambda xs, i, j: xs[i].sum(axis=1, keepdims=True) + xs[j],
    "matmul": lambda xs, i, j: xs[i] @ xs[j],
    "relu": lambda xs, i, j: mx.npx.relu(xs[i]),
    "one": lambda xs, i, j: mx.np.ones((3, 3)) * 0.5,
    "reshape": lambda xs, i, j: xs[i].T.reshape(9)[::-1].reshape(3, 3),
    "cat": lambda xs, i, j: mx.np.concatenate([xs[i], xs[j]])[1:4],
    "softmax": lambda xs, i, j: mx.npx.softmax(xs[i]),
    "clip": lambda xs, i, j: mx.np.clip(xs[i], -0.5, 0.5),
    "again": lambda xs, i, j: xs[i],
}
PROGRAMS = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=14
)


def program(steps, outputs=2):
    """A function of two (3, 3) arrays."""

    def function(x, y):
        xs = [x, y]
        for name, i, j in steps:
            xs.append(STEPS[name](xs, i % len(xs), j % len(xs)) * 0.7)
        return xs[-outputs:]

    return function


@settings(max_examples=80, deadline=None)
@given(PROGRAMS)
def test_programs_and_passes(steps):
    """Eager, interpreted, lowered, and lowered after each pass: the same numbers."""
    args = [rand(3, 3), rand(3, 3) + 1]
    function = program(steps)
    want = [y.asnumpy() for y in function(*map(mx.np.array, args))]
    graph = traced(function, *args)
    close([y.asnumpy() for y in interpret(graph, [mx.np.array(a) for a in args], (0, 0))], want, 1e-6, "interpreted")
    close(run(graph.copy(), *args), want, 1e-6, "lowered")
    for p in (dead_code, identities, fold_constants, common_subexpressions, absorb_relu, assign_layouts):
        graph = p(graph).verify()
        close(run(graph.copy(), *args), want, 1e-6, f"after {p.__name__}")


@settings(max_examples=40, deadline=None)
@given(PROGRAMS)
def test_forward_and_backward_halves(steps):
    """The joint graph cut in two gives the tape's gradients."""
    args = [rand(3, 3), rand(3, 3) + 1]
    function = program(steps)
    xs = [mx.np.array(a) for a in args]
    for x in xs:
        x.attach_grad()
    with autograd.record():
        outs = function(*xs)
    on_tape = [y for y in outs if _core.on_tape(y)]
    c = compiling.compile_function("test", function, xs, True, lambda t: [True] * len(xs))
    made = lower(c.forward).run(xs, False)
    close([y.asnumpy() for y in made[: c.outputs]], [y.asnumpy() for y in outs], 1e-6, "forward")
    if c.backward is None or len(on_tape) < len(outs):
        return
    grads = [g.asnumpy() for g in autograd.grad(on_tape, xs)]
    heads = [mx.np.ones(y.shape) for y in outs]
    back = lower(c.backward).run([xs[i] for i in c.kept] + made[c.outputs :] + [heads[i] for i in c.heads], False)
    got = [np.zeros_like(grads[i]) if at is None else back[at].asnumpy() for i, at in enumerate(c.gradients)]
    close(got, grads, 1e-5, "gradients")


# --- the norm and layout passes ----------------------------------------------------------------------------------


def norm_net(residual: bool):
    """batch norm, perhaps a sum, relu."""

    def function(x, gamma, beta, z):
        y = f.batch_norm_train(x, gamma, beta, 1e-5, 1)[0]
        return mx.npx.relu(y + z if residual else y)

    return function


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(4, 8, 5, 5), (3, 6, 7), (2, 16, 3, 3)])
def test_absorb_relu(residual, shape):
    """One node forward and one backward, with the numbers of the three that they stand for."""
    args = [rand(*shape), rand(shape[1]) + 2, rand(shape[1]), rand(*shape) + 0.5]
    xs = [mx.np.array(a) for a in args]
    for x in xs:
        x.attach_grad()
    function = norm_net(residual)
    with autograd.record():
        y = function(*xs)
        h = y * y * 0.5
    h.backward()
    c = compiling.compile_function("test", lambda *a: function(*a) ** 2 * 0.5, xs, True, lambda t: [True] * len(xs))
    assert (
        "batch_norm_relu" in ops(c.forward)
        and "relu" not in ops(c.forward)
        and "batch_norm_relu_grad" in ops(c.backward)
    )
    made = lower(c.forward).run(xs, False)
    heads = [mx.np.ones(shape)]
    back = lower(c.backward).run([xs[i] for i in c.kept] + made[c.outputs :] + [heads[i] for i in c.heads], False)
    close(made[0].asnumpy(), h.asnumpy(), 2e-5, "forward")
    for x, at in zip(xs, c.gradients, strict=True):
        close(np.zeros(x.shape) if at is None else back[at].asnumpy(), x.grad.asnumpy(), 2e-4, "gradient")


def test_convolution_with_relu():
    """The absorbed form is the two it stands for."""
    x, w, b = mx.np.array(rand(2, 3, 6, 7)), mx.np.array(rand(8, 3, 3, 3)), mx.np.array(rand(8))
    for bias in (b, None):
        got = f.convolution_relu(x, w, bias, pad=(1, 1), stride=(2, 1))
        want = mx.npx.relu(f.convolution(x, w, bias, pad=(1, 1), stride=(2, 1)))
        np.testing.assert_allclose(got.asnumpy(), want.asnumpy(), atol=1e-6)


def test_absorb_relu_leaves_what_others_read():
    """A sum that is read twice stays."""

    def function(x, gamma, beta, z):
        s = f.batch_norm_train(x, gamma, beta, 1e-5, 1)[0] + z
        return mx.npx.relu(s) + s

    args = [rand(2, 4, 3, 3), rand(4), rand(4), rand(2, 4, 3, 3)]
    graph = absorb_relu(traced(function, *args))
    assert "batch_norm_relu" not in ops(graph)


@pytest.mark.cpu_only("blocked layouts are oneDNN's")
def test_blocked_layouts():
    """A chain of convolutions stays in the library's layout, with reorders at its ends only, and gives the same."""

    def function(x, w1, w2, g, b):
        y = mx.npx.relu(mx.npx.convolution(x, w1, kernel=(3, 3), pad=(1, 1), num_filter=16, no_bias=True))
        y = mx.npx.pooling(y, (2, 2), "max", stride=(2, 2))
        y = mx.npx.relu(f.batch_norm_train(y, g, b, 1e-5, 1)[0])
        y = mx.npx.convolution(y, w2, kernel=(3, 3), pad=(1, 1), num_filter=16, no_bias=True)
        return y + 1, y.mean(axis=(2, 3))

    args = [rand(2, 16, 8, 8), rand(16, 16, 3, 3), rand(16, 16, 3, 3) * 0.5, rand(16), rand(16)]
    want = [y.asnumpy() for y in function(*map(mx.np.array, args))]
    graph = traced(function, *args)
    for p in compiling.JOINT:
        graph = p(graph).verify()
    close(run(graph, *args), want, 3e-5, "blocked")
    blocked = [v for n in graph.nodes for v in n.outputs if v.layout]
    if blocked:  # the library may find the plain layout best
        assert "@" in graph.pretty() and ops(graph).count("reorder") <= 6


@pytest.mark.parametrize("shape", [(2, 16, 5, 7), (1, 32, 3, 3)])
@pytest.mark.parametrize("layout", ["aBcd8b", "aBcd16b", "acdb"])
@pytest.mark.cpu_only("blocked layouts are oneDNN's")
def test_reorder(shape, layout):
    """There and back again."""
    x = rand(*shape)
    a = Value(shape, "float32")
    b, c = Value(shape, "float32", layout), Value(shape, "float32")
    graph = Graph(
        "g", [a], [Node("reorder", [a], [b], {"layout": layout}), Node("reorder", [b], [c], {"layout": ""})], [c]
    )
    np.testing.assert_array_equal(run(graph.verify(), x)[0], x)


# --- memory ------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 10)), max_size=40))
def test_memory_plan(rows):
    """Buffers alive at the same time do not overlap; the arena holds them all and is no larger than their sum."""
    buffers = [memory.Buffer(size, first, first + length) for size, first, length in rows]
    arena = memory.plan(buffers)
    for b in buffers:
        assert 0 <= b.offset and b.offset + b.bytes <= arena and b.offset % memory.ALIGN == 0
    for i, b in enumerate(buffers):
        for other in buffers[:i]:
            if b.first <= other.last and other.first <= b.last:
                assert b.offset + b.bytes <= other.offset or other.offset + other.bytes <= b.offset
    assert arena <= sum((b.bytes + memory.ALIGN - 1) // memory.ALIGN * memory.ALIGN for b in buffers)


def test_a_chain_needs_little_memory():
    """Fifty steps on one array need the place of one or two."""

    def function(x):
        for _ in range(50):
            x = mx.np.tanh(x) + 0.1
        return x

    x = rand(256, 256)
    _core.reset_peak_memory()
    before = _core.memory_info()["used"]
    program = lower(traced(function, x))
    program.run([mx.np.array(x)], False)[0].wait_to_read()
    assert _core.memory_info()["peak"] - before <= 5 * x.nbytes


# --- lowering of what is unusual ---------------------------------------------------------------------------------


def test_outputs_that_are_inputs_views_constants_or_each_other():
    """Every output is an array of its own."""

    def function(x):
        y = x * 2
        return x, y, y, y.T, x[0], mx.np.ones(2), x.reshape(-1)

    x = rand(2, 3)
    graph = fold_constants(traced(function, x))
    got = lower(graph).run([mx.np.array(x)], False)
    for a, b in zip(got, function(mx.np.array(x)), strict=True):
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    got[1][...] = 0
    assert abs(got[2].asnumpy()).min() > 0


def test_writes():
    """In-place changes of captured arrays, also where two of them trade values."""
    a, b = mx.np.array([1.0, 2.0]), mx.np.array([3.0, 4.0])

    def function(x):
        old = a.copy()
        a[...] = b
        b[...] = old
        a[0] = x[0]
        return a + b

    t = trace("test", function, [mx.np.ones(2)], False)
    assert a.asnumpy().tolist() == [1, 2], "tracing runs nothing"
    assert len(t.graph.writes) == 2
    lower(t.graph).run([mx.np.array([9.0, 9.0]), *t.captures], False)
    assert a.asnumpy().tolist() == [9, 4] and b.asnumpy().tolist() == [1, 2]


def test_reshapes_that_leave_are_not_copied():
    """What is made for them is made in the output; where others read it too, or it leaves twice, they get the same."""

    def function(x):
        y = mx.np.exp(x)
        z = mx.np.cumsum(x, axis=0)
        return y.reshape(3, 2), mx.np.expand_dims(z, 0), z.reshape(6) + 1, z.reshape(6)

    x = rand(2, 3)
    program = lower(traced(function, x))
    z = np.cumsum(x, 0)
    wanted = [np.exp(x).reshape(3, 2), z[None], z.reshape(6) + 1, z.reshape(6)]
    for a, b in zip(program.run([mx.np.array(x)], False), wanted, strict=True):
        np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-6)
    assert program.steps.count("copy") == 1  # z a second time


def test_zero_size():
    """Arrays of nothing go through."""
    x = np.zeros((0, 3), "float32")
    (y,) = run(traced(lambda x: mx.np.tanh(x @ mx.np.ones((3, 2))) + 1, x), x)
    assert y.shape == (0, 2)


def test_host_rows_and_random_rows():
    """Callbacks and draws run inside programs."""
    a = np.array([[2.0, 1.0], [1.0, 3.0]], "float32")
    got = run(traced(lambda x: mx.np.linalg.inv(x) @ x, a), a)[0]
    np.testing.assert_allclose(got, np.eye(2), atol=1e-6)
    graph = traced(lambda x: x + mx.np.random.normal(size=(2, 2)), a)
    mx.random.seed(4)
    got = run(graph, a)[0]
    mx.random.seed(4)
    np.testing.assert_array_equal(got, (mx.np.array(a) + mx.np.random.normal(size=(2, 2))).asnumpy())


@pytest.mark.cpu_only("new threads have the CPU as their current device")
def test_programs_run_at_once_from_many_threads():
    """A program is immutable: runs do not disturb each other, with static_alloc either."""
    from concurrent.futures import ThreadPoolExecutor

    program = lower(traced(lambda x: mx.np.tanh(x @ x) @ x, rand(32, 32)))
    inputs = [np.full((32, 32), k / 100, "float32") for k in range(8)]
    want = [np.tanh(x @ x) @ x for x in inputs]

    def work(k):
        for static in (False, True) * 5:
            (y,) = program.run([mx.np.array(inputs[k])], static)
            np.testing.assert_allclose(y.asnumpy(), want[k], rtol=1e-4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))


def test_absorbed_rows_exist():
    """What passes make is in the table."""
    assert {"batch_norm_relu", "batch_norm_relu_grad", "reorder"} <= set(OPS)
