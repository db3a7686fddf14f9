"""Sample calls and NumPy references for the rows that do not hold them in a line of their own, by row name.

A row's ``samples`` and ``against`` come first; what is here completes rows whose reference takes some lines, or
whose operands are not just arrays. What checks them all is table_checks.py; rows without a reference are named in
test_table.py.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.special

from minimx.ops.samples import Ints, Positive, case, drawn

SAMPLES: dict = {}
REFERENCES: dict = {}


def row(name: str, *cases, reference=None) -> None:
    """Adds sample calls (see minimx/ops/samples.py) and a reference for a row."""
    if cases:
        SAMPLES[name] = drawn(*cases)
    if reference is not None:
        REFERENCES[name] = reference


# --- shapes and Gluon 1's spellings ------------------------------------------------------------------------------

row(
    "nd_dot",
    case((2, 3), (3, 4)),
    case((3, 2), (3, 4), transpose_a=True),
    case((2, 3, 4), (4, 5)),
    reference=lambda a, b, transpose_a=False: np.tensordot(a.T if transpose_a else a, b, 1),
)
row(
    "einsum",
    case("ij,jk->ik", (2, 3), (3, 4)),
    case("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    case("ii->i", (3, 3)),
    case("ij->", (2, 3)),
    case("...i,i->...", (2, 3, 4), (4,)),
    case("ij,jk,kl", (2, 3), (3, 2), (2, 4)),
    case("i,j->ij", (2,), (3,)),
)
row(
    "arange_like",
    case((2, 3), start=1.0, step=0.5),
    case((2, 3), axis=1),
    reference=lambda x, start=0.0, step=1.0, axis=None: (
        start + step * np.arange(x.size if axis is None else x.shape[axis]).reshape(x.shape if axis is None else -1)
    ),
)
row("tril_indices", case(3), case(4, 1, 3))
row("triu_indices", case(3), case(4, -1, 3))
row("triu_indices_from", case((3, 4), 1))
row("diag_indices_from", case((3, 3)))
row("reshape_like", case((2, 6), (3, 4)), reference=lambda x, y: x.reshape(y.shape))
row("broadcast_like", case((2, 1), (2, 3)), reference=lambda x, y: np.broadcast_to(x, y.shape))
row("nd_broadcast_axis", case((2, 1, 3), axis=1, size=4), reference=lambda x, axis, size: np.repeat(x, size, axis))
row(
    "nd_concat", case((2, 3), (2, 4)), case((2, 3), (1, 3), dim=0), reference=lambda *xs, dim=1: np.concatenate(xs, dim)
)
row("nd_stack", case((2, 3), (2, 3), axis=1), reference=lambda *xs, axis=0: np.stack(xs, axis))
row(
    "nd_split",
    case((4, 6), 3),
    case((4, 2), 2, squeeze_axis=True),
    reference=lambda x, n, axis=1, squeeze_axis=False: [
        p.squeeze(axis) if squeeze_axis else p for p in np.split(x, n, axis)
    ],
)
row("nd_add_n", case((2, 3), (2, 3), (2, 3)), reference=lambda *xs: sum(xs))
row("nd_take", case((4, 3), Ints((2, 2), 9, -4)), reference=lambda x, i: np.take(x, i, 0, mode="clip"))
row(
    "nd_pad",
    case((1, 2, 3, 4), mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 0, 1), constant_value=1.5),
    reference=lambda x, mode, pad_width, constant_value: np.pad(
        x, list(zip(pad_width[::2], pad_width[1::2], strict=True)), constant_values=constant_value
    ),
)
row(
    "nd_sort",
    case((3, 4)),
    case((3, 4), is_ascend=False),
    reference=lambda x, is_ascend=True: np.sort(x) if is_ascend else -np.sort(-x),
)
row("nd_argsort", case((3, 4)))
row("shape_array", case((2, 3)), reference=lambda x: np.array(x.shape))
row("size_array", case((2, 3)), reference=lambda x: np.array([x.size]))
row("vecdot", case((2, 3), (2, 3)), reference=lambda a, b: (a * b).sum(-1))
row("allclose", case((2, 3), (2, 3)))
row("array_equal", case((2, 3), (2, 3)))
row(
    "moments",
    case((2, 3, 4), axes=(0, 2)),
    case((2, 3), axes=(1,), keepdims=True),
    reference=lambda x, axes, keepdims=False: (x.mean(axes, keepdims=keepdims), x.var(axes, keepdims=keepdims)),
)
row(
    "sum_to_like",
    case((2, 3, 4), (3, 1)),
    case((2, 3), ()),
    case((2, 3), (2, 3)),
    reference=lambda g, x: g.sum(
        tuple(range(g.ndim - x.ndim))
        + tuple(i + g.ndim - x.ndim for i, d in enumerate(x.shape) if d != g.shape[i + g.ndim - x.ndim])
    ).reshape(x.shape),
)


def _depth_to_space(x, b):
    n, c, h, w = x.shape
    out = np.zeros((n, c // b // b, h * b, w * b))
    for i, j, k in itertools.product(range(b), range(b), range(c // b // b)):
        out[:, k, i::b, j::b] = x[:, (i * b + j) * (c // b // b) + k]
    return out


def _space_to_depth(x, b):
    n, c, h, w = x.shape
    return np.concatenate([x[:, :, i::b, j::b] for i in range(b) for j in range(b)], 1)


row("depth_to_space", case((1, 8, 2, 3), 2), reference=_depth_to_space)
row("space_to_depth", case((1, 2, 4, 6), 2), reference=_space_to_depth)

# --- indexing ----------------------------------------------------------------------------------------------------


def _assigned(x, key, v, how="set"):
    y = np.array(x)
    if how == "add":
        np.add.at(y, key, v)
    else:
        y[key] = v
    return y


def _put(v, i, base=None, shape=(), axis=0, how="add"):
    return _assigned(np.zeros(shape) if base is None else base, (slice(None),) * axis + (i,), v, how)


def _put_elements(v, i, base=None, shape=(), axis=-1):
    y = np.zeros(shape) if base is None else np.array(base)
    for at in np.ndindex(i.shape):
        to = list(at)
        to[axis] = i[at]
        y[tuple(to)] += v[at]
    return y


def _pasted(v, base, shape, start, step, value=0, region=None):
    y = np.full(shape, float(value)) if base is None else np.array(base)
    y[
        tuple(
            slice(b, None if b + s * n < 0 else b + s * n, s)
            for b, s, n in zip(start, step, region or v.shape, strict=True)
        )
    ] = v
    return y


row(
    "put",
    case((3, 2), Ints((3,), 4), shape=(4, 2)),
    case((2, 3), Ints((3,), 3), (2, 4), shape=(2, 4), axis=1),
    case((2, 2), np.array([3, 1]), (4, 2), shape=(4, 2), how="set"),
    reference=_put,
)
row(
    "put_static",
    case((3, 2), axis=0, indices=(1, 3, 1), n=4),
    reference=lambda v, axis, indices, n: _put(v, np.array(indices), shape=(n, *v.shape[1:])),
)
row(
    "put_elements",
    case((3, 2), Ints((3, 2), 4), shape=(3, 4)),
    case((3, 2), Ints((3, 2), 4), (4, 2), shape=(4, 2), axis=0),
    reference=_put_elements,
)
row(
    "paste",
    case((2, 2), None, shape=(4, 5), start=(1, 0), step=(1, 2), value=3),
    case((2, 2), (4, 5), shape=(4, 5), start=(3, 4), step=(-2, -4)),
    case((), (3,), shape=(3,), start=(1,), step=(1,), region=(2,)),
    reference=_pasted,
)
row(
    "scatter_nd",
    case((3,), np.array([[0, 1, 1], [1, 0, 2]]), shape=(2, 3)),
    reference=lambda v, i, shape: _assigned(np.zeros(shape), tuple(i), v),
)
row("index_update", case((2, 3), np.array([[0, 1]]), (2, 3)), reference=lambda x, i, v: _assigned(x, tuple(i), v))
row(
    "index_add",
    case((2, 3), np.array([[0, 1, 1], [2, 2, 2]]), (3,)),
    reference=lambda x, i, v: _assigned(x, tuple(i), v, "add"),
)
row(
    "slice_set",
    case((3, 4), (2,), key=((None, None, -2), (1, 3, None))),
    case((3, 4), 2.0, key=(1,)),
    case((3, 4), (4,), key=(Ellipsis, None, (0, 4, None))),
    reference=lambda x, v, key: _assigned(x, tuple(slice(*k) if isinstance(k, tuple) else k for k in key), v),
)
row("boolean_mask", case((4, 3), np.array([1, 0, 0, 1])))


def _topk(x, k, axis=-1, ret_typ="indices", is_ascend=False):
    i = np.argsort(x if is_ascend else -x, axis, kind="stable").take(range(k), axis)
    values = np.take_along_axis(x, i, axis)
    if ret_typ == "mask":
        return _put_elements(np.ones(i.shape), i, shape=x.shape, axis=axis)
    return {"indices": i, "value": values, "both": (values, i)}[ret_typ]


row(
    "topk",
    case((3, 5), k=2),
    case((5, 3), k=2, axis=0, ret_typ="value"),
    case((3, 5), k=3, ret_typ="both", is_ascend=True),
    case((3, 5), k=2, ret_typ="mask"),
    reference=_topk,
)

# --- layers ------------------------------------------------------------------------------------------------------

_ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "softrelu": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + abs(x)),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "silu": lambda x: x * scipy.special.expit(x),
}
row(
    "activation",
    *(case((2, 3), act_type=name) for name in _ACTIVATIONS),
    reference=lambda x, act_type: _ACTIVATIONS[act_type](x),
)


def _leaky(x, gamma=None, act_type="leaky", slope=0.25):
    low = {
        "leaky": slope * x,
        "elu": slope * np.expm1(np.minimum(x, 0)),
        "selu": 1.0507009873554805 * 1.6732632423543772 * np.expm1(np.minimum(x, 0)),
        "rrelu": x * (0.125 + 0.334) / 2,
        "gelu": x * scipy.special.ndtr(x),
    }
    if act_type == "prelu":
        low["prelu"] = x * gamma.reshape(1, -1)
    high = 1.0507009873554805 * x if act_type == "selu" else low["gelu"] if act_type == "gelu" else x
    return np.where(x > 0, high, low[act_type])


row(
    "leaky_relu",
    case((2, 3)),
    case((2, 3), (3,), act_type="prelu"),
    *(case((2, 3), act_type=t) for t in ("elu", "selu", "gelu", "rrelu")),
    reference=_leaky,
)
row(
    "dropout_backward",
    case((2, 3), np.array([[1, 0, 1], [0, 0, 1]], "uint8"), 0.5),
    reference=lambda g, mask, p: g * mask / (1 - p),
)
row("dropout", case((2, 3)), reference=lambda x: x)  # predict mode; what it does in train mode is in test_random.py


def _bilinear(x, height, width, align_corners=True):
    def along(x, axis, m):
        n = x.shape[axis]
        at = np.linspace(0, n - 1, m) if align_corners else np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, None)
        low = np.minimum(at.astype(int), n - 1)
        share = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        return x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, n - 1), axis) * share

    return along(along(x, 2, height), 3, width)


row(
    "bilinear_resize2d",
    case((1, 2, 3, 4), height=5, width=7),
    case((1, 2, 4, 4), height=2, width=8, align_corners=False),
    reference=_bilinear,
)


def _sequence(what):
    def reference(x, lengths, use_sequence_length=True, value=0.0, axis=0):
        y = np.array(np.swapaxes(x, 0, axis))
        for n, length in enumerate(lengths.astype(int)):
            if what == "mask":
                y[length:, n] = value
            elif what == "reverse":
                y[:length, n] = y[:length, n][::-1]
        if what == "last":
            return np.stack([y[length - 1, n] for n, length in enumerate(lengths.astype(int))])
        return np.swapaxes(y, 0, axis)

    return reference


for _what in ("mask", "last", "reverse"):
    row(f"sequence_{_what}", case((4, 3, 2), np.array([1, 4, 2]), True), reference=_sequence(_what))
row("sequence_mask", case((4, 3, 2), np.array([1, 4, 2]), True, 1.5), case((3, 4), np.array([1, 4, 2]), True, axis=1))


def _standard(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def _channel(v, x, axis=1):
    return v.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _group_norm(x, gamma, beta, num_groups=1, eps=1e-5):
    y = _standard(x.reshape(x.shape[0], num_groups, -1), 2, eps).reshape(x.shape)
    return y * _channel(gamma, x) + _channel(beta, x)


def _batch_stats(x, axis):
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return x.mean(axes), x.var(axes)


def _batch_norm(x, gamma, beta, mean=None, var=None, eps=1e-5, axis=1, fix_gamma=False, **kw):
    if mean is None:
        mean, var = _batch_stats(x, axis)
    y = (x - _channel(mean, x, axis)) / np.sqrt(_channel(var, x, axis) + eps)
    return y * (1 if fix_gamma else _channel(gamma, x, axis)) + _channel(beta, x, axis)


row("group_norm", case((2, 4, 3), (4,), (4,), num_groups=2), reference=_group_norm)
row(
    "instance_norm",
    case((2, 3, 4, 2), (3,), (3,)),
    reference=lambda x, g, b: _standard(x, (2, 3), 1e-3) * _channel(g, x) + _channel(b, x),
)
row(
    "l2_normalization",
    case((2, 3, 4)),
    case((2, 3, 4), mode="channel"),
    case((2, 3, 4), mode="spatial"),
    reference=lambda x, mode="instance": (
        x / np.sqrt((x * x).sum({"instance": (1, 2), "channel": (1,), "spatial": (2,)}[mode], keepdims=True) + 1e-10)
    ),
)
row(
    "batch_norm",
    case((4, 3, 2, 2), (3,), (3,), (3,), Positive((3,))),
    case((4, 3), (3,), (3,), (3,), Positive((3,)), fix_gamma=False, axis=-1),
    reference=lambda *a, fix_gamma=True, axis=1: _batch_norm(*a, eps=1e-3, fix_gamma=fix_gamma, axis=axis),
)
row(
    "batch_norm_train",
    case((4, 3, 2, 2), (3,), (3,)),
    case((4, 2, 3), (3,), (3,), axis=-1),
    reference=lambda x, g, b, axis=1: (_batch_norm(x, g, b, axis=axis), *_batch_stats(x, axis)),
)
row(
    "batch_norm_infer",
    case((4, 3, 2, 2), (3,), (3,), (3,), Positive((3,))),
    case((2, 2, 3), (3,), (3,), (3,), Positive((3,)), axis=-1),
    reference=_batch_norm,
)


def _batch_norm_grad(x, dy, mean, var, gamma, eps=1e-5, axis=1, global_stats=False):
    mean, var, gamma = (_channel(v, x, axis) for v in (mean, var, gamma))
    r = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * r
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    n = x.size // x.shape[axis]
    dgamma, dbeta = (dy * xhat).sum(axes), dy.sum(axes)
    dx = (
        gamma * r * dy
        if global_stats
        else gamma * r * (dy - _channel(dbeta, x, axis) / n - xhat * _channel(dgamma, x, axis) / n)
    )
    return dx, dgamma, dbeta


row(
    "batch_norm_grad",
    case((4, 3, 2, 2), (4, 3, 2, 2), (3,), Positive((3,)), (3,)),
    case((4, 2, 3), (4, 2, 3), (3,), Positive((3,)), (3,), axis=-1, global_stats=True),
    reference=_batch_norm_grad,
)


def _row_norm(x, gamma=None, beta=None, eps=1e-5, rms=False, axes=1):
    last = tuple(range(-axes, 0))
    mean = np.zeros(x.shape[:-axes]) if rms else x.mean(last)
    rstd = 1 / np.sqrt((x * x).mean(last) + eps if rms else x.var(last) + eps)
    y = (x - np.expand_dims(mean, last)) * np.expand_dims(rstd, last) * (1 if gamma is None else gamma)
    return y + (0 if beta is None else beta), mean, rstd


def _row_norm_backward(x, dy, mean, rstd, gamma=None, rms=False, has_beta=False, axes=1):
    last = tuple(range(-axes, 0))
    mean, rstd = np.expand_dims(np.zeros_like(mean) if rms else mean, last), np.expand_dims(rstd, last)
    xhat, g = (x - mean) * rstd, dy * (1 if gamma is None else gamma)
    center = 0 if rms else g.mean(last, keepdims=True)
    dx = rstd * (g - center - xhat * (g * xhat).mean(last, keepdims=True))
    lead = tuple(range(x.ndim - axes))
    return dx if gamma is None else (dx, (dy * xhat).sum(lead), dy.sum(lead))


row(
    "row_norm",
    case((2, 3, 4), (4,), (4,)),
    case((3, 5), None, None),
    case((3, 5), (5,), None, rms=True),
    case((2, 3, 4), (3, 4), (3, 4), axes=2),
    reference=_row_norm,
)
row(
    "row_norm_backward",
    case((2, 3, 4), (2, 3, 4), (2, 3), Positive((2, 3)), (4,)),
    case((3, 5), (3, 5), (3,), Positive((3,)), None),
    case((3, 5), (3, 5), np.zeros(3), Positive((3,)), (5,), rms=True),
    case((2, 3, 4), (2, 3, 4), (2,), Positive((2,)), (3, 4), axes=2),
    reference=_row_norm_backward,
)


def _softmax(x, axis=-1):
    return scipy.special.softmax(x, axis)


def _log_softmax(x, axis=-1):
    return scipy.special.log_softmax(x, axis)


_MASK = np.array([[True, False, True, True], [False, True, True, False]])
row("softmax_of", case((2, 3, 4)), case((2, 3, 4), axis=1), reference=_softmax)
row("log_softmax_of", case((2, 3, 4)), case((2, 3, 4), axis=1), reference=_log_softmax)
row("softmax_backward", case((2, 4), (2, 4)), reference=lambda y, dy: y * (dy - (y * dy).sum(-1, keepdims=True)))
row("log_softmax_backward", case((2, 4), (2, 4)), reference=lambda y, dy: dy - np.exp(y) * dy.sum(-1, keepdims=True))
row("masked_softmax", case((2, 4), _MASK), reference=lambda x, m: _softmax(np.where(m, x, -np.inf)))
row("masked_log_softmax", case((2, 4), _MASK), reference=lambda x, m: _log_softmax(np.where(m, x, -np.inf)))


def _cross_entropy_backward(g, x, labels, lse, smoothing=0.0):
    n = x.shape[-1]
    target = (1 - smoothing) * np.eye(n)[labels] + smoothing / n
    return g[..., None] * (np.exp(x - lse[..., None]) - target)


row(
    "cross_entropy_backward",
    case((4,), (4, 5), Ints((4,), 5), Positive((4,)), smoothing=0.1),
    reference=_cross_entropy_backward,
)
row(
    "nd_softmax_cross_entropy",
    case((4, 5), Ints((4,), 5)),
    reference=lambda x, i: -np.take_along_axis(_log_softmax(x), i[:, None], 1).sum().reshape(1),
)
row(
    "cross_entropy",
    reference=lambda x, i, axis=-1, smoothing=0.0, wide=False: (
        -(1 - smoothing) * np.take_along_axis(_log_softmax(x, axis), np.expand_dims(i, axis), axis).squeeze(axis)
        - smoothing * _log_softmax(x, axis).mean(axis),
        scipy.special.logsumexp(x, axis),
    ),
)

# --- convolution and pooling -------------------------------------------------------------------------------------


def _convolve_each(x_shape, w_shape, stride, pad, dilate):
    """For 2-d data: (input place, kernel place, output place) of every product, all but channels."""
    for o in np.ndindex(
        *(
            (x + 2 * p - d * (k - 1) - 1) // s + 1
            for x, k, s, p, d in zip(x_shape, w_shape, stride, pad, dilate, strict=True)
        )
    ):
        for k in np.ndindex(*w_shape):
            i = tuple(a * s - p + b * d for a, b, s, p, d in zip(o, k, stride, pad, dilate, strict=True))
            if all(0 <= a < n for a, n in zip(i, x_shape, strict=True)):
                yield i, k, o


def _conv_data_grad(dy, w, shape, stride=(1, 1), pad=(0, 0), dilate=(1, 1)):
    dx = np.zeros(shape)
    for i, k, o in _convolve_each(shape[2:], w.shape[2:], stride, pad, dilate):
        dx[(..., *i)] += dy[(..., *o)] @ w[(..., *k)]
    return dx


def _conv_weight_grad(x, dy, shape, bias=False, stride=(1, 1), pad=(0, 0), dilate=(1, 1)):
    dw = np.zeros(shape)
    for i, k, o in _convolve_each(x.shape[2:], shape[2:], stride, pad, dilate):
        dw[(..., *k)] += dy[(..., *o)].T @ x[(..., *i)]
    return (dw, dy.sum((0, 2, 3))) if bias else dw


row(
    "convolution_data_grad",
    case((2, 4, 3, 3), (4, 3, 3, 2), shape=(2, 3, 5, 6), stride=(2, 2), pad=(1, 0), dilate=(1, 1)),
    reference=_conv_data_grad,
)
row(
    "convolution_weight_grad",
    case((2, 3, 5, 6), (2, 4, 3, 3), shape=(4, 3, 3, 2), bias=True, stride=(2, 2), pad=(1, 0)),
    case((2, 3, 5, 6), (2, 4, 3, 5), shape=(4, 3, 3, 2)),
    reference=_conv_weight_grad,
)


def _deconvolution(
    x, w, bias=None, kernel=(), stride=(1, 1), pad=(0, 0), dilate=(1, 1), adj=(0, 0), num_filter=0, no_bias=True
):
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + a
        for n, s, p, d, k, a in zip(x.shape[2:], stride, pad, dilate, kernel, adj, strict=True)
    ]
    y = _conv_data_grad(x, w, (x.shape[0], w.shape[1], *size), stride, pad, dilate)
    return y if no_bias else y + bias.reshape(1, -1, 1, 1)


row(
    "deconvolution",
    case((2, 3, 3, 4), (3, 2, 3, 3), None, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 0), num_filter=2),
    case((1, 3, 3, 4), (3, 2, 2, 2), (2,), kernel=(2, 2), num_filter=2, no_bias=False),
    reference=_deconvolution,
)


def _windows(x, kernel, stride, pad, fill):
    """Windows of (N, C, H, W) as (N, C, h, w, kh * kw), padded with ``fill``."""
    wide = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)], constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(wide, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]
    return view.reshape(*view.shape[:4], -1)


def _max_pool(x, kernel, stride=(1, 1), pad=(0, 0)):
    return _windows(x, kernel, stride, pad, -np.inf).max(-1), None


def _avg_pool(x, kernel, stride=(1, 1), pad=(0, 0), include_pad=True):
    total = _windows(x, kernel, stride, pad, 0).sum(-1)
    return total / (np.prod(kernel) if include_pad else _windows(np.ones(x.shape), kernel, stride, pad, 0).sum(-1))


def _avg_pool_grad(dy, shape, kernel, stride=(1, 1), pad=(0, 0), include_pad=True):
    count = np.prod(kernel) if include_pad else _windows(np.ones(shape), kernel, stride, pad, 0).sum(-1)
    dx = np.zeros(shape)
    for i, _, o in _convolve_each(shape[2:], kernel, stride, pad, (1, 1)):
        dx[(..., *i)] += (dy / count)[(..., *o)]
    return dx


row(
    "max_pool",
    case((2, 3, 6, 5), kernel=(2, 2)),
    case((2, 3, 5, 5), kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
    reference=_max_pool,
)
row(
    "avg_pool",
    case((2, 3, 6, 5), kernel=(2, 2)),
    case((2, 3, 5, 5), kernel=(3, 3), stride=(2, 2), pad=(1, 1), include_pad=False),
    reference=_avg_pool,
)
row(
    "avg_pool_grad",
    case((2, 3, 5, 4), shape=(2, 3, 6, 5), kernel=(2, 2)),
    case((2, 3, 3, 3), shape=(2, 3, 5, 5), kernel=(3, 3), stride=(2, 2), pad=(1, 1), include_pad=False),
    reference=_avg_pool_grad,
)
row(
    "adaptive_avg_pool2d",
    case((1, 2, 5, 7), output_size=3),
    case((1, 2, 4, 6), output_size=(2, 1)),
    reference=lambda x, output_size: np.stack(
        [
            np.stack(
                [
                    x[
                        :,
                        :,
                        i * x.shape[2] // m : -(-(i + 1) * x.shape[2] // m),
                        j * x.shape[3] // n : -(-(j + 1) * x.shape[3] // n),
                    ].mean((2, 3))
                    for j in range(n)
                ],
                -1,
            )
            for m, n in [(output_size,) * 2 if isinstance(output_size, int) else output_size]
            for i in range(m)
        ],
        2,
    ),
)

# --- creation, host rows -----------------------------------------------------------------------------------------

row(
    "arange",
    reference=lambda start=0, stop=None, step=1: np.arange(start) if stop is None else np.arange(start, stop, step),
)
row(
    "filled_with", case((3,), shape=(2, 3)), case(2.5, shape=(2,)), reference=lambda v, shape: np.broadcast_to(v, shape)
)
row("spaced", case(1.0, 0.5, 4), reference=lambda start, step, n: start + step * np.arange(n))
row("eigvals", reference=lambda x: np.linalg.eigvals(x).real)
SAMPLES["eigvals"] = lambda dtype, rng: [([np.triu(rng.uniform(1, 2, (3, 3))).astype(dtype)], {})]
row("nonzero", case(np.array([[0, 1], [2, 0]])))
row("flatnonzero", case(np.array([[0, 1], [2, 0]])))
row("argwhere", case(np.array([[0, 1], [2, 0]])))
row("unique", case(np.array([3, 1, 3, 2])), case(np.array([3, 1, 3, 2]), return_counts=True, return_inverse=True))
row("histogram", case((20,), bins=4, range=(-3, 3)))
row(
    "searchsorted",
    case(np.array([1.0, 2.0, 4.0]), (5,)),
    case(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0]), side="right"),
)
row("interp", case((5,), np.array([0.5, 1.5, 2.5], "float32"), (3,)))  # whose places must increase
row("lstsq", case((4, 2), (4,)), reference=lambda a, b: np.linalg.lstsq(a, b, rcond=None))
