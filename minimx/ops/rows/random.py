"""Random numbers: distributions, permutations, choices. One stream for all (minimx/ops/kinds/random.py).

Parameters are numbers or arrays that broadcast; ``size`` is the shape of the result, by default theirs. uniform and
normal are differentiable in their parameters (the reparametrisation of Kingma and Welling 2013, arXiv:1312.6114).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentError, ShapeError
from ..arguments import as_dtype, as_shape, size_of
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..kinds.random import random
from ..table import Plan, Spec, broadcast, f


def drawn_plan(
    name: str, parameters: Sequence[Spec], size: Any, dtype: Any, device: Any = None, default: str = "float32"
) -> Plan:
    """The plan of kernel "draw" for distribution ``name``."""
    where = f"random.{name}"
    shape = broadcast(where, *(p.shape for p in parameters))
    if size is not None:
        asked = as_shape(where, size)
        if broadcast(where, asked, shape) != asked:
            raise ShapeError(
                where, f"size {asked} that parameters of shape {shape} broadcast to", asked, "Make it larger"
            )
        shape = asked
    out = as_dtype(where, dtype, default)
    inner = "int64" if name == "randint" else "float64" if out == "float64" else "float32"
    return Plan([(shape, out)], "draw", {"kind": name}, [inner] * len(parameters), random=True)


def uniform_grad(gs, ins, outs, attrs, needs):
    """y = low + (high - low) u."""
    low, high = ins
    u = f.divide(f.subtract(outs[0], low), f.subtract(high, low))
    return [
        f.sum_to_like(gs[0] * (1 - u), low) if needs[0] else None,
        f.sum_to_like(gs[0] * u, high) if needs[1] else None,
    ]


@random(
    np="random.uniform", nd="random.uniform random_uniform", grad=uniform_grad, against="moments of the distribution"
)
def uniform(low=0.0, high=1.0, /, size=None, dtype=None, shape=None):
    """Uniform on [low, high).

    >>> np.random.uniform(-1, 1, size=(2, 3)).shape
    (2, 3)
    """
    return drawn_plan("uniform", [low, high], size if shape is None else shape, dtype)


def normal_grad(gs, ins, outs, attrs, needs):
    """y = loc + scale z."""
    loc, scale = ins
    z = f.divide(f.subtract(outs[0], loc), scale)
    return [f.sum_to_like(gs[0], loc) if needs[0] else None, f.sum_to_like(gs[0] * z, scale) if needs[1] else None]


@random(np="random.normal", nd="random.normal random_normal", grad=normal_grad, against="moments of the distribution")
def normal(loc=0.0, scale=1.0, /, size=None, dtype=None, shape=None):
    """Normal with mean ``loc`` and standard deviation ``scale``.

    >>> np.random.normal(0, 1, size=(2, 3)).shape
    (2, 3)
    """
    return drawn_plan("normal", [loc, scale], size if shape is None else shape, dtype)


@random(np="random.randint_between")
def randint_between(low, high, /, size=None, dtype=None):
    """Integers in [low, high)."""
    return drawn_plan("randint", [low, high], size, dtype, default="int64")


@composite(np="random.randint", nd="random.randint random_randint", against="range and frequencies")
def randint(low, high=None, size=None, dtype=None, ctx=None, device=None, shape=None):
    """Integers in [low, high), or in [0, low) if ``high`` is left out.

    >>> np.random.randint(0, 10, size=5).dtype
    dtype('int64')
    """
    if high is None:
        low, high = 0, low
    if isinstance(low, int) and isinstance(high, int) and low >= high:
        raise ArgumentError("random.randint", "low < high", f"{low} and {high}", "Swap them")
    return f.randint_between(low, high, size if shape is None else shape, dtype)


@random(np="random.bernoulli", npx="bernoulli", against="moments of the distribution")
def bernoulli(prob=0.5, /, size=None, dtype=None):
    """1 with probability ``prob``, else 0."""
    return drawn_plan("bernoulli", [prob], size, dtype)


def distribution(kind: str, doc: str, **parameters: float | None) -> None:
    """Adds the random row of ``kind``; ``parameters`` are its operands with their defaults (None: must be given)."""

    def rule(*values: Spec, size: Any = None, dtype: Any = None) -> Plan:
        return drawn_plan(kind, values, size, dtype)

    p, empty = inspect.Parameter, inspect.Parameter.empty
    operands = [p(n, p.POSITIONAL_ONLY, default=empty if d is None else d) for n, d in parameters.items()]
    attributes = [p(n, p.POSITIONAL_OR_KEYWORD, default=None) for n in ("size", "dtype")]
    rule.__signature__ = inspect.Signature([*operands, *attributes])  # type: ignore[attr-defined]
    random(
        name=f"random_{kind}", np=f"random.{kind}", nd=f"random.{kind}", doc=doc, against="moments of the distribution"
    )(rule)


distribution("exponential", "Exponential with mean ``scale``.", scale=1.0)
distribution("poisson", "Counts of a Poisson process with mean ``lam``, as floats.", lam=1.0)
distribution("rayleigh", "Rayleigh with mode ``scale``.", scale=1.0)
distribution("weibull", "Weibull with shape ``a``.", a=None)
distribution("pareto", "Pareto II (Lomax) with shape ``a``.", a=None)
distribution("power", "Density a x^(a - 1) on [0, 1].", a=None)
distribution("laplace", "Laplace with mean ``loc`` and scale ``scale``.", loc=0.0, scale=1.0)
distribution("gumbel", "Gumbel with mode ``loc`` and scale ``scale``.", loc=0.0, scale=1.0)
distribution("logistic", "Logistic with mean ``loc`` and scale ``scale``.", loc=0.0, scale=1.0)
distribution(
    "gamma", "Gamma with shape ``shape`` and scale ``scale`` (Marsaglia and Tsang 2000).", shape=1.0, scale=1.0
)
distribution("beta", "Beta with parameters ``a`` and ``b``: X / (X + Y) of two gammas.", a=1.0, b=1.0)


# --- made of these ---------------------------------------------------------------------------------------------------


@composite(np="random.rand", against="shape and range")
def rand(*size, dtype=None, ctx=None, device=None):
    """Uniform on [0, 1) in the shape of the arguments.

    >>> np.random.rand(2, 3).shape
    (2, 3)
    """
    return f.uniform(0.0, 1.0, size, dtype)


@composite(np="random.randn", nd="random.randn", against="moments of the distribution")
def randn(*size, dtype=None, ctx=None, device=None):
    """Standard normal in the shape of the arguments.

    >>> np.random.randn(2, 3).shape
    (2, 3)
    """
    return f.normal(0.0, 1.0, size, dtype)


@composite(np="random.lognormal", against="moments of the distribution")
def lognormal(mean=0.0, sigma=1.0, size=None, dtype=None, ctx=None, device=None):
    """e to the power of a normal number.

    >>> np.random.lognormal(0, 1, size=(2, 3)).shape
    (2, 3)
    """
    return f.exp(f.normal(mean, sigma, size, dtype))


@composite(np="random.chisquare", against="moments of the distribution")
def chisquare(df, size=None, dtype=None, ctx=None, device=None):
    """Sum of ``df`` squares of standard normal numbers.

    >>> np.random.chisquare(2, size=3).shape
    (3,)
    """
    return f.random_gamma(f.multiply(df, 0.5) if hasattr(df, "shape") else df / 2, 2.0, size, dtype)


@composite(np="random.f", against="moments of the distribution")
def f_distribution(dfnum, dfden, size=None, ctx=None, device=None):
    """Fisher's F: the quotient of two chi-squares over their degrees of freedom.

    >>> np.random.f(2, 3, size=4).shape
    (4,)
    """
    return f.divide(f.divide(chisquare(dfnum, size), dfnum), f.divide(chisquare(dfden, size), dfden))


@composite(np="random.multivariate_normal", against="moments of the distribution")
def multivariate_normal(mean, cov, size=None, check_valid=None, tol=None):
    """Normal vectors with mean (n,) and covariance (n, n), by Cholesky's factor.

    >>> np.random.multivariate_normal(np.zeros(2), np.eye(2), size=5).shape
    (5, 2)
    """
    n = mean.shape[-1]
    z = f.normal(0.0, 1.0, (*as_shape("random.multivariate_normal", size), n))
    return f.add(f.matmul(z, f.swapaxes(f.cholesky(cov), -1, -2)), mean)


@composite(np="random.permutation", nd="random.permutation", against="sorted, it is what went in")
def permutation(x, ctx=None, device=None):
    """range(x), or the slices of ``x`` along axis 0, in random order: random keys are sorted.

    >>> np.sort(np.random.permutation(4))
    array([0, 1, 2, 3], dtype=int64)
    """
    n = x if isinstance(x, int) else x.shape[0]
    order = f.argsort_to(f.uniform(0.0, 1.0, (n,), "float64"))
    return order if isinstance(x, int) else f.take(x, order, 0)


@composite(np="random.shuffle", nd="random.shuffle shuffle", against="sorted, it is what went in")
def shuffle(x):
    """Reorders the slices of ``x`` along axis 0 in place.

    >>> x = np.arange(5)
    >>> np.random.shuffle(x)
    >>> np.sort(x)
    array([0., 1., 2., 3., 4.])
    """
    f.copy(permutation(x), out=x)


@composite(npx="categorical", nd="sample_multinomial random.multinomial", against="frequencies")
def categorical(data, shape=None, get_prob=False, dtype="int32"):
    """Class numbers drawn with the probabilities in the last axis of ``data``; ``shape`` is that of each row's
    sample.

    >>> npx.categorical(np.array([0, 1, 0]), shape=3)
    array([1, 1, 1], dtype=int32)
    """
    sample = as_shape("categorical", shape)
    k, lead = data.shape[-1], data.shape[:-1]
    edges = f.reshape(f.cumsum(data, axis=-1), (*lead, *(1,) * len(sample), k))
    u = f.expand_dims(f.uniform(0.0, 1.0, (*lead, *sample)), -1)
    total = f.getitem(edges, (Ellipsis, (k - 1, None, None)))
    drawn = f.sum(f.cast(f.less_equal(edges, u * total), "int32"), axis=-1)
    drawn = f.cast(f.minimum(drawn, k - 1), as_dtype("categorical", dtype))
    if not get_prob:
        return drawn
    rows = f.broadcast_to(f.reshape(data, (*lead, *(1,) * len(sample), k)), (*lead, *sample, k))
    return drawn, f.log(f.pick(rows, drawn))


@composite(np="random.multinomial", against="frequencies")
def multinomial(n, pvals, size=None):
    """Counts of ``n`` draws with probabilities ``pvals`` (k,): shape size + (k,), int64.

    >>> np.random.multinomial(10, np.array([0.5, 0.5])).sum()
    array(10, dtype=int64)
    """
    if not hasattr(pvals, "attach_grad"):
        pvals = f.array(pvals)
    k, shape = pvals.shape[-1], as_shape("random.multinomial", size)
    drawn = categorical(pvals, (*shape, n), dtype="int64")
    return f.cast(f.sum(f.one_hot(drawn, k), axis=-2), "int64")


@composite(np="random.choice", against="range and frequencies")
def choice(a, size=None, replace=True, p=None, ctx=None, device=None):
    """Elements of ``a`` (or numbers below it), with or without replacement, with probabilities ``p`` if given.

    Without replacement the keys log(u) / p are sorted (Efraimidis and Spirakis 2006).

    >>> np.random.choice(5, size=3, replace=False).shape
    (3,)
    """
    n = a if isinstance(a, int) else a.shape[0]
    shape = as_shape("random.choice", size)
    count = size_of(shape)
    if not replace and count > n:
        raise ArgumentError("random.choice", f"at most {n} elements without replacement", count, "Pass replace=True")
    if p is not None and not hasattr(p, "attach_grad"):
        p = f.array(p)
    if not replace:
        keys = f.uniform(0.0, 1.0, (n,), "float64")
        keys = keys if p is None else f.negative(f.divide(f.log(keys), f.cast(p, "float64")))
        drawn = f.reshape(f.argsort_to(keys, count), shape)
    else:
        drawn = f.randint_between(0, n, shape) if p is None else categorical(p, shape, dtype="int64")
    return drawn if isinstance(a, int) else f.take(a, drawn, 0)


@composite(npx="normal_n", np="random.normal_n", against="moments of the distribution")
def normal_n(loc=0.0, scale=1.0, batch_shape=None, dtype=None, ctx=None, device=None):
    """Normal numbers of shape batch_shape + that of the parameters.

    >>> np.random.normal_n(np.zeros(2), 1, batch_shape=(3,)).shape
    (3, 2)
    """
    return _batched(f.normal, loc, scale, batch_shape, dtype)


@composite(npx="uniform_n", np="random.uniform_n", against="moments of the distribution")
def uniform_n(low=0.0, high=1.0, batch_shape=None, dtype=None, ctx=None, device=None):
    """Uniform numbers of shape batch_shape + that of the parameters.

    >>> np.random.uniform_n(0, np.ones(2), batch_shape=(3,)).shape
    (3, 2)
    """
    return _batched(f.uniform, low, high, batch_shape, dtype)


def _batched(draw, a, b, batch_shape, dtype):
    own = broadcast("random", getattr(a, "shape", ()), getattr(b, "shape", ()))
    return draw(a, b, (*as_shape("random", batch_shape), *own), dtype)


@kernel(against="known-answer vectors of Random123 1.14: kat_vectors, philox4x32 10")
def philox(counters_and_keys, /):
    """The generator itself: (m, 6) words of counter and key, as int64, to (m, 4) random words."""
    if len(counters_and_keys.shape) != 2 or counters_and_keys.shape[1] != 6:
        raise ShapeError("philox", "shape (m, 6)", counters_and_keys.shape, "Give four counter and two key words")
    return Plan([((counters_and_keys.shape[0], 4), "int64")], "philox", {}, ["int64"], contiguous=True)
