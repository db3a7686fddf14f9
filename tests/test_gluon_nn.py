"""Layers against NumPy: values, shapes, layouts, deferred sizes, casts, errors. Gradients are the operators' tests."""

import itertools
import math

import numpy as onp
import pytest
import scipy.special

import minimx as mx
from minimx import autograd, errors
from minimx.gluon import nn

R = onp.random.default_rng(0)


def drawn(*shape):
    return R.normal(size=shape).astype("float32")


def run(layer, x, train=False):
    """Output of a layer, initialised with random weights if it is not yet, as a NumPy array."""
    for p in layer.collect_params().values():
        if not p._arrays and p._deferred is None:
            p.initialize(default_init=mx.init.Normal(0.5))
    with autograd.train_mode() if train else autograd.predict_mode():
        return layer(mx.np.array(x)).asnumpy()


def value(parameter):
    return parameter.data().asnumpy().astype("float64")


def close(got, want, rtol=1e-4, atol=1e-5):
    assert got.shape == want.shape
    onp.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


# Convolution


def convolve(x, w, stride, pad, dilate, groups):
    """(N, C, *S) by (O, C / groups, *K), one output at a time."""
    n = x.ndim - 2
    x = onp.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pad])
    sizes = [(x.shape[2 + i] - dilate[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(n)]
    out = onp.zeros((x.shape[0], w.shape[0], *sizes))
    each_in, each_out = x.shape[1] // groups, w.shape[0] // groups
    for o, *at in itertools.product(range(w.shape[0]), *map(range, sizes)):
        g = o // each_out
        window = tuple(
            slice(a * s, a * s + d * (k - 1) + 1, d) for a, s, d, k in zip(at, stride, dilate, w.shape[2:], strict=True)
        )
        patch = x[(slice(None), slice(g * each_in, (g + 1) * each_in), *window)]
        out[(slice(None), o, *at)] = (patch * w[o]).reshape(x.shape[0], -1).sum(1)
    return out


def transpose_convolve(x, w, stride, pad, adj, groups):
    """Adds every input's kernel to the output; (N, C, *S) by (C, O / groups, *K)."""
    n = x.ndim - 2
    each_in, each_out = x.shape[1] // groups, w.shape[1]
    full = [(x.shape[2 + i] - 1) * stride[i] + w.shape[2 + i] + adj[i] for i in range(n)]
    out = onp.zeros((x.shape[0], each_out * groups, *full))
    for c, *at in itertools.product(range(x.shape[1]), *map(range, x.shape[2:])):
        g = c // each_in
        window = tuple(slice(a * s, a * s + k) for a, s, k in zip(at, stride, w.shape[2:], strict=True))
        values = x[(slice(None), c, *at)].reshape(-1, *(1,) * (n + 1))
        out[(slice(None), slice(g * each_out, (g + 1) * each_out), *window)] += values * w[c]
    return out[(slice(None), slice(None), *(slice(p, s - p) for p, s in zip(pad, full, strict=True)))]


def last(x):
    return onp.moveaxis(x, 1, -1)


def bias_of(layer, n):
    return value(layer.bias).reshape(-1, *(1,) * n)


CONVS = [
    (nn.Conv1D, 1, {}),
    (nn.Conv1D, 1, {"strides": 2, "padding": 1, "dilation": 2}),
    (nn.Conv2D, 2, {"padding": 1}),
    (nn.Conv2D, 2, {"strides": (2, 1), "padding": (0, 1), "dilation": (1, 2), "groups": 2}),
    (nn.Conv3D, 3, {"strides": 2, "padding": 1}),
]


@pytest.mark.parametrize("make, n, kwargs", CONVS, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution(make, n, kwargs, channels_last):
    x = drawn(2, 4, *(7, 6, 5)[:n])
    layout = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[n] if channels_last else None
    layer = make(6, 3, layout=layout, bias_initializer="normal", **kwargs)
    got = run(layer, last(x) if channels_last else x)
    w = value(layer.weight)
    assert layer.weight.shape == w.shape
    w = onp.moveaxis(w, -1, 1) if channels_last else w
    assert w.shape == (6, 4 // kwargs.get("groups", 1), *(3,) * n)
    spread = {
        k: onp.broadcast_to(kwargs.get(k, d), n).tolist() for k, d in [("strides", 1), ("padding", 0), ("dilation", 1)]
    }
    want = convolve(x, w, spread["strides"], spread["padding"], spread["dilation"], kwargs.get("groups", 1))
    want = want + bias_of(layer, n)
    close(got, last(want) if channels_last else want)


@pytest.mark.parametrize("make, n", [(nn.Conv1DTranspose, 1), (nn.Conv2DTranspose, 2), (nn.Conv3DTranspose, 3)])
@pytest.mark.parametrize("stride, pad, adj, groups", [(1, 0, 0, 1), (2, 1, 1, 1), (3, 0, 2, 2)])
def test_transposed_convolution(make, n, stride, pad, adj, groups):
    x = drawn(2, 4, *(5, 4, 3)[:n])
    layer = make(6, 3, stride, pad, adj, groups=groups, bias_initializer="normal")
    got, w = run(layer, x), value(layer.weight)
    assert w.shape == (4, 6 // groups, *(3,) * n)
    want = transpose_convolve(x, w, [stride] * n, [pad] * n, [adj] * n, groups) + bias_of(layer, n)
    close(got, want)


def test_convolution_settings():
    layer = nn.Conv2D(4, (1, 3), activation="relu", use_bias=False, in_channels=2)
    assert layer.bias is None and layer.weight.shape == (4, 2, 1, 3) and layer.weight.layout == "OIHW"
    assert (run(layer, drawn(1, 2, 4, 4)) >= 0).all()
    assert repr(layer) == "Conv2D(2 -> 4, kernel_size=(1, 3), stride=(1, 1), bias=False, relu)"
    with pytest.raises(errors.ArgumentError, match="nn.Conv2D: expected one number or 2, got"):
        nn.Conv2D(4, (1, 2, 3))
    with pytest.raises(errors.ArgumentError, match="'NCHW' or 'NHWC'"):
        nn.Conv2D(4, 3, layout="CHWN")
    with pytest.raises(errors.ArgumentError, match="groups"):
        nn.Conv2D(4, 3, groups=3)
    with pytest.raises(errors.ShapeError, match=r"4 axes \(NCHW\), got \(3, 4, 4\)"):
        run(nn.Conv2D(4, 3), drawn(3, 4, 4))
    with pytest.raises(errors.ShapeError, match="2 groups"):
        run(nn.Conv2D(4, 3, groups=2), drawn(1, 3, 4, 4))


# Pooling


def windows(x, size, stride, pad, fill, ceil):
    n = x.ndim - 2
    rounded = math.ceil if ceil else math.floor
    sizes = [rounded((x.shape[2 + i] + 2 * pad - size) / stride) + 1 for i in range(n)]
    wide = onp.pad(x, [(0, 0), (0, 0)] + [(pad, pad + (size if ceil else 0))] * n, constant_values=fill)
    for at in itertools.product(*map(range, sizes)):
        yield sizes, at, wide[(slice(None), slice(None), *(slice(a * stride, a * stride + size) for a in at))]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("size, stride, pad, ceil", [(2, None, 0, False), (3, 2, 1, False), (3, 2, 0, True)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_max_pool(n, size, stride, pad, ceil, channels_last):
    x = drawn(2, 3, *(8, 7, 6)[:n])
    layout = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[n] if channels_last else None
    layer = getattr(nn, f"MaxPool{n}D")(size, stride, pad, layout=layout, ceil_mode=ceil)
    got = run(layer, last(x) if channels_last else x)
    got = onp.moveaxis(got, -1, 1) if channels_last else got
    for sizes, at, window in windows(x, size, stride or size, pad, -onp.inf, ceil):
        assert got.shape == (2, 3, *sizes)
        onp.testing.assert_array_equal(got[(slice(None), slice(None), *at)], window.reshape(2, 3, -1).max(2))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_average_pool(n, count_include_pad):
    x = drawn(2, 3, *(8, 7, 6)[:n])
    got = run(getattr(nn, f"AvgPool{n}D")(3, 2, 1, count_include_pad=count_include_pad), x)
    counted = list(windows(onp.ones_like(x), 3, 2, 1, 0, False))
    for (_, at, window), (_, _, ones) in zip(windows(x, 3, 2, 1, 0, False), counted, strict=True):
        count = 3**n if count_include_pad else ones.reshape(2, 3, -1).sum(2)
        close(got[(slice(None), slice(None), *at)], window.reshape(2, 3, -1).sum(2) / count)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_global_and_adaptive_pool(n):
    x, axes = drawn(2, 3, *(8, 7, 6)[:n]), tuple(range(2, 2 + n))
    close(run(getattr(nn, f"GlobalAvgPool{n}D")(), x), x.mean(axes, keepdims=True))
    close(run(getattr(nn, f"GlobalMaxPool{n}D")(), x), x.max(axes, keepdims=True))
    close(run(getattr(nn, f"AdaptiveAvgPool{n}D")(1), x), x.mean(axes, keepdims=True))
    want = x
    for axis in axes:
        size = want.shape[axis]
        parts = [
            want.take(range(i * size // 3, -(-(i + 1) * size // 3)), axis).mean(axis, keepdims=True) for i in range(3)
        ]
        want = onp.concatenate(parts, axis)
    close(run(getattr(nn, f"AdaptiveAvgPool{n}D")(3), x), want)


def test_pools_with_channels_last():
    x = drawn(2, 5, 6, 3)
    close(run(nn.GlobalAvgPool2D(layout="NHWC"), x), x.mean((1, 2), keepdims=True))
    close(run(nn.AdaptiveAvgPool2D((5, 2), layout="NHWC"), x), x.reshape(2, 5, 2, 3, 3).mean(3))


# Dense, dropout, embedding, flatten


def test_dense():
    x = drawn(2, 3, 4)
    layer = nn.Dense(5, activation="sigmoid", bias_initializer="normal")
    got = run(layer, x)
    assert layer.weight.shape == (5, 12)
    close(got, scipy.special.expit(x.reshape(2, 12) @ value(layer.weight).T + value(layer.bias)))
    layer = nn.Dense(5, use_bias=False, flatten=False)
    close(run(layer, x), x @ value(layer.weight).T)
    with pytest.raises(errors.ArgumentError, match="'relux'"):
        nn.Dense(5, activation="relux")


def test_dropout():
    mx.random.seed(0)
    x = onp.ones((100, 50), "float32")
    assert (run(nn.Dropout(0.3), x) == x).all()
    got = run(nn.Dropout(0.3), x, train=True)
    assert abs((got == 0).mean() - 0.3) < 0.02
    onp.testing.assert_allclose(got[got != 0], 1 / 0.7, rtol=1e-6)
    got = run(nn.Dropout(0.5, axes=(1,)), x, train=True)
    assert (got == got[:, :1]).all() and 0.3 < (got == 0).mean() < 0.7
    assert (run(nn.Dropout(0), x, train=True) == x).all()


def test_embedding():
    layer = nn.Embedding(10, 4, sparse_grad=True)
    numbers = onp.array([[1, 9], [0, 1]])
    got = run(layer, numbers)
    assert (got == value(layer.weight)[numbers].astype("float32")).all()
    with autograd.record():
        y = layer(mx.np.array(numbers)).sum()
    y.backward()
    assert layer.weight.grad().asnumpy().sum(1).tolist() == [4, 8, 0, 0, 0, 0, 0, 0, 0, 4]


def test_flatten_and_functions():
    x = drawn(2, 3, 4)
    assert run(nn.Flatten(), x).shape == (2, 12) and run(nn.Flatten(), x[:0]).shape == (0, 12)
    assert (run(nn.Identity(), x) == x).all()
    close(run(nn.Lambda("tanh"), x), onp.tanh(x))
    close(run(nn.HybridLambda("relu"), x), onp.maximum(x, 0))
    close(run(nn.HybridLambda(lambda F, x: F.tanh(x) + 1), x), onp.tanh(x) + 1)
    close(run(nn.HybridLambda(lambda x: x * 2), x), x * 2)
    with pytest.raises(errors.NameNotFound, match="no_such"):
        nn.Lambda("no_such")


@pytest.mark.parametrize("make", [nn.Concatenate, nn.HybridConcatenate])
def test_concatenate(make):
    block, x = make(axis=1), drawn(2, 3)
    block.add(nn.Identity(), nn.HybridLambda(lambda x: -x))
    assert (run(block, x) == onp.concatenate([x, -x], 1)).all()


# Normalisation


def normalised(x, axes, eps):
    x = x.astype("float64")
    return (x - x.mean(axes, keepdims=True)) / onp.sqrt(x.var(axes, keepdims=True) + eps)


def shaped(parameter, x, axis):
    shape = [1] * x.ndim
    shape[axis] = -1
    return value(parameter).reshape(shape)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("shape", [(8, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm(axis, shape):
    x = drawn(*shape) * 2 + 1
    layer = nn.BatchNorm(axis, momentum=0.7, gamma_initializer="normal", beta_initializer="normal")
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    got = run(layer, x, train=True)
    close(got, normalised(x, others, 1e-5) * shaped(layer.gamma, x, axis) + shaped(layer.beta, x, axis))
    close(value(layer.running_mean), 0.3 * x.mean(others), atol=1e-5)
    close(value(layer.running_var), 0.7 + 0.3 * x.var(others), atol=1e-5)
    mean, var = shaped(layer.running_mean, x, axis), shaped(layer.running_var, x, axis)
    want = (x - mean) / onp.sqrt(var + 1e-5) * shaped(layer.gamma, x, axis) + shaped(layer.beta, x, axis)
    close(run(layer, x), want)
    layer._use_global_stats = True
    close(run(layer, x, train=True), want)


def test_batch_norm_settings():
    layer = nn.BatchNorm(center=False, scale=False, in_channels=3)
    assert layer.gamma.grad_req == layer.beta.grad_req == layer.running_mean.grad_req == "null"
    layer.initialize()
    layer.cast("float16")
    assert layer.gamma.dtype == "float32"
    assert str(layer(mx.np.ones((2, 3, 4, 4), dtype="float16")).dtype) == "float16"
    layer = nn.SyncBatchNorm(in_channels=3, num_devices=2)
    close(
        run(layer, onp.arange(6.0, dtype="float32").reshape(2, 3), train=True),
        onp.array([[-1.0] * 3, [1.0] * 3]),
        rtol=1e-3,
    )
    with pytest.raises(errors.ShapeError, match="axis 1"):
        run(nn.BatchNorm(), drawn(3))


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(axis):
    x = drawn(2, 3, 4)
    layer = nn.LayerNorm(axis, gamma_initializer="normal", beta_initializer="normal")
    got = run(layer, x)
    close(got, normalised(x, axis, 1e-5) * shaped(layer.gamma, x, axis) + shaped(layer.beta, x, axis))


def test_group_norm():
    x = drawn(2, 6, 4, 5)
    layer = nn.GroupNorm(3, gamma_initializer="normal", beta_initializer="normal")
    got = run(layer, x)
    want = normalised(x.reshape(2, 3, 2, 4, 5), (2, 3, 4), 1e-5).reshape(x.shape)
    close(got, want * shaped(layer.gamma, x, 1) + shaped(layer.beta, x, 1))


@pytest.mark.parametrize("axis", [1, -1])
def test_instance_norm(axis):
    x = drawn(2, 3, 4, 5)
    layer = nn.InstanceNorm(axis, scale=True, gamma_initializer="normal", beta_initializer="normal")
    got = run(layer, x)
    others = tuple(a for a in (1, 2, 3) if a != axis % 4)
    close(got, normalised(x, others, 1e-5) * shaped(layer.gamma, x, axis) + shaped(layer.beta, x, axis), rtol=1e-3)


def test_rms_norm():
    x = drawn(2, 3, 4)
    layer = nn.RMSNorm(gamma_initializer="normal")
    got = run(layer, x)
    close(got, x / onp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * value(layer.gamma))


# Activations

softplus = lambda x: onp.log1p(onp.exp(x))  # noqa: E731
phi = lambda x: 0.5 * (1 + scipy.special.erf(x / math.sqrt(2)))  # noqa: E731
ACTIVATIONS = [
    (nn.Activation("relu"), lambda x: onp.maximum(x, 0)),
    (nn.Activation("sigmoid"), scipy.special.expit),
    (nn.Activation("tanh"), onp.tanh),
    (nn.Activation("softrelu"), softplus),
    (nn.Activation("softsign"), lambda x: x / (1 + abs(x))),
    (nn.Activation("log_sigmoid"), lambda x: -softplus(-x)),
    (nn.LeakyReLU(0.1), lambda x: onp.where(x > 0, x, 0.1 * x)),
    (nn.PReLU(), lambda x: onp.where(x > 0, x, 0.25 * x)),
    (nn.PReLU("ones", in_channels=3), lambda x: x),
    (nn.ELU(0.5), lambda x: onp.where(x > 0, x, 0.5 * onp.expm1(x))),
    (nn.SELU(), lambda x: 1.0507009873554805 * onp.where(x > 0, x, 1.6732632423543772 * onp.expm1(x))),
    (nn.GELU(), lambda x: x * phi(x)),
    (nn.GELU("tanh"), lambda x: 0.5 * x * (1 + onp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    (nn.Swish(2.0), lambda x: x * scipy.special.expit(2 * x)),
    (nn.SiLU(), lambda x: x * scipy.special.expit(x)),
    (nn.Mish(), lambda x: x * onp.tanh(softplus(x))),
]


@pytest.mark.parametrize("layer, formula", ACTIVATIONS, ids=lambda v: repr(v) if isinstance(v, nn.Block) else "")
def test_activations(layer, formula):
    x = drawn(4, 3, 2) * 2
    close(run(layer, x), formula(x.astype("float64")))


def test_activation_errors():
    with pytest.raises(errors.ArgumentError, match="alpha"):
        nn.LeakyReLU(-1)
    with pytest.raises(errors.ArgumentError, match="'erf' or 'tanh'"):
        nn.GELU("cosh")


# Rearrangement


def test_reflection_pad():
    x = drawn(1, 2, 4, 5)
    close(run(nn.ReflectionPad2D(2), x), onp.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect"))
    close(run(nn.ReflectionPad2D((0, 1, 2, 3)), x), onp.pad(x, ((0, 0), (0, 0), (2, 3), (0, 1)), mode="reflect"))
    close(
        run(nn.ReflectionPad2D((0, 0, 0, 0, 2, 3, 0, 1)), x),
        onp.pad(x, ((0, 0), (0, 0), (2, 3), (0, 1)), mode="reflect"),
    )


@pytest.mark.parametrize("n, factor", [(1, 3), (2, 2), (2, (2, 3)), (3, 2)])
def test_pixel_shuffle(n, factor):
    factors = onp.broadcast_to(factor, n).tolist()
    x = drawn(2, 2 * math.prod(factors), *(4, 3, 2)[:n])
    got = run(getattr(nn, f"PixelShuffle{n}D")(factor), x)
    assert got.shape == (2, 2, *(s * f for s, f in zip(x.shape[2:], factors, strict=True)))
    for at in itertools.product(*map(range, got.shape[2:])):
        channel = onp.ravel_multi_index([a % f for a, f in zip(at, factors, strict=True)], factors)
        source = tuple(a // f for a, f in zip(at, factors, strict=True))
        for c in range(2):
            index = (slice(None), c * math.prod(factors) + channel, *source)
            assert (got[(slice(None), c, *at)] == x[index]).all()
    with pytest.raises(errors.ShapeError, match="divides"):
        run(nn.PixelShuffle2D(2), drawn(1, 3, 2, 2))
