"""Datasets: anything with ``__getitem__`` and ``__len__``, and the small views (transform, filter, shard, take...).

Samples are numpy arrays, scalars, or tuples of them; turning them into batches is batchify.py, into minimx arrays
dataloader.py. File formats and images are in vision/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..._bridge import is_mx
from ...errors import ArgumentError, ArgumentTypeError, FileFormatError, IndexOutOfBounds, ShapeError


class BrokenSample(FileFormatError):
    """A sample that cannot be read. A loader counts and skips it; indexing a dataset by hand raises it."""

    @property
    def name(self) -> str:
        """What is broken: the file's path."""
        return self.where


class Dataset:
    """Abstract collection of samples: subclasses define ``__getitem__(index)`` and ``__len__()``.

    ``BrokenSample`` may be raised by ``__getitem__``: loaders skip such samples and call ``note_broken``.
    """

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.__getitem__ must be defined by the subclass")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__}.__len__ must be defined by the subclass")

    def transform(self, fn: Callable[..., Any], lazy: bool = True) -> Dataset:
        """Apply ``fn`` to every sample: ``fn(*sample)`` for tuples, ``fn(sample)`` otherwise.

        Lazy (the default) applies it at each access, so a random ``fn`` differs from epoch to epoch; otherwise it
        is applied once, now.
        """
        view = _Transformed(self, fn)
        return view if lazy else SimpleDataset([view[i] for i in range(len(view))])

    def transform_first(self, fn: Callable[[Any], Any], lazy: bool = True) -> Dataset:
        """Apply ``fn`` to the first element of each sample (the image) and keep the rest (the label)."""
        return self.transform(_OnFirst(fn), lazy)

    def filter(self, fn: Callable[[Any], bool]) -> Dataset:
        """The samples for which ``fn(sample)`` is true. Reads every sample once, now; keeps only their places."""
        return _Subset(self, [i for i in range(len(self)) if fn(self[i])])

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Part ``index`` of ``num_shards`` consecutive parts whose lengths differ by at most one."""
        if num_shards < 1 or not 0 <= index < num_shards:
            raise ArgumentError("Dataset.shard", "0 <= index < num_shards", f"index {index}, num_shards {num_shards}")
        length, rest = divmod(len(self), num_shards)
        start = length * index + min(index, rest)
        return _Subset(self, range(start, start + length + (index < rest)))

    def take(self, count: int | None) -> Dataset:
        """The first ``count`` samples; all of them where ``count`` is None or more than there are."""
        if count is not None and count < 0:
            raise ArgumentError("Dataset.take", "count >= 0 or None", count)
        return _Subset(self, range(len(self) if count is None else min(count, len(self))))

    def sample(self, sampler: Iterable[int]) -> Dataset:
        """The samples in the order that ``sampler`` gives, which is drawn once, now."""
        if not isinstance(sampler, Iterable):
            raise ArgumentTypeError("Dataset.sample", "a sampler or other iterable of indices", type(sampler).__name__)
        return _Subset(self, list(sampler))

    def note_broken(self, name: str) -> None:
        """Called by a loader for each sample it skipped; views pass it on to the dataset that reads files."""
        source = getattr(self, "_data", None)
        if isinstance(source, Dataset):
            source.note_broken(name)

    def host(self) -> Dataset:
        """The dataset that a loader reads: the same samples as numpy arrays, without touching the engine."""
        return self


class SimpleDataset(Dataset):
    """A list, or anything else with ``__getitem__`` and ``__len__``, as a dataset."""

    def __init__(self, data: Sequence[Any]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return self._data[index]


class ArrayDataset(Dataset):
    """Several arrays, lists or datasets of equal length, zipped: sample ``i`` is ``(a[i], b[i], ...)``.

    With one argument a sample is ``a[i]``. Minimx arrays give minimx samples here and numpy samples inside a loader,
    where they are copied to the host once.

    >>> ArrayDataset([1, 2, 3], [4, 5, 6])[1]
    (2, 5)
    """

    def __init__(self, *args: Any) -> None:
        if not args:
            raise ArgumentError("ArrayDataset", "at least one array", "none")
        lengths = [len(a) for a in args]
        if len(set(lengths)) > 1:
            raise ShapeError("ArrayDataset", "arrays of one length", f"lengths {lengths}")
        self._arrays = args

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Any:
        if len(self._arrays) == 1:
            return self._arrays[0][index]
        return tuple(a[index] for a in self._arrays)

    def host(self) -> Dataset:
        return ArrayDataset(*(_on_host(a) for a in self._arrays))

    def note_broken(self, name: str) -> None:
        for a in self._arrays:
            if isinstance(a, Dataset):
                a.note_broken(name)


def _on_host(data: Any) -> Any:
    if is_mx(data):
        return data.asnumpy()
    return data.host() if isinstance(data, Dataset) else data


class _View(Dataset):
    """A dataset over another one."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def host(self) -> Dataset:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _data=_on_host(self._data))
        return twin


class _Transformed(_View):
    def __init__(self, data: Dataset, fn: Callable[..., Any]) -> None:
        super().__init__(data)
        self._fn = fn

    def __getitem__(self, index: int) -> Any:
        item = self._data[index]
        return self._fn(*item) if isinstance(item, tuple) else self._fn(item)


class _OnFirst:
    """``fn`` on the first argument, the rest unchanged; a class so that it can be pickled."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self.fn = fn

    def __call__(self, first: Any, *rest: Any) -> Any:
        return (self.fn(first), *rest) if rest else self.fn(first)


class _Subset(_View):
    def __init__(self, data: Dataset, indices: Sequence[int]) -> None:
        super().__init__(data)
        self._indices = indices if isinstance(indices, range) else np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexOutOfBounds("Dataset", f"an index below {len(self)}", index)
        return self._data[int(self._indices[index])]
