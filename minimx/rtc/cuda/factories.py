"""Every name that a row's plan may give, with the function that makes its recipe, from the families."""

from __future__ import annotations

from importlib import import_module

from .recipe import Factory

FAMILIES = (
    "argreduce batch_norm copy cross_entropy fill gather join multi norm_pool plain pointwise pool put random reduce "
    "row_norm scan softmax sort"
).split()
FACTORIES: dict[str, Factory] = {
    name: make for family in FAMILIES for name, make in import_module(f".{family}", __package__).FACTORIES.items()
}
