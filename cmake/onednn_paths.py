"""Prints `INCLUDE_DIR;LIBRARY` of the installed oneDNN wheels, or fails. Used by onednn.cmake, standard library only."""

import importlib.metadata
import sys
from pathlib import Path


def installed(distribution: str, name: str) -> Path:
    """The file called ``name`` that ``distribution`` brought; ``LookupError`` where there is none."""
    for entry in importlib.metadata.files(distribution) or ():
        path = Path(str(entry.locate())).resolve()
        if entry.name == name and path.exists():
            return path
    raise LookupError(f"{distribution} has no {name}")


try:
    header = installed("onednn-devel-cpu-gomp", "dnnl.hpp")
    if header.parent.name == "dnnl":  # include/oneapi/dnnl/dnnl.hpp, listed beside include/dnnl.hpp
        header = header.parents[2] / header.name
    library = installed("onednn-cpu-gomp", "libdnnl.so")
except (importlib.metadata.PackageNotFoundError, LookupError) as missing:
    sys.exit(f"oneDNN: {missing}")
print(f"{header.parent};{library}")
