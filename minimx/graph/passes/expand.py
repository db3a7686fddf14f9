"""Kernel rows written out as pointwise rows and reductions, where that lets them fuse with what is around them.

    softmax_of, log_softmax_of and their gradients       max, exp, sum, ...: one "rows" group with their neighbours
    row_norm (layer, RMS, group and instance norm)       mean, mean of squares, ...: the same
    row_norm_backward                                    dx as rows; dgamma and dbeta as folds
    dropout_train                                        dropout_mask, which draws, and a product

A row stays a kernel unless a pointwise node over the same space, or another row that is written out, makes what it
reads or reads what it makes. The numbers are the kernels' own within rounding: 16-bit floats are float32 in between,
and random numbers are drawn in the same places. Each expansion casts for itself, so that no wide array leaves a group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...ops.dtypes import FLOATS
from ...ops.kinds.reduce import accumulate_dtype
from ...ops.table import OPS
from ..ir import Arg, Graph, Node, Value, spec_of
from .domains import folds_take, fuses_reductions, rows_take
from .spaces import VIEWS, Reduction, space_of, without_ones


class Writer:
    """Writes nodes in place of one."""

    def __init__(self, n: Node, producers: dict[Value, Node]) -> None:
        self.producers = producers
        self.site, self.nodes = n.site, list[Node]()
        self.attrs = {**OPS[n.op].defaults, **n.attrs} if n.op in EXPANSIONS else n.attrs  # type: ignore[attr-defined]

    def __call__(self, op: str, *inputs: Arg, **attrs: Any) -> Value:
        """The result of an operator."""
        (out,) = OPS[op].plan([spec_of(x) for x in inputs], attrs).outs
        self.nodes.append(Node(op, list(inputs), [Value(tuple(out[0]), out[1])], attrs, self.site))
        return self.nodes[-1].outputs[0]

    def cast(self, x: Value, dtype: str) -> Value:
        """``x`` in another type, or itself."""
        return x if x.dtype == dtype else self("cast", x, dtype=dtype)

    def parameter(self, x: Arg) -> Arg:
        """A vector of parameters, before it was cast to float32: rows of mixed types compute in the widest anyway."""
        n = self.producers.get(x) if isinstance(x, Value) else None
        if n is None or n.op != "cast" or n.outputs[0].dtype != "float32":
            return x
        return n.values[0] if n.values[0].dtype in ("float16", "bfloat16") else x

    def give(self, x: Value, out: Value) -> None:
        """Lets ``out`` be ``x``, which the last node made or is to be cast or reshaped."""
        x = self.cast(x, out.dtype)
        if x.shape != out.shape:
            self("reshape", x, shape=out.shape)
        self.nodes[-1].outputs = [out]


def wide(x: Value) -> str:
    """The type in which kernels compute for ``x``."""
    return accumulate_dtype(x.dtype) if x.dtype in FLOATS else "float32"


# ---- the rows -------------------------------------------------------------------------------------------------------


def softmax(n: Node, w: Writer) -> None:
    """exp(x - max) / sum."""
    x, axis = n.values[0], w.attrs["axis"]
    x = w.cast(x, wide(x))
    e = w("exp", w("subtract", x, w("max", x, axis=axis, keepdims=True)))
    w.give(w("multiply", e, w("reciprocal", w("sum", e, axis=axis, keepdims=True))), n.outputs[0])


def log_softmax(n: Node, w: Writer) -> None:
    """x - log(sum exp(x)), which is not shifted where the largest element is infinite."""
    x, axis = n.values[0], w.attrs["axis"]
    x = w.cast(x, wide(x))
    top = w("max", x, axis=axis, keepdims=True)
    shift = w("where", w("isfinite", top), top, 0.0)
    total = w("sum", w("exp", w("subtract", x, shift)), axis=axis, keepdims=True)
    w.give(w("subtract", x, w("add", shift, w("log", total))), n.outputs[0])


def softmax_backward(n: Node, w: Writer) -> None:
    """y (dy - sum y dy)."""
    y, dy = (w.cast(v, wide(v)) for v in n.inputs if isinstance(v, Value))
    s = w("sum", w("multiply", y, dy), axis=w.attrs["axis"], keepdims=True)
    w.give(w("multiply", y, w("subtract", dy, s)), n.outputs[0])


def log_softmax_backward(n: Node, w: Writer) -> None:
    """dy - exp(y) sum dy."""
    y, dy = (w.cast(v, wide(v)) for v in n.inputs if isinstance(v, Value))
    s = w("sum", dy, axis=w.attrs["axis"], keepdims=True)
    w.give(w("subtract", dy, w("multiply", w("exp", y), s)), n.outputs[0])


def last_axes(w: Writer) -> tuple[int, ...]:
    """The axes that a norm of rows takes together."""
    return tuple(range(-w.attrs["axes"], 0))


def row_norm(n: Node, w: Writer) -> None:
    """(x - mean) rstd gamma + beta, mean and rstd."""
    (x, gamma, beta), (y, mean_out, rstd_out), axes = (*n.inputs, None, None)[:3], n.outputs, last_axes(w)
    gamma, beta = w.parameter(gamma), w.parameter(beta)
    d = x = w.cast(x, wide(x))  # type: ignore[arg-type]
    mean = None
    if not w.attrs["rms"]:
        mean = w("mean", x, axis=axes, keepdims=True)
        d = w("subtract", x, mean)
    rstd = w("rsqrt", w("add", w("mean", w("square", d), axis=axes, keepdims=True), w.attrs["eps"]))
    made = w("multiply", d, rstd)
    made = made if gamma is None else w("multiply", made, gamma)
    made = made if beta is None else w("add", made, beta)
    w.give(made, y)
    w.give(w("where", False, rstd, 0.0) if mean is None else mean, mean_out)
    w.give(rstd, rstd_out)


def row_norm_backward(n: Node, w: Writer) -> None:
    """dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy gamma; dgamma = sum dy xhat, dbeta = sum dy."""
    x, dy, mean, rstd, gamma = (*n.inputs, None)[:5]
    gamma, axes = w.parameter(gamma), last_axes(w)
    mean, rstd = w("expand_dims", mean, axis=axes), w("expand_dims", rstd, axis=axes)

    def standardised() -> tuple[Value, Value]:
        wide_x = w.cast(x, rstd.dtype)  # type: ignore[arg-type]
        d = wide_x if w.attrs["rms"] else w("subtract", wide_x, mean)
        return w("multiply", d, rstd), w.cast(dy, rstd.dtype)  # type: ignore[arg-type]

    xhat, g = standardised()
    g = g if gamma is None else w("multiply", g, gamma)
    c = w("mean", w("multiply", g, xhat), axis=axes, keepdims=True)
    rest = g if w.attrs["rms"] else w("subtract", g, w("mean", g, axis=axes, keepdims=True))
    w.give(w("multiply", rstd, w("subtract", rest, w("multiply", xhat, c))), n.outputs[0])
    if len(n.outputs) > 1:
        lead = tuple(range(len(n.outputs[0].shape) - len(axes)))
        xhat, g = standardised()
        w.give(w("sum", w("multiply", g, xhat), axis=lead), n.outputs[1])
        w.give(w("sum", g, axis=lead), n.outputs[2])


def dropout(n: Node, w: Writer) -> None:
    """x (mask / (1 - p))."""
    x, p = n.values[0], w.attrs["p"]
    y, mask = n.outputs
    w.nodes.append(Node("dropout_mask", [], [mask], {"shape": x.shape, "p": p}, n.site))
    factor = w("multiply", w("cast", mask, dtype=wide(x)), 1 / (1 - p) if p < 1 else 0.0)
    w.give(w("multiply", x, factor), y)


EXPANSIONS: dict[str, Callable[[Node, Writer], None]] = {
    "softmax_of": softmax,
    "log_softmax_of": log_softmax,
    "softmax_backward": softmax_backward,
    "log_softmax_backward": log_softmax_backward,
    "row_norm": row_norm,
    "row_norm_backward": row_norm_backward,
    "dropout_train": dropout,
}

# ---- where ----------------------------------------------------------------------------------------------------------


def expand(g: Graph) -> Graph:
    """The graph with rows written out where they then fuse."""
    reading = _Reading(g)
    nodes = []
    for n in g.nodes:
        w = Writer(n, reading.producers)
        if n in reading.able and reading.has_company(n):
            EXPANSIONS[n.op](n, w)
        else:
            w.nodes.append(n)
        nodes += w.nodes
    g.nodes = nodes
    return g


def row_of(n: Node) -> tuple[int, ...]:
    """The extents of the last axes that a row of ``EXPANSIONS`` takes together; () where they are not the last."""
    shape = n.values[0].shape
    if "axes" in n.attrs:
        return shape[-int(n.attrs["axes"]) :]
    axis = int(n.attrs.get("axis", -1)) % len(shape)
    return shape[axis:] if all(d == 1 for d in shape[axis + 1 :]) else ()


class _Reading:
    """Who makes and who reads what, with views that only change axes of extent 1 looked through."""

    def __init__(self, g: Graph) -> None:
        self.producers, self.gpu = g.producers(), g.gpu >= 0
        self.spaces = {n: space_of(n) for n in g.nodes}
        self.uses: dict[Value, list[Node]] = {}
        for n in g.nodes:
            for v in n.values:
                self.uses.setdefault(self.source(v), []).append(n)
        self.able = {n for n in g.nodes if n.op in EXPANSIONS and self.can_expand(n)}

    def source(self, v: Value) -> Value:
        """The value that ``v`` shows."""
        while (n := self.producers.get(v)) is not None and n.op in VIEWS and self.spaces[n] is not None:
            v = n.values[0]
        return v

    def can_expand(self, n: Node) -> bool:
        """True if there are kernels for what the row is written out as."""
        x = n.values[0]
        if x.layout or not x.shape or not all(x.shape) or x.dtype not in FLOATS:
            return False
        if n.op == "dropout_train":
            return fuses_reductions(self.gpu)
        row = row_of(n)
        lead = without_ones(x.shape[: len(x.shape) - len(row)])
        space = lead + without_ones(row)
        if space == lead or not lead or not all(v.dtype in (x.dtype, wide(x)) for v in n.values):
            return False
        arrays = [x, x.like(dtype=wide(x)), x.like(dtype=wide(x))]
        folded = n.op != "row_norm_backward" or len(n.outputs) == 1
        places = tuple(range(len(space)))
        return rows_take(Reduction(space, places[len(lead) :]), arrays, self.gpu) and (
            folded or folds_take(Reduction(space, places[: len(lead)]), arrays, self.gpu)
        )

    def has_company(self, n: Node) -> bool:
        """True if a neighbour over the same space is pointwise or written out too."""
        space = ("", without_ones(n.values[0].shape))
        around = [self.producers.get(self.source(v)) for v in n.values]
        around += [c for v in n.outputs for c in self.uses.get(v, [])]
        return any(
            m is not None
            and (without_ones(m.outputs[0].shape) == space[1] if m in self.able else self.is_pointwise(m, space))
            for m in around
        )

    def is_pointwise(self, n: Node, space: tuple) -> bool:
        """True if the node has a kernel over the space."""
        return n.op not in VIEWS and self.spaces.get(n) == space
