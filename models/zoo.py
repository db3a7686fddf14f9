"""Models by name."""

from __future__ import annotations

from collections.abc import Callable

from minimx.errors import NameNotFound
from minimx.gluon import HybridBlock

from . import resnet
from .bert import bert_base, bert_large
from .lenet import lenet

__all__ = ["get_model", "list_models"]

_MODELS: dict[str, Callable[..., HybridBlock]] = {"bert_base": bert_base, "bert_large": bert_large, "lenet": lenet} | {
    name: getattr(resnet, name) for name in resnet.__all__ if name.startswith("resnet")
}


def list_models() -> list[str]:
    """Names that ``get_model`` knows."""
    return sorted(_MODELS)


def get_model(name: str, **kwargs: object) -> HybridBlock:
    """A model by name; keyword arguments go to its function. Raises NameNotFound.

    >>> net = get_model("resnet18_v1b", classes=10, layout="NHWC")
    """
    key = name.lower().replace("-", "_")
    if key not in _MODELS:
        raise NameNotFound("get_model", f"one of {', '.join(list_models())}", repr(name), "Fix the name")
    return _MODELS[key](**kwargs)
