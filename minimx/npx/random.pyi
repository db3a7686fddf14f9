"""``mx.npx.random``: distributions with a batch shape, on the one stream that ``mx.random.seed`` starts.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from minimx._core import ndarray
from minimx.np.random import bernoulli, normal_n, uniform_n
from minimx.random import seed

__all__ = [
    "bernoulli", "normal_n", "seed", "uniform_n",
]

