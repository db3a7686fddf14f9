"""Real handwritten digits that come with the package: small enough to ship, real enough to train on. See digits.txt.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0: the 1,797 images of its test part, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....image import resize_matrix
from .archives import _InMemory

_EVERY = 5  # of five consecutive images of one digit the last one is for validation


class Digits(_InMemory):
    """Handwritten digits 0 to 9: 1,442 images for training, 355 for validation, always the same ones.

    Images are uint8 (size, size, channels), 0 background to 255 ink; labels int32. The originals are 8x8 with 17
    grey levels; a larger ``size`` is bilinear interpolation. ``channels`` repeats the one channel.

    >>> image, label = Digits(train=True, size=32, channels=3)[0]
    >>> image.shape, int(label)
    ((32, 32, 3), 0)
    """

    classes = 10

    def __init__(
        self,
        train: bool = True,
        transform: Callable[..., Any] | None = None,
        size: int = 8,
        channels: int = 1,
    ) -> None:
        super().__init__(transform)
        if size < 1 or channels < 1:
            raise ArgumentError("Digits", "size and channels >= 1", f"{size} and {channels}")
        with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
            levels, labels = file["images"], file["labels"]
        order = np.argsort(labels, kind="stable")
        rank = np.empty(len(labels), int)  # image i is the rank[i]-th of its digit
        rank[order] = np.concatenate([np.arange(n) for n in np.bincount(labels)])
        chosen = (rank % _EVERY == _EVERY - 1) != train
        images = np.rint(levels[chosen] * (255 / 16)).astype(np.uint8)[..., None]
        images = images if size == 8 else resize_matrix(images, size, size)
        self._data = np.broadcast_to(images, (*images.shape[:3], channels))  # the channels share their memory
        self._label = labels[chosen].astype(np.int32)

    def __getitem__(self, index: int) -> Any:
        image, label = np.ascontiguousarray(self._data[index]), self._label[index]
        return (image, label) if self._transform is None else self._transform(image, label)
