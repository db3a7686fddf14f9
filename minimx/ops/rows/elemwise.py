"""Elementwise arithmetic, comparison, logic and rounding, one row each.

To add an operator, add a row and nothing anywhere else. The scalar language is ``e``
(minimx/ops/primitives.py); ``against`` names the independent reference of the tests. Functions of
analysis are in mathematics.py, those of neural networks in activation.py.
"""

from __future__ import annotations

import functools
import math

from ..dtypes import INTEGERS, NUMBERS, is_float
from ..kinds.composite import composite
from ..kinds.elemwise import elemwise
from ..primitives import e
from ..samples import case, drawn
from ..table import f

# A row reads as a paragraph.
# fmt: off
SAFE = (0.5, 3.0)  # a domain without the neighbourhood of zero
arithmetic = functools.partial(elemwise, domain=((-3.0, 3.0), SAFE))
compare = functools.partial(elemwise, typed="any")

# --- arithmetic -------------------------------------------------------------------------------------------------------

elemwise("add", lambda x1, x2: x1 + x2, typed="any", np="add", nd="elemwise_add broadcast_add broadcast_plus",
         against="numpy.add", doc="x1 + x2; of bools: either.",
         example=">>> np.add(np.array([1, 2]), 0.5)\narray([1.5, 2.5])")
elemwise("subtract", lambda x1, x2: x1 - x2, np="subtract", nd="elemwise_sub broadcast_sub broadcast_minus",
         against="numpy.subtract", doc="x1 - x2.")
elemwise("multiply", lambda x1, x2: x1 * x2, typed="any", np="multiply", nd="elemwise_mul broadcast_mul",
         against="numpy.multiply", doc="x1 * x2; of bools: both.",
         example=">>> np.multiply(np.array([[1], [2]]), np.array([3, 4]))\narray([[3., 4.],\n       [6., 8.]])")
arithmetic("divide", lambda x1, x2: x1 / x2, typed="float", np="divide true_divide", nd="elemwise_div broadcast_div",
           against="numpy.divide", doc="x1 / x2; of integers in float32.")
arithmetic("floor_divide", lambda x1, x2: e.floor_divide(x1, x2), np="floor_divide", against="numpy.floor_divide",
           doc="Largest whole number not above x1 / x2. Integers by zero give 0.")
arithmetic("remainder", lambda x1, x2: e.remainder(x1, x2), np="remainder mod", nd="broadcast_mod modulo",
           against="numpy.remainder", doc="x1 - x2 * floor(x1 / x2), of the sign of x2. Integers by zero give 0.")
arithmetic("fmod", lambda x1, x2: e.fmod(x1, x2), np="fmod", against="numpy.fmod",
           doc="x1 - x2 * trunc(x1 / x2), of the sign of x1. Integers by zero give 0.")
elemwise("power", lambda x1, x2: e.power(x1, x2), np="power pow", nd="broadcast_power", domain=(SAFE, (0.0, 3.0)),
         against="numpy.power",
         amp="float32", doc="x1 to the power x2. Integers stay integers; their negative powers are truncated to 0.",
         example=">>> np.power(np.array([1, 2, 3]), 2)\narray([1., 4., 9.])")
elemwise("negative", lambda x: -x, np="negative", nd="negative", against="numpy.negative", doc="-x.")
elemwise("positive", lambda x: x, np="positive", against="numpy.positive", doc="x itself, as a new array.")
elemwise("reciprocal", lambda x: 1 / x, grad=lambda g, x, y: -g * y * y, typed="float", np="reciprocal",
         nd="reciprocal", domain=SAFE, against=lambda x: 1 / x, amp="float32", doc="1 / x.")
elemwise("square", lambda x: x * x, grad=lambda g, x, y: g * (x + x), np="square", nd="square", method="square",
         against="numpy.square", doc="x * x.",
         example=">>> np.square(np.array([-1, 2]))\narray([1., 4.])")
elemwise("abs", lambda x: e.abs(x), np="abs absolute fabs", nd="abs", method="abs", against="numpy.abs",
         doc="|x|; its gradient at 0 is 0.",
         example=">>> np.abs(np.array([-1, 2]))\narray([1., 2.])")
elemwise("sign", lambda x: e.sign(x), np="sign", nd="sign", method="sign", against="numpy.sign", doc="-1, 0 or 1.",
         example=">>> np.sign(np.array([-3, 0, 2]))\narray([-1.,  0.,  1.])")
elemwise("copysign", lambda x1, x2: e.copysign(x1, x2), typed="float", np="copysign", against="numpy.copysign",
         doc="|x1| with the sign of x2, also that of -0.")
elemwise("ldexp", lambda x1, x2: x1 * e.exp2(x2), typed="float", np="ldexp", against=lambda x1, x2: x1 * 2.0**x2,
         amp="float32", doc="x1 * 2^x2, for any real x2.")
elemwise("gcd", lambda x1, x2: e.gcd(x1, x2), typed="integer", np="gcd", dtypes=INTEGERS, domain=(-12, 12),
         against="numpy.gcd", doc="Greatest common divisor, not negative.")
elemwise("lcm", lambda x1, x2: e.lcm(x1, x2), typed="integer", np="lcm", dtypes=INTEGERS, domain=(-11, 11),
         against="numpy.lcm", doc="Lowest common multiple, not negative.")

# --- order ------------------------------------------------------------------------------------------------------------

elemwise("maximum", lambda x1, x2: e.maximum(x1, x2), typed="any", np="maximum", nd="broadcast_maximum maximum",
         against="numpy.maximum", doc="The larger one, NaN if either is. Where they are equal x1 takes the gradient.",
         example=">>> np.maximum(np.array([-1, 2]), 0)\narray([0., 2.])")
elemwise("minimum", lambda x1, x2: e.minimum(x1, x2), typed="any", np="minimum", nd="broadcast_minimum minimum",
         against="numpy.minimum", doc="The smaller one, NaN if either is. Where they are equal x1 takes the gradient.",
         example=">>> np.minimum(np.array([-1, 2]), 0)\narray([-1.,  0.])")
elemwise("fmax", lambda x1, x2: e.fmax(x1, x2), typed="any", np="fmax", against="numpy.fmax",
         doc="The larger one; a NaN gives way to a number.")
elemwise("fmin", lambda x1, x2: e.fmin(x1, x2), typed="any", np="fmin", against="numpy.fmin",
         doc="The smaller one; a NaN gives way to a number.")


def _clip(x, a_min=None, a_max=None):
    x = x if a_min is None else e.maximum(x, a_min)
    return x if a_max is None else e.minimum(x, a_max)


elemwise("clip", _clip, np="clip", nd="clip", method="clip", domain=((-3.0, 3.0), (-2.0, 0.0), (1.0, 2.0)),
         against="numpy.clip",
         doc="min(max(x, a_min), a_max); either bound may be None. The gradient passes within the bounds.",
         example=">>> np.clip(np.array([-2, 0.5, 3]), -1, 1)\narray([-1. ,  0.5,  1. ])")

compare("equal", lambda x1, x2: e.equal(x1, x2), np="equal", nd="broadcast_equal equal", against="numpy.equal",
        doc="x1 == x2.")
compare("not_equal", lambda x1, x2: e.not_equal(x1, x2), np="not_equal", nd="broadcast_not_equal not_equal",
        against="numpy.not_equal", doc="x1 != x2.")
compare("less", lambda x1, x2: e.less(x1, x2), np="less", nd="broadcast_lesser lesser", against="numpy.less",
        doc="x1 < x2.")
compare("less_equal", lambda x1, x2: e.less_equal(x1, x2), np="less_equal", nd="broadcast_lesser_equal lesser_equal",
        against="numpy.less_equal", doc="x1 <= x2.")
compare("greater", lambda x1, x2: e.greater(x1, x2), np="greater", nd="broadcast_greater greater",
        against="numpy.greater",
        doc="x1 > x2.")
compare("greater_equal", lambda x1, x2: e.greater_equal(x1, x2), np="greater_equal",
        nd="broadcast_greater_equal greater_equal", against="numpy.greater_equal", doc="x1 >= x2.")
elemwise("where", lambda condition, x, y: e.where(condition, x, y), typed="any", condition=True, np="where", nd="where",
         against="numpy.where", doc="x where condition, else y.",
         example=">>> np.where(np.array([True, False]), np.array([1, 2]), 0)\narray([1., 0.])")
elemwise("heaviside", lambda x1, x2: e.where(e.isnan(x1), x1, e.where(e.equal(x1, 0), x2, e.where(x1 > 0, 1, 0))),
         typed="float", np="heaviside", differentiable=False, against="numpy.heaviside",
         doc="0 for negative x1, 1 for positive, x2 at 0.")

# --- kinds of numbers -------------------------------------------------------------------------------------------------

compare("isnan", lambda x: e.isnan(x), np="isnan", npx="isnan", method="isnan", against="numpy.isnan",
        doc="Is x not a number?")
compare("isinf", lambda x: e.isinf(x), np="isinf", npx="isinf", method="isinf", against="numpy.isinf",
        doc="Is x infinite?")
compare("isfinite", lambda x: e.isfinite(x), np="isfinite", npx="isfinite", against="numpy.isfinite",
        doc="Is x neither infinite nor NaN?")
elemwise("isposinf", lambda x: e.equal(x, math.inf), typed="float", np="isposinf", against="numpy.isposinf",
         doc="Is x inf?")
elemwise("isneginf", lambda x: e.equal(x, -math.inf), typed="float", np="isneginf", against="numpy.isneginf",
         doc="Is x -inf?")
elemwise("signbit", lambda x: e.signbit(x), np="signbit", against="numpy.signbit", doc="Has x a minus sign, also -0?")
elemwise("replace_nonfinite", lambda x, nan, posinf, neginf: e.where(
             e.isnan(x), nan, e.where(e.equal(x, math.inf), posinf, e.where(e.equal(x, -math.inf), neginf, x))),
         typed="float", against=lambda x, nan, posinf, neginf: x,
         doc="x with NaN and the two infinities replaced: one kernel for nan_to_num.")

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38,
            "float64": 1.7976931348623157e308}


@composite(np="nan_to_num", against="numpy.nan_to_num", samples=drawn(case((2, 3), nan=1.0)))
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """``x`` with NaN replaced by ``nan``, the infinities by ``posinf`` and ``neginf`` (default: the largest)."""
    if str(x.dtype) not in _LARGEST:
        return x
    largest = _LARGEST[str(x.dtype)]
    return f.replace_nonfinite(x, nan, largest if posinf is None else posinf, -largest if neginf is None else neginf)


# --- logic and bits ---------------------------------------------------------------------------------------------------

compare("logical_and", lambda x1, x2: e.logical_and(x1, x2), np="logical_and", nd="broadcast_logical_and logical_and",
        against="numpy.logical_and", doc="Are both not zero?")
compare("logical_or", lambda x1, x2: e.logical_or(x1, x2), np="logical_or", nd="broadcast_logical_or logical_or",
        against="numpy.logical_or", doc="Is either not zero?")
compare("logical_xor", lambda x1, x2: e.logical_xor(x1, x2), np="logical_xor", nd="broadcast_logical_xor logical_xor",
        against="numpy.logical_xor", doc="Is just one of them not zero?")
compare("logical_not", lambda x: e.logical_not(x), np="logical_not", nd="logical_not", against="numpy.logical_not",
        doc="Is x zero?")

bits = functools.partial(elemwise, typed="integer", domain=(-10, 10))
bits("bitwise_and", lambda x1, x2: e.bitwise_and(x1, x2), np="bitwise_and", against="numpy.bitwise_and",
     doc="Bits set in both.")
bits("bitwise_or", lambda x1, x2: e.bitwise_or(x1, x2), np="bitwise_or", against="numpy.bitwise_or",
     doc="Bits set in either.")
bits("bitwise_xor", lambda x1, x2: e.bitwise_xor(x1, x2), np="bitwise_xor", against="numpy.bitwise_xor",
     doc="Bits set in one.")
bits("bitwise_not", lambda x: e.bitwise_not(x), np="bitwise_not invert bitwise_invert", against="numpy.bitwise_not",
     doc="Every bit flipped; of bools: not.")
bits("left_shift", lambda x1, x2: e.left_shift(x1, x2), np="left_shift bitwise_left_shift", dtypes=INTEGERS,
     domain=((-10, 10), (0, 4)), against="numpy.left_shift",
     doc="x1 * 2^x2, wrapping; shifts by the width or more give 0.")
bits("right_shift", lambda x1, x2: e.right_shift(x1, x2), np="right_shift bitwise_right_shift", dtypes=INTEGERS,
     domain=((-10, 10), (0, 4)), against="numpy.right_shift", doc="floor(x1 / 2^x2).")

# --- rounding ---------------------------------------------------------------------------------------------------------

rounding = functools.partial(elemwise, dtypes=NUMBERS)
rounding("floor", lambda x: e.floor(x), np="floor", nd="floor", method="floor", against="numpy.floor",
         doc="Down to a whole number.")
rounding("ceil", lambda x: e.ceil(x), np="ceil", nd="ceil", method="ceil", against="numpy.ceil",
         doc="Up to a whole number.")
rounding("trunc", lambda x: e.trunc(x), np="trunc fix", nd="trunc fix", method="trunc fix", against="numpy.trunc",
         doc="Towards zero to a whole number.")
rounding("rint", lambda x: e.rint(x), np="rint", nd="rint", method="rint", against="numpy.rint",
         doc="To the nearest whole number, halves to the even one.")


@composite(np="round around round_", method="round", nd="round", against="numpy.round", samples=drawn(case((2, 3),
         decimals=1)))
def round(x, decimals=0):
    """``x`` rounded to ``decimals`` places after the point (before it if negative), halves to the even digit."""
    whole = not is_float(str(x.dtype))
    if decimals == 0 or (whole and decimals > 0):
        return f.rint(x)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return f.rint(x * scale) / scale
    rounded = f.rint((f.cast(x, "float64") if whole else x) / scale) * scale
    return f.cast(rounded, str(x.dtype)) if whole else rounded
