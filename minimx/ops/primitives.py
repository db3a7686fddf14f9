"""The primitives of the scalar language, one row each: NumPy's twin and the derivative. ``e.tanh(x)`` calls them.

The C++ and CUDA functions of the same names are in csrc/cpu/scalar.h and minimx/rtc/cuda/prelude.h, most of them
in one text for both, csrc/cpu/primitives.h. Which of them users
see, and for which types, is said in ``rows/elemwise.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .expr import PRIMITIVES, Expr, Primitive, call

# Set by minimx.ndarray when arrays exist: runs a primitive on minimx arrays. Without it lambdas run on NumPy.
array_call: Callable[..., Any] | None = None


def _dispatch(name: str) -> Callable[..., Any]:
    def function(*args: Any) -> Any:
        if any(isinstance(a, Expr) for a in args):
            return call(name, *args)
        if array_call is not None and any(hasattr(a, "attach_grad") for a in args):
            return array_call(name, *args)
        return numpy_call(name, *args)

    function.__name__ = name
    return function


def numpy_call(name: str, *args: Any) -> Any:
    """The primitive by NumPy (or SciPy's special functions): the reference that every back end is tested against."""
    import numpy

    where = PRIMITIVES[name].numpy
    if where.startswith("special."):
        import scipy.special

        return getattr(scipy.special, where[8:])(*args)
    if where == "rsqrt":
        return 1 / numpy.sqrt(args[0])
    return getattr(numpy, where)(*args)


class _Namespace:
    """``e``: the primitives as attributes."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in PRIMITIVES:
            raise AttributeError(f"e.{name}: expected a primitive, got an unknown name. See minimx/ops/primitives.py.")
        f = _dispatch(name)
        setattr(self, name, f)
        return f


e: Any = _Namespace()


def primitive(name: str, arity: int, grad: Callable[..., tuple] | None = None, *, numpy: str = "", infix: str = "",
              result: str = "same") -> None:  # fmt: skip
    """Adds a primitive. ``grad(g, *args, y)`` returns an expression (or None) per argument; None: zero derivative."""
    PRIMITIVES[name] = Primitive(name, arity, numpy or name, grad, infix, result)


def _beats(better: Any, other: Any) -> Any:
    """In fmax and fmin the first operand is the result where it is better or the other one is NaN."""
    return e.logical_or(better, e.isnan(other))


def _trigamma(x: Any) -> Any:
    """The derivative of digamma: pi^2 / sin^2(pi x) - trigamma(1 - x) below 1/2, else a sum up to x + 10 and the
    series there (Abramowitz and Stegun 1964, 6.4.7, 6.4.6 and 6.4.12)."""
    z = e.where(x < 0.5, 1 - x, x)
    s = e.sin(math.pi * x)
    total: Any = 0.0
    for k in range(10):
        total = total + 1 / ((z + k) * (z + k))
    r = 1 / (z + 10)
    q = r * r
    tail = q * (1 / 6 - q * (1 / 30 - q * (1 / 42 - q * (1 / 30 - q * (5 / 66 - q * (691 / 2730 - q * (7 / 6)))))))
    total = total + r * (1 + r * 0.5 + tail)
    return e.where(x < 0.5, math.pi * math.pi / (s * s) - total, total)


LN2, LN10 = math.log(2.0), math.log(10.0)
INV_SQRT_PI_2 = 2.0 / math.sqrt(math.pi)

primitive("add", 2, lambda g, a, b, y: (g, g), infix="+")
primitive("subtract", 2, lambda g, a, b, y: (g, -g), infix="-")
primitive("multiply", 2, lambda g, a, b, y: (g * b, g * a), infix="*")
primitive("divide", 2, lambda g, a, b, y: (g / b, -(g * y) / b), infix="/")
primitive("negative", 1, lambda g, x, y: (-g,))
primitive("power", 2, lambda g, a, b, y: (e.where(e.equal(b, 0), 0, g * b * e.power(a, b - 1)),
                                          e.where(e.equal(y, 0), 0, g * y * e.log(a))))  # fmt: skip
primitive("floor_divide", 2)
primitive("remainder", 2, lambda g, a, b, y: (g, -g * e.floor_divide(a, b)))
primitive("fmod", 2, lambda g, a, b, y: (g, -g * e.trunc(a / b)))
primitive("maximum", 2, lambda g, a, b, y: (e.where(a >= b, g, 0), e.where(a >= b, 0, g)))
primitive("minimum", 2, lambda g, a, b, y: (e.where(a <= b, g, 0), e.where(a <= b, 0, g)))
primitive("fmax", 2, lambda g, a, b, y: (e.where(_beats(a >= b, b), g, 0), e.where(_beats(a >= b, b), 0, g)))
primitive("fmin", 2, lambda g, a, b, y: (e.where(_beats(a <= b, b), g, 0), e.where(_beats(a <= b, b), 0, g)))
primitive("abs", 1, lambda g, x, y: (g * e.sign(x),))
primitive("sign", 1)
primitive("floor", 1)
primitive("ceil", 1)
primitive("trunc", 1)
primitive("rint", 1)
primitive("copysign", 2, lambda g, a, b, y: (g * e.sign(a) * e.copysign(1.0, b), None))

primitive("exp", 1, lambda g, x, y: (g * y,))
primitive("exp2", 1, lambda g, x, y: (g * y * LN2,))
primitive("expm1", 1, lambda g, x, y: (g * (y + 1),))
primitive("log", 1, lambda g, x, y: (g / x,))
primitive("log2", 1, lambda g, x, y: (g / (x * LN2),))
primitive("log10", 1, lambda g, x, y: (g / (x * LN10),))
primitive("log1p", 1, lambda g, x, y: (g / (x + 1),))
primitive("sqrt", 1, lambda g, x, y: (g * 0.5 / y,))
primitive("rsqrt", 1, lambda g, x, y: (g * -0.5 * y / x,))
primitive("cbrt", 1, lambda g, x, y: (g / (3 * y * y),))
primitive("sin", 1, lambda g, x, y: (g * e.cos(x),))
primitive("cos", 1, lambda g, x, y: (-g * e.sin(x),))
primitive("tan", 1, lambda g, x, y: (g * (1 + y * y),))
primitive("arcsin", 1, lambda g, x, y: (g * e.rsqrt(1 - x * x),))
primitive("arccos", 1, lambda g, x, y: (-g * e.rsqrt(1 - x * x),))
primitive("arctan", 1, lambda g, x, y: (g / (1 + x * x),))
primitive("arctan2", 2, lambda g, a, b, y: (g * b / (a * a + b * b), -g * a / (a * a + b * b)))
primitive("hypot", 2, lambda g, a, b, y: (e.where(e.equal(y, 0), 0, g * a / y),
                                          e.where(e.equal(y, 0), 0, g * b / y)))  # fmt: skip
primitive("sinh", 1, lambda g, x, y: (g * e.cosh(x),))
primitive("cosh", 1, lambda g, x, y: (g * e.sinh(x),))
primitive("tanh", 1, lambda g, x, y: (g * (1 - y * y),))
primitive("arcsinh", 1, lambda g, x, y: (g * e.rsqrt(x * x + 1),))
primitive("arccosh", 1, lambda g, x, y: (g * e.rsqrt((x - 1) * (x + 1)),))
primitive("arctanh", 1, lambda g, x, y: (g / (1 - x * x),))
primitive("sigmoid", 1, lambda g, x, y: (g * y * (1 - y),), numpy="special.expit")
primitive("erf", 1, lambda g, x, y: (g * INV_SQRT_PI_2 * e.exp(-(x * x)),), numpy="special.erf")
primitive("erfinv", 1, lambda g, x, y: (g / INV_SQRT_PI_2 * e.exp(y * y),), numpy="special.erfinv")
primitive("gammaln", 1, lambda g, x, y: (g * e.digamma(x),), numpy="special.gammaln")
primitive("gamma", 1, lambda g, x, y: (g * y * e.digamma(x),), numpy="special.gamma")
primitive("digamma", 1, lambda g, x, y: (g * _trigamma(x),), numpy="special.digamma")

for _name, _infix in (("less", "<"), ("less_equal", "<="), ("greater", ">"), ("greater_equal", ">="), ("equal", "=="),
                      ("not_equal", "!=")):  # fmt: skip
    primitive(_name, 2, infix=_infix, result="bool")
for _name in ("isnan", "isinf", "isfinite", "signbit"):
    primitive(_name, 1, result="bool")
primitive("logical_and", 2, infix="&&", result="bool")
primitive("logical_or", 2, infix="||", result="bool")
primitive("logical_xor", 2, result="bool")
primitive("logical_not", 1, result="bool")
primitive("bitwise_and", 2, infix="&")
primitive("bitwise_or", 2, infix="|")
primitive("bitwise_xor", 2, infix="^")
primitive("bitwise_not", 1)
primitive("left_shift", 2)
primitive("gcd", 2)
primitive("lcm", 2)
primitive("right_shift", 2)
primitive("where", 3, lambda g, c, a, b, y: (None, e.where(c, g, 0), e.where(c, 0, g)))
