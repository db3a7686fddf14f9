"""Matrix products and convolutions as their definitions say, for what cuBLASLt and cuDNN are not asked for.

    matmul_plain(a, b[, bias]) -> c               a (..., m, k), b (..., k, n); integers wrap, of bools any(a and b)
    conv_fwd_plain(x, w[, b][, z]) -> y           x (N, C, *spatial), w (O, C / groups, *kernel); residual: y + z;
                                                  relu: max(0, y)
    conv_bwd_data_plain(dy, w) -> dx              the transposes of the same map
    conv_bwd_weights_plain(x, dy) -> dw[, db]

float64 and integers, mostly: sums are made in the type itself, of 16-bit floats in float32. Any strides; the twin of
csrc/cpu/conv_plain.cc and matmul_plain.cc. csrc/cuda/conv.cc and matmul.cc choose. Slow, exact in order, and short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .. import text
from ..group import broadcast_strides, collapse
from . import recipe
from .recipe import Factory, Launch, Operand, Recipe, Value, blocks_for

THREADS = 256  # of a block
TILE = 16  # a block makes TILE x TILE elements of a product
BLOCKS = 1 << 16

SUM = """\
template <class A>
A add_product(A a, A b, A sum) {
  if constexpr (is_float<A>)
    return ::fma(a, b, sum);
  else
    return a * b + sum;
}
"""


def sum_type(dtype: str) -> str:
    """The C++ type of sums: integers as unsigned ones, whose overflow is defined."""
    return BY_NAME[dtype].compute if BY_NAME[dtype].kind == "f" else "uint64_t"


class Numbers:
    """The numbers that a text uses: parameters by name, in the order in which they were first named."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def add(self, **values: int) -> None:
        """Names numbers."""
        self.values.update(values)

    def launch(self, name: str, body: str, operands: Sequence[tuple[str, str, int]], blocks: int) -> Launch:
        """The kernel with parameters ``operands`` (type, name, slot) and the numbers."""
        declared = [f"{t}* {x}" for t, x, _ in operands] + [f"int64_t {x}" for x in self.values]
        head = f'extern "C" __global__ void __launch_bounds__({THREADS}) KERNEL({", ".join(declared)}) {{'
        arguments = [Operand(slot) for _, _, slot in operands] + [Value(v) for v in self.values.values()]
        code = recipe.code(name, f"{SUM}{head}\n{body}}}\n")
        return Launch(code, (blocks, 1, 1), (THREADS, 1, 1), tuple(arguments))


def split(at: str, names: Sequence[str], extents: Sequence[str], indent: str) -> str:
    """Lines that take ``at`` apart into an index for each of ``names``, the last innermost."""
    lines = [f"int64_t rest = {at};"]
    for name, extent in zip(reversed(names[1:]), reversed(extents[1:]), strict=True):
        lines += [f"const int64_t {name} = rest % {extent};", f"rest /= {extent};"]
    return "\n".join(indent + line for line in [*lines, f"const int64_t {names[0]} = rest;"]) + "\n"


# ---- matrix products ------------------------------------------------------------------------------------------------


def matmul(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """c = a b + bias, tile by tile through shared memory."""
    a, b, c = ins[0], ins[1], outs[0]
    if math.prod(c.shape) == 0:
        return Recipe(())
    batch = c.shape[:-2]
    strides = [broadcast_strides(s.shape[:-2], s.strides[:-2], batch) for s in (a, b, c)]
    outer, strides = collapse(batch, strides)
    (m, n), k = c.shape[-2:], a.shape[-1]
    numbers = Numbers()
    numbers.add(m=m, n=n, k=k, row_tiles=-(-m // TILE), column_tiles=-(-n // TILE), batches=math.prod(outer))
    for name, s in (("a", a), ("b", b), ("c", c)):
        numbers.add(**{f"{name}_row": s.strides[-2], f"{name}_column": s.strides[-1]})
    for d, extent in enumerate(outer):
        numbers.add(**{f"n{d}": extent}, **{f"{x}{d}": s[d] for x, s in zip("abc", strides, strict=True)})
    t, total = text.ctype(c.dtype), sum_type(c.dtype)
    operands = [(f"const {text.ctype(a.dtype)}", "a", 0), (f"const {text.ctype(b.dtype)}", "b", 1), (t, "c", len(ins))]
    bias = ""
    if len(ins) > 2:
        numbers.add(bias_step=ins[2].strides[-1] if ins[2].shape[-1] != 1 else 0)
        operands.insert(2, (f"const {text.ctype(ins[2].dtype)}", "bias", 2))
        bias = f" + {total}(wide(bias[column * bias_step]))"
    names = [f"i{d}" for d in range(len(outer))]

    def base(x: str) -> str:
        return " + ".join(f"i{d} * {x}{d}" for d in range(len(outer)))

    body = f"""\
  constexpr int kTile = {TILE};
  __shared__ {total} left[kTile][kTile + 1], right[kTile][kTile + 1];
  const int x = threadIdx.x % kTile, y = threadIdx.x / kTile;
  for (int64_t t = blockIdx.x; t < batches * row_tiles * column_tiles; t += gridDim.x) {{
    const int64_t column = t % column_tiles * kTile + x, row = t / column_tiles % row_tiles * kTile + y;
{split("t / column_tiles / row_tiles", names, [f"n{d}" for d in range(len(outer))], "    ")}\
    const auto* pa = a + {base("a")} + row * a_row;
    const auto* pb = b + {base("b")} + column * b_column;
    {total} sum = 0;
    for (int64_t at = 0; at < k; at += kTile) {{
      left[y][x] = row < m && at + x < k ? {total}(wide(pa[(at + x) * a_column])) : {total}(0);
      right[y][x] = column < n && at + y < k ? {total}(wide(pb[(at + y) * b_row])) : {total}(0);
      __syncthreads();
      for (int i = 0; i < kTile; ++i) sum = add_product(left[y][i], right[i][x], sum);
      __syncthreads();
    }}
    if (row < m && column < n) c[{base("c")} + row * c_row + column * c_column] = to<{t}>(sum{bias});
  }}
"""
    tiles = -(-m // TILE) * -(-n // TILE) * math.prod(outer)
    return Recipe((numbers.launch("matmul_plain", body, operands, blocks_for(tiles, 1, BLOCKS)),))


# ---- convolutions ---------------------------------------------------------------------------------------------------


class Conv:
    """What the three have in common: x, w, y by name, and the numbers of their geometry."""

    def __init__(self, x: Spec, w: Spec, y: Spec, attrs: dict[str, Any]) -> None:
        self.rank = len(x.shape) - 2
        self.axes = range(self.rank)
        self.numbers = Numbers()
        outputs, per_group = w.shape[:2]
        self.numbers.add(channels=x.shape[1], outputs=outputs, per_group=per_group, group=outputs // attrs["groups"])
        self.numbers.add(batch=x.shape[0])
        for d in self.axes:
            self.numbers.add(**{f"x{d}": x.shape[d + 2], f"w{d}": w.shape[d + 2], f"y{d}": y.shape[d + 2]})
            self.numbers.add(**{f"{k}{d}": attrs[k][d] for k in ("stride", "pad", "dilate")})
        for name, s in (("x", x), ("w", w), ("y", y)):
            self.numbers.add(**{f"{name}_{d}": step for d, step in enumerate(s.strides)})
        self.dtype, self.total = text.ctype(y.dtype), sum_type(y.dtype)

    def names(self, prefix: str) -> list[str]:
        """``p0``, ``p1``, ...: one for each spatial axis."""
        return [f"{prefix}{d}" for d in self.axes]

    def at(self, name: str, first: str, second: str, spatial: str) -> str:
        """An element: ``x[n * x_0 + c * x_1 + i0 * x_2]``."""
        places = [first, second, *self.names(spatial)]
        return f"{name}[" + " + ".join(f"{p} * {name}_{d}" for d, p in enumerate(places)) + "]"

    def product(self, a: str, b: str) -> str:
        """``sum`` and one more product."""
        return f"sum = add_product({self.total}(wide({a})), {self.total}(wide({b})), sum);"

    def taps(self, indent: str, body: str, places: str) -> str:
        """Loops over the kernel, ``t0``, ``t1``, ..., with ``places`` in each."""
        lines = []
        for d in self.axes:
            deeper = indent + "  " * d
            lines.append(f"{deeper}for (int64_t t{d} = 0; t{d} < w{d}; ++t{d}) {{")
            lines += [f"{deeper}  {line.replace('#', str(d))}" for line in places.splitlines()]
        lines.append(f"{indent}{'  ' * self.rank}{body}")
        lines += [f"{indent}{'  ' * d}}}" for d in reversed(self.axes)]
        return "\n".join(lines) + "\n"


X_OF_Y = "const int64_t i# = p# * stride# + t# * dilate# - pad#;\nif (i# < 0 || i# >= x#) continue;"
Y_OF_X = ("const int64_t s# = i# + pad# - t# * dilate#, p# = s# / stride#;\n"
          "if (s# < 0 || s# % stride# != 0 || p# >= y#) continue;")  # fmt: skip


def loop(elements: str, body: str) -> str:
    """A thread for each of ``elements``."""
    return (f"  for (int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; at < {elements}; "
            f"at += int64_t(gridDim.x) * blockDim.x) {{\n{body}  }}\n")  # fmt: skip


def conv_fwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """y[n, o, p] = sum over c and taps t of x[n, c, p stride + t dilate - pad] w[o, c, t], + b[o] + z[n, o, p]."""
    x, w, y = ins[0], ins[1], outs[0]
    z, ins = (ins[-1], ins[:-1]) if attrs.get("residual") else (None, ins)
    size = math.prod(y.shape)
    c = Conv(x, w, y, attrs)
    last = len(ins) + (z is not None)
    result, operands = "sum", [(f"const {c.dtype}", "x", 0), (f"const {c.dtype}", "w", 1), (c.dtype, "y", last)]
    if len(ins) > 2:
        c.numbers.add(b_0=ins[2].strides[0])
        operands.insert(2, (f"const {text.ctype(ins[2].dtype)}", "b", 2))
        result = f"sum + {c.total}(wide(b[o * b_0]))"
    if z is not None:
        c.numbers.add(**{f"z_{d}": step for d, step in enumerate(z.strides)})
        operands.insert(-1, (f"const {c.dtype}", "z", len(ins)))
        result = f"{result} + {c.total}(wide({c.at('z', 'n', 'o', 'p')}))"
    if attrs.get("relu"):
        result = f"maximum({result}, {c.total}(0))"
    c.numbers.add(size=size)
    names, extents = ["n", "o", *c.names("p")], ["batch", "outputs", *c.names("y")]
    body = (split("at", names, extents, "    ") + f"    {c.total} sum = 0;\n"
            "    for (int64_t j = 0; j < per_group; ++j) {\n"
            "      const int64_t c = o / group * per_group + j;\n"
            + c.taps("      ", c.product(c.at("x", "n", "c", "i"), c.at("w", "o", "j", "t")), X_OF_Y)
            + f"    }}\n    {c.at('y', 'n', 'o', 'p')} = to<{c.dtype}>({result});\n")  # fmt: skip
    return _recipe(c.numbers.launch("conv_fwd_plain", loop("size", body), operands, _blocks(size)), size)


def conv_bwd_data(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """dx[n, c, i] = sum over the outputs o of c's group and taps t of dy[n, o, p] w[o, c, t] where t of p meets i."""
    y, w, x = ins[0], ins[1], outs[0]
    size = math.prod(x.shape)
    c = Conv(x, w, y, attrs)
    operands = [(f"const {c.dtype}", "y", 0), (f"const {c.dtype}", "w", 1), (c.dtype, "x", 2)]
    c.numbers.add(size=size)
    names, extents = ["n", "c", *c.names("i")], ["batch", "channels", *c.names("x")]
    body = (split("at", names, extents, "    ") + f"    {c.total} sum = 0;\n"
            "    const int64_t j = c % per_group, first = c / per_group * group;\n"
            "    for (int64_t o = first; o < first + group; ++o) {\n"
            + c.taps("      ", c.product(c.at("y", "n", "o", "p"), c.at("w", "o", "j", "t")), Y_OF_X)
            + f"    }}\n    {c.at('x', 'n', 'c', 'i')} = to<{c.dtype}>(sum);\n")  # fmt: skip
    return _recipe(c.numbers.launch("conv_bwd_data_plain", loop("size", body), operands, _blocks(size)), size)


def conv_bwd_weights(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """dw[o, j, t] = sum over n and p of x[n, c, p stride + t dilate - pad] dy[n, o, p]; db[o] = sum of dy[n, o, p].

    A block makes an element: its threads share out the places p, and their sums are added in pairs.
    """
    x, y, w = ins[0], ins[1], outs[0]
    c = Conv(x, w, y, attrs)
    names, extents = ["n", *c.names("p")], ["batch", *c.names("y")]
    elements = math.prod(w.shape)
    c.numbers.add(size=elements, places=x.shape[0] * math.prod(y.shape[2:]))
    index = split("e", ["o", "j", *c.names("t")], ["outputs", "per_group", *c.names("w")], "    ")
    condition = " && ".join(f"i{d} >= 0 && i{d} < x{d}" for d in c.axes)
    indices = [f"i{d} = p{d} * stride{d} + t{d} * dilate{d} - pad{d}" for d in c.axes]
    inner = (f"      const int64_t {', '.join(indices)};\n"
             f"      if ({condition}) {c.product(c.at('x', 'n', 'c', 'i'), c.at('y', 'n', 'o', 'p'))}\n")  # fmt: skip
    body = _block_sums(c, index + "    const int64_t c = o / group * per_group + j;\n", names, extents, inner,
                       c.at("w", "o", "j", "t"))  # fmt: skip
    operands = [(f"const {c.dtype}", "x", 0), (f"const {c.dtype}", "y", 1), (c.dtype, "w", 2)]
    launches = [c.numbers.launch("conv_bwd_weights_plain", body, operands, blocks_for(elements, 1, BLOCKS))]
    if len(outs) > 1:
        c.numbers.add(size=w.shape[0], b_0=outs[1].strides[0])
        inner = f"      sum += {c.total}(wide({c.at('y', 'n', 'o', 'p')}));\n"
        body = _block_sums(c, "    const int64_t o = e;\n", names, extents, inner, "b[o * b_0]")
        operands = [(f"const {c.dtype}", "y", 1), (c.dtype, "b", 3)]
        launches.append(c.numbers.launch("conv_bwd_bias_plain", body, operands, blocks_for(w.shape[0], 1, BLOCKS)))
    return Recipe(tuple(launches) if elements else ())


def _block_sums(c: Conv, index: str, names: list[str], extents: list[str], inner: str, out: str) -> str:
    """A block for each element ``e``: ``inner`` adds to ``sum`` for every place, the result goes to ``out``."""
    return f"""\
  __shared__ {c.total} sums[{THREADS}];
  for (int64_t e = blockIdx.x; e < size; e += gridDim.x) {{
{index.replace("rest", "left")}\
    {c.total} sum = 0;
    for (int64_t at = threadIdx.x; at < places; at += {THREADS}) {{
{split("at", names, extents, "      ")}{inner}\
    }}
    sums[threadIdx.x] = sum;
    for (int half = {THREADS} / 2; half > 0; half /= 2) {{
      __syncthreads();
      if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }}
    if (threadIdx.x == 0) {out} = to<{c.dtype}>(sums[0]);
    __syncthreads();
  }}
"""


def _blocks(size: int) -> int:
    return blocks_for(size, THREADS, BLOCKS)


def _recipe(launch: Launch, size: int) -> Recipe:
    return Recipe((launch,) if size else ())


FACTORIES: dict[str, Factory] = {
    "matmul_plain": matmul,
    "conv_fwd_plain": conv_fwd,
    "conv_bwd_data_plain": conv_bwd_data,
    "conv_bwd_weights_plain": conv_bwd_weights,
}
