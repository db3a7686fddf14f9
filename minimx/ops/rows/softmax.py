"""Softmax, its logarithm, masked forms, and cross-entropy from logits. The sums of exponentials run in one pass of a
kernel.

Kernels see an array as (outer, n, inner) around the axis and need it C-contiguous.
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import float_of, normal_axis, size_of
from ..dtypes import FLOATS
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import Ints, case, drawn
from ..table import Plan, f


def lanes(where, x, axis):
    """Attributes (outer, n, inner)."""
    a = normal_axis(where, axis, len(x.shape))
    return {"outer": size_of(x.shape[:a]), "n": x.shape[a], "inner": size_of(x.shape[a + 1 :])}


def softmax_plan(where, x, axis, log):
    dtype = float_of(x.dtype)
    return Plan([(x.shape, dtype)], "softmax", {**lanes(where, x, axis), "log": log}, [dtype], contiguous=True)


@kernel(amp="float32", grad=lambda gs, ins, outs, attrs, needs: [f.softmax_backward(outs[0], gs[0], attrs["axis"])])
def softmax_of(x, /, axis=-1):
    """exp(x) / sum exp(x) along ``axis``."""
    return softmax_plan("softmax", x, axis, 0)


@kernel(
    amp="float32",
    grad=lambda gs, ins, outs, attrs, needs: [f.log_softmax_backward(outs[0], gs[0], attrs["axis"])],
)
def log_softmax_of(x, /, axis=-1):
    """x - log(sum exp(x)) along ``axis``."""
    return softmax_plan("log_softmax", x, axis, 1)


def softmax_backward_grad(gs, ins, outs, attrs, needs):
    """dx = y (dy - s), s = sum(y dy)."""
    y, dy = ins
    total = lambda v: f.sum(v, axis=attrs["axis"], keepdims=True)  # noqa: E731
    u = gs[0]
    uy = total(u * y)
    return [u * (dy - total(y * dy)) - dy * uy, y * (u - uy)]


@kernel(grad=softmax_backward_grad)
def softmax_backward(y, dy, /, axis=-1):
    """Gradient of softmax from its result."""
    attrs = {**lanes("softmax", y, axis), "log": 0}
    return Plan([(y.shape, y.dtype)], "softmax_bwd", attrs, [y.dtype, y.dtype], contiguous=True)


def log_softmax_backward_grad(gs, ins, outs, attrs, needs):
    """dx = dy - exp(y) sum(dy)."""
    y, dy = ins
    total = lambda v: f.sum(v, axis=attrs["axis"], keepdims=True)  # noqa: E731
    p = f.exp(y)
    return [-(gs[0] * p * total(dy)), gs[0] - total(gs[0] * p)]


@kernel(grad=log_softmax_backward_grad)
def log_softmax_backward(y, dy, /, axis=-1):
    """Gradient of log_softmax from its result."""
    attrs = {**lanes("log_softmax", y, axis), "log": 1}
    return Plan([(y.shape, y.dtype)], "softmax_bwd", attrs, [y.dtype, y.dtype], contiguous=True)


def _prepared(data, axis, length, temperature, use_length):
    """Data over temperature, with the places past ``length`` at minus infinity, and the mask that says so."""
    x = data if temperature in (None, 1, 1.0) else f.divide(data, temperature)
    if not use_length or length is None:
        return x, None
    if normal_axis("softmax", axis, data.ndim) != data.ndim - 1:
        raise ArgumentError("softmax", "axis -1 with use_length", axis, "Move the axis to the end")
    mask = f.less(f.spaced(0, 1, data.shape[-1], "int32"), f.expand_dims(length, -1))
    return x, mask


def _softmax_reference(x, axis=-1, **unused):
    import numpy

    e = numpy.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@composite(
    npx="softmax",
    nd="softmax",
    method="softmax",
    against=_softmax_reference,
    dtypes=FLOATS,
    samples=drawn(case((2, 3, 4)), case((2, 3, 4), axis=1)),
)
def softmax(data, axis=-1, length=None, temperature=None, use_length=False, dtype=None):
    """exp(x / temperature) / sum over ``axis``. ``use_length``: only the first length[i] places of a row take part.

    >>> npx.softmax(np.array([1, 2, 3]))
    array([0.09003057, 0.24472848, 0.66524094])
    """
    x, mask = _prepared(data, axis, length, temperature, use_length)
    y = f.softmax_of(x, axis) if mask is None else f.masked_softmax(x, mask, axis)
    return y if dtype is None else f.cast(y, dtype)


@composite(
    npx="log_softmax",
    nd="log_softmax",
    method="log_softmax",
    dtypes=FLOATS,
    samples=drawn(case((2, 3, 4)), case((2, 3, 4), axis=1)),
    against=lambda x, axis=-1, **unused: __import__("numpy").log(_softmax_reference(x, axis)),
)
def log_softmax(data, axis=-1, length=None, temperature=None, use_length=False, dtype=None):
    """Logarithm of softmax, without overflow.

    >>> npx.log_softmax(np.array([1, 2, 3]))
    array([-2.407606 , -1.4076059, -0.4076059])
    """
    x, mask = _prepared(data, axis, length, temperature, use_length)
    y = f.log_softmax_of(x, axis) if mask is None else f.masked_log_softmax(x, mask, axis)
    return y if dtype is None else f.cast(y, dtype)


@composite(
    npx="softmin",
    nd="softmin",
    against=lambda x, axis=-1: _softmax_reference(-x, axis),
    dtypes=FLOATS,
    samples=drawn(case((2, 3))),
)
def softmin(data, axis=-1):
    """softmax(-x)."""
    return f.softmax_of(f.multiply(data, -1.0), axis)


LOWEST = -1e30  # minus infinity would turn a row that is masked out whole into NaN; bfloat16 holds it, float16 does not


def _lowest(x):
    return -6e4 if str(x.dtype) == "float16" else LOWEST


@composite(
    npx="masked_softmax", nd="masked_softmax", against="softmax over the places of the mask, 0 elsewhere", dtypes=FLOATS
)
def masked_softmax(data, mask, axis=-1, temperature=1.0):
    """softmax over the places where ``mask`` is true, 0 elsewhere.

    >>> npx.masked_softmax(np.array([1, 2, 3]), np.array([1, 1, 0]))
    array([0.26894143, 0.7310586 , 0.        ])
    """
    x = data if temperature in (None, 1, 1.0) else f.divide(data, temperature)
    return f.where(mask, f.softmax_of(f.where(mask, x, _lowest(x)), axis), 0.0)


@composite(npx="masked_log_softmax", nd="masked_log_softmax", against="log of masked_softmax", dtypes=FLOATS)
def masked_log_softmax(data, mask, axis=-1, temperature=1.0):
    """log_softmax over the places where ``mask`` is true, minus infinity elsewhere.

    >>> npx.masked_log_softmax(np.array([1, 1, 5]), np.array([1, 1, 0]))
    array([-0.6931472, -0.6931472,       -inf])
    """
    x = data if temperature in (None, 1, 1.0) else f.divide(data, temperature)
    return f.where(mask, f.log_softmax_of(f.where(mask, x, _lowest(x)), axis), -float("inf"))


# --- cross-entropy ---------------------------------------------------------------------------------------------------


def cross_entropy_grad(gs, ins, outs, attrs, needs):
    return [f.cross_entropy_backward(gs[0], ins[0], ins[1], outs[1], attrs["axis"], attrs["smoothing"]), None]


def _rows(x, labels, axis):
    a = normal_axis("cross_entropy", axis, len(x.shape))
    rest = (*x.shape[:a], *x.shape[a + 1 :])
    if labels.shape not in (rest, (*x.shape[:a], 1, *x.shape[a + 1 :])):
        raise ShapeError(
            "cross_entropy", f"labels of shape {rest} for logits {x.shape}", labels.shape, "Use integer class numbers"
        )
    return rest


def _stat(dtype):
    """The type of logsumexp, and of losses with ``wide``."""
    return "float64" if dtype == "float64" else "float32"


def _reference(x, labels, axis=-1, smoothing=0.0, wide=False):
    import numpy

    log_p = numpy.log(_softmax_reference(x, axis))
    picked = numpy.take_along_axis(log_p, numpy.expand_dims(labels, axis), axis).squeeze(axis)
    return -(1 - smoothing) * picked - smoothing * log_p.mean(axis)


@kernel(
    amp="float32",
    grad=cross_entropy_grad,
    dtypes=FLOATS,
    against=lambda *a, **k: (_reference(*a, **k), None),
    samples=drawn(
        case((4, 5), Ints((4,), 5)),
        case((2, 5, 3), Ints((2, 3), 5), axis=1, smoothing=0.1),
        case((4, 5), Ints((4,), 5), wide=True),
    ),
    errors=[((((4, 5), Ints((3,), 5)), {}), ShapeError)],
)
def cross_entropy(logits, labels, /, axis=-1, smoothing=0.0, wide=False):
    """(loss, logsumexp) of each lane: (1 - smoothing) * -log p[label] + smoothing * mean over classes of -log p.

    labels are class numbers, of any integer or float type; a label out of range is an error. wide: the loss of 16-bit
    logits is float32, as the logsumexp is.
    """
    dtype = float_of(logits.dtype)
    rest, stat = _rows(logits, labels, axis), _stat(dtype)
    attrs = {**lanes("cross_entropy", logits, axis), "smoothing": float(smoothing)}
    outs = [(rest, stat if wide else dtype), (rest, stat)]
    return Plan(outs, "cross_entropy", attrs, [dtype, "int64"], contiguous=True)


def cross_entropy_backward_grad(gs, ins, outs, attrs, needs):
    """dx = g (p - t) with t the smoothed one-hot label; p = exp(x - lse)."""
    g, x, labels, lse = ins
    axis = attrs["axis"] % x.ndim
    u = gs[0]
    wide = lambda v: f.expand_dims(v, axis)  # noqa: E731
    p = f.cast(f.exp(x - wide(lse)), x.dtype)
    gg = f.sum(u * f.cross_entropy_backward(f.ones_like(g), x, labels, lse, axis, attrs["smoothing"]), axis=axis)
    up = u * p
    gx = wide(g) * (up - p * f.sum(up, axis=axis, keepdims=True))
    return [f.cast(gg, g.dtype), f.cast(gx, x.dtype), None, None]


@kernel(grad=cross_entropy_backward_grad)
def cross_entropy_backward(g, logits, labels, lse, /, axis=-1, smoothing=0.0):
    """Gradient for the logits, of their type. g: of that type too, or of the logsumexp's."""
    attrs = {**lanes("cross_entropy", logits, axis), "smoothing": float(smoothing)}
    dtype, stat = logits.dtype, _stat(logits.dtype)
    operands = [dtype if g.dtype == dtype else stat, dtype, "int64", stat]
    return Plan([(logits.shape, dtype)], "cross_entropy_bwd", attrs, operands, contiguous=True)


@composite(
    npx="softmax_cross_entropy",
    against=_reference,
    dtypes=FLOATS,
    samples=drawn(case((4, 5), Ints((4,), 5), smoothing=0.1)),
)
def softmax_cross_entropy(logits, labels, axis=-1, smoothing=0.0):
    """Loss of each lane from logits and class numbers, optionally with label smoothing (arXiv:1512.00567, section
    7)."""
    return f.cross_entropy(logits, labels, axis, smoothing)[0]


@composite(name="nd_softmax_cross_entropy", nd="softmax_cross_entropy", against="numpy")
def nd_softmax_cross_entropy(data, label):
    """Gluon 1's form: the sum over the batch, of shape (1,).

    >>> nd.softmax_cross_entropy(nd.zeros((1, 2)), nd.array([0]))
    array([0.6931472])
    """
    return f.reshape(f.sum(f.cross_entropy(data, label)[0]), (1,))
