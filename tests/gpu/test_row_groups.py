"""Groups of rows on a GPU, against their members one by one on the CPU: all types, short and long rows, many of them.

The bodies are written by hand (../rtc/row_bodies.py); on the emulator: ../rtc/test_rows.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from rtc.row_bodies import BODIES, as_node
from test_fusion import drawn

import minimx as mx
from minimx.graph.lower import lower

pytestmark = pytest.mark.gpu
NEAR = {"float64": 1e-11, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3.2e-2}


@pytest.mark.parametrize("shape", [(4, 3, 1), (2, 3, 40), (8, 64, 128), (64, 16, 768), (3, 5, 1000), (2, 4, 8192)])
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("name", BODIES)
def test_bodies(name, dtype, shape):
    if name == "rms_norm":
        shape = (shape[0] * shape[1], 1, shape[2])
    body = BODIES[name](shape, dtype)
    args = [drawn(v.shape, v.dtype, i).to_device(mx.cpu()) for i, v in enumerate(body.inputs)]
    program = lower(as_node(body, gpu=0))
    want = [y.asnumpy() for y in lower(body).run(args, False)]
    near = NEAR[dtype]
    for _ in range(2):  # maybe the members, then the kernel
        got = [y.asnumpy() for y in program.run([x.to_device(mx.gpu(0)) for x in args], False)]
        for g, w, v in zip(got, want, body.outputs, strict=True):
            g, w = g.astype("float64"), w.astype("float64")
            scale = np.max(np.abs(w[np.isfinite(w)]), initial=1.0)
            tolerance = NEAR.get(v.dtype, 0) and max(near, NEAR[v.dtype])
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=f"{name} {shape}")
        assert mx.rtc.wait(60)
