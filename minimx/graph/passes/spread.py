"""Arithmetic on few numbers that are then spread comes after the spreading, where it fuses with what reads them.

    broadcast_to(g * 0.1, shape)    becomes   broadcast_to(g, shape) * 0.1

It is how the gradient of every mean begins. A launch for a single number costs more than one operation more in a kernel
that runs anyway. Read next: reshapes.py, fusion.py.
"""

from __future__ import annotations

import math

from ...ops.table import OPS
from ..ir import Graph, Node, Value
from .spaces import VIEWS, space_of

FEW = 1 << 16  # elements for which the arithmetic costs no more than a launch, whoever reads them


def spread_early(g: Graph) -> Graph:
    """The graph with arithmetic of one array and numbers after the ``broadcast_to`` that alone reads it."""
    producers, uses, results = g.producers(), g.uses(), set(g.results())
    nodes: list[Node] = []
    for n in g.nodes:
        chain = _chain(n, producers, uses, results) if n.op == "broadcast_to" and _fuses(n, uses) else []
        if not chain:
            nodes.append(n)
            continue
        source = chain[-1].values[0]
        last = source.like(shape=n.outputs[0].shape)
        nodes.append(Node(n.op, [source, *n.inputs[1:]], [last], n.attrs, n.site))
        for p in reversed(chain):
            out = n.outputs[0] if p is chain[0] else p.outputs[0].like(shape=last.shape)
            nodes.append(Node(p.op, [last if isinstance(x, Value) else x for x in p.inputs], [out], p.attrs, p.site))
            last = out
    g.nodes = nodes
    return g


def _chain(n: Node, producers: dict[Value, Node], uses: dict[Value, list[Node]], results: set[Value]) -> list[Node]:
    """The nodes that make what ``n`` spreads, last first, as long as nobody else wants their values."""
    chain: list[Node] = []
    reader = n
    while (p := producers.get(reader.values[0])) is not None:
        out = p.outputs[0]
        alone = all(c.op == "broadcast_to" if reader is n else c is reader for c in uses[out])
        if out in results or not alone or not _is_plain(p):
            break
        chain.append(p)
        reader = p
    return chain


def _is_plain(p: Node) -> bool:
    """True for arithmetic on one array of the result's shape, and numbers."""
    if p.body is not None or OPS[p.op].kind != "elemwise" or len(p.values) != 1:
        return False
    return p.values[0].shape == p.outputs[0].shape and not (p.outputs[0].layout or p.values[0].layout)


def _fuses(n: Node, uses: dict[Value, list[Node]]) -> bool:
    """True if what reads the spread values can compute on the way, or if they are few."""
    out = n.outputs[0]
    if math.prod(out.shape) <= FEW:
        return True
    readers = uses.get(out, [])
    return bool(readers) and all(c.op not in VIEWS and space_of(c) is not None for c in readers)
