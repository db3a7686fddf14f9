"""Rows that look at many arrays at once, so that an optimizer of hundreds of parameters asks in few launches.

Kernels: csrc/cpu/multi.cc, minimx/rtc/cuda/multi.py. Who asks: minimx/optimizer/fused.py, minimx/amp/scaler.py.
"""

from __future__ import annotations

from ...errors import ArgumentError, DTypeError
from ..dtypes import FLOATS
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, f

LISTS = drawn(case([(2, 3), (4,), ()]), case([(0, 3), (1000,)]))


def checked(where, xs):
    """The operands are arrays of floats."""
    if not xs:
        raise ArgumentError(where, "at least one array", "none", "Pass a list of arrays")
    for x in xs:
        if x.weak or x.dtype not in FLOATS:
            raise DTypeError(where, "arrays of a float type", x.dtype, "Cast with astype")


def multi_sum_squares_grad(gs, ins, outs, attrs, needs):
    return [f.cast((x + x) * gs[0][i], x.dtype) if n else None for i, (x, n) in enumerate(zip(ins, needs, strict=True))]


@kernel(
    grad=multi_sum_squares_grad,
    dtypes=FLOATS,
    against=lambda xs: __import__("numpy").array([(x.astype("float64") ** 2).sum() for x in xs]),
    samples=LISTS,
)
def multi_sum_squares(xs: list, /):
    """The sum of squares of each array: a vector, float32, or float64 if one of them is. The same for any threads."""
    checked("multi_sum_squares", xs)
    dtype = "float64" if any(x.dtype == "float64" for x in xs) else "float32"
    return Plan([((len(xs),), dtype)], "multi_sum_squares", contiguous=True)


@kernel(
    dtypes=FLOATS,
    against=lambda xs: __import__("numpy").array(all(__import__("numpy").isfinite(x).all() for x in xs)),
    samples=LISTS,
)
def multi_all_finite(xs: list, /):
    """Whether no element of any of the arrays is infinite or NaN: one bool."""
    checked("multi_all_finite", xs)
    return Plan([((), "bool")], "multi_all_finite", contiguous=True)
