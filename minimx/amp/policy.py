"""Which operators run in 16 bits and which in float32: ``init`` for all threads, ``autocast`` for a ``with`` block.

An operator's class is a field of its row, ``amp`` (minimx/ops/table.py): "low" for those that are fast and safe in 16
bits, "float32" for those that need its range or sums, none for those that run in whatever type their operands have.
Operands are brought to the class' type by the ``cast`` row, so parameters stay float32 and get float32 gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ArgumentError, DTypeError, NameNotFound, NotSupported
from ..ndarray import _core
from ..ops.arguments import as_dtype
from ..ops.table import OPS, Op

__all__ = [
    "autocast",
    "disable",
    "init",
    "list_conditional_fp32_ops",
    "list_fp32_ops",
    "list_loss_output_functions",
    "list_lp16_fp32_ops",
    "list_lp16_ops",
    "list_lp16_use_fp32_params",
    "list_widest_type_cast",
]

_changed: dict[str, str] = {}  # operators whose class is not their row's


def low_type(where: str, dtype: Any) -> str:
    """The name of a 16-bit float type. Raises DTypeError for others."""
    name = as_dtype(where, dtype)
    if name not in ("float16", "bfloat16"):
        raise DTypeError(where, "target_dtype 'float16' or 'bfloat16'", repr(name), "Leave amp out for float32")
    return name


def init(
    target_dtype: Any = "float16",
    target_precision_ops: Iterable[str] | None = None,
    conditional_fp32_ops: Any = None,
    fp32_ops: Iterable[str] | None = None,
) -> None:
    """Run operators in mixed precision from now on, in all threads.

    target_dtype: "float16", which needs a loss scale (``init_trainer``), or "bfloat16", which does not.
    target_precision_ops, fp32_ops: names of operators that are to run in the target type, or in float32, whatever the
    lists say. Raises DTypeError for another type, NameNotFound for a name that no operator with a kernel has.

    >>> import minimx as mx
    >>> mx.amp.init("bfloat16")
    >>> x = mx.np.ones((2, 3))
    >>> mx.np.matmul(x, x.T).dtype, mx.np.exp(x).dtype
    (dtype(bfloat16), dtype('float32'))
    >>> mx.amp.disable()
    """
    low = low_type("amp.init", target_dtype)
    if conditional_fp32_ops:
        way_out = "Name the operator of that argument, such as 'softplus', in fp32_ops"
        raise NotSupported("amp.init", "no conditional_fp32_ops", conditional_fp32_ops, way_out)
    classes = dict.fromkeys(target_precision_ops or (), "low")
    for name in fp32_ops or ():
        if name in classes:
            raise ArgumentError("amp.init", "an operator in one of the lists", f"{name!r} in both", "Choose one")
        classes[name] = "float32"
    for name in classes:
        _checked(name)
    for name, where in classes.items():
        _core.set_precision(name, where)
    _changed.update(classes)
    _core.set_low_type(low)


def disable() -> None:
    """Take ``init`` back: operators run in the types of their operands, and the lists are the rows' again."""
    _core.set_low_type(None)
    for name in _changed:
        _core.set_precision(name, OPS[name].row.amp)
    _changed.clear()


def _checked(name: str) -> None:
    if name not in OPS or OPS[name].kind == "composite":
        rule = "the name of an operator with a kernel (see list_lp16_ops, list_fp32_ops, list_lp16_fp32_ops)"
        raise NameNotFound("amp.init", rule, repr(name), "Name the operators that a composite is made of")


class autocast:
    """``with`` block in which this thread runs in mixed precision, or with dtype None not, whatever ``init`` said.

    >>> import minimx as mx
    >>> x = mx.np.ones((2, 3))
    >>> with mx.amp.autocast("float16"):
    ...     y = mx.np.matmul(x, x.T)
    >>> y.dtype
    dtype('float16')
    """

    def __init__(self, dtype: Any = "float16"):
        self.dtype = None if dtype is None else low_type("amp.autocast", dtype)
        self._before: list[Any] = []

    def __enter__(self) -> None:
        self._before.append(_core.swap_low_type(self.dtype))

    def __exit__(self, *_: object) -> None:
        _core.swap_low_type(self._before.pop())


# ---- the lists, read from the table


def _of_class(wanted: str) -> list[str]:
    return sorted(n for n, op in OPS.items() if op.kind != "composite" and _changed.get(n, op.row.amp) == wanted)


def list_lp16_ops(target_dtype: Any = "float16") -> list[str]:
    """Operators that run in the 16-bit type."""
    low_type("amp.list_lp16_ops", target_dtype)
    return _of_class("low")


def list_fp32_ops(target_dtype: Any = "float16") -> list[str]:
    """Operators that run in float32."""
    low_type("amp.list_fp32_ops", target_dtype)
    return _of_class("float32")


def list_lp16_fp32_ops(target_dtype: Any = "float16") -> list[str]:
    """Operators that run in the type that their operands have."""
    low_type("amp.list_lp16_fp32_ops", target_dtype)
    return _of_class("")


def list_widest_type_cast(target_dtype: Any = "float16") -> list[str]:
    """Of ``list_lp16_fp32_ops``, those of several operands: these are brought to the widest type, as always."""
    return [n for n in list_lp16_fp32_ops(target_dtype) if _promotes(OPS[n])]


def _promotes(op: Op) -> bool:
    return (op.kind == "elemwise" and len(op.operands) > 1) or any(p.arrays for p in op.operands)


def list_lp16_use_fp32_params(target_dtype: Any = "float16") -> dict[str, list[str]]:
    """Operators whose data may be 16-bit while these parameters stay float32."""
    low_type("amp.list_lp16_use_fp32_params", target_dtype)
    return {n: [p.name for p in OPS[n].operands[1:]] for n in ("batch_norm_train", "batch_norm_infer", "row_norm")}


def list_conditional_fp32_ops(target_dtype: Any = "float16") -> list[tuple[str, str, list[str]]]:
    """None: what an argument chooses in MXNet (act_type) is an operator of its own here."""
    low_type("amp.list_conditional_fp32_ops", target_dtype)
    return []


def list_loss_output_functions(target_dtype: Any = "float16") -> list[str]:
    """None: no operator here is a loss that ignores the gradient it is given."""
    low_type("amp.list_loss_output_functions", target_dtype)
    return []
