"""On a GPU a max pool behind batch norm and ReLU applies them to what it reads: the largest image is never written.

    r, mask = batch_norm_relu(x), p, index = max_pool(r)      becomes   p, index = batch_norm_max_pool(x)
    d = max_pool_grad(g, index), dx.. = batch_norm_relu_grad(x, d, mask)
                                                              becomes   dx.. = batch_norm_max_pool_grad(x, g, index)

A window in which nothing is positive gets no index, so that the ReLU needs no mask. In 16 bits, as in pairs.py, after
which this runs. The stem of a ResNet has this form. Where channels are not last, or of an odd number, the gradient is
max_pool_grad and batch_norm_grad.
"""

from __future__ import annotations

from typing import NamedTuple

from ..ir import Graph, Node, Value
from .pairs import HALVES, with_sums
from .reading import Reading, rewritten

WINDOW = ("kernel", "stride", "pad", "convention", "layout")


class Site(NamedTuple):
    """A norm with ReLU, the pool that alone reads it, and their gradients: one of each, or none."""

    norm: Node
    pool: Node
    gradients: list[tuple[Node, Node]]  # of the pool, of the norm


def absorb_pools(g: Graph) -> Graph:
    """Rewrites every site."""
    if g.gpu < 0:
        return g
    reading = Reading(g)
    sums: list[Node] = []
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    for n in g.nodes:
        site = site_at(n, reading)
        if site is None:
            continue
        attrs = {"eps": n.attrs["eps"]} | {k: v for k, v in site.pool.attrs.items() if k in WINDOW}
        outs = [*site.pool.outputs, *n.outputs[1:3]]
        swapped[site.pool] = Node("batch_norm_max_pool", with_sums(n, sums), outs, attrs, n.site)
        gone.add(n)
        for of_pool, of_norm in site.gradients:
            swapped[of_norm] = gradient_of(of_pool, of_norm)
            if swapped[of_norm].op != "batch_norm_grad":
                gone.add(of_pool)
    return rewritten(g, swapped, gone, sums)


def site_at(n: Node, reading: Reading) -> Site | None:
    """The site whose norm ``n`` is."""
    relu = n.op == "batch_norm_relu" or (n.op == "batch_norm_sums" and n.attrs["relu"])
    if not relu or len(n.inputs) != (3 if n.op == "batch_norm_relu" else 5) or n.outputs[0].dtype not in HALVES:
        return None
    y, mask = n.outputs[0], n.outputs[3]
    pool = reading.only(y)
    if pool is None or pool.op != "max_pool" or not _same_channels(n, pool):
        return None
    index = pool.outputs[1]
    if {mask, index} & reading.results:
        return None
    pool_grads, norm_grads = reading.uses.get(index, []), reading.uses.get(mask, [])
    if not pool_grads and not norm_grads:
        return Site(n, pool, [])
    if len(pool_grads) != 1 or len(norm_grads) != 1:
        return None
    (first,), (second,) = pool_grads, norm_grads
    plain = first.op == "max_pool_grad" and second.op == "batch_norm_relu_grad" and not second.attrs["residual"]
    if not plain or len(second.inputs) != 6 or reading.only(first.outputs[0]) is not second:
        return None
    return Site(n, pool, [(first, second)]) if second.inputs[1] is first.outputs[0] else None


def gradient_of(of_pool: Node, of_norm: Node) -> Node:
    """What stands for both, or for the norm's where there is no kernel for both."""
    from ...rtc.cuda.norm_pool import takes_gradient

    x, _, mean, var, gamma = of_norm.inputs[:5]
    assert isinstance(x, Value)
    layout, eps = of_pool.attrs.get("layout"), of_norm.attrs["eps"]
    if layout is None or not layout.endswith("C") or not takes_gradient(x.shape[-1]):
        attrs = {"eps": eps, "axis": of_norm.attrs["axis"]}
        return Node("batch_norm_grad", of_norm.inputs[:5], of_norm.outputs, attrs, of_norm.site)
    dy, index = of_pool.inputs[:2]
    attrs = {"eps": eps} | {k: v for k, v in of_pool.attrs.items() if k in WINDOW}
    return Node("batch_norm_max_pool_grad", [x, dy, index, mean, var, gamma], of_norm.outputs, attrs, of_norm.site)


def _same_channels(norm: Node, pool: Node) -> bool:
    """Channels of both on one axis."""
    rank, layout = len(norm.outputs[0].shape), pool.attrs.get("layout")
    last = layout is not None and layout.endswith("C")
    return norm.attrs["axis"] % rank == (rank - 1 if last else 1)
