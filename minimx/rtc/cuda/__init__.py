"""Kernels for NVIDIA GPUs: every factory that the rows name, as a recipe of CUDA text and launches (recipe.py).

``FACTORIES`` is what csrc/cpu/register.cc is on the CPU: one name, one function from specs and attributes to a Recipe.
``kernel_for`` makes a kernel that runs; ``wanted`` and ``finished`` make many, compiled together. Convolutions and
products are not here but in csrc/cuda (cuDNN, cuBLASLt). Nothing of this package needs a GPU or NVIDIA's packages
before something is compiled. Read next: pointwise.py; prelude.h; compile.py; kernel.py; csrc/cuda/launcher.cc.
"""

from .factories import FACTORIES
from .kernel import finished, kernel_for, wanted, wanted_fused

__all__ = ["FACTORIES", "finished", "kernel_for", "wanted", "wanted_fused"]
