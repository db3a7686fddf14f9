"""Elementwise functions of analysis, one row each: powers, exponentials, logarithms, trigonometry, special functions.

Computed in the operand's float type; integers become float32. Arithmetic is in elemwise.py.
"""

from __future__ import annotations

import functools
import math

from ..kinds.elemwise import elemwise
from ..primitives import LN2, e

# A row reads as a paragraph.
# fmt: off
function = functools.partial(elemwise, typed="float")
POSITIVE, UNIT = (0.1, 5.0), (-0.95, 0.95)

# --- roots ------------------------------------------------------------------------------------------------------------

function("sqrt", lambda x: e.sqrt(x), np="sqrt", nd="sqrt", method="sqrt", domain=POSITIVE, against="numpy.sqrt",
         doc="Square root.",
         example=">>> np.sqrt(np.array([1, 4]))\narray([1., 2.])")
function("rsqrt", lambda x: e.rsqrt(x), npx="rsqrt", nd="rsqrt", method="rsqrt", domain=POSITIVE,
         against=lambda x: x**-0.5, amp="float32", doc="1 / sqrt(x).")
function("cbrt", lambda x: e.cbrt(x), np="cbrt", nd="cbrt", method="cbrt", domain=POSITIVE, against="numpy.cbrt",
         amp="float32", doc="Cube root.")
function("rcbrt", lambda x: 1 / e.cbrt(x), grad=lambda g, x, y: g * y / (-3 * x), npx="rcbrt", nd="rcbrt",
         method="rcbrt", domain=POSITIVE, against=lambda x: x ** (-1 / 3), amp="float32", doc="1 / cbrt(x).")
function("hypot", lambda x1, x2: e.hypot(x1, x2), np="hypot", nd="broadcast_hypot", against="numpy.hypot",
         amp="float32", doc="sqrt(x1^2 + x2^2) without overflow in between; the gradient at (0, 0) is 0.")

# --- exponentials and logarithms --------------------------------------------------------------------------------------

function("exp", lambda x: e.exp(x), np="exp", nd="exp", method="exp", against="numpy.exp",
amp="float32", doc="e to the power x.",
         example=">>> np.exp(np.array([0, 1]))\narray([1.       , 2.7182817])")
function("exp2", lambda x: e.exp2(x), np="exp2", against="numpy.exp2", amp="float32", doc="2 to the power x.")
function("expm1", lambda x: e.expm1(x), np="expm1", nd="expm1", method="expm1", against="numpy.expm1",
         amp="float32", doc="e^x - 1, exact near 0.")
function("log", lambda x: e.log(x), np="log", nd="log", method="log", domain=POSITIVE, against="numpy.log",
amp="float32", doc="ln x.",
         example=">>> np.log(np.array([1, 2]))\narray([0.       , 0.6931472])")
function("log2", lambda x: e.log2(x), np="log2", nd="log2", method="log2", domain=POSITIVE, against="numpy.log2",
         amp="float32", doc="Logarithm to base 2.",
         example=">>> np.log2(np.array([1, 8]))\narray([0., 3.])")
function("log10", lambda x: e.log10(x), np="log10", nd="log10", method="log10", domain=POSITIVE, against="numpy.log10",
         amp="float32", doc="Logarithm to base 10.")
function("log1p", lambda x: e.log1p(x), np="log1p", nd="log1p", method="log1p", domain=(-0.9, 5.0),
         against="numpy.log1p",
         amp="float32", doc="ln(1 + x), exact near 0.")
function("logaddexp", lambda x1, x2: e.where(e.equal(x1, x2), x1 + LN2,
                                             e.maximum(x1, x2) + e.log1p(e.exp(-e.abs(x1 - x2)))),
         grad=lambda g, x1, x2, y: (g * e.exp(x1 - y), g * e.exp(x2 - y)), np="logaddexp", against="numpy.logaddexp",
         amp="float32", doc="ln(e^x1 + e^x2) without overflow.")

# --- trigonometry -----------------------------------------------------------------------------------------------------

function("sin", lambda x: e.sin(x), np="sin", nd="sin", method="sin", against="numpy.sin", doc="Sine of x in radians.",
         example=">>> np.sin(np.array([0, np.pi / 2]))\narray([0., 1.])")
function("cos", lambda x: e.cos(x), np="cos", nd="cos", method="cos", against="numpy.cos",
         doc="Cosine of x in radians.",
         example=">>> np.cos(np.array([0, 1]))\narray([1.       , 0.5403023])")
function("tan", lambda x: e.tan(x), np="tan", nd="tan", method="tan", domain=(-1.2, 1.2), against="numpy.tan",
         amp="float32", doc="Tangent of x in radians.")
function("arcsin", lambda x: e.arcsin(x), np="arcsin asin", nd="arcsin", method="arcsin", domain=UNIT,
         against="numpy.arcsin",
         amp="float32", doc="Inverse sine, in [-pi/2, pi/2].")
function("arccos", lambda x: e.arccos(x), np="arccos acos", nd="arccos", method="arccos", domain=UNIT,
         against="numpy.arccos",
         amp="float32", doc="Inverse cosine, in [0, pi].")
function("arctan", lambda x: e.arctan(x), np="arctan atan", nd="arctan", method="arctan", against="numpy.arctan",
         doc="Inverse tangent, in [-pi/2, pi/2].")
function("arctan2", lambda x1, x2: e.arctan2(x1, x2), np="arctan2 atan2", domain=((-3.0, 3.0), (0.5, 3.0)),
         against="numpy.arctan2", doc="Angle of the point (x2, x1), in [-pi, pi].")
function("degrees", lambda x: x * (180 / math.pi), np="degrees rad2deg", nd="degrees", method="degrees",
         against="numpy.degrees", doc="Radians as degrees.")
function("radians", lambda x: x * (math.pi / 180), np="radians deg2rad", nd="radians", method="radians",
         against="numpy.radians", doc="Degrees as radians.")

# --- hyperbolic functions ---------------------------------------------------------------------------------------------

function("sinh", lambda x: e.sinh(x), np="sinh", nd="sinh", method="sinh", against="numpy.sinh",
         amp="float32", doc="(e^x - e^-x) / 2.")
function("cosh", lambda x: e.cosh(x), np="cosh", nd="cosh", method="cosh", against="numpy.cosh",
         amp="float32", doc="(e^x + e^-x) / 2.")
function("tanh", lambda x: e.tanh(x), np="tanh", npx="tanh", nd="tanh", method="tanh", against="numpy.tanh",
         doc="Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x).",
         example=">>> np.tanh(np.array([0, 1]))\narray([0.        , 0.76159424])")
function("arcsinh", lambda x: e.arcsinh(x), np="arcsinh asinh", nd="arcsinh", method="arcsinh", against="numpy.arcsinh",
         doc="ln(x + sqrt(x^2 + 1)).")
function("arccosh", lambda x: e.arccosh(x), np="arccosh acosh", nd="arccosh", method="arccosh", domain=(1.2, 5.0),
         against="numpy.arccosh", amp="float32", doc="ln(x + sqrt(x^2 - 1)), not negative.")
function("arctanh", lambda x: e.arctanh(x), np="arctanh atanh", nd="arctanh", method="arctanh", domain=UNIT,
         against="numpy.arctanh", amp="float32", doc="ln((1 + x) / (1 - x)) / 2.")

# --- special functions ------------------------------------------------------------------------------------------------

function("erf", lambda x: e.erf(x), npx="erf", nd="erf", against="scipy.special.erf",
         doc="Error function: 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.")
function("erfinv", lambda x: e.erfinv(x), npx="erfinv", nd="erfinv", domain=UNIT, against="scipy.special.erfinv",
         amp="float32", doc="Inverse of erf; start by Giles 2010, Approximating the erfinv function.")
function("gamma", lambda x: e.gamma(x), npx="gamma", nd="gamma", domain=POSITIVE, against="scipy.special.gamma",
         amp="float32", doc="Gamma function: (x - 1)! for whole x.")
function("gammaln", lambda x: e.gammaln(x), npx="gammaln lgamma", nd="gammaln", domain=POSITIVE,
         against="scipy.special.gammaln", amp="float32", doc="ln |Gamma(x)|.")
function("digamma", lambda x: e.digamma(x), npx="digamma", nd="digamma", domain=POSITIVE,
         against="scipy.special.digamma", amp="float32", doc="d/dx ln Gamma(x).")
