"""Lists of calls as programs: they give what the calls give one by one, to the bit where all are pointwise."""

from __future__ import annotations

import random
import threading

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx.errors import GraphError
from minimx.graph import bulk
from minimx.graph.ir import Value
from minimx.graph.passes.cleanup import call
from minimx.graph.trace import differentiate, trace
from minimx.ndarray import _core
from minimx.ops.table import OPS

UNARY = ("tanh", "exp", "negative", "sqrt", "relu", "square", "sigmoid", "floor")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "less")
TYPES = ("float32", "float16", "bfloat16", "float64", "int32")
KINDS = ("unary", "binary", "number", "cast", "view", "view", "part", "in place", "in place", "in place")
SHAPES = ((3, 4), (4,), (3, 1), (12,), (2, 6), ())


def gpu():
    """The number of the GPU that tests run on, -1 for the CPU."""
    device = mx.current_device()
    return device.device_id if device.device_type == "gpu" else -1


class Runner:
    """Runs calls one by one on real arrays: the plain twin. Builds the list of them at the same time."""

    def __init__(self, *arrays):
        self.externals = [(a.shape, _core.dtype_name(a)) for a in arrays]
        self.given = [a.copy() for a in arrays]  # as a program finds them
        self.arrays = dict(enumerate(arrays))
        self.calls: list[tuple] = []

    def __call__(self, op, *args, into=None, **attrs):
        """Runs one of one result; returns the id of that."""
        (number,) = self.run(op, args, attrs, None if into is None else [into])
        return number

    def run(self, op, args, attrs, into=None):
        """Runs one; returns the ids of its results."""
        made = call(op, [x[1] if isinstance(x, tuple) else x if x is None else self.arrays[x] for x in args], attrs)
        outs = []
        for i, a in enumerate(made if isinstance(made, tuple) else (made,)):
            if into is not None:
                self.arrays[into[i]][...] = a
                a = self.arrays[into[i]]
            outs.append(len(self.arrays))
            self.arrays[outs[-1]] = a
        self.calls.append((op, attrs, args, outs, into, f"line {len(self.calls)}"))
        return outs

    def program(self, live):
        return bulk.program_of(self.externals, self.calls, live, gpu())

    def check(self, live, program=None, equal=None):
        """A program gives what the calls gave, in outputs and in what they wrote to."""
        inputs = [a.copy() for a in self.given]
        outs = (program or self.program(live)).run(inputs, False)
        assert len(outs) == len(live)
        for i, got in [*zip(live, outs, strict=True), *enumerate(inputs)]:
            (equal or same_bits)(got.reshape(self.arrays[i].shape), self.arrays[i])


def same_bits(got, want):
    """Equal to the bit, but for what kind of NaN."""
    assert got.dtype == want.dtype
    a, b = got.asnumpy(), want.asnumpy()
    wide_a, wide_b = a.astype("float64"), b.astype("float64")
    numpy.testing.assert_array_equal(wide_a, wide_b)
    holds = ~numpy.isnan(wide_a)
    assert (numpy.signbit(wide_a) == numpy.signbit(wide_b))[holds].all()


def close(got, want):
    numpy.testing.assert_allclose(got.asnumpy(), want.asnumpy(), rtol=2e-5, atol=2e-6)


def drawn(rng, shape, dtype):
    """An array of small numbers."""
    count = int(numpy.prod(shape))
    return mx.np.array([rng.uniform(-3, 3) for _ in range(count)], dtype="float64").reshape(shape).astype(dtype)


def random_list(rng, length):
    """(the runner of a random list of pointwise calls, ids to be live): with views, numbers, casts, broadcasts, and
    writes in place to arrays that were there, to results, and through reshapes of both.
    """
    types = rng.choice([TYPES, ("float32",), ("float16", "float32")])
    run = Runner(*(drawn(rng, rng.choice(SHAPES), rng.choice(types)) for _ in range(3)))
    roots = {0: 0, 1: 1, 2: 2}  # id -> the id that made its memory

    def anything():
        return rng.choice(list(run.arrays))

    for _ in range(length):
        x, kind = anything(), rng.choice(KINDS)
        a = run.arrays[x]
        if kind in ("unary", "cast") or (kind == "part" and a.ndim == 0):
            n = run("cast", x, dtype=rng.choice(types)) if kind == "cast" else run(rng.choice(UNARY), x)
        elif kind == "view":
            shapes = [s for s in SHAPES if numpy.prod(s) == a.size]
            n = run("reshape", x, shape=rng.choice(shapes)) if shapes else run("expand_dims", x, axis=0)
        elif kind == "part":
            n = run("getitem", x, key=((0, 1, 1),)) if rng.random() < 0.5 else run("transpose", x)
        elif kind == "number":
            pair = [x, ("number", rng.choice([2, 0.1, -1.5, True]))]
            n = run(rng.choice(BINARY), *rng.sample(pair, 2))
        else:
            others = [y for y in run.arrays if fits(a.shape, run.arrays[y].shape)]
            whole = kind == "in place" and a.shape == run.arrays[roots[x]].shape and run.arrays[x].size > 0
            y = rng.choice(others)
            if whole and numpy.broadcast_shapes(a.shape, run.arrays[y].shape) == a.shape:
                n = run(rng.choice(BINARY[:3]), x, y, into=roots[x])
            else:
                n = run(rng.choice(BINARY), x, y)
        view = OPS[run.calls[-1][0]].kind == "view"
        roots[n] = roots[x] if view else roots[run.calls[-1][4][0]] if run.calls[-1][4] else n
    made = sorted({r for r in roots.values() if r > 2})
    return run, rng.sample(made, rng.randint(0, len(made)))


def fits(a, b):
    try:
        numpy.broadcast_shapes(a, b)
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True)
def _as_numpy():
    """What overflows on purpose says nothing."""
    with numpy.errstate(all="ignore"):
        yield


@given(st.integers(0, 2**32), st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_random_lists_are_what_their_calls_are(seed, length):
    before, mx.settings.fusion = mx.settings.fusion, False
    try:
        run, live = random_list(random.Random(seed), length)
        run.check(live)
    finally:
        mx.settings.fusion = before


@pytest.mark.cpu_only("of the host's compiler")
def test_compiled_kernels_take_over_without_a_change():
    lists = [random_list(random.Random(seed), 10) for seed in range(24)]
    programs = [run.program(live) for run, live in lists]
    for (run, live), program in zip(lists, programs, strict=True):
        run.check(live, program)
    assert mx.rtc.wait(100)
    for (run, live), program in zip(lists, programs, strict=True):
        run.check(live, program)


@pytest.mark.cpu_only("of the host's compiler")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_by_numbers_are_powers_by_arrays(dtype):
    """What compilers know of some exponents may not show."""
    lists = []
    for exponent in (2, -1, 0.5, 3, 1.7, 0):
        run = Runner(drawn(random.Random(1), (4000,), dtype), mx.np.full((4000,), exponent, dtype=dtype))
        x = run("negative", run("power", 0, ("number", float(exponent))))
        same_bits(run.arrays[x], -mx.np.power(run.arrays[0], run.arrays[1]))
        lists.append((run, x, run.program([x])))
    assert mx.rtc.wait(100)
    for run, x, program in lists:
        run.check([x], program)


# ---- what becomes of a list -----------------------------------------------------------------------------------------


def test_a_chain_is_one_kernel_and_the_dead_are_not_written():
    run = Runner(mx.np.arange(6.0).reshape(2, 3))
    x = 0
    for _ in range(10):
        x = run("add", run("multiply", x, ("number", 0.5)), ("number", 1.0))
    dead = run("exp", x)
    program = run.program([x])
    assert program.steps == ["fused"] and dead not in [x]
    assert len(program.run(run.given, False)) == 1
    run.check([x], program)


def test_a_view_shows_what_was_written_since():
    run = Runner(mx.np.arange(6.0), mx.np.ones(6))
    made = run("multiply", 0, ("number", 2.0))
    row = run("getitem", run("reshape", made, shape=(2, 3)), key=((0, 1, 1),))
    run("add", made, 1, into=made)
    after = run("negative", row)
    run("multiply", 0, ("number", 3.0), into=0)
    run.check([made, after])
    assert run.arrays[after].asnumpy().tolist() == [[-1, -3, -5]]


def test_writes_through_a_reshape_reach_the_whole():
    run = Runner(mx.np.arange(6.0))
    look = run("reshape", 0, shape=(2, 3))
    run("add", look, ("number", 1.0), into=look)
    out = run("square", 0)
    run.check([out])


def test_a_write_converts():
    run = Runner(mx.np.arange(4, dtype="int32"))
    run("divide", 0, ("number", 2.0), into=0)
    run.check([run("add", 0, ("number", 1))])


def test_two_arrays_trade_places():
    run = Runner(mx.np.arange(3.0), mx.np.ones(3))
    kept = run("copy", 0)
    run("copy", 1, into=0)
    run("copy", kept, into=1)
    run.check([])


def test_a_write_to_a_part_is_refused():
    externals = [((4, 3), "float32")]
    calls = [("getitem", {"key": ((0, 1, 1),)}, [0], [1], None, ""), ("negative", {}, [1], [2], [1], "")]
    with pytest.raises(GraphError, match="all of an array's memory"):
        bulk.graph_of(externals, calls, [])


def test_nodes_know_the_users_lines():
    run = Runner(mx.np.ones(3))
    x = run("exp", run("negative", 0))
    assert [n.site for n in bulk.graph_of(run.externals, run.calls, [x]).nodes] == ["line 0", "line 1"]


def test_random_calls_draw_what_they_draw_one_by_one():
    mx.random.seed(3)
    run = Runner(mx.np.ones((4, 5)))
    first, second = (run("normal", 0, ("number", 1.0), size=(4, 5)) for _ in range(2))
    run("normal", 0, ("number", 1.0), size=(4, 5))  # which nobody reads
    x = run("add", run("subtract", first, second), run("normal", 0, ("number", 1.0), size=(4, 5)))
    mx.random.seed(3)
    run.check([x])


# ---- a training step ------------------------------------------------------------------------------------------------


def step_list():
    """(the runner of a convolutional net's training step, the id of its loss): forward with batch-norm statistics that
    are written in place, backward, and the update of the weights.
    """
    rng = random.Random(0)
    shapes = [(2, 3, 6, 6), (4, 3, 3, 3), (4,), (4,), (5, 4), (5,), (4,), (4,)]
    arrays = [drawn(rng, s, "float32") for s in shapes[:-1]] + [mx.np.ones(4)]
    trained = range(1, 6)

    def loss(x, w, gamma, beta, dense, bias, mean, var):
        h = mx.npx.convolution(x, w, None, kernel=(3, 3), num_filter=4, no_bias=True)
        h = mx.npx.relu(mx.npx.batch_norm(h, gamma, beta, mean, var, fix_gamma=False))
        h = mx.npx.dropout(h.mean(axis=(2, 3)), p=0.5)
        return -mx.npx.log_softmax(mx.np.dot(h, dense.T) + bias)[:, 1].mean()

    t = trace("loss", loss, arrays, True)
    gradient = differentiate(t, [i in trained for i in range(len(arrays))], True)
    ids = {v: i for i, v in enumerate(t.graph.inputs)}
    run = Runner(*arrays)

    def replay(nodes):
        for n in nodes:
            args = [ids[v] if isinstance(v, Value) else v if v is None else ("number", v) for v in n.inputs]
            ids.update(zip(n.outputs, run.run(n.op, args, n.attrs), strict=True))

    replay(t.graph.nodes)
    for target, value in t.graph.writes:
        run("copy", ids[value], into=ids[target])
    (out,) = t.graph.outputs
    ids[gradient.heads[0]] = run("ones_like", ids[out])
    replay(gradient.nodes)
    for i in trained:
        run("subtract", i, run("multiply", ids[gradient.gradients[i]], ("number", 0.1)), into=i)
    return run, ids[out]


def test_a_training_step_is_one_program():
    mx.random.seed(5)
    run, loss = step_list()
    program = run.program([loss])
    assert len(program.steps) < 0.6 * len(run.calls), program.steps
    mx.random.seed(5)
    run.check([loss], program, close)


# ---- in the background ----------------------------------------------------------------------------------------------


def test_a_thread_compiles_and_hands_over():
    run = Runner(mx.np.arange(5.0))
    x = run("exp", run("negative", 0))
    found: list = []
    bulk.submit(run.externals, run.calls, [x], gpu(), lambda p: found.append((p, threading.current_thread().name)))
    assert bulk.wait(100)
    ((program, thread),) = found
    assert thread == "minimx-bulk"
    run.check([x], program)


def test_what_fails_is_a_warning_that_names_the_rows(monkeypatch):
    seen: list = []
    monkeypatch.setattr(bulk.warnings, "warn", lambda text, *_, **__: seen.append(text))
    found: list = []
    calls = [("tanh", {}, [0], [1], None, ""), ("reshape", {"shape": (7,)}, [1], [2], None, "")]
    bulk.submit([((2,), "float32")], calls, [2], -1, found.append)
    assert bulk.wait(100)
    assert found == [None]
    assert len(seen) == 1 and "tanh, reshape" in seen[0] and "ShapeError" in seen[0]
