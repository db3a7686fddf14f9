"""Basic indexing keys: integers, slices, None and Ellipsis, in one hashable form and as strides.

``canonical_key`` makes the form that plans are keyed by; ``Selection`` says what it means for a shape. Keys that hold
arrays, lists or booleans are advanced indexing: rows/index.py.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import IndexOutOfBounds


def canonical_key(key: Any) -> tuple | None:
    """``key`` as a tuple of int, (start, stop, step), None and Ellipsis; None if it is not a basic key."""
    out: list[Any] = []
    for k in key if isinstance(key, tuple) else (key,):
        if k is None or k is Ellipsis:
            out.append(k)
        elif isinstance(k, slice):
            out.append(tuple(None if v is None else operator.index(v) for v in (k.start, k.stop, k.step)))
        elif (
            isinstance(k, bool)
            or getattr(k, "shape", ()) != ()
            or not hasattr(k, "__index__")
            or hasattr(k, "attach_grad")
        ):
            return None
        else:
            out.append(operator.index(k))
    return tuple(out)


@dataclass
class Selection:
    """A basic key applied to a shape: per axis the first index, the step and the number taken, and how they come out.

    result: for each axis of the outcome the axis it comes from, or None for a new axis. Axes taken by an integer have
    length 1 in ``length`` and are not in ``result``.
    """

    start: list[int]
    step: list[int]
    length: list[int]
    result: list[int | None]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the outcome."""
        return tuple(1 if a is None else self.length[a] for a in self.result)


def select(where: str, shape: Sequence[int], key: tuple) -> Selection:
    """What ``key`` selects of an array of this shape. Raises IndexOutOfBounds."""
    consumed = sum(k is not None and k is not Ellipsis for k in key)
    dots = key.count(Ellipsis)
    if consumed > len(shape) or dots > 1:
        rule = "one Ellipsis at most" if dots > 1 else f"at most {len(shape)} indices"
        raise IndexOutOfBounds(where, rule, f"{len(key)} for shape {tuple(shape)}", "Drop some")
    rest = [(None, None, None)] * (len(shape) - consumed)
    at = key.index(Ellipsis) if dots else len(key)
    s = Selection([], [], [], [])
    for k in (*key[:at], *rest, *key[at + 1 :]):
        if k is None:
            s.result.append(None)
            continue
        axis = len(s.start)
        if isinstance(k, int):
            n = shape[axis]
            if not -n <= k < n:
                raise IndexOutOfBounds(where, f"index in [{-n}, {n}) for axis {axis}", k, "Use an index the array has")
            start, step, length = k % n, 1, 1
        else:
            start, stop, step = slice(*k).indices(shape[axis])
            length = len(range(start, stop, step))
            s.result.append(axis)
        s.start.append(start)
        s.step.append(step)
        s.length.append(length)
    return s
