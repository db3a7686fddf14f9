"""Channels last on GPUs: the pass gives graphs of the same numbers, and changes layouts where it must and nowhere else.

Graphs are traced on the CPU, taken for a GPU's, and run operator by operator. On a GPU: tests/gpu; on a played one:
tests/played/test_layout.py.
"""

from __future__ import annotations

from collections import Counter

import numpy as onp
import pytest

import minimx as mx
from minimx import device
from minimx.graph.cached import interpret
from minimx.graph.compile import JOINT, join
from minimx.graph.passes.cleanup import dead_code
from minimx.graph.passes.layout_gpu import channels_last
from minimx.graph.passes.norm import absorb_relu
from minimx.graph.trace import differentiate, trace
from minimx.models import get_model
from minimx.ndarray import _core

npx = mx.npx
RNG = onp.random.default_rng(0)


@pytest.fixture(autouse=True)
def tensor_cores(monkeypatch):
    """As if float32 went to tensor cores."""
    monkeypatch.setitem(device._library_settings, "allow_tf32", True)


def array(*shape):
    return mx.np.array(RNG.normal(size=shape).astype("float32"))


def joint(function, x, of_x=True):
    """Forward and gradient of a function in one graph that says it is for a GPU, and its inputs."""
    t = trace("f", function, [x], True)
    made = differentiate(t, [of_x, *(True for _ in t.captures)], True)
    g = join(t, made)
    g.gpu = 0
    return g, [x, *t.captures, *(array(*v.shape) for v in made.heads)]


def conv(x, filters, k=3, **attrs):
    n, inputs = x.ndim - 2, x.shape[1] // attrs.get("num_group", 1)
    w = weights.setdefault((filters, inputs, k, n), array(filters, inputs, *[k] * n))
    return npx.convolution(x, w, kernel=(k,) * n, num_filter=filters, no_bias=True, **attrs)


weights: dict = {}


def residual(x):
    y = npx.relu(conv(x, 8, pad=(1,) * (x.ndim - 2)))
    return conv(y, 8, 1) + y


def squeeze_and_excite(x):
    y = conv(x, 8)
    s = npx.sigmoid(conv(npx.pooling(y, global_pool=True, pool_type="avg"), 8, 1))
    return y * s + mx.np.ones((8, 1, 1))


def flattened(x):
    return mx.np.dot(conv(x, 8).reshape(x.shape[0], -1), weights.setdefault("head", array(8 * 16, 3)))


def dense_block(x):
    for _ in range(2):
        x = mx.np.concatenate([x, npx.relu(conv(x, 4, pad=(1, 1)))], axis=1)
    return npx.pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg")


def shuffled(x):
    left, right = mx.np.split(conv(x, 8), 2, axis=1)
    return mx.np.concatenate([npx.relu(left), mx.np.flip(conv(right, 4, 1), axis=2)], axis=-3)


def padded(x):
    return conv(mx.np.pad(conv(x, 8), ((0, 0), (0, 0), (1, 2), (0, 1))), 3, 2, stride=(2, 2))


def upsampled(x):
    return conv(npx.upsampling(npx.bilinear_resize2d(conv(x, 4), height=5, width=7), scale=2), 4)


def segmented(x):
    y = conv(x, 5)
    return npx.log_softmax(y, axis=1), npx.softmax(y, axis=-3)


def transposed_by_hand(x):
    y = (x.transpose(0, 2, 3, 1) * 2).transpose(0, 3, 1, 2) - mx.np.ones((1, x.shape[1], 1, 1))
    return mx.np.moveaxis(conv(y, 8), 1, -1) + 1


def patches(x):
    """As a vision transformer reads them: (N, tokens, C)."""
    y = conv(x, 8, 2, stride=(2, 2))
    return mx.np.dot(y.reshape(x.shape[0], 8, -1).transpose(0, 2, 1), weights.setdefault("tokens", array(8, 3)))


def deconvolved(x):
    y = npx.deconvolution(
        x, weights.setdefault("up", array(x.shape[1], 4, 2, 2)), kernel=(2, 2), stride=(2, 2), num_filter=4
    )
    return npx.pooling(
        y + weights.setdefault("bias", array(4)).reshape(1, -1, 1, 1), kernel=(3, 3), stride=(2, 2), pad=(1, 1)
    )


def reduced(x):
    y = conv(x, 8)
    return (
        y.sum(),
        y.mean(axis=(2, 3)),
        y.max(axis=1),
        y.sum(axis=2),
        y.mean(axis=(0, 2, 3), keepdims=True),
        y.argmax(axis=1),
    )


def mixed(x):
    """What wants channels first, in between."""
    y = conv(x, 8)
    return conv(mx.np.cumsum(y, axis=2)[:, :, 1], 4) * mx.np.sort(y, axis=1).reshape(-1)[:4].reshape(1, 4, 1)


def casts(x):
    """Which change the order in memory as they go."""
    return conv(x * 2, 8).astype("float64")


def grouped(x):
    return conv(conv(x, 8, num_group=2), 8, num_group=8, dilate=(1, 1))


NETS = [residual, squeeze_and_excite, flattened, dense_block, shuffled, padded, upsampled, segmented,
        transposed_by_hand, patches, deconvolved, reduced, mixed, casts, grouped]  # fmt: skip


@pytest.mark.parametrize("net", NETS)
def test_numbers_stay(net):
    weights.clear()
    g, args = joint(net, array(2, 8, 6, 6))
    plain = interpret(g, args, (0, 0))
    before = Counter(n.op for n in dead_code(g).nodes)
    g = dead_code(channels_last(g.copy()).verify())
    assert all(
        n.attrs["layout"] == "NHWC" for n in g.nodes if n.op.startswith("convolution") and len(n.outputs[0].shape) == 4
    )
    for a, b in zip(interpret(g, args, (0, 0)), plain, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        onp.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-4)
    after = Counter(n.op for n in g.nodes)
    added = {"reshape", "transpose", "reorder", "expand_dims", "squeeze", "swapaxes", "moveaxis", "broadcast_to"}
    assert all(after[op] == before[op] for op in {*before, *after} - added)


@pytest.mark.parametrize("shape", [(2, 8, 6), (2, 8, 4, 4, 4)])
def test_any_rank(shape):
    weights.clear()
    g, args = joint(residual, array(*shape))
    plain = interpret(g, args, (0, 0))
    for a, b in zip(interpret(channels_last(g.copy()).verify(), args, (0, 0)), plain, strict=True):
        onp.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-4)
    assert (
        Counter(n.attrs.get("layout") for n in channels_last(g.copy()).nodes)["N" + "DHW"[5 - len(shape) :] + "C"] == 6
    )


def reorders(g):
    return [n for n in g.nodes if n.op == "reorder"]


def test_user_transpositions_cancel():
    """NHWC data, a network for NCHW, and NHWC again: only the weights change their order in memory, and back."""
    weights.clear()
    g, _ = joint(lambda x: residual(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1), array(2, 6, 6, 8))
    kernels = [n for n in reorders(channels_last(g)) if n.outputs[0].shape[-1] == n.outputs[0].shape[1] == 6]
    assert not kernels and len(reorders(g)) == 2


def test_changes_of_layout_are_few():
    """Two a kernel that is not 1 x 1; of activations: those of graph inputs and outputs, and what wants them first."""
    expected = {
        residual: 4,
        flattened: 4,
        dense_block: 4,
        segmented: 6,
        transposed_by_hand: 0,
        upsampled: 4,
        patches: 2,
        casts: 2,
    }
    for net, count in expected.items():
        weights.clear()
        g, _ = joint(net, array(2, 8, 6, 6))
        kernels = sum(len(w.shape) > 2 and w.shape[2] > 1 for w in weights.values())
        assert len(reorders(channels_last(g))) == count + 2 * kernels, net


def absorbed(layout):
    """The graph of a ResNet-50's training step after the passes up to batch norm's."""
    net = get_model("resnet50_v1b", classes=10, layout=layout, in_channels=3)
    net.initialize()
    x = array(2, 3, 64, 64) if layout == "NCHW" else array(2, 64, 64, 3)
    recording = _core.set_recording(True)
    try:
        g, _ = joint(net._call_eager, x, False)
    finally:
        _core.set_recording(recording)
    for p in JOINT[: JOINT.index(absorb_relu) + 1]:
        g = p(g)
    return g


def test_resnet_is_that_of_nhwc():
    """Of the same nodes, with the images and the kernels that are not 1 x 1 transposed on the way in, gradients out."""
    first, last = absorbed("NCHW"), absorbed("NHWC")
    changes = ("reshape", "transpose", "reorder")
    count = [Counter(n.op for n in g.nodes if n.op not in changes) for g in (first, last)]
    assert count[0] == count[1] and count[0]["batch_norm_relu"] == 49
    kernels = sum(n.op == "convolution" and n.attrs["kernel"] != (1, 1) for n in first.nodes)
    looks = [n for n in first.nodes if n.op == "transpose" and len(n.outputs[0].shape) == 4]
    assert len(looks) == 2 * kernels + 1  # kernels, their gradients, and the images
    assert len(reorders(first)) == 2 * kernels and not reorders(last)  # cuDNN's copy of few channels reads a view


def test_off_and_without_tensor_cores(monkeypatch):
    weights.clear()
    g, _ = joint(residual, array(2, 8, 6, 6))
    monkeypatch.setitem(device._library_settings, "allow_tf32", False)
    assert not reorders(channels_last(g.copy()))
    monkeypatch.setitem(device._library_settings, "allow_tf32", True)
    assert reorders(channels_last(g.copy()))
    monkeypatch.setitem(mx.config.settings.__dict__, "channels_last", False)
    assert not reorders(channels_last(g.copy()))
