"""Groups with reductions: what is expanded, which nodes become one kernel, and that the numbers stay."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx.graph import compile as compiling
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.lower import lower
from minimx.graph.passes import domains, expand, products
from minimx.graph.passes.expand import EXPANSIONS
from minimx.graph.passes.grouping import MAX_OPERANDS
from minimx.graph.trace import differentiate, trace
from minimx.ops.table import f
from minimx.rtc import compile as service
from minimx.rtc import folds, rows
from minimx.rtc.compiler import find_compiler

np, npx = mx.np, mx.npx


pytestmark = pytest.mark.skipif(find_compiler() is None, reason="without a compiler, reductions are not fused")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Small arrays are grouped too."""
    monkeypatch.setattr(domains, "FEW", 0)


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


class Twins:
    """A function, or its gradients, as a plain program and as one of groups, or of their members."""

    def __init__(self, function, args, order=0, members=True):
        g = graph_of(function, args, order)
        more = [array(*v.shape, dtype=v.dtype, seed=i) for i, v in enumerate(g.inputs[len(args) :], 1)]
        self.args = [*args, *more]
        self.plain = lower(g.copy())
        self.grouped = compiling.finished(g, "test")
        self.fused = lower(without_groups(self.grouped) if members else self.grouped)

    def check(self, tolerance=1e-5):
        """Both give the same."""
        results = []
        for program in (self.plain, self.fused):
            mx.random.seed(7)
            results.append([x.asnumpy().astype("float64") for x in program.run(self.args, False)])
        for a, b in zip(*results, strict=True):
            scale = numpy.abs(a[numpy.isfinite(a)]).max(initial=1)
            numpy.testing.assert_allclose(b, a, atol=tolerance * scale, rtol=tolerance)


def check(function, args, order=0, tolerance=1e-5):
    """The plain graph and the grouped one give the same; returns the grouped one."""
    twins = Twins(function, args, order)
    twins.check(tolerance)
    return twins.grouped


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


def halves(function, *args):
    """What runs forward and backward of a function in training."""
    with mx.autograd.train_mode():
        c = compiling.compile_function(
            "f", function, list(args), True, lambda t: [v.dtype in ("float32", "bfloat16") for v in t.graph.inputs]
        )
    return kernels(c.forward), kernels(c.backward)


@pytest.fixture
def no_limits(monkeypatch):
    """All that a group may be, kernels take."""
    monkeypatch.setattr(rows, "takes", lambda *args: True)
    monkeypatch.setattr(folds, "takes", lambda *args: True)


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


@pytest.fixture
def compiler(monkeypatch, tmp_path_factory):
    """A compiler service of the test's own, with a cache that all tests of a run share."""
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path_factory.getbasetemp() / "cache")
    made = service.Service()
    monkeypatch.setattr(service, "service", made)
    yield made
    made.close()


@pytest.mark.cpu_only("the host's compiler")
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(programs(), min_size=12, max_size=12))
def test_compiled_groups_keep_their_numbers(compiler, many):
    twins = []
    for i, (operands, calls) in enumerate(many):
        args = [array(*shape, dtype=dtype, seed=i) for i, (shape, dtype) in enumerate(operands)]
        twins.append(Twins(lambda *xs, calls=calls: run_calls(xs, calls, 5), args, i % 3, members=False))
    for t in twins:
        t.check(2e-4)
    assert mx.rtc.wait(100)
    assert " 0 failed" in mx.rtc.report() or "nothing" in mx.rtc.report(), mx.rtc.report()
    for t in twins:
        t.check(2e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("function", [
    lambda x, g: npx.softmax(x * 2, axis=-1) * g,
    lambda x, g: npx.log_softmax(x * 2, axis=-1) * g,
    lambda x, g: npx.masked_softmax(x, x > 0) * g,
    lambda x, g: npx.layer_norm(np.tanh(x), g, g) * 2,
    lambda x, g: npx.rms_norm(np.tanh(x), g) * 2,
    lambda x, g: npx.dropout(np.tanh(x), 0.4) * g,
    lambda x, g: npx.dropout(np.tanh(x), 1.0) * g,
])  # fmt: skip
def test_each_row_that_is_written_out(function, dtype, no_limits):
    x, g = array(5, 3, 40, dtype=dtype), array(40, dtype=dtype, seed=1)
    tolerance = {"bfloat16": 3e-2, "float16": 4e-3}.get(dtype, 1e-5)
    for order in range(3):
        made = check(function, [x, g], order, tolerance)
        assert order == 2 or not EXPANSIONS.keys() & set(kernels(made)), kernels(made)


def test_infinite_elements():
    x = array(6, 40)
    x[0, 3], x[1, 5], x[2], x[3] = numpy.inf, numpy.nan, -numpy.inf, numpy.inf
    for function in (npx.softmax, npx.log_softmax):
        made = check(lambda x, function=function: function(x * 2, axis=-1), [x])
        assert forms_of(made) == ["rows"]


# ---- which groups ---------------------------------------------------------------------------------------------------


@pytest.mark.cpu_only("small arrays")
def test_small_arrays_of_the_cpu_are_left_alone(monkeypatch):
    monkeypatch.setattr(domains, "FEW", 200)
    x = array(5, 40)
    assert kernels(check(lambda x: npx.softmax(x * 2, axis=-1), [x])) == ["multiply", "softmax_of"]
    assert forms_of(check(lambda x: npx.softmax(x * 2, axis=-1), [array(6, 40)])) == ["rows"]


def test_a_lone_reduction_stays():
    x = array(5, 40)
    assert kernels(check(lambda x: x.sum(0), [x])) == ["sum"]
    assert kernels(check(lambda x: [x.sum(1), np.matmul(x, x.T)], [x])) == ["sum", "matmul"]
    assert kernels(check(lambda x: npx.softmax(x, axis=-1), [x])) == ["softmax_of"]


def test_rows_take_in_what_is_around_them():
    x, y = array(5, 40), array(5, 1)
    made = check(lambda x, y: [(s := npx.softmax(x * 2 + y, axis=-1)) * y, s.astype("float64")], [x, y])
    assert kernels(made) == ["rows: multiply add max subtract exp sum reciprocal multiply multiply cast"]
    made = check(lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True)), [x])
    assert kernels(made) == ["rows: multiply sum sqrt divide"]
    made = check(lambda x, y: np.tanh(x) - np.broadcast_to((x + y).max(1, keepdims=True), x.shape), [x, y])
    assert forms_of(made) == ["rows"]


def test_rows_are_read_along_themselves_only():
    """Sums of the rows of a square matrix may be read as a row: then that is another kernel."""
    x = array(16, 16)
    made = check(lambda x: x * 2 - (x * 3).sum(1), [x])
    assert kernels(made) == ["rows: multiply sum", "pointwise: multiply subtract"]


def test_folds_store_what_others_read(no_limits):
    x, y = array(20, 16), array(16)
    made = check(lambda x, y: [(a := np.tanh(x) * y).sum(0), np.matmul(a, a.T)], [x, y])
    assert kernels(made) == ["fold: tanh multiply sum", "matmul"]
    assert len(made.nodes[0].outputs) == 2
    made = check(lambda x: np.sqrt((x * x).sum()) * 2, [x])
    assert kernels(made) == ["fold: multiply sum sqrt multiply"]
    made = check(lambda x: [(x * 2).sum(0), (x * 2).sum(1)], [x])
    assert sorted(forms_of(made)) == ["rows", "sum"]


def test_a_fold_has_no_reader_over_elements(no_limits):
    made = check(lambda x: (a := np.tanh(x) + 1) / (a * a).sum(0), [array(20, 16)])
    assert kernels(made) == ["fold: tanh add multiply sum", "divide"]


def test_what_leads_to_a_fold_only_is_not_in_the_rows():
    """As in layer norm's gradient: nothing over all elements is stored between the two."""
    x, y = array(4, 20, 16), array(4, 20, 1)
    made = check(lambda x, y: [((x - y) * x).sum((0, 1)), (x - y) / (x * x).sum(-1, keepdims=True)], [x, y])
    assert all(v.shape != (4, 20, 16) for n in made.nodes for v in n.outputs if n.attrs.get("form") == "fold")


def test_updates_stay_pointwise(no_limits):
    """What is written back runs in place; a sum of it is another kernel."""
    w, g = array(20, 16), array(20, 16, seed=1)
    t = trace("f", lambda w, g: (w.__isub__(g * 0.1), (w * w).sum())[1], [w, g], True)
    made = compiling.finished(t.graph, "test")
    assert kernels(made) == ["pointwise: multiply subtract", "fold: multiply sum"]


def test_bounds():
    def function(*xs):
        return npx.softmax(sum(xs[1:], xs[0] * 2), axis=-1)

    made = check(function, [array(8, 16, seed=i) for i in range(60)])
    assert all(len(n.inputs) + len(n.outputs) <= MAX_OPERANDS for n in made.nodes)
    assert forms_of(made).count("rows") == 1


NORM = "cast mean subtract square mean add rsqrt multiply multiply add cast reshape reshape"
NORM_GRAD = "cast subtract multiply cast multiply multiply mean mean subtract multiply subtract multiply cast"
PARAMETERS_GRAD = "fold: cast subtract multiply cast multiply sum cast sum cast"
DROPOUT = "cast multiply multiply cast"


def by_name(kernel):
    """A group with its members sorted: casts of two results may come in any order."""
    form, _, members = kernel.partition(": ")
    return f"{form}: {' '.join(sorted(members.split()))}" if members else kernel


def test_a_layer_of_bert(no_limits):
    from minimx.models.bert import BERTLayer

    net = BERTLayer(8, 32, 2, 0.1)
    net.initialize(mx.init.Xavier())
    net.cast("bfloat16")
    x, mask = array(6, 2, 8, dtype="bfloat16"), np.ones((2, 6), dtype="bool")
    forward, backward = halves(net, x, mask)
    softmax = "multiply where cast max subtract exp sum reciprocal multiply cast where"
    assert [k for k in forward if k not in ("cast", "pointwise: cast")] == [  # those of parameters, kept for backward
        "fully_connected", "matmul", "dropout_mask", f"rows: {softmax} {DROPOUT}", "matmul",
        "fully_connected", "dropout_mask", f"rows: {DROPOUT} add {NORM}",
        "fully_connected", "gelu", "fully_connected", "dropout_mask", f"rows: {DROPOUT} add {NORM}",
    ]  # fmt: skip
    dropped = "multiply cast where"
    sums = ("matmul_sums", "sum")  # the first where cuBLASLt gains by it
    assert sum(map(backward.count, sums)) == 3
    assert sorted(by_name(k) for k in backward if k not in ("matmul", *sums)) == sorted(by_name(k) for k in [
        PARAMETERS_GRAD, f"rows: {NORM_GRAD} {dropped}", "fold: gelu.grad0 sum",
        f"rows: add {NORM_GRAD} {dropped}", PARAMETERS_GRAD,
        f"rows: {dropped} where cast cast multiply sum subtract multiply cast where multiply",
        "concatenate", "add",
    ])  # fmt: skip


def test_losses(no_limits):
    from minimx.gluon import loss

    dense = loss.SoftmaxCrossEntropyLoss(sparse_label=False)
    forward, backward = halves(lambda x, y: dense(x, y), array(4, 10), array(4, 10))
    made = "max isfinite where subtract exp sum log add subtract reshape multiply sum negative reshape"
    assert forward == [f"rows: {made}"]
    assert [k.partition(":")[0] for k in backward] == ["rows"]
    sparse = loss.SoftmaxCrossEntropyLoss()
    forward, backward = halves(lambda x, y: sparse(x, y), array(4, 10), np.array([1, 0, 9, 2], dtype="int64"))
    assert forward == ["cross_entropy"] and "cross_entropy_backward" in backward


@pytest.mark.parametrize("groups", [2, 6])
def test_norms_of_groups(no_limits, groups):
    """Rows are the channels of a group with their images: the ReLU behind is in the kernel, forward and backward."""
    forward, backward = halves(
        lambda x, a, b: npx.relu(npx.group_norm(x, a, b, groups)), array(3, 6, 4, 5), array(6), array(6)
    )
    assert [k.partition(":")[0] for k in forward] == ["rows"] and " relu" in forward[0]
    assert sorted(k.partition(":")[0] for k in backward) == ["fold", "rows"]
    assert " relu.grad0" in next(k for k in backward if k.startswith("rows"))


def test_gradients_of_biases(no_limits):
    from minimx.gluon import nn

    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="relu", in_units=8), nn.Dense(16, activation="tanh", in_units=16))
    net.initialize()
    _, backward = halves(net, array(4, 8))
    folds = ["fold: tanh.grad0 reshape sum", "fold: reshape relu.grad0 reshape sum"]
    assert [k for k in backward if not k.startswith("matmul")] == folds
    many = nn.HybridSequential()
    many.add(nn.Dense(16, activation="relu", flatten=False, in_units=8), nn.Dense(5, flatten=False, in_units=16))
    many.initialize()
    _, backward = halves(many, array(4, 3, 8))
    assert [k for k in backward if not k.startswith(("matmul", "sum"))] == ["fold: relu.grad0 sum"]


@pytest.mark.parametrize("fuses", [True, False])
def test_sums_that_no_group_takes_are_a_product_s(monkeypatch, fuses, no_limits):
    """On a GPU: a gradient that comes out of a group of rows is summed where it is multiplied."""
    monkeypatch.setattr(products, "gains", lambda nodes, gpu: [fuses] * len(nodes))

    def function(x, w, b):
        return npx.softmax(npx.fully_connected(x, w, b, flatten=False) * 2, axis=-1)

    g = graph_of(function, [array(4, 3, 8), array(5, 8), array(5)], 1)
    g.gpu = 0
    made = kernels(compiling.finished(g, "test"))
    assert ("matmul_sums" in made, "sum" in made) == (fuses, not fuses), made


def test_rows_that_are_read_across_are_caught(monkeypatch):
    """Teeth: if the pass lets any node read what was reduced, the group's description is refused."""
    monkeypatch.setattr(domains.Reducing, "fits", lambda self, producer, reader: True)
    with pytest.raises(mx.errors.GraphError, match="read where they were made"):
        Twins(lambda x: x * 2 - (x * 3).sum(1), [array(16, 16)], members=False)


def test_a_shift_left_out_is_caught(monkeypatch):
    """Teeth: softmax without its largest element taken away gives other numbers."""
    right = expand.Writer.__call__
    monkeypatch.setattr(
        expand.Writer,
        "__call__",
        lambda self, op, *xs, **attrs: right(self, op, *xs, **attrs) if op != "subtract" else right(self, "add", *xs),
    )
    with pytest.raises(AssertionError):
        check(lambda x: npx.softmax(x * 100, axis=-1), [array(5, 40)])


def ladder(n):
    """A graph of n cells: a softmax, nodes in another shape, something that ends a group, and a fold that all read."""
    x = v = Value((8, 16), "float32")
    nodes = []
    for _ in range(n):
        for op, shape, attrs in (
            ("exp", (8, 16), {}),
            ("softmax_of", (8, 16), {"axis": -1}),
            ("reshape", (2, 4, 16), {"shape": (2, 4, 16)}),
            ("tanh", (2, 4, 16), {}),
            ("reshape", (8, 16), {"shape": (8, 16)}),
            ("cumsum", (8, 16), {"axis": 0}),
        ):
            nodes.append(Node(op, [v], [Value(shape, "float32")], attrs))
            v = nodes[-1].outputs[0]
        total, out = Value((16,), "float32"), v.like()
        nodes += [Node("sum", [v], [total], {"axis": 0}), Node("multiply", [v, total], [out])]
        v = out
    return Graph("ladder", [x], nodes, [v])


def test_time_is_linear():
    def seconds(n):
        g = ladder(n)
        gc.disable()
        start = time.perf_counter()
        compiling.finished(g, "test")
        gc.enable()
        return time.perf_counter() - start

    seconds(10)
    small, large = min(seconds(100) for _ in range(3)), min(seconds(800) for _ in range(3))
    assert large < 24 * small  # 8 times the nodes; a quadratic pass would take 64 times as long


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_dropout_draws_what_it_draws_alone(dtype):
    """Numbers of the stream go to the same elements, whether a row draws or its mask alone, and in the same order."""

    def function(x, y):
        x = npx.dropout(np.tanh(x), 0.3)
        noise = np.random.uniform(size=(5, 40), dtype="float64")
        return [x, noise, npx.softmax(npx.dropout(x * 2, 0.6) + y, axis=-1)]

    args = [array(5, 40, dtype=dtype), array(40, dtype=dtype)]
    made = check(function, args, tolerance=1e-2 if dtype == "bfloat16" else 1e-6)
    assert kernels(made).count("dropout_mask") == 2 and "uniform" in kernels(made)
    with mx.autograd.train_mode():
        mx.random.seed(7)
        alone = [v.asnumpy() for v in function(*args)]
    mx.random.seed(7)
    grouped = [v.asnumpy() for v in lower(made).run(args, False)]
    numpy.testing.assert_array_equal(grouped[0], alone[0])
    numpy.testing.assert_array_equal(grouped[1], alone[1])
