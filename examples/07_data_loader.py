"""Data: a dataset of your own, transforms, worker processes, going on in the middle of an epoch. Next: 08_engine.py."""

import argparse

import numpy as onp

import minimx as mx
from minimx.gluon.data import BrokenSample, DataLoader, Dataset
from minimx.gluon.data.vision import transforms


class Shapes(Dataset):
    """Images of filled circles (0) and squares (1), drawn when asked for; every 50th is broken on purpose.

    Samples are numpy: workers do not need the engine. A class of a module, so that it can be sent to them.
    """

    def __init__(self, count: int, size: int = 32) -> None:
        self._count, self._size, self.broken = count, size, 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[onp.ndarray, int]:
        if index % 50 == 49:
            raise BrokenSample(f"shape {index}", "a shape", "nothing", "It is left out of its batch")
        label, radius = index % 2, 4 + index % 8
        y, x = onp.abs(onp.mgrid[: self._size, : self._size] - self._size // 2)
        inside = onp.maximum(x, y) < radius if label else x * x + y * y < radius * radius
        return (255 * inside).astype("uint8")[:, :, None], label

    def note_broken(self, name: str) -> None:
        """The loader tells what it skipped."""
        self.broken += 1


def make_loader(count: int, workers: int) -> DataLoader:
    steps = [transforms.RandomCrop(32, pad=4), transforms.RandomFlipLeftRight(), transforms.ToTensor()]
    return DataLoader(Shapes(count).transform_first(transforms.Compose(steps)), 32, shuffle=True, num_workers=workers)


def fingerprint(loader: DataLoader) -> list[float]:
    """One number a batch, that tells batches apart."""
    return [round(float(images.asnumpy().mean()), 6) for images, _ in loader]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="fewer images")
    count = 200 if parser.parse_args().tiny else 2000
    mx.random.seed(7)
    plain = fingerprint(make_loader(count, workers=0))
    loader = make_loader(count, workers=2)
    print("with and without worker processes the same batches:", fingerprint(loader) == plain)

    batches = iter(loader)  # the second epoch, with other crops of the same images
    for _ in range(2):
        next(batches)
    place = loader.state_dict()  # a small dict, to be written into a checkpoint
    rest = [round(float(images.asnumpy().mean()), 6) for images, _ in batches]
    again = make_loader(count, workers=0)
    again.load_state_dict(place)
    print("a new loader goes on at the same place:", fingerprint(again) == rest)
    loader.close()
