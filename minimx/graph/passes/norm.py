"""Batch norm takes the ReLU and the residual sum that follow it into its own passes over memory, forward and backward.

    y = batch_norm_train(x), s = y + z, r = relu(s)        becomes   r, mask = batch_norm_relu(x, z)
    d = relu.grad0(r, g), dx.. = batch_norm_grad(x, d)     becomes   dx.., d = batch_norm_relu_grad(x, g, mask)
    g = a + b where r had two readers, on a GPU            becomes   dx.., d = batch_norm_relu_grad(x, a, mask, b)

The mask has one bit an element: a sixteenth or less of what the backward pass would read of r. Its order is that of x
in memory. Channels are on any axis that the kernels take. z may be anything, also the result of another batch norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ndarray import _core
from ...ops.table import OPS
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
    reading = _Reading(g)
    swapped: dict[Node, Node] = {}
    gone: set[Node] = set()
    new: dict[Value, Value] = {}
    for n in g.nodes:
        m = match(n, reading) if n.op == "batch_norm_train" else None
        if m is None or m.relu in swapped:
            continue
        forward, mask = _forward(m)
        swapped[m.relu] = forward
        gone.update(x for x in (m.norm, m.add) if x is not None)
        new.update(zip(m.norm.outputs[1:], forward.outputs[1:3], strict=True))
        if m.norm_grad is not None and m.relu_grad is not None:
            backward = _backward(m, mask)
            swapped[m.norm_grad] = backward
            gone.add(m.relu_grad)
            if m.residual is not None:
                new[m.relu_grad.outputs[0]] = backward.outputs[3]
    g.nodes = [swapped.get(n, n) for n in g.nodes if n not in gone]
    g.replace(new)
    return absorb_sums(_in_order(g)) if g.gpu >= 0 else _in_order(g)


def match(norm: Node, reading: _Reading) -> Match | None:
    """The site that begins at a batch_norm_train node, or None."""
    x, y = norm.inputs[0], norm.outputs[0]
    if not isinstance(x, Value) or not reading.lies_still(x):
        return None
    follower = reading.only(y)
    add, residual = None, None
    if follower is not None and follower.op == "add" and len(follower.values) == 2:
        add = follower
        residual = next(v for v in add.values if v is not y)
        if residual.shape != y.shape or residual.dtype != y.dtype or reading.depends(residual, norm):
            return None
        follower = reading.only(add.outputs[0])
    if follower is None or follower.op != "relu":
        return None
    relu_grad = next((n for n in reading.uses.get(follower.outputs[0], []) if n.op == "relu.grad0"), None)
    norm_grad = next(
        (n for n in reading.uses.get(x, []) if n.op == "batch_norm_grad" and n.inputs[2] is norm.outputs[1]), None
    )
    if relu_grad is not None and norm_grad is not None:
        flowing = relu_grad.outputs[0]
        alone = add is not None or reading.only(flowing) is norm_grad
        if norm_grad.inputs[1] is not flowing or not alone:
            return None
    elif relu_grad is not None or norm_grad is not None:
        return None
    return Match(norm, add, follower, residual, relu_grad, norm_grad)


class _Reading:
    """Who makes and who reads what in a graph, before it is changed."""

    def __init__(self, g: Graph) -> None:
        self.uses, self.results, self.producers = g.uses(), set(g.results()), g.producers()
        self.position = {n: i for i, n in enumerate(g.nodes)}

    def only(self, v: Value) -> Node | None:
        """The one reader of ``v``, if nobody else wants it."""
        readers = self.uses.get(v, [])
        return readers[0] if len(readers) == 1 and v not in self.results else None

    def depends(self, v: Value, norm: Node) -> bool:
        """True if ``v`` is made from a result of ``norm``: then norm cannot wait for it."""
        after, stack, seen = self.position[norm], [v], set()
        while stack:
            n = self.producers.get(stack.pop())
            if n is norm:
                return True
            if n is not None and n not in seen and self.position[n] > after:
                seen.add(n)
                stack.extend(n.values)
        return False

    def lies_still(self, x: Value) -> bool:
        """False if forward and backward may see ``x`` in different strides: a view that is also handed out."""
        while (n := self.producers.get(x)) is not None and OPS[n.op].kind == "view":
            if x in self.results:
                return False
            x = n.inputs[0]  # type: ignore[assignment]
        return True


def _channels(norm: Node) -> dict[str, int]:
    """The attributes axis, 1 or -1, and mask_bytes."""
    x = norm.inputs[0]
    assert isinstance(x, Value)
    rank = len(x.shape)
    axis = 1 if norm.attrs["axis"] % rank == 1 else -1
    shape = x.shape if axis == 1 else (x.shape[0], x.shape[-1], *x.shape[1:-1])
    return {"axis": axis, "mask_bytes": _core.batch_norm_mask_bytes((shape, x.dtype))}


def _forward(m: Match) -> tuple[Node, Value]:
    attrs = {"eps": m.norm.attrs["eps"], **_channels(m.norm)}
    mask = Value((attrs["mask_bytes"],), "uint8")
    _, mean, var = m.norm.outputs
    outs = [m.relu.outputs[0], mean.like(), var.like(), mask]
    inputs = [*m.norm.inputs, *([m.residual] if m.residual is not None else [])]
    return Node("batch_norm_relu", inputs, outs, attrs, m.norm.site), mask


def _backward(m: Match, mask: Value) -> Node:
    assert m.norm_grad is not None and m.relu_grad is not None
    x, _, mean, var, gamma = m.norm_grad.inputs
    g = next(v for v in m.relu_grad.values if v is not m.relu.outputs[0])
    outs = list(m.norm_grad.outputs)
    if m.residual is not None:
        outs.append(m.relu_grad.outputs[0].like())
    attrs = {"eps": m.norm_grad.attrs["eps"], "axis": _channels(m.norm)["axis"], "residual": m.residual is not None}
    return Node("batch_norm_relu_grad", [x, g, mean, var, gamma, mask], outs, attrs, m.norm_grad.site)


def absorb_sums(g: Graph) -> Graph:
    """Gradients of a normalisation with ReLU that come from two readers are added up where they are read.

    Not where a pointwise operator makes one of them: that fuses with the sum.
    """
    reading = _Reading(g)
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
