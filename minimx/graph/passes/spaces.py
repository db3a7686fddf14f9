"""Where a node runs: the iteration space of a pointwise node, and the axes of a space that a reduction folds.

Axes of extent 1 do not count: views that only add or drop those are members of groups and cost nothing. Read next:
domains.py (which nodes may share a kernel), grouping.py (which do).
"""

from __future__ import annotations

from typing import NamedTuple

from ...ops.table import OPS, normal_axes
from ...rtc.group import without_ones
from ..ir import Node, Value

# Where they only change axes of extent 1.
VIEWS = frozenset({"broadcast_to", "expand_dims", "squeeze", "reshape", "stop_gradient"})

Space = tuple  # (layout, shape): over which a pointwise node runs


class Reduction(NamedTuple):
    """A reduction of ``space``, a shape without ones, over some of its axes, ``folded``."""

    space: tuple[int, ...]
    folded: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The other axes."""
        return tuple(i for i in range(len(self.space)) if i not in self.folded)

    @property
    def result(self) -> tuple[int, ...]:
        """The shape of the result, without ones."""
        return tuple(self.space[i] for i in self.kept)

    @property
    def is_suffix(self) -> bool:
        """True if the last axes are folded, and not all."""
        return bool(self.kept) and self.folded == tuple(range(len(self.kept), len(self.space)))


def space_of(n: Node) -> Space | None:
    """The iteration space of a node that may be fused, else None.

    In a blocked layout the elements are taken as they lie, so every operand must have that layout or be one number.
    """
    if n.body is not None or n.op not in OPS or not all(n.outputs[0].shape):
        return None
    out = n.outputs[0]
    shape = without_ones(out.shape)
    if n.op in VIEWS:
        source = n.inputs[0]
        if not isinstance(source, Value) or source.layout or out.layout:
            return None
        return ("", shape) if without_ones(source.shape) == shape else None
    if OPS[n.op].kind != "elemwise" and n.op not in ("cast", "copy"):
        return None
    if not out.layout:
        return ("", shape) if not any(v.layout for v in n.values) else None
    fits = all((v.layout, v.shape) == (out.layout, out.shape) for v in n.values)
    return (out.layout, out.shape) if fits else None


def reduction_of(n: Node) -> Reduction | None:
    """What a reduction folds; None for other nodes, and for one that folds axes of extent 1 only."""
    if n.body is not None or n.op not in OPS or OPS[n.op].kind != "reduce":
        return None
    x = n.values[0]
    if x.layout or not all(x.shape):
        return None
    axes = normal_axes(n.op, n.attrs.get("axis"), len(x.shape))
    wide = [i for i, d in enumerate(x.shape) if d != 1]
    folded = tuple(at for at, i in enumerate(wide) if i in axes)
    return Reduction(without_ones(x.shape), folded) if folded else None


def places(shape: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the space ``to`` (without ones) along which an operand of ``shape`` that broadcasts to it varies."""
    wide = [i for i, d in enumerate(to) if d != 1]
    missing = len(to) - len(shape)
    return tuple(at for at, i in enumerate(wide) if i >= missing and shape[i - missing] != 1)
