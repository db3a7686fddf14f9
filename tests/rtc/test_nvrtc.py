"""All CUDA text compiles, on a machine without a GPU: every row in every type, and the fused groups of a dozen graphs.

The quick suite compiles every row for every architecture; ``slow`` every call that test_recipes.py makes. What the
kernels compute is tested there on the emulator, and on a GPU in tests/gpu.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from rtc.emulator import made
from rtc.graphs import groups
from rtc.recipe_cases import Call, calls, dtypes, rows
from rtc.test_recipes import known

from minimx.config import settings
from minimx.errors import MissingExtra
from minimx.rtc.cuda import compile as compiling
from minimx.rtc.cuda.recipe import Code, Recipe
from minimx.rtc.kernel import recipe_factory

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
BATCH = 48  # kernels of one program: parsing the prelude costs as much as a kernel
SHARES = 8  # texts are compiled in as many tests, none of which takes long


@pytest.fixture(scope="module")
def nvrtc() -> compiling.Nvrtc:
    """NVRTC, without the cache on disk."""
    try:
        found = compiling.Nvrtc()
    except MissingExtra as error:
        pytest.skip(str(error))
    if not found.include:
        pytest.skip("needs the headers of nvidia-cuda-runtime")
    return found


def codes(recipes: Iterable[Recipe]) -> tuple[Code, ...]:
    """Their texts, each once."""
    return tuple({launch.code.name: launch.code for r in recipes for launch in r.launches}.values())


def of_calls(some: Iterable[Call]) -> tuple[Code, ...]:
    """The texts of their recipes; calls of cuDNN and cuBLASLt have none."""
    return codes(made(c.factory, c.ins, c.outs, c.attrs) for c in some if known(c))


@functools.cache
def of_rows() -> tuple[Code, ...]:
    """The texts of every row in every type: elementwise rows for arrays that lie alike, others in two cases."""
    return of_calls(c for op in rows() for d in dtypes(op.name)
                    for c in calls(op.name, d)[: 1 if op.kind == "elemwise" else 2])  # fmt: skip


@functools.cache
def of_all_calls() -> tuple[Code, ...]:
    """The texts of every call that test_recipes.py makes."""
    return of_calls(c for op in rows() for d in dtypes(op.name) for c in calls(op.name, d, True))


@functools.cache
def of_graphs() -> tuple[Code, ...]:
    """The texts of fused groups."""
    return codes(recipe_factory(x.group.form)(x.group) for x in groups())


def compile_all(nvrtc: compiling.Nvrtc, texts: tuple[Code, ...], arch: str) -> None:
    """Raises with the compiler's words."""
    narrow = [bool(compiling.NARROW.search(c.text)) for c in texts]
    parts = [[c for c, n in zip(texts, narrow, strict=True) if n == which] for which in (False, True)]
    batches = [part[i : i + BATCH] for part in parts for i in range(0, len(part), BATCH)]
    with ThreadPoolExecutor(settings.num_threads) as pool:
        for cubin in pool.map(lambda batch: nvrtc.run(compiling.source(batch), arch), batches):
            assert cubin


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_rows(nvrtc, arch, share):
    compile_all(nvrtc, of_rows()[share::SHARES], arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_graphs(nvrtc, arch):
    compile_all(nvrtc, of_graphs(), arch)


def test_an_error_is_told(nvrtc):
    wrong = Code("wrong", 'extern "C" __global__ void wrong(float* x) { x[0] = no_such_thing(1); }')
    with pytest.raises(Exception, match="no_such_thing"):
        compile_all(nvrtc, (*of_graphs()[:3], wrong), "sm_90")


@pytest.mark.slow
@pytest.mark.parametrize("share", range(2 * SHARES))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_call(nvrtc, arch, share):
    compile_all(nvrtc, of_all_calls()[share :: 2 * SHARES], arch)
