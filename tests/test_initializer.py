"""Initializers: moments and bounds of the random ones, values of the others, choice by name."""

import math

import numpy as onp
import pytest

import minimx as mx
from minimx import errors, init


def filled(initializer, shape, name="weight", **attrs):
    array = mx.np.zeros(shape)
    mx.init.create(initializer)(init.InitDesc(name, attrs), array)
    return array.asnumpy()


def test_plain_values():
    assert (filled("zeros", (3,)) == 0).all() and (filled(init.One(), (2, 2)) == 1).all()
    assert (filled(init.Constant(2.5), (2,)) == 2.5).all()
    assert (filled(init.Constant([1, 2]), (3, 2)) == [1, 2]).all()
    assert filled(init.LSTMBias(2.0), (8,)).tolist() == [0, 0, 2, 2, 0, 0, 0, 0]


def test_uniform_and_normal():
    mx.random.seed(3)
    x = filled(init.Uniform(0.5), (20_000,))
    assert x.min() >= -0.5 and x.max() < 0.5 and abs(x.mean()) < 0.01 and abs(x.std() - 0.5 / math.sqrt(3)) < 0.01
    x = filled(init.Normal(0.2), (20_000,))
    assert abs(x.mean()) < 0.01 and abs(x.std() - 0.2) < 0.01


def test_seed_governs():
    mx.random.seed(7)
    a = filled("xavier", (4, 5))
    mx.random.seed(7)
    assert (filled("xavier", (4, 5)) == a).all() and (filled("xavier", (4, 5)) != a).any()


@pytest.mark.parametrize("factor, fan", [("in", 50 * 9), ("out", 100 * 9), ("avg", 75 * 9)])
def test_xavier_and_msra(factor, fan):
    x = filled(init.Xavier("uniform", factor, 3), (100, 50, 3, 3))
    assert abs(x).max() <= math.sqrt(3 / fan) and abs(x.std() * math.sqrt(fan) - 1) < 0.02
    x = filled(init.Xavier("gaussian", factor, 2), (100, 50, 3, 3))
    assert abs(x.std() * math.sqrt(fan / 2) - 1) < 0.02
    x = filled(init.MSRAPrelu(factor, slope=0.5), (100, 50, 3, 3))
    assert abs(x.std() * math.sqrt(fan * 1.25 / 2) - 1) < 0.02


def test_fans_follow_the_layout():
    assert init.fans((100, 50, 3, 3)) == init.fans((100, 3, 3, 50), "OHWI") == (450, 900)
    assert init.fans((10, 20)) == (20, 10)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (3, 2, 5)])
def test_orthogonal(shape):
    x = filled(init.Orthogonal(scale=2.0, rand_type="normal"), shape).reshape(shape[0], -1)
    product = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    onp.testing.assert_allclose(product, 4 * onp.eye(min(x.shape)), atol=1e-5)


def test_bilinear_reproduces_a_constant_when_upsampling():
    kernel = filled(init.Bilinear(), (1, 1, 4, 4))[0, 0]
    onp.testing.assert_allclose(kernel[::2, ::2].sum(), 1.0, rtol=1e-6)
    onp.testing.assert_allclose(kernel, kernel[::-1, ::-1])


def test_choice():
    array = mx.np.zeros((3,))
    init.Normal()("dense0_bias", array)
    assert (array.asnumpy() == 0).all()
    init.Normal()("bn_gamma", array)
    assert (array.asnumpy() == 1).all()
    assert (filled("normal", (3,), __init__="ones") == 1).all()
    mixed = init.Mixed([".*bias", ".*"], ["ones", init.Constant(3)])
    assert (filled(mixed, (2,), "a.bias") == 1).all() and (filled(mixed, (2,), "a.weight") == 3).all()
    load = init.Load({"a": mx.np.ones((2,))}, default_init="zeros")
    assert (filled(load, (2,), "a") == 1).all() and (filled(load, (2,), "b") == 0).all()


def test_dumps_and_repr():
    for initializer in [init.Xavier(magnitude=2), init.Uniform(0.1), init.Constant(3), init.MSRAPrelu()]:
        assert init.create(initializer.dumps()) == initializer
    assert repr(init.Normal(0.5)) == "Normal(sigma=0.5)"


def test_registered_and_plain_functions():
    @init.register
    class Sevens(init.Initializer):
        def _init_weight(self, name, array):
            array[:] = 7

    assert (filled("sevens", (2,)) == 7).all()

    def nines(name, array):
        array[:] = 9

    assert (filled(nines, (2,)) == 9).all()


def test_errors():
    with pytest.raises(KeyError, match="xavier"):
        init.create("xavjer")
    with pytest.raises(errors.ShapeError, match="at least 2 axes for 'gamma'"):
        filled("xavier", (3,), "gamma")
    with pytest.raises(errors.ArgumentError, match="factor_type"):
        init.Xavier(factor_type="both")
    with pytest.raises(errors.NameNotFound, match="last pattern"):
        filled(init.Mixed(["a"], ["zeros"]), (1,), "b")
    with pytest.raises(errors.ShapeError, match="another model"):
        filled(init.Load({"a": mx.np.ones((2,))}), (3,), "a")
