"""The random stream: Philox's published answers, moments of every distribution, seeds, threads, dropout,
permutations."""

import numpy as np
import pytest

import minimx as mx
from minimx import autograd
from minimx.errors import ArgumentError, ShapeError
from minimx.ops.table import f

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter and key, then the result.
ANSWERS = [
    ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 6, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]

# distribution, parameters, mean, variance
MOMENTS = [
    ("uniform", (2.0, 4.0), 3, 1 / 3),
    ("normal", (1.0, 2.0), 1, 4),
    ("bernoulli", (0.3,), 0.3, 0.21),
    ("exponential", (2.0,), 2, 4),
    ("gamma", (3.0, 2.0), 6, 12),
    ("gamma", (0.5, 1.0), 0.5, 0.5),
    ("beta", (2.0, 3.0), 0.4, 0.04),
    ("poisson", (3.0,), 3, 3),
    ("poisson", (40.0,), 40, 40),
    ("laplace", (1.0, 2.0), 1, 8),
    ("gumbel", (0.0, 1.0), 0.57722, np.pi**2 / 6),
    ("logistic", (0.0, 1.0), 0, np.pi**2 / 3),
    ("rayleigh", (1.0,), 1.25331, 0.42920),
    ("weibull", (2.0,), 0.88623, 0.21460),
    ("pareto", (5.0,), 0.25, 0.104167),
    ("power", (2.0,), 2 / 3, 1 / 18),
    ("lognormal", (0.0, 0.5), np.exp(0.125), (np.exp(0.25) - 1) * np.exp(0.25)),
    ("chisquare", (4.0,), 4, 8),
]


def test_philox_gives_the_published_answers():
    counters = mx.np.array(np.array([a for a, _ in ANSWERS]))
    np.testing.assert_array_equal(f.philox(counters).asnumpy(), [b for _, b in ANSWERS])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "parameters", "mean", "variance"), MOMENTS)
def test_moments(name, parameters, mean, variance, dtype):
    mx.random.seed(11)
    n = 60000
    x = getattr(mx.np.random, name)(*parameters, size=(n,), dtype=dtype).astype("float64").asnumpy()
    assert abs(x.mean() - mean) < 5 * (variance / n) ** 0.5
    assert abs(x.var() - variance) < 0.08 * variance


def test_integers_cover_their_range_evenly():
    mx.random.seed(0)
    x = mx.np.random.randint(-2, 3, size=(50000,))
    assert x.dtype == "int64"
    values, counts = np.unique(x.asnumpy(), return_counts=True)
    assert list(values) == [-2, -1, 0, 1, 2]
    assert abs(counts - 10000).max() < 500
    with pytest.raises(ArgumentError, match="low < high"):
        mx.np.random.randint(3, 3)


def test_the_seed_decides_and_calls_differ():
    draw = lambda: mx.np.random.normal(size=(7,)).asnumpy()  # noqa: E731
    mx.random.seed(5)
    first, second = draw(), draw()
    mx.random.seed(5)
    np.testing.assert_array_equal(draw(), first)
    np.testing.assert_array_equal(draw(), second)
    assert (first != second).all()
    mx.random.seed(6)
    assert (draw() != first).all()


def test_an_element_does_not_depend_on_the_size_drawn_with_it():
    made = []
    for n in (5, 300000):
        mx.random.seed(9)
        made.append(mx.np.random.uniform(size=(n,)).asnumpy())
    np.testing.assert_array_equal(made[0], made[1][:5])


def test_parameters_broadcast():
    mx.random.seed(0)
    x = mx.np.random.uniform(mx.np.array([0.0, 10.0]), mx.np.array([1.0, 20.0]), size=(1000, 2)).asnumpy()
    assert (x.min(0) >= [0, 10]).all() and (x.max(0) <= [1, 20]).all() and x[:, 1].max() > 19
    with pytest.raises(ShapeError):
        mx.np.random.normal(mx.np.zeros((3,)), 1.0, size=(2,))


def test_gradients_flow_to_the_parameters_of_normal():
    mx.random.seed(0)
    loc, scale = mx.np.array([1.0, 2.0]), mx.np.array([3.0, 4.0])
    loc.attach_grad()
    scale.attach_grad()
    with autograd.record():
        y = mx.np.random.normal(loc, scale, size=(100, 2))
        total = f.sum(y)
    total.backward()
    z = (y.asnumpy() - [1, 2]) / [3, 4]
    np.testing.assert_allclose(loc.grad.asnumpy(), [100, 100])
    np.testing.assert_allclose(scale.grad.asnumpy(), z.sum(0), rtol=1e-3)


def test_dropout_keeps_scales_and_remembers():
    mx.random.seed(1)
    x = mx.np.ones((200, 300))
    x.attach_grad()
    with autograd.record():
        y = mx.npx.dropout(x, 0.25)
        total = f.sum(y * 2)
    total.backward()
    got = y.asnumpy()
    assert abs((got == 0).mean() - 0.25) < 0.01
    np.testing.assert_allclose(got[got != 0], 1 / 0.75, rtol=1e-6)
    np.testing.assert_allclose(x.grad.asnumpy(), 2 * got, rtol=1e-6)
    assert mx.npx.dropout(x, 0.25) is x  # not training


def test_dropout_along_axes_is_shared():
    with autograd.train_mode():
        y = mx.npx.dropout(mx.np.ones((50, 6, 4)), 0.5, axes=(2,)).asnumpy()
    assert (y == y[:, :, :1]).all() and 0 < (y == 0).mean() < 1


def test_permutation_shuffle_choice():
    mx.random.seed(3)
    assert sorted(mx.np.random.permutation(50).tolist()) == list(range(50))
    x = mx.np.arange(40).reshape(20, 2)
    mx.np.random.shuffle(x)
    got = x.asnumpy()
    assert (got != np.arange(40).reshape(20, 2)).any()
    np.testing.assert_array_equal(got[got[:, 0].argsort()], np.arange(40).reshape(20, 2))
    drawn = mx.np.random.choice(10, size=(10,), replace=False).tolist()
    assert sorted(drawn) == list(range(10))
    counts = np.bincount(mx.np.random.choice(3, size=(9000,), p=[0.5, 0.0, 0.5]).asnumpy(), minlength=3)
    assert counts[1] == 0 and abs(counts[0] - 4500) < 300
    with pytest.raises(ArgumentError, match="at most 3 elements"):
        mx.np.random.choice(3, size=(4,), replace=False)


def test_multinomial_counts():
    mx.random.seed(4)
    counts = mx.np.random.multinomial(1000, [0.2, 0.3, 0.5], size=(4,)).asnumpy()
    assert counts.shape == (4, 3) and (counts.sum(1) == 1000).all()
    assert abs(counts.mean(0) - [200, 300, 500]).max() < 40
