"""Random recipes, on the emulator: the numbers of every distribution, dropout's mask and Philox are the CPU's."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from rtc.emulator import cpu, launch, made, numpy_type, prepare, run

from minimx.errors import MXError
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda import random
from minimx.rtc.cuda.recipe import Operand, Recipe, Value

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

STATE = (0x0123456789ABCDEF, (7 << 32) + 5)
PARAMETERS = {
    "uniform": (-1.0, 2.5), "normal": (0.5, 2.0), "bernoulli": (0.3,), "exponential": (2.0,), "laplace": (0.5, 2.0),
    "gumbel": (0.5, 2.0), "logistic": (0.5, 2.0), "rayleigh": (1.5,), "weibull": (1.7,), "pareto": (3.0,),
    "power": (2.5,), "gamma": (0.7, 2.0), "beta": (0.8, 3.0), "poisson": (3.5,),
}  # fmt: skip
EXACT = ("uniform", "bernoulli", "poisson", "randint")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compiles most of the kernels at once."""
    types = ("float16", "float32", "float64")
    prepare(made("draw", [(p, inner(t)) for p in ps], [((9,), t)], {"kind": kind})
            for kind, ps in PARAMETERS.items() for t in types)  # fmt: skip


def agree(kind, ins, out):
    got, want = (of("draw", ins, [out], {"kind": kind}, state=STATE)[0].astype("float64") for of in (launch, cpu))
    if kind in EXACT:
        np.testing.assert_array_equal(got, want, err_msg=f"{kind} {out}")
    else:
        tolerance = TOLERANCE.get(out[1], 1)  # integers are truncated: one off where the float differs
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=f"{kind} {out}")
    return want


def inner(dtype):
    """The type of the parameters of a draw."""
    return "float64" if dtype == "float64" else "float32"


def test_every_distribution_is_here():
    assert set(PARAMETERS) == set(random.VALUES) | set(random.REJECTED)
    with pytest.raises(MXError, match="name of a distribution"):
        launch("draw", [], [((3,), "float32")], {"kind": "no_such"})


@pytest.mark.parametrize("kind", PARAMETERS)
def test_numbers_are_the_cpus(kind):
    for dtype in ("float16", "float32", "float64"):
        numbers = [(p, inner(dtype)) for p in PARAMETERS[kind]]
        drawn = agree(kind, numbers, ((611,), dtype))
        assert len(set(drawn.tolist())) > (1 if kind == "bernoulli" else 5)


@pytest.mark.parametrize("kind", ["normal", "gamma"])
def test_parameters_broadcast(kind):
    calls = []
    for dtype in ("bfloat16", "float64"):
        p = np.linspace(0.5, 3, 15).reshape(3, 5, 1).astype(inner(dtype))
        q = np.linspace(1, 2, 14).astype(inner(dtype))[::2]
        operands = ([p, q], [p, (2.0, inner(dtype))], [q[:1], q[2:3]], [p.T.copy().T, q[::-1]])
        calls += [(kind, ins, ((3, 5, 7), dtype)) for ins in operands]
    prepare(made("draw", ins, [out], {"kind": kind}) for _, ins, out in calls)
    for call in calls:
        agree(*call)


def test_odd_shapes_and_types():
    for shape in ((), (1,), (3,), (4,), (1025,), (0, 3)):
        agree("uniform", [(0.0, "float32"), (1.0, "float32")], (shape, "float32"))
        agree("normal", [(0.0, "float64"), (1.0, "float64")], (shape, "float64"))
    agree("bernoulli", [(0.5, "float32")], ((50,), "bool"))
    agree("uniform", [(-9.0, "float32"), (9.0, "float32")], ((50,), "int32"))
    agree("poisson", [(40.0, "float32")], ((300,), "int64"))


def test_integers():
    for dtype, (low, high) in itertools.product(("uint8", "int64", "float32"), ((0, 10), (-7, 90))):
        agree("randint", [(low, "int64"), (high, "int64")], ((333,), dtype))
    agree("randint", [(-(2**62), "int64"), (2**62, "int64")], ((333,), "int64"))
    agree("randint", [np.arange(5)[:, None], np.arange(9, 14)[:, None]], ((5, 6), "int64"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dropout(dtype):
    for n, p in itertools.product((1, 64, 1001), (0.0, 0.3, 1.0)):
        x = np.random.default_rng(n).normal(size=n + 1).astype(numpy_type(dtype))
        for view in (x[:n], x[1:]):
            outs = [((n,), dtype), ((n,), "uint8")]
            got, want = (of("dropout", [view], outs, {"p": p}, state=STATE) for of in (launch, cpu))
            for g, w in zip(got, want, strict=True):
                np.testing.assert_array_equal(g, w)


def test_state_in_memory():
    """Inside a captured graph the seed and the first call number lie on the device."""
    numbers = [(0.0, "float32"), (1.0, "float32")]
    recipe = made("draw", numbers, [((9,), "float32")], {"kind": "uniform"})
    (one,) = recipe.launches
    args = (Value(99), Value(2), Operand(3), *one.args[1:])  # in place of State(): seed, call, base
    y, base = np.zeros(9, "float32"), np.array([STATE[0], STATE[1] - 2], "uint64")
    run(Recipe((dataclasses.replace(one, args=args),)), [*numbers, y, base])
    (want,) = cpu("draw", numbers, [((9,), "float32")], {"kind": "uniform"}, state=STATE)
    np.testing.assert_array_equal(y, want)


def test_philox():
    words = np.random.default_rng(0).integers(0, 1 << 32, (70, 6))
    ours, theirs = (of("philox", [words], [((70, 4), "int64")], {})[0] for of in (launch, cpu))
    np.testing.assert_array_equal(ours, theirs)
    assert launch("philox", [words[:1] * 0], [((1, 4), "int64")], {})[0][0, 0] == 0x6627E8D5
