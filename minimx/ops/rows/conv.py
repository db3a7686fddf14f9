"""Convolution and deconvolution, 1 to 3 spatial axes, groups, dilation, channels first or last.

Three kernels of one bilinear map y = conv(x, w): forward, and its two transposes. Each is the gradient of the others,
so all orders of derivatives follow from these rows. With layout NHWC and the like the data is (N, *spatial, C) and
the weight (O, *kernel, C / groups), as MXNet has it; kernels then see the same memory as (N, C, *spatial).
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import float_of, per_axis
from ..dtypes import FLOATS
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, common_dtype, f


def is_last(where, layout, rank):
    """True for NWC, NHWC, NDHWC; False for NCW, NCHW, NCDHW and None."""
    first, last = "NC" + "DHW"[5 - rank :], "N" + "DHW"[5 - rank :] + "C"
    if layout not in (None, first, last):
        raise ArgumentError(where, f"layout {first} or {last}", layout, "Use one of them, or transpose")
    return layout == last


def to_first(shape, last):
    """(N, *spatial, C) -> (N, C, *spatial)."""
    return (shape[0], shape[-1], *shape[1:-1]) if last else tuple(shape)


def to_given(shape, last):
    """(N, C, *spatial) in the order of the layout."""
    return (shape[0], *shape[2:], shape[1]) if last else tuple(shape)


def library(name, dtype, attrs, last):
    """Kernel and attributes: float64 has plain kernels; ``last`` shows operands to the kernel with channels first."""
    name += "_plain" if dtype == "float64" else ""
    return ("channels_last", {**attrs, "kernel_name": name}) if last else (name, attrs)


def geometry(where, rank, stride, pad, dilate, groups):
    """Attributes that the three kernels share."""
    n = rank - 2
    if not 1 <= n <= 3 or groups < 1:
        raise ShapeError(
            where,
            "data of 3 to 5 dimensions and num_group of at least 1",
            f"{rank} dimensions, {groups} groups",
            "Reshape",
        )
    return {
        "stride": list(per_axis(where, "stride", stride, n, 1, 1)),
        "pad": list(per_axis(where, "pad", pad, n, 0)),
        "dilate": list(per_axis(where, "dilate", dilate, n, 1, 1)),
        "groups": groups,
    }


def out_size(x, k, stride, pad, dilate):
    """Length of an axis after convolution."""
    return (x + 2 * pad - dilate * (k - 1) - 1) // stride + 1


def shared(attrs):
    """Attributes passed on from one of the three rows to the others."""
    return {k: attrs[k] for k in ("stride", "pad", "dilate", "num_group", "layout")}


# --- the three rows --------------------------------------------------------------------------------------------------


def convolution_grad(gs, ins, outs, attrs, needs):
    x, w = ins[:2]
    biased = len(ins) > 2 and ins[2] is not None and not attrs["no_bias"]
    gx = f.convolution_data_grad(gs[0], w, shape=x.shape, **shared(attrs)) if needs[0] else None
    gw = gb = None
    if needs[1] or (biased and needs[2]):
        made = f.convolution_weight_grad(x, gs[0], shape=w.shape, bias=biased, **shared(attrs))
        gw, gb = made if biased else (made, None)
    return [gx, gw, gb][: len(ins)]


def _reference(
    x,
    weight,
    bias=None,
    kernel=(),
    stride=None,
    dilate=None,
    pad=None,
    num_filter=0,
    num_group=1,
    layout=None,
    **unused,
):
    """Sums over kernel places of shifted products: slow and plain."""
    import itertools

    import numpy

    last = layout is not None and layout.endswith("C")
    if last:
        x, weight = numpy.moveaxis(x, -1, 1), numpy.moveaxis(weight, -1, 1)
    n = x.ndim - 2
    s, p, d = per_axis("", "", stride, n, 1), per_axis("", "", pad, n, 0), per_axis("", "", dilate, n, 1)
    x = numpy.pad(x, [(0, 0), (0, 0), *((q, q) for q in p)]).astype("float64")
    size = [(x.shape[i + 2] - d[i] * (weight.shape[i + 2] - 1) - 1) // s[i] + 1 for i in range(n)]
    out = numpy.zeros((x.shape[0], weight.shape[0], *size))
    per = weight.shape[0] // num_group
    c = weight.shape[1]
    for place in itertools.product(*(range(k) for k in weight.shape[2:])):
        window = x[
            (
                slice(None),
                slice(None),
                *(slice(place[i] * d[i], place[i] * d[i] + s[i] * (size[i] - 1) + 1, s[i]) for i in range(n)),
            )
        ]
        for g in range(num_group):
            w = weight[(slice(g * per, (g + 1) * per), slice(None), *place)]
            out[:, g * per : (g + 1) * per] += numpy.einsum("nc...,oc->no...", window[:, g * c : (g + 1) * c], w)
    if bias is not None:
        out += bias.reshape(-1, *(1,) * n)
    return numpy.moveaxis(out, 1, -1) if last else out


@kernel(
    npx="convolution",
    nd="Convolution",
    amp="low",
    grad=convolution_grad,
    against=_reference,
    dtypes=FLOATS,
    samples=drawn(
        case((2, 3, 6, 5), (4, 3, 3, 3), (4,), kernel=(3, 3), num_filter=4, pad=(1, 1)),
        case((2, 4, 7), (6, 2, 3), None, kernel=(3,), num_filter=6, stride=(2,), num_group=2),
        case((1, 6, 5, 3), (4, 3, 2, 3), (4,), kernel=(3, 2), num_filter=4, dilate=(2, 1), layout="NHWC"),
        case((1, 2, 3, 4, 4), (3, 2, 2, 2, 2), None, kernel=(2, 2, 2), num_filter=3),
    ),
    errors=[((((2, 3, 6, 6), (4, 2, 3, 3), None), {"kernel": (3, 3), "num_filter": 4}), ShapeError)],
)
def convolution(
    data,
    weight,
    bias=None,
    /,
    kernel=None,
    stride=None,
    dilate=None,
    pad=None,
    num_filter=0,
    num_group=1,
    workspace=1024,
    no_bias=False,
    cudnn_tune=None,
    cudnn_off=False,
    layout=None,
):
    """y[n, o, i] = bias[o] + sum over c, k of data[n, c, i * stride + k * dilate - pad] * weight[o, c, k].

    data (N, C, *spatial), weight (num_filter, C / num_group, *kernel), bias (num_filter,). ``workspace`` and the cudnn
    arguments are accepted and mean nothing here.

    >>> x, weight = np.ones((1, 3, 8, 8)), np.ones((4, 3, 3, 3))
    >>> npx.convolution(x, weight, kernel=(3, 3), num_filter=4, pad=(1, 1)).shape
    (1, 4, 8, 8)
    """
    where, rank = "convolution", len(data.shape)
    g = geometry(where, rank, stride, pad, dilate, num_group)
    last = is_last(where, layout, rank)
    if len(weight.shape) != rank:
        raise ShapeError(
            where, f"weight of {rank} dimensions for data {data.shape}", weight.shape, "Check kernel and layout"
        )
    x, w = to_first(data.shape, last), to_first(weight.shape, last)
    if (
        w[1] * num_group != x[1]
        or w[0] % num_group
        or (kernel and tuple(per_axis(where, "kernel", kernel, rank - 2, 1)) != w[2:])
    ):
        rule = f"weight (filters, {x[1]} / {num_group} channels, *kernel) for data {data.shape}"
        raise ShapeError(where, rule, weight.shape, "Check in_channels, groups and layout")
    spatial = tuple(out_size(*a) for a in zip(x[2:], w[2:], g["stride"], g["pad"], g["dilate"], strict=True))
    if min(spatial) < 0 or (min(spatial) == 0 and min(x) > 0):
        raise ShapeError(
            where, "a kernel no larger than the padded data", f"data {data.shape}, weight {weight.shape}", "Pad more"
        )
    dtype = float_of(common_dtype([data, weight]))
    name, attrs = library("conv_fwd", dtype, g, last)
    return Plan([(to_given((x[0], w[0], *spatial), last), dtype)], name, attrs, [dtype] * 3)


def data_grad_grad(gs, ins, outs, attrs, needs):
    dy, w = ins
    kernel = to_first(w.shape, attrs["layout"] and attrs["layout"].endswith("C"))[2:]
    into_dy = f.convolution(gs[0], w, None, kernel=kernel, **shared(attrs)) if needs[0] else None
    into_w = f.convolution_weight_grad(gs[0], dy, shape=w.shape, **shared(attrs)) if needs[1] else None
    return [into_dy, into_w]


@kernel(amp="low", grad=data_grad_grad)
def convolution_data_grad(dy, weight, /, shape=(), stride=None, pad=None, dilate=None, num_group=1, layout=None):
    """Gradient of convolution with regard to its data, whose shape is ``shape``."""
    rank = len(shape)
    last = is_last("convolution", layout, rank)
    g = geometry("convolution", rank, stride, pad, dilate, num_group)
    dtype = float_of(common_dtype([dy, weight]))
    name, attrs = library("conv_bwd_data", dtype, g, last)
    return Plan([(tuple(shape), dtype)], name, attrs, [dtype] * 2)


def weight_grad_grad(gs, ins, outs, attrs, needs):
    x, dy = ins
    last = bool(attrs["layout"]) and attrs["layout"].endswith("C")
    kernel = to_first(attrs["shape"], last)[2:]
    into_x = f.convolution_data_grad(dy, gs[0], shape=x.shape, **shared(attrs)) if needs[0] else None
    into_dy = None
    if needs[1]:
        into_dy = f.convolution(x, gs[0], gs[1] if attrs["bias"] else None, kernel=kernel, **shared(attrs))
    return [into_x, into_dy]


@kernel(grad=weight_grad_grad)
def convolution_weight_grad(
    x, dy, /, shape=(), bias=False, stride=None, pad=None, dilate=None, num_group=1, layout=None
):
    """Gradient of convolution with regard to the weight, of shape ``shape``, and to the bias if there is one."""
    rank = len(shape)
    last = is_last("convolution", layout, rank)
    g = geometry("convolution", rank, stride, pad, dilate, num_group)
    dtype = float_of(common_dtype([x, dy]))
    name, attrs = library("conv_bwd_weights", dtype, g, last)
    outs = [(tuple(shape), dtype), ((shape[0],), dtype)]
    return Plan(outs if bias else outs[:1], name, attrs, [dtype] * 2)


# --- deconvolution ---------------------------------------------------------------------------------------------------


@composite(npx="deconvolution", nd="Deconvolution", against="scipy.signal: the transpose of convolution")
def deconvolution(
    data,
    weight,
    bias=None,
    kernel=None,
    stride=None,
    dilate=None,
    pad=None,
    adj=None,
    target_shape=None,
    num_filter=0,
    num_group=1,
    workspace=1024,
    no_bias=True,
    cudnn_tune=None,
    cudnn_off=False,
    layout=None,
):
    """The transpose of convolution. weight (C, num_filter / num_group, *kernel); output length (i - 1) * stride - 2 *
    pad + dilate * (k - 1) + 1 + adj.

    >>> x, weight = np.ones((1, 3, 4, 4)), np.ones((3, 2, 2, 2))
    >>> npx.deconvolution(x, weight, stride=(2, 2), num_filter=2).shape
    (1, 2, 8, 8)
    """
    where, rank = "deconvolution", data.ndim
    last = is_last(where, layout, rank)
    x, w = to_first(data.shape, last), to_first(weight.shape, last)
    if x[1] != w[0]:
        raise ShapeError(
            where,
            f"weight ({x[1]}, filters / groups, *kernel) for data {data.shape}",
            weight.shape,
            "Check in_channels",
        )
    g = geometry(where, rank, stride, pad, dilate, num_group)
    n = rank - 2
    extent = [(i - 1) * s + d * (k - 1) + 1 for i, s, d, k in zip(x[2:], g["stride"], g["dilate"], w[2:], strict=True)]
    if target_shape:
        target = list(per_axis(where, "target_shape", target_shape, n, 0))
        total = [e - t for e, t in zip(extent, target, strict=True)]
        pads = [max(0, (t + 1) // 2) for t in total]
    else:
        pads, more = g["pad"], per_axis(where, "adj", adj, n, 0)
        target = [e - 2 * p + a for e, p, a in zip(extent, pads, more, strict=True)]
    shape = to_given((x[0], w[1] * num_group, *target), last)
    y = f.convolution_data_grad(
        data,
        weight,
        shape=shape,
        stride=tuple(g["stride"]),
        pad=tuple(pads),
        dilate=tuple(g["dilate"]),
        num_group=num_group,
        layout=layout,
    )
    if bias is None or no_bias:
        return y
    return f.add(y, bias if last else f.reshape(bias, (-1, *(1,) * n)))
