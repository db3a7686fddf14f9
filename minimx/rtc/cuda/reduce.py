"""The "reduce" kernel on a GPU: a row's init, step, combine and finish over any axes of an operand of any strides.

The functions are the text that the CPU's build compiles (minimx/ops/emit_reduce.py); fold.py walks the elements. They
are converted to the type that is accumulated ("dtype" of the attributes) as they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.emit_reduce import struct
from ...ops.table import OPS, Spec
from .fold import Rule, count, fold, split_axes
from .recipe import Factory, Operand, Recipe, Value

RULE = """\
struct Rule {{
  using A = {a};
  {y}* y;
  int64_t n;  // elements of a result
  A start() const {{ return {row}_::init<A>(); }}
  A step(A acc, {x} x, Index, Index) const {{ return {row}_::step<A>(acc, to<A>(x)); }}
  A combine(A a, A b) const {{ return {row}_::combine<A>(a, b); }}
  void finish(A acc, Index, Index into) const {{ y[into] = to<{y}>({row}_::finish<A>(acc, to<A>(n))); }}
}};
"""


def reduce(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (x,), (y,) = ins, outs
    row, dtype = attrs["loop"], BY_NAME[attrs["dtype"]]
    kept, folded = split_axes(x, y, attrs["axes"])
    text = RULE.format(row=row, a=dtype.ctype, x=BY_NAME[x.dtype].ctype, y=BY_NAME[y.dtype].ctype)
    members = [(f"{BY_NAME[y.dtype].ctype}*", "y", Operand(1)), ("int64_t", "n", Value(count(folded)))]
    rule = Rule(struct(OPS[row]) + text, dtype.size, members)  # type: ignore[arg-type]
    return fold(f"reduce_{row}", rule, [(Operand(0), x.dtype)], kept, folded)


FACTORIES: dict[str, Factory] = {"reduce": reduce}
