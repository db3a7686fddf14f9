"""Batch norm takes the ReLU and the residual sum that follow it into its own passes over memory, forward and backward.

    y = batch_norm_train(x), s = y + z, r = relu(s)        becomes   r, mask = batch_norm_relu(x, z)
    d = relu.grad0(r, g), dx.. = batch_norm_grad(x, d)     becomes   dx.., d = batch_norm_relu_grad(x, g, mask)
    g = a + b where r had two readers, on a GPU            becomes   dx.., d = batch_norm_relu_grad(x, a, mask, b)
    y = batch_norm_infer(x), r = relu(y + z)               becomes   r = batch_norm_infer_relu(x, z)

The mask has one bit an element: a sixteenth or less of what the backward pass would read of r. Its order is that of x
in memory. Channels are on any axis that the kernels take. z may be anything, also the result of another batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ...ndarray import _core
from ...ops.table import OPS
from ..ir import Graph, Node, Value
from .reading import Reading, rewritten


@dataclass
class Site:
    """A norm, the sum with ``residual`` if there is one, and the ReLU: nobody else reads the values in between."""

    norm: Node
    add: Node | None
    residual: list[Value]  # one or none
    relu: Node

    def absorbed(self) -> list[Node]:
        """Nodes that go; the ReLU's place is taken."""
        return [n for n in (self.norm, self.add) if n is not None]


class Gradient(NamedTuple):
    """What stands for a Site backward."""

    relu_grad: Node
    norm_grad: Node


def absorb_relu(g: Graph) -> Graph:
    """Rewrites every site; one with a gradient only where that can be rewritten as well."""
    reading = Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    new: dict[Value, Value] = {}
    for n in g.nodes:
        site = site_at(n, reading) if n.op in ("batch_norm_train", "batch_norm_infer") else None
        if site is None or site.relu in swapped:
            continue
        if n.op == "batch_norm_infer":
            swapped[site.relu] = _inference(site)
            gone.update(site.absorbed())
            continue
        gradient = gradient_of(site, reading)
        if gradient is None:
            continue
        forward, mask = _forward(site)
        swapped[site.relu] = forward
        gone.update(site.absorbed())
        new.update(zip(n.outputs[1:], forward.outputs[1:3], strict=True))
        for relu_grad, norm_grad in gradient:
            backward = _backward(site, relu_grad, norm_grad, mask)
            swapped[norm_grad] = backward
            gone.add(relu_grad)
            if site.residual:
                new[relu_grad.outputs[0]] = backward.outputs[3]
    g = rewritten(g, swapped, gone, new=new)
    return absorb_sums(g) if g.gpu >= 0 else g


def site_at(norm: Node, reading: Reading) -> Site | None:
    """The site that begins at a norm, or None."""
    y = norm.outputs[0]
    follower = reading.only(y)
    add, residual = None, []
    if follower is not None and follower.op == "add" and len(follower.values) == 2:
        add, residual = follower, [v for v in follower.values if v is not y]
        z = residual[0]
        if z.shape != y.shape or z.dtype != y.dtype or reading.depends(z, norm):
            return None
        follower = reading.only(add.outputs[0])
    return Site(norm, add, residual, follower) if follower is not None and follower.op == "relu" else None


def gradient_of(site: Site, reading: Reading) -> list[Gradient] | None:
    """One, or none if the site has no gradient; None where it has one of another form."""
    x, statistics = site.norm.inputs[0], site.norm.outputs[1:]
    if not isinstance(x, Value) or not reading.lies_still(x):
        return None
    relus = [n for n in reading.uses.get(site.relu.outputs[0], []) if n.op == "relu.grad0"]
    norms = [n for n in reading.uses.get(x, []) if n.op == "batch_norm_grad" and n.inputs[2:4] == statistics]
    if not relus and not norms:
        return []
    if len(relus) != 1 or len(norms) != 1 or norms[0].inputs[1] is not relus[0].outputs[0]:
        return None
    if site.add is None and reading.only(relus[0].outputs[0]) is not norms[0]:
        return None
    return [Gradient(relus[0], norms[0])]


def _channel_axis(norm: Node) -> int:
    """1 or -1."""
    return 1 if norm.attrs["axis"] % len(norm.outputs[0].shape) == 1 else -1


def _mask_bytes(norm: Node) -> int:
    """Of the bitmask, by the shape that the kernel sees."""
    y = norm.outputs[0]
    shape = y.shape if _channel_axis(norm) == 1 else (y.shape[0], y.shape[-1], *y.shape[1:-1])
    return _core.batch_norm_mask_bytes((shape, y.dtype))


def _inference(site: Site) -> Node:
    norm = site.norm
    attrs = {"eps": norm.attrs["eps"], "axis": _channel_axis(norm)}
    return Node("batch_norm_infer_relu", [*norm.inputs, *site.residual], site.relu.outputs, attrs, norm.site)


def _forward(site: Site) -> tuple[Node, Value]:
    norm = site.norm
    mask = Value((_mask_bytes(norm),), "uint8")
    _, mean, var = norm.outputs
    outs = [site.relu.outputs[0], mean.like(), var.like(), mask]
    attrs = {"eps": norm.attrs["eps"], "axis": _channel_axis(norm), "mask_bytes": mask.shape[0]}
    return Node("batch_norm_relu", [*norm.inputs, *site.residual], outs, attrs, norm.site), mask


def _backward(site: Site, relu_grad: Node, norm_grad: Node, mask: Value) -> Node:
    x, _, mean, var, gamma = norm_grad.inputs
    g = next(v for v in relu_grad.values if v is not site.relu.outputs[0])
    outs = [*norm_grad.outputs, *(relu_grad.outputs[0].like() for _ in site.residual)]
    attrs = {"eps": norm_grad.attrs["eps"], "axis": _channel_axis(site.norm), "residual": bool(site.residual)}
    return Node("batch_norm_relu_grad", [x, g, mean, var, gamma, mask], outs, attrs, norm_grad.site)


def absorb_sums(g: Graph) -> Graph:
    """Gradients of a normalisation with ReLU that come from two readers are added up where they are read.

    Not where a pointwise operator makes one of them: that fuses with the sum.
    """
    reading = Reading(g)
    gone: set[Node] = set()
    for n in g.nodes:
        add = reading.producers.get(n.inputs[1]) if n.op == "batch_norm_relu_grad" else None  # type: ignore[arg-type]
        if add is None or add.op != "add" or len(add.values) != 2 or reading.only(add.outputs[0]) is not n:
            continue
        makers = [reading.producers.get(v) for v in add.values]
        same = all((v.shape, v.dtype) == (n.outputs[0].shape, n.outputs[0].dtype) for v in add.values)
        if same and not any(p is not None and OPS[p.op].kind == "elemwise" for p in makers):
            n.inputs = [n.inputs[0], add.values[0], *n.inputs[2:], add.values[1]]
            gone.add(add)
    g.nodes = [n for n in g.nodes if n not in gone]
    return g
