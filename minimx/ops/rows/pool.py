"""Pooling: maximum, average, sum and Lp over windows, over everything (global) and to a given size (adaptive)."""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import float_of, per_axis, size_of
from ..dtypes import FLOATS
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, f
from .conv import is_last, library, to_first, to_given


def pooled(x, kernel, stride, pad, convention, layout):
    """(shape of the result, attributes of the kernels, whether channels are last)."""
    where, rank = "pooling", len(x.shape)
    if not 3 <= rank <= 5:
        raise ShapeError(where, "data (N, C, *spatial) of 1 to 3 spatial axes", x.shape, "Reshape")
    last, n = is_last(where, layout, rank), rank - 2
    first = to_first(x.shape, last)
    k, s, p = (
        per_axis(where, "kernel", kernel, n, 1, 1),
        per_axis(where, "stride", stride, n, 1, 1),
        per_axis(where, "pad", pad, n, 0),
    )
    if convention not in ("valid", "full", "same"):
        raise ArgumentError(where, "pooling_convention 'valid', 'full' or 'same'", convention, "Use one of them")
    spatial = []
    for d, ki, si, pi in zip(first[2:], k, s, p, strict=True):
        room = d + 2 * pi - ki
        if room < 0:
            raise ShapeError(
                where, "windows no larger than the padded data", f"kernel {k}, pad {p} for {x.shape}", "Pad more"
            )
        spatial.append(
            -(-d // si) if convention == "same" else (-(-room // si) if convention == "full" else room // si) + 1
        )
    return to_given((*first[:2], *spatial), last), {"kernel": list(k), "stride": list(s), "pad": list(p)}, last


def windows(attrs):
    """Attributes passed from a pooling row to its gradient."""
    return {
        k: attrs[k] for k in ("kernel", "stride", "pad", "layout", *(["include_pad"] if "include_pad" in attrs else []))
    }


def max_pool_grad_of(gs, ins, outs, attrs, needs):
    return [f.max_pool_grad(gs[0], outs[1], shape=ins[0].shape, **windows(attrs))]


@kernel(grad=max_pool_grad_of)
def max_pool(x, /, kernel=(), stride=None, pad=None, convention="valid", layout=None):
    """Largest element of each window; also its place in the window, for the gradient."""
    shape, attrs, last = pooled(x, kernel, stride, pad, convention, layout)
    dtype = float_of(x.dtype)
    name, attrs = library("pool_fwd", dtype, {**attrs, "kind": "max"}, last)
    return Plan([(shape, dtype), (shape, _index_type(attrs["kernel"]))], name, attrs, [dtype])


def _index_type(kernel):
    return "uint8" if size_of(kernel) <= 255 else "int32"  # pool_index_dtype of csrc/cpu/dnnl_pool.h


def windows_of(shape, kernel, stride, pad, layout):
    """Attributes of the backward kernels for data of ``shape``."""
    n, where = len(shape) - 2, "pooling"
    attrs = {
        "kernel": list(per_axis(where, "kernel", kernel, n, 1, 1)),
        "stride": list(per_axis(where, "stride", stride, n, 1, 1)),
        "pad": list(per_axis(where, "pad", pad, n, 0)),
    }
    return attrs, is_last(where, layout, len(shape))


def max_pool_grad_grad(gs, ins, outs, attrs, needs):
    return [f.cast(f.max_pool_gather(gs[0], ins[1], **windows(attrs)), ins[0].dtype), None]


@kernel(grad=max_pool_grad_grad)
def max_pool_grad(dy, index, /, shape=(), kernel=(), stride=None, pad=None, layout=None):
    """Gradient of max_pool: each element of ``dy`` goes to the place it came from."""
    attrs, last = windows_of(shape, kernel, stride, pad, layout)
    name, attrs = library("pool_bwd", dy.dtype, {**attrs, "kind": "max"}, last)
    return Plan([(tuple(shape), dy.dtype)], name, attrs)


def max_pool_gather_grad(gs, ins, outs, attrs, needs):
    return [f.cast(f.max_pool_grad(gs[0], ins[1], shape=ins[0].shape, **windows(attrs)), ins[0].dtype), None]


@kernel(grad=max_pool_gather_grad)
def max_pool_gather(x, index, /, kernel=(), stride=None, pad=None, layout=None):
    """The elements of ``x`` at the places that a max pool took: the transpose of its gradient."""
    attrs, last = windows_of(x.shape, kernel, stride, pad, layout)
    dtype = x.dtype if x.dtype == "float64" else "float32"
    attrs["kind"] = "max"
    name, attrs = ("channels_last", {**attrs, "kernel_name": "pool_gather"}) if last else ("pool_gather", attrs)
    return Plan([(index.shape, dtype)], name, attrs, [dtype])


def avg_pool_grad_of(gs, ins, outs, attrs, needs):
    return [f.avg_pool_grad(gs[0], shape=ins[0].shape, **windows(attrs))]


@kernel(grad=avg_pool_grad_of)
def avg_pool(x, /, kernel=(), stride=None, pad=None, include_pad=True, convention="valid", layout=None):
    """Mean of each window; ``include_pad`` counts padding as zeros, else only elements of ``x`` count."""
    shape, attrs, last = pooled(x, kernel, stride, pad, convention, layout)
    dtype = float_of(x.dtype)
    name, attrs = library("pool_fwd", dtype, {**attrs, "kind": _average(include_pad)}, last)
    return Plan([(shape, dtype)], name, attrs, [dtype])


def _average(include_pad):
    return "avg_include" if include_pad else "avg_exclude"


@kernel(grad=lambda gs, ins, outs, attrs, needs: [_avg_again(gs[0], ins[0], attrs)])
def avg_pool_grad(dy, /, shape=(), kernel=(), stride=None, pad=None, include_pad=True, layout=None):
    """Gradient of avg_pool: each element of ``dy`` is spread over its window."""
    attrs, last = windows_of(shape, kernel, stride, pad, layout)
    name, attrs = library("pool_bwd", dy.dtype, {**attrs, "kind": _average(include_pad)}, last)
    return Plan([(tuple(shape), dy.dtype)], name, attrs)


def _avg_again(gg, dy, attrs):
    """avg_pool of the second-order gradient, in whichever convention has the shape of ``dy``."""
    options = {k: attrs[k] for k in ("kernel", "stride", "pad", "include_pad", "layout")}
    valid = f.avg_pool(gg, **options)
    return valid if valid.shape == dy.shape else f.avg_pool(gg, convention="full", **options)


def _reference(
    x,
    kernel=(),
    pool_type="max",
    stride=None,
    pad=None,
    global_pool=False,
    count_include_pad=True,
    pooling_convention="valid",
    layout=None,
    **unused,
):
    """A loop over windows."""
    import itertools

    import numpy

    last = layout is not None and layout.endswith("C")
    x = numpy.moveaxis(x, -1, 1) if last else x
    n = x.ndim - 2
    if global_pool:
        y = (x.max if pool_type == "max" else x.mean)(tuple(range(2, x.ndim)), keepdims=True)
        return numpy.moveaxis(y, 1, -1) if last else y
    k, s, p = per_axis("", "", kernel, n, 1), per_axis("", "", stride, n, 1), per_axis("", "", pad, n, 0)
    room = [d + 2 * q - w for d, q, w in zip(x.shape[2:], p, k, strict=True)]
    size = [(-(-r // t) if pooling_convention == "full" else r // t) + 1 for r, t in zip(room, s, strict=True)]
    y = numpy.empty((*x.shape[:2], *size))
    for at in itertools.product(*map(range, size)):
        box = [slice(max(i * t - q, 0), i * t - q + w) for i, t, q, w in zip(at, s, p, k, strict=True)]
        part = x[(slice(None), slice(None), *box)].reshape(*x.shape[:2], -1)
        whole = size_of(k) if count_include_pad else part.shape[-1]
        place: tuple = (slice(None), slice(None), *at)
        y[place] = part.max(-1) if pool_type == "max" else part.sum(-1) / (1 if pool_type == "sum" else whole)
    return numpy.moveaxis(y, 1, -1) if last else y


@composite(
    npx="pooling",
    nd="Pooling",
    against=_reference,
    dtypes=FLOATS,
    samples=drawn(
        case((2, 3, 6, 5), kernel=(2, 2)),
        case((2, 3, 6, 5), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg"),
        case((2, 3, 6, 5), kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False),
        case((2, 7, 3), kernel=(3,), stride=(2,), layout="NWC"),
        case((2, 3, 6, 5), global_pool=True, pool_type="avg"),
        case((2, 3, 6, 5), kernel=(3, 3), stride=(2, 2), pooling_convention="full"),
    ),
)
def pooling(
    data,
    kernel=None,
    pool_type="max",
    pooling_convention="valid",
    global_pool=False,
    cudnn_off=False,
    stride=None,
    pad=None,
    p_value=None,
    count_include_pad=True,
    layout=None,
):
    """Pools windows of (N, C, *spatial): pool_type max, avg, sum or lp (with ``p_value``).

    ``global_pool`` takes all of space as one window and keeps the axes. pooling_convention "full" rounds the output
    size up.

    >>> x = np.arange(16).reshape(1, 1, 4, 4)
    >>> npx.pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max")
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    if pool_type not in ("max", "avg", "sum", "lp"):
        raise ArgumentError("pooling", "pool_type max, avg, sum or lp", pool_type, "Use one of them")
    if pool_type == "lp":
        return _lp(data, kernel, pooling_convention, global_pool, stride, pad, p_value or 2, layout)
    last = is_last("pooling", layout, data.ndim)
    if global_pool:
        space = tuple(range(1, data.ndim - 1)) if last else tuple(range(2, data.ndim))
        return {"max": f.max, "avg": f.mean, "sum": f.sum}[pool_type](data, axis=space, keepdims=True)
    if pool_type == "max":
        return f.max_pool(data, kernel, stride, pad, pooling_convention, layout)[0]
    y = f.avg_pool(data, kernel, stride, pad, pool_type == "sum" or count_include_pad, pooling_convention, layout)
    return (
        f.multiply(y, float(size_of(per_axis("pooling", "kernel", kernel, data.ndim - 2, 1))))
        if pool_type == "sum"
        else y
    )


def _lp(data, kernel, convention, everywhere, stride, pad, p, layout):
    """(sum |x|^p)^(1/p)."""
    total = pooling(
        f.power(f.abs(data), p), kernel, "sum", convention, everywhere, False, stride, pad, None, True, layout
    )
    return f.power(total, 1.0 / p)


@composite(
    npx="adaptive_avg_pool2d", nd="contrib_AdaptiveAvgPooling2D", against="torch.nn.functional.adaptive_avg_pool2d"
)
def adaptive_avg_pool2d(data, output_size=1):
    """Means of (N, C, H, W) over a grid of ``output_size`` windows, from floor(i H / n) to ceil((i + 1) H / n).

    >>> npx.adaptive_avg_pool2d(np.ones((1, 3, 8, 8)), output_size=2).shape
    (1, 3, 2, 2)
    """
    sizes = per_axis("adaptive_avg_pool2d", "output_size", output_size, 2, 1, 1)
    for axis, n in zip((2, 3), sizes, strict=True):
        d = data.shape[axis]
        whole = ((None, None, None),) * axis
        parts = [f.getitem(data, (*whole, (i * d // n, -(-(i + 1) * d // n), None))) for i in range(n)]
        means = [f.mean(p, axis=axis, keepdims=True) for p in parts]
        data = means[0] if n == 1 else f.concatenate(means, axis)
    return data
