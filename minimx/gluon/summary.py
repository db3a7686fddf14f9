"""The table that ``Block.summary`` prints: layers, output shapes, numbers of parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .. import autograd
from .hooks import HookHandle
from .parameter import Parameter

if TYPE_CHECKING:
    from .block import Block

__all__ = ["print_summary"]


def print_summary(block: Block, inputs: tuple[Any, ...]) -> None:
    """Run ``block`` once, imperatively and in predict mode, and print the table."""
    outputs = _record_outputs(block, inputs)
    rows = [("Layer (type)", "Output Shape", "Param #"), ("Input", _shapes(inputs), "0")]
    seen: set[int] = set()
    total = trainable = shared = 0
    for path, layer in block.named_blocks():
        new = [p for p in layer._reg_params.values() if id(p) not in seen]
        seen.update(id(p) for p in new)
        size = sum(map(_size, new))
        shared += sum(map(_size, layer._reg_params.values())) - size
        total += size
        trainable += sum(_size(p) for p in new if p.grad_req != "null")
        indent = "  " * (path.count(".") + 1 if path else 0)
        name = f"{indent}{path.rpartition('.')[2]} ({type(layer).__name__})" if path else type(layer).__name__
        rows.append((name, outputs.get(id(layer), "not run"), f"{size:,}"))
    _print_rows(rows)
    print(f"Parameters in total: {total:,}\n  trainable: {trainable:,}\n  not trainable: {total - trainable:,}")
    print(f"  shared, counted once: {shared:,}")


def _record_outputs(block: Block, inputs: tuple[Any, ...]) -> dict[int, str]:
    """Output shapes by id of block, from hooks on all blocks."""
    outputs: dict[int, str] = {}
    handle = HookHandle()
    was_active = {id(b): b._active for _, b in block.named_blocks() if hasattr(b, "_active")}
    try:
        for _, layer in block.named_blocks():
            handle.attach(layer._hooks, lambda layer, _, out: outputs.__setitem__(id(layer), _shapes(out)))
            if id(layer) in was_active:
                layer._active = False
        with autograd.pause(train_mode=False):
            block(*inputs)
    finally:
        handle.detach()
        for _, layer in block.named_blocks():
            if id(layer) in was_active:
                layer._active = was_active[id(layer)]
    return outputs


def _shapes(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shapes, value))
    return str(tuple(value.shape)) if hasattr(value, "shape") else type(value).__name__


def _size(parameter: Parameter) -> int:
    return math.prod(parameter.shape) if parameter.is_shape_known and parameter.shape is not None else 0


def _print_rows(rows: list[tuple[str, str, str]]) -> None:
    first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
    rule = "-" * (first + second + third + 4)
    for i, (name, shape, size) in enumerate(rows):
        print(f"{name:<{first}}  {shape:<{second}}  {size:>{third}}")
        if i == 0:
            print(rule)
    print(rule)
