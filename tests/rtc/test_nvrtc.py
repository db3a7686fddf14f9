"""All CUDA text compiles, on a machine without a GPU: the recipes of every row, type and view, for three architectures.

The calls are those that the emulator runs (recipe_cases.py); here NVRTC itself reads the text. The quick suite compiles
one kernel of each name, for one architecture.
"""

from __future__ import annotations

import pytest
from rtc.emulator import made
from rtc.recipe_cases import calls, dtypes, rows

import minimx as mx
from minimx.errors import MissingExtra
from minimx.rtc.cuda import compile as cuda
from minimx.rtc.cuda.adaptors import ADAPTORS
from minimx.rtc.cuda.factories import FACTORIES
from minimx.rtc.cuda.kernel import LIBRARY


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    """A compile service with a fresh cache, where NVRTC and its headers are installed."""
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path)
    service = cuda.Service()
    monkeypatch.setattr(cuda, "service", service)
    try:
        if not service.nvrtc.include:
            pytest.skip("needs the headers of nvidia-cuda-runtime")
    except MissingExtra as error:
        pytest.skip(str(error))
    return service


def codes(every_view, types=lambda row: dtypes(row)):
    """The texts of all recipes."""
    found = [c for op in rows() for d in types(op.name) for c in calls(op.name, d, every_view)]
    assert {c.factory for c in found} <= {*FACTORIES, *ADAPTORS, *LIBRARY}
    recipes = [made(c.factory, c.ins, c.outs, c.attrs) for c in found if c.factory in FACTORIES]
    return {launch.code.name: launch.code for r in recipes for launch in r.launches}


def test_a_kernel_of_each_name_compiles(nvrtc):
    every = codes(False, lambda row: dtypes(row)[-1:])
    chosen = {name.rpartition("_")[0]: code for name, code in every.items()}
    assert len(cuda.cubins(chosen.values(), "sm_90")) == len(chosen) > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_everything_compiles(nvrtc, arch):
    every = codes(True)
    assert len(cuda.cubins(every.values(), arch)) == len(every) > 1000
