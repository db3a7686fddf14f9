"""Buckets: gradients on several devices, summed while backward still runs.

The last layers' gradients are final first. So the tape writes a gradient as soon as nothing can add to it any more
(``Walk::write_final`` in csrc/runtime/walk.cc) and says so; as soon as all of a bucket are there, on all devices, their
sum begins on the communication streams, beside the rest of backward (Li et al., "PyTorch Distributed", VLDB 2020). The
sums go to memory of their own: until ``Trainer.step`` a gradient is what backward gave, and a bucket that somebody has
written to meanwhile is summed anew. Order, and number of backward passes a step, are those of the step before.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

from ..collectives import Sums, sum_copies
from ..ndarray import _core

__all__ = ["BYTES", "Buckets"]

BYTES = 25 << 20  # of a bucket: enough for the bandwidth of a link, and small beside a large model


class _Bucket:
    """Some parameters whose gradients became final one after another."""

    def __init__(self) -> None:
        self.numbers: list[int] = []  # of the parameters
        self.awaited = 0  # writes until the sum begins
        self.sums: Sums | None = None


class Buckets:
    """The gradients of some parameters over their devices. ``sum`` is called once a step, with the same ones."""

    def __init__(self) -> None:
        self._weights: list[Sequence[Any]] = []
        self._written: dict[tuple[int, int], int] = {}  # (parameter, device) -> writes since the last step, in order
        self._expected: dict[tuple[int, int], int] = {}  # the same of the step before
        self._buckets: list[_Bucket] = []
        self._of: dict[int, _Bucket] = {}  # by parameter
        self._futile = 0  # steps in a row whose gradients were written to after backward: not begun early after three

    def sum(self, weights: list[Sequence[Any]]) -> None:
        """Makes the gradients of ``weights`` (of each parameter its copies) their sums over devices."""
        done: set[int] = set()
        changed = False
        for bucket in self._buckets:
            sums, bucket.sums = bucket.sums, None
            if sums is None:
                continue
            good = sums.unchanged and self._same(weights, bucket)
            changed = changed or not good
            totals = sums.wait()
            if good:
                del sums
                for i in bucket.numbers:
                    for w, total in zip(weights[i], totals.pop(0), strict=True):
                        _core.move_grad(w, total)
                done.update(bucket.numbers)
        sum_copies([[w.grad for w in copies] for i, copies in enumerate(weights) if i not in done])
        self._futile = self._futile + 1 if changed else 0
        self._prepare(weights)

    def _same(self, weights: list[Sequence[Any]], bucket: _Bucket) -> bool:
        """Backward has written the bucket as often as expected, and to these arrays."""
        return all(
            i < len(weights)
            and all(w is v for w, v in zip(weights[i], self._weights[i], strict=True))
            and all(self._written.get((i, k)) == self._expected[i, k] for k in range(len(weights[i])))
            for i in bucket.numbers
        )

    def _prepare(self, weights: list[Sequence[Any]]) -> None:
        """For the next step: who tells us what, and the buckets by the order seen in this one."""
        self._weights = weights
        me = weakref.ref(self)
        for i, copies in enumerate(weights):
            for k, w in enumerate(copies):
                if not _core.has_grad_hook(w):
                    _core.set_grad_hook(w, functools.partial(_note, me, i, k))
        order, self._expected, self._written = self._written, self._written, {}
        self._buckets, self._of, size = [], {}, BYTES
        if self._futile >= 3:
            return
        for i in dict.fromkeys(i for i, _ in order):
            if i >= len(weights) or any((i, k) not in order for k in range(len(weights[i]))):
                continue  # not written everywhere: nothing to wait for
            if size >= BYTES:
                self._buckets.append(_Bucket())
                size = 0
            bucket = self._of[i] = self._buckets[-1]
            bucket.numbers.append(i)
            bucket.awaited += sum(order[i, k] for k in range(len(weights[i])))
            size += weights[i][0].nbytes

    def note(self, i: int, k: int) -> None:
        """Copy ``k`` of parameter ``i`` has its gradient."""
        self._written[i, k] = self._written.get((i, k), 0) + 1
        bucket = self._of.get(i)
        if bucket is None:
            return
        bucket.awaited -= 1
        if bucket.awaited == 0:
            bucket.sums = Sums([[w.grad for w in self._weights[j]] for j in bucket.numbers])


def _note(buckets: weakref.ref[Buckets], i: int, k: int) -> None:
    if (found := buckets()) is not None:
        found.note(i, k)
