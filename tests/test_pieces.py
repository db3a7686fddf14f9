"""Sums of pieces become joined arrays: the structure, and the gradients of split."""

from __future__ import annotations

import numpy
import pytest

import minimx as mx
from minimx import autograd
from minimx.graph.compile import compile_function
from minimx.graph.passes.pieces import join_pieces
from minimx.graph.trace import trace
from minimx.ops.table import f


def ops_of(function, *args):
    return [n.op for n in join_pieces(trace("t", function, args, False).graph).nodes]


def paste(x, start, length=6):
    return f.paste(x, None, (2, length), (0, start), (1, 1), 0, None)


X, Y, Z = (mx.np.array(numpy.random.default_rng(0).normal(size=(2, n))) for n in (1, 2, 3))


def test_pieces_in_any_order_are_joined():
    def function(x, y, z):
        return paste(z, 3) + (paste(x, 0) + paste(y, 1))

    graph = join_pieces(trace("t", function, (X, Y, Z), False).graph)
    assert graph.nodes[-1].op == "concatenate" and graph.nodes[-1].inputs == graph.inputs
    assert graph.nodes[-1].attrs == {"axis": 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y, z: paste(x, 0) + paste(y, 1),  # a gap at the end
        lambda x, y, z: paste(x, 0) + paste(y, 1) + paste(z, 2) + paste(x, 5),  # two on one place
        lambda x, y, z: paste(x, 0) + paste(y, 1) + z.sum(1, keepdims=True),
        lambda x, y, z: paste(x, 0) + f.paste(y, paste(z, 3), (2, 6), (0, 1), (1, 1), 0, None),  # over something
        lambda x, y, z: paste(x, 0) + paste(y, 1) + f.paste(z, None, (2, 6), (0, 3), (1, 1), 1, None),  # ones around
    ],
)
def test_other_sums_stay(function):
    assert "concatenate" not in ops_of(function, X, Y, Z)


def test_a_piece_that_others_read_stays():
    def function(x, y, z):
        part = paste(x, 0) + paste(y, 1)
        return part + paste(z, 3), part

    assert "concatenate" not in ops_of(function, X, Y, Z)


def test_the_gradient_of_split_is_one_join():
    x = mx.np.array(numpy.random.default_rng(1).normal(size=(4, 6)))

    def function(x):
        a, b, c = f.split(x, 3, axis=1)
        return f.exp(a) * f.sin(b) + c

    x.attach_grad()
    with autograd.record():
        y = function(x)
    y.backward()
    compiled = compile_function("t", function, [x], False, lambda t: [True])
    ops = [n.op for n in compiled.backward.nodes]
    assert ops.count("concatenate") == 1 and "paste" not in ops
    from minimx.graph.cached import Entry

    entry = Entry(compiled, None, None, False, False)
    kept = [[x][i] for i in compiled.kept]
    saved = entry.forward.run([x], False, False, 1)[compiled.outputs :]
    (grad,) = entry.backward.run([*kept, *saved, f.ones_like(y)], False, False, 1)
    numpy.testing.assert_allclose(grad.asnumpy(), x.grad.asnumpy(), rtol=1e-6)
