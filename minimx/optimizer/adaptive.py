"""Update rules that divide by a history of the gradient, without a first moment: AdaGrad, AdaDelta, RMSProp, Ftrl.

w: weight, g: gradient, lr: learning rate, wd: weight decay.
"""

from __future__ import annotations

from typing import Any

from .. import np
from .optimizer import Optimizer, checked, register

__all__ = ["AdaGrad", "AdaDelta", "RMSProp", "Ftrl"]


@register
class AdaGrad(Optimizer):
    """h = h + g^2;  w = w - lr g / (sqrt(h) + epsilon), with g + wd w for g. Duchi et al. 2011."""

    usual_lr = 0.01

    def __init__(self, learning_rate: float | None = None, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.epsilon = epsilon

    def state_names(self) -> tuple[str, ...]:
        return ("history",)

    def scalars(self, index: Any) -> dict[str, float]:
        return {**super().scalars(index), "epsilon": self.epsilon}

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, epsilon: float) -> tuple:
        g = g + wd * w
        h = states[0] + np.square(g)
        return w - lr * g / (np.sqrt(h) + epsilon), h


@register
class AdaDelta(Optimizer):
    """d = sqrt(a + epsilon) / sqrt(h + epsilon) g;  w = w - lr d;  h, a: means of g^2 and d^2. arXiv:1212.5701."""

    usual_lr = 1.0

    def __init__(
        self, learning_rate: float | None = None, rho: float = 0.9, epsilon: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        checked("AdaDelta", rho=rho)
        self.rho, self.epsilon = rho, epsilon

    def state_names(self) -> tuple[str, ...]:
        return "history", "delta"

    def scalars(self, index: Any) -> dict[str, float]:
        return {**super().scalars(index), "rho": self.rho, "epsilon": self.epsilon}

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, rho: float, epsilon: float) -> tuple:
        g, (h, a) = g + wd * w, states
        h = rho * h + (1 - rho) * np.square(g)
        d = np.sqrt(a + epsilon) / np.sqrt(h + epsilon) * g
        return w - lr * d, h, rho * a + (1 - rho) * np.square(d)


@register
class RMSProp(Optimizer):
    """h = rho h + (1 - rho) g^2;  w = w - lr g / (sqrt(h) + epsilon), with g + wd w for g. Tieleman and Hinton 2012.

    centered (Graves 2013, arXiv:1308.0850): with the mean n of g and a momentum, u = momentum u - lr g /
    sqrt(h - n^2 + epsilon);  w = w + u. clip_weights: bound on |w|, or None. gamma1, gamma2: Gluon 1's names of rho and
    momentum.
    """

    usual_lr = 0.001

    def __init__(
        self,
        learning_rate: float | None = None,
        rho: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-8,
        centered: bool = False,
        clip_weights: float | None = None,
        gamma1: float | None = None,
        gamma2: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.rho, self.momentum = rho if gamma1 is None else gamma1, momentum if gamma2 is None else gamma2
        checked("RMSProp", rho=self.rho, momentum=self.momentum)
        self.epsilon, self.centered, self.clip_weights = epsilon, centered, clip_weights

    def state_names(self) -> tuple[str, ...]:
        return ("mean", "var", "momentum") if self.centered else ("var",)

    def scalars(self, index: Any) -> dict[str, Any]:
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "bound": self.clip_weights}
        return {**super().scalars(index), **own}

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        rho: float,
        momentum: float,
        epsilon: float,
        bound: float | None,
    ) -> tuple:
        g = g + wd * w
        if len(states) == 1:
            h = rho * states[0] + (1 - rho) * np.square(g)
            return _bounded(w - lr * g / (np.sqrt(h) + epsilon), bound), h
        n, h, u = states
        n, h = rho * n + (1 - rho) * g, rho * h + (1 - rho) * np.square(g)
        u = momentum * u - lr * g / np.sqrt(h - np.square(n) + epsilon)
        return _bounded(w + u, bound), n, h, u


def _bounded(w: Any, bound: float | None) -> Any:
    return w if bound is None else np.clip(w, -bound, bound)


@register
class Ftrl(Optimizer):
    """Follow the regularised leader. McMahan et al. 2013, "Ad click prediction", algorithm 1.

    z = z + g - (sqrt(n + g^2) - sqrt(n)) / lr w;  n = n + g^2;
    w = -sign(z) max(|z| - lamda1, 0) / ((beta + sqrt(n)) / lr + wd).
    """

    usual_lr = 0.1

    def __init__(
        self, learning_rate: float | None = None, lamda1: float = 0.01, beta: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.lamda1, self.beta = lamda1, beta

    def state_names(self) -> tuple[str, ...]:
        return "z", "n"

    def scalars(self, index: Any) -> dict[str, float]:
        return {**super().scalars(index), "lamda1": self.lamda1, "beta": self.beta}

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, lamda1: float, beta: float) -> tuple:
        z, n = states
        after = n + np.square(g)
        z = z + g - (np.sqrt(after) - np.sqrt(n)) / lr * w
        shrunk = np.maximum(np.abs(z) - lamda1, 0.0)
        return -np.sign(z) * shrunk / ((beta + np.sqrt(after)) / lr + wd), z, after
