"""Metrics of distance: absolute and squared errors, norms, angles, correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from ...errors import ArgumentError, ShapeError
from .base import EvalMetric, alias, register


class _ElementError(EvalMetric):
    """Mean over all elements of a function of ``label - pred``."""

    def __init__(
        self,
        name: str | None = None,
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name or type(self).__name__.lower(), output_names, label_names)

    def error(self, difference: numpy.ndarray) -> numpy.ndarray:
        raise NotImplementedError

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        label, pred = _paired(type(self).__name__, label, pred)
        return self.error(label - pred).sum(), label.size


@register
class MAE(_ElementError):
    """Mean of ``|label - pred|``."""

    def error(self, difference: numpy.ndarray) -> numpy.ndarray:
        return numpy.abs(difference)


@register
class MSE(_ElementError):
    """Mean of ``(label - pred)^2``."""

    def error(self, difference: numpy.ndarray) -> numpy.ndarray:
        return difference * difference


@register
class RMSE(MSE):
    """Square root of the mean, over ALL updates, of ``(label - pred)^2``."""

    def finish(self, mean: float) -> float:
        return math.sqrt(mean)


@register
@alias("mpd")
class MeanPairwiseDistance(EvalMetric):
    """Mean over samples of ``(sum |label - pred|^p)^(1/p)``; arrays (N, ...)."""

    def __init__(
        self,
        name: str = "mpd",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        p: float = 2,
    ) -> None:
        if p <= 0:
            raise ArgumentError("MeanPairwiseDistance", "p > 0", p)
        super().__init__(name, output_names, label_names, p=p)
        self.p = p

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        label, pred = _paired("MeanPairwiseDistance", label, pred)
        rows = numpy.abs(label - pred).reshape(len(label), -1)
        return (rows**self.p).sum(axis=1).__pow__(1 / self.p).sum(), len(rows)


@register
@alias("cos_sim")
class MeanCosineSimilarity(EvalMetric):
    """Mean of ``x . y / max(|x| |y|, eps)`` over vectors along the last axis."""

    def __init__(
        self,
        name: str = "cos_sim",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(name, output_names, label_names, eps=eps)
        self.eps = eps

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        x, y = _paired("MeanCosineSimilarity", numpy.atleast_2d(label), numpy.atleast_2d(pred))
        lengths = numpy.linalg.norm(x, axis=-1) * numpy.linalg.norm(y, axis=-1)
        similarity = (x * y).sum(axis=-1) / numpy.maximum(lengths, self.eps)
        return similarity.sum(), similarity.size


@register
@alias("pearsonr")
class PearsonCorrelation(EvalMetric):
    """Pearson's correlation of all elements seen so far; nan where either does not vary.

    Means and co-moments of batches are merged exactly (Chan, Golub, LeVeque 1979), so batching does not change it.
    """

    def __init__(
        self,
        name: str = "pearsonr",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, output_names, label_names)

    def reset(self) -> None:
        super().reset()
        self._mean = numpy.zeros(2)
        self._moments = numpy.zeros((2, 2))  # sums of products of deviations

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        label, pred = _paired("PearsonCorrelation", label, pred)
        data = numpy.stack([label.ravel(), pred.ravel()])
        if not data.size:
            return 0.0, 0
        count = data.shape[1]
        mean = data.mean(axis=1)
        deviation = data - mean[:, None]
        step = mean - self._mean
        share = count / (self.num_inst + count)
        self._moments += deviation @ deviation.T + numpy.outer(step, step) * self.num_inst * share
        self._mean = self._mean + step * share
        return 0.0, count

    def get(self) -> tuple[str, Any]:
        below = math.sqrt(self._moments[0, 0] * self._moments[1, 1])
        return self.name, float(self._moments[0, 1] / below) if below else math.nan


def _paired(where: str, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Both in float64 and of ``pred``'s shape; (N,) and (N, 1) pair up."""
    if label.shape != pred.shape:
        if label.size != pred.size or label.squeeze().shape != pred.squeeze().shape:
            raise ShapeError(where, "label and pred of one shape", f"{label.shape} and {pred.shape}")
        label = label.reshape(pred.shape)
    return label.astype(numpy.float64), pred.astype(numpy.float64)
