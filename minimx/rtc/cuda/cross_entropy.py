"""Cross-entropy from logits and its gradient on a GPU, over the middle axis of contiguous (outer, n, inner) arrays.

The loss is one fold (fold.py) over the logits, whose end reads the label's; the gradient is one pass over the
elements. A label out of range, an error on the CPU, makes the loss and the gradient of its lane NaN here: the device
cannot raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...ops.table import Spec
from .fold import Rule, fold
from .recipe import Argument, Factory, Operand, Recipe, Value
from .row import each
from .softmax import SOFTMAX, axes_of, declared

LABEL = """\
/// The place that a label means, or -1 if it is out of range. Negative ones count from the end.
inline int64_t place_of(int64_t label, int64_t n) {
  const int64_t at = label < 0 ? label + n : label;
  return at >= 0 && at < n ? at : -1;
}
"""

LOSS = """\
struct Rule {
  struct A {
    Total total;
    C sum;  // of the logits; for smoothing
  };
  const T* x;
  const int64_t* labels;
  Loss* loss;
  Stat* lse;
  int64_t n, inner;
  double smoothing;
  A start() const { return {{C(-INFINITY), C(0)}, C(0)}; }
  A step(A acc, T x, Index, Index) const {
    const C v = to<C>(x);
    return {with(acc.total, v), acc.sum + v};
  }
  A combine(A a, A b) const { return {joined(a.total, b.total), a.sum + b.sum}; }
  void finish(A acc, Index lane, Index) const {
    const C log_total = log_sum(acc.total), a = C(smoothing);
    const int64_t at = place_of(labels[lane], n);
    lse[lane] = log_total;
    C made = at < 0 ? C(NAN) : log_total - to<C>(x[lane / inner * n * inner + lane % inner + at * inner]);
    if (smoothing != 0) made = (1 - a) * made + a * (log_total - acc.sum / C(n));
    loss[lane] = to<Loss>(made);
  }
};
"""

GRADIENT = """\
    const C low = C(smoothing / double(n)), high = C(1 - smoothing);
    const auto v = load<kPack>(x + at, is_aligned<kPack>(x + at));
    Pack<T, kPack> made;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      const int64_t label = place_of(labels[lane(j)], n);
      const C p = exponential(to<C>(v.at[j]) - C(lse[lane(j)]));
      const C error = p - low - (place(j) == label ? high : C(0));
      made.at[j] = to<T>(label < 0 ? C(NAN) : to<C>(g[lane(j)]) * error);
    }
    store(dx + at, made, is_aligned<kPack>(dx + at));"""


def _lanes(attrs: dict[str, Any]) -> tuple[int, int, int]:
    return attrs["outer"], attrs["n"], attrs["inner"]


def _types(dtype: str, loss: str) -> str:
    """Names of the types of logsumexp and of losses, which have the logits' type or that of logsumexp."""
    stat = "double" if dtype == "float64" else "float"
    return f"using Stat = {stat};\nusing Loss = {'T' if loss == dtype else 'Stat'};\n"


def cross_entropy(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (outer, n, inner), dtype = _lanes(attrs), ins[0].dtype
    members: list[tuple[str, str, Argument]] = [
        ("const T*", "x", Operand(0)), ("const int64_t*", "labels", Operand(1)), ("Loss*", "loss", Operand(2)),
        ("Stat*", "lse", Operand(3)), ("int64_t", "n", Value(n)), ("int64_t", "inner", Value(inner)),
        ("double", "smoothing", Value(attrs["smoothing"], "float64"))]  # fmt: skip
    text = declared(dtype) + _types(dtype, outs[0].dtype) + SOFTMAX + LABEL + LOSS
    rule = Rule(text, 24 if dtype == "float64" else 12, members)
    return fold("cross_entropy", rule, [(Operand(0), dtype)], *axes_of(outer, n, inner))


def cross_entropy_bwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    (outer, n, inner), dtype = _lanes(attrs), outs[0].dtype
    if outer * n * inner == 0:
        return Recipe(())
    parameters: list[tuple[str, Argument]] = [
        ("const Loss* g", Operand(0)), ("const T* x", Operand(1)), ("const int64_t* labels", Operand(2)),
        ("const Stat* lse", Operand(3)), ("T* dx", Operand(4)),
        ("double smoothing", Value(attrs["smoothing"], "float64"))]  # fmt: skip
    head = _types(dtype, ins[0].dtype) + SOFTMAX + LABEL
    return Recipe((each("cross_entropy_bwd", dtype, outer, n, inner, parameters, head, GRADIENT),))


FACTORIES: dict[str, Factory] = {"cross_entropy": cross_entropy, "cross_entropy_bwd": cross_entropy_bwd}
