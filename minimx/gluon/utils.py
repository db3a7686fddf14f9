"""Splitting batches over devices, clipping gradients, and the file tools that Gluon code expects here."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from .._bridge import is_mx
from ..errors import ArgumentError, FileFormatError, FileMissing, ShapeError
from .hooks import HookHandle

__all__ = [
    "HookHandle",
    "check_sha1",
    "clip_global_norm",
    "download",
    "replace_file",
    "shape_is_known",
    "split_and_load",
    "split_data",
]


def split_data(data: Any, num_slice: int, batch_axis: int = 0, even_split: bool = True) -> list[Any]:
    """``num_slice`` consecutive parts of ``data`` along ``batch_axis``.

    With ``even_split`` the size must divide; otherwise the last part also takes the rest.

    >>> [part.shape for part in split_data(numpy.ones((4, 3)), 2)]
    [(2, 3), (2, 3)]
    """
    size = data.shape[batch_axis]
    if not 1 <= num_slice <= size:
        raise ShapeError("split_data", f"from 1 to {size} slices on axis {batch_axis} of size {size}", num_slice)
    if even_split and size % num_slice:
        raise ShapeError(
            "split_data",
            f"a size that {num_slice} divides",
            f"{size} on axis {batch_axis} of {data.shape}",
            "Use even_split=False, or last_batch='discard' in the loader",
        )
    step = size // num_slice
    ends = [*(step * i for i in range(num_slice)), size]
    before = (slice(None),) * (batch_axis % len(data.shape))
    return [data[(*before, slice(start, stop))] for start, stop in itertools.pairwise(ends)]


def split_and_load(
    data: Any,
    ctx_list: Sequence[Any] | None = None,
    batch_axis: int = 0,
    even_split: bool = True,
    devices: Sequence[Any] | None = None,
) -> list[Any]:
    """``split_data`` with part ``i`` copied to device ``i``; numpy arrays and lists become minimx arrays."""
    places = ctx_list if devices is None else devices
    if not places:
        raise ArgumentError("split_and_load", "at least one device", places, "Pass devices=[mx.cpu()]")
    if not is_mx(data):
        from .. import cpu, np

        data = np.array(data, device=cpu())
    parts = [data] if len(places) == 1 else split_data(data, len(places), batch_axis, even_split)
    return [part.to_device(place) for part, place in zip(parts, places, strict=True)]


def clip_global_norm(arrays: Sequence[Any], max_norm: float, check_isfinite: bool = True) -> Any:
    """Scale the arrays, in place, so that their joint 2-norm is at most ``max_norm``; gives the norm before.

    ``scale = min(1, max_norm / (norm + 1e-8))``, ``norm = sqrt(sum of all squares)``, in float32 at least. With
    ``check_isfinite`` the norm is a float, which waits for the arrays, and a warning is given where it is not finite
    (the arrays then stay as they are); without, it is an array and nothing waits. Pascanu et al. 2013, section 3.2.
    """
    if not arrays:
        raise ArgumentError("clip_global_norm", "at least one array", "none")
    if max_norm <= 0:
        raise ArgumentError("clip_global_norm", "max_norm > 0", max_norm)
    norm = sum(_beside(arrays[0], x) for x in _sums_of_squares(arrays)) ** 0.5
    if not check_isfinite:
        ratio = max_norm / (norm + 1e-8)
        scale = 1 - (1 - ratio) * (ratio < 1)
        for x in arrays:
            x[...] = (x * _beside(x, scale)).astype(x.dtype)
        return norm
    length = float(norm)
    if not math.isfinite(length):
        warnings.warn(f"clip_global_norm: expected a finite norm, got {length}. Arrays are not scaled.", stacklevel=2)
    elif length + 1e-8 > max_norm:
        for x in arrays:
            x *= max_norm / (length + 1e-8)
    return length


def _sums_of_squares(arrays: Sequence[Any]) -> list[Any]:
    """Numbers that add up to the sum of all squares: minimx's arrays of a device are looked at together."""
    if not all(is_mx(x) and str(x.dtype).startswith(("float", "bfloat")) for x in arrays):
        wide = [x if x.dtype == numpy.float64 else x.astype("float32") for x in arrays]
        return [(x * x).sum() for x in wide]
    from ..ops.table import f
    from ..optimizer.fused import asked_at_once

    devices = list(dict.fromkeys(x.device for x in arrays))
    parts = [some for d in devices for some in asked_at_once([x for x in arrays if x.device == d])]
    return [f.multi_sum_squares(some).sum() for some in parts]


def _beside(like: Any, x: Any) -> Any:
    """``x`` on the device of ``like``; numpy arrays have none."""
    return x.to_device(like.device) if is_mx(x) else x


def check_sha1(filename: str | os.PathLike[str], sha1_hash: str) -> bool:
    """True where the file's SHA-1 begins with ``sha1_hash``."""
    digest = hashlib.sha1(usedforsecurity=False)
    with open(filename, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest().startswith(sha1_hash.lower())


def replace_file(src: str | os.PathLike[str], dst: str | os.PathLike[str]) -> None:
    """Put ``src`` in the place of ``dst``, atomically on one file system."""
    os.replace(src, dst)


def download(
    url: str,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    sha1_hash: str | None = None,
    retries: int = 5,
    verify_ssl: bool = True,
) -> str:
    """Fetch ``url`` into ``path`` (a file, a folder, or the current folder) and give the file's path.

    A file that is there already, and has ``sha1_hash`` where that is given, is not fetched again. The file appears
    whole or not at all. Raises FileMissing where the network or the address does not answer after ``retries`` retries,
    FileFormatError where the content has another hash.
    """
    if not verify_ssl:
        raise ArgumentError("download", "verify_ssl=True", False, "Fetch the file by other means and put it in place")
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    target = Path(name if path is None else path).expanduser()
    target = target / name if target.is_dir() else target
    if target.exists() and not overwrite and (not sha1_hash or check_sha1(target, sha1_hash)):
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(retries + 1):
        try:
            return _fetch(url, target, sha1_hash)
        except (OSError, FileFormatError) as error:
            if attempt < retries:
                continue
            if isinstance(error, FileFormatError):
                raise
            way_out = f"Check the network, or fetch the file elsewhere and put it at {target}"
            raise FileMissing("download", f"an answer from {url}", getattr(error, "reason", error), way_out) from None
    raise ArgumentError("download", "retries >= 0", retries)


def _fetch(url: str, target: Path, sha1_hash: str | None) -> str:
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=30) as answer:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
        if sha1_hash and not check_sha1(part, sha1_hash):
            raise FileFormatError("download", f"content of SHA-1 {sha1_hash}", "another", f"Check {url}")
        replace_file(part, target)
    finally:
        Path(part).unlink(missing_ok=True)
    return str(target)


def shape_is_known(shape: Sequence[int] | None) -> bool:
    """True where every size is known: no -1 (and the shape is not None). Sizes of 0 are known."""
    return shape is not None and all(size >= 0 for size in shape)
