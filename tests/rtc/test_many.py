"""One launch for many arrays (minimx/rtc/cuda/many.py), and which steps of a graph become one (graph/together.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from rtc.emulator import run

from minimx.graph.together import together
from minimx.rtc.cuda import kernel as kernels
from minimx.rtc.cuda.many import joinable, many, most
from minimx.rtc.group import Group, Operand, Ref, Step


def momentum(n: int, dtype: str = "float32") -> Group:
    """m = m + g * lr over n elements, lr being one number in memory."""
    operands = (Operand(dtype, (1,), 0), Operand(dtype, (1,), 1), Operand("float32", (0,), 2))
    steps = (
        Step("multiply", "float32", (Ref("x", 1, dtype), Ref("x", 2, "float32")), "float32"),
        Step("add", "float32", (Ref("x", 0, dtype), Ref("t", 0, "float32")), dtype),
    )
    return Group((n,), operands, steps, (Ref("t", 1, dtype),), 3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_equals_one_by_one(dtype):
    rng = np.random.default_rng(0)
    sizes = [1, 7, 256, 1000, 8192, 20001]
    lr = np.array([0.5], "float32")
    operands, want = [], []
    for n in sizes:
        m, g = (rng.normal(size=n).astype(dtype) for _ in range(2))
        operands += [m, g, lr, np.empty_like(m)]
        want.append((m.astype("float32") + g.astype("float32") * lr[0]).astype(dtype))
    recipe = many([momentum(n, dtype) for n in sizes])
    assert len(recipe.launches) == 1
    run(recipe, operands)
    for got, w in zip(operands[3::4], want, strict=True):
        np.testing.assert_array_equal(got, w)


def test_joinable():
    assert joinable(momentum(5)) and not joinable(momentum(0))
    assert most(momentum(5)) == 4096 // (8 * 6)


@dataclass(eq=False)
class Block:
    kind: str


@dataclass
class Made:
    kernel: object
    name: str
    operands: list
    nodes: list = field(default_factory=list)


def step(reads, writes, n=64):
    """A fused step over arrays of n elements."""
    return Made(kernels.Pending(lambda: None, (), len(writes), 0, object(), momentum(n)), "fused",
                [(b, 0) for b in (*reads, *writes)])  # fmt: skip


def blocks(count, kind="in"):
    return [Block(kind) for _ in range(count)]


def test_steps_of_one_rule_become_one():
    lr, a, b, c = blocks(4)
    made = together([step([x, x, lr], [x], n) for x, n in ((a, 3), (b, 4), (c, 5))])
    assert len(made) == 1 and [o for o, _ in made[0].operands] == [a, a, lr, a, b, b, lr, b, c, c, lr, c]


def test_order_is_kept_where_it_matters():
    lr, a, b = blocks(3)
    chain = [step([a, a, lr], [b]), step([b, b, lr], [a])]  # the second reads what the first writes
    assert together(chain) == chain
    between = SimpleNamespace(kernel=object(), name="other", operands=[(b, 0)])
    three = [step([a, a, lr], [a]), between, step([b, b, lr], [b])]
    assert together(three) == three


def test_intermediates_do_not_move():
    lr, a = blocks(2)
    t, u = blocks(2, "arena")
    steps = [step([a, a, lr], [a]), step([u, u, lr], [t])]
    assert together(steps) == steps


def test_what_is_made_of_inputs_moves():
    """Casts of parameters above all."""
    lr, a, b = blocks(3)
    assert len(together([step([x, x, lr], [Block("arena")]) for x in (a, b)])) == 1


def test_intermediates_of_updates_move_along():
    """A step that also writes to an input is an update, whose intermediates wait for those of all others."""
    lr, a, b = blocks(3)
    updates = [step([x, x, lr], [x, Block("arena")]) for x in (a, b)]
    assert len(together(updates)) == 1


def test_room_in_a_launch():
    lr, *xs = blocks(most(momentum(64)) + 2)
    made = together([step([x, x, lr], [x]) for x in xs])
    assert [len(s.operands) // 4 for s in made] == [len(xs) - 1, 1]
