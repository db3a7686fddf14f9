"""Update rules that follow the gradient at one rate: SGD, NAG, Signum, SGLD, LARS.

w: weight, g: gradient, lr: learning rate, wd: weight decay, m: momentum.
"""

from __future__ import annotations

from typing import Any

from .. import np
from .optimizer import Optimizer, checked, register

__all__ = ["SGD", "NAG", "Signum", "SGLD", "LARS"]


class _Momentum(Optimizer):
    """Base of the rules with a momentum, whose state is there when it is not 0."""

    def __init__(self, learning_rate: float | None, momentum: float, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        checked(type(self).__name__, momentum=momentum)
        self.momentum = momentum

    def state_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum != 0 else ()

    def scalars(self, index: Any) -> dict[str, float]:
        return {**super().scalars(index), "momentum": self.momentum}


@register
class SGD(_Momentum):
    """v = m v - lr (g + wd w);  w = w + v.  Without momentum w = w - lr (g + wd w)."""

    usual_lr = 0.1

    def __init__(self, learning_rate: float | None = None, momentum: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, momentum, **kwargs)

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, momentum: float) -> tuple:
        step = lr * (g + wd * w)
        if not states:
            return (w - step,)
        v = momentum * states[0] - step
        return w + v, v


@register
class NAG(_Momentum):
    """Nesterov's momentum: v = m v - lr (g + wd w);  w = w + m v - lr (g + wd w)."""

    usual_lr = 0.1

    def __init__(self, learning_rate: float | None = None, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(learning_rate, momentum, **kwargs)

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, momentum: float) -> tuple:
        step = lr * (g + wd * w)
        if not states:
            return (w - step,)
        v = momentum * states[0] - step
        return w + momentum * v - step, v


@register
class Signum(_Momentum):
    """v = m v - (1 - m) (g + wd w);  w = (1 - lr wd_lh) w + lr sign(v). Bernstein et al. 2018, arXiv:1802.04434.

    Without momentum (signSGD) w = (1 - lr (wd + wd_lh)) w - lr sign(g).
    """

    usual_lr = 0.01

    def __init__(
        self, learning_rate: float | None = None, momentum: float = 0.9, wd_lh: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(learning_rate, momentum, **kwargs)
        self.wd_lh = wd_lh

    def scalars(self, index: Any) -> dict[str, float]:
        return {**super().scalars(index), "wd_lh": self.wd_lh}

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float, momentum: float, wd_lh: float) -> tuple:
        if not states:
            return ((1 - lr * (wd + wd_lh)) * w - lr * np.sign(g),)
        v = momentum * states[0] - (1 - momentum) * (g + wd * w)
        return (1 - lr * wd_lh) * w + lr * np.sign(v), v


@register
class SGLD(Optimizer):
    """Langevin dynamics: w = w - lr / 2 (g + wd w) + normal(0, sqrt(lr)). Welling and Teh 2011."""

    usual_lr = 0.1

    def __init__(self, learning_rate: float | None = None, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)

    @staticmethod
    def rule(w: Any, g: Any, states: tuple, *, lr: float, wd: float) -> tuple:
        noise = np.random.normal(0.0, 1.0, size=w.shape, dtype=w.dtype, device=w.device)
        return (w - lr / 2 * (g + wd * w) + lr**0.5 * noise,)


@register
class LARS(_Momentum):
    """SGD with momentum at the rate lr eta |w| / (|g| + wd |w| + epsilon) for each layer. You et al., arXiv:1708.03888.

    Biases, gammas and betas, and layers where a norm is 0, keep the rate lr.
    """

    usual_lr = 0.1

    def __init__(
        self,
        learning_rate: float | None = None,
        momentum: float = 0.0,
        eta: float = 0.001,
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum, **kwargs)
        self.eta, self.epsilon = eta, epsilon

    def kind(self, index: Any) -> tuple:
        return *super().kind(index), self._adapts(index)

    def scalars(self, index: Any) -> dict[str, Any]:
        own = {"eta": self.eta, "epsilon": self.epsilon, "adapt": self._adapts(index)}
        return {**super().scalars(index), **own}

    def _adapts(self, index: Any) -> bool:
        return not self.name_of(index).endswith(("gamma", "beta", "bias"))

    @staticmethod
    def rule(
        w: Any,
        g: Any,
        states: tuple,
        *,
        lr: float,
        wd: float,
        momentum: float,
        eta: float,
        epsilon: float,
        adapt: bool,
    ) -> Any:
        if adapt:
            w_norm, g_norm = yield w, g
            trust = eta * w_norm / (g_norm + wd * w_norm + epsilon)
            rate = lr * np.where((w_norm > 0) * (g_norm > 0), trust, 1.0)
            step = rate * g + rate * wd * w  # nothing of g and w that would wait, stored, for the norms
        else:
            step = lr * (g + wd * w)
        if not states:
            return (w - step,)
        v = momentum * states[0] - step
        return w + v, v
