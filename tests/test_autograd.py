"""The tape: what is recorded, how gradients are stored, orders, custom functions, and every way to hold it wrong."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_checks import check_gradient, check_hybrid, check_second_gradient

import minimx as mx
from minimx import autograd
from minimx.errors import ArgumentError, AutogradError, MXError
from minimx.ndarray import _core


def variable(values, dtype="float64", **options) -> mx.np.ndarray:
    """An array with a gradient."""
    x = mx.np.array(values, dtype=dtype)
    x.attach_grad(**options)
    return x


# --- modes -------------------------------------------------------------------------------------------------------


def test_modes_nest():
    """record, pause, train_mode and predict_mode set what they name and put back what was."""
    states = []

    def note():
        states.append((autograd.is_recording(), autograd.is_training()))

    note()
    with autograd.record():
        note()
        with autograd.pause():
            note()
            with autograd.train_mode():
                note()
        with autograd.predict_mode():
            note()
        with autograd.record(train_mode=False):
            note()
        note()
    note()
    assert states == [
        (False, False),
        (True, True),
        (False, False),
        (False, True),
        (True, False),
        (True, False),
        (True, True),
        (False, False),
    ]


def test_modes_survive_errors_and_are_per_thread():
    """An exception inside leaves the mode as it was; another thread has its own."""
    with pytest.raises(ZeroDivisionError), autograd.record():
        1 / 0  # noqa: B018
    assert not autograd.is_recording()
    seen = []
    with autograd.record():
        t = threading.Thread(target=lambda: seen.append(autograd.is_recording()))
        t.start()
        t.join()
    assert seen == [False]


def test_pause_is_not_recorded():
    """What is computed under pause is a constant."""
    x = variable([2.0])
    with autograd.record():
        y = x * x
        with autograd.pause():
            c = y * 3
        z = y * c
    z.backward()
    assert x.grad.item() == 2 * 2 * 12


# --- storing gradients -------------------------------------------------------------------------------------------


def test_write_add_null():
    """What grad_req says happens to the gradient."""
    w, a, n = variable([1.0]), variable([1.0], grad_req="add"), variable([1.0], grad_req="null")
    for step in range(1, 4):
        with autograd.record():
            y = 3 * w * a * (n + 1)
        y.backward()
        assert w.grad.item() == 6 and a.grad.item() == 6 * step and n.grad is None
    a.zero_grad()
    assert a.grad.item() == 0
    with pytest.raises(ArgumentError):
        w.attach_grad("maybe")


def test_head_gradients():
    """Of one head, of several, of the wrong shape."""
    x = variable([1.0, 2.0, 3.0])
    with autograd.record():
        y, z = x * x, x * 10
    autograd.backward([y, z], [mx.np.array([1.0, 0.0, 2.0], dtype="float64"), None])
    assert x.grad.asnumpy().tolist() == [12, 10, 22]
    with autograd.record():
        y = x * x
    y.backward(mx.np.array([1.0, 1.0, 0.0], dtype="float64"))
    assert x.grad.asnumpy().tolist() == [2, 4, 0]
    with autograd.record():
        y = x * x
    with pytest.raises(AutogradError, match="shape"):
        y.backward(mx.np.ones(2))


def test_uses_add_up_and_variables_may_be_heads():
    """A variable used often, used by itself, and used as a head."""
    x = variable([3.0])
    with autograd.record():
        y = x * x + x * x * x + x
    y.backward()
    assert x.grad.item() == 6 + 27 + 1
    x.backward()
    assert x.grad.item() == 1


def test_gradient_of_what_does_not_depend():
    """Zeros, from grad; left alone, by backward."""
    x, y = variable([3.0]), variable([4.0])
    with autograd.record():
        z = x * 2
    gx, gy = autograd.grad(z, [x, y])
    assert gx.item() == 2 and gy.item() == 0
    with autograd.record():
        z = x * 2
    z.backward()
    assert y.grad.item() == 0


def test_gradients_of_intermediate_results():
    """grad also gives gradients of what is not a variable but was computed from one."""
    x = variable([3.0])
    with autograd.record():
        y = x * x
        z = y * y
    assert autograd.grad(z, y).item() == 18


def test_grad_of_mixed_types():
    """Through casts, gradients come in the type of each array."""
    x, y = variable([1.5], "float16"), variable([2.0], "float64")
    with autograd.record():
        z = x * y + x.astype("float32") * 2
    z.backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float16, np.float64) and x.grad.item() == 4 and y.grad.item() == 1.5


def test_mark_variables_and_fresh_grad():
    """Gradients go to the arrays given; each says whether it was written."""
    x, g = mx.np.array([2.0]), mx.np.zeros(1)
    autograd.mark_variables(x, g)
    assert not x.fresh_grad
    with autograd.record():
        y = x * x
    y.backward()
    assert g.item() == 4 and x.fresh_grad


def test_a_gradient_seen_before_stays():
    """An array that the user took from .grad keeps its memory: it shows the new gradient, as documented for Gluon."""
    x = variable([2.0])
    g = x.grad
    with autograd.record():
        y = x * x
    y.backward()
    assert g.item() == 4 and np.asarray(x.grad)[0] == 4


# --- the graph and its end ---------------------------------------------------------------------------------------


def test_backward_twice():
    """Once by default; as often as one likes with retain_graph; the error says so."""
    x = variable([2.0])
    with autograd.record():
        y = x * x
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 4
    with pytest.raises(AutogradError, match="retain_graph"):
        y.backward()


def test_part_of_a_freed_graph():
    """Two heads over one trunk: the second walk meets what the first one freed."""
    x = variable([2.0])
    with autograd.record():
        trunk = x * x
        a, b = trunk * 3, trunk * 4
    a.backward()
    with pytest.raises(AutogradError):
        b.backward()


def test_not_on_the_tape():
    """backward of what was not recorded, grad for what has no gradient."""
    x = variable([2.0])
    with pytest.raises(AutogradError, match="record"):
        (x * x).backward()
    with autograd.record():
        y = x * x
    with pytest.raises(AutogradError, match="attach_grad"):
        autograd.grad(y, mx.np.ones(1))


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x.__setitem__(0, 5.0),
        lambda x: x.__iadd__(1),
        lambda x: x[:1].__setitem__(slice(None), 7.0),
        lambda x: mx.np.ones(2, dtype="float64").copyto(x),
        lambda x: mx.np.exp(x, out=x),
    ],
)
def test_written_saved_array(write):
    """A saved array that was written to in place, through any view, is detected: the error names the operator."""
    x = variable([2.0, 3.0])
    c = mx.np.array([1.0, 2.0], dtype="float64")
    with autograd.record():
        y = x * c
    write(c)
    with pytest.raises(AutogradError, match="'multiply'.*written to in place"):
        y.backward()


def test_written_array_that_is_not_saved():
    """Writing to what the gradient does not need is fine."""
    x, c = variable([2.0, 3.0]), mx.np.ones(2, dtype="float64")
    with autograd.record():
        y = x + c
        z = mx.np.exp(x)
    c[:] = 9
    x[:] = 1  # exp keeps its output only
    autograd.backward([y, z])
    np.testing.assert_allclose(x.grad.asnumpy(), 1 + np.exp([2.0, 3.0]))


def test_written_output():
    """An operator's own output, if its gradient needs it."""
    x = variable([2.0, 3.0])
    with autograd.record():
        y = mx.np.exp(x)
    y[:] = 0
    with pytest.raises(AutogradError, match="exp"):
        y.backward()


def test_tape_memory_comes_back():
    """Nodes and what they saved go when the last result goes, also without backward."""
    x = variable(np.ones((64, 64)))
    mx.waitall()
    gc.collect()
    before = _core.memory_info()["used"]
    for _ in range(5):
        with autograd.record():
            y = mx.np.exp(x) * x
            for _ in range(20):
                y = mx.np.tanh(y) * y
        z = y.sum()
    del y, z
    mx.waitall()
    assert _core.memory_info()["used"] <= before + 4096


def test_a_long_chain():
    """Depth is not bounded by a stack: recording, walking, and dropping without a walk."""
    x = variable([1.0])
    for walk in (True, False):
        with autograd.record():
            y = x
            for _ in range(30_000):
                y = y + 1.0
        if walk:
            y.backward()
            assert x.grad.item() == 1
        del y


# --- in place and views under record -----------------------------------------------------------------------------


def test_in_place_operators():
    """x += y while recording is recorded."""
    x = variable([2.0, 3.0])
    with autograd.record():
        y = x * x
        y += x
        y *= 2
        z = y.sum()
    z.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), 2 * (2 * np.array([2.0, 3.0]) + 1))


def test_assignment_to_all_and_to_parts():
    """y[...] = x and y[0] = x."""
    x = variable([2.0, 3.0])
    with autograd.record():
        y = mx.np.zeros((2, 2), dtype="float64")
        y[0] = x * x
        y[1, 1] = x[0]
        w = mx.np.zeros(2, dtype="float64")
        w[...] = x * 3
        z = (y * mx.np.array([[1.0, 2.0], [3.0, 4.0]], dtype="float64")).sum() + w.sum()
    z.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), [2 * 2 + 4 + 3, 2 * 2 * 3 + 3])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_copyto_is_recorded(dtype):
    """x.copyto(y) while recording makes y a result, also of another type and in a graph."""
    x = variable([2.0, 3.0])

    def run(x):
        y = mx.np.zeros(2, dtype=dtype)
        (x * x).copyto(y)
        return y * 3

    with autograd.record():
        z = run(x)
    z.backward()
    assert x.grad.asnumpy().tolist() == [12, 18] and x.grad.dtype == np.float64
    check_hybrid(run, [np.array([2.0, 3.0])], {}, "float64", "copyto")


def test_views_of_recorded_arrays():
    """Gradients of slices, transposes and reshapes."""
    x = variable(np.arange(6.0).reshape(2, 3))
    with autograd.record():
        y = x[0, ::-1] * x.T[:, 1] * x.reshape(-1)[2:5]
        z = y.sum()
    z.backward()
    a = np.arange(6.0).reshape(2, 3)
    want = np.zeros((2, 3))
    for k in range(3):
        flat = a.ravel()
        f0, f1, f2 = a[0, 2 - k], a[1, k], flat[2 + k]
        want[0, 2 - k] += f1 * f2
        want[1, k] += f0 * f2
        want.reshape(-1)[2 + k] += f0 * f1
    np.testing.assert_allclose(x.grad.asnumpy(), want)


def test_write_through_a_view_while_recording():
    """A write through a view of a recorded array gives the right gradient or an error, never a wrong one."""
    x = variable([2.0, 3.0])
    try:
        with autograd.record():
            y = x * x
            view = y[:1]
            view *= 10
            z = (y * y).sum()
        z.backward()
    except MXError:
        return
    np.testing.assert_allclose(x.grad.asnumpy(), [2 * (10 * 4) * 10 * 4, 2 * 9 * 6])


def test_write_to_the_base_of_a_recorded_view():
    """The same the other way round."""
    x = variable([2.0, 3.0])
    try:
        with autograd.record():
            y = x * x
            view = y[:1]
            y *= 10
            z = (view * view).sum()
        z.backward()
    except MXError:
        return
    np.testing.assert_allclose(x.grad.asnumpy(), [2 * (10 * 4) * 10 * 4, 0])


def test_augmented_assignment_to_a_part():
    """y[:1] *= 10, which Python makes of a read, a write through the view, and an assignment."""
    x = variable([2.0, 3.0])
    with autograd.record():
        y = x * x
        y[:1] *= 10
        z = (y * y).sum()
    z.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), [2 * (10 * 4) * 10 * 4, 2 * 9 * 6])


def test_detach():
    """A detached array shares the elements and is a constant."""
    x = variable([3.0])
    with autograd.record():
        y = x * x
        z = y * y.detach()
    z.backward()
    assert x.grad.item() == 6 * 9
    assert mx.np.may_share_memory(y, y.detach())


# --- higher orders -----------------------------------------------------------------------------------------------


def test_third_order():
    """sin''' = -cos, and x^5."""
    x = variable([0.3, 0.7])
    with autograd.record():
        y = mx.np.sin(x)
        g = autograd.grad(y, x, create_graph=True)
        gg = autograd.grad(g, x, create_graph=True)
        ggg = autograd.grad(gg, x, create_graph=True)
    np.testing.assert_allclose(ggg.asnumpy(), -np.cos([0.3, 0.7]), rtol=1e-12)
    ggg.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), np.sin([0.3, 0.7]), rtol=1e-12)
    with autograd.record():
        y = x**5
        for _ in range(4):
            y = autograd.grad(y, x, create_graph=True)
    np.testing.assert_allclose(y.asnumpy(), 120 * np.array([0.3, 0.7]), rtol=1e-12)


def test_gradient_penalty():
    """A loss of a gradient, by backward with create_graph, against its formula."""
    w, x = variable([[1.0, -2.0], [0.5, 1.5]]), variable([0.3, -0.4])
    with autograd.record():
        y = mx.np.tanh(w @ x).sum()
        gx = autograd.grad(y, x, create_graph=True)
        loss = (gx * gx).sum()
    loss.backward()

    def penalty(w):
        return (((1 - np.tanh(w @ x.asnumpy()) ** 2) @ w) ** 2).sum()

    a, eps = w.asnumpy(), 1e-6
    for i in np.ndindex(2, 2):
        up, down = a.copy(), a.copy()
        up[i] += eps
        down[i] -= eps
        assert abs((penalty(up) - penalty(down)) / (2 * eps) - w.grad.asnumpy()[i]) < 1e-8


def test_create_graph_needs_record_for_more():
    """Without create_graph a gradient is a constant."""
    x = variable([2.0])
    with autograd.record():
        y = x * x * x
        g = autograd.grad(y, x, retain_graph=True)
    with pytest.raises(AutogradError):
        g.backward()


# --- functions of the user's own ---------------------------------------------------------------------------------


class Scale(autograd.Function):
    """Two outputs; the gradient is deliberately not that of forward."""

    def forward(self, x, y):
        self.save_for_backward(x, y)
        return x * y, x + y

    def backward(self, da, db):
        x, y = self.saved_tensors
        return 100 * da * y + db, da * x


def test_function():
    """forward is not recorded, backward is what counts; outputs that were not used give zeros."""
    x, y = variable([2.0]), variable([3.0])
    with autograd.record():
        a, b = Scale()(x, y)
        z = a * 2 + b
    z.backward()
    assert a.item() == 6 and x.grad.item() == 601 and y.grad.item() == 4
    with autograd.record():
        a, _ = Scale()(x, y)
    a.backward()
    assert x.grad.item() == 300
    assert not _core.on_tape(Scale()(x, y)[0])


class Cube(autograd.Function):
    """x^3, whose backward is written with operators: so it can be differentiated itself."""

    def forward(self, x):
        self.save_for_backward(x)
        return x**3

    def backward(self, dy):
        (x,) = self.saved_tensors
        return 3 * x**2 * dy


def test_function_to_second_order():
    """Its backward is recorded under create_graph."""
    x = variable([2.0])
    with autograd.record():
        g = autograd.grad(Cube()(x), x, create_graph=True)
    g.backward()
    assert g.item() == 12 and x.grad.item() == 12


class Broken(autograd.Function):
    def forward(self, x, y):
        return x * y

    def backward(self, dy):
        return dy  # one gradient for two inputs


def test_function_with_the_wrong_number_of_gradients():
    """An error that names the class."""
    x, y = variable([2.0]), variable([3.0])
    with autograd.record():
        z = Broken()(x, y)
    with pytest.raises(AutogradError, match="Broken.*2 gradients, got 1"):
        z.backward()


class Raises(autograd.Function):
    def forward(self, x):
        return x * 1

    def backward(self, dy):
        raise KeyError("mine")


def test_an_error_in_backward_comes_through():
    """In its own class, and the modes are put back."""
    x = variable([2.0])
    with autograd.record():
        z = Raises()(x)
    with pytest.raises(KeyError, match="mine"):
        z.backward()
    assert not autograd.is_recording() and not autograd.is_training()


# --- random programs ---------------------------------------------------------------------------------------------

STEPS = {
    "add": lambda xs, i, j: xs[i] + xs[j],
    "mul": lambda xs, i, j: xs[i] * xs[j],
    "sin": lambda xs, i, j: mx.np.sin(xs[i]),
    "sub": lambda xs, i, j: xs[i] - xs[j] * 0.5,
    "sum": lambda xs, i, j: xs[i].sum(axis=0, keepdims=True) * 0.3 + xs[j],
    "t": lambda xs, i, j: xs[i].T,
    "slice": lambda xs, i, j: xs[i][::-1] * 0.5 + xs[j],
    "matmul": lambda xs, i, j: xs[i] @ xs[j] * 0.3,
    "max": lambda xs, i, j: mx.np.maximum(xs[i], xs[j]),
    "where": lambda xs, i, j: mx.np.where(xs[i] > 0, xs[i], xs[j]),
}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=9)
)
def test_random_programs(program):
    """Gradients of programs that share, broadcast and reorder, by differences."""

    def run(x, y):
        xs = [x, y]
        for name, i, j in program:
            xs.append(mx.np.tanh(STEPS[name](xs, i % len(xs), j % len(xs))))
        return xs[-1] + xs[len(xs) // 2]

    rng = np.random.default_rng(3)
    operands = [rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, (3, 3))]
    check_gradient(run, operands, {}, "program")
    check_second_gradient(run, operands, {}, "program")


def test_threads_record_apart():
    """Each thread has its tape and its modes."""
    from concurrent.futures import ThreadPoolExecutor

    def work(k: int) -> float:
        x = variable([float(k)])
        for _ in range(30):
            with autograd.record():
                y = x * x * 3
            y.backward()
        return x.grad.item()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(12))) == [6.0 * k for k in range(12)]


def test_a_chain_may_be_longer_than_the_stack_is_deep():
    """Each node holds the one before; on a stack of 256 KB they cannot be destroyed one inside the other."""
    left = []

    def record():
        x = variable([1.0])
        with autograd.record():
            y = x
            for _ in range(30_000):
                y = y + 1.0
        del y
        left.append(x)

    before = threading.stack_size(1 << 18)
    thread = threading.Thread(target=record)
    thread.start()
    threading.stack_size(before)
    thread.join()
    assert len(left) == 1


def test_a_gradient_that_nobody_sees_takes_the_place_of_the_old_one():
    x = mx.np.ones(1000)
    x.attach_grad()

    def address(factor):
        with autograd.record():
            y = (x * factor).sum()
        y.backward()
        return _core.address(x.grad)

    assert address(2) != address(3)
    seen, view = x.grad, x.grad[:2]
    assert address(4) == _core.address(seen)  # who holds the gradient sees the next one in it
    assert view.tolist() == [4, 4]
    with autograd.record():
        y = x * 1
    head = mx.np.ones(1000)
    y.backward(head)
    x.grad[:] = 7
    assert head[0].item() == 1


def test_a_scope_may_be_entered_again_inside_itself():
    scope = autograd.record()
    with scope:
        with autograd.pause():
            with scope:
                with scope:
                    assert autograd.is_recording() and autograd.is_training()
            assert not autograd.is_recording() and not autograd.is_training()
        assert autograd.is_recording()
    assert not autograd.is_recording()
    with pytest.raises(IndexError, match="entered"):
        scope.__exit__(None, None, None)
