"""What a run tells: running loss and accuracy, a progress bar, lines of JSON, and the training curve as a picture."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minimx import np
from minimx.atomic import atomic_write
from minimx.errors import MXError


class Sums:
    """Loss and accuracy over an epoch.

    Two numbers of each batch are computed where the batch is, and looked at ``delay`` batches later: reading them at
    once would make Python wait at each step. On a GPU a read waits for all that is queued there, so it should be rare.
    """

    def __init__(self, delay: int = 1, state: dict[str, float] | None = None) -> None:
        self.loss, self.right, self.count, self.delay = 0.0, 0, 0, delay
        self._pending: list[tuple[Any, int]] = []
        if state:
            self.loss, self.right, self.count = state["loss"], state["right"], state["count"]

    def add(self, loss: Any, scores: Any, labels: Any) -> None:
        """Take in a batch: losses (N,), scores (N, classes), labels (N,)."""
        if len(self._pending) >= self.delay:
            self.flush()
        right = (scores.argmax(axis=1) == labels).sum()
        self._pending.append((np.stack([loss.sum(), right.astype("float32")]), len(labels)))

    def flush(self) -> None:
        """Read the batches that are still being computed."""
        if not self._pending:
            return
        read = np.stack([sums for sums, _ in self._pending]).tolist()
        for (loss, right), (_, count) in zip(read, self._pending, strict=True):
            self.loss, self.right, self.count = self.loss + loss, self.right + int(right), self.count + count
        self._pending.clear()
        if not math.isfinite(self.loss):
            raise MXError("loss", "finite numbers", self.loss, "Lower --lr, or raise --warmup-epochs")

    def state(self) -> dict[str, float]:
        """The sums, to go on from."""
        self.flush()
        return {"loss": self.loss, "right": self.right, "count": self.count}

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        return self.right / max(self.count, 1)

    def __str__(self) -> str:
        if not self.count:
            return "loss ..., accuracy ..."
        return f"loss {self.mean_loss:.4f}, accuracy {self.accuracy:.2%}"


class Bar:
    """A tqdm bar over the steps of one epoch, with the time left of the whole run. Silent where nobody is watching."""

    def __init__(self, title: str, steps: int, done: int, steps_after: int) -> None:
        layout = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(total=steps, initial=done, desc=title, bar_format=layout, leave=False, disable=quiet)
        self._start, self._images, self._steps, self._after = time.monotonic(), 0, 0, steps_after

    def step(self, sums: Sums, images: int) -> None:
        """One step of ``images`` is on its way."""
        self._images, self._steps = self._images + images, self._steps + 1
        if self._bar.disable:
            return
        left = (self._bar.total - self._bar.n + self._after) / self._steps * self.seconds
        self._bar.set_postfix_str(
            f"{sums}, {self.rate:.1f} images/s, {tqdm.format_interval(left)} to the end", refresh=False
        )
        self._bar.update()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Images a second."""
        return self._images / max(self.seconds, 1e-9)

    def close(self) -> None:
        self._bar.close()


class Log:
    """metrics.jsonl: one line an epoch. ``rows`` are all of them."""

    def __init__(self, path: Path, epochs_done: int) -> None:
        """Go on after ``epochs_done`` epochs; later lines of a run that was cut off are dropped."""
        self.path, self.rows = path, []
        if epochs_done and path.is_file():
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            self.rows = [row for row in rows if row["epoch"] <= epochs_done]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, **row: Any) -> None:
        """Append a line."""
        self.rows.append({name: round(v, 6) if isinstance(v, float) else v for name, v in row.items()})
        self._write()

    def _write(self) -> None:
        with atomic_write(self.path) as out:
            out.write("".join(json.dumps(row) + "\n" for row in self.rows).encode())


def draw_curve(rows: list[dict[str, Any]], path: Path) -> bool:
    """Loss and accuracy by epoch as a PNG; False, with a word about it, where Matplotlib is not installed."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("no training curve: Matplotlib is not installed. Run pip install 'minimx[plot]'.", file=sys.stderr)
        return False
    epochs = [row["epoch"] for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), constrained_layout=True)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for half in ("train", "valid"):
            axis.plot(epochs, [row[f"{half}_{name}"] for row in rows], marker=".", label=half)
        axis.set(xlabel="epoch", ylabel=name)
        axis.legend()
    with atomic_write(path) as out:
        figure.savefig(out, format="png", dpi=120)
    plt.close(figure)
    return True
