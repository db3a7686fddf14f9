"""Pooling: maximum and average over windows, over everything (global), or into a given size (adaptive)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as onp

from ... import np, npx
from ..hybrid import HybridBlock
from .conv import checked_layout, spread

__all__ = [
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "AdaptiveAvgPool1D",
    "AdaptiveAvgPool2D",
    "AdaptiveAvgPool3D",
]


class _Pool(HybridBlock):
    """Windows of ``pool_size`` at steps of ``strides`` (the pool size by default).

    ceil_mode: a last window may hang over the edge. H' = (H + 2 padding - pool_size) // stride + 1, or rounded up.
    """

    _ndim = 2
    _type = "max"

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        layout: str | None = None,
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        where, n = f"nn.{type(self).__name__}", self._ndim
        self._kwargs: dict[str, Any] = {
            "kernel": spread(pool_size, n, where),
            "stride": spread(pool_size if strides is None else strides, n, where),
            "pad": spread(padding, n, where),
            "pool_type": self._type,
            "pooling_convention": "full" if ceil_mode else "valid",
            "layout": checked_layout(layout, n, where),
        }

    def forward(self, x: Any) -> Any:
        """(N, C, spatial...) -> (N, C, windows...), or channels last."""
        return npx.pooling(x, **self._kwargs)

    def extra_repr(self) -> str:
        k = self._kwargs
        ceil = k["pooling_convention"] == "full"
        return f"size={k['kernel']}, stride={k['stride']}, padding={k['pad']}, ceil_mode={ceil}"


class _AvgPool(_Pool):
    """Averages; count_include_pad: zeros of the padding count."""

    _type = "avg"

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        layout: str | None = None,
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(pool_size, strides, padding, layout, ceil_mode, **kwargs)
        self._kwargs["count_include_pad"] = count_include_pad


class _GlobalPool(HybridBlock):
    """One window over all of the spatial axes, which stay with size 1."""

    _ndim = 2
    _type = "max"

    def __init__(self, layout: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._layout = checked_layout(layout, self._ndim, f"nn.{type(self).__name__}")

    def forward(self, x: Any) -> Any:
        """(N, C, spatial...) -> (N, C, 1...), or channels last."""
        kernel = (1,) * self._ndim
        return npx.pooling(x, kernel=kernel, pool_type=self._type, global_pool=True, layout=self._layout)

    def extra_repr(self) -> str:
        return f"layout={self._layout}"


class _AdaptiveAvgPool(HybridBlock):
    """Averages over windows that cut the spatial axes into ``output_size`` nearly equal parts.

    Output i of n averages inputs floor(i H / n) up to ceil((i + 1) H / n). It is linear: one small matrix an axis.
    """

    _ndim = 2

    def __init__(self, output_size: int | Sequence[int] = 1, layout: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        where = f"nn.{type(self).__name__}"
        self._sizes = spread(output_size, self._ndim, where)
        self._layout = checked_layout(layout, self._ndim, where)

    def forward(self, x: Any) -> Any:
        """(N, C, spatial...) -> (N, C, output_size...), or channels last."""
        first = 2 if self._layout[1] == "C" else 1
        for axis, size in enumerate(self._sizes, first):
            if size == 1:
                x = x.mean(axis=axis, keepdims=True)
            elif size != x.shape[axis]:
                weights = np.array(_windows(x.shape[axis], size), dtype=x.dtype, device=x.device)
                x = np.moveaxis(np.tensordot(x, weights, axes=((axis,), (1,))), -1, axis)
        return x

    def extra_repr(self) -> str:
        return f"output_size={self._sizes}, layout={self._layout}"


def _windows(length: int, parts: int) -> onp.ndarray:
    """Matrix (parts, length) whose rows average the windows."""
    matrix = onp.zeros((parts, length), "float32")
    for i in range(parts):
        begin, end = i * length // parts, -(-(i + 1) * length // parts)
        matrix[i, begin:end] = 1 / (end - begin)
    return matrix


class MaxPool1D(_Pool):
    """Maximum over windows of (N, C, W)."""

    _ndim = 1


class MaxPool2D(_Pool):
    """Maximum over windows of (N, C, H, W).

    >>> import minimx as mx
    >>> mx.gluon.nn.MaxPool2D(2)(mx.np.ones((1, 3, 6, 6))).shape
    (1, 3, 3, 3)
    """


class MaxPool3D(_Pool):
    """Maximum over windows of (N, C, D, H, W)."""

    _ndim = 3


class AvgPool1D(_AvgPool):
    """Average over windows of (N, C, W)."""

    _ndim = 1


class AvgPool2D(_AvgPool):
    """Average over windows of (N, C, H, W)."""


class AvgPool3D(_AvgPool):
    """Average over windows of (N, C, D, H, W)."""

    _ndim = 3


class GlobalMaxPool1D(_GlobalPool):
    """(N, C, W) -> (N, C, 1), the maxima."""

    _ndim = 1


class GlobalMaxPool2D(_GlobalPool):
    """(N, C, H, W) -> (N, C, 1, 1), the maxima."""


class GlobalMaxPool3D(_GlobalPool):
    """(N, C, D, H, W) -> (N, C, 1, 1, 1), the maxima."""

    _ndim = 3


class GlobalAvgPool1D(_GlobalPool):
    """(N, C, W) -> (N, C, 1), the means."""

    _ndim, _type = 1, "avg"


class GlobalAvgPool2D(_GlobalPool):
    """(N, C, H, W) -> (N, C, 1, 1), the means."""

    _type = "avg"


class GlobalAvgPool3D(_GlobalPool):
    """(N, C, D, H, W) -> (N, C, 1, 1, 1), the means."""

    _ndim, _type = 3, "avg"


class AdaptiveAvgPool1D(_AdaptiveAvgPool):
    """(N, C, W) -> (N, C, output_size)."""

    _ndim = 1


class AdaptiveAvgPool2D(_AdaptiveAvgPool):
    """(N, C, H, W) -> (N, C, *output_size)."""


class AdaptiveAvgPool3D(_AdaptiveAvgPool):
    """(N, C, D, H, W) -> (N, C, *output_size)."""

    _ndim = 3
