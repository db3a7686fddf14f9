"""Batch norm takes the ReLU and the residual sum that follow it into its own passes over memory, forward and backward.

    y = batch_norm_train(x), s = y + z, r = relu(s)        becomes   r, mask = batch_norm_relu(x, z)
    d = relu.grad0(r, g), dx.. = batch_norm_grad(x, d)     becomes   dx.., d = batch_norm_relu_grad(x, g, mask)

The mask has one bit an element: a thirty-second of what the backward pass would read of r. Channels are on axis 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ndarray import _core
from ..ir import Graph, Node, Value


@dataclass
class Match:
    """One site: the nodes forward, and what stands for them backward."""

    norm: Node
    add: Node | None
    relu: Node
    residual: Value | None
    relu_grad: Node | None
    norm_grad: Node | None


def absorb_relu(g: Graph) -> Graph:
    """Rewrites every site where nobody else reads the values in between."""
    uses, results = g.uses(), set(g.results())
    swapped: dict[Node, list[Node]] = {}
    gone: set[Node] = set()
    new: dict[Value, Value] = {}
    for n in g.nodes:
        m = match(n, uses, results) if n.op == "batch_norm_train" else None
        if m is None or m.relu in swapped:
            continue
        forward, mask = _forward(m)
        swapped[m.relu] = [forward]
        gone.update(x for x in (m.norm, m.add) if x is not None)
        new.update(zip(m.norm.outputs[1:], forward.outputs[1:3], strict=True))
        if m.norm_grad is not None and m.relu_grad is not None:
            backward = _backward(m, mask)
            swapped[m.norm_grad] = [backward]
            gone.add(m.relu_grad)
            if m.residual is not None:
                new[m.relu_grad.outputs[0]] = backward.outputs[3]
    g.nodes = [x for n in g.nodes if n not in gone for x in swapped.get(n, [n])]
    g.replace(new)
    return _in_order(g)


def match(norm: Node, uses: dict[Value, list[Node]], results: set[Value]) -> Match | None:
    """The site that begins at a batch_norm_train node, or None."""
    x, y = norm.inputs[0], norm.outputs[0]
    if norm.attrs["axis"] != 1 or not isinstance(x, Value) or len(x.shape) < 3:
        return None
    follower = _only(y, uses, results)
    add, residual = None, None
    if follower is not None and follower.op == "add" and len(follower.values) == 2:
        add = follower
        residual = next((v for v in add.values if v is not y), None)
        if residual is None or residual.shape != y.shape or residual.dtype != y.dtype:
            return None
        follower = _only(add.outputs[0], uses, results)
    if follower is None or follower.op != "relu":
        return None
    relu_grad = next((n for n in uses.get(follower.outputs[0], []) if n.op == "relu.grad0"), None)
    norm_grad = next((n for n in uses.get(x, []) if n.op == "batch_norm_grad" and n.inputs[2] is norm.outputs[1]), None)
    if relu_grad is not None and norm_grad is not None:
        flowing = relu_grad.outputs[0]
        alone = add is not None or _only(flowing, uses, results) is norm_grad
        if norm_grad.inputs[1] is not flowing or not alone:
            return None
    elif relu_grad is not None or norm_grad is not None:
        return None
    return Match(norm, add, follower, residual, relu_grad, norm_grad)


def _only(v: Value, uses: dict[Value, list[Node]], results: set[Value]) -> Node | None:
    readers = uses.get(v, [])
    return readers[0] if len(readers) == 1 and v not in results else None


def _forward(m: Match) -> tuple[Node, Value]:
    x = m.norm.inputs[0]
    assert isinstance(x, Value)
    bytes_ = _core.batch_norm_mask_bytes((x.shape, x.dtype))
    mask = Value((bytes_,), "uint8")
    _, mean, var = m.norm.outputs
    outs = [m.relu.outputs[0], mean.like(), var.like(), mask]
    attrs = {"eps": m.norm.attrs["eps"], "mask_bytes": bytes_}
    return Node(
        "batch_norm_relu", [*m.norm.inputs, *([m.residual] if m.residual is not None else [])], outs, attrs, m.norm.site
    ), mask


def _backward(m: Match, mask: Value) -> Node:
    assert m.norm_grad is not None and m.relu_grad is not None
    x, _, mean, var, gamma = m.norm_grad.inputs
    g = next(v for v in m.relu_grad.values if v is not m.relu.outputs[0])
    outs = list(m.norm_grad.outputs)
    if m.residual is not None:
        outs.append(m.relu_grad.outputs[0].like())
    attrs = {"eps": m.norm_grad.attrs["eps"], "residual": m.residual is not None}
    return Node("batch_norm_relu_grad", [x, g, mean, var, gamma, mask], outs, attrs, m.norm_grad.site)


def _in_order(g: Graph) -> Graph:
    """Nodes sorted so that producers come first; stable, so programs keep the order of the code."""
    known = {*g.inputs, *g.constants}
    producers = g.producers()
    done: set[Node] = set()
    order: list[Node] = []
    for root in g.nodes:
        stack = [root]
        while stack:
            n = stack[-1]
            waiting = [producers[v] for v in n.values if v not in known and producers[v] not in done]
            if waiting and n not in done:
                stack.extend(waiting)
                continue
            stack.pop()
            if n not in done:
                done.add(n)
                order.append(n)
    g.nodes = order
    return g
