"""Rows with their operands' axes in another order: from (N, C, *spatial) to (N, *spatial, C).

``moved`` gives, for a node whose data shall come with channels last, what changes: which inputs are data, its
attributes, and whether the outputs come with channels last as well. Rows that are not here want channels first. Who
asks: layout_gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...ops.arguments import normal_axis
from ...ops.table import OPS, normal_axes
from ..ir import Node, Value

FIRST, LAST = "", "last"  # forms of a value: as the code sees it, and with channels last
RESHAPES = ("reshape", "expand_dims", "squeeze")  # come as a reshape to the permuted shape


def order(rank: int) -> tuple[int, ...]:
    """Axis i of a value with channels last is axis ``order(rank)[i]`` of what the code sees."""
    return (0, *range(2, rank), 1)


def permuted(per_axis: Sequence) -> tuple:
    """A shape, or whatever has an entry per axis, with that of the channels last."""
    return tuple(per_axis[a] for a in order(len(per_axis)))


def place(axis: int, rank: int) -> int:
    """Where an axis goes."""
    return order(rank).index(axis % rank)


class Moved(NamedTuple):
    """data: which inputs come with channels last. outs: the form of each output."""

    data: tuple[int, ...]
    attrs: dict[str, Any]
    outs: tuple[str, ...]


def moved(n: Node) -> Moved | None:
    """What the node is with channels last; None if it cannot be."""
    rank = _rank(n)
    if rank < 3 or n.body is not None:
        return None
    if n.op in RULES:
        return RULES[n.op](n, rank)
    if OPS[n.op].kind == "elemwise":
        return _everything(n, {})
    return _reduced(n, rank) if OPS[n.op].kind == "reduce" else None


def _rank(n: Node) -> int:
    return max(len(v.shape) for v in (*n.values, *n.outputs))


def _shape(n: Node) -> tuple[int, ...]:
    """Of the first operand."""
    return n.values[0].shape


def _everything(n: Node, changes: dict[str, Any]) -> Moved:
    """All operands and results are data."""
    data = tuple(i for i, x in enumerate(n.inputs) if isinstance(x, Value))
    return Moved(data, n.attrs | changes, (LAST,) * len(n.outputs))


def _windows(data: int, outs: int = 1) -> Callable[[Node, int], Moved | None]:
    """Convolutions and pooling: their rows know the layout; the first ``data`` inputs and ``outs`` outputs are data."""

    def rule(n: Node, rank: int) -> Moved | None:
        if (n.attrs.get("layout") or "NC").endswith("C") and n.attrs.get("layout"):
            return None
        changes: dict[str, Any] = {"layout": "N" + "DHW"[5 - rank :] + "C"}
        if "shape" in n.attrs:
            changes["shape"] = permuted(n.attrs["shape"])
        forms = tuple(LAST if i < outs else FIRST for i in range(len(n.outputs)))
        return Moved(tuple(range(data)), n.attrs | changes, forms)

    return rule


def _norm(data: int) -> Callable[[Node, int], Moved | None]:
    """Batch norms: all but the first ``data`` inputs and the first output are vectors of channels."""

    def rule(n: Node, rank: int) -> Moved | None:
        if n.attrs["axis"] % rank != 1:
            return None
        forms = tuple(FIRST if i else LAST for i in range(len(n.outputs)))
        return Moved(tuple(range(data)), n.attrs | {"axis": rank - 1}, forms)

    return rule


def _along_axis(n: Node, rank: int) -> Moved | None:
    """What runs along one axis and keeps the others."""
    axis = n.attrs["axis"]
    if not isinstance(axis, int):
        return None
    return _everything(n, {"axis": place(normal_axis(n.op, axis, rank), rank)})


def _reduced(n: Node, rank: int) -> Moved | None:
    """Reductions. Where axes go, the others must come out in the order of one of the forms."""
    gone = normal_axes(n.op, n.attrs.get("axis"), rank)
    changes = {"axis": tuple(sorted(place(a, rank) for a in gone))}
    if n.attrs.get("keepdims"):
        return _everything(n, changes)
    left = [a for a in order(rank) if a not in gone]
    form = FIRST if left == sorted(left) else LAST if tuple(left) == permuted(sorted(left)) else None
    return None if form is None else Moved((0,), n.attrs | changes, (form,))


def _found(n: Node, rank: int) -> Moved | None:
    """argmax and argmin over one axis."""
    if n.attrs["axis"] is None:
        return None
    whole = _reduced(n, rank)
    return whole and whole._replace(attrs=n.attrs | {"axis": place(n.attrs["axis"], rank)})


def _region(n: Node, rank: int) -> Moved | None:
    """paste: padding, and gradients of slices."""
    per_axis = {k: n.attrs[k] for k in ("shape", "start", "step", "region") if n.attrs.get(k)}
    if any(len(v) != rank for v in per_axis.values()):
        return None
    return _everything(n, {k: permuted(v) for k, v in per_axis.items()})


def _sliced(n: Node, rank: int) -> Moved | None:
    """Slices of all axes, without new axes or such that go."""
    key = n.attrs["key"]
    if not all(isinstance(k, tuple) for k in key):
        return None
    return _everything(n, {"key": permuted((*key, *((None, None, None),) * (rank - len(key))))})


def _flipped(n: Node, rank: int) -> Moved | None:
    axes = normal_axes(n.op, n.attrs["axis"], rank)
    return _everything(n, {"axis": tuple(sorted(place(a, rank) for a in axes))})


def _broadcast(n: Node, rank: int) -> Moved | None:
    return _everything(n, {"shape": permuted(n.outputs[0].shape)})


def _spatial(n: Node, rank: int) -> Moved | None:
    """Reshapes that leave the axes N and C alone."""
    x, y = _shape(n), n.outputs[0].shape
    return None if min(len(x), len(y)) < 3 or x[:2] != y[:2] else _everything(n, {})


RULES: dict[str, Callable[[Node, int], Moved | None]] = {
    "convolution": _windows(2),
    "convolution_data_grad": _windows(2),
    "convolution_weight_grad": _windows(2),
    "max_pool": _windows(1, 2),
    "max_pool_grad": _windows(2),
    "max_pool_gather": _windows(2),
    "avg_pool": _windows(1),
    "avg_pool_grad": _windows(1),
    "batch_norm_train": _norm(1),
    "batch_norm_infer": _norm(1),
    "batch_norm_grad": _norm(2),
    "argmax": _found,
    "argmin": _found,
    "paste": _region,
    "getitem": _sliced,
    "flip": _flipped,
    "broadcast_to": _broadcast,
    **dict.fromkeys(("cast", "copy", "zeros_like", "ones_like", "stop_gradient"), lambda n, rank: _everything(n, {})),
    **dict.fromkeys(RESHAPES, _spatial),
    **dict.fromkeys(("concatenate", "take_static", "put_static", "cumsum", "cumprod"), _along_axis),
    **dict.fromkeys(("softmax_of", "softmax_backward", "log_softmax_of", "log_softmax_backward"), _along_axis),
}
