"""``mx.gluon``: blocks, parameters, layers, losses, the trainer. Start with block.py, then hybrid.py and nn/.

Parts are imported when first used: a worker process that reads data needs gluon.data and nothing else of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data, loss, metric, model_zoo, nn, parameter, utils
    from .block import Block
    from .hybrid import HybridBlock
    from .parameter import Constant, DeferredInitializationError, NotInitialized, Parameter
    from .parameter_dict import ParameterDict
    from .train_step import TrainStep
    from .trainer import Trainer

_MODULES = ("data", "loss", "metric", "model_zoo", "nn", "parameter", "utils")
_NAMES = {
    "Block": "block",
    "HybridBlock": "hybrid",
    "Constant": "parameter",
    "DeferredInitializationError": "parameter",
    "NotInitialized": "parameter",
    "Parameter": "parameter",
    "ParameterDict": "parameter_dict",
    "TrainStep": "train_step",
    "Trainer": "trainer",
}
__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _NAMES:
        raise AttributeError(f"gluon.{name}: expected one of {', '.join(__all__)}, got no such name.")
    return getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
