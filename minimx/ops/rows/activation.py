"""Activation functions and pointwise parts of losses, one row each, in forms that neither overflow nor cancel.

Gradients save as little as they can: relu, sigmoid, tanh, elu and the like only their output. Layers that use them:
minimx/gluon/nn/activations.py.
"""

from __future__ import annotations

import functools
import math

from ..kinds.elemwise import elemwise
from ..primitives import e

# A row reads as a paragraph.
# fmt: off
activation = functools.partial(elemwise, typed="float")

# --- piecewise linear -------------------------------------------------------------------------------------------------

elemwise("relu", lambda x: e.maximum(x, 0), grad=lambda g, x, y: e.where(y > 0, g, 0), npx="relu", nd="relu",
         method="relu", against=lambda x: x * (x > 0),
         doc="max(x, 0); its gradient at 0 is 0. Nair and Hinton 2010, ICML.",
         example=">>> npx.relu(np.array([-1, 2]))\narray([0., 2.])")
activation("prelu", lambda x, alpha: e.where(x > 0, x, alpha * x),
           grad=lambda g, x, alpha, y: (e.where(x > 0, g, g * alpha), e.where(x > 0, 0, g * x)),
           domain=((-3.0, 3.0), (0.1, 0.4)), against=lambda x, alpha: x * (x > 0) + alpha * x * (x <= 0),
           doc="x where positive, else alpha * x: a learned alpha (He et al. 2015, arXiv:1502.01852) or a fixed one, "
               "then called leaky (Maas, Hannun and Ng 2013, ICML).")
activation("relu6", lambda x: e.minimum(e.maximum(x, 0), 6),
           grad=lambda g, x, y: e.where(y > 0, e.where(y < 6, g, 0), 0),
           npx="relu6", nd="relu6", domain=(-3.0, 9.0), against=lambda x: x * (x > 0) * (x < 6) + 6.0 * (x >= 6),
           doc="min(max(x, 0), 6). Krizhevsky 2010, Convolutional deep belief networks on CIFAR-10.")
activation("hard_tanh", lambda x: e.minimum(e.maximum(x, -1), 1),
           grad=lambda g, x, y: e.where(y > -1, e.where(y < 1, g, 0), 0), npx="hard_tanh", nd="hard_tanh",
           against=lambda x: x.clip(-1, 1), doc="min(max(x, -1), 1).")
activation("hard_sigmoid", lambda x, alpha=0.2, beta=0.5: e.minimum(e.maximum(alpha * x + beta, 0), 1),
           grad=lambda g, x, alpha, beta, y: (e.where(y > 0, e.where(y < 1, g * alpha, 0), 0),
                                              e.where(y > 0, e.where(y < 1, g * x, 0), 0),
                                              e.where(y > 0, e.where(y < 1, g, 0), 0)),
           npx="hard_sigmoid", nd="hard_sigmoid", domain=((-5.0, 5.0), (0.15, 0.25), (0.4, 0.6)),
           against=lambda x, alpha=0.2, beta=0.5: (alpha * x + beta).clip(0, 1),
           doc="min(max(alpha * x + beta, 0), 1). Courbariaux, Bengio and David 2015, arXiv:1511.00363.")
activation("hard_swish", lambda x: x * e.minimum(e.maximum(x + 3, 0), 6) / 6,
           grad=lambda g, x, y: e.where(x > -3, e.where(x < 3, g * (x / 3 + 0.5), g), 0), npx="hard_swish",
           nd="hard_swish", domain=(-5.0, 5.0), against=lambda x: x * (x + 3).clip(0, 6) / 6,
           doc="x * min(max(x + 3, 0), 6) / 6. Howard et al. 2019, arXiv:1905.02244.")

# --- exponential ------------------------------------------------------------------------------------------------------

activation("sigmoid", lambda x: e.sigmoid(x), npx="sigmoid", nd="sigmoid", method="sigmoid",
           against="scipy.special.expit",
           doc="1 / (1 + e^-x).",
           example=">>> npx.sigmoid(np.array([0, 2]))\narray([0.5     , 0.880797])")
activation("log_sigmoid", lambda x: e.minimum(x, 0) - e.log1p(e.exp(-e.abs(x))), grad=lambda g, x, y: g * e.sigmoid(-x),
           npx="log_sigmoid", nd="log_sigmoid", method="log_sigmoid", against="scipy.special.log_expit",
           amp="float32", doc="ln(1 / (1 + e^-x)).")
activation("softplus", lambda x: e.maximum(x, 0) + e.log1p(e.exp(-e.abs(x))), grad=lambda g, x, y: g * e.sigmoid(x),
           npx="softplus softrelu", nd="softplus softrelu",
           against=[(0.0, 0.6931471805599453), (2.0, 2.1269280110429727)],
           amp="float32", doc="ln(1 + e^x). Dugas et al. 2000, NIPS.")
activation("softsign", lambda x: x / (1 + e.abs(x)), grad=lambda g, x, y: g * (1 - e.abs(y)) * (1 - e.abs(y)),
           npx="softsign", nd="softsign", method="softsign", against=lambda x: x / (1 + abs(x)),
           doc="x / (1 + |x|). Turian, Bergstra and Bengio 2009, NAACL.")
activation("elu", lambda x, alpha=1.0: e.where(x > 0, x, alpha * e.expm1(x)),
           grad=lambda g, x, alpha, y: (e.where(x > 0, g, g * (y + alpha)), e.where(x > 0, 0, g * e.expm1(x))),
           npx="elu", domain=((-3.0, 3.0), (0.5, 2.0)), against=[(1.5, 1.5), (-1.0, -0.6321205588285577)],
           doc="x where positive, else alpha * (e^x - 1). Clevert, Unterthiner and Hochreiter 2015, arXiv:1511.07289.")

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
activation("selu", lambda x: SELU_SCALE * e.where(x > 0, x, SELU_ALPHA * e.expm1(x)),
           grad=lambda g, x, y: e.where(y > 0, g * SELU_SCALE, g * (y + SELU_SCALE * SELU_ALPHA)), npx="selu",
           against=[(1.0, 1.0507009873554805), (-1.0, -1.1113307378125625)],
           doc="1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1. Klambauer et al. 2017, arXiv:1706.02515.")

# --- gated: x times a smooth step -------------------------------------------------------------------------------------

SQRT_HALF, INV_SQRT_2PI = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
activation("gelu", lambda x: 0.5 * x * (1 + e.erf(x * SQRT_HALF)),
           grad=lambda g, x, y: g * (0.5 * (1 + e.erf(x * SQRT_HALF)) + x * e.exp(-0.5 * x * x) * INV_SQRT_2PI),
           npx="gelu", nd="gelu", against=[(0.0, 0.0), (1.0, 0.8413447460685429), (-0.5, -0.15426876936299344)],
           doc="x * Phi(x) with the normal distribution Phi. Hendrycks and Gimpel 2016, arXiv:1606.08415.",
           example=">>> npx.gelu(np.array([-1, 0, 1]))\narray([-0.15865526,  0.        ,  0.8413447 ])")

GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gelu_step(x):
    return e.tanh(GELU_SCALE * x * (1 + GELU_CUBE * x * x))


def _gelu_tanh_grad(g, x, y):
    t = _gelu_step(x)
    tail = 0.5 * x * (1 - t * t) * (GELU_SCALE * (1 + 3 * GELU_CUBE * x * x))
    return g * (0.5 * (1 + t) + e.where(e.abs(x) < 10, tail, 0))  # beyond 10 the tail is 0, its factors may overflow


activation("gelu_tanh", lambda x: 0.5 * x * (1 + _gelu_step(x)), grad=_gelu_tanh_grad, npx="gelu_tanh",
           against=[(0.0, 0.0), (1.0, 0.8411919906082768), (-0.5, -0.15428599017485606)],
           doc="gelu with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) for erf. Hendrycks and Gimpel, arXiv:1606.08415.")


def _silu_grad(g, x, y):
    s = e.sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


activation("silu", lambda x: x * e.sigmoid(x), grad=_silu_grad, npx="silu", nd="silu",
           against=[(0.0, 0.0), (1.0, 0.7310585786300049), (-2.0, -0.23840584404423537)],
           doc="x / (1 + e^-x). Elfwing, Uchibe and Doya 2017, arXiv:1702.03118.")


def _swish_grad(g, x, beta, y):
    s = e.sigmoid(beta * x)
    return g * (s * (1 + beta * x * (1 - s))), g * (x * x * s * (1 - s))


activation("swish", lambda x, beta=1.0: x * e.sigmoid(beta * x), grad=_swish_grad, npx="swish", nd="swish",
           domain=((-3.0, 3.0), (0.5, 2.0)), against=[(0.0, 0.0), (1.0, 0.7310585786300049)],
           doc="x / (1 + e^(-beta * x)). Ramachandran, Zoph and Le 2017, arXiv:1710.05941.")


def _mish_step(x):
    """tanh(ln(1 + e^x)) = n / (n + 2) with n = e^x (e^x + 2); from 20 on it is 1."""
    z = e.exp(e.minimum(x, 20))
    n = z * (z + 2)
    return n / (n + 2)


def _mish_grad(g, x, y):
    t = _mish_step(x)
    return g * (t + x * ((1 - t * t) * e.sigmoid(x)))


activation("mish", lambda x: x * _mish_step(x), grad=_mish_grad, npx="mish", nd="mish",
           against=[(0.0, 0.0), (1.0, 0.8650983882673103), (-1.0, -0.30340146137410895)],
           doc="x * tanh(ln(1 + e^x)). Misra 2019, arXiv:1908.08681.")

# --- pointwise parts of losses ----------------------------------------------------------------------------------------

activation("smooth_l1", lambda x, scalar=1.0: e.where(e.abs(x) * scalar * scalar < 1, 0.5 * scalar * scalar * x * x,
                                                      e.abs(x) - 0.5 / (scalar * scalar)),
           grad=lambda g, x, scalar, y: (
               e.where(e.abs(x) * scalar * scalar < 1, g * (scalar * scalar * x), g * e.sign(x)),
               e.where(e.abs(x) * scalar * scalar < 1, g * (scalar * x * x), g / (scalar * scalar * scalar))),
           npx="smooth_l1", nd="smooth_l1", domain=((-3.0, 3.0), (0.8, 1.5)),
           against=lambda x, scalar=1.0: ((abs(x) < scalar**-2) * (scalar * x) ** 2 / 2
                                          + (abs(x) >= scalar**-2) * (abs(x) - 0.5 * scalar**-2)),
           amp="float32",
           doc="(scalar * x)^2 / 2 where |x| < 1 / scalar^2, else |x| - 1 / (2 scalar^2). Girshick, arXiv:1504.08083.")
activation("huber", lambda x, rho=1.0: e.where(e.abs(x) < rho, 0.5 / rho * x * x, e.abs(x) - 0.5 * rho),
           grad=lambda g, x, rho, y: (e.where(e.abs(x) < rho, g * (x / rho), g * e.sign(x)),
                                      e.where(e.abs(x) < rho, g * (-0.5 * x * x / (rho * rho)), g * -0.5)),
           domain=((-3.0, 3.0), (0.5, 2.0)),
           against=lambda x, rho=1.0: (abs(x) < rho) * x**2 / (2 * rho) + (abs(x) >= rho) * (abs(x) - rho / 2),
           amp="float32", doc="x^2 / (2 rho) where |x| < rho, else |x| - rho / 2. Huber 1964, Ann. Math. Statist. 35.")
activation("sigmoid_cross_entropy", lambda x, label: e.maximum(x, 0) - x * label + e.log1p(e.exp(-e.abs(x))),
           grad=lambda g, x, label, y: (g * (e.sigmoid(x) - label), -(g * x)), domain=((-3.0, 3.0), (0.0, 1.0)),
           against=[((0.0, 1.0), 0.6931471805599453), ((2.0, 0.0), 2.1269280110429727)],
           amp="float32", doc="-label * ln(s) - (1 - label) * ln(1 - s) with s = sigmoid(x), from the logits x.")
