"""Sums of products are made by the products: each adds to what the one before it made, the first one to a gradient.

    total = target + a b             becomes   total = matmul_onto(a, b, target)
    total = a b + c d                becomes   total = matmul_onto(c, d, matmul(a, b))

likewise longer sums, and matmul_sums. target: an array that the total is written to, the gradient of grad_req "add";
two products: the gradient of a weight that is used twice. All of it lies in one place (lower.py, ``added_to``), and
no kernel reads products to add them. Not where a pointwise operator reads the total, which adds as it goes; on a GPU
where cuBLASLt gains by it.
"""

from __future__ import annotations

from ...ops.table import OPS
from ..ir import Graph, Node, Value
from . import products
from .products import FLOATS
from .reading import Reading, rewritten

ONTO = {"matmul": "matmul_onto", "matmul_sums": "matmul_sums"}


def add_onto(g: Graph) -> Graph:
    """Rewrites the sums of products alone, and of those with what the sum is written to."""
    sites = _sites(g)
    made = [n for _, chain in sites for n in chain.values()]
    gains = dict(zip(made, products.gains(made, g.gpu), strict=True)) if made and g.gpu >= 0 else {}
    sites = [(adds, chain) for adds, chain in sites if all(gains.get(n, 1) > 0 for n in chain.values())]
    swapped = {n: m for _, chain in sites for n, m in chain.items()}
    gone = {n for adds, _ in sites for n in adds}
    return rewritten(g, swapped, gone)


def _sites(g: Graph) -> list[tuple[list[Node], dict[Node, Node]]]:
    """Sums, and what stands for the products that they add up."""
    reading, written = Reading(g), {v: target for target, v in g.writes}
    sites = []
    for n in g.nodes:
        if not _adds(n) or _is_read_on_the_way(n.outputs[0], reading):
            continue
        adds, leaves = _tree(n, reading)
        makers = [reading.producers[v] for v in leaves if _is_product(v, reading)]
        others = [v for v in leaves if not _is_product(v, reading)]
        if makers and (not others or others == [_target(n.outputs[0], written, reading)]):
            makers.sort(key=reading.position.__getitem__)
            sites.append((adds, _chain(makers, others, n.outputs[0])))
    return sites


def _adds(n: Node) -> bool:
    """True for a sum of two arrays of one shape and type."""
    y = n.outputs[0]
    alike = len(n.values) == 2 and all((v.shape, v.dtype, v.layout) == (y.shape, y.dtype, "") for v in n.values)
    return n.op == "add" and alike and y.dtype in (*FLOATS, "float64")


def _is_read_on_the_way(total: Value, reading: Reading) -> bool:
    """True if a pointwise operator reads it, a further sum for one."""
    return any(r.op in OPS and OPS[r.op].kind == "elemwise" for r in reading.uses.get(total, []))


def _tree(n: Node, reading: Reading) -> tuple[list[Node], list[Value]]:
    """The sums that lead to ``n`` alone, and what they add up."""
    adds, leaves = [n], []
    for add in adds:
        for v in add.values:
            maker = reading.producers.get(v)
            if maker is not None and _adds(maker) and reading.only(v) is not None:
                adds.append(maker)
            else:
                leaves.append(v)
    return adds, leaves


def _is_product(v: Value, reading: Reading) -> bool:
    """True for a product that nobody else reads and that adds to nothing yet."""
    n = reading.producers.get(v)
    if n is None or n.op not in ONTO or len(n.inputs) != 2 or reading.only(v) is None:
        return False
    return v is n.outputs[0] and all(len(x.shape) >= 2 for x in n.values)


def _target(total: Value, written: dict[Value, Value], reading: Reading) -> Value | None:
    """What ``total`` is written to, if only the sum reads it."""
    target = written.get(total)
    return target if target is not None and reading.only(target) is not None else None


def _chain(makers: list[Node], others: list[Value], total: Value) -> dict[Node, Node]:
    """Products that add to the one before them, by those that they stand for."""
    made: dict[Node, Node] = {}
    z = others[0] if others else makers[0].outputs[0]
    for n in makers if others else makers[1:]:
        out = total if n is makers[-1] else n.outputs[0]
        made[n] = Node(ONTO[n.op], [*n.inputs, z], [out, *n.outputs[1:]], {}, n.site)
        z = out
    return made
