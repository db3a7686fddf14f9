"""Linear algebra on the host library, with the gradients that have a formula: inverse, solve, determinant, Cholesky,
eigh.

Gradients follow Giles 2008, "Collected matrix derivative results for forward and reverse mode".
"""

from __future__ import annotations

from ...errors import ArgumentError, NotSupported
from ..arguments import ordered_axes, size_of
from ..dtypes import FLOATS
from ..kinds.composite import composite
from ..kinds.host import host
from ..samples import case, drawn
from ..table import f

REAL = ("float32", "float64")


def transposed(x):
    """The last two axes swapped."""
    return f.swapaxes(x, -1, -2)


def with_matrix_axes(v):
    """A value for each matrix, with two axes of length 1 added."""
    return f.expand_dims(f.expand_dims(v, -1), -1)


def well_conditioned(dtype, rng):
    """Samples: symmetric positive definite matrices."""
    a = rng.uniform(-1, 1, (2, 3, 3))
    return [([(a @ a.swapaxes(1, 2) + 2 * _eye(rng)).astype(dtype)], {})]


def _eye(rng):
    return (rng.uniform(1, 1, (3, 3)).cumsum(0) == rng.uniform(1, 1, (3, 3)).cumsum(1)).astype("float64")


def inv_grad(gs, ins, outs, attrs, needs):
    y = transposed(outs[0])
    return [-f.matmul(f.matmul(y, gs[0]), y)]


@host(np="linalg.inv", grad=inv_grad, against="numpy.linalg.inv", samples=well_conditioned, dtypes=REAL)
def inv(xp, x, /):
    """Inverse of each matrix in the last two axes."""
    return xp.linalg.inv(x)


@host(
    np="linalg.det",
    against="numpy.linalg.det",
    samples=well_conditioned,
    dtypes=REAL,
    grad=lambda gs, ins, outs, attrs, needs: [with_matrix_axes(gs[0] * outs[0]) * transposed(f.inv(ins[0]))],
)
def det(xp, x, /):
    """Determinant of each matrix."""
    return xp.linalg.det(x)


@host(
    np="linalg.slogdet",
    against="numpy.linalg.slogdet",
    samples=well_conditioned,
    dtypes=REAL,
    grad=lambda gs, ins, outs, attrs, needs: [with_matrix_axes(gs[1]) * transposed(f.inv(ins[0]))],
)
def slogdet(xp, x, /):
    """(sign, log|det|) of each matrix."""
    return tuple(xp.linalg.slogdet(x))


def solve_grad(gs, ins, outs, attrs, needs):
    a, b = ins
    vector = b.ndim == a.ndim - 1
    g = f.expand_dims(gs[0], -1) if vector else gs[0]
    y = f.expand_dims(outs[0], -1) if vector else outs[0]
    gb = f.solve(transposed(a), g)
    ga = -f.matmul(gb, transposed(y))
    return [f.sum_to_like(ga, a), f.squeeze(gb, -1) if vector else f.sum_to_like(gb, b)]


@host(
    np="linalg.solve",
    grad=solve_grad,
    against="numpy.linalg.solve",
    dtypes=REAL,
    samples=lambda dtype, rng: [
        ([well_conditioned(dtype, rng)[0][0][0][0], rng.uniform(-1, 1, (3, 2)).astype(dtype)], {})
    ],
)
def solve(xp, a, b, /):
    """x with ``a x = b``; b holds columns, or one vector if it has one axis."""
    if b.ndim == a.ndim - 1:
        return xp.linalg.solve(a, b[..., None])[..., 0]
    return xp.linalg.solve(a, b)


def cholesky_grad(gs, ins, outs, attrs, needs):
    """Symmetrised L^-T phi(L^T g) L^-1, phi: lower triangle with half the diagonal (Murray 2016, arXiv:1602.07527)."""
    lower = f.swapaxes(outs[0], -1, -2) if attrs["upper"] else outs[0]
    g = transposed(gs[0]) if attrs["upper"] else gs[0]
    n = lower.shape[-1]
    half = f.tri(n, n, 0, lower.dtype) - f.eye(n, n, 0, lower.dtype) * 0.5
    phi = f.matmul(transposed(lower), g) * half
    back = f.inv(lower)
    s = f.matmul(f.matmul(transposed(back), phi), back)
    return [(s + transposed(s)) * 0.5]


@host(np="linalg.cholesky", grad=cholesky_grad, against="numpy.linalg.cholesky", samples=well_conditioned, dtypes=REAL)
def cholesky(xp, x, /, upper=False):
    """L with x = L L^T, lower triangular (or its transpose), of symmetric positive definite matrices."""
    y = xp.linalg.cholesky(x)
    return y.swapaxes(-1, -2) if upper else y


def eigh_grad(gs, ins, outs, attrs, needs):
    gw, gv = gs
    w, v = outs
    n = w.shape[-1]
    gap = f.expand_dims(w, -2) - f.expand_dims(w, -1)
    other = f.where(f.eye(n, n, 0, "bool"), 0.0, 1.0 / f.where(f.eye(n, n, 0, "bool"), 1.0, gap))
    inner = f.matmul(transposed(v), gv) * other + f.expand_dims(gw, -1) * f.eye(n, n, 0, w.dtype)
    return [f.matmul(f.matmul(v, inner), transposed(v))]


@host(np="linalg.eigh", grad=eigh_grad, against="numpy.linalg.eigh", dtypes=REAL)
def eigh(xp, x, /):
    """(eigenvalues in rising order, eigenvectors in columns) of symmetric matrices.

    >>> np.linalg.eigh(np.array([[2, 0], [0, 1]]))[0]
    array([1., 2.])
    """
    return tuple(xp.linalg.eigh(x))


@composite(np="linalg.eigvalsh", against="numpy.linalg.eigvalsh", samples=well_conditioned, dtypes=REAL)
def eigvalsh(x):
    """Eigenvalues of symmetric matrices, in rising order."""
    return f.eigh(x)[0]


@host(np="linalg.eig", against="numpy.linalg.eig", dtypes=REAL)
def eig(xp, x, /):
    """(eigenvalues, eigenvectors) of matrices whose eigenvalues are real; of others the real parts.

    >>> np.linalg.eig(np.array([[2, 1], [0, 1]]))[0]
    array([2., 1.])
    """
    w, v = xp.linalg.eig(x)
    return w.real.astype(x.dtype), v.real.astype(x.dtype)


@host(np="linalg.eigvals", against="numpy.linalg.eigvals", dtypes=REAL)
def eigvals(xp, x, /):
    """Eigenvalues of matrices; the real parts of complex ones.

    >>> np.sort(np.linalg.eigvals(np.array([[2, 1], [0, 1]])))
    array([1., 2.])
    """
    return xp.linalg.eigvals(x).real.astype(x.dtype)


def svd_grad(gs, ins, outs, attrs, needs):
    """Of thin factors, for distinct singular values (Wan and Zhang 2019, arXiv:1909.02659)."""
    if attrs["full_matrices"] or not attrs["compute_uv"]:
        rule = "full_matrices=False and compute_uv=True while recording"
        raise NotSupported("linalg.svd", rule, attrs, "Use svdvals for values alone")
    (gu, gs_, gvh), (u, s, vh) = gs, outs
    v, gv, k = transposed(vh), transposed(gvh), s.shape[-1]
    same, square = f.eye(k, k, 0, "bool"), f.square(s)
    gap = f.where(same, 1.0, f.expand_dims(square, -2) - f.expand_dims(square, -1))
    row, column = f.expand_dims(s, -2), f.expand_dims(s, -1)
    skew = lambda a: a - transposed(a)  # noqa: E731
    inner = skew(f.matmul(transposed(u), gu)) / gap * row + column * (skew(f.matmul(transposed(v), gv)) / gap)
    inner = inner + f.where(same, f.expand_dims(gs_, -1), 0.0)
    gx = f.matmul(f.matmul(u, inner), vh)
    if u.shape[-2] > k:
        gx = gx + f.matmul((gu - f.matmul(u, f.matmul(transposed(u), gu))) / row, vh)
    if v.shape[-2] > k:
        gx = gx + f.matmul(u, transposed((gv - f.matmul(v, f.matmul(vh, gv))) / row))
    return [gx]


def _apart(dtype, rng):
    """Samples: matrices whose singular values are well apart, tall and wide."""
    upper = [[3.0 * (j >= i) for j in range(3)] for i in range(4)]
    a = rng.uniform(-1, 1, (4, 3)) + upper
    return [([a.astype(dtype)], {}), ([a.T.astype(dtype)], {})]


@host(np="linalg.svd", grad=svd_grad, against="numpy.linalg.svd", dtypes=REAL)
def svd(xp, x, /, full_matrices=False, compute_uv=True):
    """(U, S, Vh) with x = U diag(S) Vh; S in falling order.

    >>> np.linalg.svd(np.array([[3, 0], [0, 4]]))[1]
    array([4., 3.])
    """
    made = xp.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)
    return tuple(made) if compute_uv else made


@composite(np="linalg.svdvals", against="numpy.linalg.svdvals", samples=_apart, dtypes=REAL)
def svdvals(x):
    """Singular values in falling order."""
    return f.svd(x)[1]


@host(np="linalg.qr", against="numpy.linalg.qr", dtypes=REAL)
def qr(xp, x, /, mode="reduced"):
    """(Q, R) with orthonormal Q and upper triangular R.

    >>> np.linalg.qr(np.ones((3, 2)))[1].shape
    (2, 2)
    """
    return tuple(xp.linalg.qr(x, mode))


def pinv_grad(gs, ins, outs, attrs, needs):
    """Golub and Pereyra 1973: where the rank does not change."""
    a, p, g = ins[0], outs[0], gs[0]
    gt, pt = transposed(g), transposed(p)
    one = f.matmul(gt, f.matmul(p, pt))
    two = f.matmul(f.matmul(pt, p), gt)
    return [one - f.matmul(a, f.matmul(p, one)) + two - f.matmul(f.matmul(two, p), a) - f.matmul(f.matmul(pt, g), pt)]


@host(np="linalg.pinv", grad=pinv_grad, against="numpy.linalg.pinv", samples=_apart, dtypes=REAL)
def pinv(xp, x, /, rcond=1e-15, hermitian=False):
    """Moore-Penrose inverse."""
    return xp.linalg.pinv(x, rcond, hermitian)


@host(np="linalg.matrix_rank", against="numpy.linalg.matrix_rank", samples=drawn(case((3, 2))), dtypes=REAL)
def matrix_rank(xp, x, /, tol=None, hermitian=False):
    """Number of singular values above ``tol``."""
    return xp.asarray(xp.linalg.matrix_rank(x, tol, hermitian))


@host(np="linalg.lstsq", against="numpy.linalg.lstsq", dynamic=True, dtypes=REAL)
def lstsq(xp, a, b, /, rcond="warn"):
    """(x, residuals, rank, singular values) of the least squares problem a x = b.

    >>> np.linalg.lstsq(np.array([[1, 0], [1, 1], [1, 2]]), np.array([1, 3, 5]))[0]
    array([1., 2.])
    """
    x, residuals, rank, s = xp.linalg.lstsq(a, b, rcond=None if rcond == "warn" else rcond)
    return x, residuals, xp.asarray(rank), s


@composite(np="linalg.tensorinv", against="numpy.linalg.tensorinv", dtypes=REAL, samples=drawn(case((2, 3, 6), ind=2)))
def tensorinv(a, ind=2):
    """Inverse for tensordot over ``ind`` axes."""
    n = size_of(a.shape[ind:])
    return f.reshape(f.inv(f.reshape(a, (size_of(a.shape[:ind]), n))), a.shape[ind:] + a.shape[:ind])


@composite(np="linalg.tensorsolve", against="numpy.linalg.tensorsolve", dtypes=REAL,
           samples=drawn(case((2, 3, 6), (2, 3)), case((2, 6, 3), (2, 3), axes=(1,))))  # fmt: skip
def tensorsolve(a, b, axes=None):
    """x with tensordot(a, x, x.ndim) = b; ``axes`` of ``a`` go to the end first."""
    if axes is not None:
        a = f.moveaxis(a, tuple(axes), tuple(range(a.ndim - len(axes), a.ndim)))
    shape = a.shape[b.ndim :]
    return f.reshape(f.solve(f.reshape(a, (b.size, size_of(shape))), f.reshape(b, (-1,))), shape)


# --- norms and names that NumPy has twice ----------------------------------------------------------------------------


@composite(
    np="linalg.vector_norm",
    against="numpy.linalg.vector_norm",
    samples=drawn(case((3, 4)), case((3, 4), axis=1, ord=1), case((3, 4), axis=0, keepdims=True, ord=float("inf"))),
)
def vector_norm(x, axis=None, keepdims=False, ord=2):
    """(sum |x|^ord)^(1/ord) over ``axis``; for infinity the largest |x|, for 0 the number of elements that are not
    0."""
    if ord == 2:
        return f.sqrt(f.sum(f.square(x), axis=axis, keepdims=keepdims))
    if ord in (float("inf"), -float("inf")):
        return (f.max if ord > 0 else f.min)(f.abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return f.sum(f.cast(f.not_equal(x, 0), x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return f.sum(f.abs(x), axis=axis, keepdims=keepdims)
    return f.power(f.sum(f.power(f.abs(x), ord), axis=axis, keepdims=keepdims), 1.0 / ord)


@composite(
    np="linalg.matrix_norm",
    against="numpy.linalg.matrix_norm",
    samples=drawn(case((3, 4)), case((3, 4), ord=1), case((3, 4), ord=float("inf"))),
)
def matrix_norm(x, keepdims=False, ord="fro", axis=(-2, -1)):
    """Frobenius ("fro"), nuclear ("nuc"), spectral (2, -2) or largest absolute column (1) or row (inf) sum."""
    rows, columns = ordered_axes("linalg.matrix_norm", axis, x.ndim)
    if ord == "fro":
        return f.sqrt(f.sum(f.square(x), axis=(rows, columns), keepdims=keepdims))
    if ord in (1, -1, float("inf"), -float("inf")):
        inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
        totals = f.sum(f.abs(x), axis=inner, keepdims=True)
        y = (f.max if ord > 0 else f.min)(totals, axis=outer, keepdims=True)
        return y if keepdims else f.squeeze(y, (rows, columns))
    if ord not in (2, -2, "nuc"):
        raise ArgumentError("linalg.matrix_norm", "ord fro, nuc, 1, -1, 2, -2, inf or -inf", ord, "Use one of them")
    s = f.svdvals(f.moveaxis(x, (rows, columns), (-2, -1)))
    y = f.sum(s, axis=-1) if ord == "nuc" else (f.max if ord == 2 else f.min)(s, axis=-1)
    if not keepdims:
        return y
    return f.expand_dims(y, tuple(sorted((rows, columns))))


@composite(
    np="linalg.norm",
    against="numpy.linalg.norm",
    samples=drawn(case((3, 4)), case((3, 4), axis=1), case((3, 4), ord=1), case((2, 3, 4), axis=(0, 2), keepdims=True)),
)
def linalg_norm(x, ord=None, axis=None, keepdims=False):
    """Norm of a vector (one axis) or matrix (two axes); without ord and axis of all elements.

    >>> np.linalg.norm(np.array([3, 4]))
    array(5.)
    """
    axes = None if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if ord is None:
        return f.sqrt(f.sum(f.square(x), axis=axes, keepdims=keepdims))
    if axes is None:
        axes = tuple(range(x.ndim))
    return (
        matrix_norm(x, keepdims, ord, axes)
        if len(axes) == 2
        else vector_norm(x, axes[0] if len(axes) == 1 else axes, keepdims, ord)
    )


@composite(
    name="norm",
    nd="norm",
    method="norm",
    against="numpy.linalg.norm",
    samples=drawn(case((3, 4)), case((3, 4), axis=1)),
)
def norm(data, ord=2, axis=None, keepdims=False):
    """Gluon 1's norm: of order 1 or 2 over any axes."""
    return vector_norm(data, axis, keepdims, ord)


@composite(np="linalg.matrix_transpose", against=lambda x: x.swapaxes(-1, -2), samples=drawn(case((2, 3))))
def matrix_transpose(x):
    """The last two axes swapped."""
    return f.swapaxes(x, -1, -2)


@composite(np="linalg.vecdot vecdot", against="numpy: sum of products over an axis")
def vecdot(x1, x2, axis=-1):
    """Sum of products over ``axis``.

    >>> np.vecdot(np.array([[1, 2], [3, 4]]), np.array([1, 1]))
    array([3., 7.])
    """
    return f.sum(f.multiply(x1, x2), axis=axis)


@composite(
    np="cross linalg.cross", against="numpy.cross", dtypes=(*FLOATS, "int32"), samples=drawn(case((4, 3), (4, 3)))
)
def cross(a, b, axis=-1):
    """Vector product of 3-vectors along ``axis``."""
    turn = lambda x, k: f.roll(x, -k, axis)  # noqa: E731
    return f.subtract(f.multiply(turn(a, 1), turn(b, 2)), f.multiply(turn(a, 2), turn(b, 1)))


MATRICES = drawn(case((3, 4)), case((2, 3, 4), offset=1), case((2, 3, 3), offset=-1))


@composite(name="linalg_diagonal", np="linalg.diagonal", against="numpy.linalg.diagonal", samples=MATRICES)
def linalg_diagonal(x, offset=0):
    """Elements (i, i + offset) of each matrix in the last two axes."""
    return f.diagonal(x, offset, -2, -1)


@composite(name="linalg_trace", np="linalg.trace", against="numpy.linalg.trace", samples=MATRICES)
def linalg_trace(x, offset=0):
    """Sum of the diagonal of each matrix in the last two axes."""
    return f.trace(x, offset, -2, -1)
