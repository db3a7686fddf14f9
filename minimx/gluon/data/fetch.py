"""From indices to one batch of numpy arrays: what the caller's thread, a thread pool and a worker process all run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import rng
from .dataset import BrokenSample, Dataset


@dataclass(frozen=True)
class Task:
    """One batch to make: the ``number``-th of ``epoch``, of samples ``indices``, random numbers keyed by ``seed``."""

    seed: int
    epoch: int
    number: int
    indices: tuple[Any, ...]


@dataclass(frozen=True)
class Batch:
    """What came of a task: ``data`` (None where every sample was broken) and the names of the ``broken`` samples."""

    data: Any
    broken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A dataset and the function that makes batches of its samples; what is sent to the workers."""

    dataset: Dataset
    batchify: Callable[..., Any]

    def fetch(self, task: Task) -> Batch:
        """Read the samples, leave out broken ones, and batchify."""
        samples, broken = [], []
        try:
            for index in task.indices:
                rng.enter(task.seed, task.epoch, index)
                try:
                    samples.append(self.dataset[index])
                except BrokenSample as error:
                    broken.append(os.fspath(error.name))
            rng.enter(task.seed, task.epoch, -1 - task.number)
            return Batch(self.batchify(samples) if samples else None, tuple(broken))
        finally:
            rng.leave()
