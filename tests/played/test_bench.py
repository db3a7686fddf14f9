"""The rows of bench/overlap.py come about, on played GPUs and tiny: what they say is for real ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

import minimx as mx

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))


def test_overlap(request, counts, monkeypatch):
    import overlap

    import played

    module = played.install()
    monkeypatch.setattr(module, "sums", True)
    monkeypatch.setattr(overlap, "cuda", lambda: module)
    mx.waitall()
    module.set_own_time(True)
    try:
        rows = dict(overlap.rows(argparse.Namespace(device="gpu", tiny=True, rounds=1)))
    finally:
        mx.waitall()
        module.set_own_time(request.config.getoption("--own-time"))
    assert [len(times) for times in rows.values()] == [3, 3, 3] and "sums over two GPUs beside backward" in rows
    assert all(t > 0 for times in rows.values() for t in times.values())
    assert overlap.share({"compute": 2.0, "copy": 1.0, "both": 2.4}) == pytest.approx((0.8, 2 / 3))
