"""Dense, Dropout, Embedding and Flatten: the layers that are one operator and at most two parameters."""

from __future__ import annotations

import math
from typing import Any

from ... import npx
from ..hybrid import HybridBlock
from ..parameter import Parameter, _show
from .activations import Activation

__all__ = ["Dense", "Dropout", "Embedding", "Flatten"]


class Dense(HybridBlock):
    """Fully connected: ``act(x W^T + b)``, W of shape (units, in_units).

    units: size of the output. activation: a name that ``npx.activation`` knows, or None. flatten: (N, ...) counts as
    (N, in_units) and gives (N, units); otherwise only the last axis is mapped, (..., in_units) -> (..., units).
    in_units: size of the input, 0 to take it from the first input.

    >>> import minimx as mx
    >>> layer = mx.gluon.nn.Dense(4, in_units=3)
    >>> layer.initialize()
    >>> layer(mx.np.ones((2, 3))).shape
    (2, 4)
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        flatten: bool = True,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_units: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._units, self._flatten, self._in_units = units, flatten, in_units
        shape = (units, in_units)
        self.weight = Parameter("weight", "write", shape, dtype, init=weight_initializer, allow_deferred_init=True)
        self.bias = Parameter("bias", "write", (units,), dtype, init=bias_initializer) if use_bias else None
        self.act = Activation(activation) if activation is not None else None

    def infer_shape(self, x: Any, *args: Any) -> None:
        """in_units from the input."""
        self.weight.shape = (self._units, math.prod(x.shape[1:]) if self._flatten else x.shape[-1])

    def forward(self, x: Any) -> Any:
        """(N, ...) -> (N, units), or (..., in_units) -> (..., units) without flatten."""
        bias = None if self.bias is None else self.bias.beside(x)
        out = npx.fully_connected(
            x,
            self.weight.beside(x),
            bias,
            num_hidden=self._units,
            no_bias=bias is None,
            flatten=self._flatten,
        )
        return out if self.act is None else self.act(out)

    def __repr__(self) -> str:
        inputs = _show((self.weight.shape or (-1, -1))[1:]).strip("(),")
        act = "linear" if self.act is None else self.act._act_type
        return f"{type(self).__name__}({inputs} -> {self._units}, {act})"


class Dropout(HybridBlock):
    """In train mode, zeroes elements with probability ``rate`` and divides the others by 1 - rate.

    axes: along these one decision serves all elements. Srivastava et al. 2014.
    """

    def __init__(self, rate: float, axes: tuple[int, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate, self._axes = rate, tuple(axes)

    def forward(self, x: Any) -> Any:
        """Same shape as the input."""
        return npx.dropout(x, p=self._rate, axes=self._axes) if self._rate > 0 else x

    def extra_repr(self) -> str:
        return f"p = {self._rate}, axes={self._axes}"


class Embedding(HybridBlock):
    """Rows of a table: integers of any shape (...) in [0, input_dim) -> (..., output_dim).

    sparse_grad is accepted for Gluon code; the gradient is dense.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        sparse_grad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._input_dim, self._output_dim = input_dim, output_dim
        self.weight = Parameter("weight", "write", (input_dim, output_dim), dtype, init=weight_initializer)

    def forward(self, x: Any) -> Any:
        """(...) -> (..., output_dim)."""
        weight = self.weight.beside(x)
        return npx.embedding(x, weight, input_dim=self._input_dim, output_dim=self._output_dim)

    def extra_repr(self) -> str:
        return f"{self._input_dim} -> {self._output_dim}, {self.weight.dtype}"


class Flatten(HybridBlock):
    """(N, ...) -> (N, product of the others)."""

    def forward(self, x: Any) -> Any:
        """(N, ...) -> (N, C)."""
        return x.reshape((x.shape[0], math.prod(x.shape[1:])))
