"""Where the residual that a norm adds is itself a norm's result, a GPU takes the two in one pass over memory.

    z = batch_norm_sums(y2), r, mask = batch_norm_sums(y, z)      becomes   r, mask = batch_norm_pair(y, y2)
    dy.., dz = batch_norm_relu_grad(y, d), dy2.. = batch_norm_grad(y2, dz)
                                                                  becomes   dy.., dy2.. = batch_norm_pair_grad(y, y2, d)

So has a block with a projection on its shortcut, as in ResNet. z and dz are never written. Forward only where both
convolutions give their sums, for what the pass would read for one norm's sums is as much as it would save. Runs behind
conv_stats.py.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from .norm import Reading, in_order


def absorb_pairs(g: Graph) -> Graph:
    """Rewrites what has one of the two forms."""
    return gradients(forward(g)) if g.gpu >= 0 else g


def forward(g: Graph) -> Graph:
    """A norm whose result nobody but the other reads."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    for n in g.nodes:
        z = n.inputs[5] if n.op == "batch_norm_sums" and n.attrs["relu"] and len(n.inputs) > 5 else None
        if not isinstance(z, Value) or reading.only(z) is not n:
            continue
        other = reading.producers.get(z)
        if other is None or other.op != "batch_norm_sums" or other.attrs["relu"] or len(other.inputs) > 5:
            continue
        if _alike(n, other) and not any(reading.depends(v, other) for v in n.values if v is not z):
            y, mean, var, mask = n.outputs
            attrs = _attrs(n, other) | {"mask_bytes": n.attrs["mask_bytes"]}
            outs = [y, mask, mean, var, *other.outputs[1:]]
            swapped[n] = Node("batch_norm_pair", n.inputs[:5] + other.inputs, outs, attrs, n.site)
            gone.add(other)
    return _rewritten(g, swapped, gone)


def gradients(g: Graph) -> Graph:
    """A gradient that only the second norm's gradient reads."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    for n in g.nodes:
        dz = n.outputs[3] if n.op == "batch_norm_relu_grad" and n.attrs["residual"] else None
        other = reading.only(dz) if dz is not None else None
        if other is None or other.op != "batch_norm_grad" or other.attrs.get("global_stats") or not _alike(n, other):
            continue
        x2, d, mean2, var2, gamma2 = other.inputs
        second = [x2, mean2, var2, gamma2]
        if d is dz and not any(reading.depends(v, n) for v in second if isinstance(v, Value)):
            inputs = [*n.inputs[:6], *second, *n.inputs[6:]]
            outs = [*n.outputs[:3], *other.outputs]
            swapped[n] = Node("batch_norm_pair_grad", inputs, outs, _attrs(n, other), n.site)
            gone.add(other)
    return _rewritten(g, swapped, gone)


def _alike(norm: Node, other: Node) -> bool:
    """Data of one shape and type, with channels on the same axis."""
    a, b = norm.outputs[0], other.outputs[0]
    rank = len(a.shape)
    same = norm.attrs["axis"] % rank == other.attrs.get("axis", 1) % rank
    return same and (a.shape, a.dtype) == (b.shape, b.dtype)


def _attrs(norm: Node, other: Node) -> dict:
    return {"eps": norm.attrs["eps"], "eps2": other.attrs["eps"], "axis": norm.attrs["axis"]}


def _rewritten(g: Graph, swapped: dict[Node, Node], gone: set[Node]) -> Graph:
    g.nodes = [swapped.get(n, n) for n in g.nodes if n not in gone]
    return in_order(g) if gone else g
