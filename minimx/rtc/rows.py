"""A RowGroup: the canonical description of steps over the elements of rows, and over what is found out about each row.

A row is all that one reduction takes in: the last axes of the space. Reductions, arithmetic on their results and
arithmetic on elements that reads those may follow each other (softmax: max, exp(x - max), sum, divide), so the work on
a row falls into phases, between which it is kept. It is the Group (group.py) of "rows" nodes; text is written from it
by cuda/fused_rows.py and host_rows.py; what must be kept: Phases, here; what is worth grouping: minimx/graph/passes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ..errors import GraphError
from ..ops.dtypes import BY_NAME
from ..ops.expr import topological
from ..ops.table import OPS, normal_axes
from .group import (
    Body,
    Member,
    Reduction,
    Ref,
    Step,
    broadcast_strides,
    c_strides,
    collapse,
    reduction_of,
    step_of,
    without_ones,
)

HELD_BYTES = 1 << 17  # of a row on a GPU: what a block of 512 threads has room for in its registers
HELD_BYTES_CPU = 1 << 18  # of a row on the CPU: what stays in the cache of one core


def takes(extent: int, element_arrays: int, dtypes: Collection[str], gpu: bool) -> bool:
    """Is a group whose rows have ``extent`` elements written as one kernel? Ask before grouping.

    element_arrays: how many arrays of a row must be held at a time, at most; the operands that have elements are a good
    estimate. dtypes: of those.
    """
    if extent < 1 or not all(d in BY_NAME for d in dtypes):
        return False
    size = max((max(4, BY_NAME[d].size) for d in dtypes), default=4)
    return extent * max(1, element_arrays) * size <= (HELD_BYTES if gpu else HELD_BYTES_CPU)
