"""Layer norm and RMS norm over the last axes of contiguous arrays on a GPU; the twin of csrc/cpu/row_norm.cc.

    row_norm(x[, gamma][, beta]) -> y, mean, rstd              y = (x - mean) rstd gamma + beta
    row_norm_bwd(x, dy, mean, rstd[, gamma]) -> dx[, dgamma, dbeta]

Rows that fit are held in registers (row.py), so that their variance is that of the differences from their mean. For
longer ones a fold (fold.py) finds mean and variance by Welford's rule, and a second launch makes the elements. dgamma
and dbeta are folds over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import ceil
from .fold import Axis, Rule, fold
from .recipe import Argument, Factory, Launch, Operand, Recipe, Scratch, Value
from .row import each, held_rows

# ---- forward --------------------------------------------------------------------------------------------------------

HELD = """\
    C v[kSize];
    hold<kPack>(v, x + start, width, C(0));
    C mean = 0, square = 0;
{mean}
#pragma unroll
    for (int i = 0; i < kSize; ++i) {{
      const C d = position<kPack>(i) < width ? v[i] - mean : C(0);
      square += d * d;
    }}
    const C rstd = 1 / sqrt(over_row<kThreads>(square, Add()) / C(n) + C(eps));
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] = (v[i] - mean) * rstd;
{affine}
    put<kPack>(y + start, v, width);
    if (threadIdx.x == 0 && width > 0) {{
      means[row] = mean;
      rstds[row] = rstd;
    }}"""
HELD_MEAN = """\
#pragma unroll
    for (int i = 0; i < kSize; ++i) mean += v[i];
    mean = over_row<kThreads>(mean, Add()) / C(n);"""
HELD_AFFINE = """\
    C {name}_[kSize];
    hold<kPack>({name}_, {name}, width, C(0));
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] {op} {name}_[i];"""

STATISTICS = """\
struct Rule {{
  struct A {{
    C count, mean, square, unused;  // square: sum of the squared differences from the mean
  }};
  C* means;
  C* rstds;
  int64_t n;
  double eps;
  A start() const {{ return {{0, 0, 0, 0}}; }}
  A step(A acc, T x, Index, Index) const {{ return combine(acc, {first}); }}
  A combine(A a, A b) const {{
    const C count = a.count + b.count;
    if (count == C(0)) return a;
    const C d = b.mean - a.mean, share = b.count / count;
    return {{count, a.mean + d * share, a.square + b.square + d * d * a.count * share, 0}};
  }}
  void finish(A acc, Index row, Index) const {{
    means[row] = acc.mean;
    rstds[row] = 1 / sqrt(acc.square / C(n) + C(eps));
  }}
}};
"""

ELEMENTS = """\
    const C mean = means[lane(0)], rstd = rstds[lane(0)];
    const auto v = load<kPack>(x + at, is_aligned<kPack>(x + at));
{loads}
    Pack<T, kPack> made;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {{
      C value = (to<C>(v.at[j]) - mean) * rstd;
{affine}
      made.at[j] = to<T>(value);
    }}
    store(y + at, made, is_aligned<kPack>(y + at));"""


class Flags(NamedTuple):
    """What a call has and wants."""

    dtype: str
    rows: int
    n: int
    rms: bool
    gamma: bool
    beta: bool
    parameters: bool

    @staticmethod
    def of(x: Spec, attrs: dict[str, Any]) -> Flags:
        n = attrs["n"]
        rows = math.prod(x.shape) // n if n else 0
        return Flags(x.dtype, rows, n, *(bool(attrs.get(a, 0)) for a in ("rms", "gamma", "beta", "parameters")))

    @property
    def types(self) -> str:
        return f"using T = {BY_NAME[self.dtype].ctype};\nusing C = {BY_NAME[self.dtype].compute};\n"

    @property
    def size(self) -> int:
        """Bytes of a C."""
        return 8 if self.dtype == "float64" else 4


def _pointers(names: dict[str, str], first: int = 0) -> list[tuple[str, str, Argument]]:
    """(C type, name, operand) of the operands from ``first`` on."""
    return [(t, name, Operand(first + i)) for i, (name, t) in enumerate(names.items())]


def _parameters(members: Sequence[tuple[str, str, Argument]]) -> list[tuple[str, Argument]]:
    return [(f"{t} {name}", a) for t, name, a in members]


def row_norm(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    f = Flags.of(ins[0], attrs)
    if f.rows * f.n == 0:
        return Recipe(())
    affine = {"gamma": "*="} if f.gamma else {}
    affine |= {"beta": "+="} if f.beta else {}
    operands = _pointers(
        {"x": "const T*", **dict.fromkeys(affine, "const C*"), "y": "T*", "means": "C*", "rstds": "C*"}
    )
    eps: tuple[str, str, Argument] = ("double", "eps", Value(attrs["eps"], "float64"))
    lines = "\n".join(HELD_AFFINE.format(name=name, op=op) for name, op in affine.items())
    body = HELD.format(mean="" if f.rms else HELD_MEAN, affine=lines)
    held = held_rows("row_norm_held", f.dtype, f.rows, f.n, 1, _parameters([*operands, eps]), "", body)
    if held:
        return Recipe((held,))
    members = [*operands[-2:], ("int64_t", "n", Value(f.n)), eps]
    first = "{1, 0, to<C>(x) * to<C>(x), 0}" if f.rms else "{1, to<C>(x), 0, 0}"
    rule = Rule(f.types + STATISTICS.format(first=first), 4 * f.size, members)
    found = fold("row_norm_statistics", rule, [(Operand(0), f.dtype)], [Axis(f.rows, f.n, 1)], [Axis(f.n, 1)])
    loads = [f"    const auto {p}_ = load<kPack>({p} + place(0), is_aligned<kPack>({p} + place(0)));" for p in affine]
    steps = [f"      value {op} {name}_.at[j];" for name, op in affine.items()]
    body = ELEMENTS.format(loads="\n".join(loads), affine="\n".join(steps))
    last = each("row_norm_each", f.dtype, f.rows, f.n, 1, _parameters(operands), "", body)
    return Recipe((*found.launches, last), found.workspace)


# ---- backward -------------------------------------------------------------------------------------------------------

TOTALS = """\
struct Totals {
  C g, product;  // sums of dy gamma and of dy gamma xhat
  Totals operator+(Totals other) const { return {g + other.g, product + other.product}; }
};
"""

HELD_BACKWARD = """\
    C v[kSize], w[kSize];  // xhat and dy gamma
    hold<kPack>(v, x + start, width, C(0));
    hold<kPack>(w, dy + start, width, C(0));
{gamma}
    const C mean = width ? means[row] : C(0), rstd = width ? rstds[row] : C(0);
    Totals total{{0, 0}};
#pragma unroll
    for (int i = 0; i < kSize; ++i) {{
      v[i] = (v[i] - mean) * rstd;
      total = total + Totals{{w[i], w[i] * v[i]}};
    }}
    total = over_row<kThreads>(total, Add());
    const C a = {a}, c = total.product / C(n);
#pragma unroll
    for (int i = 0; i < kSize; ++i) v[i] = rstd * (w[i] - a - v[i] * c);
    put<kPack>(dx + start, v, width);"""
HELD_GAMMA = """\
    C gamma_[kSize];
    hold<kPack>(gamma_, gamma, width, C(0));
#pragma unroll
    for (int i = 0; i < kSize; ++i) w[i] *= gamma_[i];"""

ROW_TOTALS = """\
struct Rule {{
  using A = Totals;
  const C* means;
  const C* rstds;
  const C* gamma;
  A* totals;
  A start() const {{ return {{0, 0}}; }}
  A step(A acc, T x, T dy, Index at, Index row) const {{
    const C g = to<C>(dy){scale};
    return acc + Totals{{g, g * ((to<C>(x) - means[row]) * rstds[row])}};
  }}
  A combine(A a, A b) const {{ return a + b; }}
  void finish(A acc, Index row, Index) const {{ totals[row] = acc; }}
}};
"""

ELEMENTS_BACKWARD = """\
    const C mean = means[lane(0)], rstd = rstds[lane(0)];
    const Totals total = totals[lane(0)];
    const C a = {a}, c = total.product / C(n);
    const auto v = load<kPack>(x + at, is_aligned<kPack>(x + at));
    const auto w = load<kPack>(dy + at, is_aligned<kPack>(dy + at));
    Pack<T, kPack> made;
#pragma unroll
    for (int j = 0; j < kPack; ++j) {{
      const C g = to<C>(w.at[j]){scale};
      made.at[j] = to<T>(rstd * (g - a - (to<C>(v.at[j]) - mean) * rstd * c));
    }}
    store(dx + at, made, is_aligned<kPack>(dx + at));"""

# Over the rows of x and dy, for each of the n columns.
PARAMETERS = """\
struct Rule {
  using A = Totals;
  const C* means;
  const C* rstds;
  C* dgamma;
  C* dbeta;
  A start() const { return {0, 0}; }
  A step(A acc, T x, T dy, Index row, Index) const {
    return acc + Totals{to<C>(dy), to<C>(dy) * ((to<C>(x) - means[row]) * rstds[row])};
  }
  A combine(A a, A b) const { return a + b; }
  void finish(A acc, Index, Index column) const {
    dgamma[column] = acc.product;
    dbeta[column] = acc.g;
  }
};
"""


def _dx(f: Flags) -> Recipe:
    """The gradient of x."""
    names = {"x": "const T*", "dy": "const T*", "means": "const C*", "rstds": "const C*"}
    operands = _pointers(names | ({"gamma": "const C*"} if f.gamma else {}) | {"dx": "T*"})
    a = "C(0)" if f.rms else "total.g / C(n)"
    body = HELD_BACKWARD.format(gamma=HELD_GAMMA if f.gamma else "", a=a)
    held = held_rows("row_norm_bwd_held", f.dtype, f.rows, f.n, 2, _parameters(operands), TOTALS, body)
    if held:
        return Recipe((held,))
    totals, reserved = Scratch(0), ceil(f.rows * 2 * f.size, 256) * 256
    # Without a gamma its pointer is not read.
    members = [*operands[2:4], ("const C*", "gamma", Operand(4 if f.gamma else 2)), ("Totals*", "totals", totals)]
    text = f.types + TOTALS + ROW_TOTALS.format(scale=" * gamma[at]" if f.gamma else "")
    found = fold("row_norm_totals", Rule(text, 2 * f.size, members), [(Operand(0), f.dtype), (Operand(1), f.dtype)],
                 [Axis(f.rows, f.n, 1)], [Axis(f.n, 1)], reserved)  # fmt: skip
    body = ELEMENTS_BACKWARD.format(a=a, scale=" * gamma[place(j)]" if f.gamma else "")
    parameters = _parameters([*operands, ("const Totals*", "totals", totals)])
    last = each("row_norm_bwd_each", f.dtype, f.rows, f.n, 1, parameters, TOTALS, body)
    return Recipe((*found.launches, last), found.workspace)


def _dparameters(f: Flags) -> Recipe:
    """The gradients of gamma and beta."""
    first = 5 + f.gamma  # the output behind dx
    members = [*_pointers({"means": "const C*", "rstds": "const C*"}, 2),
               *_pointers({"dgamma": "C*", "dbeta": "C*"}, first)]  # fmt: skip
    rule = Rule(f.types + TOTALS + PARAMETERS, 2 * f.size, members)
    operands: list[tuple[Argument, str]] = [(Operand(0), f.dtype), (Operand(1), f.dtype)]
    return fold("row_norm_parameters", rule, operands, [Axis(f.n, 1, 1)], [Axis(f.rows, f.n)])


def row_norm_bwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    f = Flags.of(ins[0], attrs)
    made = [_dparameters(f)] if f.parameters else []
    made += [_dx(f)] if f.rows * f.n else []
    launches: list[Launch] = [launch for r in made for launch in r.launches]
    return Recipe(tuple(launches), max((r.workspace for r in made), default=0))


FACTORIES: dict[str, Factory] = {"row_norm": row_norm, "row_norm_bwd": row_norm_bwd}
