"""Layouts of the CPU: which values of a graph lie in oneDNN's blocked layouts, so that convolutions need no reordering
between them. GPUs: layout_gpu.py.

Every convolution is asked what it would like (csrc/cpu/layout.h); norms, pooling and pointwise operators take what
comes to them; all others, and the graph's inputs and outputs, stay in C order. Changes of layout are nodes of their
own, made at most once for a value and a layout.
"""

from __future__ import annotations

from ...ndarray import _core
from ...ops.table import OPS
from ..ir import Graph, Node, Value, spec_of
from ..prepare import lasting_values
from .assignment import Assignment

CONVOLUTIONS = {
    "convolution": "fwd",
    "convolution_relu": "fwd",
    "convolution_data_grad": "bwd_data",
    "convolution_weight_grad": "bwd_weights",
}
# Operators whose kernels run in any layout: how many leading operands, and which outputs, are data.
FOLLOWERS = {
    "batch_norm_train": (1, (0,)),
    "batch_norm_infer": (1, (0,)),
    "batch_norm_grad": (2, (0,)),
    "max_pool": (1, (0, 1)),
    "max_pool_grad": (2, (0,)),
    "avg_pool": (1, (0,)),
    "avg_pool_grad": (1, (0,)),
    "batch_norm_relu_grad": (2, (0, 3)),
}

# Norms with ReLU: where the residual comes, if there is one. The first operand is data as well, and the first output.
ABSORBED = {"batch_norm_relu": 3, "batch_norm_infer_relu": 5}


def assign_layouts(g: Graph) -> Graph:
    """The graph with layouts chosen and reorders put in."""
    if not any(n.op in CONVOLUTIONS for n in g.nodes):
        return g
    return _Blocked(g).run()


class _Blocked(Assignment):
    """A form is the name of a blocked layout."""

    def __init__(self, g: Graph):
        super().__init__(g)
        self.lasting = lasting_values(g)

    def converted(self, v: Value, form: str) -> Value:
        target = v.like(layout=form)
        self.nodes.append(Node("reorder", [self.forms[v][self.main[v]]], [target], {"layout": form}))
        return target

    def new(self, v: Value, form: str) -> Value:
        return v if form == v.layout else v.like(layout=form)

    def place(self, n: Node) -> None:
        if n.op in CONVOLUTIONS and n.attrs.get("layout") in (None, "NCHW") and n.outputs[0].dtype == "float32":
            return self.place_convolution(n)
        layout = self.following(n)
        if not layout:
            return self.emit_plain(n)
        data, made = self.data_of(n)
        return self.emit(
            n,
            [layout if i in data else "" for i in range(len(n.inputs))],
            [layout if i in made else "" for i in range(len(n.outputs))],
        )

    def place_convolution(self, n: Node) -> None:
        row = OPS[n.op]
        direction = CONVOLUTIONS[n.op]
        plan = row.plan([spec_of(x) for x in n.inputs], n.attrs)
        ins = [(x.shape, x.dtype) for x in n.inputs[:3] if isinstance(x, Value)]
        absorbed = ("relu", "residual")  # or neighbours would like different layouts
        attrs = {k: v for k, v in plan.attrs.items() if k not in absorbed}
        src, weight, dst = _core.conv_layouts(ins, [(v.shape, v.dtype) for v in n.outputs], attrs, direction)
        if direction == "fwd":  # weights that stay as they are get reordered once
            weight = weight if n.inputs[1] in self.lasting else ""
            return self.emit(n, [src, weight, "", dst][: len(n.inputs)], [dst])
        if direction == "bwd_data":
            return self.emit(n, [dst, ""], [src])
        return self.emit(n, [src, dst], [""] * len(n.outputs))

    def data_of(self, n: Node) -> tuple[set[int], set[int]]:
        """Which inputs and outputs of a follower are data, as opposed to vectors of channels and scalars."""
        if n.op in ABSORBED:
            return {0, *range(ABSORBED[n.op], len(n.inputs))}, {0}
        if n.op in FOLLOWERS:
            count, outs = FOLLOWERS[n.op]
            return set(range(count)), {o for o in outs if o < len(n.outputs)}
        return {i for i, x in enumerate(n.inputs) if isinstance(x, Value)}, {0}

    def following(self, n: Node) -> str:
        """The layout a node should run in: that of its first blocked operand, if it can take it.

        A ReLU's bitmask is in the order of x, so there x alone decides, forward and backward.
        """
        if n.op not in FOLLOWERS and n.op not in ABSORBED and not self.is_pointwise(n):
            return ""
        if n.attrs.get("axis", 1) != 1 or n.attrs.get("layout") not in (None, "NCHW"):
            return ""
        data, made = self.data_of(n)
        values = [n.inputs[i] for i in sorted(data)]
        deciding = values[:1] if n.op in ("batch_norm_relu", "batch_norm_relu_grad") else values
        layout = next((self.main[v] for v in deciding if isinstance(v, Value) and self.main[v]), "")
        block = _block(layout)
        fits = (
            all(v.shape[1] % block == 0 for v in (*values, *(n.outputs[i] for i in made)) if isinstance(v, Value))
            if layout
            else False
        )
        return layout if fits else ""

    def is_pointwise(self, n: Node) -> bool:
        """Elementwise over operands of one shape: the order of elements in memory does not matter."""
        if n.op not in OPS or OPS[n.op].kind != "elemwise" or len(n.outputs[0].shape) < 3:
            return False
        return all(v.shape == n.outputs[0].shape for v in n.values)


def _block(layout: str) -> int:
    digits = "".join(c for c in layout if c.isdigit())
    return int(digits) if digits else 1
