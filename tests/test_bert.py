"""BERT's layers: attention against its formula, masks, hybridized and in whole steps, the model from tokens on."""

from __future__ import annotations

import numpy
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import ArgumentError
from minimx.models import BERTEncoder, BERTModel, SelfAttention


def encoder(dropout=0.0, layers=2):
    mx.random.seed(1)
    net = BERTEncoder(layers, 32, 64, 4, dropout)
    net.initialize(mx.init.Normal(0.3))
    return net


def data(batch=2, time=6, units=32):
    return numpy.random.default_rng(0).normal(size=(batch, time, units)).astype("float32")


def softmax(x):
    e = numpy.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attention_is_its_formula():
    net = SelfAttention(32, 4)
    net.initialize(mx.init.Normal(0.3))
    x = data().transpose(1, 0, 2)
    w, b, wo, bo = (p.data().asnumpy() for p in net.collect_params().values())
    qkv = (x @ w.T + b).reshape(6, 2, 4, 3, 8)
    q, k, v = (qkv[:, :, :, i].transpose(1, 2, 0, 3) for i in range(3))  # (batch, heads, time, 8)
    context = softmax(q @ k.swapaxes(-1, -2) / 8**0.5) @ v
    expected = context.transpose(2, 0, 1, 3).reshape(6, 2, 32) @ wo.T + bo
    numpy.testing.assert_allclose(net(mx.np.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hybridize", [False, True])
def test_a_mask_hides_what_is_beyond(hybridize):
    net, x = encoder(), data()
    if hybridize:
        net.hybridize()
    mask = numpy.arange(6) < numpy.array([[6], [4]])
    y = net(mx.np.array(x), mx.np.array(mask)).asnumpy()
    numpy.testing.assert_allclose(y[:1], net(mx.np.array(x[:1])).asnumpy(), rtol=1e-4, atol=1e-5)
    numpy.testing.assert_allclose(y[1:, :4], net(mx.np.array(x[1:, :4])).asnumpy(), rtol=1e-4, atol=1e-5)


def test_hybridized_and_whole_steps_give_the_same():
    x, y = mx.np.array(data()), mx.np.array(data() * 0.1)
    loss_fn = gluon.loss.L2Loss()
    losses = {}
    for how in ("imperative", "hybridized", "step"):
        net = encoder(dropout=0.1)
        trainer = gluon.Trainer(net.collect_params(), "adamw", {"learning_rate": 1e-2})
        step = gluon.TrainStep(net, loss_fn, trainer)
        if how == "hybridized":
            net.hybridize(static_alloc=True)
        mx.random.seed(5)
        losses[how] = []
        for _ in range(5):
            if how == "step":
                loss = step(x, y)
            else:
                with autograd.record():
                    loss = loss_fn(net(x), y)
                loss.backward()
                trainer.step(len(x))
            losses[how].append(loss.asnumpy())
    assert losses["imperative"][-1].mean() < losses["imperative"][0].mean()
    for how in ("hybridized", "step"):
        numpy.testing.assert_allclose(losses[how], losses["imperative"], rtol=2e-3, err_msg=how)


def test_the_model_from_tokens_on():
    net = BERTModel(100, 2, 32, 64, 4, max_length=16)
    net.initialize()
    tokens = mx.np.array(numpy.random.default_rng(0).integers(0, 100, (2, 8)))
    encoded, pooled = net(tokens, mx.np.zeros((2, 8), dtype="int32"), mx.np.array([8, 3]))
    assert encoded.shape == (2, 8, 32) and pooled.shape == (2, 32)
    changed = tokens.copy()
    changed[1, 5] = 1 - changed[1, 5] % 2
    other, _ = net(changed, mx.np.zeros((2, 8), dtype="int32"), mx.np.array([8, 3]))
    numpy.testing.assert_array_equal(other[0].asnumpy(), encoded[0].asnumpy())
    numpy.testing.assert_allclose(other[1, :3].asnumpy(), encoded[1, :3].asnumpy(), rtol=1e-5, atol=1e-6)


def test_heads_must_divide_the_units():
    with pytest.raises(ArgumentError, match="SelfAttention: expected units that 5 heads divide, got 32"):
        SelfAttention(32, 5)
