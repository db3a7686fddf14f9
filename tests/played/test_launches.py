"""How far the host may run ahead of a GPU: only with ``--device played``, whose counters say who waited for what."""

from __future__ import annotations

import minimx as mx


def test_the_host_waits_without_pythons_lock(counts):
    """A launch into a full queue would block with the lock held: the host waits for what it put there long before."""
    x = mx.np.ones((4,))
    with mx.engine.bulk(0):  # each a launch
        x + x
        before = counts()
        for _ in range(64 * 20):
            x + x
        after = counts()
    assert 13 <= after["waits"] - before["waits"] <= 20
    assert after["waits_with_lock"] == before["waits_with_lock"]
