"""Loaders for training and validation: the digits that ship with minimx, or a folder of class folders.

Not here: reading and augmenting single images, which is minimx.gluon.data.vision. Everything random is keyed by the
seed, the epoch and the sample, so a run that is resumed sees the same pixels. For a GPU batches come in pinned memory,
from which it copies them by itself while it computes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import minimx as mx
from minimx.errors import ArgumentError, FileFormatError
from minimx.gluon.data import DataLoader, Dataset
from minimx.gluon.data.vision import Digits, ImageFolderDataset, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, in 0 .. 1
_EVERY = 5  # without a folder val/, every fifth image of a class is for validation


class Data(NamedTuple):
    """Two loaders of batches (images (N, 3, size, size), labels (N,)), the classes, and the folders behind them."""

    train: DataLoader
    valid: DataLoader
    classes: list[str]
    folders: list[ImageFolderDataset]

    def broken(self) -> int:
        """How many unreadable files have been skipped so far."""
        return len(set().union(*(folder.broken_files for folder in self.folders)))


class _HeldOut(Dataset):
    """Every fifth image of each class of a folder (``valid``), or the others; the split is always the same."""

    def __init__(self, folder: ImageFolderDataset, valid: bool) -> None:
        self._data, seen, self._indices = folder, {}, []
        for index, (_, label) in enumerate(folder.items):
            seen[label] = seen.get(label, 0) + 1
            if (seen[label] % _EVERY == 0) == valid:
                self._indices.append(index)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple:
        return self._data[self._indices[index]]


def open_data(folder: str | None, size: int, batch_size: int, workers: int | None, limit: int | None,
              device: mx.Device) -> Data:  # fmt: skip
    """The digits where ``folder`` is None, else ``folder``/train and /val, or ``folder`` itself with a part held out.

    workers: processes that prepare images; None is 0 for digits, and for folders 2, or for a GPU one a core. limit: use
    that many images of each half. device: where the batches will be sent. Raises FileMissing and FileFormatError for
    folders that are not there, empty, or do not agree.
    """
    if folder is None:
        train, valid, classes, folders = *_digits(size), list("0123456789"), []
    else:
        train, valid, classes, folders = _folders(Path(folder), size)
    train, valid = _spread(train, limit), _spread(valid, limit)
    gpu = device.device_type == "gpu"
    if workers is None:
        workers = 0 if folder is None else len(os.sched_getaffinity(0)) if gpu else 2
    how = {"num_workers": workers, "pin_memory": gpu, "pin_device_id": device.device_id}
    kind = "keep" if len(train) < batch_size else "discard"  # a last batch of a few would upset batch normalisation
    return Data(
        DataLoader(train, batch_size, shuffle=True, last_batch=kind, **how),
        DataLoader(valid, batch_size, **how),
        classes,
        folders,
    )


def _spread(dataset: Dataset, limit: int | None) -> Dataset:
    """``limit`` samples at equal distances, so that all classes of a sorted folder are among them."""
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.sample([i * len(dataset) // limit for i in range(limit)])


def _digits(size: int) -> tuple[Dataset, Dataset]:
    """Digits scaled up and moved about a little; they are not mirrored, since a mirrored 2 is no digit."""
    finish = [transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    moved = transforms.RandomCrop(size, pad=max(1, size // 8))
    train = Digits(train=True, size=size, channels=3).transform_first(transforms.Compose([moved, *finish]))
    valid = Digits(train=False, size=size, channels=3).transform_first(transforms.Compose(finish))
    return train, valid


def _folders(root: Path, size: int) -> tuple[Dataset, Dataset, list[str], list[ImageFolderDataset]]:
    """Training and validation images with ImageNet's usual augmentation, classes, and the folders they are in."""
    finish = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    jitter = transforms.RandomColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    augment = [transforms.RandomResizedCrop(size), transforms.RandomFlipLeftRight(), jitter, *finish]
    centre = [transforms.Resize(round(size * 256 / 224), keep_ratio=True), transforms.CenterCrop(size), *finish]
    halves, folders = _halves(root)
    train, valid = (
        half.transform_first(transforms.Compose(steps)) for half, steps in zip(halves, (augment, centre), strict=True)
    )
    return train, valid, folders[0].synsets, folders


def _halves(root: Path) -> tuple[list[Dataset], list[ImageFolderDataset]]:
    if (root / "train").is_dir() and (root / "val").is_dir():
        folders = [ImageFolderDataset(root / name) for name in ("train", "val")]
        _check_same_classes(root, *(folder.synsets for folder in folders))
        return list(folders), folders
    folder = ImageFolderDataset(root)
    halves = [_HeldOut(folder, valid) for valid in (False, True)]
    if not len(halves[1]):
        rule = f"a class of at least {_EVERY} images in {root}, since every fifth is for validation"
        raise FileFormatError("--data", rule, f"{len(folder)} in all", f"Add images, or make {root}/train and /val")
    return list(halves), [folder]


def _check_same_classes(root: Path, train: list[str], valid: list[str]) -> None:
    if train != valid:
        odd = sorted(set(train) ^ set(valid))
        shown = ", ".join(odd[:5]) + (", ..." if len(odd) > 5 else "")
        rule = f"the same classes in {root}/train ({len(train)}) and {root}/val ({len(valid)})"
        raise FileFormatError("--data", rule, f"in only one of them: {shown}", "Add or remove these folders")


def check_class_count(classes: list[str], wanted: int | None) -> None:
    """Raise ArgumentError where the data has another number of classes than ``--classes`` says."""
    if wanted is not None and wanted != len(classes):
        found = f"{len(classes)} ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
        way_out = "Fix the folder, or leave --classes out"
        raise ArgumentError("--classes", f"{wanted} classes in the data", found, way_out)
