"""Calls of factories to test recipes with: what the rows' plans make of the table's samples, and of larger operands.

A ``Call`` is what a factory is given, with NumPy operands. The table's samples have a handful of elements, those of
larger_cases.py many. ``VIEWS`` are the ways in which an
operand may lie in memory where its plan does not ask for C order. What runs them: test_recipes.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rtc.emulator import numpy_type
from rtc.larger_cases import LARGER
from table_checks import generator, samples

from minimx.ops.dtypes import ALL, FLOATS
from minimx.ops.samples import drawn
from minimx.ops.table import OPS, Op, Plan, Spec


@dataclass
class Call:
    """One call of a factory. ins: arrays, and (number, dtype) for host scalars; outs: (shape, dtype)."""

    row: str
    factory: str
    ins: list
    outs: list[tuple]
    attrs: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    contiguous: bool = False  # operands are in C order
    view: str = "plain"

    def __str__(self) -> str:
        ins = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else str(x[0]) for x in self.ins)
        return f"{self.row} ({self.factory}, {self.view}): {ins} {self.attrs} -> {self.outs}"


# ---- how an operand lies in memory ----------------------------------------------------------------------------------


def _turned(x: np.ndarray) -> np.ndarray:
    """The first axis innermost, as after a transpose."""
    return np.asfortranarray(x)


def _reversed(x: np.ndarray) -> np.ndarray:
    """Negative strides along all axes."""
    back = (slice(None, None, -1),) * x.ndim
    return np.ascontiguousarray(x[back])[back]


def _spread(x: np.ndarray) -> np.ndarray:
    """Every second element of larger memory, from the second on."""
    if not x.ndim:
        return _moved(x)
    memory = np.zeros(tuple(2 * n + 1 for n in x.shape), x.dtype)
    view = memory[(slice(1, None, 2),) * x.ndim]
    view[...] = x
    return view


def _moved(x: np.ndarray) -> np.ndarray:
    """C order, but one element behind where an allocation begins."""
    memory = np.zeros(x.size + 1, x.dtype)
    memory[1:] = x.ravel()
    return memory[1:].reshape(x.shape)


def _broadcast(x: np.ndarray) -> np.ndarray:
    """The first element of the last axis, repeated by stride 0 (other values than x has)."""
    return np.broadcast_to(x[..., :1], x.shape) if x.ndim and x.size else x


def _last_first(x: np.ndarray) -> np.ndarray:
    """(N, C, ...) lying as (N, ..., C)."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if x.ndim > 2 else _turned(x)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "turned": _turned,
    "reversed": _reversed,
    "spread": _spread,
    "moved": _moved,
    "broadcast": _broadcast,
    "last_first": _last_first,
}

# ---- types -----------------------------------------------------------------------------------------------------------

# Rows of movement, which have no types of their own in the table: all are moved alike.
MOVES = ("take", "take_static", "put", "put_static", "gather_elements", "put_elements", "paste", "concatenate", "cast",
         "copy", "argsort_to", "filled_with")  # fmt: skip


def dtypes(row: str) -> tuple[str, ...]:
    """The types that a row's recipes are tested with."""
    op = OPS[row]
    if op.row.dtypes:
        return tuple(op.row.dtypes)
    if not op.operands or row in ("philox", "ravel_index") or (op.kind == "random" and row != "dropout_train"):
        return ("float32",)
    return ALL if row in MOVES else FLOATS


# ---- from a row to calls --------------------------------------------------------------------------------------------


def _operands(op: Op, operands: Sequence) -> list:
    """One operand a place, as plans see them: lists spread out, trailing optional ones None."""
    flat = [v for x in operands for v in (x if isinstance(x, list) else [x])]
    given = [x.item() if isinstance(x, np.generic) else x for x in flat]
    lists = any(p.arrays for p in op.operands)
    return given if lists else given + [p.default for p in op.operands[len(given) :]]


def _attributes(op: Op, attrs: dict) -> dict:
    return {p.name: p.default for p in op.attributes if not p.required} | attrs


def _spec(x: Any) -> Spec | None:
    if x is None:
        return None
    if isinstance(x, np.ndarray):
        return Spec(x.shape, x.dtype.name, tuple(s // x.itemsize for s in x.strides))
    return Spec((), {bool: "bool", int: "int64", float: "float64"}[type(x)], (), True)


def _cast(x: Any, dtype: str) -> Any:
    if x is None or (isinstance(x, np.ndarray) and not dtype):
        return x
    if not isinstance(x, np.ndarray):
        return (x, dtype or _spec(x).dtype)
    with np.errstate(all="ignore"):
        return x.astype(numpy_type(dtype))


def call_of(row: str, operands: Sequence, attrs: dict, dtype: str, view: str = "plain") -> Call | None:
    """What the runtime would ask of a factory for a call of a row; None where it needs no kernel (a view)."""
    op = OPS[row]
    if not any(p.arrays for p in op.operands):  # attributes may be given by position, too
        named = zip((p.name for p in op.attributes), operands[len(op.operands) :], strict=False)
        operands, attrs = operands[: len(op.operands)], dict(named) | attrs
    attrs = _attributes(op, attrs)
    xs = [x.astype(numpy_type(dtype)) if dtype == "bfloat16" and isinstance(x, np.ndarray) and x.dtype == "float32"
          else x for x in _operands(op, operands)]  # fmt: skip
    plan: Plan = op.plan([_spec(x) for x in xs], attrs)
    casts = [*plan.casts, *[""] * len(xs)]
    xs = [_cast(x, c) for x, c in zip(xs, casts, strict=False)]
    if not plan.contiguous:
        xs = [VIEWS[view](x) if isinstance(x, np.ndarray) else x for x in xs]
        seen = [_spec(x[0]) if isinstance(x, tuple) else _spec(x) for x in xs]
        plan = op.plan(seen, attrs)
    else:
        xs = [(_moved(x) if view == "moved" else np.ascontiguousarray(x).reshape(x.shape)) if isinstance(x, np.ndarray)
              else x for x in xs]  # fmt: skip
    if not plan.kernel:
        return None
    outs = [(tuple(shape), d) for shape, d in plan.outs]
    ins = [x for x in xs if x is not None]
    return Call(row, plan.kernel, ins, outs, dict(plan.attrs), plan.random, plan.contiguous, view)


def rows() -> Iterator[Op]:
    """Rows that have kernels."""
    return (op for op in OPS.values() if op.kind not in ("composite", "host", "view"))


def _drawn(row: str, dtype: str) -> tuple[list, list]:
    """The table's samples and those of LARGER."""
    from table_cases import SAMPLES

    known = samples(row, dtype) if OPS[row].row.samples or row in SAMPLES else []
    return known, drawn(*LARGER.get(row, ()))(dtype, generator("larger", row, dtype))


def calls(row: str, dtype: str, every_view: bool = False) -> list[Call]:
    """Calls of one row in one type. A sample of the table is seen in one way, a larger one also as it is; or all."""
    known, larger = _drawn(row, dtype)
    out = []
    for n, (operands, attrs) in enumerate(known + larger):
        plain = call_of(row, operands, attrs, dtype)
        if plain is None:
            continue
        views = ["plain", "moved"] if plain.contiguous else list(VIEWS)
        if not every_view:
            views = views[:1] if n == 0 else [views[1 + (n + zlib.crc32(f"{row}{dtype}".encode())) % (len(views) - 1)]]
            views += ["plain"] * (n >= len(known))
        out += [call_of(row, operands, attrs, dtype, view) for view in views]
    return out
