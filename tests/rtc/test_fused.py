"""Fused groups of graphs as recipes on the emulator, against the unfused graph on the CPU, to the last bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rtc import emulator
from test_fusion import drawn, run_calls

from minimx.errors import NotSupported
from minimx.graph.lower import lower
from minimx.graph.passes.fusion import fuse
from minimx.graph.trace import trace
from minimx.ops.table import f
from minimx.rtc.cuda import pointwise
from minimx.rtc.group import Body, Group, Operand, Ref, Step, c_strides, group_of

UNARY = ("negative", "abs", "floor", "sign", "relu", "cast", "expand_dims")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "greater", "fmax")  # rounded alike everywhere
SHAPES = ((3, 4, 40), (4, 1), (40,), (3, 1, 1), (), (1, 4, 40), (3, 4, 40), (3, 4, 40))
DTYPES = ("float32", "float64", "float16", "bfloat16", "int32", "uint8", "int64", "bool")


def program(seed):
    """A random program of a dozen calls: (arrays, a function of them)."""
    r = random.Random(seed)
    args = [drawn(r.choice(SHAPES), r.choice(DTYPES), i) for i in range(r.randint(1, 4))]
    args.append(drawn((3, 4, 40), "float32", 9))
    calls, known = [], len(args)
    for _ in range(12):
        row = r.choice((*UNARY, *BINARY, "where"))
        count = 1 if row in UNARY else 2 if row in BINARY else 3
        values = [r.randrange(known) for _ in range(count)]
        if row == "cast":
            values.append(r.choice(DTYPES))
        elif count == 2 and r.random() < 0.3:
            values[1] = r.choice((2, 0.1, -1.5)) * 1j  # a number, as run_calls has it
        calls.append((row, tuple(values)))
        known += 1
    return args, lambda *xs: run_calls(xs, calls, 4)


def bodies(args, function):
    """The fused nodes' graphs."""
    return [n.body for n in fuse(trace("p", function, args, False).graph).nodes if n.body is not None]


def recipe_of(body):
    """The recipe of a fused node."""
    return pointwise.fused(group_of(Body(body, [(v.shape, v.dtype, c_strides(v.shape)) for v in body.inputs])))


def agree(*graphs):
    """Recipes of fused graphs give what the graphs give."""
    recipes = [recipe_of(b) for b in graphs]
    emulator.prepare(recipes)
    for body, recipe in zip(graphs, recipes, strict=True):
        args = [drawn(v.shape, v.dtype, i) for i, v in enumerate(body.inputs)]
        want = [y.asnumpy() for y in lower(body).run(args, False)]
        got = [emulator.empty(y.shape, y.dtype.name) for y in want]
        emulator.run(recipe, [*[x.asnumpy() for x in args], *got])
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g.astype("float64"), w.astype("float64"), recipe.launches[0].code.text)


def test_random_programs():
    graphs = [b for seed in range(24) for b in bodies(*program(seed))]
    assert len(graphs) > 12
    agree(*graphs)


def test_many_operands_and_outputs():
    args = [drawn((5, 16), "float16", i) for i in range(20)]

    def chain(*xs):
        sums = [xs[0]]
        for x in xs[1:]:
            sums.append(sums[-1] + x)
        return sums[5], sums[10], sums[-1]

    agree(*bodies(args, chain))


def test_an_array_seen_in_two_ways():
    x = drawn((16, 16), "float32", 0)
    agree(*bodies([x, drawn((16,), "float32", 1)], lambda x, b: f.multiply(x + b, f.expand_dims(b, 1)) - b))


def test_arguments_stay_within_what_a_kernel_takes():
    shape = (2,) * 10
    steps, last = [], Ref("x", 0, "float32")
    operands = tuple(Operand("float32", tuple(3 * k + d for d in range(10)), k) for k in range(60))
    for k in range(1, 60):
        steps.append(Step("add", "float32", (last, Ref("x", k, "float32")), "float32"))
        last = Ref("t", k - 1, "float32")
    with pytest.raises(NotSupported, match="4096 bytes"):
        pointwise.fused(Group(shape, operands, tuple(steps), (last,), 60))
