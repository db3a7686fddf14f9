"""Activations as layers. All are elementwise and keep the shape."""

from __future__ import annotations

from typing import Any

from ... import npx
from ...errors import ArgumentError
from ...initializer import Constant
from ..hybrid import HybridBlock
from ..parameter import Parameter

__all__ = ["Activation", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "Swish", "SiLU", "Mish"]


_NAMES = ("relu", "sigmoid", "tanh", "softrelu", "softsign", "log_sigmoid", "mish", "silu", "gelu", "gelu_tanh")


class Activation(HybridBlock):
    """An activation by its operator's name: relu, sigmoid, tanh, softrelu, softsign, log_sigmoid, mish, silu, gelu."""

    def __init__(self, activation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if activation not in _NAMES:
            raise ArgumentError(
                "nn.Activation", f"one of {', '.join(_NAMES)}", repr(activation), "Or use nn.HybridLambda"
            )
        self._act_type = activation

    def forward(self, x: Any) -> Any:
        """act(x)."""
        return getattr(npx, self._act_type)(x)

    def extra_repr(self) -> str:
        return self._act_type


class LeakyReLU(HybridBlock):
    """x where x > 0, else alpha x."""

    def __init__(self, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if alpha < 0:
            raise ArgumentError("nn.LeakyReLU", "alpha not negative", alpha, "Pass the slope for x < 0, such as 0.01")
        self._alpha = alpha

    def forward(self, x: Any) -> Any:
        """max(x, 0) + alpha min(x, 0)."""
        return npx.leaky_relu(x, act_type="leaky", slope=self._alpha)

    def extra_repr(self) -> str:
        return f"{self._alpha}"


class PReLU(HybridBlock):
    """Leaky ReLU whose slope is learnt: one for all channels, or ``in_channels`` (axis 1). arXiv:1502.01852."""

    def __init__(self, alpha_initializer: Any = 0.25, in_channels: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        init = Constant(alpha_initializer) if isinstance(alpha_initializer, (int, float)) else alpha_initializer
        self.alpha = Parameter("alpha", shape=(in_channels,), init=init)

    def forward(self, x: Any) -> Any:
        """x where x > 0, else alpha x."""
        return npx.leaky_relu(x, self.alpha.beside(x), act_type="prelu")


class ELU(HybridBlock):
    """x where x > 0, else alpha (exp(x) - 1). Clevert et al. 2015, arXiv:1511.07289."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._alpha = alpha

    def forward(self, x: Any) -> Any:
        """elu(x)."""
        return npx.elu(x, self._alpha)


class SELU(HybridBlock):
    """Self-normalising ELU with fixed scales. Klambauer et al. 2017, arXiv:1706.02515."""

    def forward(self, x: Any) -> Any:
        """selu(x)."""
        return npx.selu(x)


class GELU(HybridBlock):
    """x Phi(x), Phi being the normal distribution function. Hendrycks and Gimpel 2016, arXiv:1606.08415.

    approximation: "erf" (exact) or "tanh".
    """

    def __init__(self, approximation: str = "erf", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if approximation not in ("erf", "tanh"):
            raise ArgumentError("nn.GELU", "approximation 'erf' or 'tanh'", repr(approximation))
        self._act_type = "gelu" if approximation == "erf" else "gelu_tanh"

    def forward(self, x: Any) -> Any:
        """gelu(x)."""
        return getattr(npx, self._act_type)(x)


class Swish(HybridBlock):
    """x sigmoid(beta x). Ramachandran et al. 2017, arXiv:1710.05941."""

    def __init__(self, beta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._beta = beta

    def forward(self, x: Any) -> Any:
        """swish(x)."""
        return npx.swish(x, self._beta)


class SiLU(HybridBlock):
    """x sigmoid(x). Elfwing et al. 2017, arXiv:1702.03118."""

    def forward(self, x: Any) -> Any:
        """silu(x)."""
        return npx.silu(x)


class Mish(HybridBlock):
    """x tanh(log(1 + exp(x))). Misra 2019, arXiv:1908.08681."""

    def forward(self, x: Any) -> Any:
        """mish(x)."""
        return npx.mish(x)
