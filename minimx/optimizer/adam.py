"""Update rules with means of the gradient (m) and of its square (v): Adam, AdamW, Adamax, Nadam, LAMB.

w: weight, g: gradient, lr: learning rate, wd: weight decay, t: number of this update. Corrections for the start (powers
of the betas) are numbers, computed once a step in ``derived``.
"""

from __future__ import annotations

import math
from typing import Any

from .. import np
from .optimizer import Optimizer, checked, register

__all__ = ["Adam", "AdamW", "Adamax", "Nadam", "LAMB"]


class _Moments(Optimizer):
    """Base: m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2."""

    def __init__(self, learning_rate: float | None, beta1: float, beta2: float, epsilon: float, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        checked(type(self).__name__, beta1=beta1, beta2=beta2)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def state_names(self) -> tuple[str, ...]:
        return "mean", "var"

    def scalars(self, index: Any) -> dict[str, float]:
        betas = {"beta1": self.beta1, "beta2": self.beta2, "gain1": 1 - self.beta1, "gain2": 1 - self.beta2}
        return {**super().scalars(index), **betas, "epsilon": self.epsilon, "t": self.update_count(index)}


def corrections(numbers: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """(1 - beta1^t, 1 - beta2^t) of numbers with ``t``, and the other numbers."""
    rest = {k: v for k, v in numbers.items() if k != "t"}
    return correction(rest["beta1"], numbers["t"]), correction(rest["beta2"], numbers["t"]), rest


def correction(beta: Any, t: Any) -> Any:
    """1 - beta^t; where t is an array, whose powers near 1 would be too coarse, as 1 - e^(t ln beta)."""
    if isinstance(t, int | float) or (isinstance(beta, float) and beta == 0):
        return 1 - beta**t
    return -np.expm1(t * (math.log(beta) if isinstance(beta, float) else np.log(beta)))


def moments(g: Any, states: tuple, beta1: float, beta2: float, gain1: float, gain2: float) -> tuple[Any, Any]:
    """The new m and v. gain is 1 - beta, taken in double precision: in float32, 1 - 0.999 would be off by 5e-5."""
    m, v = states
    return beta1 * m + gain1 * g, beta2 * v + gain2 * np.square(g)


@register
class Adam(_Moments):
    """w = w - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + epsilon), with g + wd w for g.

    Kingma and Ba 2014, arXiv:1412.6980, in the form before section 2.1, with epsilon not corrected.
    """

    usual_lr = 0.001

    def __init__(
        self,
        learning_rate: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        c1, c2, numbers = corrections(numbers)
        return numbers | {"lr": numbers["lr"] * c2**0.5 / c1}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        beta1: float,
        beta2: float,
        gain1: float,
        gain2: float,
        epsilon: float,
    ) -> tuple:
        m, v = moments(g + wd * w, states, beta1, beta2, gain1, gain2)
        return w - lr * m / (np.sqrt(v) + epsilon), m, v


@register
class AdamW(_Moments):
    """w = w - lr (c m / (sqrt(v) + epsilon) + wd w), c = sqrt(1 - beta2^t) / (1 - beta1^t) with correct_bias, else 1.

    Loshchilov and Hutter 2017, arXiv:1711.05101: weight decay beside the gradient instead of in it.
    """

    usual_lr = 0.001

    def __init__(
        self,
        learning_rate: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        correct_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.correct_bias = correct_bias

    def scalars(self, index: Any) -> dict[str, Any]:
        return {**super().scalars(index), "correct": self.correct_bias}

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        c1, c2, numbers = corrections(numbers)
        rate = numbers["lr"] * c2**0.5 / c1 if numbers.pop("correct") else numbers["lr"]
        return numbers | {"rate": rate, "decay": numbers.pop("lr") * numbers.pop("wd")}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        rate: float,
        decay: float,
        beta1: float,
        beta2: float,
        gain1: float,
        gain2: float,
        epsilon: float,
    ) -> tuple:
        m, v = moments(g, states, beta1, beta2, gain1, gain2)
        return w - rate * m / (np.sqrt(v) + epsilon) - decay * w, m, v


@register
class Adamax(_Moments):
    """w = w - lr / (1 - beta1^t) m / (u + epsilon), u = max(beta2 u, |g|), with g + wd w for g. arXiv:1412.6980."""

    usual_lr = 0.002

    def __init__(
        self,
        learning_rate: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        c1, _, numbers = corrections(numbers)
        return numbers | {"lr": numbers["lr"] / c1}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        beta1: float,
        beta2: float,
        gain1: float,
        gain2: float,
        epsilon: float,
    ) -> tuple:
        g, (m, u) = g + wd * w, states
        m, u = beta1 * m + gain1 * g, np.maximum(beta2 * u, np.abs(g))
        return w - lr * m / (u + epsilon), m, u


@register
class Nadam(_Moments):
    """Adam with Nesterov's momentum, beta1 rising as beta1 (1 - 0.96^(t schedule_decay) / 2). Dozat 2016.

    The schedule of the momentum also counts updates that a loss scale skipped.
    """

    usual_lr = 0.001

    def __init__(
        self,
        learning_rate: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        schedule_decay: float = 0.004,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.schedule_decay = schedule_decay
        self._products = [1.0]  # of momenta 1 to t

    def _momentum(self, t: int) -> float:
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.schedule_decay))

    def scalars(self, index: Any) -> dict[str, float]:
        t = self.update_count(index)
        while len(self._products) < t + 2:
            self._products.append(self._products[-1] * self._momentum(len(self._products)))
        now, after = self._momentum(t), self._momentum(t + 1)
        return {
            **super().scalars(index),
            "g_factor": (1 - now) / (1 - self._products[t]),
            "m_factor": after / (1 - self._products[t + 1]),
        }

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        _, c2, numbers = corrections(numbers)
        return numbers | {"v_factor": 1 / c2}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        beta1: float,
        beta2: float,
        gain1: float,
        gain2: float,
        epsilon: float,
        g_factor: float,
        m_factor: float,
        v_factor: float,
    ) -> tuple:
        g = g + wd * w
        m, v = moments(g, states, beta1, beta2, gain1, gain2)
        return w - lr * (g_factor * g + m_factor * m) / (np.sqrt(v_factor * v) + epsilon), m, v


@register
class LAMB(_Moments):
    """w = w - lr |w| / |r| r, r = m' / (sqrt(v') + epsilon) + wd w, with m' and v' corrected. arXiv:1904.00962.

    lower_bound, upper_bound: bounds on |w| in the ratio. The ratio is 1 where a norm is 0.
    """

    usual_lr = 0.001

    def __init__(
        self,
        learning_rate: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        lower_bound: float | None = None,
        upper_bound: float | None = None,
        bias_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, **kwargs)
        self.lower_bound, self.upper_bound, self.bias_correction = lower_bound, upper_bound, bias_correction

    def scalars(self, index: Any) -> dict[str, Any]:
        own = {"low": self.lower_bound, "high": self.upper_bound, "correct": self.bias_correction}
        return {**super().scalars(index), **own}

    @staticmethod
    def derived(numbers: dict[str, Any]) -> dict[str, Any]:
        c1, c2, numbers = corrections(numbers)
        correct = numbers.pop("correct")
        return numbers | {"m_factor": 1 / c1 if correct else 1.0, "v_factor": 1 / c2 if correct else 1.0}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        beta1: float,
        beta2: float,
        gain1: float,
        gain2: float,
        epsilon: float,
        m_factor: float,
        v_factor: float,
        low: float | None,
        high: float | None,
    ) -> Any:
        m, v = moments(g, states, beta1, beta2, gain1, gain2)
        r = m_factor * m / (np.sqrt(v_factor * v) + epsilon) + wd * w
        w_norm, r_norm = yield w, r
        w_norm = w_norm if low is None else np.maximum(w_norm, low)
        w_norm = w_norm if high is None else np.minimum(w_norm, high)
        usable = (w_norm > 0) * (r_norm > 0)
        ratio = np.where(usable, w_norm / np.where(usable, r_norm, 1.0), 1.0)
        return w - lr * ratio * r, m, v
