"""What passes ask of a graph before they change it, and how its nodes come into order again afterwards."""

from __future__ import annotations

from ..ir import Graph, Node, Value


class Reading:
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
        while (n := self.producers.get(x)) is not None and n.is_view:
            if x in self.results:
                return False
            x = n.inputs[0]  # type: ignore[assignment]
        return True


def in_order(g: Graph) -> Graph:
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
