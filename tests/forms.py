"""Functions that become one kernel each, form by form, and ways to run them: for test_fusion_forms.py and _teeth.py.

``FORMS`` are functions with the shapes of their arrays and the forms that a GPU's graph must have of them. Graphs are
made for a GPU where there is none: ``grouped`` is what the passes make of one, ``run`` runs it node by node, groups by
their members or, as CUDA text, on the emulator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy
from rtc import emulator

import minimx as mx
from minimx.graph import compile as compiling
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.passes import conv_stats, inference, norm, products
from minimx.graph.passes.cleanup import call
from minimx.graph.trace import differentiate, trace
from minimx.ndarray import _core, ndarray
from minimx.ops.table import f
from minimx.rtc.group import Body, c_strides
from minimx.rtc.kernel import described, recipe_factory

np, npx = mx.np, mx.npx
DTYPES = ("float32", "float16", "bfloat16", "float64")
NEAR = {"float64": 1e-11, "float32": 2e-5, "float16": 1e-2, "bfloat16": 8e-2}


class Form(NamedTuple):
    """A function, shapes of its arrays, and the forms that its graph and its gradient's have between them."""

    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    forms: frozenset[str]


FORMS: dict[str, Form] = {}


def form(*forms: str, shapes: tuple[tuple[int, ...], ...]) -> Callable:
    """Enters a function into FORMS."""

    def enter(function: Callable) -> Callable:
        FORMS[function.__name__] = Form(function, shapes, frozenset(forms))
        return function

    return enter


@form("pointwise", "fold", shapes=((6, 5, 12), (5, 12), (12,)))
def pointwise(x, y, z):
    """Broadcasts, a scalar, two outputs."""
    a = np.tanh(x * y + 0.5)
    return a * npx.sigmoid(x - z), a


@form("pointwise", shapes=((6, 40), (6, 40)))
def casts(x, y):
    """Through float32 and back, as mixed precision does."""
    wide = x.astype("float32") * 1.5 + y.astype("float32")
    return (np.exp(-wide) + 1).astype(x.dtype)


@form("rows", shapes=((4, 6, 24), (6, 24)))
def softmax(x, mask):
    """Scaled, with what is added to the scores."""
    return npx.softmax(x * 0.3 + mask) * 2


@form("rows", shapes=((8, 30),))
def log_softmax(x):
    return npx.log_softmax(x * 3, axis=-1) + 1


@form("rows", shapes=((8, 10), (8, 10)))
def cross_entropy(x, y):
    """Of scores against probabilities: the loss of each row."""
    return -(npx.log_softmax(x * 2, axis=-1) * y).sum(axis=-1)


@form("rows", "fold", shapes=((6, 5, 24), (6, 5, 24), (24,), (24,)))
def layer_norm(x, residual, gamma, beta):
    """Of a sum, with a GELU behind."""
    return npx.gelu(npx.layer_norm(x + residual, gamma, beta))


@form("rows", "fold", shapes=((12, 24), (24,)))
def rms_norm(x, gamma):
    return npx.rms_norm(np.tanh(x), gamma) * 0.5


@form("rows", "fold", shapes=((3, 6, 4, 5), (6,), (6,)))
def group_norm(x, gamma, beta):
    """With the ReLU behind in its group: rows are the channels of a group and their images."""
    return npx.relu(npx.group_norm(x * 2, gamma, beta, 3))


@form("rows", "fold", shapes=((3, 6, 4, 5), (6,), (6,)))
def instance_norm(x, gamma, beta):
    return npx.sigmoid(npx.instance_norm(x, gamma, beta))


@form("rows", shapes=((8, 24),))
def own_norm(x):
    """Written out by hand: two phases."""
    d = x - x.mean(axis=-1, keepdims=True)
    return d / np.sqrt((d * d).mean(axis=-1, keepdims=True) + 1e-3)


@form("rows", shapes=((3, 4, 5, 6), (3, 4, 5, 6)))
def global_pool(x, y):
    """The mean of an image behind a ReLU of a sum."""
    return npx.relu(x + y).mean(axis=(2, 3))


@form("pointwise", "fold", shapes=((40, 12), (12,)))
def bias(x, b):
    """Whose gradient folds the leading axis, behind the activation's gradient."""
    return npx.gelu(x + b)


@form("fold", shapes=((9, 14), (9, 14)))
def loss(x, y):
    """Of all, with something behind it."""
    return np.sqrt(np.square(x - y).mean() + 1)


@form("fold", shapes=((6, 5, 8),))
def two_sums(x):
    """Over the same axes, with what both give."""
    a = x * x
    return a.sum(axis=(0, 1)) / (np.abs(x).sum(axis=(0, 1)) + 1)


@form("pointwise", shapes=((5, 8),))
def way_outside(x):
    """From one pointwise node to another through what no group takes."""
    a = np.exp(x) * 2
    return np.cumsum(a, axis=0) * a + 1


@form("pointwise", "fold", shapes=((6, 9),))
def normalised(x):
    """Along the first axis: elements that read what all of them gave."""
    a = np.exp(x) + 0.5
    return a / a.sum(axis=0) * 2


@form("rows", shapes=((8, 24),))
def dropout(x):
    """Inside a softmax."""
    return npx.softmax(npx.dropout(x * 2, p=0.3)) * 3


@form("rows", shapes=((4, 3, 6, 6), (4, 3, 6, 6), (3,), (3,), (3,), (3,)))
def batch_norm(x, z, gamma, beta, mean, var):
    """With the residual sum and the ReLU inside its own kernels; what is left are rows."""
    y = npx.relu(npx.batch_norm(x * 2, gamma, beta, mean, var, fix_gamma=False) + z)
    return np.square(y).sum(axis=(2, 3)).sum()


@form(shapes=((2, 3, 6, 8),))
def max_pool(x):
    """Between pointwise nodes, which stay apart; its gradient too."""
    return npx.pooling(np.exp(x) * 2, (2, 2), stride=(2, 2)) * np.float32(1.5)


@form("pointwise", shapes=((6, 10), (6,)))
def sparse_cross_entropy(x, weight):
    """Of class numbers: a kernel of its own, with the weights of the samples behind."""
    labels = np.floor(np.abs(weight) * 5)
    return npx.softmax_cross_entropy(np.tanh(x) * 3, labels, smoothing=0.1) * weight


# ---- graphs ---------------------------------------------------------------------------------------------------------


def operands(name: str, dtype: str, scale: float = 1.0) -> list[ndarray]:
    """Arrays for a form: small numbers, so that 16 bits do."""
    rng = numpy.random.default_rng(len(name))
    return [
        np.array(rng.uniform(0.2, 1.2, s) * scale - (0.5 if len(s) > 1 else 0), dtype=dtype) for s in FORMS[name].shapes
    ]


def traced(name: str, args: list[ndarray], order: int) -> Graph:
    """The graph of a form in training (order 0), of it and its gradients (1), or of these and their gradients (2)."""
    t = trace(name, FORMS[name].function, args, True)
    outputs: list[Value] = list(t.graph.outputs)
    for _ in range(order):
        gradient = differentiate(t, [v.dtype.startswith(("float", "bfloat")) for v in t.graph.inputs], True)
        outputs += [g for g in gradient.gradients if g is not None]
        t = replace(t, graph=replace(compiling.join(t, gradient), outputs=list(dict.fromkeys(outputs))).verify())
    return t.graph


def grouped(g: Graph) -> Graph:
    """What the passes make of a graph for a GPU. Nothing that asks cuDNN, nor what its own kernels only can do."""
    asked = conv_stats.statistics_pay, inference.engines_fuse, products.gains, norm.absorb_sums
    conv_stats.statistics_pay = inference.engines_fuse = lambda nodes, gpu: [False] * len(nodes)
    products.gains = inference.engines_fuse
    norm.absorb_sums = lambda g: g
    g.gpu = 0
    try:
        return compiling.finished(compiling.cleaned(g), "test")
    finally:
        conv_stats.statistics_pay, inference.engines_fuse, products.gains, norm.absorb_sums = asked


def recipe_of(n: Node) -> Any:
    """The CUDA text and launches of a fused node over arrays in C order."""
    body = Body(n.body, [(v.shape, v.dtype, c_strides(v.shape)) for v in n.values])
    group = described(n.attrs.get("form", ""), body)
    return recipe_factory(group.form)(group)


def fused_nodes(g: Graph) -> Iterator[Node]:
    """Those of a graph."""
    return (n for n in g.nodes if n.body is not None)


# ---- running --------------------------------------------------------------------------------------------------------


def by_members(n: Node, args: list[ndarray]) -> list[ndarray]:
    """A fused node, member by member."""
    assert n.body is not None
    return run(n.body, args)


def emulated(n: Node, args: list[ndarray]) -> list[ndarray]:
    """A fused node as the CUDA kernel that is written for it."""
    outs = [emulator.empty(v.shape, v.dtype) for v in n.outputs]
    emulator.run(recipe_of(n), [*(numpy.ascontiguousarray(x.asnumpy()).reshape(x.shape) for x in args), *outs])
    return [np.array(y, dtype=v.dtype) for y, v in zip(outs, n.outputs, strict=True)]


def run(g: Graph, inputs: list[ndarray], fused: Callable[[Node, list[ndarray]], list[ndarray]] = by_members) -> list:
    """The outputs of a graph, node by node on the CPU."""
    env: dict[Value, Any] = dict(zip(g.inputs, inputs, strict=True)) | dict(g.constants)
    for n in g.nodes:
        args = [env[x] if isinstance(x, Value) else x for x in n.inputs]
        made = fused(n, args) if n.body is not None else call(n.op, args, n.attrs)
        env.update(zip(n.outputs, made if isinstance(made, (tuple, list)) else (made,), strict=True))
    return [env[v] for v in g.outputs]


def heads(g: Graph, args: list[ndarray]) -> list[ndarray]:
    """The inputs of a graph: the arguments, and numbers for the gradients of outputs."""
    rng = numpy.random.default_rng(3)
    more = g.inputs[len(args) :]
    return [*args, *(np.array(rng.uniform(-1, 1, v.shape), dtype=v.dtype) for v in more)]


def check(name: str, dtype: str, order: int, fused: Callable = by_members, scale: float = 1.0) -> Graph:
    """Asserts that the groups of a form give what its operators give one by one; returns the graph with groups."""
    args = operands(name, dtype, scale)
    plain = traced(name, args, order)
    g = grouped(plain.copy())
    results = []
    for graph, way in ((plain, by_members), (g, fused)):
        mx.random.seed(7)
        before = [f.copy(x) for x in heads(plain, args)]
        made = run(graph, before, way)
        assert [(y.shape, _core.dtype_name(y)) for y in made] == [(v.shape, v.dtype) for v in plain.outputs]
        results.append([y.asnumpy().astype("float64") for y in made])
    tolerance = NEAR["float32" if name == "casts" and dtype == "float64" else dtype] * 4**order
    for want, got, v in zip(*results, plain.outputs, strict=True):
        assert numpy.isfinite(want).all(), f"{name}: a comparison with {want}"
        bound = tolerance * numpy.abs(want).max(initial=1e-3 if dtype != "float64" else 1e-9)
        numpy.testing.assert_allclose(got, want, rtol=tolerance, atol=bound, err_msg=f"{name}, {v.type()}")
    return g


def as_hybrid(name: str, dtype: str = "float32", compiled: bool = False) -> tuple[list, list]:
    """(imperative, hybridized): outputs, gradients, and but in 16 bits the gradients of a sum of squared gradients.

    compiled: hybridized once its kernels are compiled, not while they are.
    """

    class Whole(mx.gluon.HybridBlock):
        def forward(self, *xs):
            return FORMS[name].function(*xs)

    def once(net):
        made: list = []
        for create_graph in (False, True) if dtype in ("float32", "float64") else (False,):
            args = operands(name, dtype)
            for x in args:
                x.attach_grad()
            mx.random.seed(7)
            with mx.autograd.record():
                result = net(*args)
                outs = list(result) if isinstance(result, (tuple, list)) else [result]
                last = sum((y.astype("float32") ** 2).sum() for y in outs) * 0.01  # gradients that 16 bits can hold
                if create_graph:
                    first = mx.autograd.grad(last, args, create_graph=True)
                    last = sum((g.astype("float32") ** 2).sum() for g in first)
            last.backward()
            made += [*outs, *(x.grad for x in args)]
        return [x.asnumpy().astype("float64") for x in made]

    def failures():
        return re.findall(r"(\d+) failed", mx.rtc.report())

    net, before = Whole(), failures()
    imperative = once(net)
    net.hybridize()
    hybridized = once(net)
    if compiled:
        assert mx.rtc.wait(100) and sum(map(int, failures())) == sum(map(int, before)), mx.rtc.report()
        hybridized = once(net)
    return imperative, hybridized
