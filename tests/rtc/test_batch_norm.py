"""Batch norm's CUDA kernels against the CPU's: layouts, channel counts that are no multiple of eight, odd strides.

Where the CPU has no kernel (float64), against the formula. The masks of the two differ, so a mask is judged by what
the backward pass makes of it.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from rtc.emulator import cpu, launch, numpy_type

from minimx.rtc.cuda import batch_norm

TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
SHAPES = [(3, 8, 5, 4), (2, 3, 7), (4, 12, 3, 3), (2, 20, 2, 3, 2), (37, 24), (5, 16, 1, 1), (300, 1, 4), (2, 300, 3)]


def channels_last(x):
    """The same elements, channels fastest in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def strides(x):
    return tuple(s // x.itemsize for s in x.strides)


def drawn(shape, dtype, last, seed=0, shift=3.0):
    x = np.random.default_rng(seed).normal(shift, 2, shape).astype(numpy_type(dtype))
    return channels_last(x) if last else x


def vectors(channels, seed=1):
    r = np.random.default_rng(seed)
    return r.uniform(0.5, 2, channels).astype("f4"), r.normal(0, 1, channels).astype("f4")


def mask_bytes(shape):
    return shape[0] * -(-shape[1] // 16) * 16 * -(-int(np.prod(shape[2:])) // 8)


def close(got, want, dtype, what=""):
    a, b = np.asarray(got, "f8"), np.asarray(want, "f8")
    scale = max(1, np.abs(b).max(initial=0))
    np.testing.assert_allclose(a / scale, b / scale, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype], err_msg=what)


def normalised(x, gamma, beta, z=None, eps=1e-3):
    """(y, mean, var) in double."""
    x = x.astype("f8")
    axes = tuple(i for i in range(x.ndim) if i != 1)
    wide = lambda v: np.asarray(v, "f8").reshape(-1, *(1,) * (x.ndim - 2))  # noqa: E731
    mean, var = x.mean(axes), x.var(axes)
    y = (x - wide(mean)) / np.sqrt(wide(var) + eps) * wide(gamma) + wide(beta)
    return y if z is None else y + z.astype("f8"), mean, var


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_train_and_infer(shape, dtype, last):
    x, (gamma, beta) = drawn(shape, dtype, last), vectors(shape[1])
    stat = "float64" if dtype == "float64" else "float32"
    outs = [(shape, dtype, strides(x)), (shape[1:2], stat), (shape[1:2], stat)]
    y, mean, var = launch("batch_norm_fwd_train", [x, gamma, beta], outs, {"eps": 1e-3})
    want = normalised(x, gamma, beta)
    if dtype != "float64":
        want = cpu("batch_norm_fwd_train", [x, gamma, beta], outs, {"eps": 1e-3})
        assert np.allclose(mean, want[1], rtol=1e-5) and np.allclose(var, want[2], rtol=1e-4, atol=1e-6)
    close(y, want[0], dtype)
    close(mean, want[1], stat)
    close(var, want[2], stat)
    (y,) = launch("batch_norm_infer", [x, gamma, beta, mean, var], outs[:1], {"eps": 1e-3})
    close(y, want[0], dtype)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu_residual_and_their_gradients(shape, dtype, last, residual):
    x, dy, z = (drawn(shape, dtype, last, seed, shift=0) for seed in range(3))
    (gamma, beta), vector = vectors(shape[1]), (shape[1:2], "float32")
    ins, whole, zs = [x, gamma, beta], (shape, dtype, strides(x)), [z] if residual else []
    outs = [whole, vector, vector, ((mask_bytes(shape),), "uint8")]
    attrs = {"eps": 1e-3, "relu": 1}
    y, mean, var, mask = launch("batch_norm_fwd_train", ins + zs, outs, attrs)
    want = cpu("batch_norm_fwd_train", ins + zs, outs, attrs)
    close(y, want[0], dtype)
    (inferred,) = launch("batch_norm_infer", [*ins, mean, var, *zs], outs[:1], attrs)
    close(inferred, want[0], dtype)
    assert y.min() == 0 < y.max()
    outs = [whole, vector, vector] + [whole] * residual
    got = launch("batch_norm_bwd", [x, dy, mean, var, gamma, mask], outs, {**attrs, "global_stats": 0})
    passed = y > 0  # the CPU's own mask may differ where an element is nearly zero
    dy = np.where(passed, dy, dy.dtype.type(0)) if not last else channels_last(np.where(passed, dy, dy.dtype.type(0)))
    want = cpu("batch_norm_bwd", [x, dy, mean, var, gamma], outs[:3], {"eps": 1e-3, "global_stats": 0})
    for a, b, what in zip(got[:3], want, ("dx", "dgamma", "dbeta"), strict=True):
        close(a, b, dtype, what)
    if residual:
        assert (got[3] == dy).all()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_in_two_parts(shape, dtype, last, residual):
    """As if the parts had been added before: sums to their last digits, as the order is another, dz to the last bit."""
    x, dy, more = (drawn(shape, dtype, last, seed, shift=0) for seed in range(3))
    (gamma, beta), vector = vectors(shape[1]), (shape[1:2], "float32")
    whole, attrs = (shape, dtype, strides(x)), {"eps": 1e-3, "relu": 1, "global_stats": 0}
    outs = [whole, vector, vector, ((mask_bytes(shape),), "uint8")]
    _, mean, var, mask = launch("batch_norm_fwd_train", [x, gamma, beta], outs, attrs)
    outs = [whole, vector, vector] + [whole] * residual
    got = launch("batch_norm_bwd", [x, dy, mean, var, gamma, mask, more], outs, attrs)
    want = launch("batch_norm_bwd", [x, dy + more, mean, var, gamma, mask], outs, attrs)
    for a, b, what in zip(got[:3], want[:3], ("dx", "dgamma", "dbeta"), strict=True):
        close(a, b, dtype, what)
    assert not residual or (got[3] == want[3]).all()


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_of_a_pair(shape, dtype, last, parts):
    """As the gradient of the first norm, whose dz is then the gradient for the second's."""
    x, x2, dy, more = (drawn(shape, dtype, last, seed, shift=0) for seed in range(4))
    (gamma, beta), (gamma2, beta2), vector = vectors(shape[1]), vectors(shape[1], 2), (shape[1:2], "float32")
    whole, attrs = (shape, dtype, strides(x)), {"eps": 1e-3, "relu": 1}
    outs = [whole, vector, vector, ((mask_bytes(shape),), "uint8")]
    _, mean, var, mask = launch("batch_norm_fwd_train", [x, gamma, beta], outs, attrs)
    _, mean2, var2 = launch("batch_norm_fwd_train", [x2, gamma2, beta2], outs[:3], {"eps": 1e-2})
    first, outs = [x, dy, mean, var, gamma, mask] + [more] * (parts - 1), [whole, vector, vector]
    *want, dz = launch("batch_norm_bwd", first, [*outs, whole], attrs)
    want += launch("batch_norm_bwd", [x2, dz, mean2, var2, gamma2], outs, {"eps": 1e-2})
    both = [*first[:6], x2, mean2, var2, gamma2, *first[6:]]
    got = launch("batch_norm_bwd", both, outs * 2, {**attrs, "eps2": 1e-2})
    for a, b, what in zip(got, want, ("dx", "dgamma", "dbeta", "dx2", "dgamma2", "dbeta2"), strict=True):
        close(a, b, dtype, what)


@pytest.mark.parametrize("global_stats", [0, 1])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape, last, global_stats):
    x, dy, (gamma, _) = drawn(shape, "float32", last), drawn(shape, "float32", last, 1), vectors(shape[1])
    _, mean, var = (v.astype("f4") for v in normalised(x, gamma, gamma))
    outs = [(shape, "float32", strides(x)), (shape[1:2], "float32"), (shape[1:2], "float32")]
    attrs = {"eps": 1e-3, "global_stats": global_stats}
    got, want = (f("batch_norm_bwd", [x, dy, mean, var, gamma], outs, attrs) for f in (launch, cpu))
    for a, b, what in zip(got, want, ("dx", "dgamma", "dbeta"), strict=True):
        close(a, b, "float32", what)


def test_operands_of_other_layouts_and_types_of_parameters():
    """What is not dense in x's order is moved; parameters may be views of any float type."""
    base = drawn((4, 6, 10, 7), "float32", False)
    x, dy = base[::2, :, 1::3], np.broadcast_to(np.float32(0.5), (2, 6, 3, 7))
    gamma = vectors(12)[0].astype("f2")[::2]
    beta = vectors(6)[1].astype(ml_dtypes.bfloat16)[::-1]
    outs = [(x.shape, "float32", (1, 2, 84, 12)), ((6,), "float32", (2,)), ((6,), "float32")]
    y, mean, var = launch("batch_norm_fwd_train", [x, gamma, beta], outs, {"eps": 1e-3})
    want = normalised(x, gamma, beta)
    for a, b in zip((y, mean, var), want, strict=True):
        close(a, b, "float32")
    outs = [(x.shape, "float32"), ((6,), "float16"), ((6,), "float16", (3,))]
    got = launch("batch_norm_bwd", [x, dy, mean, var, gamma], outs, {"eps": 1e-3})
    assert np.abs(got[0].sum((0, 2, 3))).max() < 1e-4  # a constant gradient is taken away, but for xhat's part
    assert np.allclose(got[2], 21, rtol=1e-3) and np.abs(got[1]).max() < 2e-2


def test_statistics_far_from_zero():
    """A mean a thousand times the deviation costs no digits of the variance."""
    x = (np.random.default_rng(0).normal(0, 1, (64, 8, 9)) + 3000).astype("f4")
    for data in (x, channels_last(x)):
        outs = [(x.shape, "float32", strides(data)), ((8,), "float32"), ((8,), "float32")]
        _, mean, var = launch("batch_norm_fwd_train", [data, np.ones(8, "f4"), np.zeros(8, "f4")], outs, {"eps": 1e-5})
        assert np.allclose(var, x.astype("f8").var((0, 2)), rtol=1e-5)
        assert np.allclose(mean, x.astype("f8").mean((0, 2)), rtol=1e-7)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("most", [3, 400])
def test_many_blocks(last, most, monkeypatch):
    """Data that several blocks share, in parts that come out uneven; few blocks go round several times."""
    monkeypatch.setattr(batch_norm, "SUM_BLOCKS", most)
    monkeypatch.setattr(batch_norm, "APPLY_BLOCKS", most)
    x, (gamma, beta) = drawn((5, 40, 61, 23), "float16", last), vectors(40)
    outs = [(x.shape, "float16", strides(x)), ((40,), "float32"), ((40,), "float32")]
    got, want = (f("batch_norm_fwd_train", [x, gamma, beta], outs, {"eps": 1e-3}) for f in (launch, cpu))
    for a, b in zip(got, want, strict=True):
        close(a, b, "float16")
    dy, more, (_, mean, var) = drawn(x.shape, "float16", last, 1), drawn(x.shape, "float16", last, 2), got
    (mask,) = launch("batch_norm_fwd_train", [x, gamma, beta],
                     [*outs, ((mask_bytes(x.shape),), "uint8")], {"eps": 1e-3, "relu": 1})[3:]  # fmt: skip
    attrs = {"eps": 1e-3, "relu": 1}
    outs += outs[:1]
    got = launch("batch_norm_bwd", [x, dy, mean, var, gamma, mask, more], outs, attrs)
    want = launch("batch_norm_bwd", [x, dy + more, mean, var, gamma, mask], outs, attrs)
    for a, b in zip(got, want, strict=True):
        close(a, b, "float16")
    assert (got[3] == want[3]).all()


def test_no_elements():
    x, one = np.empty((0, 3, 2), "f4"), np.ones(3, "f4")
    outs = [(x.shape, "float32"), ((3,), "float32"), ((3,), "float32", (2,))]
    _, mean, var = launch("batch_norm_fwd_train", [x, one, one], outs, {"eps": 1e-3})
    assert not mean.any() and not var.any()
