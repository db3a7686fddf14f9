"""``FACTORIES``: every name that a row's plan may give, with the function that makes its recipe, from the families."""

from __future__ import annotations

from importlib import import_module

from .recipe import Factory

FAMILIES = ("pointwise", "copy", "plain", "reduce", "argreduce", "scan", "sort", "softmax", "cross_entropy", "row_norm",
            "batch_norm", "pool", "gather", "put", "join", "fill", "random")  # fmt: skip
FACTORIES: dict[str, Factory] = {}
for family in FAMILIES:
    try:
        FACTORIES |= import_module(f".{family}", __package__).FACTORIES
    except (ImportError, AttributeError, SyntaxError):
        continue
