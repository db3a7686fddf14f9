"""Pooling over windows, 1d to 3d: operands, attributes and results as in csrc/cpu/dnnl_pool.cc and conv_plain.cc.

    pool_fwd(x) -> y[, taps]     pool_bwd(dy[, taps]) -> dx     pool_gather(x, taps) -> y

Taps are the places of maxima inside their windows, counted in C order. A thread makes one element of the result, or 16
bytes of neighbouring channels where channels are the fastest axis of all operands; it reads all that this needs, so
that nothing is added atomically: backward looks at the windows that cover an element, and a thread makes a block of
elements, as many as a step has, since the same windows cover them all. Elements that windows share come from the
caches, so each operand moves through memory once. Windows are written into the text, sizes and strides (any) are
arguments. Pooling over all of space is a reduction and not here; with batch norm around it, see norm_pool.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ...errors import ArgumentError, ShapeError
from ...ops.dtypes import BY_NAME
from ...ops.table import Spec
from .recipe import Argument, Code, Launch, Operand, Recipe, Value, blocks_for, code

THREADS = 256
UNROLLED = 16  # taps, at most, of windows whose loops are unrolled
MOST_BLOCK = 8  # elements of a thread, backward, at most; where steps are longer, it makes one

# Before it come T, Real (of sums), Tap, Index; kWidth (channels of a thread), kLast (from thread to thread they change
# fastest), the window K0 K1 K2, its steps S0 S1 S2 and the padding P0 P1 P2, a thread's elements E0 E1 E2; kMax,
# kInclude (padding counts), kTaps. For padding, loops over windows read a place that counts for nothing: loads without
# a branch go out together.
HEAD = """
constexpr int kVolume = K0 * K1 * K2;
constexpr int kUnroll = kVolume <= UNROLLED ? UNROLLED : 1;
using Values = Pack<T, kWidth>;
using Places = Pack<Tap, kWidth>;

/// Sizes and strides (elements) of an operand (N, C, *three spatial axes).
struct View {
  Index n, c, d0, d1, d2;
  Index sn, sc, s0, s1, s2;
  Index at(const View& i) const { return i.n * sn + i.c * sc + i.d0 * s0 + i.d1 * s1 + i.d2 * s2; }
  Index threads() const { return n * (c / kWidth) * d0 * d1 * d2; }
  /// The element, or the first of the channels, that is the i-th thread's; only the sizes' fields are meant.
  View element(Index i) const {
    View e{};
    if (kLast) e.c = i % (c / kWidth) * kWidth, i /= c / kWidth;
    e.d2 = i % d2, i /= d2;
    e.d1 = i % d1, i /= d1;
    e.d0 = i % d0, i /= d0;
    if (!kLast) e.c = i % c, i /= c;
    e.n = i;
    return e;
  }
};

inline Index lesser(Index a, Index b) { return a < b ? a : b; }
inline Index greater(Index a, Index b) { return a > b ? a : b; }

/// Elements of a window along one axis that are not padding.
inline Index inside(Index first, int k, Index size) {
  return greater(0, lesser(first + k, size) - greater(first, 0));
}
/// What an element of a window counts in its mean. o: the window.
inline Real share(const View& x, const View& o) {
  if (kInclude) return Real(1) / Real(kVolume);
  return Real(1) / Real(inside(o.d0 * S0 - P0, K0, x.d0) * inside(o.d1 * S1 - P1, K1, x.d1) *
                        inside(o.d2 * S2 - P2, K2, x.d2));
}
"""

# kNorm: of max(0, x * scale + offset), with scales and then, `padded` further, offsets by channel. A window in which
# that is nowhere positive has no tap.
FORWARD = """
inline View work(const View& vy) { return vy; }

template <bool kWide>
void pool(const T* x, T* y, Tap* taps, const View& vx, const View& vy, const View& vt, const View& o,
          const Real* norm = nullptr, Index padded = 0) {
  const Index i0 = o.d0 * S0 - P0, i1 = o.d1 * S1 - P1, i2 = o.d2 * S2 - P2;
  Real top[kWidth];  // the maximum, or the sum
  int best[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j) top[j] = 0, best[j] = -1;
  Real scales[kWidth], offsets[kWidth];
#pragma unroll
  for (int j = 0; j < kWidth; ++j)
    if constexpr (kNorm) scales[j] = norm[o.c + j], offsets[j] = norm[padded + o.c + j];
  const T* from = x + o.n * vx.sn + o.c * vx.sc;
#pragma unroll kUnroll
  for (int a = 0; a < K0; ++a)
#pragma unroll kUnroll
    for (int b = 0; b < K1; ++b)
#pragma unroll kUnroll
      for (int c = 0; c < K2; ++c) {
        const Index d0 = i0 + a, d1 = i1 + b, d2 = i2 + c;
        const bool there = d0 >= 0 && d0 < vx.d0 && d1 >= 0 && d1 < vx.d1 && d2 >= 0 && d2 < vx.d2;
        const Values v = load<kWidth>(from + (there ? d0 * vx.s0 + d1 * vx.s1 + d2 * vx.s2 : 0), kWide);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          Real value = wide(v.at[j]);
          if constexpr (kNorm) value = fmaf(value, scales[j], offsets[j]);
          if (!kMax)
            top[j] += there ? value : Real(0);
          else if (there && ((!kNorm && best[j] < 0) || value > top[j] || value != value))
            top[j] = value, best[j] = (a * K1 + b) * K2 + c;
        }
      }
  const Real scale = kMax ? Real(1) : share(vx, o);
  Values out;
  Places places;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) out.at[j] = to<T>(top[j] * scale), places.at[j] = static_cast<Tap>(best[j]);
  store(y + vy.at(o), out, kWide);
  if constexpr (kTaps) store(taps + vt.at(o), places, kWide);
}
"""

# Element i of an axis has the phase r = (i + P) % S in the block b = (i + P) / S, which windows b, b - 1, ... cover; in
# window b - t it is number r + t * S. A thread makes the phases 0 to E - 1, where E is S or 1. kNorm: not g is written
# but a * g + (b * x + c), with a, b and c by channel, `padded` apart; x lies as dx does.
BACKWARD = """
constexpr int kElements = E0 * E1 * E2;

inline Index blocks(Index size, int s, int p) { return (size - 1 + p) / s - p / s + 1; }

/// The threads: those of vx with blocks in place of elements.
inline View work(View v) {
  if (E0 == S0) v.d0 = blocks(v.d0, S0, P0);
  if (E1 == S1) v.d1 = blocks(v.d1, S1, P1);
  if (E2 == S2) v.d2 = blocks(v.d2, S2, P2);
  return v;
}

/// Block and first phase of a thread's elements along an axis.
struct Axis {
  Index block;
  int phase;
  Axis(Index i, int e, int s, int p) : block(e == s ? i + p / s : (i + p) / s), phase(e == s ? 0 : (i + p) % s) {}
};

/// A thread's elements.
struct Block {
  Axis a0, a1, a2;
  View of;
  explicit Block(const View& i) : a0(i.d0, E0, S0, P0), a1(i.d1, E1, S1, P1), a2(i.d2, E2, S2, P2), of(i) {}

  /// The e-th of them.
  View at(int e) const {
    View v = of;
    v.d0 = a0.block * S0 - P0 + a0.phase + e / (E1 * E2), v.d1 = a1.block * S1 - P1 + a1.phase + e / E2 % E1;
    v.d2 = a2.block * S2 - P2 + a2.phase + e % E2;
    return v;
  }
};
inline bool lies_in(const View& i, const View& v) {
  return i.d0 >= 0 && i.d1 >= 0 && i.d2 >= 0 && i.d0 < v.d0 && i.d1 < v.d1 && i.d2 < v.d2;
}

/// The gradient of a thread's elements.
template <bool kWide>
void gradient(const T* dy, const Tap* taps, const View& vy, const View& vx, const View& vt, const Block& block,
              Real (&sum)[kElements][kWidth]) {
  constexpr int T0 = (K0 + S0 - 1) / S0, T1 = (K1 + S1 - 1) / S1, T2 = (K2 + S2 - 1) / S2;
  View o = block.of;
#pragma unroll kUnroll
  for (int t0 = T0 - 1; t0 >= 0; --t0)
#pragma unroll kUnroll
    for (int t1 = T1 - 1; t1 >= 0; --t1)
#pragma unroll kUnroll
      for (int t2 = T2 - 1; t2 >= 0; --t2) {
        o.d0 = block.a0.block - t0, o.d1 = block.a1.block - t1, o.d2 = block.a2.block - t2;
        const bool there = lies_in(o, vy);
        if (!there) o.d0 = o.d1 = o.d2 = 0;
        const Values g = load<kWidth>(dy + vy.at(o), kWide);
        const Places places = kMax ? load<kWidth>(taps + vt.at(o), kWide) : Places{};
        const Real scale = kMax ? Real(1) : share(vx, o);
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
          const int k0 = block.a0.phase + e / (E1 * E2) + t0 * S0, k1 = block.a1.phase + e / E2 % E1 + t1 * S1,
                    k2 = block.a2.phase + e % E2 + t2 * S2, tap = (k0 * K1 + k1) * K2 + k2;
          const bool covered = there && k0 < K0 && k1 < K1 && k2 < K2;
#pragma unroll
          for (int j = 0; j < kWidth; ++j)
            if (covered && (!kMax || places.at[j] == tap)) sum[e][j] += wide(g.at[j]) * scale;
        }
      }
}
"""

WRITE = """
template <bool kWide>
void pool(const T* dy, T* dx, const Tap* taps, const View& vy, const View& vx, const View& vt, const View& i,
          const Real* norm = nullptr, Index padded = 0, const T* x = nullptr) {
  const Block block(i);
  Real sum[kElements][kWidth] = {};
  gradient<kWide>(dy, taps, vy, vx, vt, block, sum);
#pragma unroll
  for (int e = 0; e < kElements; ++e) {
    const View at = block.at(e);
    if (!lies_in(at, vx)) continue;
    Values out;
    if constexpr (kNorm) {
      const Values v = load<kWidth>(x + vx.at(at), kWide);
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        const Real* c = norm + i.c + j;
        out.at[j] = to<T>(fmaf(c[0], wide(to<T>(sum[e][j])), fmaf(c[padded], wide(v.at[j]), c[2 * padded])));
      }
    } else {
#pragma unroll
      for (int j = 0; j < kWidth; ++j) out.at[j] = to<T>(sum[e][j]);
    }
    store(dx + vx.at(at), out, kWide);
  }
}
"""

GATHER = """
inline View work(const View& vy) { return vy; }

template <bool kWide>
void pool(const T* x, T* y, const Tap* taps, const View& vx, const View& vy, const View& vt, const View& o) {
  const Places places = load<kWidth>(taps + vt.at(o), kWide);
  const T* from = x + o.n * vx.sn + o.c * vx.sc;
  Values out;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const int tap = places.at[j];
    const Index d0 = o.d0 * S0 - P0 + tap / (K1 * K2), d1 = o.d1 * S1 - P1 + tap / K2 % K1,
                d2 = o.d2 * S2 - P2 + tap % K2;
    const bool there = tap >= 0 && d0 >= 0 && d0 < vx.d0 && d1 >= 0 && d1 < vx.d1 && d2 >= 0 && d2 < vx.d2;
    out.at[j] = there ? from[j * vx.sc + d0 * vx.s0 + d1 * vx.s1 + d2 * vx.s2] : to<T>(Real(0));
  }
  store(y + vy.at(o), out, kWide);
}
"""

KERNEL = """
extern "C" __global__ void __launch_bounds__(256) KERNEL(const T* in, T* out, TAPS taps, PARAMETERSNORM) {
  const View vi{FIELDS_I}, vo{FIELDS_O}, vt{FIELDS_T};
  const bool wide = kWidth > 1 && aligned<Values>(in, outALSO) && aligned<Places>(taps);
  const View threads = work(vo);
  const Index n = threads.threads(), step = Index(gridDim.x) * 256;
  for (Index i = Index(blockIdx.x) * 256 + threadIdx.x; i < n; i += step) {
    if (wide)
      pool<true>(in, out, taps, vi, vo, vt, threads.element(i)MORE);
    else
      pool<false>(in, out, taps, vi, vo, vt, threads.element(i)MORE);
  }
}
"""


# By how many arguments of kNorm there are: parameters behind the others, what the kernel passes on, what it checks.
NORM = {0: "", 2: ", const Real* norm, int64_t padded", 3: ", const Real* norm, int64_t padded, const T* x"}
MORE = {0: "", 2: ", norm, Index(padded)", 3: ", norm, Index(padded), x"}
ALSO = {0: "", 2: "", 3: ", x"}


def pool_fwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x) -> y[, taps]."""
    taps = Operand(2) if len(outs) > 1 and attrs["kind"] == "max" else None
    return one_pass(FORWARD, "forward", [*ins, *outs], attrs, (Operand(0), Operand(1)), taps)


def pool_bwd(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(dy[, taps]) -> dx."""
    if attrs["kind"] == "max" and len(ins) < 2:
        raise ArgumentError("pool_bwd", "the second result of pool_fwd as second operand of a max pool", "none",
                            "Run pool_fwd with two outputs")  # fmt: skip
    taps = Operand(1) if attrs["kind"] == "max" else None
    return one_pass(BACKWARD + WRITE, "backward", [*ins, *outs], attrs, (Operand(0), Operand(len(ins))), taps)


def pool_gather(ins: Sequence[Spec], outs: Sequence[Spec], attrs: dict[str, Any]) -> Recipe:
    """(x, taps) -> y."""
    return one_pass(GATHER, "gather", [*ins, *outs], attrs, (Operand(0), Operand(2)), Operand(1))


def one_pass(
    body: str,
    name: str,
    specs: list[Spec],
    attrs: dict[str, Any],
    data: tuple[Operand, Operand],
    taps: Operand | None,
    norm: tuple[Argument, ...] = (),
) -> Recipe:
    """One launch. data: what is read and what is written; without taps, the pointer to the data is passed instead.
    norm: of kNorm, where the coefficients are, ``padded``, and backward x.
    """
    source, result = (specs[o.index] for o in data)
    places = specs[taps.index] if taps else None
    _check(source, result, attrs)
    if not prod(result.shape):
        return Recipe(())
    operands = [s for s in (source, result, places) if s]
    width = width_of(operands)
    views = [view_of(s) for s in (source, result, places or result)]
    entry = KERNEL
    for word, by_count in (("NORM", NORM), ("MORE", MORE), ("ALSO", ALSO)):
        entry = entry.replace(word, by_count[len(norm)])
    kernel = kernel_code(body + entry, f"pool_{name}", operands, attrs, width, taps is not None, bool(norm))
    if not prod(source.shape):  # all is padding: reads go to memory that there is, and count for nothing
        data, views[0] = (data[1], data[1]), [*views[0][:5], *[0] * 5]
    counts = prod(result.shape) // width
    if body.startswith(BACKWARD):
        counts = -(-counts // elements(attrs))
    args: tuple[Argument, ...] = (*data, taps or data[0], *(Value(v) for view in views for v in view), *norm)
    return Recipe((Launch(kernel, (blocks_for(counts, THREADS), 1, 1), (THREADS, 1, 1), args),))


def elements(attrs: dict[str, Any]) -> int:
    """Elements that a thread makes, backward."""
    step = prod(attrs["stride"])
    return step if step <= MOST_BLOCK else 1


def _check(source: Spec, result: Spec, attrs: dict[str, Any]) -> None:
    space = len(source.shape) - 2
    if not 1 <= space <= 3 or len(result.shape) != len(source.shape):
        raise ShapeError("pool", "data (N, C, *spatial) of 1 to 3 spatial axes", source.shape, "Reshape")
    if any(len(attrs[k]) != space for k in ("kernel", "stride", "pad")):
        raise ArgumentError("pool", f"{space} numbers each of kernel, stride and pad", attrs, "Check the attributes")
    if attrs["kind"] not in ("max", "avg_include", "avg_exclude"):
        raise ArgumentError("pool", "kind 'max', 'avg_include' or 'avg_exclude'", attrs["kind"], "Use one of them")
    if source.dtype != result.dtype or BY_NAME[source.dtype].kind != "f":
        raise ArgumentError("pool", "data of one float type", (source.dtype, result.dtype), "Cast with astype")


def _channels_fastest(spec: Spec) -> bool:
    return (
        spec.shape[1] > 1
        and spec.strides[1] == 1
        and all(n == 1 or s >= spec.shape[1] for n, s in zip(spec.shape[2:], spec.strides[2:], strict=True))
    )


def width_of(operands: list[Spec]) -> int:
    """Channels that a thread takes: 16 bytes of data where every operand has them side by side."""
    width = 16 // BY_NAME[operands[0].dtype].size
    strides = [s for o in operands for d, s in enumerate(o.strides) if d != 1 and o.shape[d] > 1]
    divides = all(n % width == 0 for n in [operands[0].shape[1], *strides])
    return width if divides and all(map(_channels_fastest, operands)) else 1


def _three(values: Sequence[int], missing: int) -> list[int]:
    return [missing] * (3 - len(values)) + list(values)


def view_of(spec: Spec) -> list[int]:
    """Sizes and strides of (N, C) and three spatial axes."""
    return [*spec.shape[:2], *_three(spec.shape[2:], 1), *spec.strides[:2], *_three(spec.strides[2:], 0)]


def kernel_code(
    body: str, name: str, operands: list[Spec], attrs: dict[str, Any], width: int, taps: bool, norm: bool = False
) -> Code:
    """The text for these types, this window, this width."""
    dtype = operands[0].dtype
    reach = max(sum(abs(s) * (n - 1) for n, s in zip(o.shape, o.strides, strict=True)) for o in operands)
    tap = BY_NAME[operands[2].dtype].ctype if taps else "uint8_t"
    lines = [
        f"using T = {BY_NAME[dtype].ctype};",
        f"using Real = {BY_NAME[dtype].compute};",
        f"using Tap = {tap};",
        f"using Index = {'int' if max(reach, *(prod(o.shape) for o in operands)) < 1 << 30 else 'long long'};",
    ]
    constants: dict[str, int] = {"kWidth": width}
    for letter, key, missing in (("K", "kernel", 1), ("S", "stride", 1), ("P", "pad", 0)):
        constants |= {f"{letter}{i}": v for i, v in enumerate(_three(attrs[key], missing))}
    step = _three(attrs["stride"], 1)
    constants |= {f"E{i}": n if elements(attrs) > 1 else 1 for i, n in enumerate(step)}
    flags = {"kLast": _channels_fastest(operands[1]), "kMax": attrs["kind"] == "max"}
    flags |= {"kInclude": attrs["kind"] == "avg_include", "kTaps": taps, "kNorm": norm}
    lines += [f"[[maybe_unused]] constexpr int {k} = {int(v)};" for k, v in constants.items()]
    lines += [f"[[maybe_unused]] constexpr bool {k} = {str(v).lower()};" for k, v in flags.items()]
    fields = {letter: [f"{letter}{k}" for k in range(10)] for letter in "iot"}
    body = body.replace("PARAMETERS", ", ".join(f"int64_t {f}" for group in fields.values() for f in group))
    for letter, group in fields.items():
        body = body.replace(f"FIELDS_{letter.upper()}", ", ".join(f"Index({f})" for f in group))
    body = body.replace("TAPS", "Tap*" if body.startswith(FORWARD) else "const Tap*")
    return code(name, "\n".join(lines) + HEAD.replace("UNROLLED", str(UNROLLED)) + body)


FACTORIES = {
    "pool_fwd": pool_fwd,
    "pool_bwd": pool_bwd,
    "pool_fwd_plain": pool_fwd,
    "pool_bwd_plain": pool_bwd,
    "pool_gather": pool_gather,
}
