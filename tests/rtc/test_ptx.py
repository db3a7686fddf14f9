"""What NVRTC makes of kernels: reductions read every array (it has dropped operands of right code, fold.h says where),
and nobody reads or writes before the kernels in front are done.
"""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor

from rtc.test_nvrtc import BATCH, nvrtc, of_graphs, of_rows  # noqa: F401  a fixture

from minimx.config import settings
from minimx.rtc.cuda import compile as compiling
from minimx.rtc.cuda.recipe import Code


def ptx(text: str) -> str:
    """The text as PTX. cuda-core asks the driver before it gives that out, so NVRTC is called itself."""
    from cuda.bindings import nvrtc as api

    def checked(result):
        assert result[0] == 0, f"NVRTC says {result[0]}"
        return result[1] if len(result) == 2 else None

    program = checked(api.nvrtcCreateProgram(text.encode(), b"text.cu", 0, [], []))
    options = ["-std=c++17", "-arch=compute_90", "-fmad=false", "-default-device"]
    options += [f"-I{folder}" for folder in compiling.include_folders()]
    checked(api.nvrtcCompileProgram(program, len(options), [o.encode() for o in options]))
    buffer = b" " * checked(api.nvrtcGetPTXSize(program))
    checked(api.nvrtcGetPTX(program, buffer))
    checked(api.nvrtcDestroyProgram(program))
    return buffer.decode(errors="replace")


def pointers(code: Code) -> list[int]:
    """Which parameters of the kernel are arrays that are read."""
    head = re.search(r"KERNEL\(([^{]*)\)\s*\{", code.text) or re.search(rf"{code.name}\(([^{{]*)\)\s*\{{", code.text)
    assert head, f"no kernel in {code.name}"
    return [i for i, p in enumerate(head[1].split(",")) if "const " in p and "*" in p]


def reduces(code: Code) -> bool:
    """Whether it is made of fold.h."""
    return "fold_rows<" in code.text or "fold_columns<" in code.text


@functools.cache
def programs() -> list[tuple[list[Code], str]]:
    """Kernels that are compiled together, and their PTX: all that reduce, and some of every other kind."""
    codes = {c.name: c for c in (*of_rows(), *of_graphs())}.values()
    folds = [c for c in codes if reduces(c)]
    kinds = {c.name.rpartition("_")[0]: c for c in codes if c not in folds}
    assert len(folds) > 50 and len(kinds) > 20
    texts = [*folds, *kinds.values()]
    narrow = [bool(compiling.NARROW.search(c.text)) for c in texts]
    parts = [[c for c, n in zip(texts, narrow, strict=True) if n == which] for which in (False, True)]
    batches = [part[i : i + BATCH] for part in parts for i in range(0, len(part), BATCH)]
    with ThreadPoolExecutor(settings.num_threads) as pool:
        return list(zip(batches, pool.map(lambda codes: ptx(compiling.source(codes)), batches), strict=True))


def test_every_array_is_read(nvrtc):  # noqa: F811
    lost = [
        f"{c.name}_param_{i}"
        for codes, text in programs()
        for c in codes
        if reduces(c)
        for i in pointers(c)
        if f"[{c.name}_param_{i}]" not in text
    ]
    assert not lost


def test_every_kernel_waits_for_those_before_it(nvrtc):  # noqa: F811
    """Before its first access to memory of the device, for it may have started early (in_order in prelude.h)."""
    bodies = [(m[1], m[2]) for _, text in programs() for m in re.finditer(r"\.entry (\w+)\((.*?)\n}", text, re.DOTALL)]
    assert len(bodies) >= sum(len(codes) for codes, _ in programs())
    access = re.compile(r"\b(ld|st|atom|red|cp\.async|prefetch)\.?\w*\.global|\bld\.v?[\w.]*u?\d+ .*\[%rd|call\.uni")
    for name, body in bodies:
        before, wait, after = body.partition("griddepcontrol.wait;")
        assert wait and access.search(after) and not access.search(before), name
