"""Nets that run in mixed precision by themselves: ``convert_hybrid_block``, for inference above all."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError, NotSupported
from ..gluon.hybrid import HybridBlock
from ..graph.trace import trace
from ..ndarray import _core, ndarray
from .policy import autocast, low_type

__all__ = ["convert_hybrid_block"]


def convert_hybrid_block(
    block: Any,
    data_example: Any = None,
    target_dtype: Any = "float16",
    target_dtype_ops: Any = None,
    fp32_ops: Any = None,
    conditional_fp32_ops: Any = None,
    excluded_sym_names: Any = None,
    device: Any = None,
    cast_params_offline: bool = False,
) -> Any:
    """A copy of a HybridBlock that runs in mixed precision whatever the mode is around it.

    data_example: what the block is called with (an array, or a sequence of them); needed for cast_params_offline only.
    (As in Gluon 1 the type may stand in its place.) device: where the copy's parameters are put. cast_params_offline:
    parameters that are only read in the target type are stored in it. Lists of operators are those of ``amp.init``.

    >>> import minimx as mx
    >>> net = mx.gluon.nn.Dense(2, in_units=3)
    >>> net.initialize()
    >>> low = mx.amp.convert_hybrid_block(net, target_dtype="bfloat16")
    >>> low(mx.np.ones((1, 3))).dtype, net(mx.np.ones((1, 3))).dtype
    (dtype(bfloat16), dtype('float32'))
    """
    where = "amp.convert_hybrid_block"
    if isinstance(data_example, str):
        data_example, target_dtype = None, data_example
    if not isinstance(block, HybridBlock):
        raise ArgumentTypeError(where, "a HybridBlock", type(block).__name__, "Derive it from HybridBlock")
    if target_dtype_ops or fp32_ops or conditional_fp32_ops or excluded_sym_names:
        raise NotSupported(where, "no lists of operators", "some", "Pass them to amp.init, which is for all nets")
    low = low_type(where, target_dtype)
    made = LowPrecision(copy.deepcopy(block), low)
    if device is not None:
        made.reset_device(device)
    if cast_params_offline:
        if data_example is None:
            way_out = "Pass what the block is called with"
            raise ArgumentError(where, "data_example with cast_params_offline", "none", way_out)
        _cast_parameters(made, data_example, low)
    return made


class LowPrecision(HybridBlock):
    """Calls ``net`` in mixed precision."""

    def __init__(self, net: Any, dtype: str) -> None:
        super().__init__()
        self.net, self._dtype = net, dtype

    def forward(self, *args: Any) -> Any:
        with autocast(self._dtype):
            return self.net(*args)


def _cast_parameters(block: Any, example: Any, low: str) -> None:
    """Casts the parameters that the traced block does nothing with but cast them to ``low``."""
    args: Sequence[ndarray] = [example] if isinstance(example, ndarray) else list(example)
    block(*args)  # settles shapes
    t = trace(type(block).__name__, block._call_eager, args, False)
    uses = t.graph.uses()
    parameters = {_core.address(a): p for p in block.collect_params().values() for a in p.list_data()}
    for array, v in zip(t.captures, t.graph.inputs[t.arguments :], strict=True):
        readers = uses.get(v, [])
        cast = readers and all(n.op == "cast" and n.outputs[0].dtype == low for n in readers)
        if cast and v not in t.graph.outputs and _core.address(array) in parameters:
            parameters[_core.address(array)].cast(low)
