"""Train ResNet-50: on real handwritten digits that ship with minimx, or on your own folder of images.

    python examples/train_resnet50.py               # digits: minutes on two cores
    python examples/train_resnet50.py --data DIR    # DIR/CLASS/NAME.jpg, or DIR/train/CLASS/... and DIR/val/...
    python examples/train_resnet50.py --resume      # go on where the last run was stopped
    python examples/train_resnet50.py --device gpu --data DIR --dtype float16 --layout NHWC --batch-size 256

This file is the run itself: model, loop, validation. Loaders, checkpoints, reports and options are in training/.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training import checkpoint
from training.data import Data, check_class_count, open_data
from training.options import parse_arguments
from training.report import Bar, Log, Sums, draw_curve

import minimx as mx
from minimx import autograd, gluon, npx
from minimx.errors import ArgumentError, FileFormatError, MXError

_GPU_DELAY = 10  # steps that a GPU may be behind what Python has asked of it


def make_net(args: argparse.Namespace, classes: int) -> gluon.HybridBlock:
    """The network, initialised on its device. The last norm of each block starts at 0: blocks begin as shortcuts."""
    is_resnet = args.model.startswith("resnet")
    if args.layout != "NCHW" and not is_resnet:
        raise ArgumentError("--layout", f"NCHW for {args.model}", args.layout, "Leave it out, or choose a ResNet")
    settings = {"layout": args.layout} if is_resnet else {}
    if is_resnet and "_v1" in args.model:
        settings["last_gamma"] = True
    net = mx.models.get_model(args.model, classes=classes, **settings)
    net.initialize(mx.init.MSRAPrelu(factor_type="in", slope=0), device=args.device)
    net.cast(args.dtype)
    net.collect_params(".*(gamma|beta|bias)").setattr("wd_mult", 0.0)
    image = mx.np.zeros((1, 3, args.image_size, args.image_size), dtype=args.dtype, device=args.device)
    net(in_layout(image, args.layout))  # settles the shapes of all parameters
    if args.hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    return net


def in_layout(images: Any, layout: str) -> Any:
    """Images (N, 3, H, W) as they are, or seen as (N, H, W, 3)."""
    return images if layout == "NCHW" else images.transpose(0, 2, 3, 1)


def make_trainer(args: argparse.Namespace, net: gluon.HybridBlock, steps: int) -> gluon.Trainer:
    """SGD with momentum under a cosine schedule with warm-up; ``steps`` are those of an epoch."""
    warmup = min(round(args.warmup_epochs * steps), args.epochs * steps - 1)
    schedule = mx.lr_scheduler.CosineScheduler(args.epochs * steps, base_lr=args.lr, warmup_steps=warmup)
    settings = {"learning_rate": args.lr, "lr_scheduler": schedule, "momentum": args.momentum, "wd": args.wd}
    return gluon.Trainer(net.collect_params(), "sgd", {**settings, "multi_precision": args.dtype != "float32"})


class Run:
    """A training run: its parts, and how far it has come."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        mx.device.checked(args.device, "--device")
        mx.random.seed(args.seed)
        mx.device.library_settings(allow_tf32=args.tf32, autotune=args.autotune)
        self.delay = _GPU_DELAY if args.device.device_type == "gpu" else 1
        self.data: Data = open_data(args.data, args.image_size, args.batch_size, args.workers, args.limit, args.device)
        check_class_count(self.data.classes, args.classes)
        self.steps = len(self.data.train)
        self.net = make_net(args, len(self.data.classes))
        self.trainer = make_trainer(args, self.net, self.steps)
        self.smooth_loss = gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=False)
        self.plain_loss = gluon.loss.SoftmaxCrossEntropyLoss()
        self.epoch, self.step, self.best, self.seconds, self.sums = 0, 0, 0.0, 0.0, Sums(self.delay)
        self.last = args.out / "last.safetensors"
        if args.resume:
            self.resume(Path(args.resume))
        self.log = Log(args.out / "metrics.jsonl", self.epoch)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        args = self.args
        sizes = {"image size": args.image_size, "batch size": args.batch_size, "steps an epoch": self.steps}
        kind = {"dtype": args.dtype, "layout": args.layout}
        return {"model": args.model, "classes": len(self.data.classes), **kind, **sizes}

    def save(self) -> None:
        """Write the checkpoint that ``--resume`` reads."""
        progress = {name: getattr(self, name) for name in ("epoch", "step", "best", "seconds")}
        progress["sums"] = self.sums.state()
        place = self.data.train.state_dict()
        checkpoint.save(self.last, self.net, self.trainer, self.identity(), place, progress)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        progress = checkpoint.load(path, self.net, self.trainer, self.identity(), self.data.train)
        self.sums = Sums(self.delay, progress.pop("sums"))
        for name, value in progress.items():
            setattr(self, name, value)
        print(f"resumed {path}: epoch {self.epoch + 1}, step {self.step}")

    def on_device(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """A batch where the net is. On a GPU the copy runs beside the step before, and all the rest is done there."""
        device = self.args.device
        images = images.to_device(device).astype(self.args.dtype, copy=False)
        return in_layout(images, self.args.layout), labels.to_device(device)

    def train_step(self, images: Any, labels: Any) -> None:
        """Forward, backward, update. Nothing here waits for a result."""
        classes, smoothing = len(self.data.classes), self.args.label_smoothing
        targets = npx.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        with autograd.record():
            scores = self.net(images).astype("float32")
            loss = self.smooth_loss(scores, targets)
        loss.backward()
        self.trainer.step(len(labels))
        self.sums.add(loss, scores, labels)
        self.step += 1

    def train_epoch(self, stop: Stop) -> float:
        """The rest of the epoch; gives images a second. Leaves early, with a checkpoint, when ``stop`` says so."""
        done = self.data.train.state_dict()["batch"]
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        bar = Bar(title, self.steps, done, (self.args.epochs - self.epoch - 1) * self.steps)
        with contextlib.closing(bar):
            for images, labels in self.data.train:
                self.train_step(*self.on_device(images, labels))
                bar.step(self.sums, len(labels))
                if stop.now(self.step):
                    break
                if self.step % self.args.save_every == 0:
                    self.save()
            self.sums.flush()
        return bar.rate

    def validate(self) -> Sums:
        """Loss and accuracy on the validation images."""
        sums = Sums(self.delay)
        for images, labels in self.data.valid:
            images, labels = self.on_device(images, labels)
            scores = self.net(images).astype("float32")
            sums.add(self.plain_loss(scores, labels), scores, labels)
        sums.flush()
        return sums

    def end_epoch(self, rate: float, seconds: float) -> None:
        """Validate, report, and write what is to be kept."""
        valid, train = self.validate(), self.sums
        if not train.count or not valid.count:
            broken = f"{self.data.broken()} broken ones"
            raise FileFormatError("--data", "images that can be read", broken, "Replace them")
        self.epoch, self.seconds, self.sums = self.epoch + 1, self.seconds + seconds, Sums(self.delay)
        self.tell(train, valid, rate)
        if valid.accuracy > self.best:
            self.best = valid.accuracy
            self.net.save_parameters(self.args.out / "best.safetensors")
        self.save()

    def tell(self, train: Sums, valid: Sums, rate: float) -> None:
        """A line for the reader and one for the log."""
        skipped = self.data.broken()
        self.log.add(
            epoch=self.epoch,
            step=self.step,
            train_loss=train.mean_loss,
            train_accuracy=train.accuracy,
            valid_loss=valid.mean_loss,
            valid_accuracy=valid.accuracy,
            lr=self.trainer.learning_rate,
            images_per_second=rate,
            seconds=self.seconds,
            broken_images=skipped,
        )
        text = f"epoch {self.epoch}/{self.args.epochs}: train {train}; validation {valid}; {rate:.1f} images/s"
        print(text + (f"; {skipped} broken images skipped" if skipped else ""), flush=True)


class Stop:
    """Ctrl-C and SIGTERM end a run after the step under way, with a checkpoint; a second Ctrl-C ends it at once."""

    def __init__(self, after: int | None) -> None:
        self.after, self.asked = after, False

    def now(self, step: int) -> bool:
        """True when the run is to end after ``step``."""
        self.asked = self.asked or (self.after is not None and step >= self.after)
        return self.asked

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """``with`` block in which the signals are caught."""

        def ask(number: int, frame: object) -> None:
            self.asked = True
            signal.signal(number, former[number])

        former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def train(args: argparse.Namespace) -> None:
    """Make a run and bring it to its end."""
    run = Run(args)
    size, mode = args.image_size, "hybridized" if args.hybridize else "imperative"
    print(f"{args.model}, {len(run.data.classes)} classes, {run.steps} steps of {args.batch_size} images an epoch")
    print(f"images of {size} x {size}, {args.dtype} {args.layout} on {args.device}, {mode}", flush=True)
    stop = Stop(None if args.stop_after is None else run.step + args.stop_after)
    with stop.listening():
        while run.epoch < args.epochs and not stop.asked:
            start = time.monotonic()
            rate = run.train_epoch(stop)
            if stop.asked:
                run.seconds += time.monotonic() - start
                run.save()
                print(f"stopped after step {run.step}. Go on with --resume {run.last}")
                return
            run.end_epoch(rate, time.monotonic() - start)
    print(f"best validation accuracy {run.best:.2%} after {run.seconds:.0f} s")
    curve = " and curve.png" if draw_curve(run.log.rows, args.out / "curve.png") else ""
    print(f"{args.out} holds best.safetensors, last.safetensors, metrics.jsonl{curve}")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 2 with one line that says what is wrong and what to do."""
    try:
        train(parse_arguments(argv))
    except (MXError, OSError) as error:
        print(f"train_resnet50.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
