"""Normalisations: BatchNorm, SyncBatchNorm, LayerNorm, GroupNorm, InstanceNorm, RMSNorm.

Each subtracts a mean, divides by a standard deviation (over the axes that give it its name), and then scales by gamma
and shifts by beta. The arithmetic is in the operators.
"""

from __future__ import annotations

from typing import Any

from ... import npx
from ...errors import ShapeError
from ...ndarray import dtype_name
from ..hybrid import HybridBlock
from ..parameter import Parameter

__all__ = ["BatchNorm", "SyncBatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm"]


class _Norm(HybridBlock):
    """Base: gamma and beta of the size of one axis. ``scale`` and ``center`` False keep them at 1 and 0."""

    def __init__(
        self, axis: int, epsilon: float, center: bool, scale: bool, beta: Any, gamma: Any, channels: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._axis, self._epsilon, self._center, self._scale = axis, epsilon, center, scale
        self.gamma = _vector("gamma", channels, gamma, learnt=scale)
        self.beta = _vector("beta", channels, beta, learnt=center)

    def infer_shape(self, x: Any, *args: Any) -> None:
        """Size of the axis from the input. Raises ShapeError when the input has no such axis."""
        if not -x.ndim <= self._axis < x.ndim:
            raise ShapeError(type(self).__name__, f"an input with axis {self._axis}", tuple(x.shape), "Pass axis=")
        for parameter in self._reg_params.values():
            parameter.shape = (x.shape[self._axis],)

    def extra_repr(self) -> str:
        parts = {"axis": self._axis, "eps": self._epsilon, "in_channels": (self.gamma.shape or (-1,))[0]}
        return ", ".join(f"{k}={v if v != -1 or k == 'axis' else '?'}" for k, v in parts.items())


def _vector(name: str, size: int, init: Any, learnt: bool) -> Parameter:
    grad_req = "write" if learnt else "null"
    return Parameter(name, grad_req, (size,), init=init, allow_deferred_init=True, differentiable=learnt)


class BatchNorm(_Norm):
    """Over all axes but ``axis`` (the channels). Ioffe and Szegedy 2015, arXiv:1502.03167.

    In train mode the batch's statistics are used, and the running ones become momentum * running + (1 - momentum) *
    batch; in predict mode, or with use_global_stats, the running ones are used. With 16-bit inputs the parameters and
    statistics stay float32.
    """

    def __init__(
        self,
        axis: int = 1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        running_mean_initializer: Any = "zeros",
        running_variance_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(axis, epsilon, center, scale, beta_initializer, gamma_initializer, in_channels, **kwargs)
        self._momentum, self._use_global_stats = momentum, use_global_stats
        self.running_mean = _vector("running_mean", in_channels, running_mean_initializer, learnt=False)
        self.running_var = _vector("running_var", in_channels, running_variance_initializer, learnt=False)

    def cast(self, dtype: Any) -> None:
        """Cast, but 16-bit types leave the layer in float32."""
        super().cast("float32" if dtype_name(dtype) in ("float16", "bfloat16") else dtype)

    def forward(self, x: Any) -> Any:
        """Same shape as the input."""
        return npx.batch_norm(
            x,
            self.gamma.beside(x),
            self.beta.beside(x),
            self.running_mean.beside(x),
            self.running_var.beside(x),
            eps=self._epsilon,
            momentum=self._momentum,
            fix_gamma=not self._scale,
            use_global_stats=self._use_global_stats,
            output_mean_var=False,
            axis=self._axis,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, momentum={self._momentum}, use_global_stats={self._use_global_stats}"


class SyncBatchNorm(BatchNorm):
    """BatchNorm whose statistics span the devices that share a batch. In one process with one device: BatchNorm.

    num_devices is accepted for Gluon code: statistics span the devices of a collective, when there is one.
    """

    def __init__(self, in_channels: int = 0, num_devices: int | None = None, **kwargs: Any) -> None:
        super().__init__(in_channels=in_channels, **kwargs)


class LayerNorm(_Norm):
    """Over ``axis``, for each position by itself. Ba et al. 2016, arXiv:1607.06450."""

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(axis, epsilon, center, scale, beta_initializer, gamma_initializer, in_channels, **kwargs)

    def forward(self, x: Any) -> Any:
        """Same shape as the input."""
        return npx.layer_norm(x, self.gamma.beside(x), self.beta.beside(x), axis=self._axis, eps=self._epsilon)


class GroupNorm(_Norm):
    """Over all axes but the batch, for each of ``num_groups`` groups of channels (axis 1). arXiv:1803.08494."""

    def __init__(
        self,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, epsilon, center, scale, beta_initializer, gamma_initializer, in_channels, **kwargs)
        self._num_groups = num_groups

    def forward(self, x: Any) -> Any:
        """Same shape as the input, (N, C, ...)."""
        gamma, beta = self.gamma.beside(x), self.beta.beside(x)
        return npx.group_norm(x, gamma, beta, num_groups=self._num_groups, eps=self._epsilon)

    def extra_repr(self) -> str:
        return f"num_groups={self._num_groups}, {super().extra_repr()}"


class InstanceNorm(_Norm):
    """Over all axes but the batch and ``axis`` (the channels). Ulyanov et al. 2016, arXiv:1607.08022."""

    def __init__(
        self,
        axis: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(axis, epsilon, center, scale, beta_initializer, gamma_initializer, in_channels, **kwargs)

    def forward(self, x: Any) -> Any:
        """Same shape as the input."""
        gamma, beta = self.gamma.beside(x), self.beta.beside(x)
        return npx.instance_norm(x, gamma, beta, eps=self._epsilon, axis=self._axis % x.ndim)


class RMSNorm(HybridBlock):
    """x / sqrt(mean(x^2) + epsilon) * gamma over ``axis``. Zhang and Sennrich 2019, arXiv:1910.07467."""

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-6,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._axis, self._epsilon = axis, epsilon
        self.gamma = _vector("gamma", in_channels, gamma_initializer, learnt=scale)

    def infer_shape(self, x: Any, *args: Any) -> None:
        """Size of the axis from the input."""
        self.gamma.shape = (x.shape[self._axis],)

    def forward(self, x: Any) -> Any:
        """Same shape as the input."""
        return npx.rms_norm(x, self.gamma.beside(x), axis=self._axis, eps=self._epsilon)

    def extra_repr(self) -> str:
        return f"axis={self._axis}, eps={self._epsilon}"
