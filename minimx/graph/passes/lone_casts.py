"""Casts of parameters, and of their gradients, on a GPU become fused nodes of one member, so that they run many in a
launch (graph/together.py).

Under mixed precision every layer reads its weight through a cast, and its gradient leaves the graph through one. Most
are alone between the graph's edge and a convolution or a product, where nothing fuses; each would be a launch for
little work. Those that leave wait for the end of the graph: until then 16-bit gradients live, while what is saved goes.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value

FEWEST = 4  # casts that make it worth while
VIEWS = ("transpose", "reshape", "expand_dims", "squeeze")


def gather_casts(g: Graph) -> Graph:
    """The graph with such casts of what lies in memory as it is read as fused nodes."""
    if g.gpu < 0:
        return g
    producers, uses, given, results = g.producers(), g.uses(), set(g.inputs), set(g.results())
    read: set[Node] = set()
    left: set[Node] = set()
    for n in g.nodes:
        source = lies_in_order(n.values[0], producers) if n.op == "cast" and n.values else None
        if source in given:
            read.add(n)
        elif source is not None and n.outputs[0] in results and n.outputs[0] not in uses:
            left.add(n)
    read, left = (casts if len(casts) >= FEWEST else set() for casts in (read, left))
    last = [alone(n) for n in g.nodes if n in left]
    g.nodes = [alone(n) if n in read else n for n in g.nodes if n not in left] + last
    return g


def lies_in_order(v: Value, producers: dict[Value, Node]) -> Value | None:
    """What ``v`` shows, maybe in another shape, in the order of its memory; None where it shows it in another."""
    while (p := producers.get(v)) is not None and p.is_view:
        if p.op not in VIEWS or v.layout:
            return None
        if p.op == "transpose":
            shape = p.values[0].shape
            axes = p.attrs.get("axes") or range(len(shape))[::-1]
            moved = [a % len(shape) for a in axes if shape[a] != 1]
            if moved != sorted(moved):
                return None
        v = p.values[0]
    return None if v.layout else v


def alone(n: Node) -> Node:
    """The node as a group of one."""
    (x,), (y,) = n.values, n.outputs
    inner, made = x.like(), y.like()
    body = Graph("fused", [inner], [Node("cast", [inner], [made], n.attrs, n.site)], [made])
    return Node("fused", [x], [y], {}, n.site, body)
