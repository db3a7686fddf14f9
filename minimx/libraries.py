"""Finds shared libraries that pip installed, and imports the extension module `minimx._core` with their help.

The wheels of oneDNN unpack into <prefix>/include and <prefix>/lib, and which prefix that is depends on the installer (a
venv, pip's build overlay, --user): their own metadata is asked. (`pip install --target` leaves such files out.) The
build asks the same question by running this module (cmake/onednn.cmake), so it keeps to the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from minimx.errors import MissingExtra

__all__ = ["import_core", "installed_file"]


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


if __name__ == "__main__":
    try:
        header = installed_file("onednn-devel-cpu-gomp", "include/dnnl.hpp")
        print(header.parent, installed_file("onednn-cpu-gomp", "lib/libdnnl.so"), sep=";")
    except MissingExtra as missing:
        sys.exit(str(missing))
