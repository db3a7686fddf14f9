"""The "argreduce" kernel on a GPU: position of the first largest or smallest element along one axis, or along all of a
contiguous array. A fold (fold.py) whose accumulator is an element and its place; a NaN is the extreme of its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME, is_float
from ...ops.table import Spec
from .fold import Rule, fold, split_axes
from .recipe import Factory, Operand, Recipe

RULE = """\
struct Found {{
  {c} value;
  int64_t at;  // -1: nothing was seen
}};
struct Rule {{
  using A = Found;
  int64_t* y;
  A start() const {{ return {{0, -1}}; }}
  A step(A best, {x} x, Index at, Index) const {{ return combine(best, {{to<{c}>(x), at}}); }}
  A combine(A a, A b) const {{
    if (a.at < 0 || b.at < 0) return a.at < 0 ? b : a;
    const bool same = (a.value == b.value) | ((a.value != a.value) & (b.value != b.value));
    const bool first = same ? a.at < b.at : (a.value {above} b.value) | (a.value != a.value);
    return first ? a : b;
  }}
  void finish(A best, Index, Index into) const {{ y[into] = best.at; }}
}};
"""


def argreduce(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (x,), (y,) = ins, outs
    compute = BY_NAME[x.dtype].compute if is_float(x.dtype) else "int64_t"
    text = RULE.format(c=compute, x=BY_NAME[x.dtype].ctype, above=">" if attrs["loop"] == "argmax" else "<")
    kept, folded = split_axes(x, y, attrs["axes"])
    rule = Rule(text, 16, [("int64_t*", "y", Operand(1))])
    return fold(attrs["loop"], rule, [(Operand(0), x.dtype)], kept, folded)


FACTORIES: dict[str, Factory] = {"argreduce": argreduce}
