"""What is shown of fusion: the report's bytes and reasons, kernel text, graphs after passes, and their pictures."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimx as mx
from minimx.gluon import HybridBlock, nn
from minimx.graph.compile import cleaned, finished
from minimx.graph.ir import Graph, Node, Value
from minimx.graph.layers import SPAN, Box, Edge, arrange
from minimx.graph.report import FusionReport, report_of
from minimx.graph.trace import trace
from minimx.graph.watch import noted, watched
from minimx.rtc.cuda import library


class Of(HybridBlock):
    """A block that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


class Residual(HybridBlock):
    """Convolution, norm, ReLU, sum."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2D(channels, 3, padding=1, use_bias=False)
        self.norm = nn.BatchNorm()

    def forward(self, x):
        return mx.npx.relu(self.norm(self.conv(x)) + x)


def ones(*shape, dtype="float32"):
    return mx.np.ones(shape, dtype=dtype)


def of_gpu(function, *args) -> FusionReport:
    """The report of what a GPU would run, made without one."""
    graph = trace("function", function, args, False).graph
    graph.gpu = 0
    with watched() as seen:
        finished(cleaned(noted("traced", graph)), "forward")
    return report_of(seen)


# ---- the report -----------------------------------------------------------------------------------------------------


def test_bytes_and_launches_of_a_chain():
    """Three operators read and write 8 KB each; one kernel does so once."""
    report = Of(lambda x: mx.np.tanh(x * 2) + 1).fusion_report(ones(64, 32))
    (half,), (kernel,) = report.halves, report.kernels
    assert report.before == (3, 3 * 2 * 8192)
    assert (half.launches, half.moved, half.ideal) == (1, 16384, 16384)
    assert (kernel.form, kernel.members) == ("pointwise", ["multiply", "tanh", "add"])
    assert (kernel.read, kernel.written, kernel.least, kernel.output) == (8192, 8192, 16384, "float32[64,32]")
    assert half.apart == []


def test_what_is_read_twice_and_what_is_broadcast():
    x = ones(64, 32)
    (kernel,) = Of(lambda x: x * mx.np.broadcast_to(x[:1], (64, 32)) + 1).fusion_report(x).kernels
    assert kernel.read == 8192 + 128  # a row of x for all
    square = Of(lambda x: x.T * 2 + x).fusion_report(ones(32, 32)).kernels
    assert [(k.read, k.least) for k in square] == [(8192, 12288)]  # two looks at one array are two operands


def test_forward_and_backward_of_a_net():
    net = Residual(4)
    net.initialize()
    x = mx.np.random.normal(size=(2, 4, 8, 8))
    report = net.fusion_report(x, training=True)
    assert [h.name for h in report.halves] == ["forward", "backward"]
    assert {"convolution", "convolution_weight_grad"} <= {k.name for k in report.kernels}
    assert {k.form for k in report.kernels if k.name.startswith("conv")} == {"library"}
    assert all(k.moved >= k.least > 0 for k in report.kernels)
    norm = next(k for k in report.kernels if k.name == "batch_norm_relu")
    assert norm.moved - norm.least == 2 * 4 * 8 * 8 * 4  # statistics first, then all of x again
    assert "forward" in net.fusion_report(x).to_dict()["halves"] and "backward" not in str(net.fusion_report(x))


def test_timing_leaves_the_net_as_it_is():
    net = Residual(4)
    net.initialize()
    x = mx.np.random.normal(size=(2, 4, 8, 8))
    report = net.fusion_report(x, training=True, time=True)
    assert all(k.ns > 0 for k in report.kernels)
    assert " us " in str(report) and "GB/s" in str(report)
    assert net.norm.running_mean.data().sum() == 0
    assert all(k.ns > 0 for k in net.fusion_report(x, time=True).kernels)


def test_a_whole_step():
    """Timing trains nothing."""
    net = nn.Dense(3, in_units=5)
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
    x, y = ones(4, 5), ones(4, 3)
    with pytest.raises(mx.errors.ArgumentError, match="Call the step twice"):
        step.fusion_report(x, y)
    step(x, y)
    step(x, y)
    before = net.weight.data().asnumpy()
    report = step.fusion_report(x, y, time=True)
    assert (net.weight.data().asnumpy() == before).all()
    assert [h.name for h in report.halves] == ["step"] and all(k.ns > 0 for k in report.kernels)
    assert any("multiply" in k.members for k in report.kernels) and "step:" in str(report)
    json.dumps(report.to_dict())
    assert step.fusion_report().rows == step.fusion_report(x, y).rows
    assert report.before[0] > len(report.kernels) and report.ideal == report.halves[0].ideal
    names = [name for name, _ in step.graph_passes()]
    assert names[:2] == ["traced", "dead_code"] and names[-1].startswith("step: ")
    assert step.graph_passes(x, y)[-1][1].to_svg().startswith("<svg")


def test_without_arguments_the_last_call_counts():
    net = Residual(4)
    net.initialize()
    for nothing in (net.fusion_report, net.graph_passes):
        with pytest.raises(mx.errors.ArgumentError, match="call the block after hybridize"):
            nothing()
    net.hybridize()
    for size in (4, 8, 4):
        net(ones(2, 4, size, size))
    net(ones(2, 4, 8, 8))
    assert net.fusion_report().rows == net.fusion_report(ones(2, 4, 8, 8)).rows
    with mx.autograd.record():
        net(ones(2, 4, 4, 4))
    assert net.fusion_report(time=True).title == "Residual of float32[2,4,4,4]"
    assert [h.name for h in net.fusion_report().halves] == ["forward", "backward"]
    assert [h.name for h in net.fusion_report(training=False).halves] != ["forward", "backward"]
    assert net.graph_passes()[-1][0].startswith("backward")


def test_what_is_saved_is_no_part_of_the_least():
    """x in, y and the gradients out, of each the bytes once; what forward saves is counted in the halves alone."""
    net = Of(lambda x: mx.np.cumsum(mx.np.exp(mx.np.cumsum(x)) * 2))
    x = ones(1000)
    x.attach_grad()
    report = net.fusion_report(x, training=True)
    assert report.ideal == 4 * 4000  # x, y, the gradient that comes in, and that of x
    assert sum(h.ideal for h in report.halves) == report.ideal + 2 * 4000
    together = next(line for line in str(report).splitlines() if "together" in line)
    assert f"{sum(h.moved for h in report.halves) / report.ideal:.2f}" in together


def test_share_of_a_copy():
    """A large sum is about as quick as a copy."""
    report = Of(lambda x: x + 1).fusion_report(ones(1 << 22), time=True)
    assert report.copy_speed > 0.1
    reached = report.kernels[0].bandwidth / report.copy_speed
    assert 0.02 < reached < 50 and f"{reached:.0%}" in str(report) and "of a copy's" in str(report)
    assert "of a copy's" not in str(Of(lambda x: x + 1).fusion_report(ones(4)))


@pytest.mark.cpu_only("compares the dialects")
def test_text_of_kernels():
    report = Of(lambda x: mx.np.tanh(x * 2).sum()).fusion_report(ones(64, 32))
    kernel = report.kernels[0]
    assert f"void {kernel.name}(" in kernel.source and "tanh_::f<float>" in kernel.source
    gpu = of_gpu(lambda x: mx.np.tanh(x * 2) + 1, ones(64, 32)).kernels[0]
    assert f"{gpu.name}(" in gpu.source and "__global__" in gpu.source and "tanh_::f<float>" in gpu.source


@pytest.mark.cpu_only("the host's compiler is not asked")
def test_text_by_name():
    """As rtc.report() and profilers show it."""
    net = Of(lambda x: mx.np.tanh(x * 2) - 5)
    net.hybridize()
    net(ones(3, 7))
    (kernel,) = net.fusion_report(ones(3, 7)).kernels
    if kernel.name in mx.rtc.report():  # where there is a compiler
        assert mx.rtc.source_of(kernel.name) == kernel.source
    with pytest.raises(mx.errors.NameNotFound, match="fused_0"):
        mx.rtc.source_of("fused_0")


@pytest.mark.cpu_only("a GPU that is played has no texts")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_kernels_of_a_gpu_and_their_launches(dtype):
    """Every launch has a text; a fold over many rows takes two."""
    report = of_gpu(lambda x: [mx.npx.softmax(x * 2) + 1, (x * x).sum(axis=0)], ones(4096, 96, dtype=dtype))
    assert all("__global__" in k.source for k in report.kernels)
    assert sum(k.launches for k in report.kernels) >= len(report.kernels)


def test_data_and_html():
    report = Of(lambda x: mx.np.tanh(x * 2) < 1).fusion_report(ones(4, 4))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["before"]["launches"] == 3 and data["kernels"] == report.rows and "source" not in report.rows[0]
    ET.fromstring(f"<div>{report._repr_html_()}</div>")
    assert repr(report) == str(report)


def test_many_kernels_are_shown_by_kind():
    def function(x):
        for _ in range(60):
            x = mx.np.cumsum(x, axis=0)
        return x

    lines = str(Of(function).fusion_report(ones(4, 4))).splitlines()
    assert len(lines) < 20 and any(line.split()[:2] == ["60", "cumsum"] for line in lines)


def around(a):
    return mx.np.cumsum(a, axis=0) * mx.np.cumsum(a, axis=1) + a


def long_rows(x):
    a = mx.np.exp(mx.np.broadcast_to(x, (2, 200000))) * 2
    return a / a.sum(axis=1, keepdims=True)


def normed(x):
    a, b = mx.np.zeros(32), mx.np.ones(32)
    return mx.npx.batch_norm(x, b, a, a, b)


def grouped(x):
    """What GroupNorm and ReLU do."""
    return mx.npx.relu(mx.npx.group_norm(x.reshape(4, 16, 32), mx.np.ones(16), mx.np.ones(16), 2))


REASONS = {
    "read through transpose": lambda x, y: mx.np.exp(x).T + 1,
    "read through reshape, as 4 x 2 x 8 x 32": lambda x, y: grouped(x * 2),
    "takes in add and relu behind it, not sigmoid": lambda x, y: mx.npx.sigmoid(normed(x)),
    "max_pool reads what is in memory": lambda x, y: mx.npx.pooling(mx.np.exp(x).reshape(1, 1, 64, 32), (2, 2)),
    "cumsum takes in nothing more behind it, not exp": lambda x, y: mx.np.exp(mx.np.cumsum(x, axis=0)),
    "takes in relu and gelu_tanh behind it, not sigmoid": lambda x, y: mx.npx.sigmoid(mx.npx.fully_connected(x, x)),
    "inside, it would be computed 64 times": lambda x, y: mx.np.tanh(x * 2) * mx.npx.sigmoid(y),
    "leads through cumsum": lambda x, y: around(mx.np.exp(x) * 2),
    "arrays at most": lambda x, y: sum(x[i : i + 16] * 2 for i in range(40)) * 3,
    "complete only at its end": lambda x, y: x / x.sum(axis=0),
    "a reduction of what a reduction": lambda x, y: (x * 2).sum(axis=1).max(),
    "not along axis 0 of 64 x 32": lambda x, y: mx.npx.softmax(x * 2, axis=0),
    "rows of 200000 elements have no kernel on a GPU": lambda x, y: long_rows(x[:2, :1]),
}


@pytest.mark.parametrize("words", REASONS, ids=lambda words: words.replace(" ", "_"))
def test_why_apart(words):
    report = of_gpu(REASONS[words], ones(64, 32), ones(32))
    assert any(words in a.why for a in report.halves[0].apart), str(report)
    assert words in str(report)


def dense(x):
    return mx.npx.relu(mx.npx.fully_connected(x, x))


def convolved(x):
    """A convolution, its residual sum, and a ReLU."""
    image = x.reshape(1, 32, 8, 8)
    return mx.npx.relu(mx.npx.convolution(image, mx.np.ones((32, 32, 1, 1)), kernel=(1, 1)) + image)


REFUSALS = {
    "cuBLASLt has no algorithm for fully_connected_act": (dense, "matmul_gain", -float("inf")),
    "fully_connected_act of cuBLASLt loses 2.5 us": (dense, "matmul_gain", -2500.0),
    "cuDNN has no engine for convolution_relu": (convolved, "conv_fuses", False),
}


@pytest.mark.cpu_only("a GPU that is played has all engines")
@pytest.mark.parametrize("words", REFUSALS, ids=lambda words: words.replace(" ", "_"))
def test_what_libraries_refused(words, monkeypatch):
    function, question, answer = REFUSALS[words]

    def answers(asked, calls):
        assert asked == question
        return [answer] * len(calls)

    monkeypatch.setattr(library, "answers", answers)
    assert words in str(of_gpu(function, ones(64, 32)))


# ---- passes and pictures --------------------------------------------------------------------------------------------


def test_graphs_after_each_pass():
    net = nn.HybridSequential()
    net.add(nn.Dense(8, activation="tanh"), nn.Dense(3))
    net.initialize()
    passes = net.graph_passes(ones(2, 5), training=True)
    names = [name for name, _ in passes]
    assert names[:2] == ["traced", "dead_code"]
    assert {"forward: cut", "backward: cut", "backward: dead_code"} <= set(names)
    for _, g in passes:
        assert g.verify().pretty().startswith("graph HybridSequential")
    assert [name for name, _ in net.graph_passes(ones(2, 5))].count("backward: cut") == 0


def test_the_picture_has_every_node(tmp_path):
    net = Residual(4)
    net.initialize()
    for name, g in net.graph_passes(ones(2, 4, 8, 8), training=True):
        root = ET.fromstring(g.to_svg())
        boxes = [e for e in root.iter("{http://www.w3.org/2000/svg}g") if e.get("id")]
        assert len([b for b in boxes if b.get("class") != "given"]) == len(g.nodes), name
        tips = " ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}title"))
        assert all(n.op in tips for n in g.nodes)
    g.save_svg(tmp_path / "graph.svg")
    assert ET.parse(tmp_path / "graph.svg").getroot().get("viewBox")


def test_long_edges_are_cut():
    """The far end is a link."""
    x = Value((4,), "float32")
    values = [x, *(x.like() for _ in range(SPAN + 5))]
    nodes = [Node("tanh", [a], [b]) for a, b in itertools.pairwise(values[:-1])]
    nodes.append(Node("add", [values[1], values[-2]], [values[-1]]))
    text = Graph("long", [x], nodes, [values[-1]]).to_svg()
    assert text.count('class="edge cut"') == 2 and 'href="#n1"' in text


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=1, max_size=30), st.integers(1, 200))
def test_boxes_do_not_overlap(sources, width):
    """Edges run down, boxes of a layer lie side by side, and all of it lies inside the page."""
    boxes = [Box(10 + (i * width) % 90, 20) for i in range(len(sources))]
    edges = [Edge(boxes[s], boxes[i]) for i, some in enumerate(sources) for s in set(some) if s < i]
    w, h = arrange(boxes, edges)
    for e in edges:
        assert all(a.floor < b.y for a, b in itertools.pairwise(e.stops))
    for a, b in itertools.combinations(boxes, 2):
        assert a.y != b.y or abs(a.x - b.x) > (a.width + b.width) / 2
    for b in boxes:
        assert b.width / 2 - 1e-6 <= b.x <= w - b.width / 2 + 1e-6 and b.floor <= h + 1e-6
