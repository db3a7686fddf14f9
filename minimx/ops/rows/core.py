"""The operators that the runtime itself calls: copy, cast, stop_gradient (csrc/runtime/invoke.h, CoreOps)."""

from __future__ import annotations

from ..arguments import as_dtype
from ..dtypes import is_float
from ..kinds.kernel import kernel
from ..kinds.view import view
from ..samples import case, drawn
from ..table import Plan, f


@kernel(
    np="copy",
    nd="identity",
    method="copy",
    grad=lambda gs, ins, outs, attrs, needs: [gs[0]],
    against="numpy.copy",
    samples=drawn(case((2, 3))),
)
def copy(x, /):
    """The same elements in memory of their own, in C order."""
    return Plan([(x.shape, x.dtype)], "cast", casts=[x.dtype])


def cast_grad(gs, ins, outs, attrs, needs):
    return [f.cast(gs[0], ins[0].dtype) if is_float(attrs["dtype"]) else None]


@kernel(
    nd="cast Cast",
    npx="cast",
    grad=cast_grad,
    against=lambda x, dtype: x.astype(dtype),
    samples=drawn(case((2, 3), dtype="float64")),
)
def cast(x, /, dtype="float32"):
    """The elements converted to ``dtype``, as NumPy's astype does it."""
    return Plan([(x.shape, as_dtype("cast", dtype))], "cast")


@view(
    npx="stop_gradient",
    nd="stop_gradient BlockGrad",
    grad=lambda gs, ins, outs, attrs, needs: [None],
    against=lambda x: x,
    samples=drawn(case((2, 3))),
)
def stop_gradient(x, /):
    """The same elements; no gradient passes."""
    return Plan([(x.shape, x.dtype)], view=(x.strides, 0))
