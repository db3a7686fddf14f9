"""Casts of parameters on a GPU become fused nodes of one member, so that they run many in a launch (graph/together.py).

Under mixed precision every layer reads its weight through a cast. Most are alone between an input of the graph and a
convolution or a product, where nothing fuses; each would be a launch for little work.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value

FEWEST = 4  # casts that make it worth while
VIEWS = ("transpose", "reshape", "expand_dims", "squeeze")


def gather_casts(g: Graph) -> Graph:
    """The graph with casts of inputs that lie in memory as they are read as fused nodes."""
    if g.gpu < 0:
        return g
    producers, given = g.producers(), set(g.inputs)
    casts = {
        n for n in g.nodes if n.op == "cast" and isinstance(n.inputs[0], Value) and reads_in_order(n, producers, given)
    }
    if len(casts) >= FEWEST:
        g.nodes = [alone(n) if n in casts else n for n in g.nodes]
    return g


def reads_in_order(n: Node, producers: dict[Value, Node], given: set[Value]) -> bool:
    """True if the node reads an input of the graph, maybe in another shape, in the order of its memory."""
    v = n.values[0]
    while v not in given:
        p = producers.get(v)
        if p is None or p.op not in VIEWS or v.layout:
            return False
        if p.op == "transpose":
            shape = p.values[0].shape
            axes = p.attrs.get("axes") or range(len(shape))[::-1]
            moved = [a % len(shape) for a in axes if shape[a] != 1]
            if moved != sorted(moved):
                return False
        v = p.values[0]
    return True


def alone(n: Node) -> Node:
    """The node as a group of one."""
    (x,), (y,) = n.values, n.outputs
    inner, made = x.like(), y.like()
    body = Graph("fused", [inner], [Node("cast", [inner], [made], n.attrs, n.site)], [made])
    return Node("fused", [x], [y], {}, n.site, body)
