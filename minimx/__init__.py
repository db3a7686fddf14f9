"""minimx: a small, complete deep-learning framework with Gluon's API. ``import minimx as mx``.

Where things are: arrays ``mx.np``, ``mx.npx``; differentiation ``mx.autograd``; layers and training ``mx.gluon``; how
it works: docs/. Gluon and what stands on it are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import autograd, engine, errors, functions, nd, np, npx, random
from .config import settings
from .device import Context, Device, cpu, cpu_pinned, current_context, current_device, gpu, num_gpus
from .errors import MXError
from .ndarray import ndarray
from .version import __version__

_LAZY = {
    "amp": "amp",
    "gluon": "gluon",
    "init": "initializer",
    "initializer": "initializer",
    "optimizer": "optimizer",
    "lr_scheduler": "lr_scheduler",
    "models": "models",
    "image": "image",
    "profiler": "profiler",
    "serialization": "serialization",
    "graph": "graph",
    "rtc": "rtc",
    "runtime": "runtime",
    "metric": "gluon.metric",
    "base": "errors",
    "context": "device",
    "util": "util",
    "typing": "typing",
}


if TYPE_CHECKING:  # the same, for editors and type checkers
    from . import amp, gluon, graph, image, initializer, lr_scheduler, models, optimizer, rtc, serialization, typing
    from . import device as context
    from . import initializer as init
    from . import profiler as profiler
    from . import runtime as runtime
    from . import util as util
    from .gluon import metric


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"minimx.{_LAZY[name]}")
    raise AttributeError(f"module 'minimx' has no attribute {name!r}")


def _compile_list(*job: Any) -> None:
    from .graph import bulk

    bulk.submit(*job)


engine.set_list_compiler(_compile_list)
waitall = engine.wait_all
MXNetError = errors.MXNetError

__all__ = [
    "Context",
    "Device",
    "MXError",
    "autograd",
    "cpu",
    "cpu_pinned",
    "current_context",
    "current_device",
    "engine",
    "errors",
    "functions",
    "gpu",
    "nd",
    "ndarray",
    "np",
    "npx",
    "num_gpus",
    "random",
    "settings",
    "waitall",
    *_LAZY,
]
