"""The generated CUDA text of some recipes, for people to read: tests/golden/<name>.cu.

To accept a change: MINIMX_GOLDEN=write pytest tests/rtc/test_text.py. Pointwise text: tests/test_rtc.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from rtc.emulator import made, numpy_type

from minimx.ops.table import OPS, Spec
from minimx.rtc.compiler import shared_header
from minimx.rtc.cuda import recipe

GOLDEN = Path(__file__).parents[1] / "golden"
HEADERS = {p.name: p.read_text() for p in sorted(Path(recipe.__file__).parent.glob("*.h"))}
HEADERS["philox.h"] = shared_header("cpu/philox.h")
# Name of the file: (row, its operands, its attributes). Layers of ResNet-50 and of a transformer in half precision.
CALLS = {
    "sum_rows": ("sum", [((32, 1000), "float32")], {"axis": 1}),
    "softmax": ("softmax_of", [((64, 128), "float16")], {"axis": -1}),
    "layer_norm": ("row_norm", [((64, 768), "float16"), ((768,), "float16"), ((768,), "float16")], {}),
    "batch_norm_train": (
        "batch_norm_train", [((8, 14, 14, 256), "float16"), ((256,), "float32"), ((256,), "float32")], {"axis": -1}
    ),
    "max_pool": ("max_pool", [((8, 112, 112, 64), "float16")],
                 {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "layout": "NHWC"}),
    "take": ("take", [((1000, 768), "float16"), ((32, 128), "int64")], {"axis": 0}),
    "transpose": ("copy", [((64, 128), "float16", (1, 64))], {}),
    "dropout": ("dropout_train", [((64, 768), "float16")], {"p": 0.1}),
}  # fmt: skip


def text(row: str, operands: list, attrs: dict) -> str:
    """The launches of a call: geometry, and the text without what is in files of its own."""
    op = OPS[row]
    named = {p.name: p.default for p in op.attributes if not p.required} | attrs
    specs = [None if o is None else Spec(*o) if len(o) > 2 else Spec(*o, _c_strides(o[0])) for o in operands]
    plan = op.plan(specs, named)
    outs = [(tuple(shape), dtype) for shape, dtype in plan.outs]
    arrays = [_array(s) for s in specs if s is not None]
    return "\n".join(map(told, made(plan.kernel, arrays, outs, plan.attrs).launches))


def told(launch: recipe.Launch) -> str:
    """A launch's text, with headers in place of what is in files of its own, and how it is launched."""
    code = launch.code.text.replace(launch.code.name, "KERNEL")
    for name, header in HEADERS.items():
        code = code.replace(header, f'#include "{name}"\n')
    return f"// grid {launch.grid}, block {launch.block}, {launch.shared} bytes shared\n{code.strip()}\n"


def _c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1 :], dtype=np.int64)) for i in range(len(shape)))


def _array(s: Spec) -> np.ndarray:
    """An array of that signature; nobody reads it."""
    kind = numpy_type(s.dtype)
    memory = np.zeros(1 + sum((n - 1) * d for n, d in zip(s.shape, s.strides, strict=True)), kind)
    return np.lib.stride_tricks.as_strided(memory, s.shape, [d * kind.itemsize for d in s.strides])


@pytest.mark.parametrize("name", CALLS)
def test_text_is_as_reviewed(name):
    got, path = text(*CALLS[name]), GOLDEN / f"{name}.cu"
    if os.environ.get("MINIMX_GOLDEN") == "write":
        path.write_text(got)
    assert got == path.read_text()
