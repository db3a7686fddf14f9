"""Run-time compilation: kernel text, the CUDA twin, the cache on disk, the background compiler and its failures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minimx as mx
from minimx.errors import CompileError, MissingExtra
from minimx.ops.emit import compute_types
from minimx.ops.kinds.elemwise import Elemwise
from minimx.ops.table import OPS
from minimx.rtc import cache as caching
from minimx.rtc import compile as compiling
from minimx.rtc import emit_host, text
from minimx.rtc.cache import Cache
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import compile as cuda
from minimx.rtc.cuda import pointwise, recipe
from minimx.rtc.group import Constant, Group, Operand, Ref, Step, collapse, number

GOLDEN = Path(__file__).parent / "golden"


class Kernel:
    """Stands for a _core.Kernel: notes the function it is given."""

    address = 0

    def set_function(self, address):
        self.address = address


def group(*rows, n=4096, dtype="float32"):
    """A chain of unary rows over one array."""
    steps = []
    last = Ref("x", 0, dtype)
    for i, row in enumerate(rows):
        steps.append(Step(row, dtype, (last,), dtype))
        last = Ref("t", i, dtype)
    return Group((n,), (Operand(dtype, (1,), 0),), tuple(steps), (last,), 1)


def scale_and_shift():
    """bfloat16 (n, 64, 49) times a vector of channels, rounded, plus a matrix broadcast along channels."""
    operands = (
        Operand("bfloat16", (3136, 49, 1), 0),
        Operand("float32", (0, 1, 0), 1),
        Operand("float32", (49, 0, 1), 2),
    )
    steps = (
        Step("multiply", "float32", (Ref("x", 0, "bfloat16"), Ref("x", 1, "float32")), "float32"),
        Step("", "bfloat16", (Ref("t", 0, "float32"),), "bfloat16"),
        Step("add", "float32", (Ref("t", 1, "bfloat16"), Ref("x", 2, "float32")), "float32"),
    )
    return Group((8, 64, 49), operands, steps, (Ref("t", 2, "float32"),), 3)


def clipped_gelu():
    """Two outputs, a choice and numbers of the code."""
    x = Ref("x", 0, "float32")
    steps = (
        Step("gelu", "float32", (x,), "float32"),
        Step("greater", "float32", (Ref("t", 0, "float32"), Constant(number(0.1, "float32").item())), "bool"),
        Step("where", "float32", (Ref("t", 1, "bool"), Ref("t", 0, "float32"), Constant(float("-inf"))), "float32"),
    )
    return Group((4096,), (Operand("float32", (1,), 0),), steps, (Ref("t", 1, "bool"), Ref("t", 2, "float32")), 1)


GROUPS = {"exp_tanh": group("exp", "tanh"), "scale_and_shift": scale_and_shift(), "clipped_gelu": clipped_gelu()}


@pytest.fixture
def service(monkeypatch, tmp_path):
    """A compiler service with a fresh cache."""
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path / "cache")
    monkeypatch.setitem(mx.settings.__dict__, "fusion", True)
    made = compiling.Service()
    monkeypatch.setattr(compiling, "service", made)
    yield made
    made.close()


def compiled(service, *groups):
    """Kernels of the groups, after compilation."""
    kernels = [Kernel() for _ in groups]
    for g, k in zip(groups, kernels, strict=True):
        service.submit(g, k)
    assert service.wait(100)
    return kernels


# ---- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROUPS)
def test_text_is_as_reviewed(name):
    """The generated text, for people to read. To accept a change: MINIMX_GOLDEN=write pytest tests/test_rtc.py."""
    g = GROUPS[name]
    made = {".cc": emit_host.source([g]), ".cu": pointwise.Walk(g).source()}
    for suffix, got in made.items():
        path = GOLDEN / (name + suffix)
        if os.environ.get("MINIMX_GOLDEN") == "write":
            path.write_text(got)
        assert got == path.read_text()


def test_batch_size_is_not_in_the_text():
    big = Group((99, 64, 49), *[getattr(scale_and_shift(), n) for n in ("inputs", "steps", "outputs", "arrays")])
    assert emit_host.source([big]) == emit_host.source([scale_and_shift()])
    assert emit_host.source([group("exp", n=5)]) == emit_host.source([group("exp", n=7)])


def test_axes_merge_where_all_operands_allow():
    assert collapse((2, 3, 4), [(12, 4, 1), (12, 4, 1)]) == ((24,), [(1,), (1,)])
    assert collapse((2, 3, 4), [(12, 4, 1), (0, 0, 0)]) == ((24,), [(1,), (0,)])
    assert collapse((2, 3, 4), [(12, 4, 1), (0, 0, 1)]) == ((6, 4), [(4, 1), (0, 1)])
    assert collapse((2, 1, 4), [(4, 4, 1), (1, 7, 2)]) == ((2, 4), [(4, 1), (1, 2)])
    assert collapse((), [(), ()]) == ((1,), [(1,), (1,)])


def test_literals():
    assert text.literal(number(0.1, "float32").item(), "float32") == "0.1f"
    assert text.literal(number(0.1, "float16", "float32").item(), "float32") == "0.099975586f"
    assert text.literal(0.1, "float64") == "0.1"
    assert text.literal(float("-inf"), "float32") == "float(-INFINITY)"
    assert text.literal(-(2**63), "int64") == "INT64_MIN"
    assert text.literal(1.0, "bool") == "true"
    assert text.literal(number(300, "uint8").item(), "uint8") == "uint8_t(44)"


def row_group(op, dtype):
    """The group that is one row on whole arrays."""
    types = ["bool" if op.condition and i == 0 else dtype for i in range(len(op.names))]
    out = "bool" if op.is_bool else dtype
    compute = "float32" if dtype in ("float16", "bfloat16") else dtype
    refs = tuple(Ref("x", i, t) for i, t in enumerate(types))
    operands = tuple(Operand(t, (1,), i) for i, t in enumerate(types))
    return Group((4096,), operands, (Step(op.name, compute, refs, out),), (Ref("t", 0, out),), len(types))


def row_groups(every_type):
    rows = [op for op in OPS.values() if isinstance(op, Elemwise)]
    return [row_group(op, d) for op in rows for d in (op.row.dtypes if every_type else compute_types(op)[-2:])]


ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


@pytest.fixture
def nvrtc(monkeypatch, tmp_path):
    """A service that compiles CUDA, with a fresh cache. No GPU is needed."""
    pytest.importorskip("cuda.core")
    monkeypatch.setitem(mx.settings.__dict__, "cache_dir", tmp_path / "cache")
    made = cuda.Service()
    monkeypatch.setattr(cuda, "service", made)
    try:
        if not made.nvrtc.include:
            pytest.skip("needs the headers of nvidia-cuda-runtime")
    except MissingExtra as error:
        pytest.skip(str(error))
    return made


def codes(groups):
    """The texts of fused kernels."""
    return [pointwise.fused(g).launches[0].code for g in groups]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_cuda_text_compiles(nvrtc, arch):
    made = cuda.cubins(codes(GROUPS.values()), arch)
    assert len(made) == 3 and all(name.encode() in cubin for name, cubin in made.items())


@pytest.mark.slow
def test_cuda_text_of_every_row_compiles(nvrtc):
    assert cuda.cubins(codes(row_groups(every_type=True)), "sm_90")


def test_cubins_are_kept_in_memory_and_on_disk(nvrtc, monkeypatch):
    asked = codes([group("exp"), group("exp", "tanh")])
    made = cuda.cubins(asked, "sm_90")
    assert cuda.cubins(asked, "sm_90")[asked[0].name] is made[asked[0].name]
    again = cuda.Service()
    monkeypatch.setattr(cuda, "service", again)
    monkeypatch.setattr(cuda.Nvrtc, "run", None)
    assert cuda.cubins(asked, "sm_90") == made and "2 from disk, 0 compiled" in mx.rtc.report()


def test_cubins_are_compiled_in_the_background(nvrtc):
    asked = codes([group(row, dtype="float16") for row in ("exp", "tanh", "sin", "cos", "erf")])
    cuda.prefetch(asked, "sm_90")
    assert mx.rtc.wait(60) and cuda.ready(asked, "sm_90")
    assert not cuda.ready(asked, "sm_80") and "5 compiled" in mx.rtc.report()


def test_a_cuda_kernel_that_does_not_compile_is_explained(nvrtc):
    good = codes([group("exp")])[0]
    bad = recipe.code("bad", 'extern "C" __global__ void KERNEL(float* p) {\n  p[0] = nonsense;\n}\n')
    with pytest.raises(CompileError) as raised:
        cuda.cubins([good, bad], "sm_90")
    words = str(raised.value)
    assert all(w in words for w in ("kernel bad_", "sm_90", "--fmad=false", "   3 |   p[0] = nonsense;", "undefined"))
    assert words in mx.rtc.report() and cuda.cubins([good], "sm_90")


def test_headers_are_read_where_they_are_needed():
    lean, narrow = codes([group("exp")]), codes([group("exp", dtype="float16")])
    assert cuda.source(lean).startswith("#define MINIMX_NO_NARROW")
    assert "#define MINIMX_NO_NARROW" not in cuda.source([*lean, *narrow])


def test_without_cuda_core_an_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingExtra, match=r"cuda-core.*minimx\[cuda13\]"):
        cuda.Service().ask(codes([group("exp")]), "sm_90", True)


@pytest.mark.slow
def test_host_text_of_every_row_compiles(service):
    kernels = compiled(service, *row_groups(every_type=True))
    assert all(k.address for k in kernels), service.report()


# ---- the cache ------------------------------------------------------------------------------------------------------


def stored(cache, key, content):
    cache.store([key], content)


def test_cache_gives_back_what_was_stored(tmp_path):
    cache = Cache(tmp_path / "c", 1 << 20)
    assert cache.find("k") is None
    stored(cache, "k", b"content")
    assert cache.find("k").read_bytes()[: -caching.DIGEST] == b"content"
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"x" + b[1:], lambda b: b + b"more"])
def test_damaged_files_are_removed(tmp_path, damage):
    cache = Cache(tmp_path / "c", 1 << 20)
    stored(cache, "k", b"content" * 100)
    cache.path("k").write_bytes(damage(cache.path("k").read_bytes()))
    assert cache.find("k") is None
    assert not cache.path("k").exists()


def test_cache_is_bounded_and_drops_the_least_recently_used(tmp_path):
    cache = Cache(tmp_path / "c", 4200)
    for i in range(4):
        stored(cache, f"k{i}", bytes(1000 - caching.DIGEST))
        os.utime(cache.path(f"k{i}"), (i, i))
    os.utime(cache.path("k0"), (50, 50))
    stored(cache, "k4", bytes(1000 - caching.DIGEST))
    assert [i for i in range(5) if cache.path(f"k{i}").exists()] == [0, 2, 3, 4]
    stored(cache, "huge", bytes(9000))
    assert cache.path("huge").exists()


def test_files_left_by_a_crash_go(tmp_path):
    cache = Cache(tmp_path / "c", 1 << 20)
    old = cache.temporary(".cc")
    old.write_text("half")
    os.utime(old, (time.time() - 7200,) * 2)
    stored(cache, "k", b"content")
    assert [p.name for p in cache.folder.iterdir() if p.name.startswith("tmp-")] == []


def test_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(caching.os, "geteuid", lambda: os.getuid() + 1)
    cache = Cache(tmp_path / "c", 1 << 20)
    assert "of user" in cache.problem and cache.folder != tmp_path / "c"


def test_link_is_refused_and_an_open_folder_is_closed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "link" in Cache(tmp_path / "link", 1 << 20).problem
    (tmp_path / "open").mkdir(mode=0o777)
    assert not Cache(tmp_path / "open", 1 << 20).problem
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


# ---- the compiler ---------------------------------------------------------------------------------------------------


needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")


@needs_compiler
def test_kernels_arrive_and_stay_on_disk(service):
    first = compiled(service, group("exp"), group("exp", "tanh"))
    assert all(k.address for k in first) and "2 kernels, 2 ready" in service.report()
    again = compiling.Service()
    kernel = Kernel()
    again.submit(group("exp"), kernel)
    assert kernel.address and "(disk)" in again.report()  # at once, without a compiler


@needs_compiler
def test_equal_groups_share_a_kernel(service):
    a, b = compiled(service, group("exp", n=10), group("exp", n=20))
    assert a.address == b.address and "1 kernels" in service.report()


@needs_compiler
def test_damaged_kernel_is_compiled_again(service):
    compiled(service, group("exp"))
    for path in service.cache.folder.iterdir():
        half = path.read_bytes()[:100]
        path.unlink()  # this process has it mapped
        path.write_bytes(half)
    again = compiling.Service()
    assert compiled(again, group("exp"))[0].address and "compiled in" in again.report()


@needs_compiler
def test_failure_is_explained_and_spares_the_rest(service, monkeypatch):
    right = text.step
    monkeypatch.setattr(text, "step", lambda s: "no such thing" if s.row == "tanh" else right(s))
    with pytest.warns(RuntimeWarning, match="fuses exp, tanh"):
        service.submit(group("exp", "tanh"), wrong := Kernel())
        service.submit(group("exp"), good := Kernel())
        assert service.wait(100)
    report = service.report()
    assert not wrong.address and good.address
    assert "Rows fused: exp, tanh" in report and "options: -std=c++20" in report
    assert "| " in report and "no such thing" in report and "error" in report


def test_without_a_compiler_nothing_happens(service, monkeypatch):
    monkeypatch.setitem(mx.settings.__dict__, "cxx", "no-such-compiler")
    kernel = compiled(service, group("exp"))[0]
    assert not kernel.address and "no C++ compiler" in service.report()


def test_fusion_switched_off(service, monkeypatch):
    monkeypatch.setitem(mx.settings.__dict__, "fusion", False)
    assert not compiled(service, group("exp"))[0].address
    assert "off" in service.report()


@needs_compiler
def test_exit_does_not_wait_for_the_compiler(tmp_path):
    slow = tmp_path / "slow++"
    slow.write_text('#!/bin/sh\ncase "$*" in *--version*) echo slow 1.0;; *) exec sleep 60;; esac\n')
    slow.chmod(0o755)
    code = "import minimx as mx\nfrom test_rtc import Kernel, group\nmx.rtc.compile.submit(group('exp'), Kernel())\n"
    environment = os.environ | {"MINIMX_CXX": str(slow), "MINIMX_CACHE_DIR": str(tmp_path),
                                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}  # fmt: skip
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert time.monotonic() - start < 30


@needs_compiler
def test_a_forked_child_compiles_on_its_own(service):
    service.submit(group("exp", "sin"), Kernel())
    child = os.fork()
    if child == 0:
        ok = service.wait(60) and bool(compiled(service, group("exp", "sin"))[0].address)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert service.wait(100)
