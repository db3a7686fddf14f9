"""A sum of arrays that are zero but for a piece each becomes one array that is joined from the pieces.

    paste(a, start=0) + paste(b, start=16) + paste(c, start=32)   becomes   concatenate(a, b, c)

Such sums are what the gradient of ``split`` is: every part's gradient in an array of the whole's size.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value


def join_pieces(g: Graph) -> Graph:
    """Rewrites every sum of pieces that fill an array along one axis."""
    producers, uses, results = g.producers(), g.uses(), set(g.results())
    only = {v for v, readers in uses.items() if len(readers) == 1 and v not in results}
    for n in reversed(g.nodes):
        if n.op != "add" or _reader(n, uses, only) is not None:
            continue
        pieces = leaves(n, producers, only)
        axis = axis_of(pieces) if pieces else None
        if axis is not None:
            pieces.sort(key=lambda p: p.attrs["start"][axis])
            n.op, n.inputs, n.attrs = "concatenate", [p.inputs[0] for p in pieces], {"axis": axis}
    return g


def _reader(n: Node, uses: dict[Value, list[Node]], only: set[Value]) -> Node | None:
    """The addition that ``n`` is a part of."""
    v = n.outputs[0]
    return uses[v][0] if v in only and uses[v][0].op == "add" and uses[v][0].outputs[0].shape == v.shape else None


def leaves(root: Node, producers: dict[Value, Node], only: set[Value]) -> list[Node]:
    """The pieces that a tree of additions sums up; none if it sums up something else too."""
    found: list[Node] = []
    stack = [root]
    while stack:
        n = stack.pop()
        if n.op == "paste" and _is_piece(n):
            found.append(n)
        elif n.op == "add" and len(n.values) == 2 and n.outputs[0].shape == root.outputs[0].shape:
            below = [producers.get(v) for v in n.values]
            if any(p is None or v not in only or v.dtype != root.outputs[0].dtype
                   for v, p in zip(n.values, below, strict=True)):  # fmt: skip
                return []
            stack.extend(p for p in below if p is not None)
        else:
            return []
    return found


def _is_piece(n: Node) -> bool:
    """Zero, but for an array as it is."""
    v, base = (*n.inputs, None)[:2]
    whole = isinstance(v, Value) and n.attrs["region"] in (None, v.shape)
    return base is None and whole and n.attrs["value"] == 0 and all(s == 1 for s in n.attrs["step"])


def axis_of(pieces: list[Node]) -> int | None:
    """The axis along which the pieces fill the array without a gap, or None."""
    shape = pieces[0].outputs[0].shape
    boxes = [(tuple(p.attrs["start"]), p.values[0].shape) for p in pieces]
    for axis in range(len(shape)):
        rest = [d for d in range(len(shape)) if d != axis]
        if any(start[d] != 0 or extent[d] != shape[d] for start, extent in boxes for d in rest):
            continue
        at = 0
        for start, extent in sorted(boxes, key=lambda b: b[0][axis]):
            if start[axis] != at:
                return None
            at += extent[axis]
        return axis if at == shape[axis] else None
    return None
