"""Losses: blocks that map predictions and labels to one number per sample of the batch.

A loss of shape (N, ...) is averaged over all axes but ``batch_axis``, so ``loss.backward()`` sums over the batch and
``trainer.step(batch_size)`` divides. Every loss takes ``weight`` (a factor) and, when called, ``sample_weight``.
"""

from __future__ import annotations

import math
from typing import Any

from .. import np, npx
from ..errors import ArgumentError
from .hybrid import HybridBlock

__all__ = [
    "Loss",
    "L2Loss",
    "L1Loss",
    "SigmoidBinaryCrossEntropyLoss",
    "SigmoidBCELoss",
    "SoftmaxCrossEntropyLoss",
    "SoftmaxCELoss",
    "KLDivLoss",
    "HuberLoss",
    "HingeLoss",
    "SquaredHingeLoss",
    "LogisticLoss",
    "TripletLoss",
    "PoissonNLLLoss",
    "CosineEmbeddingLoss",
    "SDMLLoss",
]


class Loss(HybridBlock):
    """Base. weight: factor on the loss, or None. batch_axis: the axis that is not averaged over."""

    def __init__(self, weight: float | None, batch_axis: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._weight, self._batch_axis = weight, batch_axis

    def _weighted(self, loss: Any, sample_weight: Any = None) -> Any:
        """Times ``sample_weight`` (broadcasts to the loss) and the factor."""
        if sample_weight is not None:
            loss = loss * sample_weight
        return loss if self._weight is None else loss * self._weight

    def _batch_mean(self, loss: Any) -> Any:
        """Mean over all axes but the batch: (N, ...) -> (N,)."""
        axes = tuple(axis for axis in range(loss.ndim) if axis != self._batch_axis % loss.ndim)
        return loss.mean(axis=axes) if axes else loss

    def extra_repr(self) -> str:
        return f"batch_axis={self._batch_axis}, w={self._weight}"


class L2Loss(Loss):
    """(pred - label)^2 / 2."""

    def __init__(self, weight: float = 1.0, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        loss = np.square(label.reshape(pred.shape) - pred) * 0.5
        return self._batch_mean(self._weighted(loss, sample_weight))


class L1Loss(Loss):
    """|pred - label|."""

    def __init__(self, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        loss = np.abs(label.reshape(pred.shape) - pred)
        return self._batch_mean(self._weighted(loss, sample_weight))


class SigmoidBinaryCrossEntropyLoss(Loss):
    """-(label log p + (1 - label) log(1 - p)), p = sigmoid(pred), or pred itself with from_sigmoid.

    From logits, computed as max(x, 0) - x label + log(1 + exp(-|x|)), which does not overflow.
    """

    def __init__(
        self, from_sigmoid: bool = False, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_sigmoid = from_sigmoid

    def forward(self, pred: Any, label: Any, sample_weight: Any = None, pos_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements in [0, 1], pos_weight (broadcasts): factor on label = 1 -> (N,)."""
        label = label.reshape(pred.shape).astype(pred.dtype)
        if self._from_sigmoid:
            eps = 1e-12
            positive = np.log(pred + eps) * label
            positive = positive if pos_weight is None else positive * pos_weight
            loss = -(positive + np.log(1.0 - pred + eps) * (1.0 - label))
        else:
            soft = np.log1p(np.exp(-np.abs(pred)))  # log(1 + exp(-|x|))
            if pos_weight is None:
                loss = npx.relu(pred) - pred * label + soft
            else:
                factor = 1 + (pos_weight - 1) * label
                loss = pred - pred * label + factor * (soft + npx.relu(-pred))
        return self._batch_mean(self._weighted(loss, sample_weight))


class SoftmaxCrossEntropyLoss(Loss):
    """-log softmax(pred)[label] for class numbers, -sum(label log softmax(pred)) for dense labels.

    axis: of the classes. sparse_label: labels are class numbers. from_logits: pred is log softmax already. For label
    smoothing give dense labels.

    >>> import minimx as mx
    >>> loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    >>> loss(mx.np.zeros((2, 4)), mx.np.array([1, 3])).shape
    (2,)
    """

    def __init__(
        self,
        axis: int = -1,
        sparse_label: bool = True,
        from_logits: bool = False,
        weight: float | None = None,
        batch_axis: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._axis, self._sparse_label, self._from_logits = axis, sparse_label, from_logits

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, C, ...) with C along axis; label without that axis (sparse), or of pred's shape -> (N,)."""
        if self._sparse_label and not self._from_logits:
            loss = np.expand_dims(npx.softmax_cross_entropy(pred, label, axis=self._axis), self._axis)
            return self._batch_mean(self._weighted(loss, sample_weight))
        if not self._from_logits:
            pred = npx.log_softmax(pred, axis=self._axis)
        if self._sparse_label:
            loss = -npx.pick(pred, label, axis=self._axis, keepdims=True)
        else:
            loss = -(pred * label.reshape(pred.shape)).sum(axis=self._axis, keepdims=True)
        return self._batch_mean(self._weighted(loss, sample_weight))


class KLDivLoss(Loss):
    """label (log label - pred), pred being log-probabilities, or logits without from_logits. The MEAN over the axes."""

    def __init__(
        self, from_logits: bool = True, axis: int = -1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits, self._axis = from_logits, axis

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred and label (N, ...) -> (N,)."""
        if not self._from_logits:
            pred = npx.log_softmax(pred, axis=self._axis)
        loss = label * (np.log(label + 1e-12) - pred)
        return self._batch_mean(self._weighted(loss, sample_weight))


class HuberLoss(Loss):
    """d^2 / (2 rho) for d = |pred - label| up to rho, beyond it d - rho / 2."""

    def __init__(self, rho: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._rho = rho

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        distance = np.abs(label.reshape(pred.shape) - pred)
        near, far = np.square(distance) * (0.5 / self._rho), distance - 0.5 * self._rho
        loss = np.where(distance > self._rho, far, near)
        return self._batch_mean(self._weighted(loss, sample_weight))


class HingeLoss(Loss):
    """max(0, margin - pred label), labels -1 and 1."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        loss = npx.relu(self._margin - pred * label.reshape(pred.shape))
        return self._batch_mean(self._weighted(loss, sample_weight))


class SquaredHingeLoss(Loss):
    """max(0, margin - pred label)^2, labels -1 and 1."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        loss = np.square(npx.relu(self._margin - pred * label.reshape(pred.shape)))
        return self._batch_mean(self._weighted(loss, sample_weight))


class LogisticLoss(Loss):
    """log(1 + exp(-pred label)), labels -1 and 1 ("signed"), or 0 and 1 ("binary")."""

    def __init__(
        self, weight: float | None = None, batch_axis: int = 0, label_format: str = "signed", **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        if label_format not in ("signed", "binary"):
            raise ArgumentError("LogisticLoss", "label_format 'signed' or 'binary'", repr(label_format))
        self._label_format = label_format

    def forward(self, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        """pred (N, ...), label of as many elements -> (N,)."""
        label = label.reshape(pred.shape).astype(pred.dtype)
        if self._label_format == "signed":
            label = (label + 1.0) / 2.0
        loss = npx.relu(pred) - pred * label + np.log1p(np.exp(-np.abs(pred)))
        return self._batch_mean(self._weighted(loss, sample_weight))


class TripletLoss(Loss):
    """max(0, margin + sum((positive - pred)^2 - (negative - pred)^2)). Schroff et al. 2015, arXiv:1503.03832."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def forward(self, pred: Any, positive: Any, negative: Any, sample_weight: Any = None) -> Any:
        """Three arrays (N, ...) -> (N,)."""
        positive, negative = positive.reshape(pred.shape), negative.reshape(pred.shape)
        distance = np.square(positive - pred) - np.square(negative - pred)
        axes = tuple(axis for axis in range(pred.ndim) if axis != self._batch_axis % pred.ndim)
        loss = npx.relu((distance.sum(axis=axes) if axes else distance) + self._margin)
        return self._weighted(loss, sample_weight)


class PoissonNLLLoss(Loss):
    """exp(pred) - target pred (from_logits), or pred - target log(pred); the mean over everything, one number.

    compute_full: adds Stirling's target log target - target + log(2 pi target) / 2 where target > 1.
    """

    def __init__(
        self,
        weight: float | None = None,
        from_logits: bool = True,
        batch_axis: int = 0,
        compute_full: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits, self._compute_full = from_logits, compute_full

    def forward(self, pred: Any, target: Any, sample_weight: Any = None, epsilon: float = 1e-08) -> Any:
        """pred (N, ...), target of as many elements -> ()."""
        target = target.reshape(pred.shape)
        if self._from_logits:
            loss = np.exp(pred) - target * pred
        else:
            loss = pred - target * np.log(pred + epsilon)
        if self._compute_full:
            safe = np.maximum(target, 1.0)
            stirling = safe * np.log(safe) - safe + 0.5 * np.log(2 * math.pi * safe)
            loss = loss + np.where(target > 1, stirling, np.zeros_like(stirling))
        return self._weighted(loss, sample_weight).mean()


class CosineEmbeddingLoss(Loss):
    """1 - cos(input1, input2) where label is 1, max(0, cos - margin) where it is -1; cos along the last axis."""

    def __init__(self, weight: float | None = None, batch_axis: int = 0, margin: float = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def forward(self, input1: Any, input2: Any, label: Any, sample_weight: Any = None) -> Any:
        """Two arrays (N, ..., D) and labels (N, ...) -> (N,)."""
        input2 = input2.reshape(input1.shape)
        norms = np.sqrt(np.square(input1).sum(axis=-1)) * np.sqrt(np.square(input2).sum(axis=-1))
        cosine = (input1 * input2).sum(axis=-1) / np.maximum(norms, 1e-12)
        loss = np.where(label.reshape(cosine.shape) == 1, 1.0 - cosine, npx.relu(cosine - self._margin))
        return self._batch_mean(self._weighted(loss, sample_weight))


class SDMLLoss(Loss):
    """Smoothed deep metric learning: row i of x1 belongs to row i of x2 and to no other. Bonadiman et al. 2019.

    Cross-entropy of softmax(-squared distances) with labels smoothed by ``smoothing_parameter``. arXiv:1905.12786.
    """

    def __init__(self, smoothing_parameter: float = 0.3, weight: float = 1.0, batch_axis: int = 0, **kwargs: Any):
        super().__init__(weight, batch_axis, **kwargs)
        self._smoothing = smoothing_parameter

    def forward(self, x1: Any, x2: Any) -> Any:
        """Two arrays (N, D), N at least 2 -> (N,)."""
        n = x1.shape[0]
        distances = np.square(np.expand_dims(x1, 1) - np.expand_dims(x2, 0)).sum(axis=2)
        log_p = npx.log_softmax(-distances, axis=1)
        gold = np.eye(n, dtype=x1.dtype, device=x1.device)
        labels = gold * (1 - self._smoothing) + (1 - gold) * (self._smoothing / (n - 1))
        return self._weighted((labels * (np.log(labels + 1e-12) - log_p)).sum(axis=1))


SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss
SoftmaxCELoss = SoftmaxCrossEntropyLoss
