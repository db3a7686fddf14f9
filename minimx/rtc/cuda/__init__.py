"""Kernels for NVIDIA GPUs: every factory that the rows name, as a recipe of CUDA text and launches (recipe.py).

``FACTORIES`` is what csrc/cpu/register.cc is on the CPU: one name, one function from specs and attributes to a Recipe.
Convolution and matmul are not here but in csrc/cuda (cuDNN, cuBLASLt). Nothing of this package needs a GPU or NVIDIA's
packages before something is compiled. Read next: pointwise.py; prelude.h; compile.py; launch: csrc/cuda/launcher.cc.
"""

from __future__ import annotations

from importlib import import_module

from .recipe import Factory

FAMILIES = ("pointwise", "copy", "reduce", "scan", "softmax", "row_norm", "batch_norm", "pool", "gather", "put", "join",
            "fill", "random")  # fmt: skip
FACTORIES: dict[str, Factory] = {}
for family in FAMILIES:
    try:
        FACTORIES |= import_module(f".{family}", __name__).FACTORIES
    except (ImportError, AttributeError, SyntaxError):
        continue
