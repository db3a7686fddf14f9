"""Random kernels, as csrc/cpu/random.cc: the numbers are the CPU's, since both come from the same counters.

Element i is drawn from word i % 4 of Philox4x32-10 (csrc/cpu/philox.h; Salmon, Moraes, Dror and Shaw, SC'11) at counter
(i / 4, iteration, call). Uniform numbers, integers and masks agree with the CPU's to the bit, the others as far as the
logarithms and powers do. A thread draws whole groups of four, or, by rejection, single elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...errors import MXError
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from ..compiler import shared_header
from ..group import broadcast_strides
from .moving import THREADS, collapsed
from .recipe import Argument, Launch, Operand, Recipe, State, Value, blocks_for, code

PHILOX = shared_header("cpu/philox.h")

STREAM = """\
// The numbers of one call of a random operator.
struct Stream {
  uint64_t seed, call;
  Stream(uint64_t given_seed, uint64_t given_call, const uint64_t* base)
      : seed(base ? base[0] : given_seed), call(base ? base[1] + given_call : given_call) {}
  // The words of the four elements of a group.
  Words words(int64_t group, uint32_t iteration) const {
    const Words counter = {{static_cast<uint32_t>(group), iteration, static_cast<uint32_t>(call),
                            static_cast<uint32_t>(call >> 32)}};
    return philox(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  }
};
"""

STATE = "uint64_t seed, uint64_t call, const uint64_t* state"  # the parameters of a State

# ---- parameters of a distribution -----------------------------------------------------------------------------------


class Parameters:
    """How a text reads the parameters of element i, which broadcast to y: numbers, or arrays of any strides.

    declared: the kernel's parameters for them, whose arguments are the operands, then ``extents``. types, reader: text
    that defines Values and ``values_at(i)``. constant: they are the same for all elements.
    """

    def __init__(self, ins: Sequence[Spec], shape: Sequence[int], ctype: str):
        arrays = [k for k, x in enumerate(ins) if not x.weak]
        lengths, strides = collapsed(shape, [broadcast_strides(ins[k].shape, ins[k].strides, shape) for k in arrays])
        varies = any(s for own in strides for s in own)
        declared = [f"{ctype} q{k}" if x.weak else f"const {ctype}* q{k}" for k, x in enumerate(ins)]
        self.extents: list[Value] = []
        lines, reads = [], []
        if varies:
            self.extents = [Value(n) for n in lengths[1:]] + [Value(s) for own in strides for s in own]
            names = [f"n{d}" for d in range(1, len(lengths))]
            names += [f"s{k}_{d}" for k in arrays for d in range(len(lengths))]
            declared += [f"int64_t {n}" for n in names]
            lines = ["int64_t rest = i;"]
            lines += [f"const int64_t at{d} = rest % n{d}; rest /= n{d};" for d in range(len(lengths) - 1, 0, -1)]
            lines += ["const int64_t at0 = rest;"]
        for k, x in enumerate(ins):
            place = " + ".join(f"at{d} * s{k}_{d}" for d in range(len(lengths))) if varies and not x.weak else ""
            reads.append(f"q{k}" if x.weak else f"q{k}[{place or 0}]")
        body = "\n    ".join([*lines, f"return Values{{{{{', '.join(reads)}}}}};"])
        self.reader = f"const auto values_at = [&](int64_t i) -> Values {{\n    {body}\n  }};"
        self.constant, self.declared = not varies, ", ".join(declared)
        self.types = f"struct Values {{\n  {ctype} at[{max(1, len(ins))}];\n}};\n"


# ---- by groups ------------------------------------------------------------------------------------------------------

# base[j] are the uniform (or normal) numbers of elements 4 g + j.
BY_GROUPS = """\
C log1m(C u) { return ::log(1 - u); }
C open_unit(C u) { return u > 0 ? u : C(0x1p-25); }
C madd(C a, C b, C c) { return ::fma(a, b, c); }  // a * b + c, rounded once, as the host's compiler has it

C value(C u, const Values& p) {
  return %(value)s;
}

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(state)s, %(parameters)s, T* y, int64_t elements) {
  const Stream stream(seed, call, state);
  %(reader)s
  constexpr bool kConstant = %(constant)s;  // parameters that are the same for all elements
  Values p = {};
  if (kConstant) p = values_at(0);
  const bool packed = aligned<Pack<T, 4>>(y);
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t g = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; g * 4 < elements; g += step) {
    const Words words = stream.words(g, 0);
    C base[4];
    %(units)s
    if (%(normal)s) {  // Box and Muller, a pair at a time
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        const C radius = ::sqrt(-2 * ::log(1 - base[j])), angle = C(6.283185307179586) * base[j + 1];
        base[j] = radius * ::cos(angle);
        base[j + 1] = radius * ::sin(angle);
      }
    }
    Pack<T, 4> made;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t i = g * 4 + j;
      if (!kConstant && i < elements) p = values_at(i);
      made.at[j] = to<T>(value(base[j], p));
    }
    if (packed && g * 4 + 4 <= elements) {
      *reinterpret_cast<Pack<T, 4>*>(y + g * 4) = made;
    } else {
      for (int j = 0; j < 4 && g * 4 + j < elements; ++j) y[g * 4 + j] = made.at[j];
    }
  }
}
"""

UNITS = {
    "float": "for (int j = 0; j < 4; ++j) base[j] = unit(words.at[j]);",
    "double": """const Words low = stream.words(g, 1);
    for (int j = 0; j < 4; ++j) base[j] = unit(words.at[j], low.at[j]);""",
}

# An element from its uniform number u and the parameters p.
VALUES = {
    "uniform": "madd(p.at[1] - p.at[0], u, p.at[0])",
    "normal": "madd(p.at[1], u, p.at[0])",
    "bernoulli": "C(u < p.at[0])",
    "exponential": "-p.at[0] * log1m(u)",
    "laplace": "u < C(0.5) ? p.at[0] + p.at[1] * ::log(2 * open_unit(u)) : p.at[0] - p.at[1] * ::log(2 * (1 - u))",
    "gumbel": "p.at[0] - p.at[1] * ::log(-::log(open_unit(u)))",
    "logistic": "p.at[0] + p.at[1] * (::log(open_unit(u)) - log1m(u))",
    "rayleigh": "p.at[0] * ::sqrt(-2 * log1m(u))",
    "weibull": "::pow(-log1m(u), 1 / p.at[0])",
    "pareto": "::expm1(-log1m(u) / p.at[0])",
    "power": "::pow(u, 1 / p.at[0])",
}

# ---- by rejection ---------------------------------------------------------------------------------------------------

# An element from its draws.
REJECTED = {
    "gamma": "gamma_draw(draws, p.at[0]) * p.at[1]",
    "beta": "beta_draw(draws, p.at[0], p.at[1])",
    "poisson": "poisson_draw(draws, p.at[0])",
}

# 64 bits of an element: the high half of their product with the width of the range (Lemire 2019).
INTEGERS = """\
uint64_t high_product(uint64_t a, uint64_t b) {
  const uint64_t a0 = uint32_t(a), a1 = a >> 32, b0 = uint32_t(b), b1 = b >> 32;
  const uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + uint32_t(middle);
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

int64_t integer_draw(Draws<Stream>& draws, int64_t low, int64_t high) {
  const uint64_t first = draws.word(), word = first << 32 | draws.word();
  return low + static_cast<int64_t>(high_product(word, static_cast<uint64_t>(high - low)));
}
"""

ONE_BY_ONE = """\
extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(state)s, %(parameters)s, T* y, int64_t elements) {
  const Stream stream(seed, call, state);
  %(reader)s
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < elements; i += step) {
    Draws<Stream> draws{stream, i};
    const Values p = values_at(i);
    y[i] = %(made)s;
  }
}
"""


def draw(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """draw(p...) -> y: "kind" names the distribution. Raises MXError for a name that is none."""
    kind, y = attrs["kind"], outs[0]
    elements = math.prod(y.shape)
    if elements == 0:
        return Recipe(())
    ctype = "int64_t" if kind == "randint" else "double" if y.dtype == "float64" else "float"
    p = Parameters(ins, y.shape, ctype)
    parts = {"state": STATE, "parameters": p.declared, "reader": p.reader, "constant": str(p.constant).lower()}
    text = f"using T = {BY_NAME[y.dtype].ctype};\nusing C = {ctype};\n{p.types}" + PHILOX + STREAM
    groups = kind in VALUES
    if groups:
        parts |= {"value": VALUES[kind], "units": UNITS[ctype], "normal": str(kind == "normal").lower()}
        text += BY_GROUPS % parts
    elif kind == "randint":
        text += INTEGERS + ONE_BY_ONE % (parts | {"made": "to<T>(integer_draw(draws, p.at[0], p.at[1]))"})
    elif kind in REJECTED:
        text += ONE_BY_ONE % (parts | {"made": f"to<T>({REJECTED[kind]})"})
    else:
        raise MXError(f"draw: expected the name of a distribution, got {kind!r}. Add it to random.py.")
    operands: list[Argument] = [Operand(k) for k in range(len(ins))]
    args = (State(), *operands, *p.extents, Operand(len(ins)), Value(elements))
    blocks = blocks_for(-(-elements // 4) if groups else elements, THREADS)
    return Recipe((Launch(code(f"draw_{kind}", text), (blocks, 1, 1), (THREADS, 1, 1), args),))


# ---- dropout --------------------------------------------------------------------------------------------------------

# Which of the thread's elements stay.
KEEP = """\
    Pack<uint8_t, kWide> keep;
#pragma unroll
    for (int g = 0; g < kWide / 4; ++g) {
      const Words words = stream.words(i / 4 + g, 0);
      for (int j = 0; j < 4; ++j) keep.at[4 * g + j] = int64_t(words.at[j] >> 8) >= threshold;
    }
"""

DROPOUT = """\
using T = %(ctype)s;
using C = %(compute)s;
constexpr int kWide = %(wide)d;  // elements of a thread: whole groups of four

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(state)s, const T* x, T* y, uint8_t* mask, int64_t elements, int64_t threshold, C scale) {
  const Stream stream(seed, call, state);
  const bool packed = aligned<Pack<T, kWide>>(x, y) && aligned<Pack<uint8_t, kWide>>(mask);
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kWide;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kWide; i < elements; i += step) {
%(keep)s    if (packed && i + kWide <= elements) {
      Pack<T, kWide> v = *reinterpret_cast<const Pack<T, kWide>*>(x + i);
#pragma unroll
      for (int j = 0; j < kWide; ++j) v.at[j] = to<T>(static_cast<C>(wide(v.at[j]) * (keep.at[j] ? scale : C(0))));
      *reinterpret_cast<Pack<T, kWide>*>(y + i) = v;
      *reinterpret_cast<Pack<uint8_t, kWide>*>(mask + i) = keep;
    } else {
      for (int j = 0; j < kWide && i + j < elements; ++j) {
        y[i + j] = to<T>(static_cast<C>(wide(x[i + j]) * (keep.at[j] ? scale : C(0))));
        mask[i + j] = keep.at[j];
      }
    }
  }
}
"""


DROPOUT_MASK = """\
constexpr int kWide = 16;  // elements of a thread: whole groups of four

extern "C" __global__ void __launch_bounds__(256)
    KERNEL(%(state)s, uint8_t* mask, int64_t elements, int64_t threshold) {
  const Stream stream(seed, call, state);
  const bool packed = aligned<Pack<uint8_t, kWide>>(mask);
  const int64_t step = int64_t(gridDim.x) * blockDim.x * kWide;
  for (int64_t i = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * kWide; i < elements; i += step) {
%(keep)s    if (packed && i + kWide <= elements) {
      *reinterpret_cast<Pack<uint8_t, kWide>*>(mask + i) = keep;
    } else {
      for (int j = 0; j < kWide && i + j < elements; ++j) mask[i + j] = keep.at[j];
    }
  }
}
"""


def dropout(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """dropout(x) -> y, mask: mask = 1 with probability 1 - "p", y = mask * x / (1 - p); dropout() -> mask."""
    elements, p = math.prod(outs[0].shape), attrs["p"]
    if elements == 0:
        return Recipe(())
    threshold = Value(math.floor(p * (1 << 24) + 0.5))  # as lround
    if not ins:
        text = PHILOX + STREAM + DROPOUT_MASK % {"state": STATE, "keep": KEEP}
        args: tuple[Argument, ...] = (State(), Operand(0), Value(elements), threshold)
        grid = (blocks_for(elements, THREADS * 16), 1, 1)
        return Recipe((Launch(code("dropout", text), grid, (THREADS, 1, 1), args),))
    t = BY_NAME[ins[0].dtype]
    wide = max(4, 16 // t.size)
    parts = {"ctype": t.ctype, "compute": t.compute, "wide": wide, "state": STATE, "keep": KEEP}
    text = PHILOX + STREAM + DROPOUT % parts
    scale = Value(1 / (1 - p) if p < 1 else 0.0, "float64" if t.name == "float64" else "float32")
    args = (State(), Operand(0), Operand(1), Operand(2), Value(elements), threshold, scale)
    grid = (blocks_for(elements, THREADS * wide), 1, 1)
    return Recipe((Launch(code("dropout", text), grid, (THREADS, 1, 1), args),))


# ---- the generator --------------------------------------------------------------------------------------------------

PHILOX_WORDS = """\
extern "C" __global__ void __launch_bounds__(256) KERNEL(const int64_t* in, int64_t* out, int64_t rows) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t r = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; r < rows; r += step) {
    uint32_t w[6];
    for (int k = 0; k < 6; ++k) w[k] = static_cast<uint32_t>(in[6 * r + k]);
    const Words made = philox({{w[0], w[1], w[2], w[3]}}, w[4], w[5]);
    for (int k = 0; k < 4; ++k) out[4 * r + k] = made.at[k];
  }
}
"""


def philox(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """philox(x) -> words: the generator itself, (m, 6) of counter and key as int64 -> (m, 4)."""
    rows = ins[0].shape[0]
    if rows == 0:
        return Recipe(())
    grid = (blocks_for(rows, THREADS), 1, 1)
    args: tuple[Argument, ...] = (Operand(0), Operand(1), Value(rows))
    return Recipe((Launch(code("philox", PHILOX + PHILOX_WORDS), grid, (THREADS, 1, 1), args),))


FACTORIES = {"draw": draw, "dropout": dropout, "philox": philox}
