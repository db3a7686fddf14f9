"""Kernels of cuDNN and cuBLASLt (csrc/cuda/conv.cc, matmul.cc), made on several threads when a graph wants many.

Most of the time goes into cuDNN's choice of engines, which runs without the GIL: the kernels of a ResNet take seconds
one after another. Kernels are kept by what they were asked for and by the settings in force (device.library_settings).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ...config import settings
from ...device import cuda, library_settings

MOST_KERNELS = 4096  # that are kept here; whoever uses one keeps it alive
MOST_THREADS = 8

_kernels: dict[Any, Any] = {}


@dataclass(frozen=True)
class PendingLibrary:
    """A kernel to be, or an answer, which takes seconds to make at times. Equal ones have equal keys."""

    make: Callable[[], Any]
    key: Any


def pending(make: Callable[[], Any], asked: Any) -> PendingLibrary:
    """The kernel that ``make`` makes under the settings in force; asked: all else that it depends on."""
    return PendingLibrary(make, (asked, *sorted(library_settings().items())))


def answers(question: str, calls: Sequence[tuple]) -> list[Any]:
    """What the libraries say of each (specs of inputs, specs of outputs, attributes, GPU): of a conv_fwd "conv_fuses",
    of a matmul "matmul_gain" and others of csrc/cuda/library_kernels.h. Asked once a problem, of many on threads.
    """
    ask = getattr(cuda(), question)
    asked = {repr(call): pending(functools.partial(ask, *call), (question, repr(call))) for call in calls}
    finish = begin(list(asked.values()))
    return [finish(asked[repr(call)]) for call in calls]


def begin(kernels: Iterable[Any]) -> Callable[[Any], Any]:
    """Begins to make those of ``kernels`` that are PendingLibrary. The answer waits for one and returns it, and returns
    as it is what is none.
    """
    new = {k.key: k for k in kernels if isinstance(k, PendingLibrary)}
    made = {key: _kernels[key] for key in new if key in _kernels}
    new = {key: k for key, k in new.items() if key not in made}
    if len(_kernels) + len(new) > MOST_KERNELS:
        _kernels.clear()
    ask = {key: k.make for key, k in new.items()}
    if len(new) > 1:
        pool = ThreadPoolExecutor(min(len(new), MOST_THREADS, settings.num_threads), "minimx-library")
        ask = {key: pool.submit(k.make).result for key, k in new.items()}
        pool.shutdown(wait=False)  # its threads end with the work

    def finish(kernel: Any) -> Any:
        if not isinstance(kernel, PendingLibrary):
            return kernel
        if kernel.key not in made:  # another thread may have made it meanwhile: both then use one
            made[kernel.key] = _kernels.setdefault(kernel.key, ask[kernel.key]())
        return made[kernel.key]

    return finish
