"""Files of arrays: safetensors written and read by our own small code, and ``.npz``/``.npy`` read. No pickle anywhere.

A file may come from a stranger, so nothing of it is believed: every offset, shape and length is checked against the
bytes that are really there before memory is taken. ``mx.npx.save/load``, ``Block.save_parameters`` and
``Trainer.save_states`` stand on this. The layout: https://github.com/huggingface/safetensors#format . NumPy's files are
read in minimx/npz.py; the crash-safe way of writing a file is minimx/atomic.py.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as onp

from . import np
from .atomic import atomic_write
from .errors import ArgumentTypeError, DTypeError, FileFormatError, FileMissing
from .npz import read_npy, read_npz

__all__ = ["save", "load", "read", "savez", "Contents"]

# safetensors code -> (our name of the type, numpy type that holds its bytes)
_TYPES = {
    "BOOL": ("bool", "?"),
    "U8": ("uint8", "u1"),
    "I8": ("int8", "i1"),
    "I16": ("int16", "<i2"),
    "I32": ("int32", "<i4"),
    "I64": ("int64", "<i8"),
    "F16": ("float16", "<f2"),
    "BF16": ("bfloat16", "<u2"),
    "F32": ("float32", "<f4"),
    "F64": ("float64", "<f8"),
}
_CODES = {name: code for code, (name, _) in _TYPES.items()}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors library itself
_FORM = "minimx.form"  # metadata key: what ``save`` was given, "dict" or "list"


class Contents(NamedTuple):
    """What a file holds: arrays by name, in the file's order, and its string-to-string metadata."""

    arrays: dict[str, Any]
    metadata: dict[str, str]


def save(file: str | os.PathLike | IO[bytes], data: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write one array, a sequence of arrays or a dict of arrays as a safetensors file.

    A path is written atomically: either the whole new file is there afterwards, or the old one. An open binary file is
    simply written to. ``metadata`` maps strings to strings. Raises ArgumentTypeError for anything that is not an array.

    >>> import io, minimx as mx
    >>> file = io.BytesIO()
    >>> save(file, {"w": mx.np.ones((2, 3))})
    >>> load(file)["w"].shape
    (2, 3)
    """
    form, arrays = _named(data)
    meta = {**(metadata or {}), _FORM: form}
    with _sink(file) as out:
        out.write(_header(arrays, meta))
        for array in arrays.values():
            out.write(_to_bytes(array))


def load(file: str | os.PathLike | IO[bytes]) -> dict[str, Any] | list[Any]:
    """Read what ``save`` wrote (a list for a sequence or one array, else a dict), safetensors, ``.npz`` or ``.npy``.

    Raises FileMissing, or FileFormatError for a file that is cut short, damaged or of another kind.
    """
    arrays, metadata = read(file)
    return list(arrays.values()) if metadata.get(_FORM) == "list" else arrays


def read(file: str | os.PathLike | IO[bytes]) -> Contents:
    """Read a file of arrays as ``Contents``: always by name, with the metadata. Errors as in ``load``."""
    where = f"load {_name_of(file)}"
    with _source(file) as stream:
        start = stream.read(8)
        stream.seek(0)
        if start[:4] == b"PK\x03\x04":
            return Contents({n: np.array(a, dtype=a.dtype.name) for n, a in read_npz(stream, where).items()}, {})
        if start[:6] == b"\x93NUMPY":
            array = read_npy(stream, where, _size(stream))
            return Contents({"0": np.array(array, dtype=array.dtype.name)}, {_FORM: "list"})
        return _read_safetensors(stream, where)


def savez(file: str | os.PathLike | IO[bytes], *args: Any, **kwargs: Any) -> None:
    """Write arrays as NumPy's ``.npz``; positional ones are called arr_0, arr_1, ... DTypeError for bfloat16."""
    arrays = {f"arr_{i}": a for i, a in enumerate(args)} | kwargs
    for name, array in arrays.items():
        if _dtype_name(array) == "bfloat16":
            raise DTypeError(
                "savez", "types that NumPy knows", f"bfloat16 for {name!r}", "Use npx.save, or astype('float32')"
            )
    with _sink(file) as out:
        onp.savez(out, **{n: _to_numpy(a) for n, a in arrays.items()})  # type: ignore[arg-type]


def _named(data: Any) -> tuple[str, dict[str, Any]]:
    """("dict" or "list", arrays by name) of the argument of ``save``."""
    if isinstance(data, Mapping):
        form, arrays = "dict", dict(data)
    elif isinstance(data, Sequence):
        form, arrays = "list", {str(i): a for i, a in enumerate(data)}
    else:
        form, arrays = "list", {"0": data}
    for name, array in arrays.items():
        if not isinstance(name, str):
            raise ArgumentTypeError(
                "save", "names that are strings", f"{name!r} ({type(name).__name__})", "Use str keys"
            )
        if not hasattr(array, "shape") or _dtype_name(array) not in _CODES:
            raise ArgumentTypeError(
                "save", "arrays", f"{type(array).__name__} for {name!r}", "Convert it with mx.np.array"
            )
    return form, arrays


def _dtype_name(array: Any) -> str:
    dtype = array.dtype
    return getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)


def _to_numpy(array: Any) -> onp.ndarray:
    return array if isinstance(array, onp.ndarray) else array.asnumpy()


def _to_bytes(array: Any) -> bytes | memoryview:
    """Little-endian bytes of an array, in C order. bfloat16 goes through float32, whose upper half it is."""
    name = _dtype_name(array)
    if name == "bfloat16":
        host = onp.ascontiguousarray(_to_numpy(array.astype("float32")), "<f4")
        return (host.view("<u4") >> 16).astype("<u2").tobytes()
    host = onp.ascontiguousarray(_to_numpy(array), _TYPES[_CODES[name]][1])
    return host.reshape(-1).view("u1").data


def _from_bytes(raw: Any, name: str, shape: tuple[int, ...]) -> Any:
    """Array of type ``name`` from its flat little-endian elements."""
    if name == "bfloat16":
        wide = (raw.astype("<u4") << 16).view("<f4").reshape(shape)
        return np.array(wide, dtype="float32").astype("bfloat16")
    return np.array(raw.reshape(shape), dtype=name)


def _header(arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON of a safetensors header, padded with spaces so that the data begins at a multiple of 8."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, array in arrays.items():
        code, shape = _CODES[_dtype_name(array)], [int(n) for n in array.shape]
        end = offset + math.prod(shape) * onp.dtype(_TYPES[code][1]).itemsize
        table[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_safetensors(stream: IO[bytes], where: str) -> Contents:
    size = _size(stream)
    table = _parse_header(stream, where, size)
    metadata = table.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(where, "metadata of strings", metadata, "The file is damaged")
    start = stream.tell()
    entries = {name: _check_entry(where, name, entry) for name, entry in table.items()}
    _check_layout(where, entries, size - start)
    arrays = {}
    for name, (code, shape, begin, end) in entries.items():
        ours, stored = _TYPES[code]
        stream.seek(start + begin)
        raw = onp.empty(math.prod(shape), stored)
        if stream.readinto(raw.view("u1").data) != end - begin:  # type: ignore[attr-defined]
            raise FileFormatError(
                where, f"{end - begin} bytes of {name!r}", "fewer", "The file changed while being read"
            )
        arrays[name] = _from_bytes(raw, ours, shape)
    return Contents(arrays, metadata)


def _parse_header(stream: IO[bytes], where: str, size: int) -> dict[str, Any]:
    """JSON table of the header; the stream is left at the first byte of data."""
    start = stream.read(8)
    if len(start) < 8:
        raise FileFormatError(where, "at least 8 bytes", f"{len(start)} bytes", "The file was cut short; save it again")
    if start[:2] == b"\x12\x01" and not any(start[2:]):
        raise FileFormatError(
            where, "safetensors, .npz or .npy", "MXNet's own binary form", "Convert it to .npz with MXNet"
        )
    length = int.from_bytes(start, "little")
    if length > _MAX_HEADER:
        raise FileFormatError(where, "a safetensors, .npz or .npy file", f"first bytes {start!r}", "Check the path")
    if length > size - 8:
        raise FileFormatError(
            where, f"a header of {length} bytes", f"{size - 8} bytes", "The file was cut short; save it again"
        )
    try:
        table = json.loads(stream.read(length).decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            where, "a header of JSON", f"{error}", "The file is damaged, or not safetensors"
        ) from None
    if not isinstance(table, dict):
        raise FileFormatError(where, "a header that is a table", type(table).__name__, "The file is damaged")
    return table


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name that stands there twice")
    return table


def _check_entry(where: str, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """(type code, shape, begin, end) of one array, or FileFormatError."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(where, f"dtype, shape and data_offsets for {name!r}", entry, "The file is damaged")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _TYPES:
        raise FileFormatError(
            where, f"one of {', '.join(_TYPES)} for {name!r}", code, "Convert the array before saving"
        )
    if not _naturals(shape) or len(shape) > 12:
        raise FileFormatError(where, f"a shape of up to 12 sizes for {name!r}", shape, "The file is damaged")
    if not _naturals(offsets) or len(offsets) != 2:
        raise FileFormatError(where, f"[begin, end] for {name!r}", offsets, "The file is damaged")
    need = math.prod(shape) * onp.dtype(_TYPES[code][1]).itemsize
    if offsets[1] - offsets[0] != need:
        got = f"bytes {offsets[0]} to {offsets[1]}"
        raise FileFormatError(where, f"{need} bytes for {name!r} ({code} {tuple(shape)})", got, "The file is damaged")
    return code, tuple(shape), offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= sys.maxsize for v in values)


def _check_layout(where: str, entries: Mapping[str, tuple], available: int) -> None:
    """The arrays lie one behind the other, without holes or overlap, and fill the file exactly."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            got = f"byte {begin}"
            raise FileFormatError(where, f"{name!r} to begin at byte {position}", got, "The file is damaged")
        position = end
    if position != available:
        reason = "The file was cut short; save it again" if position > available else "Bytes were appended to it"
        raise FileFormatError(where, f"{position} bytes of data", f"{available}", reason)


def _size(stream: IO[bytes]) -> int:
    here = stream.tell()
    end = stream.seek(0, os.SEEK_END)
    stream.seek(here)
    return end


def _name_of(file: Any) -> str:
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "(stream)")


@contextlib.contextmanager
def _source(file: str | os.PathLike | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(file, (str, os.PathLike)):
        yield file
        return
    if not os.path.isfile(file):
        got = "a folder" if os.path.isdir(file) else "nothing there"
        raise FileMissing(f"load {os.fspath(file)}", "a file", got, "Check the path")
    with open(file, "rb") as stream:
        yield stream


@contextlib.contextmanager
def _sink(file: str | os.PathLike | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(file, (str, os.PathLike)):
        with atomic_write(file) as out:
            yield out
    else:
        yield file
