"""Writing regions of arrays, as csrc/cpu/paste.cc: paste, concat, and the copies that put.py and fill.py need.

One kernel, ``paste``, writes every element of y once: from v inside the region, from base (or a number) outside of it.
Any strides; elements are moved as words of their size, and 16 bytes at once where a stretch of y and of what it is
copied from allow that. concat of contiguous arrays is a kernel of its own: up to ``MOST`` arrays a launch.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..group import broadcast_strides, c_strides
from .moving import ROWS, WIDEST, WORDS, dense, grid_for, index_for, reach, word_bytes
from .recipe import Argument, Launch, Operand, Recipe, Value, code

# ---- numbers --------------------------------------------------------------------------------------------------------

_FORMATS = {"float16": "e", "float32": "f", "float64": "d"}


def bits_of(value: float, dtype: str) -> int:
    """The bits of ``value`` as an element of ``dtype``, as a signed integer; converted as csrc/cpu/convert.h says."""
    size = BY_NAME[dtype].size
    if dtype == "bool":
        return int(value != 0)
    if dtype == "bfloat16":
        (single,) = struct.unpack("<I", _packed(value, "f"))
        rounded = single if math.isnan(value) else single + 0x7FFF + (single >> 16 & 1)
        raw = (rounded >> 16).to_bytes(2, "little")
    elif dtype in _FORMATS:
        raw = _packed(value, _FORMATS[dtype])
    else:
        limit = 1 << (31 if size < 8 else 63)
        whole_part = int(value) if -limit <= value < limit else -limit  # NaN too
        raw = (whole_part % (1 << 8 * size)).to_bytes(size, "little")
    return int.from_bytes(raw, "little", signed=True)


def _packed(value: float, kind: str) -> bytes:
    try:
        return struct.pack("<" + kind, value)
    except OverflowError:
        return struct.pack("<" + kind, math.copysign(math.inf, value))


def number(value: float, dtype: str) -> Value:
    """``value`` as an argument of type ``dtype``."""
    if BY_NAME[dtype].kind == "f":
        return Value(value, dtype)
    bits = bits_of(value, dtype)
    return Value(bits % 256 if dtype == "uint8" else bits, dtype)


def word(value: float, dtype: str) -> Value:
    """``value`` as an argument of the word type of ``dtype``'s size."""
    size, bits = BY_NAME[dtype].size, bits_of(value, dtype)
    return Value(bits % 256, "uint8") if size == 1 else Value(bits, f"int{8 * size}")


# ---- paste ----------------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """Where elements come from: an array (strides in elements), a host scalar (strides None), or a number."""

    operand: Operand | None
    strides: tuple[int, ...] | None = None
    value: float = 0.0
    reach: int = 0


ZERO = Source(None)


def seen(spec: Spec, operand: Operand, shape: Sequence[int]) -> Source:
    """An operand broadcast to ``shape``."""
    if spec.weak:
        return Source(operand)
    return Source(operand, broadcast_strides(spec.shape, spec.strides, shape), 0.0, reach(spec))


class Axis(NamedTuple):
    """An axis of y, and the part of it that the region takes: start + i * step for i < region. Strides in elements."""

    length: int
    start: int
    step: int
    region: int
    v: int
    base: int
    y: int

    @property
    def whole(self) -> bool:
        return (self.start, self.step, self.region) == (0, 1, self.length)


def axes_of(shape: Sequence[int], *columns: Sequence[int]) -> list[Axis]:
    """The axes, those of y's smallest strides last, merged where that changes nothing; at least one."""
    axes: list[Axis] = []
    for a in sorted(map(Axis._make, zip(shape, *columns, strict=True)), key=lambda a: -abs(a.y)):
        if a.region <= 1:
            a = a._replace(step=1)
        if a.length == 1 and a.whole:
            continue
        if axes and a.whole and axes[-1].step == 1:
            b = axes[-1]  # the axis outside of a
            if all(outer == inner * a.length for outer, inner in zip(b[4:], a[4:], strict=True)):
                axes[-1] = Axis(b.length * a.length, b.start * a.length, 1, b.region * a.length, *a[4:])
                continue
        axes.append(a)
    return axes or [Axis(1, 0, 1, 1, 1, 1, 1)]


PASTE = """\
constexpr int kWide = 16 / sizeof(T);  // elements of 16 bytes

struct Axis {
  Index length, start, step, region, v, base, y;  // strides in elements
  // The place in the region of index i of y, or -1.
  Index place(Index i) const {
    const Index from = i - start, k = step == 1 ? from : from / step;
    return k >= 0 && k < region && k * step == from ? k : Index(-1);
  }
};

// Makes all elements of a pack x.
bool fill(Pack<T, kWide>& pack, T x) {
#pragma unroll
  for (int j = 0; j < kWide; ++j) pack.at[j] = x;
  return true;
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(v)s, %(base)s, T* y, Index rows, %(axes)s) {
  const Axis axes[] = {%(table)s};
  const Axis last = axes[%(last)d];
  const auto v_at = [&](Index i) -> T { return %(v_at)s; };
  const auto base_at = [&](Index i) -> T { return %(base_at)s; };
  const Walk walk;
  for (Index r = walk.row; r < rows; r += walk.rows) {
    Index rest = r, to = 0, from = 0, under = 0;  // where the row lies in y, v and base
    bool inside = true;
#pragma unroll
    for (int d = %(last)d - 1; d >= 0; --d) {
      const Index i = rest %% axes[d].length, k = axes[d].place(i);
      rest /= axes[d].length;
      inside = inside && k >= 0;
      to += i * axes[d].y;
      from += k * axes[d].v;
      under += i * axes[d].base;
    }
    const auto element = [&](Index c) -> T {
      const Index k = inside ? last.place(c) : Index(-1);
      return k >= 0 ? v_at(from + k * last.v) : base_at(under + c * last.base);
    };
    const bool wide = last.y == 1 && aligned<Pack<T, kWide>>(y + to);
    const Index packs = wide ? last.length / kWide : 0;
    for (Index p = walk.column; p < packs; p += walk.columns) {
      const Index c = p * kWide, k = c - last.start;
      Pack<T, kWide> made;
      const T* source = nullptr;  // of the whole pack, if it is one stretch of v or of base
      bool ready = false;
      if (inside && last.step == 1 && k >= 0 && k + kWide <= last.region) {
        %(v_source)s
      } else if (!inside || (last.step == 1 && (k + kWide <= 0 || k >= last.region))) {
        %(base_source)s
      }
      if (source && aligned<Pack<T, kWide>>(source)) {
        made = *reinterpret_cast<const Pack<T, kWide>*>(source);
      } else if (!ready) {
#pragma unroll
        for (int j = 0; j < kWide; ++j) made.at[j] = element(c + j);
      }
      *reinterpret_cast<Pack<T, kWide>*>(y + to + c) = made;
    }
    for (Index c = packs * kWide + walk.column; c < last.length; c += walk.columns) y[to + c * last.y] = element(c);
  }
}
"""


def paste_launch(
    y: Spec,
    to: Operand,
    v: Source,
    base: Source = ZERO,
    start: Sequence[int] = (),
    step: Sequence[int] = (),
    region: Sequence[int] | None = None,
) -> Launch:
    """The launch that writes all of y (which has elements): v on the region, base elsewhere. Default: v everywhere."""
    rank = len(y.shape)
    region = y.shape if region is None else tuple(region)
    flat = (0,) * rank
    axes = axes_of(y.shape, start or flat, step or (1,) * rank, region, v.strides or flat, base.strides or flat,
                   y.strides)  # fmt: skip
    index = index_for([math.prod(y.shape), v.reach, base.reach, reach(y), max(abs(s) for a in axes for s in a)])
    typed = any(s.operand is not None and s.strides is None for s in (v, base))
    names = [f"{kind}{d}" for d in range(len(axes)) for kind in ("n", "b", "s", "r", "v", "u", "y")]
    parts = {
        "axes": ", ".join(f"Index {n}" for n in names),
        "table": ", ".join("{" + ", ".join(names[7 * d : 7 * d + 7]) + "}" for d in range(len(axes))),
        "last": len(axes) - 1,
    }
    parts |= _reads("v", v, "from + k") | _reads("base", base, "under + c")
    t = BY_NAME[y.dtype]
    wide = WIDEST // t.size
    text = f"using T = {t.ctype if typed else WORDS[t.size]};\n" + index.text + ROWS + PASTE % parts
    columns = axes[-1].length
    rows = math.prod(a.length for a in axes[:-1])
    grid, block = grid_for(rows, max(1, columns // wide) if axes[-1].y == 1 else columns)
    given = [s.operand or (number if typed else word)(s.value, y.dtype) for s in (v, base)]
    return Launch(code("paste", text), grid, block, (*given, to, *index.values(rows, *(n for a in axes for n in a))))


def _reads(name: str, s: Source, at: str) -> dict[str, str]:
    """How the text of paste declares and reads a source; ``at``: where a stretch of it begins."""
    if s.strides is None:
        return {name: f"T {name}", f"{name}_at": name, f"{name}_source": f"ready = fill(made, {name});"}
    first = at.split(" + ")[0]
    stretch = f"""\
if (last.{name} == 1) source = {name} + {at};
        if (last.{name} == 0) ready = fill(made, {name}[{first}]);"""
    return {name: f"const T* {name}", f"{name}_at": f"{name}[i]", f"{name}_source": stretch}


def paste(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """paste(v[, base]) -> y: base or the number "value", but v (broadcast) at "start" + i * "step", i < "region"."""
    y, region = outs[0], attrs["region"]
    if math.prod(y.shape) == 0:
        return Recipe(())
    v = seen(ins[0], Operand(0), region)
    covers = math.prod(region) == math.prod(y.shape)
    base = Source(None, value=attrs["value"])
    if attrs["base"] and not covers:
        base = seen(ins[1], Operand(1), y.shape)
    to = Operand(2 if attrs["base"] else 1)
    return Recipe((paste_launch(y, to, v, base, attrs["start"], attrs["step"], region),))


# ---- concat ---------------------------------------------------------------------------------------------------------

MOST = 16  # arrays of one launch

# Array z is `width` words of every row of y, from word `first` on.
CONCAT = """\
template <class Word>
void copy_rows(const char* x, char* y, Index rows, Index width, Index first, Index whole) {
  const Word* from = reinterpret_cast<const Word*>(x);
  Word* to = reinterpret_cast<Word*>(y) + first;
  const Walk walk;
  for (Index r = walk.row; r < rows; r += walk.rows)
    for (Index c = walk.column; c < width; c += walk.columns) to[r * whole + c] = from[r * width + c];
}

extern "C" __global__ void __launch_bounds__(256) KERNEL(%(arrays)s, char* y, Index rows, Index whole, %(widths)s) {
  const char* x = x0;
  Index width = w0, first = f0;
  switch (blockIdx.z) {
%(cases)s\
  }
  constexpr Index kItems = sizeof(%(wide)s) / sizeof(%(item)s);
  if (kItems > 1 && aligned<%(wide)s>(x, y))
    copy_rows<%(wide)s>(x, y, rows, width, first, whole);
  else
    copy_rows<%(item)s>(x, y, rows, width * kItems, first * kItems, whole * kItems);
}
"""


def concat(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """concat(xs...) -> y: along "axis"; with "flat" = 1 all elements in C order."""
    y, axis = outs[0], attrs["axis"]
    if attrs["flat"]:
        rows, lengths = 1, [math.prod(x.shape) for x in ins]
    else:
        rows = math.prod(y.shape[:axis])
        lengths = [math.prod(x.shape[axis:]) for x in ins]
    parts = [k for k, n in enumerate(lengths) if n * rows]
    if not parts:
        return Recipe(())
    ats = [sum(lengths[:k]) for k in range(len(ins))]
    if not (dense(y) and all(dense(ins[k]) for k in parts)):
        return Recipe(tuple(_piece(ins[k], k, y, len(ins), attrs, ats[k]) for k in parts))
    item = BY_NAME[y.dtype].size
    wide = max(item, word_bytes(*(n * item for n in lengths)))
    index = index_for([math.prod(y.shape)])
    launches = []
    for i in range(0, len(parts), MOST):
        some = parts[i : i + MOST]
        widths = [n * item // wide for k in some for n in (lengths[k], ats[k])]
        text = index.text + ROWS + _concat_text(len(some), wide, item)
        grid, block = grid_for(rows, max(widths[::2]), len(some))
        operands: list[Argument] = [Operand(k) for k in (*some, len(ins))]
        counts = index.values(rows, sum(lengths) * item // wide, *widths)
        launches.append(Launch(code("concat", text), grid, block, (*operands, *counts)))
    return Recipe(tuple(launches))


def _concat_text(n: int, wide: int, item: int) -> str:
    case = "    case {0}: x = x{0}, width = w{0}, first = f{0}; break;\n"
    return CONCAT % {
        "arrays": ", ".join(f"const char* x{k}" for k in range(n)),
        "widths": ", ".join(f"Index w{k}, Index f{k}" for k in range(n)),
        "cases": "".join(case.format(k) for k in range(1, n)) + "    default: break;\n",
        "wide": WORDS[wide],
        "item": WORDS[item],
    }


def _piece(x: Spec, k: int, y: Spec, outputs_at: int, attrs: dict[str, Any], at: int) -> Launch:
    """One array of a concat by itself, whatever its strides. at: elements before it along (and within) the axis."""
    item = BY_NAME[y.dtype].size
    if attrs["flat"]:
        target = Spec(x.shape, y.dtype, c_strides(x.shape))
        offset = at * y.strides[0]
        target = target._replace(strides=tuple(s * y.strides[0] for s in target.strides))
    else:
        axis = attrs["axis"]
        inner = math.prod(y.shape[axis + 1 :])
        target, offset = Spec(x.shape, y.dtype, y.strides), at // max(inner, 1) * y.strides[axis]
    return paste_launch(target, Operand(outputs_at, offset * item), seen(x, Operand(k), x.shape))


FACTORIES = {"paste": paste, "concat": concat}
