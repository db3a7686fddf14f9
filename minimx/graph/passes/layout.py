"""Layouts: which values of a graph lie in oneDNN's blocked layouts, so that convolutions need no reordering between
them.

Every convolution is asked what it would like (csrc/cpu/layout.h); norms, pooling and pointwise operators take what
comes to them; all others, and the graph's inputs and outputs, stay in C order. Changes of layout are nodes of their
own, made at most once for a value and a layout.
"""

from __future__ import annotations

from typing import Any

from ...ndarray import _core
from ...ops.table import OPS
from ..ir import Graph, Node, Value

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
    return _Assignment(g).run()


class _Assignment:
    def __init__(self, g: Graph):
        self.g = g
        self.nodes: list[Node] = []
        self.forms: dict[Value, dict[str, Value]] = {}  # a value of the old graph in the layouts that exist
        self.main: dict[Value, str] = {}  # the layout it was made in

    def run(self) -> Graph:
        for v in (*self.g.inputs, *self.g.constants):
            self.forms[v], self.main[v] = {"": v}, ""
        for n in self.g.nodes:
            self.place(n)
        self.g.nodes = self.nodes
        self.g.outputs = [self.form(v, "") for v in self.g.outputs]
        self.g.writes = [(target, self.form(v, "")) for target, v in self.g.writes]
        return self.g

    def form(self, v: Value, layout: str) -> Value:
        """``v`` in a layout; puts in a reorder if it does not exist yet."""
        made = self.forms[v]
        if layout not in made:
            target = v.like(layout=layout)
            self.nodes.append(Node("reorder", [made[self.main[v]]], [target], {"layout": layout}))
            made[layout] = target
        return made[layout]

    def emit(self, n: Node, wanted: list[str], outs: list[str]) -> None:
        """The node, with its operands in the wanted layouts (one per input) and outputs in theirs."""
        inputs: list[Any] = [
            self.form(x, w) if isinstance(x, Value) else x for x, w in zip(n.inputs, wanted, strict=True)
        ]
        outputs = []
        for v, layout in zip(n.outputs, outs, strict=True):
            new = v if layout == v.layout else v.like(layout=layout)
            self.forms[v], self.main[v] = {layout: new}, layout
            outputs.append(new)
        self.nodes.append(Node(n.op, inputs, outputs, n.attrs, n.site, n.body))

    def place(self, n: Node) -> None:
        plain_in, plain_out = [""] * len(n.inputs), [""] * len(n.outputs)
        if n.op in CONVOLUTIONS and n.attrs.get("layout") in (None, "NCHW") and n.outputs[0].dtype == "float32":
            return self.place_convolution(n)
        layout = self.following(n)
        if not layout:
            return self.emit(n, plain_in, plain_out)
        data, made = self.data_of(n)
        return self.emit(
            n,
            [layout if i in data else "" for i in range(len(n.inputs))],
            [layout if i in made else "" for i in range(len(n.outputs))],
        )

    def place_convolution(self, n: Node) -> None:
        row = OPS[n.op]
        direction = CONVOLUTIONS[n.op]
        plan = row.plan([None if x is None else _spec(x) for x in n.inputs], n.attrs)
        ins = [(x.shape, x.dtype) for x in n.values]
        attrs = {k: v for k, v in plan.attrs.items() if k != "relu"}  # or neighbours would like different layouts
        src, _, dst = _core.conv_layouts(ins, [(v.shape, v.dtype) for v in n.outputs], attrs, direction)
        if direction == "fwd":
            return self.emit(n, [src, *[""] * (len(n.inputs) - 1)], [dst])
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


def _spec(x: Any) -> Any:
    from ...ops.arguments import c_strides
    from ...ops.table import Spec

    return Spec(x.shape, x.dtype, c_strides(x.shape))
