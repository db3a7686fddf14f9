"""Convolutions that add up what they write, and batch norm from sums: the kernels, and the pass that puts them in.

The plain graph and the CPU's kernels are the references; what only GPUs run, runs on the emulator.
"""

from __future__ import annotations

import numpy as np
import pytest
from rtc.emulator import cpu, launch
from rtc.test_absorbed import ABSORBED, Blocks, run, step
from rtc.test_batch_norm import SHAPES, close, drawn, mask_bytes, strides, vectors

import minimx as mx
from minimx.gluon import HybridBlock, nn
from minimx.graph.passes import conv_stats
from minimx.graph.passes.cleanup import common_subexpressions, dead_code, identities
from minimx.graph.passes.conv_stats import absorb_statistics
from minimx.graph.passes.norm import absorb_relu
from minimx.graph.passes.pairs import absorb_pairs
from minimx.rtc.compiler import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")


def always(nodes, gpu):
    return [True] * len(nodes)


# ---- kernels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channel_sums(shape, dtype, last):
    x = drawn(shape, dtype, last)
    wide, axes = x.astype("f8"), tuple(i for i in range(x.ndim) if i != 1)
    for made in (launch, cpu):
        got = made("channel_sums", [x], [(shape[1:2], "float32"), (shape[1:2], "float32", (2,))], {})
        np.testing.assert_allclose(got[0], wide.sum(axes), rtol=1e-5)
        np.testing.assert_allclose(got[1], (wide * wide).sum(axes), rtol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_from_sums(shape, dtype, last, residual):
    """As batch norm that takes the sums itself, with and without a ReLU; the backward takes the mask."""
    x, z, (gamma, beta) = drawn(shape, dtype, last), drawn(shape, dtype, last, 1, shift=0), vectors(shape[1])
    vector, whole = (shape[1:2], "float32"), (shape, dtype, strides(x))
    sums, zs = cpu("channel_sums", [x], [vector] * 2, {}), [z] * residual
    outs = [whole, vector, vector, ((mask_bytes(shape),), "uint8")]
    for relu in (0, 1):
        attrs, some = {"eps": 1e-3, "relu": relu}, outs[: 3 + relu]
        want = launch("batch_norm_fwd_train", [x, gamma, beta, *zs], some, attrs)
        for made in (launch, cpu):
            got = made("batch_norm_fwd_sums", [x, gamma, beta, *sums, *zs], some, attrs)
            close(got[0], want[0], dtype)
            np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
            np.testing.assert_allclose(got[2], want[2], rtol=1e-4, atol=1e-4)
            if relu and made is launch:  # the mask of the GPU's kernel is for the GPU's backward
                call = [x, drawn(shape, dtype, last, 2), want[1], want[2], gamma]
                grads = [
                    launch("batch_norm_bwd", [*call, m], [whole, vector, vector], attrs) for m in (got[3], want[3])
                ]
                close(*(g[0] for g in grads), dtype)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs(shape, dtype, last):
    """Two norms and the ReLU of their sum in one pass, as one after the other."""
    x, x2 = drawn(shape, dtype, last), drawn(shape, dtype, last, 1, shift=-1)
    vector, whole = (shape[1:2], "float32"), (shape, dtype, strides(x))
    first, second = (
        [*vectors(shape[1], i), *cpu("channel_sums", [v], [vector] * 2, {})] for i, v in enumerate((x, x2))
    )
    bits = ((mask_bytes(shape),), "uint8")
    z, *other = launch("batch_norm_fwd_sums", [x2, *second], [whole, vector, vector], {"eps": 1e-2})
    want = launch("batch_norm_fwd_sums", [x, *first, z], [whole, vector, vector, bits], {"eps": 1e-3, "relu": 1})
    for made in (launch, cpu):
        attrs = {"eps": 1e-3, "eps2": 1e-2}
        y, mask, *rest = made("batch_norm_fwd_pair", [x, *first, x2, *second], [whole, bits, *[vector] * 4], attrs)
        close(y, want[0], dtype)
        for a, b in zip(rest, (*want[1:3], *other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
        if made is launch:
            call = [x, np.ones_like(x), *want[1:3], first[0], mask]
            _, _, passed = launch("batch_norm_bwd", call, [whole, vector, vector], {"eps": 1e-3, "relu": 1})
            assert (passed == (y > 0).sum(tuple(i for i in range(x.ndim) if i != 1))).all()


def test_no_negative_variance():
    """Where all elements are equal, rounding of the sums may put E[x x] below E[x]^2."""
    x, one, zero = np.full((7, 4, 3, 3), 300.1, "f4"), np.ones(4, "f4"), np.zeros(4, "f4")
    sums = [np.full(4, 63 * 300.1, "f4"), np.full(4, 63 * 300.1**2 - 1, "f4")]
    for made in (launch, cpu):
        y, _, var = made("batch_norm_fwd_sums", [x, one, zero, *sums],
                         [(x.shape, "float32"), ((4,), "float32"), ((4,), "float32")], {"eps": 1e-3})  # fmt: skip
        assert not var.any() and np.abs(y).max() < 0.1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convolution_with_sums(dtype):
    x, w = drawn((3, 8, 6, 5), dtype, True, shift=0), drawn((12, 8, 3, 3), dtype, True, 1, shift=0)
    attrs = {"stride": [1, 2], "pad": [1, 1], "dilate": [1, 1], "groups": 1}
    y = ((3, 12, 6, 3), dtype, (216, 1, 36, 12))
    got = cpu("conv_fwd_stats", [x, w], [y, ((12,), "float32"), ((12,), "float32")], attrs)
    (want,) = cpu("conv_fwd", [x, w], [y], attrs)
    assert (got[0] == want).all()
    wide = want.astype("f8")
    np.testing.assert_allclose(got[1], wide.sum((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(got[2], (wide * wide).sum((0, 2, 3)), rtol=1e-6)


# ---- the pass -------------------------------------------------------------------------------------------------------


def passed(plain, pay=always):
    """The graph as a GPU gets it."""
    graph = plain.copy()
    graph.gpu = 0
    passes = absorb_relu, lambda g: absorb_statistics(g, pay), absorb_pairs
    for p in (dead_code, identities, common_subexpressions, *passes, dead_code):
        graph = p(graph).verify()
    return graph


def test_training_step(monkeypatch):
    """Each norm behind a convolution takes its sums; outputs, running statistics and gradients stay as they were."""
    monkeypatch.setattr(
        "rtc.test_absorbed.ABSORBED", (*ABSORBED, "batch_norm_sums", "batch_norm_pair", "batch_norm_pair_grad")
    )
    plain, inputs = step("NHWC", "float16")
    graph = passed(plain)
    ops = [n.op for n in graph.nodes]
    assert ops.count("convolution_stats") == 4
    assert ops.count("batch_norm_pair") == ops.count("batch_norm_pair_grad") == 1 and "batch_norm_grad" not in ops
    assert not {"convolution", "batch_norm_train", "batch_norm_relu"} & set(ops)
    assert sorted((n.attrs["relu"], len(n.values)) for n in graph.nodes if n.op == "batch_norm_sums") == [
        (True, 5),
        (True, 6),
    ]
    for got, want in zip(run(graph, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-2 * max(1, abs(want).max()))


@pytest.mark.parametrize("layout, dtype", [("NCHW", "float16"), ("NHWC", "bfloat16")])
def test_pairs_take_their_own_sums(monkeypatch, layout, dtype):
    """Where no convolution gives them."""
    monkeypatch.setattr("rtc.test_absorbed.ABSORBED", (*ABSORBED, "batch_norm_pair", "batch_norm_pair_grad"))
    plain, inputs = step(layout, dtype)
    graph = passed(plain)
    ops = [n.op for n in graph.nodes]
    assert [ops.count(f"batch_norm_{name}") for name in ("pair", "pair_grad", "relu", "relu_grad")] == [1, 1, 2, 2]
    assert ops.count("channel_sums") == 2 and not {"batch_norm_train", "batch_norm_grad"} & set(ops)
    tolerance = 2e-2 if dtype == "float16" else 1e-1
    for got, want in zip(run(graph, inputs), run(plain, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, abs(want).max()))


@pytest.mark.parametrize("layout, dtype", [("NCHW", "float16"), ("NHWC", "float32"), ("NHWC", "bfloat16")])
def test_other_forms_are_left_alone(layout, dtype):
    plain, _ = step(layout, dtype)
    assert "convolution_stats" not in [n.op for n in passed(plain).nodes]


def test_only_where_it_pays():
    """The hook is asked about every convolution at once, and the others stay; on the CPU nobody is asked."""
    plain, _ = step("NHWC", "float16")
    asked = []

    def first(nodes, gpu):
        asked.extend(nodes)
        return [i == 0 for i in range(len(nodes))]

    ops = [n.op for n in passed(plain, first).nodes]
    assert [n.op for n in asked] == ["convolution_stats"] * 4
    assert ops.count("convolution_stats") == ops.count("batch_norm_sums") == 1 and ops.count("convolution") == 3
    assert absorb_statistics(plain.copy(), lambda nodes, gpu: pytest.fail("a CPU has no such engine"))


def test_a_norm_that_others_read_is_no_pair():
    """The third norm's result is read twice: it is written, and the block's other pair is one pass."""

    class Read(Blocks):
        def forward(self, x):
            side, first, second, last = self.parts
            y = last(x)
            return mx.npx.relu(first(x) + y) * mx.np.tanh(y) + mx.npx.relu(side(x) + second(x))

    plain, _ = step("NHWC", "float16", Read)
    ops = [n.op for n in passed(plain).nodes]
    assert ops.count("batch_norm_sums") == 2 and ops.count("batch_norm_pair") == 1


def test_biased_convolutions_are_left_alone():
    class Biased(HybridBlock):
        def __init__(self, layout):
            super().__init__()
            self.conv, self.norm = nn.Conv2D(12, 1, layout=layout), nn.BatchNorm(axis=-1)

        def forward(self, x):
            return mx.npx.relu(self.norm(self.conv(x)))

    plain, _ = step("NHWC", "float16", Biased)
    assert "convolution_stats" not in [n.op for n in passed(plain).nodes]


def test_what_cudnn_is_asked(monkeypatch):
    """Specs as the kernel's factory gets them: channels first by strides."""
    calls = []
    monkeypatch.setattr("minimx.rtc.cuda.library.answers", lambda q, c: calls.extend(c) or [False] * len(c))
    plain, _ = step("NHWC", "float16", Blocks)
    passed(plain, conv_stats.statistics_pay)
    (x, w), (y, *sums), attrs, gpu = calls[0]
    assert (x.shape, x.strides) == ((3, 12, 5, 3), (180, 1, 36, 12))
    assert (w.shape, w.strides) == ((12, 12, 1, 1), (12, 1, 12, 12))
    assert y[:3] == x[:3] and [s.shape for s in sums] == [(12,)] * 2 and gpu == 0
    assert attrs["kernel_name"] == "conv_fwd_stats" and len(calls) == 4
