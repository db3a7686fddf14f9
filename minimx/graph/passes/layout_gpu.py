"""Layouts of GPUs: convolutions written for (N, C, *spatial), Gluon's default, run with channels last, which cuDNN's
tensor cores are fed with.

A value with channels last is one of another shape, (N, *spatial, C), and its nodes are those that code written for
NHWC would have: so whatever later passes and kernels know of such code holds here. Convolutions ask for that form,
operators of channels_last.py follow where most of their data has it or their result is read so; all others, and the
graph's outputs, see what the code says. A transposition by the user is a form of the same value and costs nothing.
Where the order in memory changes there is a transpose, and a ``reorder`` that writes it out.
"""

from __future__ import annotations

import math
from typing import Any

from ...config import settings
from ...device import library_settings
from ...ops.dtypes import BY_NAME
from ...ops.rows.shape import inverse
from ...ops.table import OPS
from ..ir import Graph, Node, Value, spec_of
from .assignment import Assignment
from .channels_last import FIRST, LAST, RESHAPES, Moved, moved, order, permuted

# Which operands are data, as opposed to weights.
CONVOLUTIONS = {"convolution": (0,), "convolution_data_grad": (0,), "convolution_weight_grad": (0, 1)}
SEEN = "seen"
FEW = 16  # bytes of channels: up to here cuDNN's operands are filled up by a copy anyway, see csrc/cuda/conv.cc


def channels_last(g: Graph) -> Graph:
    """The graph with its convolutions, and what follows them, with channels last where that is faster."""
    if g.gpu < 0 or not settings.channels_last or not any(pays(n) for n in g.nodes):
        return g
    return _ChannelsLast(g).run()


def pays(n: Node) -> bool:
    """True for a convolution that runs on tensor cores, and has channels first."""
    if n.op not in CONVOLUTIONS or moved(n) is None:
        return False
    dtype = n.outputs[0].dtype
    return dtype in ("float16", "bfloat16") or (dtype == "float32" and library_settings()["allow_tf32"])


def wanted(g: Graph) -> set[Value]:
    """Values that convolutions read as data, by themselves or through what can run with channels last as well."""
    found: set[Value] = set()
    for n in reversed(g.nodes):
        if pays(n):
            found.update(n.values[i] for i in CONVOLUTIONS[n.op])
        elif any(v in found for v in n.outputs) and (m := moved(n)):
            found.update(x for i in m.data if isinstance(x := n.inputs[i], Value))
    return found


class _ChannelsLast(Assignment):
    """Forms are FIRST and LAST, and SEEN: channels last as a look at memory where they may not be."""

    def __init__(self, g: Graph) -> None:
        super().__init__(g)
        self.makers: dict[Value, Node] = {}  # of the new graph
        self.widened: dict[tuple[Value, int], Value] = {}
        self.wanted = wanted(g)

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def place(self, n: Node) -> None:
        if n.op in ("transpose", "swapaxes", "moveaxis"):
            self.place_permutation(n)
            return
        if n.op == "cast" and n.outputs[0] in self.results and FIRST not in self.forms[n.values[0]]:
            self.place_leaving(n)
            return
        m = moved(n)
        if m is None or not (pays(n) or self.follows(n, m)):
            self.emit_plain(n)
            return
        op, attrs, inputs = n.op, m.attrs, list(n.inputs)
        rank = max(len(v.shape) for v in (*n.values, *n.outputs))
        if op in RESHAPES:
            op, attrs, rank = "reshape", _reshape(permuted(n.outputs[0].shape)), len(n.values[0].shape)
        wanted = [FIRST] * len(inputs)
        images = CONVOLUTIONS.get(op, ())
        for i in m.data:
            x = inputs[i]
            assert isinstance(x, Value)
            if len(x.shape) < rank and math.prod(x.shape) == 1:
                continue  # broadcasts as it is
            if len(x.shape) < rank:
                inputs[i] = x = self.wide(x, rank)
            wanted[i] = SEEN if i in images and _few(x) else LAST
        self.emit(Node(op, inputs, n.outputs, attrs, n.site), wanted, list(m.outs))
        if op == "convolution_weight_grad":  # goes where the weight is, which has channels first
            self.main[n.outputs[0]] = FIRST

    def follows(self, n: Node, m: Moved) -> bool:
        """True if a node has data with channels last, or goes where they are wanted so, and little is to convert."""
        data = [x for i in m.data if isinstance(x := n.inputs[i], Value)]
        matter = [v for v in data if len(v.shape) > 2 and not _same(v.shape)]
        there = sum(math.prod(v.shape) for v in matter if LAST in self.forms[v])
        missing = sum(math.prod(v.shape) for v in matter if LAST not in self.forms[v])
        if n.op != "cast":  # which converts as it goes
            there += sum(math.prod(v.shape) for v in n.outputs if v in self.wanted)
        asked = any(v in self.wanted for v in n.outputs) or any(self.main[v] == LAST for v in data)
        return asked and there >= missing

    def place_permutation(self, n: Node) -> None:
        """A permutation that goes from one form to the other is none: operand and result are the same array."""
        x = n.inputs[0]
        assert isinstance(x, Value)
        rank = len(x.shape)
        axes = OPS[n.op].plan([spec_of(x, tuple(range(rank)))], n.attrs).view[0]  # type: ignore[index]
        (out,) = n.outputs
        if rank >= 3 and tuple(axes) == order(rank) and LAST in self.forms[x]:
            self.forms[out], self.main[out] = {FIRST: self.forms[x][LAST]}, FIRST
            return
        self.emit_plain(n)
        if rank >= 3 and permuted(axes) == tuple(range(rank)):
            self.forms[out][LAST] = self.form(x, FIRST)
            self.main[out] = LAST if rank > 3 else FIRST  # matrices of a batch are transposed for other reasons

    def place_leaving(self, n: Node) -> None:
        """A cast whose result leaves the graph changes the order in memory as it goes."""
        x, (out,) = n.values[0], n.outputs
        seen = self.transposed(self.forms[x][LAST], inverse(order(len(x.shape))))
        self.forms[out], self.main[out] = {FIRST: out}, FIRST
        self.nodes.append(Node("cast", [seen], [out], n.attrs, n.site))

    def emit(self, n: Node, wanted: list[str], outs: list[str]) -> None:
        super().emit(n, wanted, outs)
        self.makers |= dict.fromkeys(self.nodes[-1].outputs, self.nodes[-1])

    # ---- values -----------------------------------------------------------------------------------------------------

    def new(self, v: Value, form: str) -> Value:
        return v if form == FIRST else v.like(shape=permuted(v.shape))

    def converted(self, v: Value, form: str) -> Value:
        made = self.forms[v]
        if form == FIRST:
            return self.written(self.transposed(made[LAST], inverse(order(len(v.shape)))))
        if form == SEEN:
            return made[LAST] if LAST in made else self.transposed(made[FIRST], order(len(v.shape)))
        maker = self.makers.get(made[FIRST])
        if maker is not None and maker.op in ("cast", "broadcast_to"):  # which write or show it in any order
            return self.again(maker, v)
        return self.written(self.form(v, SEEN))

    def transposed(self, x: Value, axes: tuple[int, ...]) -> Value:
        """``x`` with its axes permuted: a view, and a mere reshape where axes of extent 1 move."""
        shape = tuple(x.shape[a] for a in axes)
        if _same(x.shape, axes):
            return self.add("reshape", x, shape, _reshape(shape))
        return self.add("transpose", x, shape, {"axes": axes})

    def written(self, x: Value) -> Value:
        """A view written out, if it shows another order than memory has."""
        return x if self.makers[x].op == "reshape" else self.add("reorder", x, x.shape, {"layout": ""})

    def again(self, maker: Node, v: Value) -> Value:
        """A cast or a broadcast with channels last of an operand with channels first."""
        x, rank = maker.inputs[0], len(v.shape)
        assert isinstance(x, Value)
        if len(x.shape) < rank:
            shape = (*(1,) * (rank - len(x.shape)), *x.shape)
            x = self.add("reshape", x, shape, _reshape(shape))
        shape = permuted(v.shape)
        attrs = {**maker.attrs, "shape": shape} if maker.op == "broadcast_to" else maker.attrs
        return self.add(maker.op, self.transposed(x, order(rank)), shape, attrs, v.dtype)

    def wide(self, v: Value, rank: int) -> Value:
        """An operand with as many axes of extent 1 before its own as broadcasting sees there."""
        if (v, rank) not in self.widened:
            shape = (*(1,) * (rank - len(v.shape)), *v.shape)
            made = self.widened[v, rank] = self.add("reshape", self.form(v, FIRST), shape, _reshape(shape))
            self.forms[made], self.main[made] = {FIRST: made}, FIRST
        return self.widened[v, rank]

    def add(self, op: str, x: Value, shape: tuple[int, ...], attrs: dict[str, Any], dtype: str = "") -> Value:
        """A new node of one operand."""
        out = Value(shape, dtype or x.dtype)
        self.nodes.append(Node(op, [x], [out], attrs, self.makers[x].site if x in self.makers else ""))
        self.makers[out] = self.nodes[-1]
        return out


def _same(shape: tuple[int, ...], axes: tuple[int, ...] = ()) -> bool:
    """True if only axes of extent 1 move: with channels last, if no ``axes`` are given."""
    long = [a for a in axes or order(len(shape)) if shape[a] != 1]
    return long == sorted(long)


def _reshape(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"shape": shape, "order": "C", "newshape": None}


def _few(v: Value) -> bool:
    return v.shape[1] * BY_NAME[v.dtype].size < FEW
