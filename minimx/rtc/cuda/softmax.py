"""Softmax and its gradient on a GPU, over the middle axis of contiguous (outer, n, inner) arrays. The twin of
csrc/cpu/softmax.cc.

Rows (inner = 1) that fit are held in registers and read once. Longer ones are folded to a total each (fold.py, which
cuts them into segments where rows are few), and a second launch makes the elements. Columns (inner > 1) are read twice
by the threads that have them. Cross-entropy: cross_entropy.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .collective import SMS, THREADS, ceil, pack_of, power_of_two
from .fold import FOLD, Axis, Rule, fold
from .recipe import Argument, Factory, Launch, Operand, Recipe, Scratch, Value, blocks_for, code
from .row import each, held_rows, types

SIZE = 16  # bytes of the largest total
SOFTMAX = Path(__file__).with_name("softmax.h").read_text()


class Form(NamedTuple):
    """One of the four functions. held: a row in registers, ``v`` (and ``w``) of kSize elements, becomes the result;
    the rest are the members of Rule (softmax.h).
    """

    held: str
    total: str
    start: str
    step: str
    combine: str
    ready: str
    result: str


FORMS = {
    "softmax": Form(
        """\
    C top = v[0];
    for (int i = 1; i < kSize; ++i) top = maximum(top, v[i]);
    top = over_row<kThreads>(top, Larger());
    C sum = 0;
    for (int i = 0; i < kSize; ++i) sum += v[i] = exponential(v[i] - top);
    const C scale = 1 / over_row<kThreads>(sum, Add());
    for (int i = 0; i < kSize; ++i) v[i] *= scale;""",
        "Total", "{C(-INFINITY), C(0)}", "with(acc, to<C>(x))", "joined(a, b)",
        "{t.top, 1 / (t.sum + (t.top - t.top))}", "exponential(x - t.top) * t.sum"),
    "log_softmax": Form(
        """\
    C top = v[0];
    for (int i = 1; i < kSize; ++i) top = maximum(top, v[i]);
    top = over_row<kThreads>(top, Larger());
    C sum = 0;
    for (int i = 0; i < kSize; ++i) sum += exponential(v[i] - top);
    sum = over_row<kThreads>(sum, Add());
    const C lse = top - top == C(0) ? top + log(sum) : top;
    for (int i = 0; i < kSize; ++i) v[i] -= lse;""",
        "Total", "{C(-INFINITY), C(0)}", "with(acc, to<C>(x))", "joined(a, b)", "{log_sum(t), C(0)}", "x - t.top"),
    "softmax_bwd": Form(
        """\
    C sum = 0;
    for (int i = 0; i < kSize; ++i) sum += v[i] * w[i];
    sum = over_row<kThreads>(sum, Add());
    for (int i = 0; i < kSize; ++i) v[i] *= w[i] - sum;""",
        "C", "0", "acc + to<C>(x) * to<C>(dy)", "a + b", "t", "x * (dy - t)"),
    "log_softmax_bwd": Form(
        """\
    C sum = 0;
    for (int i = 0; i < kSize; ++i) sum += w[i];
    sum = over_row<kThreads>(sum, Add());
    for (int i = 0; i < kSize; ++i) v[i] = w[i] - exponential(v[i]) * sum;""",
        "C", "0", "acc + to<C>(dy)", "a + b", "t", "dy - exponential(x) * t"),
}  # fmt: skip

RULE = """\
struct Rule {{
  using A = {total};
  A* totals;
  A start() const {{ return {start}; }}
  template <class I>
  A step(A acc, T x{t_dy}, I, I) const {{
    return {step};
  }}
  A combine(A a, A b) const {{ return {combine}; }}
  template <class I>
  void finish(A acc, I, I into) const {{
    totals[into] = acc;
  }}
  A ready(A t) const {{ return {ready}; }}
  C result(A t, C x{c_dy}) const {{ return {result}; }}
}};
"""

COLUMNS = """
extern "C" __global__ void __launch_bounds__(kThreads) KERNEL({parameters}, Index lanes, Index n, Index inner) {{
  softmax_columns<kThreads, kPack>(Rule{{nullptr}}, Operands<{ts}>{{{xs}}}, out, lanes, n, inner);
}}
"""


def declared(dtype: str) -> str:
    """What softmax.h needs before it."""
    return f"using T = {BY_NAME[dtype].ctype};\nusing C = {BY_NAME[dtype].compute};\n"


def axes_of(outer: int, n: int, inner: int) -> tuple[list[Axis], list[Axis]]:
    """The axes of lanes and of their elements, for fold.py."""
    return [Axis(outer, n * inner, inner), Axis(inner, 1, 1)], [Axis(n, inner)]


def _columns(name: str, dtype: str, rule: str, outer: int, n: int, inner: int, operands: int,
             parameters: Sequence[tuple[str, Argument]]) -> Launch:  # fmt: skip
    lanes, pack, x = outer * inner, pack_of(BY_NAME[dtype].size, inner), 32
    while x > 8 and ceil(lanes, pack * x) < SMS:
        x //= 2
    while pack > 1 and ceil(lanes, pack * x) < SMS:
        pack //= 2
    y = min(THREADS // x, power_of_two(ceil(n, 4)))
    text = FOLD + types(dtype, lanes * n, kThreads=THREADS, kPack=pack) + SOFTMAX + rule
    text += COLUMNS.format(parameters=", ".join(p for p, _ in parameters), ts=", ".join(["T"] * operands),
                           xs=", ".join(["x", "dy"][:operands]))  # fmt: skip
    index = "int64" if lanes * n >= 1 << 30 else "int32"
    args = (*(a for _, a in parameters), *(Value(v, index) for v in (lanes, n, inner)))
    return Launch(code(name, text), (blocks_for(ceil(lanes, pack), x), 1, 1), (x, y, 1), args)


def _recipe(name: str, out: Spec, attrs: dict[str, Any], operands: int) -> Recipe:
    """The form ``name`` of one or two operands."""
    form, dtype = FORMS[name], out.dtype
    outer, n, inner = (attrs[a] for a in ("outer", "n", "inner"))
    if outer * n * inner == 0:
        return Recipe(())
    names = ["x", "dy"][:operands]
    parameters = [(f"const T* {x}", Operand(i)) for i, x in enumerate(names)] + [("T* out", Operand(operands))]
    two = operands == 2
    rule = RULE.format(**form._asdict(), t_dy=", T dy" if two else "", c_dy=", C dy" if two else "")
    if inner > 1:
        return Recipe((_columns(f"{name}_columns", dtype, rule, outer, n, inner, operands, parameters),))
    missing = "0" if two else "C(-INFINITY)"
    held_in = dict(zip(names, "vw", strict=False))
    lines = [f"    C {v}[kSize];\n    hold<kPack>({v}, {x} + start, width, C({missing}));" for x, v in held_in.items()]
    lines += [form.held.replace("    for", "#pragma unroll\n    for"), "    put<kPack>(out + start, v, width);"]
    body = "\n".join(lines)
    held = held_rows(f"{name}_held", dtype, outer, n, operands, parameters, SOFTMAX, body)
    return Recipe((held,)) if held else _long_rows(name, dtype, rule, outer, n, parameters)


def _long_rows(name: str, dtype: str, rule: str, rows: int, n: int,
               parameters: Sequence[tuple[str, Argument]]) -> Recipe:  # fmt: skip
    """A total of each row, then the elements."""
    totals, reserved = Scratch(0), ceil(rows * SIZE, 256) * 256
    total = Rule(declared(dtype) + SOFTMAX + rule, SIZE, [("Rule::A*", "totals", totals)])
    folded = fold(f"{name}_total", total, [(a, dtype) for _, a in parameters[:-1]], *axes_of(rows, n, 1), reserved)
    names = ["x", "dy"][: len(parameters) - 1]
    loads = [f"    const auto p_{x} = load<kPack>({x} + at, is_aligned<kPack>({x} + at));" for x in names]
    elements = ", ".join(f"to<C>(p_{x}.at[j])" for x in names)
    body = "\n".join([*loads, f"""\
    const Rule rule{{totals}};
    const auto total = rule.ready(totals[at / n]);
    Pack<T, kPack> made;
#pragma unroll
    for (int j = 0; j < kPack; ++j) made.at[j] = to<T>(rule.result(total, {elements}));
    store(out + at, made, is_aligned<kPack>(out + at));"""])  # fmt: skip
    last = each(f"{name}_each", dtype, rows, n, 1, [*parameters, ("Rule::A* totals", totals)], SOFTMAX + rule, body)
    return Recipe((*folded.launches, last), folded.workspace)


def softmax(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    return _recipe("log_softmax" if attrs["log"] else "softmax", outs[0], attrs, 1)


def softmax_bwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    return _recipe("log_softmax_bwd" if attrs["log"] else "softmax_bwd", outs[0], attrs, 2)


FACTORIES: dict[str, Factory] = {"softmax": softmax, "softmax_bwd": softmax_bwd}
