"""Waiting for all GPUs: those that were started, and none in a forked child. Other waits: test_engine.py."""

from __future__ import annotations

import pytest

from .programs import run

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


def test_waitall_starts_no_gpu():
    """It waits for the GPU that was used, and takes no memory of any other, nor of a GPU before one is used."""
    out = run("""
        import minimx as mx

        mx.waitall()
        last = mx.num_gpus() - 1
        assert last >= 0
        y = mx.np.ones((512, 512), device=mx.gpu(last))
        for _ in range(50):
            y = y @ mx.np.full((512, 512), 1 / 512, device=mx.gpu(last))
        mx.waitall()
        print(float(y.mean().item()))
    """)
    assert float(out) == pytest.approx(1, rel=1e-3)


def test_waitall_in_a_forked_child():
    """Nothing of the child's is on a GPU: there is nothing to wait for but its own engine."""
    out = run("""
        import os
        import minimx as mx

        x = mx.np.ones((64, 64), device=mx.gpu(0))
        y = x @ x
        child = os.fork()
        if not child:
            mx.waitall()
            z = mx.np.ones((300, 300)) * 2
            mx.npx.waitall()
            os._exit(0 if z.sum().item() == 2 * 300**2 else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        mx.waitall()
        print(status, y.asnumpy().sum())
    """)
    assert out.split() == ["0", str(64.0**3)]
