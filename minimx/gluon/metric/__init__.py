"""Metrics: running averages of how well predictions match labels. They take numpy arrays, minimx arrays and lists.

base.py has the interface and ``create``; classification.py, regression.py and probability.py the metrics themselves.
Values are accumulated in float64 on the host, so ``update`` waits for the arrays it is given.
"""

from .base import CompositeEvalMetric, CustomMetric, EvalMetric, Loss, alias, check_label_shapes, create, np, register
from .classification import (
    F1,
    MCC,
    PCC,
    Accuracy,
    BinaryAccuracy,
    Fbeta,
    TopKAccuracy,
    one_hot,
    predict_with_threshold,
)
from .probability import CrossEntropy, NegativeLogLikelihood, Perplexity
from .regression import MAE, MSE, RMSE, MeanCosineSimilarity, MeanPairwiseDistance, PearsonCorrelation

__all__ = [
    "F1",
    "MAE",
    "MCC",
    "MSE",
    "PCC",
    "RMSE",
    "Accuracy",
    "BinaryAccuracy",
    "CompositeEvalMetric",
    "CrossEntropy",
    "CustomMetric",
    "EvalMetric",
    "Fbeta",
    "Loss",
    "MeanCosineSimilarity",
    "MeanPairwiseDistance",
    "NegativeLogLikelihood",
    "PearsonCorrelation",
    "Perplexity",
    "TopKAccuracy",
    "alias",
    "check_label_shapes",
    "create",
    "np",
    "one_hot",
    "predict_with_threshold",
    "register",
]
