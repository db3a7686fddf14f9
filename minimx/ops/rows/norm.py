"""Normalisations: batch, layer, group, instance and RMS norm, L2 normalisation. Forward and backward are one kernel
each.

All of them standardise, xhat = (x - mean) * r with r = 1 / sqrt(var + eps), over some axes, and then scale and shift.
Their second derivatives share one rule, ``standardised_grad_grad``.
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import as_dtype, normal_axis, ordered_axes, size_of
from ..dtypes import FLOATS
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, f
from .conv import library

LIBRARY_TYPES = ("float32", "bfloat16", "float16")  # those of csrc/cpu/batch_norm.cc; others run as a composite


def standardised_grad_grad(x, dy, mean, r, gamma, u, p, q, axes):
    """Derivatives of dx = r P(dy gamma), dgamma = sum dy xhat, dbeta = sum dy for cotangents u, p, q of these three.

    P(v) = v - m(v) - xhat m(v xhat) with m the mean over ``axes`` is its own transpose. Returns the gradients for x,
    dy and gamma (before the sum to gamma's shape); mean and r count as functions of x. All operands broadcast to x.
    """

    def m(v):
        return f.mean(v, axis=axes, keepdims=True)

    def project(v):
        return v - m(v) - xhat * m(v * xhat)

    xhat = (x - mean) * r
    g = dy * gamma
    through = r * project(u)
    v = p * dy - r * (u * m(g * xhat) + g * m(u * xhat))
    gx = r * project(v) - r * r * xhat * m(u * project(g))
    return gx, through * gamma + p * xhat + q, dy * through


# --- batch norm ------------------------------------------------------------------------------------------------------


def batch_plan(name, x, axis, eps, outs):
    """Plan of a batch norm kernel; the channel axis is 1 or the last."""
    where, rank = "batch_norm", len(x.shape)
    if rank < 2:
        raise ShapeError(where, "data (N, C, ...)", x.shape, "Add a batch axis")
    a = normal_axis(where, axis, rank)
    if a not in (1, rank - 1):
        raise ArgumentError(where, "channels on axis 1 or last", axis, "Use npx.batch_norm, which moves the axis")
    name, attrs = library(name, "", {"eps": float(eps)}, a == rank - 1 and rank > 2)
    return Plan(outs, name, attrs)


def channels(x, axis, *parameters):
    """Number of channels; every parameter must be a vector of them."""
    c = x.shape[normal_axis("batch_norm", axis, len(x.shape))]
    if any(v is not None and v.shape != (c,) for v in parameters):
        raise ShapeError(
            "batch_norm", f"parameters of shape ({c},) for data {x.shape}", [v.shape for v in parameters], "Check axis"
        )
    return c


def per_channel(v, x, axis):
    """A vector of channels in a shape that broadcasts to ``x``."""
    return f.reshape(v, tuple(-1 if i == axis % x.ndim else 1 for i in range(x.ndim)))


def batch_norm_train_grad(gs, ins, outs, attrs, needs):
    return list(f.batch_norm_grad(ins[0], gs[0], outs[1], outs[2], ins[1], attrs["eps"], attrs["axis"]))


@kernel(grad=batch_norm_train_grad, dtypes=LIBRARY_TYPES, against="its formula in numpy")
def batch_norm_train(x, gamma, beta, /, eps=1e-5, axis=1):
    """(y, mean, var): normalised by the batch's own statistics; var is the biased one."""
    c = channels(x, axis, gamma, beta)
    return batch_plan("batch_norm_fwd_train", x, axis, eps, [(x.shape, x.dtype), ((c,), "float32"), ((c,), "float32")])


def batch_norm_infer_grad(gs, ins, outs, attrs, needs):
    x, gamma, _, mean, var = ins
    return [*f.batch_norm_grad(x, gs[0], mean, var, gamma, attrs["eps"], attrs["axis"], True), None, None]


@kernel(grad=batch_norm_infer_grad, dtypes=LIBRARY_TYPES, against="its formula in numpy")
def batch_norm_infer(x, gamma, beta, mean, var, /, eps=1e-5, axis=1):
    """Normalised by statistics that are given."""
    channels(x, axis, gamma, beta, mean, var)
    return batch_plan("batch_norm_infer", x, axis, eps, [(x.shape, x.dtype)])


def batch_norm_grad_grad(gs, ins, outs, attrs, needs):
    x, dy, mean, var, gamma = ins
    axis = attrs["axis"] % x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    shaped = [per_channel(v, x, axis) for v in (mean, f.rsqrt(var + attrs["eps"]), gamma, gs[1], gs[2])]
    mean, r, wide, p, q = shaped
    if attrs["global_stats"]:
        gx, gdy, ggamma = p * dy * r, wide * r * gs[0] + p * (x - mean) * r + q, gs[0] * r * dy
    else:
        gx, gdy, ggamma = standardised_grad_grad(x, dy, mean, r, wide, gs[0], p, q, axes)
    return [f.cast(gx, x.dtype), f.cast(gdy, dy.dtype), None, None, f.cast(f.sum(ggamma, axis=axes), gamma.dtype)]


@kernel(grad=batch_norm_grad_grad, dtypes=LIBRARY_TYPES, against="its formula in numpy")
def batch_norm_grad(x, dy, mean, var, gamma, /, eps=1e-5, axis=1, global_stats=False):
    """(dx, dgamma, dbeta). With ``global_stats`` the statistics do not depend on x."""
    c = channels(x, axis, gamma, mean, var)
    plan = batch_plan("batch_norm_bwd", x, axis, eps, [(x.shape, x.dtype), ((c,), gamma.dtype), ((c,), gamma.dtype)])
    plan.attrs["global_stats"] = int(global_stats)
    return plan


def _statistics(x, axis):
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    mean = f.mean(x, axis=axes, keepdims=True)
    return f.reshape(mean, (-1,)), f.reshape(f.mean(f.square(x - mean), axis=axes), (-1,))


def _normalise(x, gamma, beta, mean, var, eps, axis):
    mean, var, gamma, beta = (per_channel(v, x, axis) for v in (mean, var, gamma, beta))
    return (x - mean) * f.rsqrt(var + eps) * gamma + beta


@composite(
    npx="batch_norm",
    nd="BatchNorm",
    against="its formula in numpy",
    samples=drawn(case((4, 3, 2, 2), (3,), (3,), (3,), (3,))),
)
def batch_norm(
    x,
    gamma,
    beta,
    running_mean,
    running_var,
    eps=1e-3,
    momentum=0.9,
    fix_gamma=True,
    use_global_stats=False,
    output_mean_var=False,
    axis=1,
    cudnn_off=False,
    min_calib_range=None,
    max_calib_range=None,
):
    """(x - mean) / sqrt(var + eps) * gamma + beta for each channel on ``axis`` (Ioffe and Szegedy 2015,
    arXiv:1502.03167).

    While training the statistics are the batch's, and running = running * momentum + batch * (1 - momentum) in place;
    else, or with ``use_global_stats``, the running ones. fix_gamma: gamma counts as 1. output_mean_var: also returns
    them.

    >>> x, one, zero = np.ones((2, 3, 4, 4)), np.ones(3), np.zeros(3)
    >>> npx.batch_norm(x, one, zero, zero, one, fix_gamma=False).shape
    (2, 3, 4, 4)
    """
    gamma = f.ones_like(gamma) if fix_gamma else gamma
    plain = as_dtype("batch_norm", x.dtype) not in LIBRARY_TYPES
    if axis % x.ndim not in (1, x.ndim - 1) and not plain:
        moved = batch_norm(
            f.moveaxis(x, axis, 1),
            gamma,
            beta,
            running_mean,
            running_var,
            eps,
            momentum,
            False,
            use_global_stats,
            output_mean_var,
            1,
        )
        return (f.moveaxis(moved[0], 1, axis), *moved[1:]) if output_mean_var else f.moveaxis(moved, 1, axis)
    if not f.is_training() or use_global_stats:
        mean, var = running_mean, running_var
        y = (_normalise if plain else f.batch_norm_infer)(x, gamma, beta, mean, var, eps, axis)
        return (y, mean, var) if output_mean_var else y
    if plain:
        mean, var = _statistics(x, axis)
        y = _normalise(x, gamma, beta, mean, var, eps, axis)
    else:
        y, mean, var = f.batch_norm_train(x, gamma, beta, eps, axis)
    with f.paused():
        f.add(running_mean * momentum, mean * (1 - momentum), out=running_mean)
        f.add(running_var * momentum, var * (1 - momentum), out=running_var)
    return (y, mean, var) if output_mean_var else y


# --- layer norm and its kin ------------------------------------------------------------------------------------------


def row_norm_grad(gs, ins, outs, attrs, needs):
    x, gamma, beta = ins
    made = f.row_norm_backward(x, gs[0], outs[1], outs[2], gamma, attrs["rms"], beta is not None, attrs["axes"])
    dx, dgamma, dbeta = made if isinstance(made, (tuple, list)) else (made, None, None)
    return [dx, dgamma, dbeta if beta is not None else None]


@kernel(grad=row_norm_grad, against="its formula in numpy")
def row_norm(x, gamma=None, beta=None, /, eps=1e-5, rms=False, axes=1):
    """(y, mean, rstd) over the last axes: standardised, times gamma, plus beta. ``rms``: no mean is taken away.

    All but x and y is float32 where x is a 16-bit float.
    """
    lead, row = x.shape[: len(x.shape) - axes], x.shape[-axes:]
    if not x.shape or any(v is not None and v.shape != row for v in (gamma, beta)):
        raise ShapeError(
            "layer_norm",
            f"gamma and beta of shape {row}",
            [v and v.shape for v in (gamma, beta)],
            "Check axis",
        )
    if x.dtype not in FLOATS:
        raise ArgumentError("layer_norm", "a float type", x.dtype, "Cast with astype")
    stat = "float64" if x.dtype == "float64" else "float32"
    stats = (lead, stat)
    flags = {"n": size_of(row), "rms": int(rms), "gamma": int(gamma is not None), "beta": int(beta is not None)}
    outs = [(x.shape, x.dtype), stats, stats]
    return Plan(outs, "row_norm", flags | {"eps": float(eps)}, [x.dtype, stat, stat], contiguous=True)


def row_norm_backward_grad(gs, ins, outs, attrs, needs):
    x, dy, mean, r, gamma = ins
    wide = 1.0 if gamma is None else gamma
    p, q = (gs[1], gs[2]) if gamma is not None else (0.0, 0.0)
    axes = tuple(range(-attrs["axes"], 0))
    mean, r = f.expand_dims(mean, axes), f.expand_dims(r, axes)
    if attrs["rms"]:
        return _rms_grad_grad(x, dy, r, gamma, gs[0], p, axes)
    gx, gdy, ggamma = standardised_grad_grad(x, dy, mean, r, wide, gs[0], p, q, axes)
    return [
        f.cast(gx, x.dtype),
        f.cast(gdy, dy.dtype),
        None,
        None,
        None if gamma is None else f.sum_to_like(ggamma, gamma),
    ]


def _rms_grad_grad(x, dy, r, gamma, u, p, axes):
    """The same with xhat = x r and P(v) = v - xhat m(v xhat)."""

    def m(v):
        return f.mean(v, axis=axes, keepdims=True)

    xhat = x * r
    g = dy if gamma is None else dy * gamma
    project = lambda v: v - xhat * m(v * xhat)  # noqa: E731
    through = r * project(u)
    v = p * dy - r * (u * m(g * xhat) + g * m(u * xhat))
    gx = r * project(v) - r * r * xhat * m(u * project(g))
    gdy = (through if gamma is None else through * gamma) + p * xhat
    return [
        f.cast(gx, x.dtype),
        f.cast(gdy, dy.dtype),
        None,
        None,
        None if gamma is None else f.sum_to_like(dy * through, gamma),
    ]


@kernel(grad=row_norm_backward_grad, against="its formula in numpy")
def row_norm_backward(x, dy, mean, rstd, gamma=None, /, rms=False, has_beta=False, axes=1):
    """dx, and dgamma and dbeta where there is a gamma."""
    row = x.shape[-axes:]
    stat = "float64" if x.dtype == "float64" else "float32"
    outs = [(x.shape, x.dtype)] + ([(row, stat)] * 2 if gamma is not None or has_beta else [])
    flags = {"n": size_of(row), "rms": int(rms), "gamma": int(gamma is not None), "parameters": len(outs) - 1}
    return Plan(outs, "row_norm_bwd", flags, [x.dtype, x.dtype, stat, stat, stat], contiguous=True)


def _on_last(x, axis, norm):
    """Applies ``norm`` with ``axis`` moved to the end."""
    if axis in (-1, x.ndim - 1):
        return norm(x)
    return f.moveaxis(norm(f.moveaxis(x, axis, -1)), -1, axis)


def _layer_reference(x, gamma, beta, axis=-1, eps=1e-5):
    shape = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
    mean = x.mean(axis, keepdims=True)
    return (x - mean) / (x.var(axis, keepdims=True) + eps) ** 0.5 * gamma.reshape(shape) + beta.reshape(shape)


@composite(
    npx="layer_norm",
    nd="LayerNorm",
    against=_layer_reference,
    dtypes=FLOATS,
    samples=drawn(case((2, 3, 4), (4,), (4,)), case((2, 3, 4), (3,), (3,), axis=1)),
)
def layer_norm(data, gamma, beta, axis=-1, eps=1e-5, output_mean_var=False):
    """(x - mean) / sqrt(var + eps) * gamma + beta along ``axis`` (Ba, Kiros and Hinton 2016, arXiv:1607.06450).

    >>> npx.layer_norm(np.array([[1, 3]]), np.ones(2), np.zeros(2))
    array([[-0.999995,  0.999995]])
    """
    if output_mean_var:
        y, mean, rstd = f.row_norm(f.moveaxis(data, axis, -1), gamma, beta, eps)
        return f.moveaxis(y, -1, axis), f.expand_dims(mean, axis), f.expand_dims(1.0 / rstd, axis)
    return _on_last(data, axis, lambda x: f.row_norm(x, gamma, beta, eps)[0])


@composite(
    npx="rms_norm",
    nd="RMSNorm",
    dtypes=FLOATS,
    samples=drawn(case((2, 3, 4), (4,))),
    against=lambda x, g, axis=-1, eps=1e-5: x / ((x * x).mean(-1, keepdims=True) + eps) ** 0.5 * g,
)
def rms_norm(data, gamma, axis=-1, eps=1e-5):
    """x / sqrt(mean(x^2) + eps) * gamma along ``axis`` (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    return _on_last(data, axis, lambda x: f.row_norm(x, gamma, None, eps, True)[0])


@composite(npx="group_norm", nd="GroupNorm", against="its formula in numpy", dtypes=FLOATS)
def group_norm(data, gamma, beta, num_groups=1, eps=1e-5, output_mean_var=False):
    """Layer norm over each of ``num_groups`` groups of the channels on axis 1 of each sample (arXiv:1803.08494).

    gamma, beta: one for each channel, or one for each group.

    >>> npx.group_norm(np.ones((2, 4, 3)), np.ones(4), np.zeros(4), num_groups=2).shape
    (2, 4, 3)
    """
    n, c = data.shape[:2]
    if c % num_groups:
        raise ShapeError("group_norm", f"num_groups that divides {c} channels", num_groups, "Use another number")
    grouped = (n, num_groups, c // num_groups, *data.shape[2:])
    y, mean, rstd = f.row_norm(f.reshape(data, grouped), None, None, eps, axes=data.ndim - 1)
    shape = (*(grouped[1:3] if gamma.size == c else (num_groups, 1)), *(1,) * (data.ndim - 2))
    y = f.reshape(y * f.reshape(gamma, shape) + f.reshape(beta, shape), data.shape)
    return (y, mean, 1.0 / rstd) if output_mean_var else y


@composite(npx="instance_norm", nd="InstanceNorm", against="its formula in numpy", dtypes=FLOATS)
def instance_norm(data, gamma, beta, eps=1e-3, axis=1):
    """Each channel of each sample normalised over its spatial axes (arXiv:1607.08022).

    >>> npx.instance_norm(np.ones((2, 4, 3)), np.ones(4), np.zeros(4)).shape
    (2, 4, 3)
    """
    if axis != 1:
        return f.moveaxis(instance_norm(f.moveaxis(data, axis, 1), gamma, beta, eps), 1, axis)
    return f.group_norm(data, gamma, beta, data.shape[1], eps)


@composite(npx="l2_normalization", nd="L2Normalization", against="x / sqrt(sum(x^2) + eps)")
def l2_normalization(data, eps=1e-10, mode="instance"):
    """x / sqrt(sum(x^2) + eps): sums over a sample ("instance"), over channels ("channel") or over space
    ("spatial").

    >>> npx.l2_normalization(np.array([[3, 4]]))
    array([[0.6, 0.8]])
    """
    axes = {"instance": range(1, data.ndim), "channel": (1,), "spatial": range(2, data.ndim)}.get(mode)
    if axes is None:
        raise ArgumentError("l2_normalization", "mode instance, channel or spatial", mode, "Use one of them")
    return data * f.rsqrt(
        f.sum(f.square(data), axis=ordered_axes("l2_normalization", tuple(axes), data.ndim), keepdims=True) + eps
    )
