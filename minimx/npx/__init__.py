"""``mx.npx``: neural operators and what NumPy lacks, made from the operator table.

For editors and type checkers the functions are in ``__init__.pyi``, written by ``python -m minimx.ops stubs``.
"""

from __future__ import annotations

from .. import functions as _functions
from ..device import cpu, cpu_pinned, current_context, current_device, gpu, gpu_memory_info, num_gpus
from ..engine import wait_all as waitall
from ..ndarray import asarray as from_numpy
from ..ndarray import from_dlpack
from ..random import seed
from ..serialization import load, save, savez
from ..util import is_np_array, is_np_shape, reset_np, set_np, use_np, use_np_array, use_np_shape
from . import random

globals().update(_functions.names("npx"))

__all__ = [name for name in globals() if not name.startswith("_") and name != "annotations"]
