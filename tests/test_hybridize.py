"""Hybridized against imperative: the same numbers, forward and backward, for nets of every make; what cannot be traced.

Nets are built with public layers; table_checks.check_hybrid does the same for single operators. Passes: test_graph.py.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import AutogradError, GraphError, MXError
from minimx.gluon import HybridBlock, nn

pytestmark = pytest.mark.usefixtures("unfused")


def values(*shape: int, seed: int = 0) -> mx.np.ndarray:
    """Inputs."""
    return mx.np.array(np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32"))


def twins(make, x, **options):
    """The same net twice, imperative and hybridized, with the same parameters."""
    net = make()
    net.initialize(mx.init.Xavier())
    net(x)  # settles shapes
    other = make()
    other.initialize()
    other(x)
    theirs = other.collect_params()
    for name, p in net.collect_params().items():
        theirs[name].set_data(p.data())
    other.hybridize(**options)
    return net, other


def step(net, x, seed: int = 5):
    """One training pass: output, gradients of input and parameters, and parameters afterwards."""
    mx.random.seed(seed)
    x = x.copy()
    x.attach_grad()
    with autograd.record():
        y = net(x)
        y = y if isinstance(y, (tuple, list)) else [y]
        # cubes: the squares of what a norm gives sum up to the same, so that all of their gradient is rounding
        loss = sum(((i + 1) * (v * v * v)).sum() for i, v in enumerate(y))
    loss.backward()
    found = {"x.grad": x.grad.asnumpy(), "loss": loss.asnumpy()}
    found |= {f"y{i}": v.asnumpy() for i, v in enumerate(y)}
    for name, p in net.collect_params().items():
        found[name] = p.data().asnumpy()
        if p.grad_req != "null":
            found[name + ".grad"] = p.grad().asnumpy()
    return found


def agree(a: dict, b: dict, tolerance: float = 2e-5) -> None:
    """All numbers, relative to the largest of each array."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(
            b[name], a[name], rtol=0, atol=tolerance * max(abs(a[name]).max(initial=0), 1e-3), err_msg=name
        )


# --- nets --------------------------------------------------------------------------------------------------------


def sequential(*blocks) -> nn.HybridSequential:
    """Layers in a row."""
    net = nn.HybridSequential()
    net.add(*blocks)
    return net


class Residual(HybridBlock):
    """conv, norm, relu, conv, norm, plus x, relu: what the layout and norm passes are made for."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.body = sequential(
            nn.Conv2D(channels, 3, 1, 1, use_bias=False),
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.Conv2D(channels, 3, 1, 1, use_bias=False),
            nn.BatchNorm(),
        )

    def forward(self, x):
        return mx.npx.relu(self.body(x) + x)


class Branches(HybridBlock):
    """Nested blocks, a shared child, several outputs in a list, a constant, a slice, and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.other, self.unused = nn.Dense(4, activation="tanh"), nn.Dense(4), nn.Dense(2, in_units=4)

    def forward(self, x):
        a = self.shared(x)
        b = self.shared(a * 2 + mx.np.ones(4))
        return [self.other(a)[:, 1:], mx.np.concatenate([a, b], axis=1).T.sum(axis=0)]


class OldStyle(HybridBlock):
    """Gluon 1's hybrid_forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = gluon.Parameter("weight", shape=(4, 4))

    def hybrid_forward(self, F, x, weight):  # noqa: N803
        y = F.FullyConnected(x, weight, num_hidden=4, no_bias=True)
        return F.broadcast_add(F.relu(y), F.sum(y, axis=1, keepdims=True))


NETS = {
    "mlp": (lambda: sequential(nn.Dense(8, activation="relu"), nn.Dense(6, activation="sigmoid"), nn.Dense(3)), (5, 4)),
    "conv": (
        lambda: sequential(
            nn.Conv2D(8, 3, activation="relu"),
            nn.MaxPool2D(),
            nn.Conv2D(16, 2, 2, 1),
            nn.GlobalAvgPool2D(),
            nn.Flatten(),
            nn.Dense(3),
        ),
        (2, 3, 9, 8),
    ),
    "batch norm": (
        lambda: sequential(nn.Conv2D(8, 3), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(3)),
        (4, 3, 6, 6),
    ),
    "residual": (lambda: sequential(nn.Conv2D(8, 1), Residual(), Residual(), nn.GlobalAvgPool2D()), (2, 3, 6, 6)),
    "norms": (
        lambda: sequential(nn.Dense(8), nn.LayerNorm(), nn.GELU(), nn.Dense(6, flatten=False), nn.GroupNorm(2)),
        (3, 5),
    ),
    "dropout": (lambda: sequential(nn.Dense(16), nn.Dropout(0.5), nn.Dense(8), nn.Dropout(0.3)), (4, 5)),
    "branches": (Branches, (3, 4)),
    "gluon 1": (OldStyle, (3, 4)),
    "transposed": (lambda: sequential(nn.Conv2DTranspose(4, 3, 2, 1), nn.AvgPool2D(2), nn.Conv2D(2, 1)), (2, 3, 5, 5)),
    "embedding": (
        lambda: sequential(
            nn.HybridLambda(lambda x: mx.np.abs(mx.np.floor(x * 2))), nn.Embedding(4, 6), nn.Dense(3, flatten=False)
        ),
        (3, 4),
    ),
}


@pytest.mark.parametrize("options", [{}, {"static_alloc": True}, {"static_alloc": True, "static_shape": True}], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_same_numbers(name, options):
    """Outputs, gradients, running statistics and random streams, in train and predict mode, over several calls."""
    make, shape = NETS[name]
    x = values(*shape)
    net, hybrid = twins(make, x, **options)
    for call in range(3):
        x = values(*shape, seed=call)
        agree(step(net, x, call), step(hybrid, x, call))
        a, b = net(x), hybrid(x)
        for p, q in zip(*(v if isinstance(v, (list, tuple)) else [v] for v in (a, b)), strict=True):
            np.testing.assert_allclose(q.asnumpy(), p.asnumpy(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["conv", "residual", "norms", "mlp"])
def test_same_numbers_fused(name):
    """With run-time compilation on, whether or not the kernels are ready."""
    mx.settings.fusion = True
    make, shape = NETS[name]
    x = values(*shape)
    net, hybrid = twins(make, x)
    for call in range(4):
        agree(step(net, x, call), step(hybrid, x, call))


@pytest.mark.parametrize("name", ["mlp", "conv", "residual"])
def test_training_agrees(name):
    """Ten steps with momentum: losses stay together."""
    make, shape = NETS[name]
    x = values(*shape)
    losses = []
    for net in twins(make, x):
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.05, "momentum": 0.9})
        row = []
        for i in range(10):
            data = values(*shape, seed=i)
            with autograd.record():
                loss = (net(data) ** 2).mean()
            loss.backward()
            trainer.step(1)
            row.append(loss.item())
        losses.append(row)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][-1] < losses[0][0]


# --- calls -------------------------------------------------------------------------------------------------------


def test_new_shapes_types_and_modes():
    """Each signature gets a graph; what is known is used again."""
    net, hybrid = twins(NETS["mlp"][0], values(5, 4))
    for n in (1, 7, 5, 7, 1):
        np.testing.assert_allclose(hybrid(values(n, 4)).asnumpy(), net(values(n, 4)).asnumpy(), rtol=1e-5, atol=1e-6)
        agree(step(net, values(n, 4)), step(hybrid, values(n, 4)))
    assert len(hybrid._cached.entries) == 6


def test_number_of_graphs_is_bounded():
    """The least recently used signature is dropped."""
    from minimx.graph import cached

    _, hybrid = twins(NETS["mlp"][0], values(5, 4))
    for n in range(1, cached.MAX_SIGNATURES + 5):
        hybrid(values(n, 4))
    assert len(hybrid._cached.entries) == cached.MAX_SIGNATURES
    assert hybrid(values(1, 4)).shape == (1, 3)


class Echo(HybridBlock):
    """Returns what it got, in many nestings."""

    def forward(self, x, more):
        return {"same": x, "twice": [x * 2, (more["a"], more["b"][0] + 1)], "none": None, "number": 3}


def test_arguments_and_results_nest():
    """Lists, tuples, dicts, None, numbers, and arguments returned as they are."""
    x, a, b = values(2, 3), values(3), values(1)
    for hybrid in (False, True):
        block = Echo()
        block.hybridize(hybrid)
        made = block(x, {"a": a, "b": [b]})
        assert made["none"] is None and made["number"] == 3
        np.testing.assert_array_equal(made["same"].asnumpy(), x.asnumpy())
        np.testing.assert_array_equal(made["twice"][0].asnumpy(), x.asnumpy() * 2)
        np.testing.assert_array_equal(made["twice"][1][1].asnumpy(), b.asnumpy() + 1)


def test_layouts_of_arguments():
    """Views with any strides, and one array given twice."""

    class Sum(HybridBlock):
        def forward(self, x, y):
            return mx.np.tanh(x) + y.T

    x = values(4, 4)
    block = Sum()
    block.hybridize()
    for a, b in ((x, x), (x.T, x[::-1]), (x[:, ::-1], x.T), (values(8, 4)[::2], x)):
        np.testing.assert_allclose(block(a, b).asnumpy(), np.tanh(a.asnumpy()) + b.asnumpy().T, rtol=1e-6, atol=1e-6)


def test_outputs_are_apart():
    """A later call leaves the results of an earlier one alone, also with static_alloc."""
    for options in ({}, {"static_alloc": True, "static_shape": True}):
        _, hybrid = twins(NETS["mlp"][0], values(5, 4), **options)
        first = hybrid(values(5, 4))
        before = first.asnumpy()
        with autograd.record():
            second = hybrid(values(5, 4, seed=2))
            third = hybrid(values(5, 4, seed=3))
        saved = second.asnumpy()
        second.backward()
        third.backward()
        np.testing.assert_array_equal(first.asnumpy(), before)
        np.testing.assert_array_equal(second.asnumpy(), saved)


def test_two_calls_in_one_tape():
    """Two calls before one backward (with static_alloc too): each keeps what it saved."""
    for options in ({}, {"static_alloc": True}):
        net, hybrid = twins(NETS["mlp"][0], values(5, 4), **options)

        def run(net):
            x = values(5, 4)
            x.attach_grad()
            with autograd.record():
                y = (net(x) * net(x * 0.5)).sum()
            y.backward()
            return {"x": x.grad.asnumpy()} | {n: p.grad().asnumpy() for n, p in net.collect_params().items()}

        agree(run(net), run(hybrid))


def test_gradient_of_some_outputs():
    """Heads that were not used count as zero."""
    net, hybrid = twins(Branches, values(3, 4))
    for k in (0, 1):
        grads = []
        for block in (net, hybrid):
            x = values(3, 4)
            x.attach_grad()
            with autograd.record():
                y = block(x)[k].sum()
            y.backward()
            grads.append(x.grad.asnumpy())
        np.testing.assert_allclose(grads[1], grads[0], rtol=1e-5, atol=1e-6)


def test_grad_req_add_and_null():
    """Requests of parameters, also when they change after the graph was made."""
    net, hybrid = twins(NETS["mlp"][0], values(5, 4))
    for req in ("write", "add", "null", "write"):
        for block in (net, hybrid):
            block[0].weight.grad_req = req
            if req == "add":
                block.zero_grad()
        for seed in range(2):
            agree(step(net, values(5, 4, seed=seed)), step(hybrid, values(5, 4, seed=seed)))


def test_parameters_replaced_after_the_graph_was_made():
    """set_data, force_reinit, cast: the graph uses the parameters as they are."""
    net, hybrid = twins(NETS["mlp"][0], values(5, 4))
    hybrid(values(5, 4))
    hybrid.initialize(mx.init.Normal(1.0), force_reinit=True)
    for name, p in net.collect_params().items():
        p.set_data(hybrid.collect_params()[name].data())
    agree(step(net, values(5, 4)), step(hybrid, values(5, 4)))
    for block in (net, hybrid):
        block.cast("float64")
    x = values(5, 4).astype("float64")
    np.testing.assert_allclose(hybrid(x).asnumpy(), net(x).asnumpy(), rtol=1e-10)


def test_written_parameter_between_forward_and_backward():
    """As on the tape: an error."""
    _, hybrid = twins(NETS["mlp"][0], values(5, 4))
    with autograd.record():
        y = hybrid(values(5, 4)).sum()
    hybrid[1].weight.data()[:] = 0
    with pytest.raises(AutogradError, match="written to in place"):
        y.backward()


def test_backward_twice():
    """With and without retain_graph."""
    _, hybrid = twins(NETS["mlp"][0], values(5, 4))
    with autograd.record():
        y = hybrid(values(5, 4)).sum()
    y.backward(retain_graph=True)
    first = hybrid[0].weight.grad().asnumpy()
    y.backward()
    np.testing.assert_array_equal(hybrid[0].weight.grad().asnumpy(), first)
    with pytest.raises(AutogradError):
        y.backward()


@pytest.mark.parametrize("name", ["mlp", "conv", "batch norm", "residual", "dropout", "norms"])
def test_create_graph(name):
    """The gradient of a gradient through a graph, with passes and random operators in it."""
    make, shape = NETS[name]
    x = values(*shape)
    net, hybrid = twins(lambda: sequential(make(), nn.HybridLambda(lambda y: mx.np.tanh(y) * y)), x)
    found = []
    for block in (net, hybrid):
        mx.random.seed(3)
        x = values(*shape)
        x.attach_grad()
        with autograd.record():
            y = block(x).sum()
            g = autograd.grad(y, x, create_graph=True)
            penalty = (g * g).sum()
        penalty.backward()
        found.append(
            {"g": g.asnumpy(), "x": x.grad.asnumpy()}
            | {n: p.grad().asnumpy() for n, p in block.collect_params().items() if p.grad_req != "null"}
        )
    for name, p in net.collect_params().items():  # running statistics moved on once
        np.testing.assert_allclose(
            hybrid.collect_params()[name].data().asnumpy(), p.data().asnumpy(), rtol=1e-4, atol=1e-5
        )
    agree(found[0], found[1], 2e-4)
    assert abs(found[0]["x"]).max() > 0


def test_nested_hybridized_children():
    """Children that were hybridized themselves are part of their parent's graph."""
    net, hybrid = twins(NETS["residual"][0], values(2, 3, 6, 6))
    for child in hybrid:
        child.hybridize()
    agree(step(net, values(2, 3, 6, 6)), step(hybrid, values(2, 3, 6, 6)))
    partly = copy.deepcopy(net)
    partly[1].hybridize()
    agree(step(net, values(2, 3, 6, 6)), step(partly, values(2, 3, 6, 6)))


def test_hybridize_off_again():
    """hybridize(False) runs Python."""
    calls = []

    class Counted(HybridBlock):
        def forward(self, x):
            calls.append(1)
            return x + 1

    block = Counted()
    x = values(2)
    block.hybridize()
    for _ in range(3):
        block(x)
    traced = len(calls)
    block.hybridize(False)
    for _ in range(3):
        block(x)
    assert traced == 1 and len(calls) == traced + 3


# --- what cannot be traced ---------------------------------------------------------------------------------------


class BranchOnData(HybridBlock):
    def forward(self, x):
        if x.sum() > 0:  # the line that the message names
            return x
        return -x


def test_branch_on_data():
    """The error says what, where, and the way out."""
    block = BranchOnData()
    block.hybridize()
    with pytest.raises(GraphError) as caught:
        block(values(3))
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "hybridize" in text and "np.where" in text
    line = BranchOnData.forward.__code__.co_firstlineno + 1
    import traceback

    frames = traceback.extract_tb(caught.value.__traceback__)
    assert any(f.lineno == line and f.filename == __file__ for f in frames)
    block.hybridize(False)
    assert block(values(3)).shape == (3,)


@pytest.mark.parametrize(
    "use",
    [
        float,
        int,
        lambda x: x.item(),
        lambda x: x.asnumpy(),
        lambda x: range(9)[x],
        lambda x: np.asarray(x),
        lambda x: x.tolist(),
        lambda x: [1, 2][x],
        lambda x: mx.np.nonzero(x),
        lambda x: mx.np.unique(x),
        lambda x: x.asscalar(),
    ],
)
def test_reads_of_values(use):
    """Every way to look at a value while tracing is an error of one class."""

    class Reads(HybridBlock):
        def forward(self, x):
            use(x.sum().astype("int64"))
            return x

    block = Reads()
    block.hybridize()
    with pytest.raises(GraphError):
        block(values(3))
    assert not autograd.is_recording()
    assert (values(3) + 1).shape == (3,), "eager code goes on after a failed trace"


@pytest.mark.parametrize(
    "use",
    [
        lambda x: mx.engine.push(lambda: None, reads=[x]),
        lambda x: x.attach_grad(),
        lambda x: __import__("pickle").dumps(x),
        lambda x: np.from_dlpack(x),
        lambda x: 1.0 in x,
    ],
)
def test_what_only_arrays_with_elements_can(use):
    """Errors while tracing, and of arrays that were kept from a trace; never a crash."""
    kept = []

    class Uses(HybridBlock):
        def forward(self, x):
            y = x * 1
            kept.append(y)
            if len(kept) == 1:
                use(y)
            return y

    block = Uses()
    block.hybridize()
    with pytest.raises(GraphError):
        block(values(2, 3))
    for late in (use, lambda x: x + 1, lambda x: x.asnumpy(), lambda x: mx.np.add(values(2, 3), 1, out=x)):
        with pytest.raises((GraphError, AutogradError)):
            late(kept[0])
    assert "traced" in repr(kept[0])


def test_custom_function_cannot_be_traced():
    """And the message says so."""

    class Twice(autograd.Function):
        def forward(self, x):
            return x * 2

        def backward(self, dy):
            return dy * 2

    class Uses(HybridBlock):
        def forward(self, x):
            return Twice()(x)

    block = Uses()
    block.hybridize()
    with pytest.raises(GraphError, match="Twice"):
        block(values(2))


def test_plain_child():
    """A Block among the children of a HybridBlock is refused where it is put there."""

    class Plain(gluon.Block):
        def forward(self, x):
            return x

    with pytest.raises(TypeError, match="HybridBlock"):
        sequential(Plain())


def test_error_inside_a_graph():
    """Shape errors are raised at the call and name the operator; the next call works."""
    _, hybrid = twins(NETS["mlp"][0], values(5, 4))
    with pytest.raises(MXError, match="fully_connected"):
        hybrid(values(5, 3))
    assert hybrid(values(5, 4)).shape == (5, 3)


def test_python_state_is_frozen():
    """Python runs once for a signature: what it reads is part of the graph, as documented."""

    class Scaled(HybridBlock):
        scale = 2.0

        def forward(self, x):
            return x * self.scale

    block = Scaled()
    block.hybridize()
    assert block(mx.np.ones(1)).item() == 2
    block.scale = 5.0
    assert block(mx.np.ones(1)).item() == 2
    block.hybridize()
    assert block(mx.np.ones(1)).item() == 5


def test_writes_inside_a_graph():
    """In-place work on arrays made inside, on arguments and on captured arrays."""

    class Writes(HybridBlock):
        def __init__(self):
            super().__init__()
            self.count = gluon.Constant(mx.np.zeros(1))

        def forward(self, x):
            y = mx.np.zeros((2, 3))
            y[0] = x[1] * 2
            y += 1
            self.count.data()[:] += 1
            return y

    for hybrid in (False, True):
        block = Writes()
        block.initialize()
        block.hybridize(hybrid)
        for _ in range(3):
            y = block(mx.np.ones((2, 3)))
        assert y.asnumpy().tolist() == [[3] * 3, [1] * 3] and block.count.data().item() == 3


def _part(x):
    y = x * 1
    v = y[0]
    v += 1
    return y


def _base(x):
    y = x * 1
    v = y.T
    y *= 2
    return v * 1


def _flat(x):
    y = x * 1
    y.reshape(-1)[2] = 9.0
    return y


def _argument(x):
    x[0][1:] = 7.0
    return x * 2


def _augmented(x):
    y = x * 1
    y[0] += 1
    y[:, 1:] *= y[:, 1:]
    return y


def _object(x):
    y = z = x * 1
    z += 1
    return y


def _last(x):
    y = x * 1
    v = y[0]
    v += 1
    return v * 2


@pytest.mark.parametrize("function", [_part, _base, _flat, _argument, _augmented, _object, _last])
def test_writes_through_views_inside_a_graph(function):
    """The numbers of the eager code, or an error that says so: never others."""
    results = []
    for hybrid in (False, True):

        class Runs(HybridBlock):
            def forward(self, x):
                return function(x)

        block, x = Runs(), mx.np.array(np.arange(8.0).reshape(2, 4))
        block.hybridize(hybrid)
        try:
            results.append([block(x).asnumpy().tolist(), x.asnumpy().tolist()])
        except GraphError as e:
            assert hybrid and "another view" in str(e)
    assert len(results) == 1 or results[0] == results[1]
    assert len(results) == 2 or function in (_part, _base, _flat, _argument)


# --- threads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"static_alloc": True}], ids=str)
@pytest.mark.cpu_only("new threads have the CPU as their current device")
def test_threads_call_one_net(options):
    """Several threads, several shapes, one graph each."""
    net, hybrid = twins(NETS["conv"][0], values(2, 3, 9, 8), **options)
    want = {n: net(values(n, 3, 9, 8, seed=n)).asnumpy() for n in range(1, 5)}

    def work(k: int) -> None:
        n = k % 4 + 1
        for _ in range(10):
            np.testing.assert_allclose(hybrid(values(n, 3, 9, 8, seed=n)).asnumpy(), want[n], rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
