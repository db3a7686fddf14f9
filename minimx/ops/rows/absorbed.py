"""Rows that only graph passes make: operators with their neighbours absorbed, and changes of layout.

Nobody calls them from Python and they have no gradient rows: passes make them after the gradient is traced
(minimx/graph/passes: norm.py, conv_stats.py, products.py, onto.py, layout.py). Each equals the operators it stands for.
"""

from __future__ import annotations

from ..arguments import as_shape
from ..kinds.kernel import kernel
from ..kinds.random import random
from ..table import OPS, Plan
from .conv import library
from .norm import batch_plan


@kernel(against="batch_norm_train, add, relu")
def batch_norm_relu(x, gamma, beta, z=None, /, eps=1e-5, axis=1, mask_bytes=0):
    """(y, mean, var, mask): y = relu(batch_norm(x) + z); mask has a bit for each positive element of y."""
    outs = [(x.shape, x.dtype), (gamma.shape, "float32"), (gamma.shape, "float32"), ((mask_bytes,), "uint8")]
    plan = batch_plan("batch_norm_fwd_train", x, axis, eps, outs)
    plan.attrs["relu"] = 1
    return plan


@kernel(against="batch_norm_train, add, relu")
def batch_norm_sums(x, gamma, beta, sum, squares, z=None, /, eps=1e-5, axis=1, relu=False, mask_bytes=0):
    """(y, mean, var[, mask]) of batch_norm_train, or of batch_norm_relu, from the sums that convolution_stats gives.

    mean = sum / n and var = max(0, squares / n - mean^2): a mean of k deviations costs 2 log10(k) of the seven digits
    that sums in float32 have. Behind a convolution without bias k is a few.
    """
    outs = [(x.shape, x.dtype), (gamma.shape, "float32"), (gamma.shape, "float32"), ((mask_bytes,), "uint8")]
    plan = batch_plan("batch_norm_fwd_sums", x, axis, eps, outs[: 3 + relu])
    plan.attrs["relu"] = int(relu)
    return plan


@kernel(against="sum, square")
def channel_sums(x, /, axis=1):
    """(sum, squares) of the elements of each channel and of their squares, float32, as convolution_stats gives them."""
    vector = ((x.shape[axis],), "float32")
    name, attrs = library("channel_sums", "", {}, axis % len(x.shape) == len(x.shape) - 1 and len(x.shape) > 2)
    return Plan([vector, vector], name, attrs)


@kernel(against="batch_norm_train, batch_norm_train, add, relu")
def batch_norm_pair(
    x, gamma, beta, sum, squares, x2, gamma2, beta2, sum2, squares2, /, eps=1e-5, eps2=1e-5, axis=1, mask_bytes=0
):
    """(y, mask, mean, var, mean2, var2): y = relu(norm of x + norm of x2), each as batch_norm_sums, in one pass."""
    vector = (gamma.shape, "float32")
    plan = batch_plan(
        "batch_norm_fwd_pair", x, axis, eps, [(x.shape, x.dtype), ((mask_bytes,), "uint8"), *[vector] * 4]
    )
    plan.attrs["eps2"] = float(eps2)
    return plan


@kernel(against="batch_norm_train, relu, max_pool")
def batch_norm_max_pool(
    x, gamma, beta, sum, squares, /, eps=1e-5, kernel=(), stride=None, pad=None, convention="valid", layout=None
):
    """(y, index, mean, var): max_pool of relu(batch norm of x), from sums as in batch_norm_sums. GPUs only.

    A window in which nothing is positive has no place, so that max_pool_grad gives the gradient behind the ReLU.
    """
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "convention": convention, "layout": layout}
    plan = OPS["max_pool"].plan([x], attrs)
    plan.outs = [*plan.outs, (gamma.shape, "float32"), (gamma.shape, "float32")]
    plan.casts = ()
    plan.attrs["eps"] = float(eps)
    if "kernel_name" in plan.attrs:
        plan.attrs["kernel_name"] = "batch_norm_pool"
    else:
        plan.kernel = "batch_norm_pool"
    return plan


@kernel(against="max_pool_grad, batch_norm_grad")
def batch_norm_max_pool_grad(
    x, dy, index, mean, var, gamma, /, eps=1e-5, kernel=(), stride=None, pad=None, layout=None
):
    """(dx, dgamma, dbeta) of batch_norm_max_pool. GPUs only, channels last."""
    attrs = {"shape": x.shape, "kernel": kernel, "stride": stride, "pad": pad, "layout": layout}
    plan = OPS["max_pool_grad"].plan([dy, index], attrs)
    plan.outs = [(x.shape, x.dtype), (gamma.shape, gamma.dtype), (gamma.shape, gamma.dtype)]
    plan.attrs |= {"kernel_name": "batch_norm_bwd_pool", "eps": float(eps)}
    return plan


@kernel(against="batch_norm_infer, add, relu")
def batch_norm_infer_relu(x, gamma, beta, mean, var, z=None, /, eps=1e-5, axis=1):
    """relu(batch_norm_infer(x) + z)."""
    plan = batch_plan("batch_norm_infer", x, axis, eps, [(x.shape, x.dtype)])
    plan.attrs["relu"] = 1
    return plan


@kernel(against="add, relu.grad0, batch_norm_grad")
def batch_norm_relu_grad(x, dy, mean, var, gamma, mask, more=None, /, eps=1e-5, axis=1, residual=False):
    """(dx, dgamma, dbeta[, dz]) of batch_norm_relu for dy + more; dz is that where y was positive, the gradient of z.

    The mask tells elements by where x lies in memory: x must be here as it was in the forward run. more: GPUs only.
    """
    outs = [(x.shape, x.dtype), (gamma.shape, gamma.dtype), (gamma.shape, gamma.dtype)]
    plan = batch_plan("batch_norm_bwd", x, axis, eps, outs + [(x.shape, x.dtype)] * residual)
    plan.attrs |= {"relu": 1, "global_stats": 0}
    return plan


@kernel(against="batch_norm_relu_grad, batch_norm_grad")
def batch_norm_pair_grad(
    x, dy, mean, var, gamma, mask, x2, mean2, var2, gamma2, more=None, /, eps=1e-5, eps2=1e-5, axis=1
):
    """(dx, dgamma, dbeta, dx2, dgamma2, dbeta2) of batch_norm_pair for dy + more, in two passes. GPUs only."""
    first, second = ((v.shape, v.dtype) for v in (gamma, gamma2))
    whole = (x.shape, x.dtype)
    plan = batch_plan("batch_norm_bwd", x, axis, eps, [whole, first, first, whole, second, second])
    plan.attrs |= {"relu": 1, "global_stats": 0, "eps2": float(eps2)}
    return plan


@kernel(against="convolution, add, relu")
def convolution_relu(
    data, weight, bias=None, residual=None, /, stride=None, dilate=None, pad=None, num_group=1, layout=None
):
    """max(convolution(data, weight, bias) + residual, 0). The bias may be float32 where the others have 16 bits."""
    attrs = {"stride": stride, "dilate": dilate, "pad": pad, "num_group": num_group, "layout": layout}
    plan = OPS["convolution"].plan([data, weight, bias], attrs)
    plan.attrs |= {"relu": 1, "residual": int(residual is not None)}
    return plan


@kernel(against="convolution, sum")
def convolution_stats(data, weight, /, stride=None, dilate=None, pad=None, num_group=1, layout=None):
    """(y, sum, squares): convolution(data, weight), and by channel the sums of its elements and of their squares.

    The sums are float32, of y before or after it is rounded to its type.
    """
    attrs = {"stride": stride, "dilate": dilate, "pad": pad, "num_group": num_group, "layout": layout}
    plan = OPS["convolution"].plan([data, weight, None], attrs)
    ((shape, _),) = plan.outs
    last = "kernel_name" in plan.attrs
    channels = (shape[-1 if last else 1],)
    plan.outs = [*plan.outs, (channels, "float32"), (channels, "float32")]
    plan.casts = plan.casts[:2]
    if last:
        plan.attrs["kernel_name"] = "conv_fwd_stats"
    else:
        plan.kernel = "conv_fwd_stats"
    return plan


@kernel(against="fully_connected, relu or gelu_tanh")
def fully_connected_act(x, weight, bias=None, /, act="relu", flatten=True):
    """The activation ("relu" or "gelu_tanh") of fully_connected(x, weight, bias)."""
    plan = OPS["fully_connected"].plan([x, weight, bias], {"flatten": flatten})
    plan.attrs["act"] = act
    return plan


@kernel(against="matmul, add, relu or gelu_tanh")
def matmul_act(a, b, bias=None, /, act=""):
    """The activation ("relu", "gelu_tanh" or none) of a b + bias: matrices or batches of them, bias (n,)."""
    plan = OPS["matmul"].plan([a, b], {})
    plan.attrs |= {"act": act} if act else {}
    plan.casts = [*plan.casts, plan.outs[0][1]]
    return plan


@kernel(against="matmul, add")
def matmul_onto(a, b, z, /):
    """z + a b: matrices or batches of them, z of the product's shape and type; may be made where z lies."""
    plan = OPS["matmul"].plan([a, b], {})
    plan.attrs["adds"] = 1
    plan.casts = [*plan.casts, plan.outs[0][1]]
    return plan


@kernel(against="matmul, sum")
def matmul_sums(a, b, z=None, /):
    """(c, sums) of matrices: c = a b, or z + a b, and sums[i] = sum over k of a[i, k], in a's type."""
    plan = OPS["matmul" if z is None else "matmul_onto"].plan([a, b] if z is None else [a, b, z], {})
    plan.outs = [*plan.outs, ((a.shape[0],), plan.outs[0][1])]
    return plan


@kernel(against="the same elements")
def reorder(x, /, layout=""):
    """The same array in another layout ("": C order); see csrc/cpu/dnnl_layout.h."""
    return Plan([(x.shape, x.dtype)], "reorder")


@random(against="the mask of dropout_train")
def dropout_mask(shape=(), p=0.5):
    """The mask of dropout_train for an array of ``shape``: 1 with probability 1 - p."""
    return Plan([(as_shape("dropout_mask", shape), "uint8")], "dropout", {"p": float(p)}, random=True)
