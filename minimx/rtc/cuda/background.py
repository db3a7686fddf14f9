"""Fused kernels of a GPU that are compiled while their members run in their place.

Whoever lowers a graph does not wait for NVRTC where the members of a group are compiled already, say because the net
ran imperatively before. What waits here is told when its cubins are there; a failure is a warning once, is explained by
``minimx.rtc.report()``, and the members stay. Which groups these are: kernel.py. What runs: csrc/runtime/fused.h.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from ...errors import CompileError
from . import compile as compiling
from .recipe import Code

MOST = 4096  # that report() knows


@dataclass(eq=False)
class Takeover:
    """A kernel to come. state: "waiting", then "ready" or "failed", which changes under ``_changed`` only.

    kernel: the ``_core.Kernel`` that runs its members until it is settled; make: from the cubin to what takes over.
    Both are dropped then.
    """

    group: Any
    codes: tuple[Code, ...]
    kernel: Any
    make: Callable[[dict[str, bytes]], Any]
    state: str = "waiting"
    complaint: str = ""

    def settle_after(self, cubins: Sequence[Future[bytes]]) -> None:
        """Has the thread that compiles the last of the texts end the waiting."""
        left = [len(cubins)]

        def one_more(_: Future[bytes]) -> None:
            with _changed:
                left[0] -= 1
                last = not left[0]
            if last:
                self.settle(cubins)

        for cubin in cubins:
            cubin.add_done_callback(one_more)

    def settle(self, cubins: Sequence[Future[bytes]]) -> None:
        """Ends the waiting."""
        state, complaint = "failed", ""
        try:
            self.kernel.settle(self.make({c.name: x.result() for c, x in zip(self.codes, cubins, strict=True)}))
            state = "ready"
        except CancelledError:
            complaint = " (interrupted)"
        except Exception as error:  # the compiler's words are in its report, the driver's are a line
            complaint = "" if isinstance(error, CompileError) else f" ({error})"
            warn(self.group)
        finally:
            self.kernel.settle(None)  # where nothing took over, the members stay
            with _changed:
                self.state, self.complaint = state, complaint
                self.kernel, self.make = None, None  # type: ignore[assignment]
                _changed.notify_all()


_changed = threading.Condition()
_takeovers: list[Takeover] = []
_warned = False


def begin(takeovers: Sequence[Takeover], arch: str) -> None:
    """Has the kernels compiled, and returns."""
    with _changed:
        _takeovers.extend(takeovers)
        del _takeovers[: max(0, len(_takeovers) - MOST)]
    cubins = iter(compiling.service.ask([c for t in takeovers for c in t.codes], arch, wait=False))
    for t in takeovers:
        t.settle_after(list(itertools.islice(cubins, len(t.codes))))


def warn(group: Any) -> None:
    """Says once in a process that a group stays unfused."""
    global _warned
    with _changed:
        first, _warned = not _warned, True
    if first and threading.main_thread().is_alive():
        with contextlib.suppress(Warning):  # a thread in the background has nobody to raise to
            text = (f"rtc: expected a GPU's kernel that fuses {', '.join(group.rows)}, got an error. "
                    "Its operators run one by one. See minimx.rtc.report().")  # fmt: skip
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def wait(timeout: float | None = None) -> bool:
    """Waits until no kernel is waiting; False if ``timeout`` seconds did not do."""
    with _changed:
        return _changed.wait_for(lambda: all(t.state != "waiting" for t in _takeovers), timeout)


def report() -> list[str]:
    """Lines for minimx.rtc.report()."""
    with _changed:
        known = list(_takeovers)
    if not known:
        return []
    states = Counter(t.state for t in known)
    counts = ", ".join(f"{states[s]} {s}" for s in ("ready", "waiting", "failed"))
    lines = [f"cuda: {len(known)} fused kernels compiled while their members ran, {counts}"]
    return lines + [f"{t.codes[0].name} {t.state}{t.complaint}: {t.group.title()}" for t in known]
