"""Finds libraries and headers that pip or the system installed, and imports the extension module `minimx._core`.

The wheels of oneDNN unpack into <prefix>/include and <prefix>/lib, and which prefix that is depends on the installer (a
venv, pip's build overlay, --user): their own metadata is asked. (`pip install --target` leaves such files out.) The
wheels of NVIDIA share the folder nvidia/ of a site-packages. The build asks the same questions by running this module
(cmake/onednn.cmake, cmake/cuda.cmake), so it keeps to the standard library. What opens CUDA's libraries: csrc/cuda.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from minimx.errors import MissingExtra

__all__ = ["cuda_header_folders", "cuda_include_folders", "cuda_library_folders", "import_core", "installed_file"]


def installed_file(distribution: str, suffix: str) -> Path:
    """Path of the file of an installed ``distribution`` that ends with ``suffix`` (``"lib/libdnnl.so"``).

    Raises ``MissingExtra`` (an ``ImportError``) where the distribution or the file is not there.
    """
    from importlib import metadata  # slow to import, and rarely needed at run time

    try:
        entries = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        entries = []
    for entry in entries:
        path = Path(str(entry.locate())).resolve()
        if path.as_posix().endswith("/" + suffix) and path.exists():
            return path
    raise MissingExtra("minimx", f"{suffix} of the package {distribution}", "none", f"pip install {distribution}")


def _nvidia_folders(kind: str) -> list[Path]:
    """The folders ``kind`` ("lib", "include") of NVIDIA's wheels: `nvidia/cu13/lib` (CUDA 13) before
    `nvidia/cublas/lib` (CUDA 12), in the order of ``sys.path``. Nothing is imported, and the namespace may have parts.
    """
    return [folder for entry in sys.path for folder in sorted(Path(entry or ".", "nvidia").glob(f"*/{kind}"))]


def _toolkits() -> list[Path]:
    """Where a CUDA toolkit may be installed as a whole: CUDA_HOME, CUDA_PATH, then the system's usual place."""
    named = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    return [Path(name) for name in named if name]


def cuda_library_folders() -> list[str]:
    """Folders in which to look for libcublasLt, libcudnn, libnccl, libnvrtc and libcudart, best first; all exist.

    NVIDIA's wheels come before an installed toolkit: they are what the extras ``cuda13`` and ``cuda12`` brought. The
    loader's own search path, where libcuda.so.1 of the driver is, comes after these.
    """
    folders = _nvidia_folders("lib") + [root / part for root in _toolkits() for part in ("lib64", "lib")]
    return [str(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]


def cuda_include_folders() -> list[Path]:
    """Folders in which to look for what kernels that are compiled at run time include, best first."""
    folders = _nvidia_folders("include") + [root / "include" for root in _toolkits()]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


# What csrc/cuda includes or makes others include, and the wheel that has it.
_CUDA_HEADERS = {
    "cuda.h": "nvidia-cuda-runtime",
    "crt/host_defines.h": "nvidia-cuda-crt",
    "nv/target": "nvidia-cuda-cccl",
    "nvrtc.h": "nvidia-cuda-nvrtc",
    "cublasLt.h": "nvidia-cublas",
    "cudnn.h": "nvidia-cudnn-cu13",
    "cudnn_frontend.h": "nvidia-cudnn-frontend",
}
_SYSTEM_INCLUDE = ("/usr/include", "/usr/include/x86_64-linux-gnu")  # the compiler looks there unasked


def cuda_header_folders(first: Sequence[str] = ()) -> list[str]:
    """Folders that together hold every header of the CUDA part, with those of ``first`` before all others.

    Raises ``MissingExtra`` where a header is nowhere, with the wheel that has it.
    """
    roots = [Path(folder) for folder in first] + _nvidia_folders("include")
    roots += [root / "include" for root in _toolkits()] + [Path(folder) for folder in _SYSTEM_INCLUDE]
    with contextlib.suppress(MissingExtra):
        roots.append(installed_file("nvidia-cudnn-frontend", "include/cudnn_frontend.h").parent)
    folders = [str(folder) for root in roots for folder in (root, root / "cccl")]  # cccl: nv/target of a toolkit
    chosen = set()
    for header, wheel in _CUDA_HEADERS.items():
        holder = next((folder for folder in folders if Path(folder, header).exists()), None)
        if holder is None:
            where = "the build environment, in MINIMX_CUDA_INCLUDE, in CUDA_HOME or in the system"
            way_out = f'pip install {wheel}, or all of them: pip install "minimx[build-cuda]"'
            raise MissingExtra("minimx._cuda", f"the header {header} in {where}", "none", way_out)
        chosen.add(holder)
    return [folder for folder in dict.fromkeys(folders) if folder in chosen and folder not in _SYSTEM_INCLUDE]


@contextlib.contextmanager
def _short_spins() -> Iterator[None]:
    """While libgomp is loaded, and only then reads its environment: tells its threads to spin for a tenth of a
    millisecond at the end of a parallel region, not for its default of some 10 ms. Where other processes want the cores
    too, the default can make a region cost a hundred times its work; measurements in docs/engine.md. The user's own
    choice stands.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "3000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def import_core() -> ModuleType:
    """Imports ``minimx._core``; loads oneDNN first where the extension's own search path does not lead to it.

    Raises ``MissingExtra`` where the extension has not been built or oneDNN is not installed.
    """
    with _short_spins():
        try:
            return importlib.import_module("minimx._core")
        except ModuleNotFoundError as error:
            if error.name != "minimx._core":
                raise
            way_out = "In a checkout run `make build`, elsewhere `pip install minimx`"
            raise MissingExtra("minimx", "the compiled module minimx._core", "none", way_out) from None
        except ImportError as error:
            if "libdnnl" not in str(error):
                raise
        # The loader knows a library by its SONAME once it is in the process, wherever it came from.
        ctypes.CDLL(str(installed_file("onednn-cpu-gomp", "lib/libdnnl.so")))
        return importlib.import_module("minimx._core")


def _main(question: str, *arguments: str) -> str:
    """What the build asks: ``onednn`` (folder of headers; library) or ``cuda-headers FOLDER...``; joined by ``;``."""
    if question == "cuda-headers":
        return ";".join(cuda_header_folders(arguments))
    header = installed_file("onednn-devel-cpu-gomp", "include/dnnl.hpp")
    return f"{header.parent};{installed_file('onednn-cpu-gomp', 'lib/libdnnl.so')}"


if __name__ == "__main__":
    try:
        print(_main(*sys.argv[1:]))
    except MissingExtra as missing:
        sys.exit(str(missing))
