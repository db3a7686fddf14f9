"""What NVRTC makes of reductions reads every array: it has dropped operands of right code (fold.h says where)."""

from __future__ import annotations

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


def unread(codes: list[Code]) -> list[str]:
    """The parameters that a program of these texts should read and does not."""
    text = ptx(compiling.source(codes))
    return [f"{c.name}_param_{i}" for c in codes for i in pointers(c) if f"[{c.name}_param_{i}]" not in text]


def test_every_array_is_read(nvrtc):  # noqa: F811
    texts = [c for c in (*of_rows(), *of_graphs()) if "fold_rows<" in c.text or "fold_columns<" in c.text]
    assert len(texts) > 50
    narrow = [bool(compiling.NARROW.search(c.text)) for c in texts]
    parts = [[c for c, n in zip(texts, narrow, strict=True) if n == which] for which in (False, True)]
    batches = [part[i : i + BATCH] for part in parts for i in range(0, len(part), BATCH)]
    with ThreadPoolExecutor(settings.num_threads) as pool:
        lost = [p for found in pool.map(unread, batches) for p in found]
    assert not lost
