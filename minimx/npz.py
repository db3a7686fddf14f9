"""Reading NumPy's ``.npy`` and ``.npz`` from files that may be hostile.

No pickle, and no memory is taken on a header's word. Gives NumPy arrays; minimx/serialization.py turns them into ours.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import IO

import numpy as onp

from .errors import FileFormatError

__all__ = ["read_npy", "read_npz"]

_KNOWN = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}


def read_npz(stream: IO[bytes], where: str) -> dict[str, onp.ndarray]:
    """All arrays of a ``.npz``, by name. FileFormatError when the archive or an array in it is damaged."""
    try:
        with zipfile.ZipFile(stream) as archive:
            arrays = {}
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                way_out = "Save it with safetensors.torch.save_file, which needs no pickle"
                raise FileFormatError(where, "an archive of arrays", "PyTorch's pickled form", way_out)
            for info in archive.infolist():
                with archive.open(info) as member:
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = read_npy(member, f"{where}, {info.filename}", info.file_size)
            return arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise FileFormatError(where, "a whole .npz archive", error, "The file is damaged or cut short") from None


def read_npy(stream: IO[bytes], where: str, size: int) -> onp.ndarray:
    """One array in NumPy's format, of which ``size`` bytes are said to be there. Object arrays (pickle) are refused."""
    try:
        version = onp.lib.format.read_magic(stream)
        header = onp.lib.format.read_array_header_1_0 if version == (1, 0) else onp.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise FileFormatError(where, "NumPy's array format", error, "The file is damaged") from None
    if dtype.hasobject or dtype.name not in _KNOWN:
        raise FileFormatError(where, f"one of {', '.join(sorted(_KNOWN))}", dtype, "Convert the array before saving")
    need = math.prod(shape) * dtype.itemsize
    if need > size:
        raise FileFormatError(where, f"{need} bytes for shape {shape}", f"at most {size}", "The file is cut short")
    raw = stream.read(need)
    if len(raw) != need:
        raise FileFormatError(where, f"{need} bytes for shape {shape}", f"{len(raw)}", "The file is cut short")
    flat = onp.frombuffer(raw, dtype).astype(dtype.newbyteorder("="), copy=False)
    return flat.reshape(shape, order="F" if fortran else "C")
