"""Rows that only graph passes make: operators with their neighbours absorbed, and changes of layout.

Nobody calls them from Python and they have no gradient rows: passes make them after the gradient is traced
(minimx/graph/passes/norm.py and layout.py). Each equals the operators it stands for.
"""

from __future__ import annotations

from ..kinds.kernel import kernel
from ..table import OPS, Plan


@kernel(against="batch_norm_train, add, relu")
def batch_norm_relu(x, gamma, beta, z=None, /, eps=1e-5, mask_bytes=0):
    """(y, mean, var, mask): y = relu(batch_norm(x) + z); mask has a bit for each positive element of y."""
    outs = [(x.shape, x.dtype), (gamma.shape, "float32"), (gamma.shape, "float32"), ((mask_bytes,), "uint8")]
    return Plan(outs, "batch_norm_fwd_train", {"eps": float(eps), "relu": 1})


@kernel(against="relu.grad0, batch_norm_grad")
def batch_norm_relu_grad(x, dy, mean, var, gamma, mask, /, eps=1e-5, residual=False):
    """(dx, dgamma, dbeta[, dz]) of batch_norm_relu; dz is dy where y was positive, the gradient of z."""
    outs = [(x.shape, x.dtype), (gamma.shape, gamma.dtype), (gamma.shape, gamma.dtype)]
    return Plan(
        outs + [(x.shape, x.dtype)] * residual, "batch_norm_bwd", {"eps": float(eps), "relu": 1, "global_stats": 0}
    )


@kernel(against="convolution, relu")
def convolution_relu(data, weight, bias=None, /, stride=None, dilate=None, pad=None, num_group=1, layout=None):
    """max(convolution(data, weight, bias), 0)."""
    attrs = {"stride": stride, "dilate": dilate, "pad": pad, "num_group": num_group, "layout": layout}
    plan = OPS["convolution"].plan([data, weight, bias], attrs)
    plan.attrs["relu"] = 1
    return plan


@kernel(against="the same elements")
def reorder(x, /, layout=""):
    """The same array in another layout ("": C order); see csrc/cpu/dnnl_layout.h."""
    return Plan([(x.shape, x.dtype)], "reorder")
