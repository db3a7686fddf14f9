"""``mx.np.linalg``: linear algebra, on the host library (NumPy) for now.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Sequence
from typing import Any

import numpy as _numpy

from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Shape
from minimx._core import ndarray
from minimx.np import cross, outer, tensordot, vecdot

__all__ = [
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "lstsq", "matrix_norm",
    "matrix_rank", "matrix_transpose", "norm", "outer", "pinv", "qr", "slogdet", "solve", "svd", "svdvals",
    "tensordot", "tensorinv", "tensorsolve", "trace", "vecdot", "vector_norm",
]

def cholesky(x: ArrayLike, upper: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """L with x = L L^T, lower triangular (or its transpose), of symmetric positive definite matrices."""
def det(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Determinant of each matrix."""
def diagonal(x: ArrayLike, offset: int = 0) -> ndarray:
    """Elements (i, i + offset) of each matrix in the last two axes."""
def eig(x: ArrayLike, *, out: ndarray | None = None) -> tuple[ndarray, ...]:
    """(eigenvalues, eigenvectors) of matrices whose eigenvalues are real; of others the real parts."""
def eigh(x: ArrayLike, *, out: ndarray | None = None) -> tuple[ndarray, ...]:
    """(eigenvalues in rising order, eigenvectors in columns) of symmetric matrices."""
def eigvals(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Eigenvalues of matrices; the real parts of complex ones."""
def eigvalsh(x: ArrayLike) -> ndarray:
    """Eigenvalues of symmetric matrices, in rising order."""
def inv(x: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """Inverse of each matrix in the last two axes."""
def lstsq(a: ArrayLike, b: ArrayLike, rcond: Any = 'warn') -> tuple[ndarray, ...]:
    """(x, residuals, rank, singular values) of the least squares problem a x = b."""
def matrix_norm(x: ArrayLike, keepdims: _bool = False, ord: float | str = 'fro', axis: Axis = (-2, -1)) -> ndarray:
    """Frobenius ('fro'), nuclear ('nuc'), spectral (2, -2) or largest absolute column (1) or row (inf) sum."""
def matrix_rank(x: ArrayLike, tol: Any = None, hermitian: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Number of singular values above ``tol``."""
def matrix_transpose(x: ArrayLike) -> ndarray:
    """The last two axes swapped."""
def norm(x: ArrayLike, ord: float | str | None = None, axis: Axis | None = None, keepdims: _bool = False) -> ndarray:
    """Norm of a vector (one axis) or matrix (two axes); without ord and axis of all elements."""
def pinv(x: ArrayLike, rcond: Any = 1e-15, hermitian: _bool = False, *, out: ndarray | None = None) -> ndarray:
    """Moore-Penrose inverse."""
def qr(x: ArrayLike, mode: str = 'reduced', *, out: ndarray | None = None) -> tuple[ndarray, ...]:
    """(Q, R) with orthonormal Q and upper triangular R."""
def slogdet(x: ArrayLike, *, out: ndarray | None = None) -> tuple[ndarray, ...]:
    """(sign, log|det|) of each matrix."""
def solve(a: ArrayLike, b: ArrayLike, *, out: ndarray | None = None) -> ndarray:
    """x with ``a x = b``; b holds columns, or one vector if it has one axis."""
def svd(
    x: ArrayLike, full_matrices: _bool = False, compute_uv: _bool = True, *, out: ndarray | None = None
) -> tuple[ndarray, ...]:
    """(U, S, Vh) with x = U diag(S) Vh; S in falling order."""
def svdvals(x: ArrayLike) -> ndarray:
    """Singular values in falling order."""
def tensorinv(a: ArrayLike, ind: int = 2) -> ndarray:
    """Inverse for tensordot over ``ind`` axes."""
def tensorsolve(a: ArrayLike, b: ArrayLike, axes: int | Sequence[Any] | None = None) -> ndarray:
    """x with tensordot(a, x, x.ndim) = b; ``axes`` of ``a`` go to the end first."""
def trace(x: ArrayLike, offset: int = 0) -> ndarray:
    """Sum of the diagonal of each matrix in the last two axes."""
def vector_norm(x: ArrayLike, axis: Axis | None = None, keepdims: _bool = False, ord: float | str = 2) -> ndarray:
    """(sum |x|^ord)^(1/ord) over ``axis``; for infinity the largest |x|, for 0 the number of elements that are not
    0."""
