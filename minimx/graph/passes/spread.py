"""Arithmetic on few numbers that are then spread comes after the spreading, where it fuses with what reads them.

    broadcast_to(g * 0.1, shape)                 becomes   broadcast_to(g, shape) * 0.1
    broadcast_to(expand_dims(g * 0.1), shape)    becomes   broadcast_to(expand_dims(g), shape) * 0.1

It is how the gradient of every mean begins. A launch for a single number costs more than one operation more in a kernel
that runs anyway. Read next: reshapes.py, fusion.py.
"""

from __future__ import annotations

import math

from ..ir import Graph, Node, Value
from .spaces import VIEWS, space_of, without_ones

CHEAP = frozenset({"multiply", "divide", "add", "subtract", "negative", "cast"})
FEW = 1 << 16  # elements for which the arithmetic costs no more than a launch, whoever reads them


def spread_early(g: Graph) -> Graph:
    """The graph with arithmetic of one array and numbers after the ``broadcast_to`` that alone reads it."""
    producers, uses, results = g.producers(), g.uses(), set(g.results())
    nodes: list[Node] = []
    for n in g.nodes:
        chain = _chain(n, producers, uses, results) if n.op == "broadcast_to" and _fuses(n, uses) else []
        made = _turned(n, chain) if any(p.op not in VIEWS for p in chain) else [n]
        for m in made if made != [n] else ():  # a later one may begin with these
            producers[m.outputs[0]] = m
            for v in m.values:
                uses.setdefault(v, []).append(m)
        nodes += made
    g.nodes = nodes
    return g


def _turned(n: Node, chain: list[Node]) -> list[Node]:
    """``n`` after the views of its chain, and before the arithmetic."""
    views = [p for p in reversed(chain) if p.op in VIEWS]
    plain = [p for p in reversed(chain) if p.op not in VIEWS]
    value, made = chain[-1].values[0], []
    for p in (*views, n, *plain):
        shape = n.outputs[0].shape if p.op not in VIEWS or p is n else p.outputs[0].shape
        dtype = value.dtype if p in views or p is n else p.outputs[0].dtype
        out = n.outputs[0] if p is plain[-1] else value.like(shape=shape, dtype=dtype)
        made.append(Node(p.op, [value if isinstance(x, Value) else x for x in p.inputs], [out], p.attrs, p.site))
        value = out
    return made


def _chain(n: Node, producers: dict[Value, Node], uses: dict[Value, list[Node]], results: set[Value]) -> list[Node]:
    """The nodes that make what ``n`` spreads, last first, as long as nobody else wants their values."""
    chain: list[Node] = []
    reader = n
    while (p := producers.get(reader.values[0])) is not None:
        out = p.outputs[0]
        alone = all(c.op == "broadcast_to" if reader is n else c is reader for c in uses[out])
        if out in results or not alone or not (_is_plain(p) or _is_look(p)):
            break
        chain.append(p)
        reader = p
    return chain


def _is_look(p: Node) -> bool:
    """True for a view in a shape that differs in axes of extent 1."""
    out, source = p.outputs[0], p.values[0]
    same = without_ones(out.shape) == without_ones(source.shape)
    return p.op in ("reshape", "expand_dims", "squeeze") and same and not (out.layout or source.layout)


def _is_plain(p: Node) -> bool:
    """True for cheap arithmetic on one array of the result's shape, and numbers."""
    if p.op not in CHEAP or len(p.values) != 1:
        return False
    return p.values[0].shape == p.outputs[0].shape and not (p.outputs[0].layout or p.values[0].layout)


def _fuses(n: Node, uses: dict[Value, list[Node]]) -> bool:
    """True if what reads the spread values can compute on the way, or if they are few."""
    out = n.outputs[0]
    if math.prod(out.shape) <= FEW:
        return True
    readers = uses.get(out, [])
    return bool(readers) and all(c.op not in VIEWS and space_of(c) is not None for c in readers)
