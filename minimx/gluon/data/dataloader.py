"""DataLoader: batches of a dataset as minimx arrays, made here, in threads or in worker processes; resumable.

This file is what users see and the order of things. One batch is made by fetch.py; processes are pool.py and worker.py.
"""

from __future__ import annotations

import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import numpy as np

from ..._bridge import map_arrays, to_mx, to_pinned
from ...errors import ArgumentError, ArgumentTypeError, TimedOut
from .batchify import default_batchify_fn
from .dataset import Dataset, SimpleDataset
from .fetch import Batch, Source, Task
from .pool import WorkerPool, refuse_in_worker
from .rng import base_seed
from .sampler import BatchSampler, RandomSampler, SequentialSampler

Convert = Callable[[np.ndarray], Any]


class DataLoader:
    """Iterate over a dataset in batches of minimx arrays; each ``iter()`` is one epoch.

    Parameters
    ----------
    dataset : Dataset or any object with ``__getitem__`` and ``__len__``.
    batch_size, shuffle, sampler, last_batch : the order of samples and how it is cut; ``last_batch`` is "keep"
        (default), "discard" or "rollover" as in ``BatchSampler``; ``sampler`` excludes ``shuffle``.
    batch_sampler : an iterable of lists of indices, instead of the four above.
    batchify_fn : list of samples -> batch of numpy arrays; default ``default_batchify_fn``.
    num_workers : 0 makes batches in this thread when asked for; more makes them ahead of time in that many processes,
        or threads with ``thread_pool=True`` (best where the work is Pillow's or numpy's, which release the lock).
    prefetch : batches made ahead, default ``2 * num_workers``.
    timeout : seconds to wait for one batch of a worker before ``TimedOut``; None waits for ever.
    pin_memory, pin_device_id : batches arrive in pinned host memory, so that ``batch.as_in_ctx(mx.gpu(i))`` returns at
        once and the copy runs beside the GPU's work; in ordinary memory where there is no such GPU.
    prefetch_to_device : a GPU, to which batches are copied that way as soon as they are there; they arrive on it.
    try_nopython : accepted for compatibility.

    Workers are fresh processes that run on numpy and do not load the engine; they are started at the first ``iter()``,
    serve all epochs, and end with the loader (``close()``, garbage collection or exit). A dataset that cannot be
    pickled (a lambda as transform, a class in a notebook) is served by threads instead, with a warning. An exception
    in a worker is re-raised here with the worker's traceback as its cause; a worker's death is a ``WorkerError``.
    Neither hangs, and the next ``iter()`` starts anew.

    **Random numbers.** A random transform draws from a generator keyed by (seed, epoch, sample), see rng.py: batches
    are the same for every ``num_workers``. ``seed`` is that of ``mx.random.seed`` when the first epoch starts.

    **Resuming.** ``state_dict()`` between two batches is a small dict of numbers and lists; a new loader over the same
    dataset after ``load_state_dict(state)`` gives in its next ``iter()`` the rest of that epoch, the same bit for bit,
    and goes on as the first one would have. Own samplers take part when they have ``state_dict``/``load_state_dict``.

    **Broken samples** (``BrokenSample``, for example an unreadable image) are left out of their batch and reported to
    ``dataset.note_broken``; a batch with nothing left is skipped.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = None,
        shuffle: bool = False,
        sampler: Any = None,
        last_batch: str | None = None,
        batch_sampler: Any = None,
        batchify_fn: Callable[[list[Any]], Any] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        pin_device_id: int = 0,
        prefetch: int | None = None,
        thread_pool: bool = False,
        timeout: float | None = 120,
        try_nopython: bool | None = None,
        prefetch_to_device: Any = None,
    ) -> None:
        if num_workers < 0 or (prefetch is not None and prefetch < 0):
            raise ArgumentError("DataLoader", "num_workers and prefetch >= 0", f"{num_workers} and {prefetch}")
        if not hasattr(dataset, "__getitem__"):
            raise ArgumentTypeError("DataLoader", "a dataset with __getitem__", type(dataset).__name__)
        self._dataset = dataset if isinstance(dataset, Dataset) else SimpleDataset(dataset)
        self._batch_sampler = _batch_sampler(dataset, batch_size, shuffle, sampler, last_batch, batch_sampler)
        self._batchify = batchify_fn or default_batchify_fn
        self._num_workers = num_workers
        self._prefetch = max(1, 2 * num_workers if prefetch is None else prefetch)
        self._threads = thread_pool
        self._pin = pin_device_id if pin_memory else None
        self._device = prefetch_to_device
        self._timeout = timeout
        self._maker: _Inline | _Threads | _Processes | None = None
        self._seed: int | None = None
        self._epoch = self._batch = 0
        self._sampler_state: dict[str, Any] | None = None  # at the start of the epoch under way
        self._newest: object = None  # token of the newest iteration, which alone moves the place above

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        if self._num_workers:
            refuse_in_worker()
        if self._seed is None:
            self._seed = base_seed()
        if self._sampler_state is not None and self._newest is not None:
            self._end_epoch()  # the last iteration was left early: this is the next epoch
        if self._sampler_state is None:
            self._sampler_state = _state_of(self._batch_sampler)
        if self._maker is None or not self._maker.alive:
            self._maker = self._make_maker()
        self._newest = object()
        return _Epoch(self, self._maker, Task(self._seed, self._epoch, self._batch, ()), self._newest)

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iteration is: epoch, batches already given out, seed, and the sampler's state."""
        sampler = _state_of(self._batch_sampler) if self._sampler_state is None else self._sampler_state
        seed = base_seed() if self._seed is None else self._seed
        return {"epoch": self._epoch, "batch": self._batch, "seed": seed, "sampler": sampler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` at the next ``iter()``; an iteration under way is of no account any more."""
        missing = {"epoch", "batch", "seed", "sampler"} - set(state)
        if missing:
            raise ArgumentError(
                "DataLoader.load_state_dict", "a dict of state_dict()", f"one without {sorted(missing)}"
            )
        self._epoch, self._batch, self._seed = state["epoch"], state["batch"], state["seed"]
        self._sampler_state, self._newest = state["sampler"], None
        if hasattr(self._batch_sampler, "load_state_dict"):
            self._batch_sampler.load_state_dict(state["sampler"])

    def close(self) -> None:
        """End the workers now. The loader can be iterated again, which starts new ones."""
        if self._maker is not None:
            self._maker.close()
        self._maker = None

    def _end_epoch(self) -> None:
        self._epoch, self._batch, self._sampler_state, self._newest = self._epoch + 1, 0, None, None

    def _make_maker(self) -> _Inline | _Threads | _Processes:
        source = Source(self._dataset.host(), self._batchify)
        convert = _conversion(self._pin, self._device)
        if not self._num_workers:
            return _Inline(source, convert)
        if not self._threads:
            try:
                return _Processes(source, self._num_workers, self._prefetch, self._timeout, convert)
            except pickle.PicklingError as error:
                warnings.warn(
                    f"DataLoader: expected a dataset that can be sent to worker processes, got {error}. Threads are "
                    "used instead; say thread_pool=True, or use functions and classes of a module instead of lambdas.",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return _Threads(source, self._num_workers, self._timeout, convert)


class _Epoch:
    """One pass over a loader: keeps ``prefetch`` batches in the making and gives them out in order."""

    def __init__(self, loader: DataLoader, maker: _Inline | _Threads | _Processes, first: Task, token: object) -> None:
        self._loader, self._maker, self._first, self._token = loader, maker, first, token
        self._ahead = loader._prefetch if loader._num_workers else 1
        self._pending: deque[tuple[int, Any]] = deque()
        self._tasks = self._plan(first.number)
        self._fill()

    def __iter__(self) -> _Epoch:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def _plan(self, skip: int) -> Iterator[Task]:
        for number, indices in enumerate(self._loader._batch_sampler):
            if number >= skip:
                yield Task(self._first.seed, self._first.epoch, number, tuple(indices))

    def _fill(self) -> None:
        while self._maker.alive and len(self._pending) < self._ahead and (task := next(self._tasks, None)) is not None:
            self._pending.append((task.number, self._maker.submit(task)))

    def __next__(self) -> Any:
        while True:
            self._fill()
            if not self._pending or not self._maker.alive:
                if self._maker.alive and self._loader._newest is self._token:
                    self._loader._end_epoch()
                raise StopIteration
            number, ticket = self._pending.popleft()
            batch = self._maker.result(ticket)
            for name in batch.broken:
                self._loader._dataset.note_broken(name)
            if self._loader._newest is self._token:
                self._loader._batch = number + 1
            if batch.data is not None:
                self._fill()  # the next one is made while the caller works on this one
                return batch.data

    def __del__(self) -> None:
        for _, ticket in getattr(self, "_pending", ()):
            self._maker.forget(ticket)


class _Inline:
    """Batches made by the caller's thread, when asked for."""

    alive = True

    def __init__(self, source: Source, convert: Convert) -> None:
        self._source, self._convert = source, convert

    def submit(self, task: Task) -> Task:
        return task

    def result(self, task: Task) -> Batch:
        return _on_mx(self._source.fetch(task), self._convert)

    def forget(self, task: Task) -> None:
        pass

    def close(self) -> None:
        pass


class _Threads:
    """Batches made by threads of this process."""

    def __init__(self, source: Source, num_workers: int, timeout: float | None, convert: Convert) -> None:
        self._source, self._timeout, self._convert, self.alive = source, timeout, convert, True
        self._executor = ThreadPoolExecutor(num_workers, thread_name_prefix="DataLoader")

    def submit(self, task: Task) -> Future[Batch]:
        return self._executor.submit(self._source.fetch, task)

    def result(self, future: Future[Batch]) -> Batch:
        try:
            return _on_mx(future.result(self._timeout), self._convert)
        except FutureTimeout:
            if future.done():  # the dataset's own TimeoutError
                raise
            self.close()
            rule = f"a batch within {self._timeout} seconds"
            raise TimedOut("DataLoader", rule, "none", "Give a larger timeout=") from None

    def forget(self, future: Future[Batch]) -> None:
        future.cancel()

    def close(self) -> None:
        self.alive = False
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Processes:
    """Batches made by a WorkerPool."""

    def __init__(
        self, source: Source, num_workers: int, prefetch: int, timeout: float | None, convert: Convert
    ) -> None:
        self._pool = WorkerPool(source, num_workers, -(-prefetch // num_workers), convert)
        self._timeout = timeout

    @property
    def alive(self) -> bool:
        return self._pool.alive

    def submit(self, task: Task) -> int:
        return self._pool.submit(task)

    def result(self, ticket: int) -> Batch:
        return self._pool.result(ticket, self._timeout)

    def forget(self, ticket: int) -> None:
        self._pool.forget(ticket)

    def close(self) -> None:
        self._pool.close()


def _conversion(pin: int | None, device: Any) -> Convert:
    """What makes a batch's numpy arrays minimx's: in main memory, pinned for GPU number ``pin``, or on ``device``."""
    from ...device import checked, num_gpus

    if device is None or checked(device, "DataLoader").device_type == "cpu":
        return to_mx if pin is None or pin >= num_gpus() else to_pinned
    return lambda array: to_pinned(array).to_device(device)


def _on_mx(batch: Batch, convert: Convert) -> Batch:
    def keep_or_convert(array: Any) -> Any:
        return array if hasattr(array, "asnumpy") or array.dtype.hasobject else convert(array)

    return Batch(map_arrays(batch.data, keep_or_convert), batch.broken)


def _state_of(sampler: Any) -> dict[str, Any]:
    return sampler.state_dict() if hasattr(sampler, "state_dict") else {}


def _batch_sampler(
    dataset: Any, batch_size: int | None, shuffle: bool, sampler: Any, last_batch: str | None, batch_sampler: Any
) -> Any:
    """The batch sampler that the constructor's arguments describe; refuses those that contradict each other."""
    if batch_sampler is not None:
        if batch_size is not None or shuffle or sampler is not None or last_batch is not None:
            raise ArgumentError(
                "DataLoader",
                "batch_sampler alone, or batch_size with shuffle, sampler and last_batch",
                "both",
                "Leave batch_size, shuffle, sampler and last_batch out",
            )
        return batch_sampler
    if batch_size is None:
        raise ArgumentError("DataLoader", "batch_size, or batch_sampler", "neither", "Give batch_size=")
    if sampler is not None and shuffle:
        raise ArgumentError("DataLoader", "shuffle or sampler", "both", "Leave shuffle out: the sampler orders")
    if sampler is None:
        sampler = RandomSampler(len(dataset)) if shuffle else SequentialSampler(len(dataset))
    return BatchSampler(sampler, batch_size, last_batch or "keep")
