"""Command line of train_resnet50.py. Defaults depend on the data: digits, a folder (ImageNet's recipe), or --tiny."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import minimx as mx

_DIGITS = {"image_size": 32, "batch_size": 32, "epochs": 10, "lr": 0.02, "warmup_epochs": 1.0}
_FOLDER = {"image_size": 224, "batch_size": 64, "epochs": 90, "lr": 0.025, "warmup_epochs": 5.0}
_TINY = {**_DIGITS, "batch_size": 16, "epochs": 2, "limit": 48, "out": Path("runs/tiny")}


def _number(kind: type, rule: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"expected {rule}, got {text!r}")
        return value

    return parse


_COUNT = _number(int, "a whole number of at least 1", lambda v: v >= 1)
_NATURAL = _number(int, "a whole number of at least 0", lambda v: v >= 0)
_POSITIVE = _number(float, "a number above 0", lambda v: 0 < v < float("inf"))
_NOT_NEGATIVE = _number(float, "a number of at least 0", lambda v: 0 <= v < float("inf"))
_SHARE = _number(float, "a number from 0 to below 1", lambda v: 0 <= v < 1)


def _device(text: str) -> mx.Device:
    found = re.fullmatch(r"(cpu|gpu)(?:[:(](\d+)\)?)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected cpu, gpu or gpu:1, got {text!r}")
    return mx.Device(found[1], int(found[2] or 0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_resnet50.py",
        description="Train ResNet-50 on handwritten digits, or on a folder of class folders of images.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=30),
    )
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder of class folders of JPEG/PNG, or with train/ and val/ of them")
    add("--classes", type=_COUNT, help="number of classes the data must have (default: what is found)")
    add("--image-size", type=_number(int, "a whole number of at least 32", lambda v: v >= 32), help="height and width")
    add("--batch-size", type=_COUNT)
    add("--epochs", type=_COUNT)
    add("--lr", type=_POSITIVE, help="learning rate after warm-up; it falls to 0 as a cosine")
    add("--warmup-epochs", type=_NOT_NEGATIVE, help="epochs in which the learning rate rises")
    add("--momentum", type=_SHARE, default=0.9)
    add("--wd", type=_NOT_NEGATIVE, default=1e-4, help="weight decay of kernels (not of biases and norms)")
    add("--label-smoothing", type=_SHARE, default=0.1)
    add("--model", default="resnet50_v1b", help="any of minimx.models.list_models()")
    add("--layout", default="NCHW", choices=["NCHW", "NHWC"], help="of a ResNet; 16-bit types on a GPU want NHWC")
    add("--hybridize", action=argparse.BooleanOptionalAction, default=True, help="run as a compiled graph (default)")
    add("--device", type=_device, default=mx.cpu(), help="cpu, gpu or gpu:1")
    add("--dtype", default="float32", choices=["float32", "float16", "bfloat16"],
        help="of activations and gradients; the trainer keeps float32 weights beside those of 16 bits")  # fmt: skip
    add("--tf32", action="store_true", help="on a GPU, multiply float32 with 10-bit mantissas: much faster")
    add("--autotune", action="store_true", help="on a GPU, time cuDNN's algorithms first, and remember them")
    add("--workers", type=_NATURAL, help="processes that prepare images (default: 0 for digits; for folders 2, or with "
        "a GPU one a core)")  # fmt: skip
    add("--seed", type=_NATURAL, default=0)
    add("--limit", type=_COUNT, help="use only so many images of each half")
    add("--out", type=Path, default=Path("runs/resnet50"), help="where checkpoints, metrics and the curve go")
    add("--resume", nargs="?", const=True, metavar="FILE", help="go on from a checkpoint (default: the last in --out)")
    add("--save-every", type=_COUNT, default=1000, metavar="STEPS", help="checkpoints within an epoch")
    add("--stop-after", type=_COUNT, metavar="STEPS", help="write a checkpoint and stop after so many steps")
    add("--tiny", action="store_true", help="a run of seconds that shows that everything works")
    return parser


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Arguments with the defaults of their kind of data; leaves with status 2 and a message for bad ones."""
    parser = _parser()
    first, _ = parser.parse_known_args(argv)
    parser.set_defaults(**(_TINY if first.tiny else _DIGITS if first.data is None else _FOLDER))
    args = parser.parse_args(argv)
    if args.resume is True:
        args.resume = args.out / "last.safetensors"
    return args
