"""``mx.nd.random``: Gluon 1's names of the distributions; those that it lacks are NumPy's, from ``mx.np.random``.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from minimx._core import ndarray
from minimx.np.random import (
    bernoulli, chisquare, choice, gamma, lognormal, multivariate_normal, normal, normal_n, permutation, power, rand,
    randint, randint_between, randn, shuffle, uniform, uniform_n, beta, exponential, f, gumbel, laplace, logistic,
    pareto, poisson, rayleigh, weibull,
)
from minimx.npx import categorical as multinomial
from minimx.random import seed

__all__ = [
    "bernoulli", "beta", "chisquare", "choice", "exponential", "f", "gamma", "gumbel", "laplace", "logistic",
    "lognormal", "multinomial", "multivariate_normal", "normal", "normal_n", "pareto", "permutation", "poisson",
    "power", "rand", "randint", "randint_between", "randn", "rayleigh", "seed", "shuffle", "uniform", "uniform_n",
    "weibull",
]

