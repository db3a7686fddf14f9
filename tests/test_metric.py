"""gluon.metric: every metric against its formula written out plainly, in one update and in several."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import minimx as mx
from minimx import errors
from minimx.gluon import metric

SETTINGS = settings(max_examples=30, deadline=None)
sizes = st.integers(1, 40)
seeds = st.integers(0, 1000)


def in_parts(m, label, pred, cuts=(0.3, 0.4)):
    """The metric's value after updates with consecutive parts of the batch; the same as with all of it at once."""
    m.update(label, pred)
    whole = m.get()[1]
    m.reset()
    assert m.get()[1] is not None and np.isnan(np.mean(m.get()[1]))
    places = [0, *(int(c * len(label)) for c in cuts), len(label)]
    for start, stop in itertools.pairwise(places):
        if stop > start:
            m.update([label[start:stop]], [pred[start:stop]])
    assert_allclose(m.get()[1], whole, rtol=1e-9, atol=1e-12)
    return whole


def classes(seed, n, c):
    rng = np.random.default_rng(seed)
    return rng.integers(0, c, n), rng.random((n, c)).astype(np.float32)


@SETTINGS
@given(seed=seeds, n=sizes, c=st.integers(2, 7), k=st.integers(2, 9))
def test_accuracies(seed, n, c, k):
    label, score = classes(seed, n, c)
    best = [max(range(c), key=lambda j: row[j]) for row in score]
    assert_allclose(
        in_parts(metric.Accuracy(), label, score), sum(b == y for b, y in zip(best, label, strict=True)) / n
    )
    assert_allclose(
        in_parts(metric.Accuracy(), label, np.array(best)), sum(b == y for b, y in zip(best, label, strict=True)) / n
    )
    ranked = [sorted(range(c), key=lambda j: -row[j])[:k] for row in score]
    assert_allclose(
        in_parts(metric.TopKAccuracy(k), label, score), sum(y in r for r, y in zip(ranked, label, strict=True)) / n
    )


def test_accuracy_along_another_axis():
    score = np.random.default_rng(0).random((2, 5, 3))
    label = score.argmax(axis=1)
    label[0, 0] = (label[0, 0] + 1) % 5
    m = metric.Accuracy(axis=1)
    m.update(label, score)
    assert m.get() == ("accuracy", 5 / 6)
    m = metric.BinaryAccuracy(threshold=0.3)
    m.update(np.array([1, 0, 1]), np.array([0.4, 0.2, 0.1]))
    assert m.get() == ("binary_accuracy", 2 / 3)


def counts(truth, guess):
    """tp, fp, fn, tn of two lists of bools."""
    pairs = list(zip(truth, guess, strict=True))
    return [pairs.count(p) for p in ((True, True), (False, True), (True, False), (False, False))]


def f_score(tp, fp, fn, beta=1.0):
    precision, recall = tp / (tp + fp) if tp + fp else 0, tp / (tp + fn) if tp + fn else 0
    below = beta**2 * precision + recall
    return (1 + beta**2) * precision * recall / below if below else 0.0


@SETTINGS
@given(seed=seeds, n=sizes, beta=st.sampled_from([0.5, 1, 2]), threshold=st.sampled_from([0.3, 0.5]))
def test_binary_f_scores_and_mcc(seed, n, beta, threshold):
    label, _ = classes(seed, n, 2)
    pred = np.random.default_rng(seed + 1).random(n)
    tp, fp, fn, tn = counts([bool(y) for y in label], [bool(p > threshold) for p in pred])
    assert_allclose(in_parts(metric.Fbeta(beta=beta, threshold=threshold), label, pred), f_score(tp, fp, fn, beta))
    assert_allclose(in_parts(metric.F1(threshold=threshold), label, pred), f_score(tp, fp, fn))
    two = np.stack([1 - pred, pred], axis=1)
    assert_allclose(in_parts(metric.F1(threshold=threshold), label, two), f_score(tp, fp, fn))
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    mcc = (tp * tn - fp * fn) / below if below else 0
    assert_allclose(in_parts(metric.MCC(threshold=threshold), label, pred), mcc)
    assert_allclose(in_parts(metric.PCC(), label, (pred > threshold).astype(int)), mcc, atol=1e-12)


@SETTINGS
@given(seed=seeds, n=sizes, c=st.integers(2, 5), average=st.sampled_from(["micro", "macro", None]))
def test_multiclass_and_multilabel_f1(seed, n, c, average):
    def expected(truth, guess):
        each = [counts(list(t), list(g))[:3] for t, g in zip(truth.T.tolist(), guess.T.tolist(), strict=True)]
        if average == "micro":
            return f_score(*map(sum, zip(*each, strict=True)))
        scores = [f_score(*one) for one in each]
        return scores if average is None else sum(scores) / c

    label, score = classes(seed, n, c)
    flags = np.eye(c, dtype=bool)
    m = metric.F1(class_type="multiclass", average=average)
    assert_allclose(in_parts(m, label, score), expected(flags[label], flags[score.argmax(1)]))
    many = np.random.default_rng(seed).random((n, c)) > 0.5
    thresholds = np.linspace(0.2, 0.8, c)
    m = metric.F1(class_type="multilabel", average=average, threshold=thresholds)
    assert_allclose(in_parts(m, many.astype(int), score), expected(many, score > thresholds))


@SETTINGS
@given(seed=seeds, n=sizes, c=st.integers(2, 6))
def test_pcc_is_pearson_of_one_hot_classes(seed, n, c):
    """Gorodkin 2004, eq. 3 to 5: covariances of one-hot indicators, summed over classes."""
    label, score = classes(seed, n, c)
    x, y = np.eye(c)[label], np.eye(c)[score.argmax(1)]
    x, y = x - x.mean(0), y - y.mean(0)
    below = math.sqrt((x * x).sum() * (y * y).sum())
    assert_allclose(in_parts(metric.PCC(), label, score), (x * y).sum() / below if below > 1e-12 else 0.0, atol=1e-9)


@SETTINGS
@given(seed=seeds, n=sizes, d=st.integers(1, 4))
def test_distances(seed, n, d):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    assert_allclose(in_parts(metric.MAE(), a, b), np.mean(np.abs(a - b)))
    assert_allclose(in_parts(metric.MSE(), a, b), np.mean((a - b) ** 2))
    assert_allclose(in_parts(metric.RMSE(), a, b), math.sqrt(np.mean((a - b) ** 2)))
    assert_allclose(
        in_parts(metric.MeanPairwiseDistance(), a, b), np.mean([math.dist(x, y) for x, y in zip(a, b, strict=True)])
    )
    assert_allclose(in_parts(metric.MeanPairwiseDistance(p=1), a, b), np.abs(a - b).sum(1).mean())
    cosines = [x @ y / math.sqrt((x @ x) * (y @ y)) for x, y in zip(a, b, strict=True)]
    assert_allclose(in_parts(metric.MeanCosineSimilarity(), a, b), np.mean(cosines), atol=1e-12)
    if n * d > 1:
        r = metric.PearsonCorrelation()
        assert_allclose(in_parts(r, a + 100, b), np.corrcoef(a.ravel(), b.ravel())[0, 1], atol=1e-8)


@SETTINGS
@given(seed=seeds, n=sizes, c=st.integers(2, 6))
def test_cross_entropies(seed, n, c):
    label, score = classes(seed, n, c)
    p = score / score.sum(1, keepdims=True)
    expected = -sum(math.log(row[y]) for row, y in zip(p.astype(float), label, strict=True)) / n
    assert_allclose(in_parts(metric.CrossEntropy(), label, p), expected, rtol=1e-6)
    assert_allclose(in_parts(metric.NegativeLogLikelihood(), label, p), expected, rtol=1e-6)
    assert_allclose(in_parts(metric.CrossEntropy(from_logits=True), label, np.log(p) + 5), expected, rtol=1e-4)
    assert_allclose(in_parts(metric.Perplexity(), label, p), math.exp(expected), rtol=1e-6)
    assert_allclose(in_parts(metric.CrossEntropy(axis=1), label[:, None], p[:, :, None]), expected, rtol=1e-6)
    kept = label != 0
    if kept.any():
        m = metric.CrossEntropy(ignore_label=0)
        m.update(label, p)
        assert_allclose(m.get()[1], -np.log(p[kept, label[kept]]).mean(), rtol=1e-5)


def test_loss_custom_and_composite():
    loss = metric.Loss()
    loss.update(None, [np.array([1.0, 2.0]), np.array([6.0])])
    assert loss.get() == ("loss", 3.0)
    custom = metric.np(lambda label, pred: float(np.abs(label - pred).max()), name="worst")
    custom.update([1.0, 2.0], [1.0, 5.0])
    custom.update([1.0], [2.0])
    assert custom.get() == ("worst", 2.0)
    assert metric.CustomMetric(lambda y, p: (6, 3)).name == "custom(<lambda>)"
    extra = metric.CustomMetric(lambda y, p: (float((y == p).sum()), y.size), "same", allow_extra_outputs=True)
    extra.update([np.array([1, 2])], [np.array([1, 3]), np.array([9])])
    assert extra.get() == ("same", 0.5)
    both = metric.create(["acc", metric.MAE()])
    both.add("rmse")
    both.update(np.array([1, 0]), np.array([1, 1]))
    assert both.get_name_value() == [("accuracy", 0.5), ("mae", 0.5), ("rmse", math.sqrt(0.5))]
    assert both.get_metric(1).name == "mae"
    both.reset()
    assert all(math.isnan(v) for _, v in both.get_name_value())


def test_update_dict_chooses_by_name():
    m = metric.MAE(output_names=["out"], label_names=["y"])
    m.update_dict({"x": np.zeros(1), "y": np.ones(2)}, {"other": np.zeros(3), "out": np.zeros(2)})
    assert m.get() == ("mae", 1.0)
    assert metric.create("top_k_accuracy", top_k=3).name == "top_k_accuracy_3"


EVERY = [
    metric.Accuracy(axis=2),
    metric.TopKAccuracy(3),
    metric.F1(average="macro", class_type="multiclass"),
    metric.Fbeta(beta=2, threshold=0.3),
    metric.BinaryAccuracy(threshold=0.2),
    metric.MCC(threshold=0.1),
    metric.PCC(),
    metric.MAE(),
    metric.MSE(),
    metric.RMSE(name="r"),
    metric.MeanPairwiseDistance(p=1),
    metric.MeanCosineSimilarity(eps=1e-3),
    metric.CrossEntropy(ignore_label=3, axis=1),
    metric.NegativeLogLikelihood(),
    metric.Perplexity(from_logits=True),
    metric.PearsonCorrelation(),
    metric.Loss(),
]


@pytest.mark.parametrize("m", EVERY, ids=lambda m: type(m).__name__)
def test_config_makes_the_metric_again(m):
    config = m.get_config()
    twin = metric.create(config.pop("metric"), **config)
    assert type(twin) is type(m) and twin.get_config() == m.get_config()
    assert math.isnan(m.get()[1]) and "nan" in str(m)


def test_register_and_alias():
    @metric.register
    @metric.alias("also")
    class Mine(metric.EvalMetric):
        def __init__(self):
            super().__init__("mine")

        def update_one(self, label, pred):
            return 4, 2

    for name in ("mine", "also", "MINE"):
        m = metric.create(name)
        m.update(np.zeros(1), np.zeros(1))
        assert m.get() == ("mine", 2)


def test_one_hot_and_threshold():
    assert metric.one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert metric.predict_with_threshold(np.array([[0.3, 0.7]]), np.array([0.2, 0.8])).tolist() == [[True, False]]
    with pytest.raises(errors.ShapeError, match="2 thresholds"):
        metric.predict_with_threshold(np.zeros((1, 2)), np.zeros(3))


def test_errors():
    one, two = np.zeros(1), np.zeros(3)
    for m in (metric.Accuracy(), metric.MAE(), metric.BinaryAccuracy(), metric.PearsonCorrelation(), metric.F1()):
        with pytest.raises(errors.ShapeError):
            m.update(one, two)
        assert math.isnan(m.get()[1])
    with pytest.raises(errors.ShapeError, match="as many labels as predictions, got 1 and 2"):
        metric.MAE().update([one], [one, one])
    with pytest.raises(KeyError, match="'acuracy'. Known: acc, accuracy"):
        metric.create("acuracy")
    with pytest.raises(TypeError, match="metric.create"):
        metric.create(3)
    with pytest.raises(ValueError, match="top_k > 1"):
        metric.TopKAccuracy(1)
    with pytest.raises(ValueError, match="labels 0 and 1"):
        metric.F1().update(np.array([2]), np.array([0.5]))
    with pytest.raises(ValueError, match="class_type"):
        metric.F1(class_type="many")
    with pytest.raises(ValueError, match="average"):
        metric.F1(average="mean")
    with pytest.raises(IndexError, match="labels from 0 to 1, got 2 to 2"):
        metric.CrossEntropy().update(np.array([2]), np.ones((1, 2)))
    with pytest.raises(errors.ShapeError, match="one label for each"):
        metric.CrossEntropy().update(np.array([1, 1]), np.ones((1, 2)))
    m = metric.F1(class_type="multiclass")
    m.update(np.array([0]), np.ones((1, 2)))
    with pytest.raises(errors.ShapeError, match="3 after 2"):
        m.update(np.array([0]), np.ones((1, 3)))
    with pytest.raises(errors.ShapeError, match="one shape"):
        metric.check_label_shapes(one, two, shape=True)


def test_minimx_arrays():
    label, score = classes(0, 20, 4)
    for name in ("acc", "pcc", "ce"):
        here, there = metric.create(name), metric.create(name)
        here.update(label, score)
        there.update([mx.np.array(label)], [mx.np.array(score)])
        assert here.get() == there.get()
    assert isinstance(metric.one_hot(mx.np.array([1, 0]), 2), mx.ndarray)
    loss = metric.Loss()
    loss.update(None, mx.np.array([1.0, 3.0]))
    assert loss.get()[1] == 2.0
