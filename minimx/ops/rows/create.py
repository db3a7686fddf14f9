"""Arrays from nothing: zeros, full, arange, linspace, eye and what is made of them. Types default to float32.

The device of the result is the runtime's business (``device=`` of the public functions).
"""

from __future__ import annotations

import math

from ...errors import ArgumentError
from ..arguments import as_dtype, as_shape
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, f


def filled(where, shape, dtype, value):
    """The plan of an array of one value known to the rule."""
    return Plan([(as_shape(where, shape), as_dtype(where, dtype))], "fill", {"value": float(value)})


@kernel(np="zeros", nd="zeros", against="numpy.zeros", samples=drawn(case(shape=(2, 3)), case(shape=3, dtype="int64")))
def zeros(shape=(), dtype=None, order="C"):
    """Zeros.

    >>> np.zeros((2, 2))
    array([[0., 0.],
           [0., 0.]])
    """
    return filled("zeros", shape, dtype, 0)


@kernel(np="ones", nd="ones", against="numpy.ones", samples=drawn(case(shape=(2, 3)), case(shape=3, dtype="bool")))
def ones(shape=(), dtype=None, order="C"):
    """Ones.

    >>> np.ones(2, dtype="int32")
    array([1, 1], dtype=int32)
    """
    return filled("ones", shape, dtype, 1)


@kernel(np="empty", nd="empty")
def empty(shape=(), dtype=None, order="C"):
    """Memory as it is found: the values mean nothing."""
    return Plan([(as_shape("empty", shape), as_dtype("empty", dtype))], "nothing")


@kernel(grad=lambda gs, ins, outs, attrs, needs: [f.sum_to_like(gs[0], ins[0])])
def filled_with(value, /, shape=(), dtype=None):
    """``value`` (a scalar or an array that broadcasts) in every element of ``shape``."""
    kind = value.dtype if not value.weak or value.dtype == "bool" else "float32"
    d = as_dtype("full", dtype, kind)
    return Plan([(as_shape("full", shape), d)], "fill_with", {}, [d])


@composite(np="full", nd="full", against="numpy.full", samples=drawn(case(shape=(2, 3), fill_value=1.5)))
def full(shape, fill_value, dtype=None, order="C"):
    """``fill_value`` everywhere.

    >>> np.full((2, 2), 7)
    array([[7., 7.],
           [7., 7.]])
    """
    return f.filled_with(fill_value, shape, dtype)


def _like(x, dtype, shape=None):
    return (x.shape if shape is None else shape), as_dtype("like", dtype, as_dtype("like", x.dtype))


@kernel(np="zeros_like", nd="zeros_like", against="numpy.zeros_like", samples=drawn(case((2, 3))))
def zeros_like(x, /, dtype=None, order="C"):
    """Zeros of x's shape and type.

    >>> np.zeros_like(np.array([1, 2]))
    array([0., 0.])
    """
    return filled("zeros_like", x.shape, dtype or x.dtype, 0)


@kernel(np="ones_like", nd="ones_like", against="numpy.ones_like", samples=drawn(case((2, 3))))
def ones_like(x, /, dtype=None, order="C"):
    """Ones of x's shape and type.

    >>> np.ones_like(np.array([1, 2]))
    array([1., 1.])
    """
    return filled("ones_like", x.shape, dtype or x.dtype, 1)


@composite(np="empty_like", against="numpy.empty_like")
def empty_like(prototype, dtype=None, order="C"):
    """Uninitialised memory of the prototype's shape and type."""
    return f.empty(*_like(prototype, dtype))


@composite(np="full_like", nd="full_like", against="numpy.full_like", samples=drawn(case((2, 3), 2)))
def full_like(a, fill_value, dtype=None, order="C"):
    """``fill_value`` in a's shape and type."""
    return f.filled_with(fill_value, *_like(a, dtype))


@kernel(
    np="arange",
    nd="arange",
    against="numpy.arange",
    samples=drawn(case(start=5), case(start=1, stop=7, step=2), case(start=3, stop=0, step=-0.5)),
    errors=[(((), {"start": 0, "stop": 3, "step": 0}), ArgumentError)],
)
def arange(start=0, stop=None, step=1, dtype=None):
    """start, start + step, ... up to but without ``stop``; one argument alone is ``stop``. float32 unless told
    otherwise.

    >>> np.arange(1, 7, 2)
    array([1., 3., 5.])
    """
    if step == 0:
        raise ArgumentError("arange", "a step that is not 0", step, "Use full for a constant")
    if stop is None:
        start, stop = 0, start
    n = max(0, math.ceil((stop - start) / step))
    return Plan([((n,), as_dtype("arange", dtype))], "iota", _iota(start, step))


def _iota(start, step):
    """Attributes of the kernel: start + i * step, in integers where both are (exact to 64 bits)."""
    kind = int if isinstance(start, int) and isinstance(step, int) else float
    return {"start": kind(start), "step": kind(step)}


@composite(np="linspace", against="numpy.linspace", samples=drawn(case(0, 1, 5), case(2, 3, 4, endpoint=False)))
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """``num`` evenly spaced numbers from ``start`` to ``stop``, which is the last one if ``endpoint``.

    >>> np.linspace(0, 1, 5)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    step = (stop - start) / max(num - 1 if endpoint else num, 1)
    y = f.spaced(float(start), float(step), num, dtype)
    return (y, step) if retstep else y


@kernel(against="numpy.arange")
def spaced(start=0.0, step=1.0, num=0, dtype=None):
    """start + i * step for i below ``num``."""
    if num < 0:
        raise ArgumentError("linspace", "num of at least 0", num, "Ask for a number of points")
    return Plan([((num,), as_dtype("linspace", dtype))], "iota", _iota(start, step))


@composite(np="logspace", against="numpy.logspace", samples=drawn(case(0, 2, 5)))
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    """``base`` to the powers that linspace gives."""
    y = f.power(base, linspace(start, stop, num, endpoint))
    return y if dtype is None else f.cast(y, as_dtype("logspace", dtype))


@composite(npx="arange_like", nd="contrib_arange_like", against="numpy.arange")
def arange_like(data, start=0.0, step=1.0, repeat=1, ctx=None, axis=None):
    """start + step * i, as long as an axis of ``data``, or in its shape if ``axis`` is None.

    >>> npx.arange_like(np.ones((2, 3)), axis=1)
    array([0., 1., 2.])
    """
    n = data.size if axis is None else data.shape[axis]
    y = f.spaced(float(start), float(step), -(-n // repeat), as_dtype("arange_like", data.dtype))
    if repeat > 1:
        y = f.getitem(f.repeat(y, repeat), ((0, n, None),))
    return f.reshape(y, data.shape) if axis is None else y


@kernel(np="eye", nd="eye", against="numpy.eye", samples=drawn(case(N=3), case(N=3, M=4, k=1), case(N=3, M=2, k=-1)))
def eye(N=0, M=None, k=0, dtype=None):
    """Ones on the diagonal k of an (N, M) matrix, zeros elsewhere.

    >>> np.eye(2)
    array([[1., 0.],
           [0., 1.]])
    """
    return Plan([((N, N if M is None else M), as_dtype("eye", dtype))], "band", {"low": k, "high": k})


@composite(np="identity", against="numpy.identity", samples=drawn(case(3)))
def identity(n, dtype=None):
    """The identity matrix."""
    return f.eye(n, n, 0, dtype)


WIDE = 1 << 40  # further than any diagonal


@kernel(np="tri", against="numpy.tri", samples=drawn(case(N=3), case(N=3, M=4, k=1)))
def tri(N=0, M=None, k=0, dtype=None):
    """Ones on and below the diagonal k of an (N, M) matrix."""
    return Plan([((N, N if M is None else M), as_dtype("tri", dtype))], "band", {"low": -WIDE, "high": k})


@composite(np="tril", against="numpy.tril", samples=drawn(case((3, 4)), case((2, 3, 3), k=-1)))
def tril(m, k=0):
    """``m`` with zeros above the diagonal k."""
    return f.where(f.tri(m.shape[-2], m.shape[-1], k, "bool"), m, 0)


@composite(np="triu", against="numpy.triu", samples=drawn(case((3, 4)), case((2, 3, 3), k=1)))
def triu(m, k=0):
    """``m`` with zeros below the diagonal k."""
    return f.where(f.tri(m.shape[-2], m.shape[-1], k - 1, "bool"), 0, m)


@composite(np="diag", nd="diag", against="numpy.diag", samples=drawn(case((3,)), case((3, 4), k=1), case((2,), k=-1)))
def diag(v, k=0):
    """The diagonal k of a matrix, or the matrix with a vector on that diagonal."""
    if v.ndim == 2:
        return f.diagonal(v, k)
    n = v.shape[0] + abs(k)
    return f.reshape(f.paste(v, None, (n * n,), (k if k >= 0 else -k * n,), (n + 1,)), (n, n))


@composite(np="diagflat", against="numpy.diagflat", samples=drawn(case((2, 2))))
def diagflat(v, k=0):
    """The matrix with the elements of ``v`` on the diagonal k."""
    return f.diag(f.reshape(v, (-1,)), k)


@composite(np="meshgrid", against="numpy.meshgrid", samples=drawn(case((3,), (2,)), case((3,), (2,), indexing="ij")))
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    """Coordinate matrices of coordinate vectors, Cartesian ("xy") or matrix ("ij") order.

    >>> np.meshgrid(np.arange(2), np.arange(3))[0]
    array([[0., 1.],
           [0., 1.],
           [0., 1.]])
    """
    n = len(xi)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shape = [0] * n
    for i, x in enumerate(xi):
        shape[order[i]] = x.size
    grids = [f.reshape(x, tuple(x.size if j == order[i] else 1 for j in range(n))) for i, x in enumerate(xi)]
    return grids if sparse else [f.broadcast_to(g, tuple(shape)) for g in grids]


@composite(np="indices", against="numpy.indices", samples=drawn(case(dimensions=(2, 3))))
def indices(dimensions, dtype="int64", ctx=None):
    """Array of shape (n, *dimensions): the index along each axis."""
    grids = meshgrid(*(f.arange(0, d, 1, dtype) for d in dimensions), indexing="ij")
    return f.stack(grids, 0)


@composite(np="tril_indices", against="numpy.tril_indices")
def tril_indices(n, k=0, m=None):
    """Row and column numbers of the lower triangle.

    >>> np.tril_indices(2)
    (array([0, 1, 1], dtype=int64), array([0, 0, 1], dtype=int64))
    """
    return _where_known(n, m, lambda i, j: j - i <= k)


@composite(np="triu_indices", against="numpy.triu_indices")
def triu_indices(n, k=0, m=None):
    """Row and column numbers of the upper triangle.

    >>> np.triu_indices(2)
    (array([0, 0, 1], dtype=int64), array([0, 1, 1], dtype=int64))
    """
    return _where_known(n, m, lambda i, j: j - i >= k)


def _where_known(n, m, rule):
    pairs = [(i, j) for i in range(n) for j in range(m or n) if rule(i, j)]
    made = f.take_static(
        f.arange(0, max(n, m or n), 1, "int64"), 0, tuple(i for p in zip(*pairs, strict=True) for i in p)
    )
    return tuple(pieces for pieces in f.split(made, 2))
