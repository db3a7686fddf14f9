"""Convolutions and transposed convolutions in 1, 2 and 3 dimensions, channels first (NCHW) or last (NHWC).

Channels first, a weight is (channels, in_channels / groups, kernel...), transposed (in_channels, channels / groups,
kernel...); channels last, the second axis goes to the end. All six classes are two, which differ by operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import npx
from ...errors import ArgumentError, ShapeError
from ..hybrid import HybridBlock
from ..parameter import Parameter
from .activations import Activation

__all__ = ["Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"]

_SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def spread(value: int | Sequence[int], ndim: int, where: str) -> tuple[int, ...]:
    """``value`` for each of ``ndim`` dimensions. Raises ArgumentError for a sequence of another length."""
    values = (value,) * ndim if isinstance(value, int) else tuple(value)
    if len(values) != ndim:
        raise ArgumentError(where, f"one number or {ndim}", values, "Give one for each spatial dimension")
    return values


def checked_layout(layout: str | None, ndim: int, where: str) -> str:
    """Channels first or last for ``ndim`` spatial dimensions; None is first. Raises ArgumentError otherwise."""
    first, last = "NC" + _SPATIAL[ndim], "N" + _SPATIAL[ndim] + "C"
    if layout not in (None, first, last):
        raise ArgumentError(where, f"layout {first!r} or {last!r}", repr(layout), "Transpose the input")
    return layout or first


class _Conv(HybridBlock):
    """Convolution in ``_ndim`` dimensions."""

    _ndim = 2
    _kernel_axes = ("O", "I")  # of the weight, channels first

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        where, n = f"nn.{type(self).__name__}", self._ndim
        if channels < 1 or groups < 1 or channels % groups or in_channels % groups:
            sizes = f"channels={channels}, in_channels={in_channels}, groups={groups}"
            raise ArgumentError(where, "channels and in_channels that groups divides", sizes)
        self._channels, self._in_channels = channels, in_channels
        self._layout = checked_layout(layout, n, where)
        self._channel_axis = self._layout.index("C")
        self._kwargs: dict[str, Any] = {
            "kernel": spread(kernel_size, n, where),
            "stride": spread(strides, n, where),
            "dilate": spread(dilation, n, where),
            "pad": spread(padding, n, where),
            "num_filter": channels,
            "num_group": groups,
            "no_bias": not use_bias,
            "layout": self._layout,
        }
        outer, inner = self._kernel_axes
        letters = outer + (inner + _SPATIAL[n] if self._channel_axis == 1 else _SPATIAL[n] + inner)
        shape = self._weight_shape(in_channels)
        init = weight_initializer
        self.weight = Parameter("weight", shape=shape, init=init, allow_deferred_init=True, layout=letters)
        self.bias = Parameter("bias", shape=(channels,), init=bias_initializer) if use_bias else None
        self.act = Activation(activation) if activation is not None else None

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        groups, kernel = self._kwargs["num_group"], self._kwargs["kernel"]
        outer, inner = self._ends(in_channels, groups)
        return (outer, inner, *kernel) if self._channel_axis == 1 else (outer, *kernel, inner)

    def _ends(self, in_channels: int, groups: int) -> tuple[int, int]:
        """Sizes of the weight's first axis and of its other channel axis."""
        return self._channels, in_channels // groups

    def infer_shape(self, x: Any, *args: Any) -> None:
        """in_channels from the input, of shape ``layout``. Raises ShapeError for another number of axes."""
        where = f"nn.{type(self).__name__}"
        if x.ndim != self._ndim + 2:
            raise ShapeError(where, f"{self._ndim + 2} axes ({self._layout})", tuple(x.shape), "Add the batch axis?")
        channels, groups = x.shape[self._channel_axis], self._kwargs["num_group"]
        if channels % groups:
            raise ShapeError(where, f"channels that {groups} groups divide", tuple(x.shape), "Change groups")
        self._in_channels = channels
        self.weight.shape = self._weight_shape(channels)

    def forward(self, x: Any) -> Any:
        """(N, in_channels, spatial...) -> (N, channels, spatial...), or channels last."""
        bias = None if self.bias is None else self.bias.beside(x)
        out = self._operator(x, self.weight.beside(x), bias, **self._kwargs)
        return out if self.act is None else self.act(out)

    def _operator(self, *args: Any, **kwargs: Any) -> Any:
        return npx.convolution(*args, **kwargs)

    def __repr__(self) -> str:
        kwargs = self._kwargs
        parts = [f"{self._in_channels or '?'} -> {self._channels}", f"kernel_size={kwargs['kernel']}"]
        parts += [f"stride={kwargs['stride']}"]
        plain = {"padding": ("pad", 0), "dilation": ("dilate", 1), "output_padding": ("adj", 0)}
        parts += [f"{k}={kwargs[a]}" for k, (a, usual) in plain.items() if any(v != usual for v in kwargs.get(a, ()))]
        parts += [f"groups={kwargs['num_group']}"] if kwargs["num_group"] != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        parts += [self.act._act_type] if self.act is not None else []
        return f"{type(self).__name__}({', '.join(parts)})"


class _ConvTranspose(_Conv):
    """Transposed convolution: the gradient of a convolution with respect to its input, as a layer."""

    _kernel_axes = ("I", "O")

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        layout: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, kernel_size, strides, padding, dilation, groups, layout, **kwargs)
        self._kwargs["adj"] = spread(output_padding, self._ndim, f"nn.{type(self).__name__}")

    def _ends(self, in_channels: int, groups: int) -> tuple[int, int]:
        return in_channels, self._channels // groups

    def _operator(self, *args: Any, **kwargs: Any) -> Any:
        return npx.deconvolution(*args, **kwargs)


class Conv1D(_Conv):
    """Convolution over (N, C, W): W' = (W + 2 padding - dilation (kernel - 1) - 1) // stride + 1."""

    _ndim = 1


class Conv2D(_Conv):
    """Convolution over (N, C, H, W), or (N, H, W, C) with layout="NHWC".

    channels: of the output. kernel_size, strides, padding, dilation: one number or one for each dimension. groups:
    channels are split so many times, and each part sees only its own. in_channels: 0 to take it from the first input.
    H' = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1.

    >>> import minimx as mx
    >>> layer = mx.gluon.nn.Conv2D(8, kernel_size=3, padding=1)
    >>> layer.initialize()
    >>> layer(mx.np.ones((2, 3, 5, 5))).shape
    (2, 8, 5, 5)
    """


class Conv3D(_Conv):
    """Convolution over (N, C, D, H, W)."""

    _ndim = 3


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution over (N, C, W)."""

    _ndim = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution over (N, C, H, W).

    H' = (H - 1) stride - 2 padding + dilation (kernel - 1) + 1 + output_padding.
    """


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution over (N, C, D, H, W)."""

    _ndim = 3
