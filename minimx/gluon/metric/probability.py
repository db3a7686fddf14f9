"""Metrics of predicted probabilities: cross-entropy and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy

from ...errors import IndexOutOfBounds, ShapeError
from .base import EvalMetric, alias, register


@register
@alias("ce", "cross-entropy")
class CrossEntropy(EvalMetric):
    """Mean of ``-log(p[label] + eps)``; with ``from_logits`` of ``-log softmax(pred)[label]``.

    ``pred`` has the classes on ``axis`` and otherwise ``label``'s shape. Labels equal to ``ignore_label`` do not count.
    """

    def __init__(
        self,
        eps: float = 1e-12,
        ignore_label: int | None = None,
        axis: int = -1,
        from_logits: bool = False,
        name: str = "cross-entropy",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        settings = {"eps": eps, "ignore_label": ignore_label, "axis": axis, "from_logits": from_logits}
        super().__init__(name, output_names, label_names, **settings)
        self.eps, self.ignore_label, self.axis, self.from_logits = eps, ignore_label, axis, from_logits

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        scores = numpy.moveaxis(pred, self.axis, -1).astype(numpy.float64)
        classes = scores.shape[-1]
        if label.size * classes != scores.size:
            rule = f"one label for each vector on axis {self.axis} of pred"
            raise ShapeError(type(self).__name__, rule, f"label {label.shape}, pred {pred.shape}")
        scores, chosen = scores.reshape(-1, classes), label.ravel().astype(numpy.int64)
        if self.ignore_label is not None:
            counted = chosen != self.ignore_label
            scores, chosen = scores[counted], chosen[counted]
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < classes:
            raise IndexOutOfBounds(
                type(self).__name__, f"labels from 0 to {classes - 1}", f"{chosen.min()} to {chosen.max()}"
            )
        at_label = scores[numpy.arange(len(chosen)), chosen]
        if not self.from_logits:
            return -numpy.log(at_label + self.eps).sum(), len(chosen)
        top = scores.max(axis=1, initial=-math.inf)
        return (top + numpy.log(numpy.exp(scores - top[:, None]).sum(axis=1)) - at_label).sum(), len(chosen)


@register
@alias("nll_loss", "nll-loss")
class NegativeLogLikelihood(CrossEntropy):
    """CrossEntropy of probabilities, by its other name."""

    def __init__(
        self,
        eps: float = 1e-12,
        name: str = "nll-loss",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(eps, name=name, output_names=output_names, label_names=label_names)
        self._settings = {"eps": eps}


@register
class Perplexity(CrossEntropy):
    """``exp`` of the mean cross-entropy over all updates."""

    def __init__(
        self,
        eps: float = 1e-12,
        ignore_label: int | None = None,
        axis: int = -1,
        from_logits: bool = False,
        name: str = "perplexity",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(eps, ignore_label, axis, from_logits, name, output_names, label_names)

    def finish(self, mean: float) -> float:
        return math.exp(mean)
