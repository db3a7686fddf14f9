"""The random stream: known answers, moments of every distribution, seeds, order, threads, gradients, permutations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import minimx as mx
from minimx import autograd
from minimx.errors import ArgumentError, MXError, ShapeError
from minimx.gluon import HybridBlock
from minimx.ops.table import OPS, f

N = 40_000


def test_philox_known_answers():
    """Random123 1.14, kat_vectors, philox4x32 with 10 rounds."""
    ones = 0xFFFFFFFF
    words = np.array([[0] * 6, [ones] * 6, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]])
    want = [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ]
    np.testing.assert_array_equal(f.philox(mx.np.array(words)).asnumpy(), want)


DISTRIBUTIONS = {
    "uniform": ((-1.0, 3.0), scipy.stats.uniform(-1, 4)),
    "normal": ((1.0, 2.0), scipy.stats.norm(1, 2)),
    "random_exponential": ((2.0,), scipy.stats.expon(scale=2)),
    "random_rayleigh": ((2.0,), scipy.stats.rayleigh(scale=2)),
    "random_weibull": ((1.5,), scipy.stats.weibull_min(1.5)),
    "random_pareto": ((3.0,), scipy.stats.lomax(3)),
    "random_power": ((2.5,), scipy.stats.powerlaw(2.5)),
    "random_laplace": ((1.0, 0.5), scipy.stats.laplace(1, 0.5)),
    "random_gumbel": ((1.0, 0.5), scipy.stats.gumbel_r(1, 0.5)),
    "random_logistic": ((1.0, 0.5), scipy.stats.logistic(1, 0.5)),
    "random_gamma": ((2.5, 0.5), scipy.stats.gamma(2.5, scale=0.5)),
    "random_beta": ((2.0, 3.0), scipy.stats.beta(2, 3)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distributions(name, dtype):
    """Kolmogorov and Smirnov's distance to SciPy's distribution; the seed is fixed, so this fails always or never."""
    parameters, law = DISTRIBUTIONS[name]
    x = getattr(f, name)(*parameters, size=(N,), dtype=dtype)
    assert x.dtype == dtype
    assert scipy.stats.kstest(x.asnumpy().astype("float64"), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["small_gamma", "chisquare", "lognormal", "f", "randn", "rand"])
def test_composed_distributions(name):
    """What is made of others."""
    make = {
        "small_gamma": lambda: mx.np.random.gamma(0.3, 1.0, (N,)),
        "chisquare": lambda: mx.np.random.chisquare(3, (N,)),
        "lognormal": lambda: mx.np.random.lognormal(0.0, 0.5, (N,)),
        "f": lambda: mx.np.random.f(4.0, 6.0, (N,)),
        "randn": lambda: mx.np.random.randn(N),
        "rand": lambda: mx.np.random.rand(N),
    }[name]
    law = {
        "small_gamma": scipy.stats.gamma(0.3),
        "chisquare": scipy.stats.chi2(3),
        "lognormal": scipy.stats.lognorm(0.5),
        "f": scipy.stats.f(4, 6),
        "randn": scipy.stats.norm,
        "rand": scipy.stats.uniform,
    }[name]
    assert scipy.stats.kstest(make().asnumpy().astype("float64"), law.cdf).pvalue > 1e-3


def fits(counts: np.ndarray, probabilities: np.ndarray) -> bool:
    """Chi-squared test of frequencies."""
    counts, expected = (
        np.asarray(counts, "float64"),
        np.asarray(probabilities, "float64") / np.sum(probabilities) * np.sum(counts),
    )
    return scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_counts():
    """Integers: range and frequencies of every value."""
    x = mx.np.random.randint(-2, 5, (N,)).asnumpy()
    assert x.dtype == np.int64 and x.min() == -2 and x.max() == 4 and fits(np.bincount(x + 2), np.ones(7))
    assert fits(np.bincount(mx.np.random.bernoulli(0.3, (N,)).asnumpy().astype(int)), [0.7, 0.3])
    for lam in (0.5, 3.0, 40.0):
        x = mx.np.random.poisson(lam, (N,)).asnumpy().astype(int)
        k = np.arange(int(lam + 5 * lam**0.5) + 1)
        counts, p = np.bincount(x, minlength=k.size)[: k.size], scipy.stats.poisson(lam).pmf(k)
        keep = p * N > 5
        assert fits(np.append(counts[keep], N - counts[keep].sum()), np.append(p[keep], 1 - p[keep].sum()))
    p = np.array([0.1, 0.2, 0.7], "float32")
    assert fits(np.bincount(mx.npx.categorical(mx.np.array(p), shape=(N,)).asnumpy()), p)
    m = mx.np.random.multinomial(10, [0.2, 0.3, 0.5], (500,)).asnumpy()
    assert m.shape == (500, 3) and (m.sum(1) == 10).all() and fits(m.sum(0), [0.2, 0.3, 0.5])
    assert fits(np.bincount(mx.np.random.choice(4, (N,)).asnumpy()), np.ones(4))
    assert fits(np.bincount(mx.np.random.choice(3, (N,), p=[0.5, 0.2, 0.3]).asnumpy()), [0.5, 0.2, 0.3])


def test_multivariate_normal():
    """Mean and covariance."""
    cov = np.array([[2.0, 0.6], [0.6, 1.0]], "float32")
    x = mx.np.random.multivariate_normal(mx.np.array([1.0, -1.0]), mx.np.array(cov), (N,)).asnumpy()
    np.testing.assert_allclose(x.mean(0), [1, -1], atol=0.05)
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.06)


def test_permutations():
    """Every element once; all orders; rows stay together; with and without replacement."""
    assert sorted(mx.np.random.permutation(50).asnumpy().tolist()) == list(range(50))
    orders = [tuple(mx.np.random.permutation(3).asnumpy().tolist()) for _ in range(1200)]
    assert fits([orders.count(o) for o in set(orders)], np.ones(6)) and len(set(orders)) == 6
    x = mx.np.array(np.arange(20).reshape(10, 2))
    mx.np.random.shuffle(x)
    a = x.asnumpy()
    assert sorted(a[:, 0].tolist()) == list(range(0, 20, 2)) and (a[:, 1] == a[:, 0] + 1).all()
    chosen = mx.np.random.choice(20, (20,), replace=False).asnumpy()
    assert sorted(chosen.tolist()) == list(range(20))
    with pytest.raises(ArgumentError):
        mx.np.random.choice(3, (4,), replace=False)


def test_seeds_and_state():
    """The same seed gives the same numbers, another one others; the state can be saved and set."""

    def draw():
        return np.concatenate([mx.np.random.normal(size=(5,)).asnumpy(), mx.np.random.uniform(size=(3,)).asnumpy()])

    mx.random.seed(3)
    a = draw()
    state = mx.random.get_state()
    b = draw()
    mx.random.seed(3)
    np.testing.assert_array_equal(draw(), a)
    mx.random.set_state(state)
    np.testing.assert_array_equal(draw(), b)
    mx.random.seed(4)
    assert (draw() != a).any() and (a != b).any()


def test_stream_does_not_depend_on_threads_or_size():
    """Numbers belong to the element, not to whoever computes it."""
    drawn = []
    threads = mx.engine.num_threads()
    for n in (1, 2, 3):
        mx.engine.set_num_threads(n)
        mx.random.seed(5)
        drawn.append(mx.np.random.normal(size=(300_001,)).asnumpy())
    mx.engine.set_num_threads(threads)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    mx.random.seed(5)
    np.testing.assert_array_equal(mx.np.random.normal(size=(7,)).asnumpy(), drawn[0][:7])


OF_DROPOUT = ("dropout_train", "dropout_mask")  # whose shape is that of the data


@pytest.mark.parametrize("name", [n for n, row in OPS.items() if row.kind == "random" and n not in OF_DROPOUT])
def test_rows(name):
    """Shape from size or from the parameters, type, reproducible, and zero-size arrays."""
    row = OPS[name]
    n = len(row.operands)
    values = (
        [mx.np.array([0.2, 0.5, 0.8]) + i for i in range(n)] if name != "bernoulli" else [mx.np.array([0.2, 0.5, 0.8])]
    )
    values = [v * 3 for v in values] if name == "randint_between" else values
    mx.random.seed(1)
    x = getattr(f, name)(*values)
    mx.random.seed(1)
    y = getattr(f, name)(*values, size=(4, 3))
    assert x.shape == (3,) and y.shape == (4, 3)
    np.testing.assert_array_equal(x.asnumpy(), y.asnumpy()[0])
    assert getattr(f, name)(*values, size=(0, 3)).shape == (0, 3)
    assert np.isfinite(y.asnumpy()).all()
    with pytest.raises(ShapeError):
        getattr(f, name)(*values, size=(4, 2))


def test_wrong_arguments():
    """Errors at the call."""
    with pytest.raises(ArgumentError):
        mx.np.random.randint(3, 3)
    with pytest.raises(MXError):
        mx.np.random.normal(size=(-1,))
    with pytest.raises(ArgumentError):
        mx.npx.dropout(mx.np.ones(3), p=1.5)


def test_gradients_of_parameters():
    """uniform and normal move with their parameters."""
    loc, scale = mx.np.array([1.0, 2.0]), mx.np.array([0.5, 2.0])
    loc.attach_grad()
    scale.attach_grad()
    with autograd.record():
        x = mx.np.random.normal(loc, scale, (1000, 2))
        y = x.sum()
    y.backward()
    np.testing.assert_allclose(loc.grad.asnumpy(), [1000, 1000])
    z = (x.asnumpy() - loc.asnumpy()) / scale.asnumpy()
    np.testing.assert_allclose(scale.grad.asnumpy(), z.sum(0), rtol=1e-3)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9, 1.0])
def test_dropout(p):
    """Share of zeros, scale of the rest, the same mask backward; nothing happens in predict mode."""
    x = mx.np.ones((200, 100))
    x.attach_grad()
    with autograd.record():
        y = mx.npx.dropout(x, p)
        z = (y * 2).sum()
    z.backward()
    a = y.asnumpy()
    assert abs((a == 0).mean() - p) < 0.02
    if p < 1:
        np.testing.assert_allclose(a[a != 0], 1 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(x.grad.asnumpy(), a * 2)
    np.testing.assert_array_equal(mx.npx.dropout(x, p).asnumpy(), x.asnumpy())
    with autograd.record():
        b = mx.npx.dropout(x, p, axes=(0,)).asnumpy()
    assert (b == b[:1]).all()


class Noise(HybridBlock):
    """Draws in several ways."""

    def forward(self, x):
        y = mx.npx.dropout(x, 0.5) + mx.np.random.normal(size=x.shape)
        return y * mx.np.random.uniform(0.0, 1.0, x.shape), mx.np.random.permutation(5)


@pytest.mark.usefixtures("unfused")
def test_hybridized_draws_the_same():
    """Call after call, eager and hybridized streams agree, in both modes."""
    x = mx.np.ones((3, 4))
    drawn = []
    for hybrid in (False, True):
        block = Noise()
        block.hybridize(hybrid)
        mx.random.seed(8)
        rows = []
        for training in (True, False, True, True):
            with autograd.record(train_mode=training):
                made = block(x)
            rows.append(np.concatenate([y.asnumpy().astype("float32").ravel() for y in made]))
        rows.append(mx.np.random.uniform(size=(4,)).asnumpy())
        drawn.append(np.concatenate(rows))
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-6)
