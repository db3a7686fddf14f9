"""Elementwise operators, one row each. To add one, add a row here and nothing anywhere else.

The scalar language is ``e`` (minimx/ops/primitives.py). ``against`` names the independent reference of the tests.
"""

from __future__ import annotations

from ..kinds.elemwise import elemwise
from ..primitives import e

elemwise("add", lambda x1, x2: x1 + x2, typed="any", np="add", nd="elemwise_add broadcast_add", against="numpy.add", doc="x1 + x2.")
elemwise("subtract", lambda x1, x2: x1 - x2, np="subtract", against="numpy.subtract", doc="x1 - x2.")
elemwise("multiply", lambda x1, x2: x1 * x2, typed="any", np="multiply", against="numpy.multiply", doc="x1 * x2.")
elemwise("divide", lambda x1, x2: x1 / x2, typed="float", np="divide true_divide", against="numpy.divide", doc="x1 / x2.")
elemwise("negative", lambda x: -x, np="negative", against="numpy.negative", doc="-x.")
elemwise("exp", lambda x: e.exp(x), typed="float", np="exp", method="exp", against="numpy.exp", doc="e to the power x.")
elemwise("log", lambda x: e.log(x), typed="float", np="log", method="log", against="numpy.log", domain=(0.1, 5), doc="ln x.")
elemwise("tanh", lambda x: e.tanh(x), typed="float", np="tanh", method="tanh", against="numpy.tanh", doc="Hyperbolic tangent.")
elemwise("relu", lambda x: e.maximum(x, 0), grad=lambda g, x, y: e.where(y > 0, g, 0), npx="relu", nd="relu",
         method="relu", against=lambda x: x * (x > 0), doc="max(x, 0).")  # fmt: skip
elemwise("gelu", lambda x: 0.5 * x * (1 + e.erf(x * 0.7071067811865476)), typed="float", npx="gelu", nd="gelu",
         against=[(0.0, 0.0), (1.0, 0.8413447460685429)], doc="x * Phi(x), Hendrycks and Gimpel 2016, arXiv:1606.08415.")  # fmt: skip
elemwise("where", lambda condition, x, y: e.where(condition, x, y), typed="any", condition=True, np="where", against="numpy.where",
         doc="x where condition, else y.")  # fmt: skip
elemwise("greater", lambda x1, x2: x1 > x2, typed="any", np="greater", against="numpy.greater", doc="x1 > x2.")
