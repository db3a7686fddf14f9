"""What a transform is, how transforms are put together, and the last two steps of every pipeline: tensor, normalise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....._bridge import same_kind, to_numpy
from .....errors import ArgumentError, ShapeError
from ...rng import generator


class Transform:
    """A function of one image. Subclasses define ``apply(x)`` on a numpy array; it must not write into ``x``."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__}.apply must be defined by the subclass")

    def __call__(self, x: Any, *rest: Any) -> Any:
        """``apply(x)`` as the kind of array that ``x`` is; with further arguments the tuple ``(result, *rest)``."""
        out = same_kind(x, self.apply(to_numpy(x)))
        return (out, *rest) if rest else out

    def __repr__(self) -> str:
        settings = ", ".join(f"{k.lstrip('_')}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({settings})"


class Compose(Transform):
    """Transforms, or any functions of one argument, one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self._transforms = list(transforms)
        for t in self._transforms:
            if not callable(t):
                raise ArgumentError(type(self).__name__, "functions", f"a {type(t).__name__}")

    def __call__(self, x: Any, *rest: Any) -> Any:
        for t in self._transforms:
            x = t(x)
        return (x, *rest) if rest else x

    def __len__(self) -> int:
        return len(self._transforms)

    def __getitem__(self, index: int) -> Callable[[Any], Any]:
        return self._transforms[index]


class HybridCompose(Compose):
    """The same as Compose: here transforms run on numpy, so there is no graph to make of them."""


class RandomApply(Compose):
    """With probability ``p`` apply ``transforms`` (one, or several in order), else do nothing."""

    def __init__(self, transforms: Any, p: float = 0.5) -> None:
        super().__init__([transforms] if callable(transforms) else transforms)
        self._p = probability(type(self).__name__, p)

    def __call__(self, x: Any, *rest: Any) -> Any:
        if generator().random() < self._p:
            return super().__call__(x, *rest)
        return (x, *rest) if rest else x


class HybridRandomApply(RandomApply):
    """The same as RandomApply."""


class Cast(Transform):
    """Change the element type."""

    def __init__(self, dtype: Any = "float32") -> None:
        self._dtype = np.dtype(dtype)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return x.astype(self._dtype)


class ToTensor(Transform):
    """(H, W, C) in [0, 255] to float32 (C, H, W) in [0, 1]; a batch (N, H, W, C) to (N, C, H, W)."""

    def apply(self, x: np.ndarray) -> np.ndarray:
        if x.ndim not in (3, 4):
            raise ShapeError("ToTensor", "an image (H, W, C) or a batch (N, H, W, C)", x.shape)
        return np.ascontiguousarray(np.moveaxis(x, -1, -3), dtype=np.float32) * np.float32(1 / 255)


class Normalize(Transform):
    """``(x - mean) / std`` for each channel of a float (C, H, W) or (N, C, H, W); a scalar serves all channels."""

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0) -> None:
        self._mean, self._std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))
        if (self._std == 0).any():
            raise ArgumentError("Normalize", "std without zeros", std)

    def apply(self, x: np.ndarray) -> np.ndarray:
        if x.ndim not in (3, 4) or x.dtype.kind != "f":
            rule, got = "a float image (C, H, W), or a batch of them", f"{x.dtype} of shape {x.shape}"
            raise ShapeError("Normalize", rule, got, "Put ToTensor() before it")
        for value in (self._mean, self._std):
            if len(value) not in (1, x.shape[-3]):
                raise ShapeError("Normalize", f"1 or {x.shape[-3]} values of mean and std", len(value))
        return ((x - self._mean) / self._std).astype(x.dtype, copy=False)


def probability(where: str, p: float) -> float:
    """``p`` where it is in [0, 1], else an ArgumentError."""
    if not 0 <= p <= 1:
        raise ArgumentError(where, "a probability from 0 to 1", p)
    return p
