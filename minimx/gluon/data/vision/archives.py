"""MNIST, FashionMNIST, CIFAR10 and CIFAR100, read from files that the user has put in a folder. Nothing is downloaded.

Files may be gzipped or not; CIFAR's also inside the archive they come in. Images are uint8 (H, W, C), labels int32.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import FileFormatError, FileMissing
from ..dataset import Dataset


class _InMemory(Dataset):
    """Images (N, H, W, C) and labels (N,) in memory; sample = (image, label), or ``transform(image, label)``."""

    _data: np.ndarray
    _label: np.ndarray

    def __init__(self, transform: Callable[[Any, Any], Any] | None = None) -> None:
        self._transform = transform

    def __len__(self) -> int:
        return len(self._label)

    def __getitem__(self, index: int) -> Any:
        image, label = self._data[index], self._label[index]
        return (image, label) if self._transform is None else self._transform(image, label)


class MNIST(_InMemory):
    """Handwritten digits, 60,000 + 10,000 grey images (28, 28, 1) (LeCun, Cortes, Burges).

    ``root`` holds the four idx files under their usual names, with or without ``.gz``.
    """

    folder = "mnist"
    url = "https://ossci-datasets.s3.amazonaws.com/mnist"
    classes = 10

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(transform)
        self._root, self._train = data_folder(root, self.folder), train
        part = "train" if train else "t10k"
        self._data = self._read(f"{part}-images-idx3-ubyte", 3)[..., None]
        self._label = self._read(f"{part}-labels-idx1-ubyte", 1).astype(np.int32)
        if len(self._data) != len(self._label):
            counts = f"{len(self._data)} images and {len(self._label)} labels"
            raise FileFormatError(str(self._root), "as many labels as images", counts, "Fetch the files again")

    def _read(self, name: str, ndim: int) -> np.ndarray:
        for path in (self._root / name, self._root / f"{name}.gz"):
            if path.is_file():
                return read_idx(path, ndim)
        raise FileMissing(
            f"{type(self).__name__}",
            f"{name} or {name}.gz in {self._root}",
            "no such file",
            f"Download {self.url}/{name}.gz into that folder, or give root=",
        )


class FashionMNIST(MNIST):
    """Zalando's articles, 60,000 + 10,000 grey images (28, 28, 1) in MNIST's format (Xiao et al. 2017)."""

    folder = "fashion-mnist"
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


class CIFAR10(_InMemory):
    """50,000 + 10,000 colour images (32, 32, 3) of 10 classes (Krizhevsky 2009), from the BINARY version.

    ``root`` holds ``cifar-10-binary.tar.gz`` or what it unpacks to.
    """

    folder = "cifar10"
    archive = "cifar-10-binary.tar.gz"
    url = "https://www.cs.toronto.edu/~kriz"
    train_files = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    test_files: tuple[str, ...] = ("test_batch.bin",)
    label_bytes, label_column = 1, 0
    classes = 10

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(transform)
        self._root, self._train = data_folder(root, self.folder), train
        rows = np.concatenate(self._read(self.train_files if train else self.test_files))
        self._label = rows[:, self.label_column].astype(np.int32)
        images = rows[:, self.label_bytes :].reshape(-1, 3, 32, 32)
        self._data = np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def _read(self, names: tuple[str, ...]) -> list[np.ndarray]:
        found = {path.name: path for path in self._root.rglob("*.bin")} if self._root.is_dir() else {}
        if all(name in found for name in names):
            return [self._rows(found[name].read_bytes(), str(found[name])) for name in names]
        archive = self._root / self.archive
        if archive.is_file():
            return self._read_archive(archive, names)
        raise FileMissing(
            type(self).__name__,
            f"{self.archive}, or {', '.join(names)}, in {self._root}",
            "no such file",
            f"Download {self.url}/{self.archive} into that folder, or give root=",
        )

    def _read_archive(self, archive: Path, names: tuple[str, ...]) -> list[np.ndarray]:
        try:
            with tarfile.open(archive) as tar:
                content = {os.path.basename(m.name): tar.extractfile(m) for m in tar if m.isfile()}
                return [self._rows(content[name].read(), f"{archive}/{name}") for name in names]  # type: ignore[union-attr]
        except (KeyError, OSError, EOFError, tarfile.TarError, zlib.error) as error:
            rule = f"an archive with {', '.join(names)}"
            raise FileFormatError(str(archive), rule, error, "Download it again") from None

    def _rows(self, data: bytes, name: str) -> np.ndarray:
        width = self.label_bytes + 3 * 32 * 32
        if not data or len(data) % width:
            raise FileFormatError(name, f"records of {width} bytes", f"{len(data)} bytes", "Download it again")
        return np.frombuffer(data, np.uint8).reshape(-1, width)


class CIFAR100(CIFAR10):
    """As CIFAR10 with 100 classes in 20 groups; ``fine_label`` False (the default, as in Gluon) gives the groups."""

    folder = "cifar100"
    archive = "cifar-100-binary.tar.gz"
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    label_bytes = 2

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        fine_label: bool = False,
        train: bool = True,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        self.label_column = int(fine_label)
        self.classes = 100 if fine_label else 20
        super().__init__(root, train, transform)


def data_folder(root: str | os.PathLike[str] | None, name: str) -> Path:
    """``root``, or ``$MINIMX_HOME/datasets/name``, with MINIMX_HOME by default ``~/.minimx``."""
    home = os.environ.get("MINIMX_HOME", os.path.join("~", ".minimx"))
    return Path(root if root is not None else os.path.join(home, "datasets", name)).expanduser()


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """A uint8 array of ``ndim`` axes from an idx file: 0, 0, type 8, ndim, sizes as big-endian int32, then the data."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(str(path), "a gzip file", error, "Download it again") from None
    head = 4 + 4 * ndim
    if len(data) < head or data[:4] != bytes((0, 0, 8, ndim)):
        raise FileFormatError(str(path), f"an idx file of {ndim} axes", f"{len(data)} bytes beginning {data[:4]!r}")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", ndim, 4))
    if len(data) - head != int(np.prod(shape, dtype=np.int64)):
        raise FileFormatError(str(path), f"{shape} bytes of data", f"{len(data) - head} bytes", "Download it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
