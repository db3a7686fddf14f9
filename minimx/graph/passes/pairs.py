"""Where the residual that a norm adds is itself a norm's result, a GPU takes the two in one pass over memory.

    z = batch_norm_sums(y2), r, mask = batch_norm_sums(y, z)      becomes   r, mask = batch_norm_pair(y, y2)
    dy.., dz = batch_norm_relu_grad(y, d), dy2.. = batch_norm_grad(y2, dz)
                                                                  becomes   dy.., dy2.. = batch_norm_pair_grad(y, y2, d)

So has a block with a projection on its shortcut, as in ResNet. z and dz are never written. A forward norm whose
convolution does not give the sums takes them by channel_sums; only in 16 bits, for which sums around zero in float32
are always exact enough. Runs behind conv_stats.py.
"""

from __future__ import annotations

from ..ir import Arg, Graph, Node, Value
from .reading import Reading, rewritten

HALVES = ("float16", "bfloat16")


def absorb_pairs(g: Graph) -> Graph:
    """Rewrites what has one of the two forms."""
    return gradients(forward(g)) if g.gpu >= 0 else g


def forward(g: Graph) -> Graph:
    """A norm whose result nobody but the other reads."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    sums: list[Node] = []
    gone: set[Node] = set()
    for n in g.nodes:
        z = residual_of(n)
        other = reading.producers.get(z) if z is not None and reading.only(z) is n else None
        if other is None or not _plain(other) or not _alike(n, other):
            continue
        if any(reading.depends(v, other) for v in n.values if v is not z):
            continue
        y, mean, var, mask = n.outputs
        inputs = [*with_sums(n, sums), *with_sums(other, sums)]
        attrs = _attrs(n, other) | {"mask_bytes": n.attrs["mask_bytes"]}
        swapped[n] = Node("batch_norm_pair", inputs, [y, mask, mean, var, *other.outputs[1:]], attrs, n.site)
        gone.add(other)
    return rewritten(g, swapped, gone, sums)


def residual_of(n: Node) -> Value | None:
    """What a norm with a ReLU adds before it."""
    at = {"batch_norm_relu": 3, "batch_norm_sums": 5 if n.attrs.get("relu") else len(n.inputs)}.get(n.op, len(n.inputs))
    z = n.inputs[at] if at < len(n.inputs) else None
    return z if isinstance(z, Value) and z.dtype in HALVES else None


def _plain(n: Node) -> bool:
    """A norm and nothing else."""
    return n.op == "batch_norm_train" or (n.op == "batch_norm_sums" and not n.attrs["relu"] and len(n.inputs) == 5)


def with_sums(n: Node, added: list[Node]) -> list[Arg]:
    """x, gamma, beta and the sums, which a node that is added makes where nobody gives them."""
    x, gamma, beta = n.inputs[:3]
    if n.op == "batch_norm_sums":
        return n.inputs[:5]
    assert isinstance(x, Value)
    axis = n.attrs.get("axis", 1)
    sums = [Value((x.shape[axis],), "float32") for _ in range(2)]
    added.append(Node("channel_sums", [x], sums, {"axis": axis}, n.site))
    return [x, gamma, beta, *sums]


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
    return rewritten(g, swapped, gone)


def _alike(norm: Node, other: Node) -> bool:
    """Data of one shape and type, with channels on the same axis."""
    a, b = norm.outputs[0], other.outputs[0]
    rank = len(a.shape)
    same = norm.attrs["axis"] % rank == other.attrs.get("axis", 1) % rank
    return same and (a.shape, a.dtype) == (b.shape, b.dtype)


def _attrs(norm: Node, other: Node) -> dict:
    return {"eps": norm.attrs["eps"], "eps2": other.attrs["eps"], "axis": norm.attrs["axis"]}
