"""Images in folders or named in a list, decoded when asked for. Resizing and augmentation are transforms."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import ArgumentError, FileFormatError, FileMissing, IndexOutOfBounds
from ....image import decode
from ..dataset import BrokenSample, Dataset

EXTENSIONS = (".jpg", ".jpeg", ".png")


class _ImageFiles(Dataset):
    """``items`` = [(path, label)]: sample = (image uint8 (H, W, C), label), or ``transform(image, label)``."""

    items: list[tuple[str, Any]]

    def __init__(self, flag: int, transform: Callable[..., Any] | None, skip_broken: bool) -> None:
        self._flag, self._transform, self._skip_broken = flag, transform, skip_broken
        self.broken_files: set[str] = set()

    @property
    def broken(self) -> int:
        """How many different files a loader has found unreadable so far; ``broken_files`` names them."""
        return len(self.broken_files)

    def note_broken(self, name: str) -> None:
        self.broken_files.add(name)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexOutOfBounds(type(self).__name__, f"an index below {len(self)}", index)
        path, label = self.items[index]
        try:
            image = decode(path, gray=self._flag == 0)
        except (FileFormatError, FileMissing) as error:
            if not self._skip_broken:
                raise
            raise BrokenSample(error.where, error.expected, error.got, error.way_out) from None
        label = np.int32(label) if isinstance(label, int) else label
        return (image, label) if self._transform is None else self._transform(image, label)


class ImageFolderDataset(_ImageFiles):
    """One folder per class, JPEG or PNG files in them or below: ``root/cat/1.jpg``, ``root/dog/a/2.png``.

    Classes are the folders' names in sorted order, kept in ``synsets``; labels are int32. ``flag`` 0 reads grey images
    (H, W, 1), 1 colour (H, W, 3). ``exts`` are the file names' endings that count.

    With ``skip_broken`` (the default) an unreadable file raises ``BrokenSample``, which loaders skip and count in
    ``broken``; without it such a file ends the epoch with ``FileFormatError``.

    Raises FileMissing for a missing folder, FileFormatError for a folder without classes, or a class without images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        flag: int = 1,
        transform: Callable[..., Any] | None = None,
        skip_broken: bool = True,
        exts: Sequence[str] = EXTENSIONS,
    ) -> None:
        super().__init__(flag, transform, skip_broken)
        where, folder = "ImageFolderDataset", Path(root).expanduser()
        layout = f"Lay images out as {folder}/CLASS/NAME.jpg"
        if not folder.is_dir():
            got = "a file" if folder.exists() else "no such folder"
            raise FileMissing(where, f"a folder of class folders at {folder}", got, layout)
        self.synsets = sorted(entry.name for entry in os.scandir(folder) if _is_class(entry))
        if not self.synsets:
            raise FileFormatError(where, f"a folder for each class in {folder}", "none", layout)
        self.items = []
        for label, name in enumerate(self.synsets):
            files = _images_below(folder / name, tuple(e.lower() for e in exts))
            if not files:
                rule = f"at least one image ({', '.join(exts)}) in each class folder"
                raise FileFormatError(where, rule, f"none in {folder / name}", "Add images or remove the folder")
            self.items += [(path, label) for path in files]


class ImageListDataset(_ImageFiles):
    """Images named in ``imglist``: a file of lines ``index <tab> label... <tab> path``, or [[label..., path], ...].

    Paths are relative to ``root``. One label is a float32 number, several are a float32 array.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = ".",
        imglist: str | os.PathLike[str] | Sequence[Sequence[Any]] | None = None,
        flag: int = 1,
        transform: Callable[..., Any] | None = None,
        skip_broken: bool = True,
    ) -> None:
        super().__init__(flag, transform, skip_broken)
        if imglist is None:
            raise ArgumentError("ImageListDataset", "imglist: a file or a list", "None")
        rows: Sequence[Sequence[Any]]
        if isinstance(imglist, (str, os.PathLike)):
            lines = Path(imglist).read_text(encoding="utf-8").splitlines()
            rows = [line.strip().split("\t")[1:] for line in lines if line.strip()]
        else:
            rows = imglist
        self.items = []
        for number, row in enumerate(rows):
            if len(row) < 2:
                raise FileFormatError("ImageListDataset", "label and path in each entry", f"{row} in entry {number}")
            labels = np.array(row[:-1], dtype=np.float32).reshape(-1)
            self.items.append((os.path.join(root, row[-1]), labels[0] if len(labels) == 1 else labels))


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _images_below(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """Paths of all files below ``folder`` with one of the endings, sorted, without hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(parent, n) for n in names if n.lower().endswith(endings) and not n.startswith(".")]
    return sorted(found)
