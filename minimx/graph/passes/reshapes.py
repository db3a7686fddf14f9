"""Reshapes out of the way: a node that works element by element may do so in any shape of its operands.

    reshape(a * 2)                  becomes   reshape(a) * 2     if something in that shape reads it
    reshape(a) * 2                  becomes   reshape(a * 2)     if something in the shape of a makes it
    sum(reshape(a), axes)           becomes   sum(a, axes)       where these are whole axes of a: a bias' gradient
    sum(a, axes)                    becomes   reshape(a)         where the axes are of extent 1

Then neighbours are over one space and fuse. Nodes whose operands broadcast stay in their shape, and so do those whose
operands a reshape would have to copy. Only where reductions are fused; pointwise groups have their own spaces.
"""

from __future__ import annotations

from typing import Any

from ...ops.table import OPS, normal_axes
from ..ir import Graph, Node, Value
from .domains import fuses_reductions
from .expand import EXPANSIONS
from .spaces import VIEWS, space_of, without_ones


def move_reshapes(g: Graph) -> Graph:
    """The graph with reshapes moved away from between nodes that may then fuse."""
    if not fuses_reductions(g.gpu >= 0):
        return g
    return _Forwards(_Backwards(g).run()).run()


OF_ONE = frozenset({"sum", "mean", "prod", "max", "min"})  # reductions of one element that are that element


class _Moving:
    """A graph that is written anew, with what it needs to know of the old one."""

    def __init__(self, g: Graph) -> None:
        self.g, self.results, self.uses, self.producers = g, set(g.results()), g.uses(), g.producers()
        self.new: dict[Value, Value] = {}  # what stands for a value
        self.nodes: list[Node] = []

    def now(self, x: Any) -> Any:
        """What stands for an input of a node."""
        return self.new.get(x, x) if isinstance(x, Value) else x

    def is_flexible(self, n: Node) -> bool:
        """True if the node may run over its operands in another shape."""
        out = n.outputs[0]
        if (
            not (n.op == "dropout_train" or (space_of(n) is not None and n.op not in VIEWS))
            or out.layout
            or not out.shape
        ):
            return False
        return all(v.shape == out.shape and not v.layout and self.is_dense(v) for v in n.values)

    def is_dense(self, v: Value) -> bool:
        """True if a reshape of the value is sure to be free."""
        while (n := self.producers.get(v)) is not None and n.is_view:
            if n.op not in ("reshape", "expand_dims", "squeeze", "stop_gradient"):
                return False
            v = n.values[0]
        return True

    def is_move(self, n: Node | None) -> bool:
        """True for a reshape between spaces that differ."""
        if n is None or n.body is not None or n.op != "reshape" or n.outputs[0].layout or n.values[0].layout:
            return False
        shape = n.outputs[0].shape
        return without_ones(shape) != without_ones(n.values[0].shape) and bool(shape) and all(shape)

    def works(self, n: Node | None) -> bool:
        """True for a node that has a group to be in: pointwise, or a row that may be written out."""
        return n is not None and n.op not in VIEWS and (space_of(n) is not None or n.op in EXPANSIONS)

    def reshaped(self, v: Value, shape: tuple[int, ...]) -> Value:
        """The value in another shape: what it is itself a reshape of, or a new reshape."""
        n = self.producers.get(v)
        if self.is_move(n) and n.values[0].shape == shape:  # type: ignore[union-attr]
            return self.now(n.values[0])  # type: ignore[union-attr]
        out = v.like(shape=shape)
        self.nodes.append(Node("reshape", [self.now(v)], [out], {"shape": shape}))
        self.producers[out] = self.nodes[-1]
        return out

    def move(self, n: Node, shape: tuple[int, ...]) -> Node:
        """Writes the node over another shape of the same elements, and reshapes that give its own results."""
        inputs = [self.reshaped(x, shape) if isinstance(x, Value) else x for x in n.inputs]
        moved = Node(n.op, inputs, [v.like(shape=shape) for v in n.outputs], n.attrs, n.site)
        self.nodes.append(moved)
        for old, new in zip(n.outputs, moved.outputs, strict=True):
            self.producers[new] = moved
            self.producers[old] = Node("reshape", [new], [old], {"shape": old.shape}, n.site)
            self.nodes.append(self.producers[old])
        return moved


class _Backwards(_Moving):
    """Moves nodes into the shape that they are read in."""

    def run(self) -> Graph:
        shapes: dict[Node, tuple[int, ...]] = {}
        for n in reversed(self.g.nodes):
            if self.is_flexible(n) and (shape := self.wanted(n, shapes)) is not None:
                shapes[n] = shape
        for n in self.g.nodes:
            n.inputs = [self.now(x) for x in n.inputs]
            if n not in shapes:
                self.nodes.append(n)
                continue
            (made,) = self.move(n, shapes[n]).outputs
            for reader in self.uses.get(n.outputs[0], []):
                if self.is_move(reader) and reader.outputs[0].shape == made.shape:
                    self.new[reader.outputs[0]] = made
        return finish(self)

    def wanted(self, n: Node, shapes: dict[Node, tuple[int, ...]]) -> tuple[int, ...] | None:
        """The one shape in which all readers see the result, of which one works in it."""
        (out, *others) = n.outputs
        readers = self.uses.get(out, [])
        found = set()
        for c in readers:
            found.add(shapes.get(c, c.outputs[0].shape if self.is_move(c) else None))
        shape = found.pop() if len(found) == 1 else None
        if out in self.results or others or shape is None:
            return None
        works = [c in shapes or any(self.works(d) for d in self.uses.get(c.outputs[0], [])) for c in readers]
        return shape if any(works) else None


class _Forwards(_Moving):
    """Moves nodes into the shape that what they read was made in."""

    def run(self) -> Graph:
        for n in self.g.nodes:
            n.inputs = [self.now(x) for x in n.inputs]
            if n.op in OF_ONE and is_of_one(n):
                n = Node("reshape", n.inputs, n.outputs, {"shape": n.outputs[0].shape}, n.site)
                self.producers[n.outputs[0]] = n
            source = self.made_before(n)
            if source is not None and OPS[n.op].kind == "reduce":
                self.nodes.append(self.reduction(n, source))
            elif source is not None and self.is_flexible(n):
                self.move(n, source.shape)
            else:
                self.nodes.append(n)
        return finish(self)

    def made_before(self, n: Node) -> Value | None:
        """What an operand is reshaped from, if that is made by a node that works."""
        if n.body is not None or not (OPS[n.op].kind == "reduce" or self.is_flexible(n)):
            return None
        for v in n.values:
            view = self.producers.get(v)
            if self.is_move(view) and self.works(self.maker(view.values[0])):  # type: ignore[union-attr]
                source = view.values[0]  # type: ignore[union-attr]
                if OPS[n.op].kind != "reduce" or axes_before(source.shape, v.shape, axes_of(n)) is not None:
                    return source
        return None

    def maker(self, v: Value) -> Node | None:
        """The producer, with views that only change axes of extent 1 looked through."""
        while (n := self.producers.get(v)) is not None and n.op in VIEWS and space_of(n) is not None:
            v = n.values[0]
        return n

    def reduction(self, n: Node, source: Value) -> Node:
        """The reduction of ``source`` in place of that of its reshape."""
        axes = axes_before(source.shape, n.values[0].shape, axes_of(n))
        shape = tuple(d for i, d in enumerate(source.shape) if i not in axes)  # type: ignore[operator]
        attrs = {k: x for k, x in n.attrs.items() if k != "keepdims"} | {"axis": axes}
        out = n.outputs[0]
        if shape == out.shape:
            return Node(n.op, [source], n.outputs, attrs, n.site)
        self.nodes.append(Node(n.op, [source], [out.like(shape=shape)], attrs, n.site))
        return Node("reshape", [self.nodes[-1].outputs[0]], [out], {"shape": out.shape}, n.site)


def finish(m: _Moving) -> Graph:
    """The graph with the nodes written."""
    m.g.nodes = m.nodes
    return m.g.verify()


def is_of_one(n: Node) -> bool:
    """True if a reduction has one element for each result, and the same type."""
    (v,), out = n.values, n.outputs[0]
    same = v.dtype == out.dtype and not v.layout and not out.layout
    return same and all(v.shape) and without_ones(v.shape) == without_ones(out.shape)


def axes_of(n: Node) -> tuple[int, ...]:
    """The axes that a reduction folds."""
    return normal_axes(n.op, n.attrs.get("axis"), len(n.values[0].shape))


def axes_before(source: tuple[int, ...], shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes of ``source`` that make up ``axes`` of ``shape``, to which it is reshaped; None if none do."""
    found: list[int] = []
    at = 0
    for i, extent in enumerate(shape):
        size = 1
        while at < len(source) and (size < extent or source[at] == 1):
            size *= source[at]
            if i in axes:
                found.append(at)
            at += 1
        if size != extent:
            return None
    return tuple(found)
