"""Places for the boxes of a directed graph, in layers from top to bottom: Sugiyama, Tagawa and Toda (1981).

A box comes a layer below the lowest of its sources; edges over several layers get a point in each; the order inside a
layer and then the places along it follow the neighbours. Nothing here knows what is drawn: that is svg.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

SPAN = 14  # layers that an edge may cross: longer ones are only begun and ended
GAP = 26.0  # between neighbours of a layer
DROP = 34.0  # between layers
SWEEPS = 6
MIDDLE = 0.03  # the pull to the middle, where a neighbour's is 1


@dataclass(eq=False)
class Box:
    """A rectangle of a size, and its place: x of the middle, y of the top. Edges pass through boxes without a size."""

    width: float
    height: float
    layer: int = 0
    x: float = 0.0
    y: float = 0.0
    floor: float = 0.0  # y of the bottom of its layer, from where edges may turn


@dataclass(eq=False)
class Edge:
    """From the bottom of one box to the top of another. through: the boxes that it passes; cut: it is too long."""

    source: Box
    target: Box
    through: list[Box] = field(default_factory=list)
    cut: bool = False

    @property
    def stops(self) -> list[Box]:
        """All boxes of it, from top to bottom."""
        return [self.source, *self.through, self.target]


def arrange(boxes: Sequence[Box], edges: Sequence[Edge]) -> tuple[float, float]:
    """Sets every place, of the edges' points too; returns width and height of the whole. boxes: sources first."""
    set_layers(boxes, edges)
    layers: list[list[Box]] = [[] for _ in range(1 + max((b.layer for b in boxes), default=0))]
    for b in boxes:
        layers[b.layer].append(b)
    for e in edges:
        route(e, layers)
    above, below = neighbours([e for e in edges if not e.cut])
    for _ in range(SWEEPS):
        for each, beside in ((layers, above), (layers[::-1], below)):
            set_order(each, beside)
    return set_places(layers, above, below)


def set_layers(boxes: Sequence[Box], edges: Sequence[Edge]) -> None:
    """The longest way from the top; what one box without sources alone leads to goes right above its first reader."""
    sources, targets = defaultdict(list), defaultdict(list)
    for e in edges:
        sources[e.target].append(e.source)
        targets[e.source].append(e.target)
    for b in boxes:
        b.layer = max((s.layer + 1 for s in sources[b]), default=0)
    light: set[Box] = set()  # boxes of chains that begin anywhere
    for b in boxes:
        if not sources[b] or (len(sources[b]) == 1 and sources[b][0] in light and len(targets[sources[b][0]]) == 1):
            light.add(b)
    for b in reversed(boxes):
        if b in light and targets[b]:
            b.layer = min(t.layer for t in targets[b]) - 1


def route(e: Edge, layers: list[list[Box]]) -> None:
    """Boxes for the points of a long edge."""
    e.cut = e.target.layer - e.source.layer > SPAN
    for layer in range(e.source.layer + 1, e.target.layer) if not e.cut else ():
        e.through.append(Box(0, 0, layer))
        layers[layer].append(e.through[-1])


def neighbours(edges: Sequence[Edge]) -> tuple[dict[Box, list[Box]], dict[Box, list[Box]]]:
    """Boxes right above and right below each."""
    above, below = defaultdict(list), defaultdict(list)
    for e in edges:
        for a, b in zip(e.stops, e.stops[1:], strict=False):
            above[b].append(a)
            below[a].append(b)
    return above, below


def set_order(layers: Sequence[list[Box]], beside: dict[Box, list[Box]]) -> None:
    """Sorts each layer by the mean place of the neighbours in the layer before it."""
    rank: dict[Box, float] = {}
    for layer in layers:
        wanted = {}
        for i, b in enumerate(layer):
            places = [rank[c] for c in beside[b] if c in rank]
            wanted[b] = sum(places) / len(places) if places else i / max(len(layer) - 1, 1)
        layer.sort(key=lambda b: wanted[b])
        rank = {b: i / max(len(layer) - 1, 1) for i, b in enumerate(layer)}


def set_places(layers: list[list[Box]], above: dict, below: dict) -> tuple[float, float]:
    """x near the neighbours, in the order of the layers and without overlap; y by the highest box of each layer."""
    for layer in layers:
        spread(layer, dict.fromkeys(layer, (0.0, 1.0)))
    for _ in range(2 * SWEEPS):
        for each, sides in ((layers, (above,)), (layers[::-1], (below,)), (layers, (above, below))):
            for layer in each:
                spread(layer, {b: pull(b, [c for side in sides for c in side[b]]) for b in layer})
    left = min((b.x - b.width / 2 for layer in layers for b in layer), default=0.0)
    y = 0.0
    for layer in layers:
        for b in layer:
            b.x, b.y = b.x - left, y
        y += max((b.height for b in layer), default=0.0)
        for b in layer:
            b.floor = y
        y += DROP
    return max((b.x + b.width / 2 for layer in layers for b in layer), default=0.0), max(y - DROP, 0.0)


def pull(b: Box, beside: Sequence[Box]) -> tuple[float, float]:
    """(where a box wants to be, how much): near its neighbours and a little to the middle, which keeps long graphs
    upright; edges that pass want to be straight most of all.
    """
    if not beside:
        return b.x, 0.01
    return sum(c.x for c in beside) / (len(beside) + MIDDLE), 1.0 if b.width else 8.0


def spread(layer: Sequence[Box], wanted: dict[Box, tuple[float, float]]) -> None:
    """The places in the given order with the least (weighted, squared) distance to those wanted, and with gaps.

    Less the room that all boxes before it take, each place is at least the last one's: isotonic regression, by pooling
    neighbours that are in each other's way.
    """
    runs: list[tuple[float, float, list[tuple[Box, float]]]] = []  # (mean place, weight, its boxes with their room)
    room = 0.0
    for last, b in zip([None, *layer], layer, strict=False):
        if last is not None:
            room += (last.width + b.width) / 2 + (GAP if last.width or b.width else GAP / 2)
        place, weight = wanted[b][0] - room, wanted[b][1]
        members = [(b, room)]
        while runs and runs[-1][0] > place:
            before, heavy, others = runs.pop()
            place = (before * heavy + place * weight) / (heavy + weight)
            weight, members = heavy + weight, others + members
        runs.append((place, weight, members))
    for place, _, members in runs:
        for b, offset in members:
            b.x = place + offset
