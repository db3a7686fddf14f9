"""Metrics of classes: accuracies, F scores and correlations of a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from ..._bridge import same_kind, to_numpy
from ...errors import ArgumentError, ShapeError
from .base import EvalMetric, alias, register, same_length


@register
@alias("acc")
class Accuracy(EvalMetric):
    """Share of predictions equal to the label. Where shapes differ, ``pred`` are scores and ``axis`` holds classes."""

    def __init__(
        self,
        axis: int = 1,
        name: str = "accuracy",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, output_names, label_names, axis=axis)
        self.axis = axis

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        if pred.shape != label.shape and pred.ndim > label.ndim:
            pred = pred.argmax(axis=self.axis)
        same_length("Accuracy", label, pred)
        return (pred.astype(numpy.int64).ravel() == label.astype(numpy.int64).ravel()).sum(), label.size


@register
@alias("top_k_accuracy", "top_k_acc")
class TopKAccuracy(EvalMetric):
    """Share of samples whose label is among the ``top_k`` highest scores. ``label`` (N,), ``pred`` (N, C)."""

    def __init__(
        self,
        top_k: int = 1,
        name: str = "top_k_accuracy",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        if top_k < 2:
            raise ArgumentError("TopKAccuracy", "top_k > 1", top_k, "Use Accuracy for the best one")
        super().__init__(name, output_names, label_names, top_k=top_k)
        self.top_k, self.name = top_k, f"{name}_{top_k}"

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "name": self.name.rpartition("_")[0]}

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        if pred.ndim != 2 or label.size != len(pred):
            raise ShapeError("TopKAccuracy", "label (N,) and pred (N, C)", f"{label.shape} and {pred.shape}")
        k = min(self.top_k, pred.shape[1])
        best = numpy.argpartition(pred, pred.shape[1] - k, axis=1)[:, -k:]
        return (best == label.reshape(-1, 1)).sum(), label.size


@register
class BinaryAccuracy(EvalMetric):
    """Share of ``pred > threshold`` equal to the label; any shape, the same for both."""

    def __init__(
        self,
        name: str = "binary_accuracy",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        threshold: float | numpy.ndarray = 0.5,
    ) -> None:
        super().__init__(name, output_names, label_names, threshold=threshold)
        self.threshold = threshold

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        same_length("BinaryAccuracy", label, pred)
        guess = predict_with_threshold(pred, self.threshold).ravel()
        return (guess == (label.ravel() > 0)).sum(), label.size


class _Counts(EvalMetric):
    """Keeps true positives, false positives, false negatives and true negatives for each class.

    ``class_type`` "binary": label 0 or 1, pred the probability of 1, or (N, 2); "multiclass": label (N,), pred (N, C),
    the best class counts; "multilabel": label and pred (N, C), every class above ``threshold`` counts.
    """

    def __init__(self, name: str, output_names: Any, label_names: Any, class_type: str, **settings: Any) -> None:
        if class_type not in ("binary", "multiclass", "multilabel"):
            raise ArgumentError(
                type(self).__name__, "class_type 'binary', 'multiclass' or 'multilabel'", repr(class_type)
            )
        self.class_type, self.threshold = class_type, settings["threshold"]
        super().__init__(name, output_names, label_names, **settings)

    def reset(self) -> None:
        super().reset()
        self._counts: numpy.ndarray | None = None  # (4, classes): tp, fp, fn, tn

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        truth, guess = self._as_flags(label, pred)
        same_length(type(self).__name__, truth, guess)
        counts = numpy.stack(
            [(truth & guess).sum(0), (~truth & guess).sum(0), (truth & ~guess).sum(0), (~truth & ~guess).sum(0)]
        )
        if self._counts is not None and self._counts.shape != counts.shape:
            classes = f"{counts.shape[1]} after {self._counts.shape[1]}"
            raise ShapeError(type(self).__name__, "the same number of classes in every update", classes)
        self._counts = counts if self._counts is None else self._counts + counts
        return 0.0, len(truth)

    def _as_flags(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Truth and guess as bool (samples, classes)."""
        if self.class_type == "binary":
            if label.size and (label.max() > 1 or label.min() < 0):
                raise ArgumentError(type(self).__name__, "labels 0 and 1", f"{label.min()} to {label.max()}")
            pred = pred.reshape(-1, 2)[:, 1] if pred.shape != label.shape and pred.shape[-1] == 2 else pred
            return label.reshape(-1, 1) > 0, predict_with_threshold(pred, self.threshold).reshape(-1, 1)
        classes = pred.shape[-1]
        if self.class_type == "multilabel":
            return label.reshape(-1, classes) > 0, predict_with_threshold(pred, self.threshold).reshape(-1, classes)
        flags = numpy.eye(classes, dtype=bool)
        return flags[label.astype(numpy.int64).ravel()], flags[pred.argmax(-1).ravel()]


@register
class Fbeta(_Counts):
    """``(1 + beta^2) precision recall / (beta^2 precision + recall)``; 0 where undefined.

    ``average``: "micro" counts all classes together, "macro" is the mean over classes, None an array of each class.
    """

    def __init__(
        self,
        name: str = "fbeta",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        class_type: str = "binary",
        beta: float = 1,
        threshold: float | numpy.ndarray = 0.5,
        average: str | None = "micro",
    ) -> None:
        if average not in ("micro", "macro", None):
            raise ArgumentError(type(self).__name__, "average 'micro', 'macro' or None", repr(average))
        self.beta, self.average = beta, average
        settings = {"beta": beta, "threshold": threshold, "average": average}
        super().__init__(name, output_names, label_names, class_type, **settings)
        self._settings["class_type"] = class_type

    def get(self) -> tuple[str, Any]:
        if self._counts is None:
            return self.name, math.nan
        tp, fp, fn, _ = self._counts.sum(1, keepdims=True) if self.average == "micro" else self._counts
        b2 = self.beta**2
        below = (1 + b2) * tp + b2 * fn + fp
        score = numpy.divide((1 + b2) * tp, below, out=numpy.zeros(len(tp)), where=below > 0)
        return self.name, score if self.average is None else float(score.mean())


@register
class F1(Fbeta):
    """``2 precision recall / (precision + recall)``: Fbeta with beta 1."""

    def __init__(
        self,
        name: str = "f1",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        class_type: str = "binary",
        threshold: float | numpy.ndarray = 0.5,
        average: str | None = "micro",
    ) -> None:
        super().__init__(name, output_names, label_names, class_type, 1, threshold, average)
        del self._settings["beta"]


@register
class MCC(_Counts):
    """Matthews' correlation of binary classes (Matthews 1975); 0 where undefined.

    ``(tp tn - fp fn) / sqrt((tp + fp) (tp + fn) (tn + fp) (tn + fn))``
    """

    def __init__(
        self,
        name: str = "mcc",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(name, output_names, label_names, "binary", threshold=threshold)

    def get(self) -> tuple[str, Any]:
        if self._counts is None:
            return self.name, math.nan
        tp, fp, fn, tn = (float(n) for n in self._counts[:, 0])
        below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return self.name, (tp * tn - fp * fn) / math.sqrt(below) if below else 0.0


@register
class PCC(EvalMetric):
    """Matthews' correlation for any number of classes: Pearson's, of the confusion matrix (Gorodkin 2004, eq. 8)."""

    def __init__(
        self,
        name: str = "pcc",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, output_names, label_names)

    def reset(self) -> None:
        super().reset()
        self._confusion = numpy.zeros((2, 2), numpy.int64)  # [guess, truth]

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        guess = pred.argmax(axis=1) if pred.ndim > label.ndim else pred
        truth, guess = label.astype(numpy.int64).ravel(), guess.astype(numpy.int64).ravel()
        same_length("PCC", truth, guess)
        grow = int(max(truth.max(initial=0), guess.max(initial=0))) + 1 - len(self._confusion)
        if grow > 0:
            self._confusion = numpy.pad(self._confusion, (0, grow))
        numpy.add.at(self._confusion, (guess, truth), 1)
        return 0.0, truth.size

    def get(self) -> tuple[str, Any]:
        if self.num_inst == 0:
            return self.name, math.nan
        c = self._confusion.astype(numpy.float64)
        total, guesses, truths = c.sum(), c.sum(1), c.sum(0)
        above = numpy.trace(c) * total - guesses @ truths
        below = math.sqrt((total**2 - guesses @ guesses) * (total**2 - truths @ truths))
        return self.name, float(above / below) if below else 0.0


def predict_with_threshold(pred: Any, threshold: Any = 0.5) -> Any:
    """``pred > threshold`` as bool; an array of thresholds has one for each class, the last axis of ``pred``."""
    x, limit = to_numpy(pred), to_numpy(threshold)
    if limit.ndim and limit.size != x.shape[-1]:
        raise ShapeError("predict_with_threshold", f"{x.shape[-1]} thresholds, one a class", limit.size)
    return same_kind(pred, x > limit)


def one_hot(idx: Any, num: int) -> Any:
    """int32 (..., ``num``) with a 1 at each index of ``idx`` (...)."""
    return same_kind(idx, (to_numpy(idx).astype(numpy.int64)[..., None] == numpy.arange(num)).astype(numpy.int32))
