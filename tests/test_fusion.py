"""Fusion: the pass, and that fused graphs give what unfused ones give, bit for bit, before and after compilation."""

from __future__ import annotations

import gc
import time

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.lower import lower
from minimx.graph.passes import fusion
from minimx.graph.passes.fusion import fuse
from minimx.graph.trace import trace
from minimx.ops.table import f
from minimx.rtc import compile as compiling
from minimx.rtc import text

UNARY = ("negative", "abs", "exp", "tanh", "sigmoid", "sqrt", "relu", "erf", "sin", "floor", "sign", "log1p")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "greater", "arctan2", "fmax")
SHAPES = ((3, 4, 40), (4, 1), (40,), (3, 1, 1), (1,), (), (1, 4, 40), (3, 4, 40))
DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "uint8", "int64", "bool")


@pytest.fixture(autouse=True)
def service(monkeypatch, tmp_path_factory):
    """A compiler service of the test's own, with a cache that all tests of a run share."""
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path_factory.getbasetemp() / "cache")
    made = compiling.Service()
    monkeypatch.setattr(compiling, "service", made)
    yield made
    made.close()


@st.composite
def programs(draw):
    """A random pointwise program: operands (shape, dtype), and calls (row, arguments), where numbers may be scalars."""
    operands = draw(st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=4))
    calls = []
    known = len(operands)
    for _ in range(draw(st.integers(2, 12))):
        value = st.integers(0, known - 1)
        kind = draw(st.sampled_from(("unary", "binary", "binary", "scalar", "where", "cast", "expand")))
        if kind == "unary":
            calls.append((draw(st.sampled_from(UNARY)), (draw(value),)))
        elif kind == "binary":
            calls.append((draw(st.sampled_from(BINARY)), (draw(value), draw(value))))
        elif kind == "scalar":
            calls.append((draw(st.sampled_from(BINARY)), (draw(value), draw(st.sampled_from((2, 0.1, -1.5, 3))) * 1j)))
        elif kind == "where":
            calls.append(("where", (draw(value), draw(value), draw(value))))
        elif kind == "cast":
            calls.append(("cast", (draw(value), draw(st.sampled_from(DTYPES)))))
        else:
            calls.append(("expand_dims", (draw(value),)))
        known += 1
    return operands, calls


def run_calls(operands, calls, keep):
    """The program on arrays; ``keep`` says which results to return, beside the last one."""
    values = list(operands)
    for name, args in calls:
        if name == "cast":
            values.append(f.cast(values[args[0]], args[1]))
            continue
        if name == "expand_dims":
            values.append(f.expand_dims(values[args[0]], 0) if values[args[0]].ndim < 5 else values[args[0]])
            continue
        xs = [a.imag if isinstance(a, complex) else values[a] for a in args]
        try:
            values.append(getattr(f, name)(*xs))
        except mx.errors.DTypeError:  # a row that refuses the type: leave it out
            values.append(xs[0])
    return [values[i] for i in range(len(operands), len(values)) if i % keep == 0] + [values[-1]]


def drawn(shape, dtype, seed):
    rng = numpy.random.default_rng(seed)
    x = rng.normal(size=shape) * 3
    return mx.np.array(x > 0 if dtype == "bool" else numpy.abs(x) if dtype == "uint8" else x, dtype=dtype)


def same_bits(a, b):
    """Equal, with NaN equal to NaN and zeros told apart by sign."""
    x, y = a.asnumpy(), b.asnumpy()
    assert (x.dtype, x.shape) == (y.dtype, y.shape)
    if x.dtype.kind not in "biu":
        nan = numpy.isnan(x.astype("float64"))
        assert (nan == numpy.isnan(y.astype("float64"))).all()
        x, y = numpy.where(nan, 0, x), numpy.where(nan, 0, y)
    assert x.tobytes() == y.tobytes()


class Twins:
    """A function as an unfused and a fused program over the same arrays."""

    def __init__(self, function, args):
        self.args = args
        graph = trace("twins", function, args, False).graph
        self.plain = lower(graph)
        self.graph = fuse(graph).verify()
        self.fused = lower(self.graph)

    def check(self):
        for a, b in zip(self.plain.run(self.args, False), self.fused.run(self.args, False), strict=True):
            same_bits(a, b)


def twins_of(program, keep=5):
    operands, calls = program
    args = [drawn(shape, dtype, i) for i, (shape, dtype) in enumerate(operands)]
    return Twins(lambda *xs: run_calls(xs, calls, keep), args)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs(), st.sampled_from((2, 5, 50)))
def test_members_give_what_unfused_nodes_give(program, keep):
    twins_of(program, keep).check()


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(programs(), min_size=8, max_size=8))
def test_compiled_kernels_give_what_unfused_nodes_give(many):
    twins = [twins_of(p) for p in many]
    assert mx.rtc.wait(100), mx.rtc.report()
    assert " 0 failed" in mx.rtc.report()
    for t in twins:
        t.check()


def compiled(function, *args):
    """Twins whose kernels are compiled."""
    t = Twins(function, args)
    assert mx.rtc.wait(100)
    assert "0 waiting, 0 failed" in mx.rtc.report(), mx.rtc.report()
    return t


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_type(dtype):
    x, y = drawn((5, 33), dtype, 0), drawn((5, 33), dtype, 1)
    compiled(lambda x, y: [(x + y) * 3 + x, (x * y > 1) + x], x, y).check()


def test_layouts_of_operands():
    x = drawn((6, 8, 35), "float32", 0)
    operands = [drawn(s, "float32", i) for i, s in enumerate([(35,), (8, 1), (6, 1, 1), (1, 8, 35), (6, 1, 35), ()])]
    t = compiled(lambda x, *rest: [mx.np.tanh(x * r + 1) - r for r in rest], x, *operands)
    t.check()
    t = compiled(lambda x: mx.np.tanh(x[::2, ::-1, 1::3] * x.transpose((0, 2, 1))[::2, :8, :8].sum() + 1), x)
    t.check()
    t = compiled(lambda x: mx.np.exp(x.transpose((2, 0, 1))[:8].transpose((1, 0, 2)) * 0.5 + x[:, :, :8]), x)
    t.check()


def test_short_rows_and_threads():
    x = drawn((70000, 3), "float32", 0)
    compiled(lambda x, m: (x - m) * 2, x, drawn((3,), "float32", 1)).check()


def test_half_is_rounded_between_rows():
    x = drawn((1000,), "float16", 0)
    t = compiled(lambda x: (x * 1.1 + 0.3) * x - x, x)
    t.check()
    y = x.asnumpy().astype("float32")
    rounded = t.fused.run([x], False)[0].asnumpy()
    assert (rounded != ((y * numpy.float32(1.1) + numpy.float32(0.3)) * y - y).astype("float16")).any()


def test_nothing_is_written_over_what_is_still_read():
    """x - x[:, :1] may not run in the memory of x."""

    def function(x):
        y = mx.np.cumsum(x, axis=1)  # lies in the arena and dies in the subtraction
        return mx.np.cumsum((y - y[:, :1]) * 2 + 1, axis=0)

    x = drawn((300, 700), "float32", 0)
    want = function(x).asnumpy()
    t = compiled(function, x)
    for program in (t.plain, t.fused):
        assert (program.run([x], False)[0].asnumpy() == want).all()


# ---- the pass -------------------------------------------------------------------------------------------------------


def ops(graph):
    return [n.op for n in graph.nodes]


def fused_graph(function, *shapes, dtype="float32"):
    args = [drawn(s, dtype, i) for i, s in enumerate(shapes)]
    t = Twins(function, args)
    t.check()
    return t.graph


def test_a_chain_is_one_node_with_one_output():
    g = fused_graph(lambda x: mx.np.exp(mx.np.tanh(x) + 1), (3, 4))
    assert ops(g) == ["fused"]
    assert [len(g.nodes[0].inputs), len(g.nodes[0].outputs)] == [1, 1]


def test_one_node_stays_as_it_is():
    assert ops(fused_graph(lambda x: mx.np.tanh(x), (3, 4))) == ["tanh"]


def test_what_others_read_is_an_output():
    g = fused_graph(lambda x: [mx.np.exp(x) + 1, mx.np.exp(x).sum()], (3, 4))
    assert "fused" in ops(g)
    g = fused_graph(lambda x: (lambda a: [mx.np.tanh(a), a])(mx.np.exp(x)), (3, 4))
    assert ops(g) == ["fused"] and len(g.nodes[0].outputs) == 2


def test_no_cycle_through_a_node_outside():
    """exp(x) is read by a sum, and both by an add: the add may not join exp."""

    def function(x):
        a = mx.np.exp(x) * 2
        return mx.np.tanh(a + mx.np.sum(a, axis=0)) * a

    g = fused_graph(function, (5, 4))
    assert ops(g).count("fused") == 2


def test_a_node_sinks_to_its_reader():
    g = fused_graph(lambda x, w: mx.np.dot(x, w) * mx.npx.sigmoid(x), (4, 4), (4, 4))
    assert ops(g)[-1] == "fused" and "sigmoid" not in ops(g)


def test_sizes_of_one_do_not_separate():
    g = fused_graph(lambda x: mx.np.tanh(mx.np.expand_dims(mx.np.exp(x), 1)) + 1, (3, 4))
    assert ops(g) == ["fused"]


def test_a_view_that_leaves_is_the_output():
    g = fused_graph(lambda x: (lambda a: [a + 1, a])(mx.np.expand_dims(mx.np.exp(x), 1)), (3, 4))
    assert ops(g) == ["fused"]


def test_a_second_look_at_an_output_is_made_behind_the_kernel():
    g = fused_graph(lambda x: (lambda a: [a + 1, a, mx.np.expand_dims(a, 1)])(mx.np.exp(x)), (3, 4))
    assert ops(g) == ["fused", "expand_dims"]


def test_bounds():
    def function(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total * 2

    g = fused_graph(function, *[(8,)] * 60)
    assert all(len(n.inputs) + len(n.outputs) <= fusion.MAX_OPERANDS for n in g.nodes)
    assert len(g.nodes) == 3
    long = fused_graph(lambda x: [x := mx.np.tanh(x + 1) for _ in range(300)][-1], (8,))
    assert 2 < len(long.nodes) < 12


def test_random_nodes_keep_their_order():
    def function(x):
        a = mx.np.exp(x)
        b = mx.np.random.uniform(size=(4,)) * a
        c = mx.np.random.uniform(size=(4,))
        return [mx.np.tanh(c) + a, b]

    x = drawn((4,), "float32", 0)
    t = Twins(function, [x])
    results = []
    for program in (t.plain, t.fused):
        mx.random.seed(3)
        results.append([r.asnumpy() for r in program.run([x], False)])
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def chain_graph(n):
    """A ladder of n cells, each a pointwise pair and a sum that breaks the chain."""
    x = Value((8,), "float32")
    v, nodes = x, []
    for _ in range(n):
        for op in ("exp", "tanh", "cumsum"):
            out = Value((8,), "float32")
            nodes.append(Node(op, [v], [out], {}))
            v = out
    return Graph("ladder", [x], nodes, [v])


def test_time_is_linear():
    def seconds(n):
        graph = chain_graph(n)
        gc.disable()
        start = time.perf_counter()
        fuse(graph)
        gc.enable()
        return time.perf_counter() - start

    seconds(10)
    small, large = min(seconds(500) for _ in range(3)), min(seconds(4000) for _ in range(3))
    assert large < 24 * small  # 8 times the nodes; a quadratic pass would take 64 times as long


def test_blocked_values():
    """Blocked operands are taken as they lie in memory; broadcasting across channels is left alone."""
    x, y = (Value((2, 8, 4, 4), "float32", "aBcd8b") for _ in range(2))
    a, b, c = (x.like() for _ in range(3))
    bias = Value((8, 1, 1), "float32")
    nodes = [Node("add", [x, y], [a]), Node("tanh", [a], [b]), Node("multiply", [b, 2.0], [c])]
    g = fuse(Graph("blocked", [x, y], nodes, [c])).verify()
    assert ops(g) == ["fused"]
    assert fusion.space_of(Node("add", [x, bias], [a])) is None


@pytest.mark.cpu_only("the host's compiler is not asked")
def test_a_broken_kernel_is_caught(monkeypatch):
    """Teeth: the comparison of these tests fails if the kernel's text is wrong in one place."""
    right = text.step
    monkeypatch.setattr(
        text, "step", lambda s: right(s).replace("subtract_", "add_") if s.row == "subtract" else right(s)
    )
    monkeypatch.setattr(text, "functions", lambda groups, made=text.functions: made(groups) + made_of("add"))
    t = Twins(lambda x, y: mx.np.tanh(x - y), [drawn((9,), "float32", 0), drawn((9,), "float32", 1)])
    t.check()
    assert mx.rtc.wait(100)
    assert " 1 ready" in mx.rtc.report(), mx.rtc.report()
    with pytest.raises(AssertionError):
        t.check()


def made_of(row):
    from minimx.ops.emit import function
    from minimx.ops.table import OPS

    return function(OPS[row])


def test_a_group_cut_wrongly_is_caught():
    """Teeth: a fused node that depends on itself through another node is an error."""
    x = Value((4,), "float32")
    a, s, b = Value((4,), "float32"), Value((1,), "float32"), Value((4,), "float32")
    nodes = [Node("exp", [x], [a]), Node("cumsum", [a], [s]), Node("add", [a, s], [b])]
    g = Graph("cycle", [x], nodes, [b])
    with pytest.raises(mx.errors.GraphError, match="cycle"):
        fusion.rebuilt(g, {nodes[0]: (group := [nodes[0], nodes[2]]), nodes[2]: group})
