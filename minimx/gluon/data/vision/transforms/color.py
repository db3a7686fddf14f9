"""Transforms that change colours: brightness, contrast, saturation, hue, lighting, grey. Images are (H, W, 3) RGB.

The element type stays: integer images are rounded and clipped to their range. A factor is drawn from [1 - a, 1 + a],
not below 0, and blends the image with what it is to move away from: black, its mean grey, its own grey.
"""

from __future__ import annotations

import numpy as np

from .....errors import ArgumentError, ShapeError
from .....image import saturate
from ...rng import generator
from .base import Transform, probability

# Luma of ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# RGB to NTSC's YIQ, whose I and Q span the hue plane.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_YIQ_INVERSE = np.linalg.inv(_YIQ)
# Principal components of ImageNet's colours (Krizhevsky et al. 2012, section 4.1), for values in 0 .. 255.
_EIGENVALUES = np.array([55.46, 4.794, 1.148])
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]],
)


def blend(x: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """``factor * x + (1 - factor) * other`` in ``x``'s type; for bytes and a scalar by table, ten times faster."""
    f = np.float32(factor)
    if x.dtype == np.uint8 and isinstance(other, float):
        return saturate(blend(np.arange(256, dtype=np.float32), other, factor), np.uint8).take(x)
    return saturate(f * x.astype(np.float32) + (1 - f) * other, x.dtype)


def gray(x: np.ndarray) -> np.ndarray:
    """Luma (H, W, 1) in float32."""
    if x.ndim != 3 or x.shape[2] != 3:
        raise ShapeError("gray", "an RGB image (H, W, 3)", x.shape)
    return (x.astype(np.float32) @ _LUMA)[..., None]


def brightness(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, 0.0, factor)


def contrast(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, float(gray(x).mean()), factor)


def saturation(x: np.ndarray, factor: float) -> np.ndarray:
    return blend(x, gray(x), factor)


def hue(x: np.ndarray, shift: float) -> np.ndarray:
    """Turn the hue by ``shift`` half circles, in YIQ."""
    if x.ndim != 3 or x.shape[2] != 3:
        raise ShapeError("hue", "an RGB image (H, W, 3)", x.shape)
    c, s = np.cos(np.pi * shift), np.sin(np.pi * shift)
    matrix = _YIQ_INVERSE @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ _YIQ
    return saturate(x.astype(np.float32) @ matrix.T.astype(np.float32), x.dtype)


class _Jitter(Transform):
    """Draws a factor around 1 and applies ``change(x, factor)``."""

    def __init__(self, amount: float) -> None:
        if amount < 0:
            raise ArgumentError(type(self).__name__, "an amount >= 0", amount)
        self._amount = amount

    def _factor(self) -> float:
        return float(generator().uniform(max(0.0, 1 - self._amount), 1 + self._amount))


class RandomBrightness(_Jitter):
    """Brightness times a factor from [1 - brightness, 1 + brightness]."""

    def __init__(self, brightness: float) -> None:
        super().__init__(brightness)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return brightness(x, self._factor())


class RandomContrast(_Jitter):
    """Distance from the image's mean grey times a factor from [1 - contrast, 1 + contrast]."""

    def __init__(self, contrast: float) -> None:
        super().__init__(contrast)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return contrast(x, self._factor())


class RandomSaturation(_Jitter):
    """Distance of each pixel from its grey times a factor from [1 - saturation, 1 + saturation]."""

    def __init__(self, saturation: float) -> None:
        super().__init__(saturation)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return saturation(x, self._factor())


class RandomHue(_Jitter):
    """Hue turned by an angle from [-hue, hue], in half circles."""

    def __init__(self, hue: float) -> None:
        super().__init__(hue)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return hue(x, float(generator().uniform(-self._amount, self._amount)))


class RandomColorJitter(Transform):
    """Brightness, contrast, saturation and hue, those that are not 0, in random order."""

    def __init__(self, brightness: float = 0, contrast: float = 0, saturation: float = 0, hue: float = 0) -> None:
        kinds = (RandomBrightness, brightness), (RandomContrast, contrast), (RandomSaturation, saturation)
        self._steps = [kind(amount) for kind, amount in (*kinds, (RandomHue, hue)) if amount]

    def apply(self, x: np.ndarray) -> np.ndarray:
        for i in generator().permutation(len(self._steps)):
            x = self._steps[i].apply(x)
        return x


class RandomLighting(Transform):
    """Add noise along the principal colours of ImageNet, of standard deviation ``alpha`` (AlexNet's; usually 0.1).

    ``x + vectors @ (a * values)`` with a ~ N(0, alpha), for values in 0 .. 255.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def apply(self, x: np.ndarray) -> np.ndarray:
        shift = _EIGENVECTORS @ (generator().normal(0, self._alpha, 3) * _EIGENVALUES)
        return saturate(x.astype(np.float32) + shift.astype(np.float32), x.dtype)


class RandomGray(Transform):
    """Grey, in three equal channels, with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self._p = probability(type(self).__name__, p)

    def apply(self, x: np.ndarray) -> np.ndarray:
        if generator().random() >= self._p:
            return x
        return np.repeat(saturate(gray(x), x.dtype), 3, axis=2)
