"""Every form of a group, in every type of floats: what a GPU's kernels give is what the operators give one by one.

Outputs, gradients, and gradients of gradients; groups run by their members, which shows the passes right, and as CUDA
on the emulator, which shows the texts right. Random graphs: test_groups.py. Planted faults: test_teeth.py.
"""

from __future__ import annotations

from dataclasses import replace

import forms
import numpy
import pytest
from forms import DTYPES, FORMS, NEAR
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rtc import emulator
from test_groups import array, programs, run_calls

import minimx as mx
from minimx import autograd, gluon
from minimx.gluon import nn
from minimx.graph.compile import join
from minimx.graph.trace import differentiate, trace
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import compile as compiling

pytestmark = pytest.mark.cpu_only("graphs for a GPU are run on the CPU here")
compiler = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
each_form = pytest.mark.parametrize("name", FORMS)
each_type = pytest.mark.parametrize("dtype", DTYPES)


@each_type
@each_form
def test_members(name, dtype):
    """What the passes make of outputs, gradients and second gradients."""
    found = set()
    for order in (0, 1, 2):
        found |= {n.form for n in forms.fused_nodes(forms.check(name, dtype, order))}
    assert FORMS[name].forms <= found


@pytest.fixture(scope="module")
def texts():
    """All kernels of outputs and gradients, compiled at once."""
    graphs = [forms.grouped(forms.traced(name, forms.operands(name, d), 1)) for name in FORMS for d in DTYPES]
    emulator.prepare([forms.recipe_of(n) for g in graphs for n in forms.fused_nodes(g)])


@compiler
@each_type
@each_form
def test_kernels(name, dtype, texts):
    """The CUDA of these groups."""
    forms.check(name, dtype, 1, forms.emulated)


def random_graph(program, keep, order):
    """The graph that a GPU would have of a random function, with gradients or without, and its inputs."""
    shapes, calls = program
    args = [array(*s, dtype=dtype, seed=i) for i, (s, dtype) in enumerate(shapes)]
    t = trace("random", lambda *xs: run_calls(xs, calls, keep), args, True)
    if order:
        gradient = differentiate(t, [True] * len(args), True)
        outputs = [*t.graph.outputs, *(g for g in gradient.gradients if g is not None)]
        t = replace(t, graph=replace(join(t, gradient), outputs=list(dict.fromkeys(outputs))).verify())
    g = forms.grouped(t.graph)
    return g, forms.heads(g, args)


@compiler
@pytest.mark.slow
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(st.lists(st.tuples(programs(), st.sampled_from((2, 5, 50)), st.integers(0, 1)), min_size=40, max_size=40))
def test_kernels_of_random_graphs(many):
    """The CUDA of all groups in random graphs against their members."""
    cases = [random_graph(*one) for one in many]
    emulator.prepare([forms.recipe_of(n) for g, _ in cases for n in forms.fused_nodes(g)])

    def both(n, args):
        want = forms.by_members(n, args)
        types = {v.dtype for m in n.body.nodes for v in (*m.values, *m.outputs)}
        bound = max(NEAR.get(d, 0) * (5 if d == "float32" else 1) for d in types)
        for w, x in zip(want, forms.emulated(n, args), strict=True):
            w, x = w.asnumpy().astype("float64"), x.asnumpy().astype("float64")
            numpy.testing.assert_allclose(x, w, rtol=bound, atol=bound * max(abs(w).max(initial=0), 1))
        return want

    for g, args in cases:
        forms.run(g, args, both)


@compiler
@pytest.mark.slow
@each_form
def test_kernels_of_second_gradients(name):
    forms.check(name, "float32", 2, forms.emulated)


@pytest.mark.slow
def test_texts_compile():
    """NVRTC takes the CUDA of all forms in all types; it needs no GPU."""
    try:
        nvrtc = compiling.Nvrtc()
    except mx.errors.MissingExtra as error:
        pytest.skip(str(error))
    graphs = [forms.grouped(forms.traced(name, forms.operands(name, d), 1)) for name in FORMS for d in DTYPES]
    launches = [x for g in graphs for n in forms.fused_nodes(g) for x in forms.recipe_of(n).launches]
    codes = list({x.code.name: x.code for x in launches}.values())
    for i in range(0, len(codes), 48):
        assert nvrtc.run(compiling.source(codes[i : i + 48]), "sm_90")


@each_form
def test_hybridized(name):
    """A hybridized block gives what it gives imperatively: outputs, gradients, gradients of these."""
    same(*forms.as_hybrid(name), NEAR["float32"] * 50)


@compiler
@pytest.mark.slow
@each_type
@each_form
def test_hybridized_and_compiled(name, dtype):
    """The same with the kernels that the machine's compiler made."""
    same(*forms.as_hybrid(name, dtype, compiled=True), {"float64": 1e-3, "float32": 1e-3}.get(dtype, 2 * NEAR[dtype]))


def same(imperative, hybridized, bound):
    for a, b in zip(imperative, hybridized, strict=True):
        numpy.testing.assert_allclose(b, a, rtol=bound, atol=bound * abs(a).max(initial=1e-3))


def test_names_of_what_was_absorbed():
    """The norm took its ReLU and the residual sum with it, forward and backward."""
    g = forms.grouped(forms.traced("batch_norm", forms.operands("batch_norm", "float32"), 1))
    assert {"batch_norm_relu", "batch_norm_relu_grad"} <= {n.op for n in g.nodes}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_convolutions_with_what_follows(dtype):
    """Convolution, norm, residual and ReLU for inference: folded into one node, same numbers."""

    class Block(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2D(8, 3, padding=1), nn.BatchNorm()

        def forward(self, x):
            return mx.npx.relu(self.norm(self.conv(x)) + x)

    net = Block()
    net.initialize(mx.init.Xavier())
    x = mx.np.array(numpy.random.default_rng(0).normal(size=(2, 8, 9, 9)), dtype="float32")
    for _ in range(3):
        with autograd.record():
            net(x)  # moves the running statistics
    net.cast(dtype)
    x = x.astype(dtype)
    want = net(x).asnumpy().astype("float64")
    net.hybridize()
    got = net(x).asnumpy().astype("float64")
    numpy.testing.assert_allclose(got, want, rtol=NEAR[dtype], atol=NEAR[dtype] * abs(want).max())
    names = [k.name for k in net.fusion_report(x).kernels]
    assert "batch_norm_infer" not in names and "relu" not in names


@pytest.mark.parametrize("rule", ["sgd", "nag", "adam", "adamw", "lamb", "lars", "rmsprop"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_of_many_parameters(rule, dtype, monkeypatch):
    """Three steps of an optimizer, fused and operator by operator."""
    found = []
    for fusion in (False, True):
        monkeypatch.setattr(mx.settings, "fusion", fusion)
        rng = numpy.random.default_rng(1)
        net = nn.HybridSequential()
        net.add(nn.Dense(6, in_units=5), nn.Dense(7, in_units=6), nn.LayerNorm(in_channels=7))
        net.initialize(mx.init.Xavier())
        net.cast(dtype)
        for p in net.collect_params().values():
            p.set_data(mx.np.array(rng.normal(size=p.shape), dtype=dtype))
        settings = {"learning_rate": 0.05, "wd": 0.01, "multi_precision": dtype in ("float16", "bfloat16")}
        settings |= {"momentum": 0.9} if rule in ("sgd", "nag", "lars") else {}
        trainer = gluon.Trainer(net.collect_params(), rule, settings)
        for step in range(3):
            x = mx.np.array(numpy.random.default_rng(step).normal(size=(4, 5)), dtype=dtype)
            with autograd.record():
                loss = (net(x) ** 2).sum()
            loss.backward()
            trainer.step(4)
        found.append([p.data().asnumpy().astype("float64") for p in net.collect_params().values()])
    for a, b in zip(*found, strict=True):
        numpy.testing.assert_allclose(b, a, rtol=NEAR[dtype], atol=NEAR[dtype])
