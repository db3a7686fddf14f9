"""Layers that only move elements: ReflectionPad2D and PixelShuffle. Channels first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import np
from ...errors import ShapeError
from ..hybrid import HybridBlock
from .conv import spread

__all__ = ["ReflectionPad2D", "PixelShuffle1D", "PixelShuffle2D", "PixelShuffle3D"]


class ReflectionPad2D(HybridBlock):
    """Pads H and W of (N, C, H, W) with ``padding`` reflected elements, the edge itself not repeated.

    padding: one number, or (left, right, top, bottom); Gluon's form with 8 numbers, (0, 0, 0, 0, top, bottom, left,
    right), is accepted.
    """

    def __init__(self, padding: int | Sequence[int] = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(padding, int) and len(padding) == 8:
            padding = (*padding[6:], *padding[4:6])
        left, right, top, bottom = spread(padding, 4, "nn.ReflectionPad2D")
        self._padding = ((0, 0), (0, 0), (top, bottom), (left, right))

    def forward(self, x: Any) -> Any:
        """(N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""
        return np.pad(x, self._padding, mode="reflect")


class _PixelShuffle(HybridBlock):
    """(N, C f1 f2..., H, W...) -> (N, C, H f1, W f2...): channels become pixels. Shi et al. 2016, arXiv:1609.05158."""

    _ndim = 2

    def __init__(self, factor: int | Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._factors = spread(factor, self._ndim, f"nn.{type(self).__name__}")

    def forward(self, x: Any) -> Any:
        """Raises ShapeError when the factors do not divide the channels."""
        (batch, channels, *sizes), factors = x.shape, self._factors
        whole = 1
        for factor in factors:
            whole *= factor
        if len(sizes) != self._ndim or channels % whole:
            rule = f"{self._ndim + 2} axes and channels that {whole} divides"
            raise ShapeError(f"nn.{type(self).__name__}", rule, tuple(x.shape), "Change the factor or the channels")
        n = self._ndim
        split = x.reshape((batch, channels // whole, *factors, *sizes))
        pairs = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]  # H f1 W f2 ...
        merged = (size * factor for size, factor in zip(sizes, factors, strict=True))
        return split.transpose((0, 1, *pairs)).reshape((batch, channels // whole, *merged))

    def extra_repr(self) -> str:
        return f"{self._factors}"


class PixelShuffle1D(_PixelShuffle):
    """(N, C f, W) -> (N, C, W f)."""

    _ndim = 1


class PixelShuffle2D(_PixelShuffle):
    """(N, C f1 f2, H, W) -> (N, C, H f1, W f2)."""


class PixelShuffle3D(_PixelShuffle):
    """(N, C f1 f2 f3, D, H, W) -> (N, C, D f1, H f2, W f3)."""

    _ndim = 3
