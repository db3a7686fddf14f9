"""Losses against NumPy, with weights, axes and layouts; and that they do not overflow."""

import numpy as onp
import pytest

import minimx as mx
from minimx import autograd, errors
from minimx.gluon import loss as L

R = onp.random.default_rng(0)
PRED = R.normal(size=(4, 3)).astype("float32")
LABEL = R.normal(size=(4, 3)).astype("float32")
SIGN = onp.sign(LABEL)
BINARY = (LABEL > 0).astype("float32")
P = 1 / (1 + onp.exp(-PRED.astype("float64")))


def log_softmax(x, axis=-1):
    x = x - x.max(axis, keepdims=True)
    return x - onp.log(onp.exp(x).sum(axis, keepdims=True))


def poisson(pred, target):
    stirling = onp.where(
        target > 1,
        target * onp.log(onp.maximum(target, 1)) - target + 0.5 * onp.log(2 * onp.pi * onp.maximum(target, 1)),
        0,
    )
    return onp.exp(pred) - target * pred + stirling


COUNTS = R.integers(0, 5, (4, 3)).astype("float32")
D = abs(PRED - LABEL)
SOFT = onp.exp(log_softmax(LABEL))
CASES = [
    (L.L2Loss(), LABEL, D**2 / 2),
    (L.L1Loss(), LABEL, D),
    (L.HuberLoss(rho=0.5), LABEL, onp.where(D > 0.5, D - 0.25, D**2)),
    (L.HingeLoss(margin=0.5), SIGN, onp.maximum(0, 0.5 - PRED * SIGN)),
    (L.SquaredHingeLoss(), SIGN, onp.maximum(0, 1 - PRED * SIGN) ** 2),
    (L.LogisticLoss(), SIGN, onp.log1p(onp.exp(-PRED * SIGN))),
    (L.LogisticLoss(label_format="binary"), BINARY, onp.log1p(onp.exp(-PRED * (2 * BINARY - 1)))),
    (L.SigmoidBCELoss(), BINARY, -(BINARY * onp.log(P) + (1 - BINARY) * onp.log(1 - P))),
    (L.SigmoidBCELoss(), SOFT, -(SOFT * onp.log(P) + (1 - SOFT) * onp.log(1 - P))),
    (L.KLDivLoss(from_logits=False), SOFT, SOFT * (onp.log(SOFT) - log_softmax(PRED))),
]


@pytest.mark.parametrize("loss, label, want", CASES, ids=lambda v: type(v).__name__ if isinstance(v, L.Loss) else "")
def test_elementwise_losses(loss, label, want):
    pred, lab = mx.np.array(PRED), mx.np.array(label)
    onp.testing.assert_allclose(loss(pred, lab).asnumpy(), want.mean(1), rtol=1e-5, atol=1e-6)
    weights = mx.np.array([[1.0], [0.0], [2.0], [0.5]])
    got = loss(pred, lab, weights).asnumpy()
    onp.testing.assert_allclose(got, (want * weights.asnumpy()).mean(1), rtol=1e-5, atol=1e-6)
    flat = loss(pred.reshape((2, 2, 3)), lab.reshape((2, 2, 3))).asnumpy()
    onp.testing.assert_allclose(flat, want.reshape(2, -1).mean(1), rtol=1e-5, atol=1e-6)


def test_weight_and_batch_axis():
    got = L.L1Loss(weight=3.0, batch_axis=1)(mx.np.array(PRED), mx.np.array(LABEL)).asnumpy()
    onp.testing.assert_allclose(got, 3 * D.mean(0), rtol=1e-5)


def test_softmax_cross_entropy():
    logits, pred = log_softmax(PRED), mx.np.array(PRED)
    numbers = onp.array([2, 0, 1, 2])
    want = -logits[onp.arange(4), numbers]
    for dtype in ("float32", "int32", "int64"):
        onp.testing.assert_allclose(
            L.SoftmaxCELoss()(pred, mx.np.array(numbers, dtype=dtype)).asnumpy(), want, rtol=1e-5
        )
    got = L.SoftmaxCELoss(from_logits=True)(mx.np.array(logits), mx.np.array(numbers)).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-5)
    got = L.SoftmaxCELoss(sparse_label=False)(pred, mx.np.array(SOFT)).asnumpy()
    onp.testing.assert_allclose(got, -(SOFT * logits).sum(1), rtol=1e-5)
    weights = mx.np.array([[1.0], [0.0], [2.0], [0.5]])
    got = L.SoftmaxCELoss(weight=2.0)(pred, mx.np.array(numbers), weights).asnumpy()
    onp.testing.assert_allclose(got, 2 * want * weights.asnumpy()[:, 0], rtol=1e-5)


def test_softmax_cross_entropy_of_images():
    x, labels = R.normal(size=(2, 3, 4, 5)).astype("float32"), R.integers(0, 3, (2, 4, 5))
    want = -onp.take_along_axis(log_softmax(x, 1), labels[:, None], 1).mean((1, 2, 3))
    got = L.SoftmaxCrossEntropyLoss(axis=1)(mx.np.array(x), mx.np.array(labels)).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-5)


def test_gradient_of_softmax_cross_entropy():
    pred, numbers = mx.np.array(PRED), mx.np.array([2, 0, 1, 2])
    pred.attach_grad()
    with autograd.record():
        loss = L.SoftmaxCELoss()(pred, numbers)
    loss.backward()
    want = onp.exp(log_softmax(PRED)) - onp.eye(3)[[2, 0, 1, 2]]
    onp.testing.assert_allclose(pred.grad.asnumpy(), want, rtol=1e-4, atol=1e-6)


def test_large_logits():
    big, label = mx.np.array([[1e4, -1e4]]), mx.np.array([[1.0, 0.0]])
    assert L.SigmoidBCELoss()(big, label).item() == 0 and L.SigmoidBCELoss()(-big, label).item() == 1e4
    assert L.SoftmaxCELoss()(big, mx.np.array([1])).item() == pytest.approx(2e4)
    assert L.LogisticLoss()(big, mx.np.array([[-1.0, -1.0]])).item() == pytest.approx(5e3)


def test_positive_weight():
    pred, label, factor = mx.np.array(PRED), mx.np.array(BINARY), onp.array([[3.0, 1.0, 0.5]])
    want = -(factor * BINARY * onp.log(P) + (1 - BINARY) * onp.log(1 - P)).mean(1)
    got = L.SigmoidBCELoss()(pred, label, None, mx.np.array(factor)).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-5)
    got = L.SigmoidBCELoss(from_sigmoid=True)(
        mx.np.array(P, dtype="float32"), label, None, mx.np.array(factor)
    ).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-5)


def test_triplet():
    a, b, c = (R.normal(size=(4, 3)) for _ in range(3))
    want = onp.maximum(((b - a) ** 2 - (c - a) ** 2).sum(1) + 0.3, 0)
    got = L.TripletLoss(margin=0.3)(*(mx.np.array(v, dtype="float32") for v in (a, b, c))).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_poisson():
    pred, target = mx.np.array(PRED), mx.np.array(COUNTS)
    got = L.PoissonNLLLoss(compute_full=True)(pred, target).item()
    assert got == pytest.approx(poisson(PRED, COUNTS).mean(), rel=1e-5)
    rate = onp.exp(PRED)
    got = L.PoissonNLLLoss(from_logits=False)(mx.np.array(rate), target).item()
    assert got == pytest.approx((rate - COUNTS * PRED).mean(), rel=1e-5)


def test_cosine():
    cos = (PRED * LABEL).sum(1) / onp.linalg.norm(PRED, axis=1) / onp.linalg.norm(LABEL, axis=1)
    sign = onp.array([1, -1, 1, -1])
    want = onp.where(sign == 1, 1 - cos, onp.maximum(0, cos - 0.1))
    got = L.CosineEmbeddingLoss(margin=0.1)(mx.np.array(PRED), mx.np.array(LABEL), mx.np.array(sign)).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_sdml():
    distances = ((PRED[:, None] - LABEL[None]) ** 2).sum(2)
    labels = onp.eye(4) * 0.7 + (1 - onp.eye(4)) * 0.1
    want = (labels * (onp.log(labels) - log_softmax(-distances, 1))).sum(1)
    got = L.SDMLLoss(smoothing_parameter=0.3)(mx.np.array(PRED), mx.np.array(LABEL)).asnumpy()
    onp.testing.assert_allclose(got, want, rtol=1e-4)


def test_errors():
    with pytest.raises(errors.ArgumentError, match="label_format"):
        L.LogisticLoss(label_format="text")
