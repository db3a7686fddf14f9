"""Checked mode: each fault that it is there for is planted, and found; programs without one run as ever."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable

import numpy as np
import pytest

import minimx as mx
from minimx import autograd, gluon
from minimx.errors import EngineError
from minimx.ndarray import _core

pytestmark = pytest.mark.cpu_only("plants faults in the host's memory; GPUs: played/test_checked.py")


def memory(x: mx.np.ndarray) -> ctypes.Array:
    """The float32 elements of x by their address, past all that knows of arrays."""
    return (ctypes.c_float * x.size).from_address(_core.address(x))


def finding(program: Callable[[], object]) -> str:
    """What checked mode says of a program."""
    with pytest.raises(EngineError) as caught, mx.engine.checked():
        program()
    return str(caught.value)


def test_an_undeclared_write():
    """It names the operator, the line, the array and the way out."""

    def program():
        x = mx.np.ones((2, 3))
        elements = memory(x)

        def scale():
            elements[2] = 5

        mx.engine.push(scale, reads=[x], name="scale")

    text = finding(program)
    assert text.startswith("scale (pushed at ") and "test_checked.py:" in text
    assert "got changes in a float32 array of shape (2, 3) that it declares as read. List it in `writes`." in text


def test_a_view_lends_no_right_to_write():
    """What NumPy sees is found as well: the fingerprint covers the whole storage, whoever holds a view."""

    def program():
        x = mx.np.ones((4,), dtype="float16")
        view = np.asarray(x)

        def scale():
            view[3] = 2

        mx.engine.push(scale, reads=[x], name="scale")

    assert "a float16 array of shape (4,) that it declares as read, and that others see" in finding(program)


OUTSIDE = mx.np.ones((5,))


@pytest.mark.parametrize(
    ("touch", "what", "way"),
    [
        (lambda: OUTSIDE.sum(), "got a read of a float32 array of shape (5,) by 'sum'", "`reads`"),
        (lambda: OUTSIDE[0].item(), "got a read of an array of 20 bytes by 'wait'", "`reads`"),
        (lambda: OUTSIDE.asnumpy(), "got a read of a float32 array of shape (5,) by 'wait'", "`reads`"),
        (lambda: OUTSIDE.__iadd__(1), "got a ", "`"),
        (lambda: OUTSIDE.__setitem__(slice(2), 3), "got a write of a float32 array of shape (2,)", "`writes`"),
    ],
)
def test_what_a_callback_does_not_declare(touch, what, way):
    text = finding(lambda: mx.engine.push(touch, name="look"))
    assert text.startswith("look (pushed at ") and what in text and "which it does not declare" in text
    assert text.endswith(f"List the array in {way}.") or way == "`"


def test_a_callback_that_writes_what_it_reads():
    """By an operator: that would come after the callback, and be lost to whoever reads next."""

    def program():
        x = mx.np.ones(3)
        mx.engine.push(lambda: x.__setitem__(0, 3), reads=[x], name="set")

    assert "got a write of a float32 array of shape () by 'copy', which it declares as read" in finding(program)


def test_a_reader_gets_a_view_that_it_cannot_write():
    """Checked or not: what a callback declares as read it may read in any way."""
    seen = []

    def look(x):
        seen.append(x.asnumpy().sum() + np.asarray(x).sum() + x.sum().item())
        np.asarray(x)[0] = 3

    for scope in (contextlib.nullcontext, mx.engine.checked):
        x, y = mx.np.ones((4,)), mx.np.zeros((4,))
        with pytest.raises(ValueError, match="read-only"), scope():
            mx.engine.push(lambda x=x: look(x), reads=[x], writes=[y], name="look")
            y.wait_to_read()
        np.asarray(x)[0] = 3
        assert x.sum().item() == 6
    assert seen == [12, 12]


def test_at_once_and_one_at_a_time():
    with mx.engine.checked():
        x = mx.np.ones(3)
        with pytest.raises(EngineError, match="read of a float32 array.*by 'sum'"), mx.engine.sync():
            mx.engine.push(lambda: x.sum(), name="look")
        with pytest.raises(EngineError, match="one block at a time"), mx.engine.checked():
            pass
        with pytest.raises(EngineError, match="scale"), mx.engine.sync():
            elements = memory(x)
            mx.engine.push(lambda: elements.__setitem__(0, 7), reads=[x], name="scale")


def test_what_a_callback_makes_is_its_own():
    seen = []

    def work():
        a = mx.np.arange(6).reshape(2, 3)
        b = mx.np.array(np.ones((2, 3), "float32")) + a
        x[:] = b * x.sum()
        seen.append(b.asnumpy().sum())

    with mx.engine.checked():
        x = mx.np.ones((2, 3))
        mx.engine.push(work, reads=[x], writes=[x], name="work")
        assert x.sum().item() == 6 * 21
    assert seen == [21]


def test_a_write_beside_an_array():
    def program():
        x = mx.np.ones(5)
        address = _core.address(x)
        mx.engine.push(lambda: ctypes.memset(address + 20, 0, 1), reads=[x], writes=[x], name="fill")

    assert "expected writes inside arrays, got one beside a float32 array of shape (5,)" in finding(program)


def test_a_write_after_the_end():
    def program(wait: bool):
        x = mx.np.ones(50)
        address = _core.address(x)
        del x
        if wait:
            ctypes.memset(address + 8, 0, 4)
        else:
            mx.engine.push(lambda: ctypes.memset(address + 8, 0, 4), name="late")

    for wait, where in ((True, "checked: "), (False, "late (pushed at ")):
        text = finding(lambda wait=wait: program(wait))
        assert text.startswith(where) and "a write to an array of 200 bytes after it was freed" in text


def lend_view() -> tuple:
    x = mx.np.ones((4,))
    return x, np.asarray(x)


def lend_dlpack() -> tuple:
    x = mx.np.ones((4,))
    return x, np.from_dlpack(x)


def borrow_dlpack() -> tuple:
    view = np.ones(4, "float32")
    return mx.np.from_dlpack(view), view


@pytest.mark.parametrize("share", [lend_view, lend_dlpack, borrow_dlpack])
@pytest.mark.parametrize("writes", [False, True])
def test_a_host_that_does_not_wait(writes, share):
    """Memory that others see changes between the push of an operator and its start."""

    def program():
        gate = threading.Event()
        (x, view), y = share(), mx.np.zeros(1)
        mx.engine.push(gate.wait, writes=[y], name="slow")
        mx.engine.push(lambda: None, reads=[y] if writes else [x, y], writes=[x] if writes else [], name="use")
        view[0] = 9
        gate.set()

    text = finding(program)
    assert (
        text.startswith("use (pushed at ") and "a float32 array of shape (4,) as it was when the operator was" in text
    )


@pytest.mark.parametrize("share", [lend_view, lend_dlpack])
def test_a_host_that_reads_too_early(share):
    """Memory that others see is read between the push of an operator that writes it and its start."""

    def program():
        gate = threading.Event()
        (x, view), y = share(), mx.np.zeros(1)
        mx.engine.push(gate.wait, writes=[y], name="slow")
        mx.engine.push(lambda: None, reads=[x, y], writes=[x], name="use")
        assert view[0] == 1  # as it was
        gate.set()

    text = finding(program)
    assert text.startswith("use (pushed at ") and "test_checked.py:" in text
    assert "expected nobody to read a float32 array of shape (4,) before the operator has written it" in text


def test_a_host_that_waits():
    with mx.engine.checked():
        x = mx.np.ones((4,))
        for _ in range(3):
            y = x * 2
            y.wait_to_read()
            view = np.asarray(x)
            view += 1
            del view
        mx.waitall()
        assert y.asnumpy().tolist() == [6] * 4


def test_a_write_by_nobody():
    """It names who wrote last."""

    def program():
        x = mx.np.ones((4,))
        elements = memory(x)
        x += 1
        elements[0] = 3
        mx.np.sin(x)

    text = finding(program)
    assert text.startswith("sin (pushed at ") and "expected a float32 array of shape (4,) as add (pushed at " in text


def test_elements_that_nobody_wrote():
    def partly():
        x = mx.np.empty((7,))
        x[:3] = 1
        return x + 1

    for program in (lambda: mx.np.empty((7,)) + 1, partly):
        assert "expected elements that somebody has written, got a float32 array of shape (7,), at" in finding(program)
    with mx.engine.checked():
        x = mx.np.empty((7,))
        x[:3] = 1
        assert (x[:3] + 1).sum().item() == 6


def test_an_output_left_unwritten():
    def program():
        x = mx.np.empty(4)
        mx.engine.push(lambda: None, writes=[x], name="fill")

    assert "expected every element of what it writes to be written, got a float32 array of shape (4,)" in finding(
        program
    )


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_training_is_clean(hybrid, dtype):
    """And gives the same bits."""

    def train() -> list[float]:
        mx.random.seed(1)
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Conv2D(4, 3), gluon.nn.BatchNorm(), gluon.nn.Activation("relu"), gluon.nn.MaxPool2D())
        net.add(gluon.nn.Dense(10), gluon.nn.Dropout(0.3))
        net.initialize(mx.init.Xavier())
        net.cast(dtype)
        net.hybridize(hybrid)
        loss_fn, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
        trainer = gluon.Trainer(net.collect_params(), "adam", {"multi_precision": True})
        for _ in range(3):
            x = mx.np.random.normal(size=(4, 3, 8, 8)).astype(dtype)
            with autograd.record():
                loss = loss_fn(net(x), mx.np.array([1, 2, 3, 4])).mean()
            loss.backward()
            trainer.step(4)
            losses.append(loss.item())
        return losses

    plain = train()
    with mx.engine.checked():
        assert train() == plain


def test_off_again():
    """After the block memory comes from the cache again, and callbacks may do as they like."""
    before = mx.device.memory_info(mx.cpu())["used"]
    with mx.engine.checked():
        x = mx.np.ones((1000,))
        assert mx.device.memory_info(mx.cpu())["used"] >= before + 4000
    mx.engine.push(lambda: OUTSIDE.sum().item())
    mx.waitall()
    del x
    assert mx.device.memory_info(mx.cpu())["used"] <= before


def test_an_error_of_the_program_stays_what_it_is():
    with pytest.raises(KeyError), mx.engine.checked():
        raise KeyError("x")
    with pytest.raises(OSError, match="disk"), mx.engine.checked():

        def broken():
            raise OSError("disk")

        mx.engine.push(broken, name="load")
