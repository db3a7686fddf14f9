"""What passes ask of a graph before they change it, and how its nodes come into order again afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from ...errors import GraphError
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


def rewritten(
    g: Graph,
    swapped: dict[Node, Node],
    gone: Collection[Node] = (),
    added: Sequence[Node] = (),
    new: dict[Value, Value] | None = None,
) -> Graph:
    """The graph with nodes in the places of others, without those that are ``gone``, in an order that runs.

    new: what is read in place of a value.
    """
    if not (swapped or gone or added):
        return g
    g.nodes = [*(swapped.get(n, n) for n in g.nodes if n not in gone), *added]
    g.replace(new or {})
    producers = g.producers()
    g.nodes = in_order(g.nodes, lambda n: [producers[v] for v in n.values if v in producers])
    return g


T = TypeVar("T")


def in_order(items: Sequence[T], before: Callable[[T], Iterable[T]]) -> list[T]:
    """The items, each behind those that are ``before`` it, and else in the order given: programs keep the code's."""
    done: set[T] = set()
    opened: set[T] = set()  # what is before them has been asked for
    order: list[T] = []
    for root in items:
        stack = [root]
        while stack:
            x = stack[-1]
            waiting = [y for y in dict.fromkeys(before(x)) if y is not x and y not in done] if x not in done else []
            if waiting and x in opened:
                raise GraphError("passes", "nodes without a cycle", f"one through {x}", "A pass is wrong")
            opened.add(x)
            stack.extend(waiting)
            if waiting:
                continue
            stack.pop()
            if x not in done:
                done.add(x)
                order.append(x)
    return order
