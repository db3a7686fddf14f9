"""``gluon.model_zoo.vision``: every name of ``minimx.models``, which is where the models are.

Looked up when asked for: the models are written with Gluon, so Gluon does not import them.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    models = importlib.import_module("minimx.models")
    if name.startswith("_") or not hasattr(models, name):
        raise AttributeError(f"gluon.model_zoo.vision.{name}: expected a name of minimx.models, got none such.")
    return getattr(models, name)


def __dir__() -> list[str]:
    return [name for name in dir(importlib.import_module("minimx.models")) if not name.startswith("_")]
