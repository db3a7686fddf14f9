"""Sums of gradients that no group has taken in are made by the product that reads the same gradient, on a GPU.

    db = sum(g, all axes but the last), dw = matmul(transpose(g), x)   becomes   dw, db = matmul_sums(transpose(g), x)

It comes after fusion: g is then the result of a group of rows, which has no room for sums over them. As products.py,
which does so before where no pointwise operator makes g, and only where cuBLASLt has an algorithm.
"""

from __future__ import annotations

from ...ops.table import normal_axes
from ..ir import Graph, Node, Value
from . import products
from .reading import rewritten

PLAIN = ("reshape", "expand_dims", "squeeze", "stop_gradient")  # views that keep the order of the elements


def absorb_left_sums(g: Graph) -> Graph:
    """The graph with such sums as results of products."""
    producers, position = g.producers(), {n: i for i, n in enumerate(g.nodes)}

    def source(v: Value) -> Value:
        while (n := producers.get(v)) is not None and n.op in PLAIN:
            v = n.values[0]
        return v

    multiplied: dict[Value, Node] = {}  # by what they transpose
    for n in g.nodes if g.gpu >= 0 else ():
        turned = producers.get(n.values[0]) if n.op in ("matmul", "matmul_onto") else None
        if turned is not None and turned.op == "transpose" and len(n.values[0].shape) == len(n.values[1].shape) == 2:
            multiplied.setdefault(source(turned.values[0]), n)
    pairs: list[tuple[Node, Node]] = []
    for n in g.nodes if multiplied else ():
        product = multiplied.get(source(n.values[0])) if n.op == "sum" and n.body is None else None
        if product is None or not _adds_rows(n, product):
            continue
        maker = producers.get(source(product.values[1]))
        if maker is None or position[maker] < position[n]:  # else it might wait for the sum
            pairs.append((n, product))
            del multiplied[source(n.values[0])]
    made = [_joined(n, product) for n, product in pairs]
    gained = products.gains(made, g.gpu) if made else []
    swapped = {product: m for (_, product), m, gain in zip(pairs, made, gained, strict=True) if gain > 0}
    gone = {n for (n, _), gain in zip(pairs, gained, strict=True) if gain > 0}
    return rewritten(g, swapped, gone)


def _adds_rows(n: Node, product: Node) -> bool:
    """True if the sum runs over what is a row of the transposed matrix."""
    (x,), out, dw = n.values, n.outputs[0], product.outputs[0]
    lead = tuple(range(len(x.shape) - 1))
    sums = normal_axes(n.op, n.attrs.get("axis"), len(x.shape)) == lead and out.shape == dw.shape[:1] == x.shape[-1:]
    return sums and out.dtype == dw.dtype == x.dtype and dw.dtype in products.FLOATS


def _joined(n: Node, product: Node) -> Node:
    return Node("matmul_sums", list(product.inputs), [product.outputs[0], n.outputs[0]], {}, product.site)


__all__ = ["absorb_left_sums"]
