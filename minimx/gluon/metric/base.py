"""EvalMetric, the composite and custom ones, and the register of names that ``create`` looks in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from ..._bridge import is_mx, to_numpy
from ...errors import ArgumentTypeError, NameNotFound, ShapeError

_METRICS: dict[str, type[EvalMetric]] = {}


def register(cls: type[EvalMetric]) -> type[EvalMetric]:
    """Class decorator: make ``create(name)`` know the class by its lower-case name."""
    _METRICS[cls.__name__.lower()] = cls
    return cls


def alias(*names: str) -> Callable[[type[EvalMetric]], type[EvalMetric]]:
    """Class decorator: further names for ``create``."""

    def add(cls: type[EvalMetric]) -> type[EvalMetric]:
        for name in names:
            _METRICS[name.lower()] = cls
        return cls

    return add


def create(metric: Any, *args: Any, **kwargs: Any) -> EvalMetric:
    """A metric from its name, from ``f(label, pred)``, from a metric (itself), or from a list of these.

    >>> create("acc").name, create(["mae", "rmse"]).get_name_value()
    ('accuracy', [('mae', nan), ('rmse', nan)])
    """
    if isinstance(metric, EvalMetric):
        return metric
    if isinstance(metric, str):
        if metric.lower() not in _METRICS:
            raise NameNotFound("metric.create", "a known metric", repr(metric), f"Known: {', '.join(sorted(_METRICS))}")
        return _METRICS[metric.lower()](*args, **kwargs)
    if isinstance(metric, (list, tuple)):
        return CompositeEvalMetric([create(m, *args, **kwargs) for m in metric])
    if callable(metric):
        return CustomMetric(metric, *args, **kwargs)
    raise ArgumentTypeError("metric.create", "a name, function, metric, or list of them", type(metric).__name__)


class EvalMetric:
    """Base class. Subclasses define ``update_one(label, pred)``, which returns what to add: (sum, count).

    ``label`` and ``pred`` come as numpy arrays. ``get()`` gives ``finish(sum / count)``, and nan before any update.
    ``output_names`` and ``label_names`` choose entries in ``update_dict``.
    """

    def __init__(
        self,
        name: str,
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self.name = str(name)
        self.output_names, self.label_names = output_names, label_names
        self._settings = settings
        self.reset()

    def __str__(self) -> str:
        return f"EvalMetric: {dict(self.get_name_value())}"

    def reset(self) -> None:
        """Forget all updates."""
        self.sum_metric, self.num_inst = 0.0, 0

    def update(self, labels: Any, preds: Any) -> None:
        """Take in one batch: an array each, or lists of arrays that pair up (one per device or output)."""
        for label, pred in zip(*check_label_shapes(labels, preds, wrap=True), strict=True):
            total, count = self.update_one(to_numpy(label), to_numpy(pred))
            self.sum_metric += float(total)
            self.num_inst += int(count)

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        raise NotImplementedError(f"{type(self).__name__}.update_one must be defined by the subclass")

    def update_dict(self, label: dict[str, Any], pred: dict[str, Any]) -> None:
        """As ``update``, with arrays by name."""
        labels = [label[n] for n in self.label_names] if self.label_names is not None else list(label.values())
        preds = [pred[n] for n in self.output_names] if self.output_names is not None else list(pred.values())
        self.update(labels, preds)

    def finish(self, mean: float) -> float:
        """From the mean of all updates to the metric's value."""
        return mean

    def get(self) -> tuple[Any, Any]:
        """(name, value); value is nan where nothing was taken in."""
        if self.num_inst == 0:
            return self.name, math.nan
        return self.name, self.finish(self.sum_metric / self.num_inst)

    def get_name_value(self) -> list[tuple[str, Any]]:
        """[(name, value)], several for a composite."""
        name, value = self.get()
        return list(zip(name, value, strict=True)) if isinstance(name, list) else [(name, value)]

    def get_config(self) -> dict[str, Any]:
        """What ``create`` needs to make this metric again: the key "metric", its name and settings."""
        config = {"metric": type(self).__name__, "name": self.name, **self._settings}
        return {**config, "output_names": self.output_names, "label_names": self.label_names}


@register
@alias("composite")
class CompositeEvalMetric(EvalMetric):
    """Several metrics updated together; ``get()`` gives lists of names and values."""

    def __init__(
        self,
        metrics: Sequence[Any] | None = None,
        name: str = "composite",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self.metrics = [create(m) for m in metrics or ()]
        super().__init__(name, output_names, label_names)

    def add(self, metric: Any) -> None:
        """Add a metric, given as to ``create``."""
        self.metrics.append(create(metric))

    def get_metric(self, index: int) -> EvalMetric:
        """The ``index``-th metric."""
        return self.metrics[index]

    def reset(self) -> None:
        for m in self.metrics:
            m.reset()

    def update(self, labels: Any, preds: Any) -> None:
        for m in self.metrics:
            m.update(labels, preds)

    def update_dict(self, label: dict[str, Any], pred: dict[str, Any]) -> None:
        if self.label_names is not None:
            label = {n: label[n] for n in self.label_names}
        if self.output_names is not None:
            pred = {n: pred[n] for n in self.output_names}
        for m in self.metrics:
            m.update_dict(label, pred)

    def get(self) -> tuple[list[str], list[Any]]:
        pairs = [pair for m in self.metrics for pair in m.get_name_value()]
        return [name for name, _ in pairs], [value for _, value in pairs]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "metrics": [m.get_config() for m in self.metrics]}


@register
class CustomMetric(EvalMetric):
    """``feval(label, pred)`` on numpy arrays gives the batch's value, or (sum, count); values are averaged.

    ``allow_extra_outputs`` lets there be more predictions than labels.
    """

    def __init__(
        self,
        feval: Callable[[numpy.ndarray, numpy.ndarray], Any],
        name: str | None = None,
        allow_extra_outputs: bool = False,
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        given = getattr(feval, "__name__", type(feval).__name__)
        name = name or (f"custom({given})" if "<" in given else given)
        self._feval, self._extra = feval, allow_extra_outputs
        super().__init__(name, output_names, label_names)

    def update(self, labels: Any, preds: Any) -> None:
        if self._extra and isinstance(labels, (list, tuple)) and isinstance(preds, (list, tuple)):
            preds = preds[: len(labels)]
        super().update(labels, preds)

    def update_one(self, label: numpy.ndarray, pred: numpy.ndarray) -> tuple[float, int]:
        value = self._feval(label, pred)
        return value if isinstance(value, tuple) else (value, 1)


def np(numpy_feval: Callable[..., Any], name: str | None = None, allow_extra_outputs: bool = False) -> CustomMetric:
    """A CustomMetric from a function of numpy arrays (the name is Gluon's)."""
    return CustomMetric(numpy_feval, name or numpy_feval.__name__, allow_extra_outputs)


@register
class Loss(EvalMetric):
    """Mean of the predictions, which are losses; labels are not looked at."""

    def __init__(
        self,
        name: str = "loss",
        output_names: Sequence[str] | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, output_names, label_names)

    def update(self, _labels: Any, preds: Any) -> None:
        for pred in preds if isinstance(preds, (list, tuple)) else [preds]:
            pred = to_numpy(pred)
            self.sum_metric += float(pred.sum(dtype=numpy.float64))
            self.num_inst += pred.size


def check_label_shapes(labels: Any, preds: Any, wrap: bool = False, shape: bool = False) -> tuple[Any, Any]:
    """Refuse labels and predictions that do not pair up; ``shape`` compares shapes, ``wrap`` makes lists of arrays."""
    if shape and tuple(labels.shape) != tuple(preds.shape):
        raise ShapeError("metric", "labels and predictions of one shape", f"{labels.shape} and {preds.shape}")
    if wrap:
        labels = list(labels) if _is_list_of_arrays(labels) else [labels]
        preds = list(preds) if _is_list_of_arrays(preds) else [preds]
    if len(labels) != len(preds):
        raise ShapeError("metric", "as many labels as predictions", f"{len(labels)} and {len(preds)}")
    return labels, preds


def _is_list_of_arrays(x: Any) -> bool:
    """[array, array] is several batches; [1, 0, 1] and [[0.1, 0.9]] are one, written as a list."""
    return isinstance(x, (list, tuple)) and (not x or is_mx(x[0]) or isinstance(x[0], numpy.ndarray))


def same_length(where: str, label: numpy.ndarray, pred: numpy.ndarray) -> None:
    """Raise where two arrays differ in their numbers of elements."""
    if label.size != pred.size:
        raise ShapeError(where, "as many labels as predictions", f"shapes {label.shape} and {pred.shape}")
