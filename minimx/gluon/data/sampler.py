"""Samplers: the order in which a loader visits a dataset, and how it is cut into batches.

A sampler is an iterable of indices with a length. Those here can also write down where they are
(``state_dict``/``load_state_dict``), taken BETWEEN two iterations; the place inside an epoch is the loader's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ...errors import ArgumentError
from .rng import base_seed, keyed


class Sampler:
    """Base class: subclasses define ``__iter__`` and ``__len__``."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__}.__iter__ must be defined by the subclass")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}.__len__ must be defined by the subclass")

    def state_dict(self) -> dict[str, Any]:
        """What the next ``iter()`` depends on, as plain numbers and lists; empty where it depends on nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next ``iter()`` what it would have been when ``state`` was taken."""


class SequentialSampler(Sampler):
    """``start, start + 1, ..., start + length - 1``."""

    def __init__(self, length: int, start: int = 0) -> None:
        self._length, self._start = length, start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._start + self._length))

    def __len__(self) -> int:
        return self._length


class RandomSampler(Sampler):
    """A fresh permutation of ``0 .. length - 1`` at every iteration.

    Permutation number ``n`` is a function of (``seed``, ``n``) alone. ``seed`` is by default the one given to
    ``mx.random.seed``, read at the first iteration.
    """

    def __init__(self, length: int, seed: int | None = None) -> None:
        self._length, self._seed, self._round = length, seed, 0

    def __iter__(self) -> Iterator[int]:
        if self._seed is None:
            self._seed = base_seed()
        order = keyed(self._seed, self._round, 0, 1).permutation(self._length)
        self._round += 1
        return iter(order.tolist())

    def __len__(self) -> int:
        return self._length

    def state_dict(self) -> dict[str, Any]:
        return {"seed": base_seed() if self._seed is None else self._seed, "round": self._round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seed, self._round = state["seed"], state["round"]


class FilterSampler(Sampler):
    """The indices of the samples for which ``fn(sample)`` is true; reads the whole dataset once, at construction."""

    def __init__(self, fn: Callable[[Any], bool], dataset: Any) -> None:
        self._indices = [i for i in range(len(dataset)) if fn(dataset[i])]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class IntervalSampler(Sampler):
    """``0, k, 2k, ..., 1, 1 + k, ...`` for interval ``k``; with ``rollover=False`` only the first round.

    >>> list(IntervalSampler(6, interval=3)), list(IntervalSampler(6, interval=3, rollover=False))
    ([0, 3, 1, 4, 2, 5], [0, 3])
    """

    def __init__(self, length: int, interval: int, rollover: bool = True) -> None:
        if not 1 <= interval <= length:
            raise ArgumentError("IntervalSampler", f"1 <= interval <= length {length}", interval)
        self._length, self._interval, self._rounds = length, interval, interval if rollover else 1

    def __iter__(self) -> Iterator[int]:
        for start in range(self._rounds):
            yield from range(start, self._length, self._interval)

    def __len__(self) -> int:
        return sum(len(range(start, self._length, self._interval)) for start in range(self._rounds))


class BatchSampler(Sampler):
    """Groups a sampler's indices into lists of ``batch_size``. ``last_batch`` says what becomes of a rest:

    "keep" gives it as a smaller batch, "discard" drops it, "rollover" puts it in front of the next iteration.
    """

    def __init__(self, sampler: Any, batch_size: int, last_batch: str = "keep") -> None:
        if last_batch not in ("keep", "discard", "rollover"):
            raise ArgumentError("BatchSampler", "last_batch 'keep', 'discard' or 'rollover'", repr(last_batch))
        if batch_size < 1:
            raise ArgumentError("BatchSampler", "batch_size >= 1", batch_size)
        self._sampler, self._batch_size, self._last_batch = sampler, batch_size, last_batch
        self._rest: list[Any] = []

    def __iter__(self) -> Iterator[list[Any]]:
        batch, self._rest = self._rest, []
        for index in self._sampler:
            batch.append(index)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch and self._last_batch == "keep":
            yield batch
        elif self._last_batch == "rollover":
            self._rest = batch

    def __len__(self) -> int:
        full, rest = divmod(len(self._sampler) + len(self._rest), self._batch_size)
        return full + (rest > 0 and self._last_batch == "keep")

    def state_dict(self) -> dict[str, Any]:
        inner = self._sampler.state_dict() if hasattr(self._sampler, "state_dict") else {}
        return {"sampler": inner, "rest": list(self._rest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if hasattr(self._sampler, "load_state_dict"):
            self._sampler.load_state_dict(state["sampler"])
        self._rest = list(state["rest"])
