"""What this build can do on this machine: Gluon's ``mx.runtime``, with the versions of libraries that were found.

A feature that is off says why, and what to install. Looking at the list opens CUDA's libraries where they are
installed; nothing else here does. Where libraries are looked for: libraries.py. `python -m minimx.runtime` prints it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NoReturn

from . import device
from .errors import MXError, NameNotFound
from .libraries import cuda_library_folders
from .rtc.compiler import find_compiler

__all__ = ["Feature", "Features", "feature_list"]

EXTRAS = 'Run: pip install "minimx[cuda13]" (or [cuda12])'


@dataclass(frozen=True)
class Feature:
    """One feature: ``version`` of its library, empty where it has none; ``why`` it is off, empty where it is on."""

    name: str
    version: str = ""
    why: str = ""

    @property
    def enabled(self) -> bool:
        """Whether the feature can be used here and now."""
        return not self.why

    def __repr__(self) -> str:
        return f"{'✔' if self.enabled else '✖'} {self.name}"

    def __str__(self) -> str:
        return " ".join(filter(None, [repr(self), self.version])) + (f": {self.why}" if self.why else "")


def feature_list() -> list[Feature]:
    """All features, those of Gluon that minimx has nothing for among them (off)."""
    return [_look(name, find) for name, find in _FINDERS.items()]


class Features(dict[str, Feature]):
    """The features by name.

    >>> Features().is_enabled("ONEDNN")
    True
    """

    def __init__(self) -> None:
        super().__init__((feature.name, feature) for feature in feature_list())

    def is_enabled(self, feature_name: str) -> bool:
        """Whether the feature of that name, in any case, can be used. Raises ``NameNotFound`` for an unknown name."""
        name = feature_name.upper()
        if name not in self:
            raise NameNotFound("runtime.Features", f"one of {', '.join(self)}", repr(feature_name))
        return self[name].enabled

    def __repr__(self) -> str:
        return str(list(self.values()))


class _Missing(Exception):
    """Why a feature is off."""


def _look(name: str, find: Callable[[], str]) -> Feature:
    try:
        return Feature(name, version=find())
    except (_Missing, MXError) as error:
        return Feature(name, why=str(error))


def _cuda() -> Any:
    """The module minimx._cuda on a machine with a GPU."""
    if why := device.why_no_gpu():
        raise _Missing(why)
    return device.cuda()


def _driver() -> str:
    version = _cuda().driver_version()  # 13010 for 13.1
    return f"{version // 1000}.{version % 1000 // 10}"


def _cudnn() -> str:
    return device.cuda().cudnn_version() or _missing("libcudnn.so.9")


def _cublas() -> str:
    return device.cuda().cublas_version() or _missing("libcublasLt.so.13 or .12")


def _missing(library: str) -> NoReturn:
    raise _Missing(f"{library} is not in {', '.join([*cuda_library_folders(), 'the path of the loader'])}. {EXTRAS}.")


def _nvrtc() -> str:
    from .rtc.cuda.compile import Nvrtc

    return Nvrtc().version


def _nccl() -> str:
    return device.cuda().nccl_version() or _missing("libnccl.so.2")


def _cupy() -> str:
    for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    raise _Missing(f"CuPy is not installed. {EXTRAS}.")


def _onednn() -> str:
    library = ctypes.CDLL("libdnnl.so.3")  # in this process since minimx was imported
    library.dnnl_version.restype = ctypes.POINTER(ctypes.c_int)
    return ".".join(map(str, library.dnnl_version()[:3]))


def _rtc() -> str:
    compiler = find_compiler()
    if compiler is None:
        raise _Missing("No C++ compiler was found, so nothing is fused. Install g++, or set MINIMX_CXX.")
    return compiler.version.partition("\n")[0]


def _always() -> str:
    return ""


def _never() -> str:
    raise _Missing("minimx has no such part.")


_FINDERS: dict[str, Callable[[], str]] = {
    "CUDA": _driver,
    "CUDNN": _cudnn,
    "CUBLAS": _cublas,
    "CUDA_RTC": _nvrtc,
    "NCCL": _nccl,
    "CUPY": _cupy,
    "ONEDNN": _onednn,
    "MKLDNN": _onednn,  # its name in Gluon 1
    "OPENMP": _always,
    "RTC": _rtc,
    "LAPACK": _always,  # NumPy's
    "INT64_TENSOR_SIZE": _always,
}
_ELSEWHERE = ("TENSORRT", "TVM_OP", "BLAS_OPEN", "BLAS_MKL", "OPENCV", "DIST_KVSTORE", "JEMALLOC", "SIGNAL_HANDLER")
_FINDERS |= dict.fromkeys(_ELSEWHERE, _never)

if __name__ == "__main__":
    print(*feature_list(), sep="\n")
