"""Layers that are no product and no normalisation: activations by name, dropout, up-sampling, sequence masks."""

from __future__ import annotations

from ...errors import ArgumentError
from ..arguments import as_dtype, float_of, ordered_axes
from ..kinds.composite import composite
from ..kinds.random import random
from ..samples import case, drawn
from ..table import Plan, f

ACTIVATIONS = (
    "relu",
    "sigmoid",
    "tanh",
    "softrelu",
    "softsign",
    "log_sigmoid",
    "mish",
    "silu",
    "gelu",
    "gelu_erf",
    "gelu_tanh",
    "hard_sigmoid",
    "softplus",
)
SAME_AS = {"softrelu": "softplus", "gelu_erf": "gelu"}


@composite(npx="activation", nd="Activation", against="the row of that name")
def activation(data, act_type="relu"):
    """relu, sigmoid, tanh, softrelu (log(1 + e^x)), softsign, log_sigmoid, mish, silu or gelu.

    >>> npx.activation(np.array([-1, 2]), "relu")
    array([0., 2.])
    """
    if act_type not in ACTIVATIONS:
        raise ArgumentError("activation", "act_type " + ", ".join(ACTIVATIONS), act_type, "Use one of them")
    return getattr(f, SAME_AS.get(act_type, act_type))(data)


@composite(npx="leaky_relu", nd="LeakyReLU", against="the row of that name")
def leaky_relu(data, gamma=None, act_type="leaky", slope=0.25, lower_bound=0.125, upper_bound=0.334):
    """x where x > 0, else by act_type: leaky slope * x, prelu gamma * x, elu slope * (e^x - 1), selu, gelu, rrelu.

    prelu's ``gamma`` has one element, or one for each channel on axis 1. rrelu draws slopes from [lower_bound,
    upper_bound) while training and uses their mean else (arXiv:1505.00853).

    >>> npx.leaky_relu(np.array([-1, 2]), slope=0.1)
    array([-0.1,  2. ])
    """
    if act_type == "leaky":
        return f.where(f.greater(data, 0), data, data * slope)
    if act_type == "prelu":
        wide = f.reshape(gamma, (-1, *(1,) * (data.ndim - 2))) if gamma.size > 1 and data.ndim > 1 else gamma
        return f.where(f.greater(data, 0), data, data * wide)
    if act_type == "elu":
        return f.where(f.greater(data, 0), data, f.expm1(data) * slope)
    if act_type == "selu":
        return f.where(f.greater(data, 0), data, f.expm1(data) * 1.6732632423543772) * 1.0507009873554805
    if act_type in ("gelu", "gelu_erf", "gelu_tanh"):
        return getattr(f, SAME_AS.get(act_type, act_type))(data)
    if act_type == "rrelu":
        return f.where(f.greater(data, 0), data, data * _random_slope(data, lower_bound, upper_bound))
    raise ArgumentError("leaky_relu", "act_type leaky, prelu, elu, selu, gelu or rrelu", act_type, "Use one of them")


def _random_slope(data, low, high):
    return f.uniform(low, high, data.shape, as_dtype("leaky_relu", data.dtype)) if f.is_training() else (low + high) / 2


# --- dropout ---------------------------------------------------------------------------------------------------------


@random(grad=lambda gs, ins, outs, attrs, needs: [f.dropout_backward(gs[0], outs[1], attrs["p"])])
def dropout_train(x, /, p=0.5):
    """(y, mask): every element is 0 with probability ``p``, else x / (1 - p); mask is 1 where it was kept."""
    dtype = float_of(x.dtype)
    return Plan(
        [(x.shape, dtype), (x.shape, "uint8")], "dropout", {"p": float(p)}, [dtype], contiguous=True, random=True
    )


@composite()
def dropout_backward(g, mask, p=0.5):
    """g / (1 - p) where the mask is 1."""
    return f.where(mask, g * (1 / (1 - p)), 0) if p < 1 else f.zeros_like(g)


@composite(npx="dropout", nd="Dropout", against="share of zeros, scale of the rest")
def dropout(data, p=0.5, mode="training", axes=(), cudnn_off=False):
    """While training (or always, with mode="always") zeroes elements with probability ``p`` and scales the rest by 1
    / (1 - p).

    ``axes``: along these one draw serves all elements (Srivastava et al. 2014, JMLR 15).

    >>> npx.dropout(np.ones(3), p=0.5)  # outside of training
    array([1., 1., 1.])
    """
    if not 0 <= p <= 1 or mode not in ("training", "always"):
        raise ArgumentError(
            "dropout", "p in [0, 1] and mode 'training' or 'always'", f"{p}, {mode!r}", "Pass a probability"
        )
    if p == 0 or (mode == "training" and not f.is_training()):
        return data
    if not axes:
        return f.dropout_train(data, p)[0]
    shared = ordered_axes("dropout", axes, data.ndim)
    shape = tuple(1 if i in shared else d for i, d in enumerate(data.shape))
    return data * f.dropout_train(f.ones(shape, as_dtype("dropout", data.dtype)), p)[0]


# --- up-sampling -----------------------------------------------------------------------------------------------------


@composite(
    npx="upsampling",
    nd="UpSampling",
    against=lambda x, scale=2: x.repeat(scale, 2).repeat(scale, 3),
    samples=drawn(case((1, 2, 3, 3), scale=2)),
)
def upsampling(data, scale=2, sample_type="nearest"):
    """Repeats rows and columns of (N, C, H, W) ``scale`` times."""
    if sample_type != "nearest":
        raise ArgumentError(
            "upsampling", "sample_type 'nearest'", sample_type, "Use bilinear_resize2d or deconvolution"
        )
    return f.repeat(f.repeat(data, scale, 2), scale, 3)


def _interpolation(n, m, align):
    """Positions of m points on an axis of n: (lower index, upper index, share of the upper)."""
    out = []
    for i in range(m):
        at = i * (n - 1) / (m - 1) if align and m > 1 else 0.0 if align else max((i + 0.5) * n / m - 0.5, 0.0)
        low = min(int(at), n - 1)
        out.append((low, min(low + 1, n - 1), at - low))
    return out


@composite(npx="bilinear_resize2d", nd="contrib_BilinearResize2D", against="torch.nn.functional.interpolate")
def bilinear_resize2d(data, height=0, width=0, scale_height=None, scale_width=None, align_corners=True):
    """(N, C, H, W) resized by linear interpolation along both axes.

    >>> npx.bilinear_resize2d(np.ones((1, 3, 2, 2)), height=4, width=6).shape
    (1, 3, 4, 6)
    """
    sizes = (height or int(data.shape[2] * scale_height), width or int(data.shape[3] * scale_width))
    for axis, m in zip((2, 3), sizes, strict=True):
        table = _interpolation(data.shape[axis], m, align_corners)
        low, high = (f.take_static(data, axis, tuple(t[k] for t in table)) for k in (0, 1))
        share = f.reshape(f.array([t[2] for t in table], dtype=str(data.dtype)), (m, 1) if axis == 2 else (m,))
        data = low + (high - low) * share
    return data


# --- sequences -------------------------------------------------------------------------------------------------------


def _within(data, lengths, axis):
    """Mask of the places before ``lengths``; time is on ``axis`` 0 or 1, the batch on the other."""
    time = f.spaced(0, 1, data.shape[axis], "int32")
    inside = (
        f.less(f.expand_dims(time, 1), f.expand_dims(lengths, 0))
        if axis == 0
        else f.less(f.expand_dims(time, 0), f.expand_dims(lengths, 1))
    )
    return f.reshape(inside, inside.shape + (1,) * (data.ndim - 2))


@composite(npx="sequence_mask", nd="SequenceMask", against="numpy.where on time < length")
def sequence_mask(data, sequence_length=None, use_sequence_length=False, value=0.0, axis=0):
    """``data`` (T, N, ...) or, with axis 1, (N, T, ...) with ``value`` from sequence_length[n] on.

    >>> npx.sequence_mask(np.ones((3, 2)), np.array([1, 2]), use_sequence_length=True)
    array([[1., 1.],
           [0., 1.],
           [0., 0.]])
    """
    if not use_sequence_length or sequence_length is None:
        return data
    return f.where(_within(data, sequence_length, axis), data, value)


@composite(npx="sequence_last", nd="SequenceLast", against="numpy indexing")
def sequence_last(data, sequence_length=None, use_sequence_length=False, axis=0):
    """The last element of each sequence: (N, ...).

    >>> npx.sequence_last(np.array([[1, 2], [3, 4]]), np.array([1, 2]), use_sequence_length=True)
    array([1., 4.])
    """
    if not use_sequence_length or sequence_length is None:
        return f.take(data, -1, axis)
    first = data if axis == 0 else f.swapaxes(data, 0, 1)
    t, n = first.shape[:2]
    at = f.add(f.multiply(f.subtract(f.cast(sequence_length, "int64"), 1), n), f.spaced(0, 1, n, "int64"))
    return f.take(f.reshape(first, (t * n, *first.shape[2:])), at, 0)


@composite(npx="sequence_reverse", nd="SequenceReverse", against="numpy indexing")
def sequence_reverse(data, sequence_length=None, use_sequence_length=False, axis=0):
    """Every sequence of (T, N, ...) reversed within its length; the rest stays.

    >>> npx.sequence_reverse(np.array([[1, 2], [3, 4]]), np.array([1, 2]), use_sequence_length=True)
    array([[1., 4.],
           [3., 2.]])
    """
    if not use_sequence_length or sequence_length is None:
        return f.flip(data, axis)
    t, n = data.shape[:2]
    time = f.expand_dims(f.spaced(0, 1, t, "int64"), 1)
    lengths = f.expand_dims(f.cast(sequence_length, "int64"), 0)
    source = f.where(f.less(time, lengths), f.subtract(f.subtract(lengths, 1), time), time)
    at = f.add(f.multiply(source, n), f.spaced(0, 1, n, "int64"))
    return f.take(f.reshape(data, (t * n, *data.shape[2:])), at, 0)
