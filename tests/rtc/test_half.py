"""float16 in compiled kernels of the CPU: csrc/cpu/fused.h converts by arithmetic on bits, exactly as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from rtc.row_bodies import Draft, as_node

import minimx as mx
from minimx.graph.lower import lower
from minimx.rtc.compiler import find_compiler


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_every_half_and_floats_of_every_exponent():
    halves = np.arange(1 << 16, dtype="uint16").view("float16")
    low = np.random.default_rng(0).choice(
        np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0xFFFF], "uint32"), 1 << 16
    )
    floats = (np.arange(1 << 16, dtype="uint32") << 16 | low).view("float32")
    d = Draft()
    x, y = d.given(halves.shape, "float16"), d.given(floats.shape, "float32")
    program = lower(as_node(d.graph(d.cast(x, dtype="float32"), d.cast(y, dtype="float16")), form=""))
    args = [mx.np.array(halves, dtype="float16"), mx.np.array(floats, dtype="float32")]
    program.run(args, False)
    assert mx.rtc.wait(100)
    wide, narrow = (z.asnumpy() for z in program.run(args, False))
    np.testing.assert_array_equal(wide, halves.astype("float32"))
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(narrow, floats.astype("float16"))
    assert (np.signbit(narrow) == np.signbit(floats)).all() and (np.signbit(wide) == np.signbit(halves)).all()
