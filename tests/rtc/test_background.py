"""Fused kernels of a GPU that are compiled behind members that run: who waits, what takes over, what a failure does.

No GPU and no NVRTC: a recorder plays minimx._cuda, and the compiler is a stand-in that can be held up. What members
compute is checked on the emulator, and how C++ runs them in fused.cc beside this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from rtc import emulator
from test_fused import bodies, drawn, program

import minimx as mx
from minimx.errors import CompileError
from minimx.graph.lower import lower
from minimx.graph.passes.expand import expand
from minimx.graph.passes.fusion import fuse
from minimx.graph.trace import trace
from minimx.ndarray import _core
from minimx.rtc import compile as compiling
from minimx.rtc import fused_kernel
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import background, finished, kernel
from minimx.rtc.cuda import compile as cuda
from minimx.rtc.group import Body, c_strides
from minimx.rtc.kernel import bind

CSRC = Path(__file__).parents[2] / "csrc"


class Cuda:
    """Stands for minimx._cuda."""

    def arch(self, device_id):
        return "sm_90"

    def make_kernel(self, launches, workspace):
        return _core.make_device_host_kernel(lambda *_: None, 1)


class Nvrtc:
    """Stands for NVRTC: waits for ``gate``, and refuses texts that hold ``bad``."""

    version, include, bad = "1.0", ("here",), "in no text"

    def __init__(self):
        self.gate, self.runs = threading.Event(), []
        self.gate.set()

    def run(self, text, arch):
        assert self.gate.wait(20)
        if self.bad in text:
            raise ValueError("the compiler's words")
        self.runs.append(text)
        return b"cubin"


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    """The stand-in, behind a service of its own with a fresh cache."""
    made = Nvrtc()
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path)
    monkeypatch.setattr(kernel, "cuda", Cuda)
    monkeypatch.setattr(background, "_takeovers", [])
    monkeypatch.setattr(background, "_warned", False)
    restart(monkeypatch, made)
    yield made
    made.gate.set()
    assert mx.rtc.wait(20)


def restart(monkeypatch, nvrtc):
    """As a new process would begin."""
    service = cuda.Service()
    service.__dict__["nvrtc"] = nvrtc
    monkeypatch.setattr(cuda, "service", service)
    monkeypatch.setattr(kernel, "_kernels", {})


def nodes(function, *shapes):
    """The fused nodes of a function."""
    args = [drawn(s, "float32", i) for i, s in enumerate(shapes)]
    return [n for n in fuse(trace("p", function, args, False).graph).nodes if n.body is not None]


def wanted(function, *shapes):
    """The Pending of a function that is one fused node."""
    (n,) = nodes(function, *shapes)
    specs = [[(v.shape, v.dtype, c_strides(v.shape), "") for v in vs] for vs in (n.values, n.outputs)]
    return fused_kernel(n, *specs, gpu=0)


def chain(x, y):
    return mx.np.exp(x * 2.5 + y) - y


def members_first(nvrtc, function=chain, *shapes):
    """The Pending, with its members compiled, as if the function had run imperatively."""
    pending = wanted(function, *(shapes or [(4, 5), (5,)]))
    finished([k for k, _ in pending.members()[0]])
    nvrtc.runs.clear()
    return pending


def test_nobody_waits_where_the_members_are_there(nvrtc):
    pending = members_first(nvrtc)
    nvrtc.gate.clear()
    (made,) = finished([pending])
    assert not made.settled and not made.compiled and not nvrtc.runs
    assert finished([pending]) == [made], "the same until it is compiled"
    assert not mx.rtc.wait(0.01) and "0 ready, 1 waiting, 0 failed" in mx.rtc.report()
    assert f"waiting: {pending.group.title()}" in mx.rtc.report()
    nvrtc.gate.set()
    assert mx.rtc.wait(20)
    assert made.settled and made.compiled and len(nvrtc.runs) == 1
    assert "1 ready, 0 waiting, 0 failed" in mx.rtc.report()
    (again,) = finished([pending])
    assert again is not made and again.settled and not again.compiled, "whoever comes now gets the kernel itself"


def test_groups_with_reductions_are_waited_for(nvrtc):
    g = trace("p", lambda x: mx.npx.softmax(mx.np.tanh(x) * 2.5), [drawn((4, 40), "float32", 0)], False).graph
    g.gpu = 0
    (n,) = fuse(expand(g)).nodes
    specs = [[(v.shape, v.dtype, c_strides(v.shape), "") for v in vs] for vs in (n.values, n.outputs)]
    pending = fused_kernel(n, *specs, gpu=0)
    finished([k for k, _ in pending.members()[0]])
    nvrtc.runs.clear()
    finished([pending])
    assert n.attrs["form"] == "rows" and len(nvrtc.runs) == 1 and not background._takeovers


def test_members_on_disk_are_there(nvrtc, monkeypatch):
    pending = members_first(nvrtc)
    restart(monkeypatch, nvrtc)
    nvrtc.gate.clear()
    (made,) = finished([pending])
    assert not made.settled and cuda.service.from_disk == 4
    nvrtc.gate.set()
    assert mx.rtc.wait(20) and made.compiled
    restart(monkeypatch, nvrtc)
    nvrtc.gate.clear()
    assert finished([pending])[0].settled, "now the fused one is on disk"


def test_all_is_compiled_together_where_members_are_missing(nvrtc):
    pending = wanted(chain, (4, 5), (5,))
    (made,) = finished([pending])
    assert made.settled and not made.compiled and len(nvrtc.runs) == 1
    assert "fused kernels" not in mx.rtc.report()


def test_some_wait_and_some_do_not(nvrtc):
    there, missing = members_first(nvrtc), wanted(lambda x: mx.np.sin(mx.np.tanh(x)), (7,))
    assert [k.settled for k in finished([there, missing])][1]
    assert mx.rtc.wait(20) and finished([there])[0].settled


def test_the_members_stay_where_the_background_fails(nvrtc):
    pending = members_first(nvrtc)
    nvrtc.bad = "multiply, add, exp"
    with pytest.warns(RuntimeWarning, match="fuses multiply, add, exp, subtract"):
        (made,) = finished([pending])
        assert mx.rtc.wait(20)
    assert made.settled and not made.compiled and finished([pending]) == [made]
    report = mx.rtc.report()
    assert "0 ready, 0 waiting, 1 failed" in report and "the compiler's words" in report
    kernel._kernels.clear()
    (again,) = finished([pending])
    assert again.settled and not again.compiled, "known, and no second warning"


def test_the_members_are_compiled_where_the_group_fails(nvrtc):
    nvrtc.bad = "multiply, add, exp"
    other = wanted(lambda x: mx.np.sin(mx.np.tanh(x)), (7,))
    with pytest.warns(RuntimeWarning, match="fuses multiply, add, exp, subtract"):
        made, plain = finished([wanted(chain, (4, 5), (5,)), other])
    assert made.settled and plain.settled and made.workspace_bytes == 512 and plain.workspace_bytes == 0


def test_a_kernel_that_is_no_group_fails_as_ever(nvrtc):
    nvrtc.bad = "exp_"
    x = kernel.given(((3,), "float32"))
    with pytest.raises(CompileError, match="the compiler's words"):
        kernel.kernel_for("elemwise", [x], [x], {"loop": "exp", "dtype": "float32"}, 0)


def test_a_kernel_that_does_not_load_is_a_failure(nvrtc, monkeypatch):
    pending = members_first(nvrtc)

    class Broken(Cuda):
        def make_kernel(self, launches, workspace):
            raise RuntimeError("no such kernel")

    nvrtc.gate.clear()
    (made,) = finished([pending])
    monkeypatch.setattr(kernel, "cuda", Broken)
    with pytest.warns(RuntimeWarning, match="minimx.rtc.report"):
        nvrtc.gate.set()
        assert mx.rtc.wait(20)
    assert made.settled and not made.compiled and "failed (no such kernel)" in mx.rtc.report()


def test_temporaries_serve_in_turn():
    def long(x):
        y = x
        for _ in range(12):
            y = mx.np.tanh(y) * 0.5
        return y + x

    pending = wanted(long, (8, 8))
    members, temporaries, _ = pending.members()
    assert len(members) == 25 and temporaries == [256, 256]


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("in_place", [False, True])
def test_members_give_what_the_graph_gives(in_place):
    graphs = [b for seed in range(8) for b in bodies(*program(seed))]
    assert graphs
    bound = []
    for b in graphs:
        body = Body(b, [(v.shape, v.dtype, c_strides(v.shape)) for v in b.inputs])
        bound.append(bind(body, lambda *a: kernel.wanted(*a, device_id=0), in_place))
    emulator.prepare([k.write() for members, _, _ in bound for k, _ in members])
    for b, (members, temporaries, constants) in zip(graphs, bound, strict=True):
        args = [drawn(v.shape, v.dtype, i) for i, v in enumerate(b.inputs)]
        want = [y.asnumpy() for y in lower(b).run(args, False)]
        arrays = [x.asnumpy() for x in args] + [emulator.empty(y.shape, y.dtype.name) for y in want]
        scratch = [np.zeros(n, "uint8") for n in temporaries]
        for k, places in members:
            operands = [operand(i, spec, arrays, scratch, constants) for i, spec in zip(places, k.specs, strict=True)]
            emulator.run(k.write(), operands, way=emulator.WAYS[0])
        for got, right in zip(arrays[len(args) :], want, strict=True):
            np.testing.assert_array_equal(got.astype("float64"), right.astype("float64"))


def operand(i, spec, arrays, scratch, constants):
    """What a member finds at place ``i``."""
    dtype = emulator.numpy_type(spec.dtype)
    if spec.weak:
        return np.frombuffer(constants[i - len(arrays)], dtype)[0]
    x = scratch[~i].view(dtype) if i < 0 else arrays[i]
    return np.lib.stride_tricks.as_strided(x, spec.shape, [s * dtype.itemsize for s in spec.strides])


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_how_members_run_and_are_replaced(tmp_path):
    """fused.cc, built with the runtime's source and no Python."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [sys.executable, "-m", "minimx.ops.emit", tmp_path / "generated"], check=True, env=environment, timeout=60
    )
    sources = [Path(__file__).with_name("fused.cc"), CSRC / "runtime/fused.cc"]
    command = [*find_compiler().command, "-std=c++20", "-O0", "-pthread", f"-I{CSRC}", f"-I{tmp_path}"]
    subprocess.run([*command, *sources, "-o", tmp_path / "fused"], check=True, timeout=100)
    done = subprocess.run([tmp_path / "fused"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_compiler_that_is_killed_at_the_end_is_no_failure(monkeypatch, recwarn):
    """What dies with the interpreter is not worth a warning."""
    service = compiling.Service()
    pending = wanted(chain, (4, 5), (5,))
    entry = compiling.Entry(pending.group, "fused", "key")
    service.entries["a"] = entry
    service.closing = True
    service.fail(entry, "killed")
    assert entry.state == "failed" and not recwarn.list
