"""From a factory's name to what C++ is asked for: adaptors, arguments, libraries. A recorder plays minimx._cuda."""

from __future__ import annotations

import threading

import pytest

import minimx as mx
from minimx.errors import DeviceError, NotSupported
from minimx.ops.table import Spec
from minimx.rtc.cuda import kernel, kernel_for, library
from minimx.rtc.cuda.adaptors import ADAPTORS
from minimx.rtc.cuda.recipe import Operand, Scratch, State, Value


class Recorder:
    """Notes what is made."""

    def arch(self, device_id):
        return "sm_90"

    def make_kernel(self, launches, workspace):
        return (launches, workspace)

    def make_library_kernel(self, name, ins, outs, attrs, device_id):
        return (name, ins, outs, attrs, device_id)


@pytest.fixture
def module(monkeypatch):
    """Stands for minimx._cuda and NVRTC."""
    made = Recorder()
    monkeypatch.setattr(kernel, "cuda", lambda: made)
    monkeypatch.setattr(kernel, "cubins", lambda codes, arch: {c.name: b"cubin" for c in codes})
    monkeypatch.setattr(kernel, "_kernels", {})
    monkeypatch.setattr(library, "_kernels", {})
    return made


X = Spec((2, 5, 6, 3), "float32", (90, 18, 3, 1))


def test_recipes_become_launches(module):
    number = Spec((), "float16", (), True)
    half = X._replace(dtype="float16")
    launches, workspace = kernel_for("elemwise", [half, number], [half], {"loop": "add", "dtype": "float16"}, 0)
    ((cubin, name, grid, block, shared, args),) = launches
    assert (cubin, grid, block, shared, workspace) == (b"cubin", (1, 1, 1), (256, 1, 1), 0, 0)
    assert name.startswith("add_") and type(args) is list
    assert args == [("p", 0, 0), ("s", 1, "float16"), ("p", 2, 0), ("v", 180, "int32")]


def test_arguments():
    specs = [X, Spec((), "bool", (), True)]
    given = [Operand(0, 8), Operand(1), Scratch(256), Value(3), Value(0.5, "float32"), Value(1.0, "float16"), State()]
    assert [kernel.argument(a, specs) for a in given] == [
        ("p", 0, 8), ("s", 1, "bool"), ("w", 256), ("v", 3, "int64"), ("v", 0.5, "float32"), ("v", 0x3C00, "int16"),
        ("r",)]  # fmt: skip


def test_equal_kernels_are_made_once(module):
    attrs = {"loop": "add", "dtype": "float32"}
    first = kernel_for("elemwise", [X, X], [X], attrs, 0)
    assert kernel_for("elemwise", [X, X], [X], dict(attrs), 0) is first
    assert kernel_for("elemwise", [X, X], [X], attrs, 1) is not first
    assert kernel_for("elemwise", [X], [X, X], {"loop": "negative", "dtype": "float32"}, 0) is not first


def test_many_kernels_are_compiled_together(module, monkeypatch):
    asked = []
    monkeypatch.setattr(kernel, "cubins", lambda codes, arch: asked.append(codes) or {c.name: b"" for c in codes})
    rows = ("negative", "exp", "negative", "sin")
    many = [kernel.wanted("elemwise", [X], [X], {"loop": row, "dtype": "float32"}, 0) for row in rows]
    assert all(isinstance(k, kernel.Pending) for k in many)
    product = kernel.wanted("matmul", [X, X], [X], {}, 0)
    made = kernel.finished([*many, product])
    assert len(asked) == 1 and len(asked[0]) == 3 and made[0] is made[2] and made[4] == ("matmul", [X, X], [X], {}, 0)
    assert kernel_for("elemwise", [X], [X], {"loop": "exp", "dtype": "float32"}, 0) is made[1] and len(asked) == 1


def test_libraries_are_asked_on_threads(module, monkeypatch):
    """All at once, equal ones once, on this thread if there is one only; a failure is raised to who wanted it."""
    meeting, threads = threading.Barrier(3), []

    def make(name, ins, outs, attrs, device_id):
        threads.append(threading.current_thread())
        if device_id < 3:
            meeting.wait(60)
        if device_id == 9:
            raise DeviceError("matmul", "a library", "none", "See mx.runtime")
        return object()

    monkeypatch.setattr(module, "make_library_kernel", make, raising=False)
    monkeypatch.setattr(library.settings, "num_threads", 4)
    several = [kernel.wanted("matmul", [X, X], [X], {}, i) for i in (0, 1, 2, 0)]
    made = kernel.finished(several)
    assert len(set(map(id, made))) == 3 and made[0] is made[3] and len(set(threads)) == 3
    assert kernel_for("matmul", [X, X], [X], {}, 1) is made[1] and len(threads) == 3
    kernel_for("matmul", [X, X], [X], {}, 3)
    assert threads[3] is threading.main_thread()
    for others in ([], [4]):
        with pytest.raises(DeviceError, match="a library"):
            kernel.finished([kernel.wanted("matmul", [X, X], [X], {}, i) for i in (9, *others)])


def test_settings_of_libraries_tell_kernels_apart(module):
    """What was made before a change is used again after the change back, and not between."""
    first = kernel.wanted("matmul", [X, X], [X], {}, 0)
    before = mx.device.library_settings(allow_tf32=True)
    try:
        assert before["allow_tf32"] is False
        assert kernel.wanted("matmul", [X, X], [X], {}, 0).key != first.key
    finally:
        mx.device.library_settings(**before)
    assert kernel.wanted("matmul", [X, X], [X], {}, 0).key == first.key


def test_convolutions_go_to_the_library(module):
    attrs = {"kernel_name": "conv_fwd", "stride": (1, 1)}
    w, b, y = Spec((4, 1, 1, 3), "float32", (3, 3, 3, 1)), Spec((4,), "float32", (1,)), X._replace(shape=(2, 5, 6, 4))
    name, (x, w, b), (y,), got, device = kernel_for("channels_last", [X, w, b], [y], attrs, 1)
    assert (name, got, device) == ("conv_fwd", attrs, 1)
    assert (x.shape, x.strides) == ((2, 3, 5, 6), (90, 1, 18, 3)) and w.shape == (4, 3, 1, 1) and b.shape == (4,)
    assert y.shape == (2, 4, 5, 6)


def test_products_of_vectors(module):
    a, b, c = Spec((3,), "float32", (2,)), Spec((5, 3, 4), "float32", (12, 4, 1)), Spec((5, 4), "float32", (4, 1))
    name, ins, (y,), _, _ = kernel_for("matmul_any", [a, b], [c], {"a": 1, "b": 0}, 0)
    assert name == "matmul" and ins == [Spec((1, 3), "float32", (0, 2)), b] and y.shape == (5, 1, 4)
    assert y.strides == (4, 4, 1)
    _, ins, (y,), _, _ = kernel_for("matmul_any", [a, a], [Spec((), "float32")], {"a": 1, "b": 1}, 0)
    assert [s.shape for s in ins] == [(1, 3), (3, 1)] and (y.shape, y.strides) == ((1, 1), (1, 1))


def test_linear_is_a_product_of_rows(module):
    x, w = Spec((2, 5, 3), "float32", (15, 3, 1)), Spec((4, 3), "float32", (3, 1))
    name, (rows, wt, bias), (y,), _, _ = kernel_for("linear", [x, w, Spec((4,), "float32", (1,))],
                                                    [Spec((2, 5, 4), "float32", (20, 4, 1))], {}, 0)  # fmt: skip
    assert name == "matmul" and (rows.shape, rows.strides) == ((10, 3), (3, 1)) and bias.shape == (4,)
    assert (wt.shape, wt.strides) == ((3, 4), (1, 3)) and (y.shape, y.strides) == ((10, 4), (4, 1))
    strided = Spec((2, 3), "float32", (1, 2))
    _, (rows, *_), _, _, _ = kernel_for("linear", [strided, w], [Spec((2, 4), "float32", (4, 1))], {}, 0)
    assert rows == strided


def test_every_factory_of_the_cpu_is_there():
    from minimx.rtc.cuda import FACTORIES

    names = {f"{conv}{plain}" for conv in ("conv_fwd", "conv_bwd_data", "conv_bwd_weights") for plain in ("", "_plain")}
    assert names | {"elemwise", "cast", "matmul", "matmul_plain"} <= {*FACTORIES, *kernel.LIBRARY, *ADAPTORS}


def test_a_name_without_a_recipe_is_refused(module):
    with pytest.raises(NotSupported, match=r"no_such.*mx.cpu"):
        kernel_for("no_such", [X], [X], {}, 0)


def test_fused_groups(module):
    from minimx.rtc.cuda import finished, pointwise, wanted_fused
    from minimx.rtc.group import Group, Ref, Step
    from minimx.rtc.group import Operand as Lying

    x = Ref("x", 0, "float32")
    g = Group(
        (180,), (Lying("float32", (1,), 0),), (Step("exp", "float32", (x,), "float32"),), (Ref("t", 0, "float32"),), 1
    )
    spec = (X.shape, X.dtype, X.strides, "")
    ((((*_, args),), _),) = finished([wanted_fused(g, pointwise.fused, [spec], [spec], 0)])
    assert args == [("p", 0, 0), ("p", 1, 0), ("v", 180, "int32")]
    assert mx.rtc.report()
