"""Transforms that move pixels: resize, crop, flip, rotate. Sizes are (width, height), or one number for both."""

from __future__ import annotations

from typing import Any

import numpy as np

from .....errors import ArgumentError
from .....image import center_crop, fixed_crop, imresize, random_crop, random_size_crop, resize_short, saturate
from ...rng import generator
from .base import Transform, probability


def pair(where: str, size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """``size`` as (width, height), both positive."""
    w, h = (size, size) if isinstance(size, (int, np.integer)) else size
    if w < 1 or h < 1:
        raise ArgumentError(where, "a positive size, or (width, height)", size)
    return int(w), int(h)


class Resize(Transform):
    """Resize to ``size``; with ``keep_ratio`` and one number, that number is the shorter side."""

    def __init__(self, size: Any, keep_ratio: bool = False, interpolation: int = 1) -> None:
        self._size, self._interpolation = pair("Resize", size), interpolation
        self._short = keep_ratio and isinstance(size, (int, np.integer))

    def apply(self, x: np.ndarray) -> np.ndarray:
        if self._short:
            return resize_short(x, self._size[0], self._interpolation)
        return imresize(x, *self._size, self._interpolation)


class CenterCrop(Transform):
    """The middle of the image; an image that is smaller is cropped to the ratio and enlarged to ``size``."""

    def __init__(self, size: Any, interpolation: int = 1) -> None:
        self._size, self._interpolation = pair("CenterCrop", size), interpolation

    def apply(self, x: np.ndarray) -> np.ndarray:
        return center_crop(x, self._size, self._interpolation)[0]


class CropResize(Transform):
    """The box at column ``x``, row ``y`` of ``width`` by ``height``, resized to ``size`` where given."""

    def __init__(
        self, x: int, y: int, width: int, height: int, size: Any = None, interpolation: int | None = None
    ) -> None:
        self._box = (x, y, width, height)
        self._size = None if size is None else pair("CropResize", size)
        self._interpolation = 1 if interpolation is None else interpolation

    def apply(self, x: np.ndarray) -> np.ndarray:
        return fixed_crop(x, *self._box, self._size, self._interpolation)


class RandomCrop(Transform):
    """Pad each side by ``pad`` pixels (or (top and bottom, left and right)) of ``pad_value``, then crop at random."""

    def __init__(self, size: Any, pad: Any = None, pad_value: int = 0, interpolation: int = 1) -> None:
        self._size, self._interpolation, self._pad_value = pair("RandomCrop", size), interpolation, pad_value
        self._pad = (0, 0) if pad is None else (pad, pad) if isinstance(pad, int) else tuple(pad)

    def apply(self, x: np.ndarray) -> np.ndarray:
        if any(self._pad):
            vertical, horizontal = self._pad
            sides = ((vertical, vertical), (horizontal, horizontal), (0, 0))
            x = np.pad(x, sides, constant_values=self._pad_value)
        return random_crop(x, self._size, self._interpolation)[0]


class RandomResizedCrop(Transform):
    """A box of random area (share ``scale`` of the image) and ratio w/h, resized to ``size``: ImageNet's crop."""

    def __init__(
        self,
        size: Any,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: int = 1,
    ) -> None:
        low, high = (scale, 1.0) if isinstance(scale, (int, float)) else scale
        if not 0 < low <= high <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ArgumentError(
                "RandomResizedCrop", "0 < low <= high (<= 1 for scale)", f"scale {scale}, ratio {ratio}"
            )
        self._size, self._scale, self._ratio = pair("RandomResizedCrop", size), (low, high), ratio
        self._interpolation = interpolation

    def apply(self, x: np.ndarray) -> np.ndarray:
        return random_size_crop(x, self._size, self._scale, self._ratio, self._interpolation)[0]


class RandomFlipLeftRight(Transform):
    """Mirror left and right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self._p = probability(type(self).__name__, p)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[..., ::-1, :]) if generator().random() < self._p else x


class RandomFlipTopBottom(Transform):
    """Mirror top and bottom with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self._p = probability(type(self).__name__, p)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[..., ::-1, :, :]) if generator().random() < self._p else x


class Rotate(Transform):
    """Turn about the centre by ``rotation_degrees``, counter-clockwise, bilinear, corners black.

    ``zoom_in`` enlarges until no corner shows, ``zoom_out`` shrinks until the whole image does. (H, W, C) of any type.
    """

    def __init__(self, rotation_degrees: float, zoom_in: bool = False, zoom_out: bool = False) -> None:
        if zoom_in and zoom_out:
            raise ArgumentError(type(self).__name__, "zoom_in or zoom_out", "both")
        self._degrees, self._zoom_in, self._zoom_out = rotation_degrees, zoom_in, zoom_out

    def apply(self, x: np.ndarray) -> np.ndarray:
        return rotate(x, self._degrees, self._zoom_in, self._zoom_out)


class RandomRotation(Rotate):
    """With probability ``rotate_with_proba`` turn by an angle drawn from ``angle_limits`` = (low, high) degrees."""

    def __init__(
        self,
        angle_limits: tuple[float, float],
        zoom_in: bool = False,
        zoom_out: bool = False,
        rotate_with_proba: float = 1.0,
    ) -> None:
        super().__init__(0.0, zoom_in, zoom_out)
        if angle_limits[0] > angle_limits[1]:
            raise ArgumentError("RandomRotation", "low <= high", angle_limits)
        self._limits, self._p = angle_limits, probability("RandomRotation", rotate_with_proba)

    def apply(self, x: np.ndarray) -> np.ndarray:
        rng = generator()
        if rng.random() >= self._p:
            return x
        return rotate(x, rng.uniform(*self._limits), self._zoom_in, self._zoom_out)


def rotate(x: np.ndarray, degrees: float, zoom_in: bool = False, zoom_out: bool = False) -> np.ndarray:
    """Bilinear rotation: every output pixel (i, j) reads the input at ``zoom * R (i, j)`` about the centre."""
    height, width = x.shape[:2]
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    # Extents, between pixel centres, of the box around the turned frame, relative to those of the frame itself.
    w, h = max(width - 1, 1), max(height - 1, 1)
    reach = max((w * abs(cos) + h * abs(sin)) / w, (w * abs(sin) + h * abs(cos)) / h)
    zoom = 1 / reach if zoom_in else reach if zoom_out else 1.0
    dy, dx = np.mgrid[:height, :width].astype(np.float32)
    dy, dx = zoom * (dy - (height - 1) / 2), zoom * (dx - (width - 1) / 2)
    rows = cos * dy + sin * dx + (height - 1) / 2
    columns = cos * dx - sin * dy + (width - 1) / 2
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0))).astype(np.float32)
    rows, columns = np.clip(rows + 1, 0, height + 0.999), np.clip(columns + 1, 0, width + 0.999)
    i, j = rows.astype(np.intp), columns.astype(np.intp)
    v, u = (rows - i)[..., None], (columns - j)[..., None]
    top = (1 - u) * padded[i, j] + u * padded[i, j + 1]
    bottom = (1 - u) * padded[i + 1, j] + u * padded[i + 1, j + 1]
    return saturate((1 - v) * top + v * bottom, x.dtype)
