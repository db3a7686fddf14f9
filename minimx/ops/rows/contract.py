"""Products that sum over axes: matmul, dot, tensordot, einsum and the fully connected layer. One kernel, ``matmul``.

Transposes are views, so none of these copies to transpose; the kernel takes any strides and broadcasts batch axes.
"""

from __future__ import annotations

from ...errors import ArgumentError, ShapeError
from ..arguments import ordered_axes, size_of
from ..kinds.composite import composite
from ..kinds.kernel import kernel
from ..samples import case, drawn
from ..table import Plan, broadcast, common_dtype, f

# --- matmul ----------------------------------------------------------------------------------------------------------


def as_matrices(a, b, g):
    """Vectors as matrices: a row on the left, a column on the right; ``g`` gets the axis that its shape lost."""
    if b.ndim == 1:
        b, g = f.expand_dims(b, 1), f.expand_dims(g, -1)
    if a.ndim == 1:
        a, g = f.expand_dims(a, 0), f.expand_dims(g, -2)
    return a, b, g


def matmul_grad(gs, ins, outs, attrs, needs):
    """d(a b): g b^T and a^T g, summed over the batch axes that were broadcast."""
    a, b, g = as_matrices(ins[0], ins[1], gs[0])
    ga = f.reshape(f.sum_to_like(f.matmul(g, f.swapaxes(b, -1, -2)), a), ins[0].shape) if needs[0] else None
    gb = f.reshape(f.sum_to_like(f.matmul(f.swapaxes(a, -1, -2), g), b), ins[1].shape) if needs[1] else None
    return [ga, gb]


@kernel(
    np="matmul",
    amp="low",
    grad=matmul_grad,
    against="numpy.matmul",
    samples=drawn(
        case((2, 3), (3, 4)),
        case((3,), (3,)),
        case((5, 2, 3), (3, 4)),
        case((3,), (5, 3, 2)),
        case((4, 1, 2, 3), (2, 3, 2)),
        case((2, 0), (0, 3)),
    ),
    errors=[((((2, 3), (2, 3)), {}), ShapeError), ((((), (3,)), {}), ShapeError)],
)
def matmul(a, b, /):
    """Matrix product over the last two axes, the others broadcast; vectors as NumPy has them.

    >>> np.matmul(np.ones((5, 2, 3)), np.ones((3, 4))).shape
    (5, 2, 4)
    """
    if not a.shape or not b.shape:
        raise ShapeError("matmul", "at least 1 dimension each", f"{a.shape} and {b.shape}", "Use multiply for scalars")
    m, n = ((1, *a.shape) if len(a.shape) == 1 else a.shape), ((*b.shape, 1) if len(b.shape) == 1 else b.shape)
    if m[-1] != n[-2]:
        raise ShapeError("matmul", "inner sizes that agree", f"{a.shape} and {b.shape}", "Transpose one operand")
    batch = broadcast("matmul", m[:-2], n[:-2])
    shape = batch + (() if len(a.shape) == 1 else (m[-2],)) + (() if len(b.shape) == 1 else (n[-1],))
    dtype = common_dtype([a, b])
    vectors = {"a": int(len(a.shape) == 1), "b": int(len(b.shape) == 1)}
    return Plan([(shape, dtype)], "matmul_any" if any(vectors.values()) else "matmul", vectors, [dtype, dtype])


def linear_grad(gs, ins, outs, attrs, needs):
    x, w, b = (*ins, None)[:3]
    rows = size_of(x.shape[:1] if attrs["flatten"] else x.shape[:-1])
    g = f.reshape(gs[0], (rows, w.shape[0]))
    gx = f.reshape(f.matmul(g, w), x.shape) if needs[0] else None
    gw = f.matmul(f.transpose(g), f.reshape(x, (rows, w.shape[1]))) if needs[1] else None
    return [gx, gw, f.sum(g, 0) if b is not None and needs[2] else None][: len(ins)]


def _linear_reference(x, weight, bias=None, num_hidden=0, no_bias=False, flatten=True):
    y = (x.reshape(x.shape[0], -1) if flatten else x) @ weight.T
    return y if bias is None else y + bias


@kernel(
    npx="fully_connected",
    nd="FullyConnected",
    amp="low",
    grad=linear_grad,
    against=_linear_reference,
    samples=drawn(
        case((2, 3), (4, 3), (4,)), case((2, 3, 2), (4, 6), None), case((2, 3, 2), (4, 2), (4,), flatten=False)
    ),
    errors=[((((2, 3), (4, 2), None), {}), ShapeError)],
)
def fully_connected(x, weight, bias=None, /, num_hidden=None, no_bias=False, flatten=True):
    """``x W^T + b``: x (N, ...) as (N, in) if ``flatten``, else (..., in); weight (out, in), bias (out,).

    >>> x, weight, bias = np.ones((2, 3)), np.ones((4, 3)), np.zeros(4)
    >>> npx.fully_connected(x, weight, bias, num_hidden=4).shape
    (2, 4)
    """
    if not x.shape or len(weight.shape) != 2:
        raise ShapeError(
            "fully_connected",
            "data of 1 dimension or more and weight (out, in)",
            f"{x.shape}, {weight.shape}",
            "Reshape",
        )
    lead = x.shape[:1] if flatten else x.shape[:-1]
    features = size_of(x.shape[1:]) if flatten else x.shape[-1]
    out = weight.shape[0]
    bias = None if no_bias else bias
    if features != weight.shape[1] or (bias is not None and bias.shape != (out,)) or num_hidden not in (None, 0, out):
        got = f"data {x.shape}, weight {weight.shape}, bias {bias and bias.shape}"
        raise ShapeError(
            "fully_connected",
            f"weight ({num_hidden or 'out'}, {features}) and bias (out,)",
            got,
            "Check in_units and flatten",
        )
    dtype = common_dtype([x, weight])
    return Plan([((*lead, out), dtype)], "linear", {}, [dtype] * 3, contiguous=len(x.shape) != 2)


# --- dot and its relatives -------------------------------------------------------------------------------------------


@composite(
    np="dot",
    method="dot",
    against="numpy.dot",
    samples=drawn(
        case((2, 3), (3, 4)), case((3,), (3,)), case((2, 3), ()), case((2, 3, 4), (4,)), case((2, 3), (5, 3, 2))
    ),
)
def dot(a, b, out=None):
    """Product over the last axis of ``a`` and the second-to-last (or only) of ``b``; with a scalar, multiply.

    >>> np.dot(np.array([[1, 2], [3, 4]]), np.array([1, 1]))
    array([3., 7.])
    """
    if not getattr(a, "shape", ()) or not getattr(b, "shape", ()):
        y = f.multiply(a, b)
    elif a.ndim == b.ndim == 2 or b.ndim == 1:
        return f.matmul(a, b) if out is None else f.matmul(a, b, out=out)
    else:
        y = f.tensordot(a, b, ((-1,), (-2,)))
    if out is None:
        return y
    out[...] = y
    return out


@composite(name="nd_dot", nd="dot", against="numpy.tensordot")
def nd_dot(lhs, rhs, transpose_a=False, transpose_b=False):
    """Gluon 1's dot: the last axis of ``lhs`` with the first of ``rhs``; the flags reverse all axes of an operand
    first.

    >>> nd.dot(nd.ones((2, 3)), nd.ones((4, 3)), transpose_b=True).shape
    (2, 4)
    """
    a, b = f.transpose(lhs) if transpose_a else lhs, f.transpose(rhs) if transpose_b else rhs
    return f.tensordot(a, b, ((a.ndim - 1,), (0,)))


@composite(
    npx="batch_dot",
    nd="batch_dot",
    samples=drawn(case((2, 3, 4), (2, 4, 5)), case((2, 4, 3), (2, 5, 4), transpose_a=True, transpose_b=True)),
    against=lambda a, b, transpose_a=False, transpose_b=False: (
        (a.swapaxes(1, 2) if transpose_a else a) @ (b.swapaxes(1, 2) if transpose_b else b)
    ),
)
def batch_dot(a, b, transpose_a=False, transpose_b=False, forward_stype=None):
    """Product of each pair of matrices: (B, m, k) and (B, k, n) give (B, m, n).

    >>> npx.batch_dot(np.ones((5, 2, 3)), np.ones((5, 3, 4))).shape
    (5, 2, 4)
    """
    return f.matmul(f.swapaxes(a, -1, -2) if transpose_a else a, f.swapaxes(b, -1, -2) if transpose_b else b)


@composite(
    np="tensordot linalg.tensordot",
    against="numpy.tensordot",
    samples=drawn(case((2, 3, 4), (3, 4, 5)), case((2, 3), (4, 3), axes=((1,), (1,))), case((2,), (3,), axes=0)),
)
def tensordot(a, b, axes=2):
    """Product summed over axes of both: the last n of ``a`` and first n of ``b``, or the pairs of axes given."""
    if isinstance(axes, int):
        over_a, over_b = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        over_a, over_b = (ordered_axes("tensordot", ax, x.ndim) for ax, x in zip(axes, (a, b), strict=True))
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ShapeError(
            "tensordot", "summed axes of equal lengths", f"{a.shape} and {b.shape} over {axes}", "Check axes"
        )
    keep_a = tuple(i for i in range(a.ndim) if i not in over_a)
    keep_b = tuple(i for i in range(b.ndim) if i not in over_b)
    shape_a, shape_b = tuple(a.shape[i] for i in keep_a), tuple(b.shape[i] for i in keep_b)
    inner = size_of([a.shape[i] for i in over_a])
    left = f.reshape(f.transpose(a, keep_a + over_a), (size_of(shape_a), inner)) if a.ndim else f.reshape(a, (1, 1))
    right = f.reshape(f.transpose(b, over_b + keep_b), (inner, size_of(shape_b))) if b.ndim else f.reshape(b, (1, 1))
    return f.reshape(f.matmul(left, right), shape_a + shape_b)


@composite(np="inner", against="numpy.inner", samples=drawn(case((2, 3), (4, 3)), case((3,), (3,))))
def inner(a, b):
    """Product summed over the last axes."""
    return f.tensordot(a, b, ((-1,), (-1,))) if a.ndim and b.ndim else f.multiply(a, b)


@composite(np="outer linalg.outer", against="numpy.outer", samples=drawn(case((3,), (4,))))
def outer(a, b):
    """a_i b_j of the flattened operands."""
    return f.multiply(f.reshape(a, (-1, 1)), f.reshape(b, (1, -1)))


@composite(np="vdot", against="numpy.vdot", samples=drawn(case((2, 3), (2, 3))))
def vdot(a, b):
    """Sum of the products of all elements."""
    return f.matmul(f.reshape(a, (-1,)), f.reshape(b, (-1,)))


@composite(np="kron", against="numpy.kron", samples=drawn(case((2, 3), (4, 2)), case((2,), (3,))))
def kron(a, b):
    """Kronecker product: blocks a_ij * b."""
    n = max(a.ndim, b.ndim)
    sa, sb = (1,) * (n - a.ndim) + a.shape, (1,) * (n - b.ndim) + b.shape
    wide_a = f.reshape(a, tuple(d for s in sa for d in (s, 1)))
    wide_b = f.reshape(b, tuple(d for s in sb for d in (1, s)))
    return f.reshape(f.multiply(wide_a, wide_b), tuple(p * q for p, q in zip(sa, sb, strict=True)))


@composite(np="trace", against="numpy.trace", samples=drawn(case((3, 4)), case((2, 3, 4), offset=1, axis1=1, axis2=2)))
def trace(a, offset=0, axis1=0, axis2=1):
    """Sum along a diagonal."""
    return f.sum(f.diagonal(a, offset, axis1, axis2), -1)


# --- einsum ----------------------------------------------------------------------------------------------------------


def parse_einsum(subscripts, ndims):
    """(labels of each operand, labels of the result); an ellipsis becomes labels of its own."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ArgumentError("einsum", f"{len(terms)} operands for {subscripts!r}", len(ndims), "Give one term for each")
    wide = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims, strict=True)]
    if any(w < 0 or (w > 0 and "..." not in t) for t, w in zip(terms, wide, strict=True)):
        raise ShapeError(
            "einsum", f"operands with the dimensions that {subscripts!r} names", ndims, "Check the subscripts"
        )
    most = max(wide)
    dots = [chr(0x2460 + i) for i in range(most)]  # labels no one types
    labels = [t.replace("...", "".join(dots[most - w :])) for t, w in zip(terms, wide, strict=True)]
    if arrow:
        return labels, right.replace("...", "".join(dots))
    joined = "".join(labels)
    return labels, "".join(dots) + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots))


def check_sizes(labels, shapes):
    """A label is one size wherever it stands, or 1."""
    sizes: dict[str, set[int]] = {}
    for term, shape in zip(labels, shapes, strict=True):
        for c, size in zip(term, shape, strict=True):
            sizes.setdefault(c, set()).add(size)
    for c, found in sizes.items():
        if len(found - {1}) > 1:
            got = f"{' and '.join(map(str, sorted(found)))} for {c if c.isascii() else '...'!r}"
            raise ShapeError("einsum", "one size for each label", got, "Check the subscripts, or transpose an operand")


def without_repeats(x, labels):
    """Takes the diagonal of axes that share a label."""
    for c in labels:
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            x = f.diagonal(x, 0, i, j)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
    return x, labels


def summed(x, labels, keep):
    """Sums the axes whose labels are not in ``keep``."""
    axes = tuple(i for i, c in enumerate(labels) if c not in keep)
    return (f.sum(x, axes) if axes else x), "".join(c for c in labels if c in keep)


def product(a, la, b, lb, keep):
    """One step: the product of two operands, summed over labels of both that are not in ``keep``; a batched matmul."""
    a, la = summed(a, la, set(lb) | keep)
    b, lb = summed(b, lb, set(la) | keep)
    batch = [c for c in la if c in lb and c in keep]
    over = [c for c in la if c in lb and c not in keep]
    rows, columns = [c for c in la if c not in lb], [c for c in lb if c not in la]
    size: dict[str, int] = {}
    for labels, x in ((la, a), (lb, b)):
        for c, d in zip(labels, x.shape, strict=True):
            size[c] = max(d, size.get(c, 1)) if d else 0
    a = _arranged(a, la, (batch, rows, over), size)
    b = _arranged(b, lb, (batch, over, columns), size)
    y = f.matmul(a, b)
    out = batch + rows + columns
    return f.reshape(y, tuple(size[c] for c in out)), "".join(out)


def _arranged(x, labels, groups, size):
    order = [labels.index(c) for g in groups for c in g]
    x = f.broadcast_to(f.transpose(x, tuple(order)), tuple(size[labels[i]] for i in order)) if order else x
    batch = tuple(size[c] for c in groups[0])
    return f.reshape(x, (*batch, *(size_of([size[c] for c in g]) for g in groups[1:])))


@composite(np="einsum", against="numpy.einsum")
def einsum(subscripts, *operands, optimize=True):
    """Einstein's summation: "ij,jk->ik". Pairs are multiplied left to right by batched matmul; without "->" NumPy's
    rule.

    >>> np.einsum("ij,kj->ik", np.ones((2, 3)), np.ones((4, 3))).shape
    (2, 4)
    """
    labels, result = parse_einsum(subscripts, [x.ndim for x in operands])
    check_sizes(labels, [x.shape for x in operands])
    terms = [without_repeats(x, s) for x, s in zip(operands, labels, strict=True)]
    x, have = terms[0]
    for i, (y, more) in enumerate(terms[1:], 1):
        later = set(result).union(*(s for _, s in terms[i + 1 :]))
        x, have = product(x, have, y, more, later)
    x, have = summed(x, have, set(result))
    if set(have) != set(result) or len(result) != len(set(result)):
        raise ArgumentError(
            "einsum", "result labels that operands have, once each", subscripts, "Check the part after '->'"
        )
    return f.transpose(x, tuple(have.index(c) for c in result)) if have != result else x
