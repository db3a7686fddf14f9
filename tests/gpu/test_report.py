"""Reports of what a GPU runs: text, events between steps, bandwidth."""

from __future__ import annotations

import pytest

import minimx as mx
from minimx import gluon

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("on_gpu")]


class Chain(gluon.HybridBlock):
    """Pointwise, then a softmax, then a sum over rows."""

    def forward(self, x):
        y = mx.npx.softmax(mx.np.tanh(x * 2) + 1)
        return y * 2, (y * x).sum(axis=0)


def test_kernels_are_timed():
    """A large array is read and written at a good part of what memory gives; each kernel has its text."""
    x = mx.np.random.normal(size=(1 << 16, 1024))
    report = Chain().fusion_report(x, time=True)
    assert {k.form for k in report.kernels} <= {"rows", "fold", "pointwise"}
    for k in report.kernels:
        assert "__global__" in k.source and mx.rtc.source_of(k.name) in k.source
        assert k.ns > 0
        if k.moved > 1 << 28:
            assert k.bandwidth > 300, str(report)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_net_in_training(dtype):
    """All steps of both halves have times, and the net is as it was."""
    net = mx.models.get_model("resnet18_v1b", classes=10)
    net.initialize(mx.init.Xavier())
    x = mx.np.random.normal(size=(8, 3, 64, 64))
    net(x)
    net.cast(dtype)
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    report = net.fusion_report(x.astype(dtype), training=True, time=True)
    assert [h.name for h in report.halves] == ["forward", "backward"]
    assert all(k.ns > 0 for k in report.kernels)
    assert "GB/s" in str(report)
    for name, p in net.collect_params().items():
        assert (p.data().asnumpy() == before[name]).all(), name


def test_the_same_report_imperatively_and_hybridized():
    net = mx.models.get_model("resnet18_v1b", classes=10)
    net.initialize()
    x = mx.np.ones((2, 3, 64, 64))
    first = net.fusion_report(x).kernels
    net.hybridize(static_alloc=True, static_shape=True)
    for _ in range(3):
        net(x)
    second = net.fusion_report(x).kernels
    assert [(k.name, k.output, k.read, k.written) for k in second] == [
        (k.name, k.output, k.read, k.written) for k in first
    ]
