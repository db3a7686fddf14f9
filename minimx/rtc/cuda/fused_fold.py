"""Kernels of "fold" groups (../folds.py): elements are made of operands and folded as they are made.

The walk is fold.h's, by rows or by columns, with a second launch where results are too few to keep the device busy.
What is special is written as text: operands of different strides, of which a thread takes packs of 16 bytes where they
lie so, and reads once a result what does not change along the folded axes; several accumulators side by side; values of
elements that are stored on the way; steps on the results. How operands lie: fold_walk.py. The twin of ../host_folds.py.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from ...errors import NotSupported
from .. import text
from ..folds import FoldGroup
from ..group import Ref
from . import recipe
from .collective import THREADS
from .fold import FOLD, Cut, join_cut
from .fold_walk import FoldWalk, Lane
from .pointwise import PARAMETER_BYTES
from .recipe import Argument, Launch, Recipe, Scratch, Value


class FoldText(FoldWalk):
    """The kernel's text and launches."""

    def operands(self) -> str:
        """``struct Arrays`` and what it gives at a result, fold.h's protocol."""
        made = "".join(f"    Pack<{x.type}, kCount> {x.name};\n" for x in self.stores)
        moving, still = [x for x in self.loads if not x.once], [x for x in self.loads if x.once]
        fields = [f"const {x.type}* {x.name}" for x in moving] + [f"{x.type}* {x.name}" for x in self.stores]
        held = [f"{self._held(x)} v{x.name[1:]}" for x in still]
        packed = [x for x in (*moving, *self.stores) if x.how == "pack"]
        loaded = "".join(f"    {self._held(x, 'kCount')} v{x.name[1:]};\n" for x in moving)
        read = "".join(f"    e.v{x.name[1:]} = {self._read(x, 'kCount', 'aligned', self.along.member(x.folded))};\n"
                       for x in moving)  # fmt: skip
        put = "".join(f"    {self._put(x)};\n" for x in self.stores)
        args = ", ".join(f.arg.kind + str(f.arg.number) for f in self.group.folds)
        element = [f"const {x.type} x{x.name[1:]} = {'' if not x.once else 'at->'}v{x.name[1:]}{self._part(x)};"
                   for x in self.loads]  # fmt: skip
        element += _lines(self.group, "prologue")
        element += [f"{x.name}.at[j] = t{r.number};" for x, r in zip(self.stores, self._stored(), strict=True)]
        steps = "".join(f"      {line}\n" for line in [*element, f"return f({args});"])
        shown = [f"{x.name}{self.shown.member(x.kept)}" for x in (*moving, *self.stores)]
        shown += [self._read(x, str(self._held_count(x)), "", self.shown.member(x.kept)) for x in still]
        pointers = [f"const {x.type}* {x.name}" for x in self.loads] + [f"{x.type}* {x.name}" for x in self.stores]
        return f"""\
/// The operands at one result{" (or a pack of them)" if self.pack > 1 and not self.is_rows else ""}.
struct AtResult {{
  const Place& place;
{"".join(f"  {x};" + chr(10) for x in [*fields, *held])}
  /// kCount neighbours, and what is made of them.
  template <int kCount>
  struct Elements {{
    const AtResult* at;
{loaded}{made}
    template <class F>
    auto apply(int j, const F& f) {{
{steps}    }}
  }};
  template <int kCount>
  bool aligned() const {{
    return {" && ".join(f"is_aligned<kCount>({x.name})" for x in packed) or "true"};
  }}
  template <int kCount>
  Elements<kCount> load_at(Along o, bool aligned) const {{
    Elements<kCount> e;
    e.at = this;
{read}    return e;
  }}
  template <int kCount>
  void put(Along o, const Elements<kCount>& e, bool aligned) const {{
{put}  }}
}};
struct Arrays {{
  const Place& place;
{"".join(f"  {x};" + chr(10) for x in pointers)}
  AtResult from(Shown o) const {{
    return {{{", ".join(["place", *shown])}}};
  }}
}};
"""

    def _stored(self) -> list[Ref]:
        return [r for r in self.group.outputs if self.group.stored(r)]

    def _held_count(self, x: Lane) -> int:
        """How many values of an operand that is read once a result: by columns there are several results."""
        return 1 if self.is_rows else self.pack

    def _held(self, x: Lane, count: str = "") -> str:
        """The type of what is loaded."""
        count = count or str(self._held_count(x))
        return x.type if x.how == "one" or count == "1" else f"Pack<{x.type}, {count}>"

    def _part(self, x: Lane) -> str:
        """Element j of it."""
        return "" if x.how == "one" or (x.once and self._held_count(x) == 1) else ".at[j]"

    def _read(self, x: Lane, count: str, aligned: str, offset: str) -> str:
        place = f"{x.name}{offset}"
        if x.how == "one" or count == "1":
            return f"*({place})" if offset else f"*{x.name}"
        if x.how == "run" and self.pack > 1:
            return f"gather<{count}>({place}, place.{x.name}_step)"
        return f"load<{count}>({place}, {aligned or f'is_aligned<{count}>({place})'})"

    def _put(self, x: Lane) -> str:
        place = f"{x.name}{self.along.member(x.folded)}"
        if x.how == "run" and self.pack > 1:
            return f"scatter({place}, e.{x.name}, place.{x.name}_step)"
        return f"store({place}, e.{x.name}, aligned)"

    def rule(self, finishes: bool) -> str:
        """``struct Rule`` of fold.h: the accumulators, and with ``finishes`` the steps on results."""
        folds = self.group.folds
        names = [f"{f.row}_" for f in folds]
        types = [text.ctype(f.compute) for f in folds]
        each = list(zip(names, types, range(len(folds)), strict=True))
        members = "".join(f"  {t} a{k};\n" for _, t, k in each)
        start = ", ".join(f"{n}::init<{t}>()" for n, t, _ in each)
        params = ", ".join(f"{text.ctype(f.arg.dtype)} x{k}" for k, f in enumerate(folds))
        step = ", ".join(f"{n}::step<{t}>(acc.a{k}, to<{t}>(x{k}))" for n, t, k in each)
        combine = ", ".join(f"{n}::combine<{t}>(a.a{k}, b.a{k})" for n, t, k in each)
        fields = "".join(f"  {t} {n};\n" for t, n, _ in self.rule_members(finishes))
        return f"""\
struct Accumulators {{
{members}}};
struct Rule {{
  using A = Accumulators;
{fields}  A start() const {{ return {{{start}}}; }}
  A step(A acc, {params}, Index, Index) const {{ return {{{step}}}; }}
  A combine(A a, A b) const {{ return {{{combine}}}; }}
{self.finish() if finishes else ""}}};
"""

    def finish(self) -> str:
        """The method that takes the result of every reduction through the epilogue."""
        lines = [f"const {x.type} x{x.name[1:]} = {x.name}[{self._at_end(x)}];" for x in self.late]
        for k, f in enumerate(self.group.folds):
            c = text.ctype(f.compute)
            value = f"{f.row}_::finish<{c}>(acc.a{k}, to<{c}>(n))"
            lines.append(f"const {text.ctype(f.dtype)} r{k} = to<{text.ctype(f.dtype)}>({value});")
        lines += _lines(self.group, "epilogue")
        lines += [f"{x.name}[{self._at_end(x)}] = {r.kind}{r.number};" for x, r in self.ends]
        return "\n".join(["  void finish(A acc, Index, Into o) const {", *(f"    {x}" for x in lines), "  }"]) + "\n"

    def _at_end(self, x: Lane) -> str:
        return self.into.member(x.kept).removeprefix(" + ") or "0"

    def rule_members(self, finishes: bool) -> list[tuple[str, str, Argument]]:
        """(type, name, argument) of the members of Rule."""
        if not finishes:
            return []
        members: list[tuple[str, str, Argument]] = [
            (f"const {x.type}*", x.name, recipe.Operand(x.slot)) for x in self.late
        ]
        members += [(f"{x.type}*", x.name, recipe.Operand(x.slot)) for x, _ in self.ends]
        return [*members, ("int64_t", "n", Value(self.folded.size))]

    # ---- launches ---------------------------------------------------------------------------------------------------

    def first(self, partial: Argument | None) -> Launch:
        """The launch that reads elements; partial: where its accumulators go, unless it finishes."""
        finishes = partial is None
        part = self.group if finishes else dataclasses.replace(self.group, epilogue=())
        structs = {"from": self.shown, "along": self.along} | ({"into": self.into} if finishes else {})
        pointers = [(f"const {x.type}*", x.name, recipe.Operand(x.slot)) for x in self.loads]
        pointers += [(f"{x.type}*", x.name, recipe.Operand(x.slot)) for x in self.stores]
        rule = [n for _, n, _ in self.rule_members(finishes)]
        members = [m for m in self.rule_members(finishes) if m not in pointers]
        numbers = self.numbers(list(structs.values())) + self.steps_of_runs()
        kept: list[tuple[str, str, Argument]] = [("Accumulators*", "partial", partial)] if partial is not None else []
        pass_ = "rows" if self.is_rows else "columns"
        title = f"// {', '.join(part.rows)}, by {pass_}: {self._lying()}"
        sink = "Finished<Rule, Place>{rule, place}" if finishes else "Kept<Accumulators>{partial, results}"
        body = [f"const Place place{{{', '.join(n for _, n, _ in numbers)}}};",
                f"const Rule rule{{{', '.join(rule)}}};",
                f"const Arrays arrays{{{', '.join(['place', *(n for _, n, _ in pointers)])}}};",
                f"fold_{pass_}<{THREADS}, {self.pack}, {self.at_once}>(rule, place, {sink}, arrays, results, elements,"
                " segment);"]  # fmt: skip
        parts = [title, text.functions([part]), self.place("Place", structs), self.operands(),
                 self.rule(finishes)]  # fmt: skip
        return self._launch("fused_fold", parts, [*pointers, *members, *kept, *numbers], body, self.cut)

    def _lying(self) -> str:
        """How the operands lie, for people."""
        lanes = [f"{x.dtype} ({x.how}{', once a result' if x.once else ''})" for x in self.loads]
        return f"{', '.join(lanes)} -> {', '.join(f'{x.dtype} ({x.how})' for x in self.stores) or 'nothing'} on the way"

    def second(self, partial: Argument) -> Launch:
        """The launch that joins the accumulators of segments."""
        part = dataclasses.replace(self.group, prologue=())
        structs = {"into": self.into}
        place = self.place("Results", structs)
        members, numbers = self.rule_members(True), self.numbers([self.into])
        body = ["const Place place{{" + ", ".join(n for _, n, _ in numbers) + "}, results};",
                f"const Rule rule{{{', '.join(n for _, n, _ in members)}}};",
                "const Operands<Accumulators> operands{partial};", "const Join<Rule> join{rule};",
                f"fold_columns<{THREADS}, 1, 8>(join, place, Finished<Rule, Place>{{rule, place}}, operands, results,"
                " elements, segment);"]  # fmt: skip
        title = f"// Joins the segments of {', '.join(part.rows)}"
        parts = [title, text.functions([part]), place, JOIN_PLACE, self.rule(True)]
        pointers = [("const Accumulators*", "partial", partial), *members]
        cut = join_cut(self.kept.size, self.cut.segments)
        return self._launch("fused_fold_join", parts, [*pointers, *numbers], body, cut, cut.segment)

    def _launch(self, name: str, parts: Sequence[str], given: Sequence[tuple[str, str, Argument]], body: Sequence[str],
                cut: Cut, elements: int | None = None) -> Launch:  # fmt: skip
        kind = "int32" if self.index == "int" else "int64"
        sizes = {"results": self.kept.size, "elements": self.folded.size if elements is None else elements,
                 "segment": cut.segment}  # fmt: skip
        given = [*given, *(("Index", n, Value(v, kind)) for n, v in sizes.items())]
        if 8 * len(given) > PARAMETER_BYTES:
            raise NotSupported(
                "fused_fold", f"{PARAMETER_BYTES} bytes of kernel arguments", 8 * len(given), "Fuse fewer operators"
            )
        parameters = ", ".join(f"{t} {'__restrict__ ' if self._alone(t) else ''}{n}" for t, n, _ in given)
        head = f'extern "C" __global__ void __launch_bounds__({THREADS}) KERNEL({parameters}) {{'
        kernel = [*textwrap.wrap(head, 116, subsequent_indent="    "), *(f"  {line}" for line in body), "}"]
        source = "\n".join([FOLD, f"using Index = {self.index};", *parts, *kernel]) + "\n"
        grid = (cut.blocks, cut.segments, 1)
        return Launch(recipe.code(name, source), grid, (*cut.threads, 1), tuple(a for *_, a in given))

    def _alone(self, type_: str) -> bool:
        """True for pointers that nothing else is written through: where elements are stored, that may be in place."""
        return type_.endswith("*") and not self.stores

    def recipe(self) -> Recipe:
        """One launch, or two where elements are cut into segments."""
        if self.group.results == 0:
            return Recipe(())
        if self.cut.segments == 1:
            return Recipe((self.first(None),))
        partial = Scratch(0)
        size = self.cut.segments * self.kept.size * self._accumulator_bytes()
        return Recipe((self.first(partial), self.second(partial)), size)


JOIN_PLACE = """\
struct Place {
  Results at;
  Index results;
  Index from(Index r) const { return r; }
  Index along(Index segment) const { return segment * results; }
  Into into(Index r) const { return at.into(r); }
};
"""


def fused(group: FoldGroup) -> Recipe:
    """The recipe of a group; data: its arrays, then its outputs. Raises NotSupported beyond 4 KB of arguments."""
    return FoldText(group).recipe()


def _lines(group: FoldGroup, part: str) -> list[str]:
    """``const float t0 = add_::f<float>(x0, x1);``, one a step; the epilogue's are counted on."""
    steps = getattr(group, part)
    first = len(group.prologue) if part == "epilogue" else 0
    return [f"const {text.ctype(s.dtype)} t{first + i} = {text.step(s)};" for i, s in enumerate(steps)]
