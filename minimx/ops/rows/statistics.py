"""Statistics and comparisons made of reductions: var, std, average, median, histogram, differences, closeness, nan
forms."""

from __future__ import annotations

from ...errors import ArgumentError
from ..arguments import as_dtype, normal_axis, size_of
from ..dtypes import NUMBERS
from ..kinds.composite import composite
from ..kinds.host import host
from ..samples import Ints, Positive, case, drawn
from ..table import f, normal_axes

# --- moments ---------------------------------------------------------------------------------------------------------


def counted(x, axis):
    """Number of elements that a reduction over ``axis`` takes in."""
    return size_of([x.shape[a] for a in normal_axes("var", axis, x.ndim)])


@composite(
    np="var",
    method="var",
    against="numpy.var",
    samples=drawn(case((3, 4)), case((3, 4), axis=1, ddof=1, keepdims=True)),
)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    """Mean square distance from the mean, with n - ddof for n.

    >>> np.var(np.array([1, 3]))
    array(1.)
    """
    a = a if dtype is None else f.cast(a, as_dtype("var", dtype))
    distance = f.subtract(a, f.mean(a, axis=axis, keepdims=True))
    total = f.sum(f.square(distance), axis=axis, keepdims=keepdims)
    return _into(out, f.divide(total, max(counted(a, axis) - ddof, 0)))


def _into(out, y):
    return y if out is None else f.copy(y, out=out)


@composite(np="std", method="std", against="numpy.std", samples=drawn(case((3, 4)), case((3, 4), axis=1, ddof=1)))
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False):
    """Square root of the variance.

    >>> np.std(np.array([1, 3]))
    array(1.)
    """
    return _into(out, f.sqrt(var(a, axis, dtype, None, ddof, keepdims)))


@composite(np="average", against="numpy.average", dtypes=NUMBERS, samples=drawn(case((3, 4)), case((3, 4), axis=1)))
def average(a, axis=None, weights=None, returned=False, out=None):
    """Mean with weights, of a's shape or along ``axis``."""
    if weights is None:
        y = f.mean(a, axis=axis)
        total = f.full_like(y, counted(a, axis))
    else:
        if weights.shape != a.shape:
            weights = f.reshape(weights, tuple(-1 if i == axis % a.ndim else 1 for i in range(a.ndim)))
            weights = f.broadcast_to(weights, a.shape)
        total = f.sum(weights, axis=axis)
        y = f.divide(f.sum(f.multiply(a, weights), axis=axis), total)
    return (y, total) if returned else _into(out, y)


@composite(nd="moments", npx="moments", against="numpy.mean, numpy.var")
def moments(data, axes=None, keepdims=False):
    """(mean, variance).

    >>> npx.moments(np.array([1, 3]), axes=0)
    (array(2.), array(1.))
    """
    return f.mean(data, axis=axes, keepdims=keepdims), var(data, axes, None, None, 0, keepdims)


@composite(np="ptp", against="numpy.ptp", dtypes=NUMBERS, samples=drawn(case((3, 4)), case((3, 4), axis=0)))
def ptp(a, axis=None, keepdims=False):
    """Largest minus smallest."""
    return f.subtract(f.max(a, axis=axis, keepdims=keepdims), f.min(a, axis=axis, keepdims=keepdims))


@composite(
    np="logsumexp",
    npx="logsumexp",
    against="scipy.special.logsumexp",
    samples=drawn(case((3, 4)), case((3, 4), axis=1)),
)
def logsumexp(a, axis=None, keepdims=False):
    """log(sum(exp(a))), without overflow."""
    top = f.stop_gradient(f.max(a, axis=axis, keepdims=True))
    top = f.where(f.isfinite(top), top, 0.0)
    y = f.add(f.log(f.sum(f.exp(f.subtract(a, top)), axis=axis, keepdims=True)), top)
    return y if keepdims else f.squeeze(y, axis if axis is None else normal_axes("logsumexp", axis, a.ndim))


@composite(np="cov", against="numpy.cov", dtypes=NUMBERS, samples=drawn(case((3, 5))))
def cov(m, rowvar=True, bias=False, ddof=None):
    """Covariance of variables in rows (or columns)."""
    x = m if rowvar else f.transpose(m)
    x = f.subtract(x, f.mean(x, axis=1, keepdims=True))
    n = x.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    return f.divide(f.matmul(x, f.transpose(x)), n)


# --- order statistics ------------------------------------------------------------------------------------------------

METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _between(x, at, method):
    """The sorted last axis of x at the real position ``at``."""
    low = int(at)
    high = min(low + (at > low), x.shape[-1] - 1)
    share = at - low
    if method == "nearest":
        low = high = low + (share > 0.5 or (share == 0.5 and low % 2))
    a, b = f.getitem(x, (Ellipsis, low)), f.getitem(x, (Ellipsis, high))
    if method == "lower" or low == high:
        return a
    if method == "higher":
        return b
    share = 0.5 if method == "midpoint" else share
    return f.add(f.multiply(a, 1 - share), f.multiply(b, share))


@composite(
    np="quantile",
    against="numpy.quantile",
    dtypes=NUMBERS,
    samples=drawn(case((3, 7), q=0.3), case((3, 7), q=(0.25, 0.5), axis=1)),
)
def quantile(a, q, axis=None, out=None, interpolation="linear", method=None, keepdims=False):
    """The value below which a share ``q`` of the elements lies; q is a number or a list, known when the call is
    made."""
    method = method or interpolation
    shares = q.tolist() if hasattr(q, "tolist") else q
    single = isinstance(shares, (int, float))
    shares = [shares] if single else list(shares)
    if method not in METHODS or any(not 0 <= s <= 1 for s in shares):
        raise ArgumentError("quantile", "q in [0, 1] and method " + ", ".join(METHODS), f"{q}, {method}", "Check them")
    axes = normal_axes("quantile", axis, a.ndim)
    rest = tuple(i for i in range(a.ndim) if i not in axes)
    kept = tuple(a.shape[i] for i in rest)
    rows = f.sort(f.reshape(f.transpose(a, rest + axes), (*kept, counted(a, axis))))
    made = [_between(rows, s * (rows.shape[-1] - 1), method) for s in shares]
    if keepdims:
        made = [f.expand_dims(m, axes) for m in made]
    return _into(out, made[0] if single else f.stack(made, 0))


@composite(np="percentile", against="numpy.percentile", dtypes=NUMBERS, samples=drawn(case((3, 7), q=30)))
def percentile(a, q, axis=None, out=None, interpolation="linear", method=None, keepdims=False):
    """quantile with q in percent."""
    q = q.tolist() if hasattr(q, "tolist") else q
    return quantile(
        a, q / 100 if isinstance(q, (int, float)) else [v / 100 for v in q], axis, out, interpolation, method, keepdims
    )


@composite(
    np="median",
    against="numpy.median",
    dtypes=NUMBERS,
    samples=drawn(case((3, 7)), case((3, 4), axis=1, keepdims=True)),
)
def median(a, axis=None, out=None, keepdims=False):
    """The middle value, or the mean of the two middle ones."""
    return quantile(a, 0.5, axis, out, "linear", None, keepdims)


# --- differences and polynomials -------------------------------------------------------------------------------------


@composite(np="diff", against="numpy.diff", dtypes=NUMBERS, samples=drawn(case((3, 5)), case((3, 5), n=2, axis=0)))
def diff(a, n=1, axis=-1):
    """a[i + 1] - a[i] along ``axis``, n times."""
    whole = ((None, None, None),) * normal_axis("diff", axis, a.ndim)
    for _ in range(n):
        a = f.subtract(f.getitem(a, (*whole, (1, None, None))), f.getitem(a, (*whole, (None, -1, None))))
    return a


@composite(np="ediff1d", against="numpy.ediff1d", dtypes=NUMBERS, samples=drawn(case((3, 5))))
def ediff1d(ary, to_end=None, to_begin=None):
    """Differences of the flattened array, with values put before and after."""
    parts = [p if p is None or hasattr(p, "shape") else f.full((1,), p, ary.dtype) for p in (to_begin, to_end)]
    y = [parts[0], diff(f.reshape(ary, (-1,))), parts[1]]
    y = [f.reshape(p, (-1,)) for p in y if p is not None]
    return y[0] if len(y) == 1 else f.concatenate(y, 0)


@composite(np="polyval", against="numpy.polyval", samples=drawn(case((3,), (4,))))
def polyval(p, x):
    """Polynomial with coefficients ``p``, the highest power first, by Horner's rule."""
    y = f.zeros_like(x)
    for i in range(p.shape[0]):
        y = f.add(f.multiply(y, x), f.getitem(p, (i,)))
    return y


@host(np="interp", against="numpy.interp", samples=drawn(case((5,), Positive((3,)), (3,))))
def interp(xp, x, grid, values, /, left=None, right=None, period=None):
    """Linear interpolation at ``x`` between points (grid, values); grid rises."""
    return xp.interp(x, grid, values, left, right, period).astype(x.dtype)


# --- comparisons -----------------------------------------------------------------------------------------------------


@composite(np="isclose", against="numpy.isclose", samples=drawn(case((3,), (3,))))
def isclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """|a - b| <= atol + rtol |b|, element by element."""
    near = f.less_equal(f.abs(f.subtract(a, b)), f.add(f.multiply(f.abs(b), rtol), atol))
    near = f.logical_or(f.equal(a, b), f.logical_and(near, f.isfinite(b)))
    return f.logical_or(near, f.logical_and(f.isnan(a), f.isnan(b))) if equal_nan else near


@composite(np="allclose", against="numpy.allclose")
def allclose(a, b, rtol=1e-5, atol=1e-8, equal_nan=False):
    """True where all elements are close; an array of shape ().

    >>> np.allclose(np.array([1, 2]), np.array([1, 2.001]), rtol=0.01)
    array(True)
    """
    return f.all(isclose(a, b, rtol, atol, equal_nan))


@composite(np="array_equal", against="numpy.array_equal")
def array_equal(a1, a2):
    """True if shapes and all elements agree.

    >>> np.array_equal(np.array([1, 2]), np.array([1, 2]))
    True
    """
    return bool(f.all(f.equal(a1, a2))) if a1.shape == a2.shape else False


# --- forms that skip NaN ---------------------------------------------------------------------------------------------


def _skipping(name, fill, reduce):
    def function(a, axis=None, dtype=None, out=None, keepdims=False):
        a = a if dtype is None else f.cast(a, as_dtype(name, dtype))
        return _into(out, getattr(f, reduce)(f.where(f.isnan(a), fill, a), axis=axis, keepdims=keepdims))

    composite(
        name=name,
        np=name,
        against=f"numpy.{name}",
        samples=drawn(case((3, 4)), case((3, 4), axis=1)),
        doc=f"{reduce} over the elements that are not NaN.",
    )(function)


_skipping("nanmax", -float("inf"), "max")
_skipping("nanmin", float("inf"), "min")


@composite(np="nanmean", against="numpy.nanmean", dtypes=NUMBERS, samples=drawn(case((3, 4))))
def nanmean(a, axis=None, dtype=None, out=None, keepdims=False):
    """Mean of the elements that are not NaN."""
    missing = f.isnan(a)
    n = f.sum(f.cast(f.logical_not(missing), a.dtype), axis=axis, keepdims=keepdims)
    return _into(out, f.divide(f.sum(f.where(missing, 0.0, a), axis=axis, keepdims=keepdims), n))


# --- shapes that depend on the data, and counting --------------------------------------------------------------------


@host(np="nonzero", method="nonzero", dynamic=True, against="numpy.nonzero")
def nonzero(xp, x, /):
    """Positions of the elements that are not 0: one int64 array for each axis. Not under trace.

    >>> np.nonzero(np.array([0, 3, 4]))
    (array([1, 2], dtype=int64),)
    """
    return tuple(xp.nonzero(x))


@host(np="flatnonzero", dynamic=True, against="numpy.flatnonzero")
def flatnonzero(xp, x, /):
    """Positions in the flattened array.

    >>> np.flatnonzero(np.array([[0, 3], [4, 0]]))
    array([1, 2], dtype=int64)
    """
    return xp.flatnonzero(x)


@host(np="argwhere", dynamic=True, against="numpy.argwhere")
def argwhere(xp, x, /):
    """nonzero as rows of one array.

    >>> np.argwhere(np.array([[0, 3], [4, 0]]))
    array([[0, 1],
           [1, 0]], dtype=int64)
    """
    return xp.argwhere(x)


@host(np="unique", dynamic=True, against="numpy.unique")
def unique(xp, x, /, return_index=False, return_inverse=False, return_counts=False, axis=None):
    """The distinct elements, sorted, and on request where and how often they were.

    >>> np.unique(np.array([3, 1, 3]))
    array([1., 3.])
    """
    return xp.unique(x, return_index, return_inverse, return_counts, axis)


@host(np="bincount", dynamic=True, against="numpy.bincount", samples=drawn(case(Ints((7,), 4))))
def bincount(xp, x, weights=None, /, minlength=0):
    """How often each number below max(x) + 1 occurs, or the sum of its weights."""
    return xp.bincount(x, weights, minlength)


@host(np="histogram", against="numpy.histogram", dynamic=True)
def histogram(xp, a, /, bins=10, range=None, weights=None, density=None):
    """(counts, edges of the bins).

    >>> np.histogram(np.array([1, 2, 2, 4]), bins=3)
    (array([1, 2, 1], dtype=int64), array([1., 2., 3., 4.]))
    """
    made, edges = xp.histogram(a, bins.asnumpy() if hasattr(bins, "asnumpy") else bins, range, density, weights)
    return made, edges.astype(a.dtype if a.dtype.kind == "f" else "float32")


@host(np="searchsorted", against="numpy.searchsorted")
def searchsorted(xp, a, v, /, side="left"):
    """Where to put ``v`` into sorted ``a`` so that it stays sorted.

    >>> np.searchsorted(np.array([1, 2, 4]), np.array([2, 3]))
    array([1, 2], dtype=int64)
    """
    return xp.searchsorted(a, v, side)


# --- edits with positions known at the call --------------------------------------------------------------------------


def _positions(obj, n):
    if isinstance(obj, slice):
        return list(range(*obj.indices(n)))
    obj = obj.tolist() if hasattr(obj, "tolist") else obj
    return [int(i) % n for i in (obj if isinstance(obj, (list, tuple)) else [obj])]


@composite(np="delete", against="numpy.delete", samples=drawn(case((4, 3), 1, axis=0)))
def delete(arr, obj, axis=None):
    """Without the slices at positions ``obj``."""
    if axis is None:
        arr, axis = f.reshape(arr, (-1,)), 0
    axis = normal_axis("delete", axis, arr.ndim)
    gone = set(_positions(obj, arr.shape[axis]))
    return f.take_static(arr, axis, tuple(i for i in range(arr.shape[axis]) if i not in gone))


@composite(np="insert", against="numpy.insert", samples=drawn(case((4, 3), 1, 9.0, axis=0)))
def insert(arr, obj, values, axis=None):
    """With ``values`` put before the position ``obj`` (an integer) along ``axis``."""
    if axis is None:
        arr, axis = f.reshape(arr, (-1,)), 0
    axis = normal_axis("insert", axis, arr.ndim)
    if not isinstance(obj, int):
        raise ArgumentError("insert", "one integer position", obj, "Insert one after the other")
    left, right = f.array_split(arr, [obj % (arr.shape[axis] + 1)], axis)
    rest = arr.shape[:axis] + arr.shape[axis + 1 :]
    if not hasattr(values, "shape") or values.ndim < arr.ndim:
        values = f.expand_dims(
            f.broadcast_to(values, rest) if hasattr(values, "shape") else f.full(rest, values, arr.dtype), axis
        )
    return f.concatenate([left, f.cast(values, arr.dtype), right], axis)


@composite(np="fill_diagonal", against="numpy.fill_diagonal")
def fill_diagonal(a, val, wrap=False):
    """Sets the diagonal of a matrix in place."""
    n, m = a.shape
    mask = f.eye(n, m, 0, "bool")
    f.copy(f.cast(f.where(mask, val, a), a.dtype), out=a)


@composite(np="diag_indices_from", against="numpy.diag_indices_from")
def diag_indices_from(arr):
    """Positions of the main diagonal: one array for each axis.

    >>> np.diag_indices_from(np.ones((2, 2)))
    (array([0, 1], dtype=int64), array([0, 1], dtype=int64))
    """
    return (f.arange(0, arr.shape[0], 1, "int64"),) * arr.ndim


@composite(np="triu_indices_from", against="numpy.triu_indices_from")
def triu_indices_from(arr, k=0):
    """triu_indices for the shape of ``arr``.

    >>> np.triu_indices_from(np.ones((2, 2)))
    (array([0, 0, 1], dtype=int64), array([0, 1, 1], dtype=int64))
    """
    return f.triu_indices(arr.shape[-2], k, arr.shape[-1])


# --- windows ---------------------------------------------------------------------------------------------------------


def _window(name, *c):
    """c0 - c1 cos(2 pi i / (M - 1)) + c2 cos(4 pi i / (M - 1))."""

    def function(M, dtype=None, ctx=None, device=None):
        if M <= 1:
            return f.ones((max(M, 0),), dtype)
        turn = f.spaced(0.0, 6.283185307179586 / (M - 1), M, dtype)
        return sum(
            (f.multiply(f.cos(f.multiply(turn, float(k))), (-1) ** k * v) for k, v in enumerate(c)),
            f.zeros((M,), dtype),
        )

    composite(
        name=name, np=name, against=f"numpy.{name}", samples=drawn(case(5)), doc=f"The {name} window of M points."
    )(function)


_window("hanning", 0.5, 0.5)
_window("hamming", 0.54, 0.46)
_window("blackman", 0.42, 0.5, 0.08)
