"""Host dialect of groups of rows: a RowGroup (rows.py) as a C++ function over the rows [begin, end).

A walk is a plain loop along the row that the compiler vectorises; a reduction has an accumulator for each of kLanes
neighbours, so that no chain of additions holds the loop up and no order is changed behind the program's back. What
later walks read again lies in a buffer on the stack, the row itself in the cache. The twin on the GPU:
cuda/fused_rows.py.
"""

from __future__ import annotations

from ..ops.dtypes import BY_NAME
from ..ops.emit import c_name
from . import text
from .group import Reduction
from .rows import Phase, Phases, RowGroup, RowOperand

LANE_BYTES = 128  # of the accumulators of a reduction, for rows that have as many elements


def body(g: RowGroup) -> list[str]:
    """The body of the function of one group (emit_host.py has its head)."""
    return RowLoops(g).body()


class RowLoops:
    """A function over rows to be."""

    def __init__(self, group: RowGroup) -> None:
        self.group = group
        self.phases = Phases(group, late=True)
        folds = [s for s in group.steps if isinstance(s, Reduction)]
        most = LANE_BYTES // max(4, *(BY_NAME[s.compute].size for s in folds))
        self.lanes = min(most, 1 << max(0, group.n.bit_length() - 2))

    def body(self) -> list[str]:
        """All of it."""
        g, lines = self.group, []
        lines.append(f"  constexpr int64_t n = {g.n}, kLanes = {self.lanes};")
        for k in sorted(self.phases.kept):
            lines.append(f"  alignas(64) {text.ctype(g.steps[k].dtype)} u{k}[n];  // kept from walk to walk")
        lines.append("  for (int64_t row = begin; row < end; ++row) {")
        body = self._begin()
        for p, walk in enumerate(self.phases.walks):
            body += self._of_row(walk.first)
            body += self._walk(p, walk)
        body += self._of_row(self.phases.tail)
        body += [f"q{k}[row] = t{r.number};" for k, r in enumerate(g.outputs) if not g.of_elements(r)]
        lines += [line if line.startswith("#") else "    " + line for line in body]
        return [*lines, "  }"]

    def _begin(self) -> list[str]:
        """Where the row is in every operand and output; what is one number of it."""
        g, lines = self.group, []
        axes = {d for o in g.inputs for d, s in enumerate(o.outer) if s}
        if len(g.outer) > 1:
            lines += text.index_lines("row", [str(m) for m in g.outer], axes, "int64_t")
        for k, o in enumerate(g.inputs):
            parts = [f"{f'i{d}' if len(g.outer) > 1 else 'row'} * {s}" for d, s in enumerate(o.outer) if s]
            if o.varies:
                lines.append(f"const auto* r{k} = {' + '.join([f'p{k}', *parts])};")
            else:
                lines.append(f"const {text.ctype(o.dtype)} x{k} = p{k}[{' + '.join(parts) or '0'}];")
        return lines + [f"auto* s{k} = q{k} + row * n;" for k, r in enumerate(g.outputs) if g.of_elements(r)]

    def _of_row(self, steps: tuple[int, ...]) -> list[str]:
        """Results of reductions, and steps on those: one number for the row each."""
        lines = []
        for k in steps:
            s = self.group.steps[k]
            if isinstance(s, Reduction):
                kind = text.ctype(s.compute)
                value = f"to<{text.ctype(s.dtype)}>({c_name(s.row)}::finish<{kind}>(a{k}[0], to<{kind}>(n)))"
            else:
                value = text.step(s)
            lines.append(f"const {text.ctype(s.dtype)} t{k} = {value};")
        return lines

    def _walk(self, p: int, walk: Phase) -> list[str]:
        """Along the row."""
        if not (walk.folds or walk.stores or walk.keeps):
            return []
        if not walk.folds:
            body = ["  " + line for line in self._element(p, walk)]
            return ["#pragma GCC ivdep", f"for (int64_t i = 0; i < n; ++i) {{  // walk {p}", *body, "}"]
        lines = []
        for k in walk.folds:
            kind = text.ctype(self.group.fold(k).compute)
            lines += [f"{kind} a{k}[kLanes];", f"std::fill_n(a{k}, kLanes, {self._call(k, 'init')}());"]
        lines += [f"const auto walk{p} = [&](int64_t i, int64_t lane) {{",
                  *["  " + line for line in self._element(p, walk)], "};",
                  "for (int64_t i = 0; i < n / kLanes * kLanes; i += kLanes)",
                  "#pragma GCC ivdep",
                  f"  for (int64_t lane = 0; lane < kLanes; ++lane) walk{p}(i + lane, lane);",
                  "#pragma GCC ivdep",
                  f"for (int64_t i = n / kLanes * kLanes; i < n; ++i) walk{p}(i, i % kLanes);",
                  "for (int64_t half = kLanes / 2; half > 0; half /= 2)",
                  "  for (int64_t lane = 0; lane < half; ++lane) {"]  # fmt: skip
        lines += [f"    a{k}[lane] = {self._call(k, 'combine')}(a{k}[lane], a{k}[lane + half]);" for k in walk.folds]
        return [*lines, "  }"]

    def _element(self, p: int, walk: Phase) -> list[str]:
        """Element ``i``."""
        g, lines = self.group, []
        for k in walk.operands:
            o = g.inputs[k]
            lines.append(f"const {text.ctype(o.dtype)} x{k} = r{k}[{'i' if g.runs(o) else self._along(o)}];")
        lines += [f"const {text.ctype(g.steps[k].dtype)} t{k} = u{k}[i];" for k in self.phases.read(p)]
        for k in walk.steps:
            lines.append(f"const {text.ctype(g.steps[k].dtype)} t{k} = {text.step(g.steps[k])};")  # type: ignore[arg-type]
        lines += [text.assigned(f"u{k}[i]", f"t{k}", g.steps[k].dtype) for k in walk.keeps]
        for k in walk.folds:
            s = self.group.fold(k)
            lines.append(f"a{k}[lane] = {self._call(k, 'step')}(a{k}[lane], {text.value(s.arg, s.compute)});")
        stored = [(k, g.outputs[k]) for k in walk.stores]
        return lines + [text.assigned(f"s{k}[i]", f"{r.kind}{r.number}", r.dtype) for k, r in stored]

    def _along(self, o: RowOperand) -> str:
        """Where element ``i`` is in an operand whose elements are no neighbours."""
        extent, parts = [str(m) for m in self.group.inner], []
        for d, s in enumerate(o.inner):
            if s:
                below = " * ".join(extent[d + 1 :])
                at = f"i / ({below})" if below else "i"
                parts.append(f"({at}){f' % {extent[d]}' if d else ''} * {s}")
        return " + ".join(parts)

    def _call(self, k: int, function: str) -> str:
        """One of the four functions of a reduction."""
        s = self.group.fold(k)
        return f"{c_name(s.row)}::{function}<{text.ctype(s.compute)}>"
