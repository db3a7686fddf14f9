"""``mx.np.random``: NumPy's distributions on the one stream that ``mx.random.seed`` starts.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from minimx._core import ndarray
from minimx.random import seed

__all__ = [
    "bernoulli", "beta", "chisquare", "choice", "exponential", "f", "gamma", "gumbel", "laplace", "logistic",
    "lognormal", "multinomial", "multivariate_normal", "normal", "normal_n", "pareto", "permutation", "poisson",
    "power", "rand", "randint", "randint_between", "randn", "rayleigh", "seed", "shuffle", "uniform", "uniform_n",
    "weibull",
]

def bernoulli(
    prob: ArrayLike = 0.5, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """1 with probability ``prob``, else 0."""
def chisquare(
    df: Any, size: Shape | None = None, dtype: DType | None = None, ctx: DeviceLike | None = None,
    device: DeviceLike | None = None
) -> ndarray:
    """Sum of ``df`` squares of standard normal numbers."""
def choice(
    a: ArrayLike, size: Shape | None = None, replace: _bool = True, p: ArrayLike | None = None,
    ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """Elements of ``a`` (or numbers below it), with or without replacement, with probabilities ``p`` if given."""
def gamma(
    shape: ArrayLike = 1.0, scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Gamma with shape ``shape`` and scale ``scale`` (Marsaglia and Tsang 2000)."""
def lognormal(
    mean: float = 0.0, sigma: float = 1.0, size: Shape | None = None, dtype: DType | None = None,
    ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """e to the power of a normal number."""
def multinomial(n: Any, pvals: Any, size: Shape | None = None) -> ndarray:
    """Counts of ``n`` draws with probabilities ``pvals`` (k,): shape size + (k,), int64."""
def multivariate_normal(
    mean: Any, cov: Any, size: Shape | None = None, check_valid: Any = None, tol: Any = None
) -> ndarray:
    """Normal vectors with mean (n,) and covariance (n, n), by Cholesky's factor."""
def normal(
    loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None,
    shape: Shape | None = None, *, out: ndarray | None = None, device: DeviceLike | None = None,
    ctx: DeviceLike | None = None
) -> ndarray:
    """Normal with mean ``loc`` and standard deviation ``scale``."""
def normal_n(
    loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, batch_shape: Shape | None = None, dtype: DType | None = None,
    ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """Normal numbers of shape batch_shape + that of the parameters."""
def permutation(x: ArrayLike, ctx: DeviceLike | None = None, device: DeviceLike | None = None) -> ndarray:
    """range(x), or the slices of ``x`` along axis 0, in random order: random keys are sorted."""
def power(
    a: ArrayLike, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Density a x^(a - 1) on [0, 1]."""
def rand(
    *size: int, dtype: DType | None = None, ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """Uniform on [0, 1) in the shape of the arguments."""
def randint(
    low: float, high: float | None = None, size: Shape | None = None, dtype: DType | None = None,
    ctx: DeviceLike | None = None, device: DeviceLike | None = None, shape: Shape | None = None
) -> ndarray:
    """Integers in [low, high), or in [0, low) if ``high`` is left out."""
def randint_between(
    low: ArrayLike, high: ArrayLike, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Integers in [low, high)."""
def randn(
    *size: int, dtype: DType | None = None, ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """Standard normal in the shape of the arguments."""
def shuffle(x: ArrayLike) -> ndarray:
    """Reorders the slices of ``x`` along axis 0 in place."""
def uniform(
    low: ArrayLike = 0.0, high: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None,
    shape: Shape | None = None, *, out: ndarray | None = None, device: DeviceLike | None = None,
    ctx: DeviceLike | None = None
) -> ndarray:
    """Uniform on [low, high)."""
def uniform_n(
    low: float = 0.0, high: float = 1.0, batch_shape: Shape | None = None, dtype: DType | None = None,
    ctx: DeviceLike | None = None, device: DeviceLike | None = None
) -> ndarray:
    """Uniform numbers of shape batch_shape + that of the parameters."""
def beta(
    a: ArrayLike = 1.0, b: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Beta with parameters ``a`` and ``b``: X / (X + Y) of two gammas."""
def exponential(
    scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Exponential with mean ``scale``."""
def f(
    dfnum: Any, dfden: Any, size: Shape | None = None, ctx: DeviceLike | None = None,
    device: DeviceLike | None = None
) -> ndarray:
    """Fisher's F: the quotient of two chi-squares over their degrees of freedom."""
def gumbel(
    loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Gumbel with mode ``loc`` and scale ``scale``."""
def laplace(
    loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Laplace with mean ``loc`` and scale ``scale``."""
def logistic(
    loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *,
    out: ndarray | None = None, device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Logistic with mean ``loc`` and scale ``scale``."""
def pareto(
    a: ArrayLike, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Pareto II (Lomax) with shape ``a``."""
def poisson(
    lam: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Counts of a Poisson process with mean ``lam``, as floats."""
def rayleigh(
    scale: ArrayLike = 1.0, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Rayleigh with mode ``scale``."""
def weibull(
    a: ArrayLike, size: Shape | None = None, dtype: DType | None = None, *, out: ndarray | None = None,
    device: DeviceLike | None = None, ctx: DeviceLike | None = None
) -> ndarray:
    """Weibull with shape ``a``."""
