"""Products that add to what another one made, or to an array that the graph writes: which do, and where it lies.

Kernels: test_products.py. Gradients: test_grad_add.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import minimx as mx
from minimx.graph import lower as lowering
from minimx.graph.compile import finished
from minimx.graph.ir import shown
from minimx.graph.lower import lower
from minimx.graph.passes import onto
from minimx.graph.trace import trace

N = 48  # a square of it is a product of oneDNN's


def accumulate(t, a, b):
    t += mx.np.matmul(a.T, b)


def in_turn(t, a, b):
    t += mx.np.matmul(a, b) + mx.np.matmul(b.T, a)


def pair(t, a, b):
    return mx.np.matmul(a, b) + mx.np.matmul(b, a)


def pair_beside_a_sum(t, a, b):
    t += mx.np.matmul(a, b)
    return mx.np.matmul(a, b.T) + mx.np.matmul(a.T, b)


def longer(t, a, b):
    return mx.np.matmul(a, b) + (mx.np.matmul(b, a) + mx.np.matmul(a, a)), mx.np.matmul(b, b)


def in_between(t, a, b):
    """A sum that only a product reads."""
    return mx.np.matmul(mx.np.matmul(a, b) + mx.np.matmul(b, a), b)


def written_and_handed_out(t, a, b):
    t += mx.np.matmul(a, b) + mx.np.matmul(b, a)
    return t


def batches(t, a, b):
    return mx.np.matmul(mx.np.stack([a, b]), b) + mx.np.matmul(a, mx.np.stack([a, a]))


def onto_its_operand(t, a, b):
    """In the place of the first product, which the second one reads."""
    c = mx.np.matmul(a, b)
    return c + mx.np.matmul(c, b)


def pointwise_around(t, a, b):
    t += mx.np.matmul(a, b) + mx.np.tanh(a)
    return mx.np.tanh(mx.np.matmul(a, b.T) + mx.np.matmul(b, a.T))


def target_read_again(t, a, b):
    c = mx.np.matmul(t, b)
    t += mx.np.matmul(a, b)
    return c


def sum_handed_out(t, a, b):
    t += mx.np.matmul(a, b)
    return t * 2


def other_type(t, a, b):
    t += mx.np.matmul(a.astype("float64"), b.astype("float64"))


CASES = [
    (accumulate, 1),
    (in_turn, 2),
    (pair, 1),
    (pair_beside_a_sum, 2),
    (batches, 1),
    (longer, 2),
    (in_between, 1),
    (onto_its_operand, 0),
    (pointwise_around, 0),
    (target_read_again, 0),
    (sum_handed_out, 0),
    (other_type, 0),
]


def lowered(graph):
    low = lowering.Lowering(graph)
    low.run()
    return low


def compiled(function, shapes, rewritten=True):
    """(graph, program, arrays that it takes) of a function of a target and two matrices."""
    arrays = [mx.np.array(np.random.default_rng(i).normal(size=s), dtype="float32") for i, s in enumerate(shapes)]
    t = trace("test", function, arrays, False)
    plain = t.graph.copy()
    graph = finished(t.graph, "forward") if rewritten else plain
    return graph, lower(graph), [*arrays, *t.captures]


@pytest.mark.parametrize("function, count", CASES)
@pytest.mark.parametrize("n", [5, N])
def test_sums_of_products(function, count, n):
    """As many products add to something as expected, without copies, and the numbers are those of the plain graph."""
    graph, program, arrays = compiled(function, [(n, n)] * 3)
    assert [m.op for m in graph.nodes].count("matmul_onto") == count, graph
    places = [[b.slot(at) for b, at in s.operands] for s in lowered(graph).steps if s.name == "matmul_onto"]
    assert all(z == c for _, _, z, c in places), places
    if count:
        assert "copy" not in program.steps and "add" not in program.steps and "fused" not in program.steps
    _, plain, same = compiled(function, [(n, n)] * 3, False)
    for a, b in zip(program.run(arrays, False), plain.run(same, False), strict=True):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(arrays[0].asnumpy(), same[0].asnumpy(), rtol=1e-4, atol=1e-4)


def test_chains_lie_in_the_target():
    """Three products in turn, into an array that the program writes: no memory for one of them."""

    def function(t, a, b):
        t += mx.np.matmul(a, b) + (mx.np.matmul(b, a) + mx.np.matmul(a, a))

    _, program, arrays = compiled(function, [(N, N)] * 3)
    assert program.steps == ["matmul_onto"] * 3 and program.arena_bytes < 4 * N * N
    for times in (1, 2, 3):
        program.run(arrays, False)
        t, a, b = (np.random.default_rng(i).normal(size=(N, N)) for i in range(3))
        want = t + times * (a @ b + b @ a + a @ a)
        np.testing.assert_allclose(arrays[0].asnumpy(), want, rtol=1e-4, atol=1e-4)


def test_a_place_that_is_still_read():
    """A product that reads what it adds to does not write there: with the check taken out, wrong numbers."""
    c, d = mx.np.ones((N, N)), mx.np.ones((N, N)) / N
    from minimx.graph.ir import Graph, Node, Value

    def run():
        t, x, total = (Value((N, N), "float32") for _ in range(3))
        turned = Node("transpose", [t], [Value((N, N), "float32")], {"axes": None})
        product = Node("matmul_onto", [turned.outputs[0], x, t], [total], {})
        gpu = 0 if mx.current_device().device_type == "gpu" else -1
        program = lower(Graph("test", [t, x], [turned, product], [], [(t, total)], gpu=gpu).verify())
        target = c.copy()
        program.run([target, d], False)
        return program.steps, target.asnumpy()

    steps, made = run()
    assert steps == ["matmul_onto", "copy"]
    np.testing.assert_allclose(made, np.full((N, N), 2), rtol=1e-5)


def test_teeth(monkeypatch):
    """A pass that takes a sum for one of products alone, and a lowering that forgets who else reads, are noticed."""
    monkeypatch.setattr(onto, "_is_read_on_the_way", lambda total, reading: False)
    graph, _, _ = compiled(pointwise_around, [(N, N)] * 3)
    assert any(n.op == "matmul_onto" for n in graph.nodes)
    monkeypatch.setattr(lowering, "shown", lambda v, producers: object())
    with pytest.raises(AssertionError):
        test_a_place_that_is_still_read()
    assert shown is not lowering.shown


@pytest.mark.parametrize("n", [5, N])
def test_written_and_handed_out(n):
    _, program, arrays = compiled(written_and_handed_out, [(n, n)] * 3)
    t, a, b = (np.random.default_rng(i).normal(size=(n, n)) for i in range(3))
    for times in (1, 2):
        (made,) = program.run(arrays, False)
        for x in (made, arrays[0]):
            np.testing.assert_allclose(x.asnumpy(), t + times * (a @ b + b @ a), rtol=1e-4, atol=1e-4)
