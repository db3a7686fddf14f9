"""The array class and the C++ runtime.

Written by `python -m minimx.ops stubs` from the operator table; do not edit.
"""

from builtins import bool as _bool
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
import numpy as _numpy

from minimx.device import Device
from minimx.typing import ArrayLike, Axis, DeviceLike, DType, Index, Shape

def __getattr__(name: str) -> Any: ...

class ndarray:
    """A tensor: elements of one type on one device."""
    def __add__(self, other: ArrayLike) -> ndarray: ...
    def __radd__(self, other: ArrayLike) -> ndarray: ...
    def __iadd__(self, other: ArrayLike) -> ndarray: ...
    def __sub__(self, other: ArrayLike) -> ndarray: ...
    def __rsub__(self, other: ArrayLike) -> ndarray: ...
    def __isub__(self, other: ArrayLike) -> ndarray: ...
    def __mul__(self, other: ArrayLike) -> ndarray: ...
    def __rmul__(self, other: ArrayLike) -> ndarray: ...
    def __imul__(self, other: ArrayLike) -> ndarray: ...
    def __truediv__(self, other: ArrayLike) -> ndarray: ...
    def __rtruediv__(self, other: ArrayLike) -> ndarray: ...
    def __itruediv__(self, other: ArrayLike) -> ndarray: ...
    def __floordiv__(self, other: ArrayLike) -> ndarray: ...
    def __rfloordiv__(self, other: ArrayLike) -> ndarray: ...
    def __ifloordiv__(self, other: ArrayLike) -> ndarray: ...
    def __mod__(self, other: ArrayLike) -> ndarray: ...
    def __rmod__(self, other: ArrayLike) -> ndarray: ...
    def __imod__(self, other: ArrayLike) -> ndarray: ...
    def __pow__(self, other: ArrayLike) -> ndarray: ...
    def __rpow__(self, other: ArrayLike) -> ndarray: ...
    def __ipow__(self, other: ArrayLike) -> ndarray: ...
    def __matmul__(self, other: ArrayLike) -> ndarray: ...
    def __rmatmul__(self, other: ArrayLike) -> ndarray: ...
    def __imatmul__(self, other: ArrayLike) -> ndarray: ...
    def __and__(self, other: ArrayLike) -> ndarray: ...
    def __rand__(self, other: ArrayLike) -> ndarray: ...
    def __iand__(self, other: ArrayLike) -> ndarray: ...
    def __or__(self, other: ArrayLike) -> ndarray: ...
    def __ror__(self, other: ArrayLike) -> ndarray: ...
    def __ior__(self, other: ArrayLike) -> ndarray: ...
    def __xor__(self, other: ArrayLike) -> ndarray: ...
    def __rxor__(self, other: ArrayLike) -> ndarray: ...
    def __ixor__(self, other: ArrayLike) -> ndarray: ...
    def __lshift__(self, other: ArrayLike) -> ndarray: ...
    def __rlshift__(self, other: ArrayLike) -> ndarray: ...
    def __ilshift__(self, other: ArrayLike) -> ndarray: ...
    def __rshift__(self, other: ArrayLike) -> ndarray: ...
    def __rrshift__(self, other: ArrayLike) -> ndarray: ...
    def __irshift__(self, other: ArrayLike) -> ndarray: ...
    def __lt__(self, other: ArrayLike) -> ndarray: ...
    def __le__(self, other: ArrayLike) -> ndarray: ...
    def __gt__(self, other: ArrayLike) -> ndarray: ...
    def __ge__(self, other: ArrayLike) -> ndarray: ...
    def __eq__(self, other: ArrayLike) -> ndarray: ...  # type: ignore[override]
    def __ne__(self, other: ArrayLike) -> ndarray: ...  # type: ignore[override]
    def __abs__(self) -> ndarray: ...
    def __neg__(self) -> ndarray: ...
    def __pos__(self) -> ndarray: ...
    def __invert__(self) -> ndarray: ...
    def __bool__(self) -> _bool: ...
    def __int__(self) -> int: ...
    def __float__(self) -> float: ...
    def __index__(self) -> int: ...
    def __len__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __getitem__(self, key: Index) -> ndarray: ...
    def __setitem__(self, key: Index, value: ArrayLike) -> None: ...
    def __iter__(self) -> Iterator[ndarray]: ...
    def __contains__(self, value: ArrayLike) -> _bool: ...
    def __array__(self, dtype: Any = None, copy: _bool | None = None) -> numpy.ndarray[Any, Any]: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def _traced(self) -> _bool: ...
    @property
    def T(self) -> ndarray:
        """The axes reversed."""
    def abs(self, *, out: ndarray | None = None) -> ndarray:
        """|x|; its gradient at 0 is 0."""
    def all(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Are all elements not zero? True of nothing."""
    def any(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Is any element not zero? False of nothing."""
    def arccos(self, *, out: ndarray | None = None) -> ndarray:
        """Inverse cosine, in [0, pi]."""
    def arccosh(self, *, out: ndarray | None = None) -> ndarray:
        """ln(x + sqrt(x^2 - 1)), not negative."""
    def arcsin(self, *, out: ndarray | None = None) -> ndarray:
        """Inverse sine, in [-pi/2, pi/2]."""
    def arcsinh(self, *, out: ndarray | None = None) -> ndarray:
        """ln(x + sqrt(x^2 + 1))."""
    def arctan(self, *, out: ndarray | None = None) -> ndarray:
        """Inverse tangent, in [-pi/2, pi/2]."""
    def arctanh(self, *, out: ndarray | None = None) -> ndarray:
        """ln((1 + x) / (1 - x)) / 2."""
    def argmax(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Position (int64) of the first largest element along ``axis``, or in C order over all; a NaN is the largest."""
    def argmin(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Position (int64) of the first smallest element along ``axis``, or in C order over all; a NaN is the smallest."""
    def argsort(
        self, axis: Axis = -1, descending: _bool = False, stable: _bool = True, kind: str | None = None,
        order: str | None = None
    ) -> ndarray:
        """Positions that sort ``a`` along ``axis``; stable."""
    def as_in_context(self, device: Any) -> ndarray:
        """This array if it is on that device, else a copy there."""
    def as_in_ctx(self, device: Any) -> ndarray:
        """This array if it is on that device, else a copy there."""
    def as_in_device(self, device: Any) -> ndarray:
        """This array if it is on that device, else a copy there."""
    def as_nd_ndarray(self) -> ndarray:
        """This array: there is one array type."""
    def as_np_ndarray(self) -> ndarray:
        """This array: there is one array type."""
    def asnumpy(self) -> numpy.ndarray[Any, Any]:
        """The values as a NumPy array of its own; waits for them. bfloat16 comes as ml_dtypes.bfloat16."""
    def asscalar(self) -> Any:
        """The one element as a Python number, as ``item``."""
    def astype(
        self, dtype: Any, copy: _bool = True, order: str = 'K', casting: str = 'unsafe', subok: _bool = True
    ) -> ndarray:
        """The elements converted to another type; with ``copy=False`` the array itself if it has that type."""
    def attach_grad(self, grad_req: str = 'write', stype: Any = None) -> None:
        """Makes this array a variable: backward() puts its gradient in ``grad`` ('write'), adds it ('add') or not
        ('null')."""
    def backward(
        self, out_grad: Any = None, retain_graph: _bool = False, train_mode: _bool = True, create_graph: _bool = False
    ) -> None:
        """Gradients of this array with respect to the variables it was computed from; ``out_grad`` defaults to ones."""
    def broadcast_to(self, shape: Shape = ()) -> ndarray:
        """Shows ``x`` in a larger shape by repeating axes of length 1, without a copy."""
    def cbrt(self, *, out: ndarray | None = None) -> ndarray:
        """Cube root."""
    def ceil(self, *, out: ndarray | None = None) -> ndarray:
        """Up to a whole number."""
    def clip(
        self, a_min: ArrayLike | None = None, a_max: ArrayLike | None = None, *, out: ndarray | None = None
    ) -> ndarray:
        """min(max(x, a_min), a_max); either bound may be None."""
    @property
    def context(self) -> Device:
        """Same as device."""
    def copy(self, *, out: ndarray | None = None) -> ndarray:
        """The same elements in memory of their own, in C order."""
    def copyto(self, other: Any) -> ndarray:
        """Copies the elements into ``other``, an array of the same shape, or to a device (a new array there)."""
    def cos(self, *, out: ndarray | None = None) -> ndarray:
        """Cosine of x in radians."""
    def cosh(self, *, out: ndarray | None = None) -> ndarray:
        """(e^x + e^-x) / 2."""
    @property
    def ctx(self) -> Device:
        """Same as device."""
    def cumprod(self, axis: Axis | None = None, dtype: DType | None = None, *, out: ndarray | None = None) -> ndarray:
        """Product of the elements up to and with each one."""
    def cumsum(self, axis: Axis | None = None, dtype: DType | None = None, *, out: ndarray | None = None) -> ndarray:
        """Sum of the elements up to and with each one, along ``axis`` or over all in C order; integers in int64."""
    def degrees(self, *, out: ndarray | None = None) -> ndarray:
        """Radians as degrees."""
    def detach(self) -> ndarray:
        """The same elements, off the tape."""
    @property
    def device(self) -> Device:
        """Device that holds the elements."""
    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        """Elements (i, i + offset) of the matrices spanned by two axes; the diagonal is the last axis of the result."""
    def dot(self, b: ArrayLike, out: ndarray | None = None) -> ndarray:
        """Product over the last axis of ``a`` and the second-to-last (or only) of ``b``; with a scalar, multiply."""
    def drop_grad(self) -> None:
        """The reverse of attach_grad: this array is no variable any more, and its gradient is given up."""
    @property
    def dtype(self) -> numpy.dtype[Any]:
        """Element type, as numpy.dtype."""
    def exp(self, *, out: ndarray | None = None) -> ndarray:
        """e to the power x."""
    def expand_dims(self, axis: Axis = 0) -> ndarray:
        """Puts axes of length 1 at the places ``axis`` of the result."""
    def expm1(self, *, out: ndarray | None = None) -> ndarray:
        """e^x - 1, exact near 0."""
    def fix(self, *, out: ndarray | None = None) -> ndarray:
        """Towards zero to a whole number."""
    def flatten(self, order: str = 'C') -> ndarray:
        """All elements in one axis, in C order."""
    def floor(self, *, out: ndarray | None = None) -> ndarray:
        """Down to a whole number."""
    @property
    def fresh_grad(self) -> _bool:
        """True if backward() has written the gradient since attach_grad, or since a Trainer took it."""
    @property
    def grad(self) -> ndarray | None:
        """Gradient array made by attach_grad(), or None."""
    def isinf(self, *, out: ndarray | None = None) -> ndarray:
        """Is x infinite?"""
    def isnan(self, *, out: ndarray | None = None) -> ndarray:
        """Is x not a number?"""
    def item(self) -> Any:
        """The one element as a Python number; waits for it."""
    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
    def log(self, *, out: ndarray | None = None) -> ndarray:
        """ln x."""
    def log10(self, *, out: ndarray | None = None) -> ndarray:
        """Logarithm to base 10."""
    def log1p(self, *, out: ndarray | None = None) -> ndarray:
        """ln(1 + x), exact near 0."""
    def log2(self, *, out: ndarray | None = None) -> ndarray:
        """Logarithm to base 2."""
    def log_sigmoid(self, *, out: ndarray | None = None) -> ndarray:
        """ln(1 / (1 + e^-x))."""
    def log_softmax(
        self, axis: Axis = -1, length: ArrayLike | None = None, temperature: float | None = None,
        use_length: _bool = False, dtype: DType | None = None
    ) -> ndarray:
        """Logarithm of softmax, without overflow."""
    @property
    def mT(self) -> ndarray:
        """The last two axes exchanged."""
    def max(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Largest element, NaN if there is one."""
    def mean(
        self, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
        out: ndarray | None = None
    ) -> ndarray:
        """Sum over the number of elements; NaN of nothing."""
    def min(self, axis: Axis | None = None, keepdims: _bool = False, *, out: ndarray | None = None) -> ndarray:
        """Smallest element, NaN if there is one."""
    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
    @property
    def ndim(self) -> int:
        """Number of dimensions."""
    def nonzero(self) -> tuple[ndarray, ...]:
        """Positions of the elements that are not 0: one int64 array for each axis."""
    def norm(self, ord: float | str = 2, axis: Axis | None = None, keepdims: _bool = False) -> ndarray:
        """Gluon 1's norm: of order 1 or 2 over any axes."""
    def one_hot(
        self, depth: int = 0, on_value: float = 1.0, off_value: float = 0.0, dtype: DType = 'float32', *,
        out: ndarray | None = None
    ) -> ndarray:
        """Adds a last axis of length ``depth``: on_value at the index, off_value elsewhere and for indices out of range."""
    def prod(
        self, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
        out: ndarray | None = None
    ) -> ndarray:
        """Product over the axes."""
    def radians(self, *, out: ndarray | None = None) -> ndarray:
        """Degrees as radians."""
    def ravel(self, order: str = 'C') -> ndarray:
        """All elements in one axis, in C order."""
    def rcbrt(self, *, out: ndarray | None = None) -> ndarray:
        """1 / cbrt(x)."""
    def relu(self, *, out: ndarray | None = None) -> ndarray:
        """max(x, 0); its gradient at 0 is 0."""
    def repeat(self, repeats: Shape, axis: Axis | None = None) -> ndarray:
        """Every element (or slice along ``axis``) ``repeats`` times in a row; a list gives each its own count."""
    def reshape(self, *shape: Any, order: str = 'C') -> ndarray:
        """The same elements in another shape: ``x.reshape(2, -1)`` or ``x.reshape((2, -1))``."""
    def reshape_view(self, shape: Shape | None = None, order: str = 'C', newshape: Shape | None = None) -> ndarray:
        """The same elements in another shape, in C order; one size may be -1 and is inferred."""
    def rint(self, *, out: ndarray | None = None) -> ndarray:
        """To the nearest whole number, halves to the even one."""
    def round(self, decimals: int = 0) -> ndarray:
        """``x`` rounded to ``decimals`` places after the point (before it if negative), halves to the even digit."""
    def rsqrt(self, *, out: ndarray | None = None) -> ndarray:
        """1 / sqrt(x)."""
    @property
    def shape(self) -> tuple[int, ...]:
        """Tuple of dimensions."""
    def sigmoid(self, *, out: ndarray | None = None) -> ndarray:
        """1 / (1 + e^-x)."""
    def sign(self, *, out: ndarray | None = None) -> ndarray:
        """-1, 0 or 1."""
    def sin(self, *, out: ndarray | None = None) -> ndarray:
        """Sine of x in radians."""
    def sinh(self, *, out: ndarray | None = None) -> ndarray:
        """(e^x - e^-x) / 2."""
    @property
    def size(self) -> int:
        """Number of elements."""
    def softmax(
        self, axis: Axis = -1, length: ArrayLike | None = None, temperature: float | None = None,
        use_length: _bool = False, dtype: DType | None = None
    ) -> ndarray:
        """exp(x / temperature) / sum over ``axis``. ``use_length``: only the first length[i] places of a row take part."""
    def softsign(self, *, out: ndarray | None = None) -> ndarray:
        """x / (1 + |x|)."""
    def sort(
        self, axis: Axis = -1, descending: _bool = False, stable: _bool = True, kind: str | None = None,
        order: str | None = None
    ) -> ndarray:
        """``a`` sorted along ``axis``."""
    def split(self, indices_or_sections: Shape, axis: Axis = 0) -> list[ndarray]:
        """Views of equal parts, or of the parts between the positions given."""
    def sqrt(self, *, out: ndarray | None = None) -> ndarray:
        """Square root."""
    def square(self, *, out: ndarray | None = None) -> ndarray:
        """x * x."""
    def squeeze(self, axis: Axis | None = None) -> ndarray:
        """Drops axes of length 1: all of them, or those named, which must be of length 1."""
    def std(
        self, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None, ddof: int = 0,
        keepdims: _bool = False
    ) -> ndarray:
        """Square root of the variance."""
    @property
    def strides(self) -> tuple[int, ...]:
        """Tuple of bytes to step in each dimension."""
    @property
    def stype(self) -> str:
        """Always 'default': arrays are dense."""
    def sum(
        self, axis: Axis | None = None, dtype: DType | None = None, keepdims: _bool = False, *,
        out: ndarray | None = None
    ) -> ndarray:
        """Sum over the axes, pairwise in blocks; of integers and bools in int64, of 16-bit floats in float32."""
    def swapaxes(self, axis1: int = 0, axis2: int = 0) -> ndarray:
        """Swaps two axes."""
    def take(
        self, indices: ArrayLike, axis: Axis | None = None, mode: str = 'raise', *, out: ndarray | None = None
    ) -> ndarray:
        """Slices of ``x`` along ``axis`` (of the flattened ``x`` without one), in the order and shape of ``indices``."""
    def tan(self, *, out: ndarray | None = None) -> ndarray:
        """Tangent of x in radians."""
    def tanh(self, *, out: ndarray | None = None) -> ndarray:
        """Hyperbolic tangent, (e^x - e^-x) / (e^x + e^-x)."""
    def tile(self, reps: Shape) -> ndarray:
        """``A`` repeated ``reps[i]`` times along axis i, as bricks are laid."""
    def to_device(self, device: Any) -> ndarray:
        """This array if it is on that device, else a copy there."""
    def tobytes(self) -> bytes:
        """The elements in C order, as they lie in memory."""
    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers; a zero-dimensional array gives one number."""
    def transpose(self, *axes: Any) -> ndarray:
        """Axes reversed, or in the given order."""
    def trunc(self, *, out: ndarray | None = None) -> ndarray:
        """Towards zero to a whole number."""
    def var(
        self, axis: Axis | None = None, dtype: DType | None = None, out: ndarray | None = None, ddof: int = 0,
        keepdims: _bool = False
    ) -> ndarray:
        """Mean square distance from the mean, with n - ddof for n."""
    def wait_to_read(self) -> None:
        """Blocks until every operator that writes this array has finished."""
    def zero_grad(self) -> None:
        """Fills the gradient with zeros."""
