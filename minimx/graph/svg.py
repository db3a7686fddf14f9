"""A graph as a picture: ``graph.to_svg()``, ``graph.save_svg(path)``. Plain SVG, nothing else is needed to see it.

A node is a box with what it computes, the operands that nothing in the graph makes (parameters above all), and the
types of its results; a fused node lists its members. Resting the pointer on a box or an edge tells more. Edges over
many layers are cut, with a link at either end. Where boxes go: layers.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from .ir import Graph, Node, Value, _node_lines
from .layers import Box, Edge, arrange

MEMBERS = 14  # that a box lists
MARGIN, HEAD, LINE, WIDE, SLIM = 16, 30, 15, 7.3, 6.2  # of the page, its title; of a line; of letters
CLASSES = {"library": "library", "fused": "fused kernel", "kernel": "kernel", "view": "view", "given": "input"}
STYLE = """\
text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1c2733}.small{font-size:10.5px;fill:#5b6673}
.end{font-size:10.5px;fill:#7a3fb5}.head{font-weight:600}.page{fill:#fff}.edge{fill:none;stroke:#8a94a0;stroke-width:1.3}
.edge:hover{stroke:#d1495b;stroke-width:2.6}.cut{stroke-dasharray:3 3}a text{fill:#2b62a8;font-size:10px}
rect{stroke-width:1.1}.library rect{fill:#e6effb;stroke:#4f7cb8}.fused rect{fill:#e5f5e8;stroke:#3f9156}
.kernel rect{fill:#fff1da;stroke:#c08a1a}.view rect{fill:#f6f7f8;stroke:#a9b1ba;stroke-dasharray:4 3}
.given rect{fill:#f3ecfa;stroke:#8a63b5}g:target rect{stroke-width:3}"""


@dataclass(eq=False)
class Drawn(Box):
    """A box of the picture: lines of text as (class, text), and what the pointer tells."""

    number: int = 0
    kind: str = "given"
    lines: list[tuple[str, str]] = field(default_factory=list)
    tip: str = ""


@dataclass(eq=False)
class Carried(Edge):
    """An edge of the picture, and the values that it carries."""

    values: list[Value] = field(default_factory=list)


def to_svg(g: Graph) -> str:
    """The picture as text."""
    boxes, edges = drawn(g)
    width, height = arrange(boxes, edges)
    width = max(width, 46 + sum(34 + SLIM * len(title) for title in CLASSES.values()))
    w, h = width + 2 * MARGIN, height + 3 * MARGIN + 2 * HEAD
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0f} {h:.0f}" width="{w:.0f}" height="{h:.0f}">',
             f"<title>{escape(g.name)}</title>\n<style>{STYLE}</style>",
             f'<rect class="page" width="{w:.0f}" height="{h:.0f}"/>', *legend(g),
             f'<g transform="translate({MARGIN},{MARGIN + 2 * HEAD})">']  # fmt: skip
    lines += [line for e in edges for line in edge_lines(e, edges)]
    named = {b for e in edges if e.cut for b in (e.source, e.target)}
    lines += [line for b in boxes for line in box_lines(b, b in named)]
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def save_svg(g: Graph, path: str | Path) -> None:
    """Writes the picture to a file."""
    Path(path).write_text(to_svg(g), encoding="utf-8")


# ---- what is drawn --------------------------------------------------------------------------------------------------


def drawn(g: Graph) -> tuple[list[Drawn], list[Carried]]:
    """Boxes, sources first, and edges."""
    numbers = itertools.count()
    apart = inputs_apart(g)
    made: dict[Value, Drawn] = {}
    boxes: list[Drawn] = []
    for i, v in enumerate(g.inputs):
        if v in apart:
            made[v] = boxed(next(numbers), "given", [("head", v.name or f"input {i}"), ("small", v.type())])
            boxes.append(made[v])
    edges: list[Carried] = []
    names: dict[Value, str] = {}
    leaving = leaving_of(g)
    for n in g.nodes:
        box = node_box(next(numbers), n, [v for v in n.values if v not in made], leaving, names)
        boxes.append(box)
        read: dict[Drawn, list[Value]] = {}
        for v in dict.fromkeys(n.values):
            if v in made:
                read.setdefault(made[v], []).append(v)
        edges += [Carried(source, box, values=values) for source, values in read.items()]
        made.update(dict.fromkeys(n.outputs, box))
    return boxes, edges


def leaving_of(g: Graph) -> dict[Value, list[str]]:
    """Where values go at the end: ``output 0``, ``into input 4``."""
    found: dict[Value, list[str]] = {}
    for i, v in enumerate(g.outputs):
        found.setdefault(v, []).append(f"output {i}")
    for target, v in g.writes:
        found.setdefault(v, []).append(f"into input {g.inputs.index(target)}")
    return found


def inputs_apart(g: Graph) -> set[Value]:
    """Inputs that are boxes: those with many readers, or whose reader reads nothing else that is drawn."""
    uses, inputs = g.uses(), set(g.inputs)
    found = {v for v in g.inputs if len(set(uses.get(v, []))) > 1}
    made = {v for n in g.nodes for v in n.outputs}
    for n in g.nodes:
        if n.values and not any(v in made or v in found for v in n.values) and n.values[0] in inputs:
            found.add(n.values[0])
    return found


def node_box(
    number: int, n: Node, given: list[Value], leaving: dict[Value, list[str]], names: dict[Value, str]
) -> Drawn:
    """The box of a node; ``given``: its operands that have none."""
    if n.body is not None:
        members = [m.op for m in n.body.nodes]
        shown = [("", f"  {text}") for text in counted(members)]
        more = [("small", f"  ... and {len(shown) - MEMBERS} more")] if len(shown) > MEMBERS else []
        lines = [("head", f"fused: {n.form}"), *shown[:MEMBERS], *more]
    else:
        lines = [("head", n.op)]
    lines += [("small", f"+ {text}") for text in counted(v.type() for v in dict.fromkeys(given))][:6]
    lines += [("small", text) for text in counted(v.type() for v in n.outputs)]
    ends = [end for v in n.outputs for end in leaving.get(v, [])]
    lines += [("end", "-> " + ", ".join(some)) for some in (ends[i : i + 2] for i in range(0, len(ends), 2))]
    return boxed(number, "fused" if n.body is not None else n.form, lines, "\n".join(_node_lines(n, names, "")))


def counted(texts: Iterable[str]) -> list[str]:
    """Texts with runs of equal ones as ``text x 3``."""
    runs = [(text, len(list(run))) for text, run in itertools.groupby(texts)]
    return [text + (f" x {count}" if count > 1 else "") for text, count in runs]


def boxed(number: int, kind: str, lines: list[tuple[str, str]], tip: str = "") -> Drawn:
    """A box as large as its text."""
    width = max(len(text) * (SLIM if kind in ("small", "end") else WIDE) for kind, text in lines) + 18
    return Drawn(width, LINE * len(lines) + 11, number=number, kind=kind, lines=lines, tip=tip)


# ---- SVG ------------------------------------------------------------------------------------------------------------


def legend(g: Graph) -> list[str]:
    """Title and colours."""
    fused = sum(n.body is not None for n in g.nodes)
    title = f"{g.name}: {len(g.nodes)} nodes" + (f", {fused} of them fused" if fused else "")
    lines, x = [f'<text class="head" x="{MARGIN}" y="{MARGIN + 10}">{escape(title)}</text>'], float(MARGIN)
    for kind, text in CLASSES.items():
        y = MARGIN + HEAD - 8
        lines.append(f'<g class="{kind}"><rect x="{x:.0f}" y="{y}" width="14" height="11" rx="3"/>'
                     f'<text class="small" x="{x + 20:.0f}" y="{y + 9.5}">{text}</text></g>')  # fmt: skip
        x += 40 + SLIM * len(text)
    return lines


def box_lines(b: Drawn, named: bool) -> list[str]:
    """A node: rectangle and text, with its number where links lead to it."""
    left = b.x - b.width / 2
    lines = [f'<g class="{b.kind}" id="n{b.number}">' + (f"<title>{escape(b.tip)}</title>" if b.tip else ""),
             f'<rect x="{left:.1f}" y="{b.y:.1f}" width="{b.width:.1f}" height="{b.height:.1f}" rx="6"/>']  # fmt: skip
    for i, (kind, text) in enumerate(b.lines):
        mark = f' class="{kind}"' if kind else ""
        lines.append(f'<text{mark} x="{left + 9:.1f}" y="{b.y + LINE * (i + 1) + 2:.1f}" xml:space="preserve">'
                     f"{escape(text)}</text>")  # fmt: skip
    if named:
        right = b.x + b.width / 2 - 6
        lines.append(
            f'<text class="small" text-anchor="end" x="{right:.1f}" y="{b.y + b.height - 5:.1f}">{b.number}</text>'
        )
    return [*lines, "</g>"]


def edge_lines(e: Carried, edges: list[Carried]) -> list[str]:
    """A curve from box to box, or the two ends of one that is cut."""
    tip = f"<title>{escape(', '.join(v.type() for v in e.values))}</title>"
    x, y = arrival(e, edges), e.target.y
    if e.cut:
        out, into = (f'<path class="edge cut" d="{d}">{tip}</path>' for d in (
            f"M{e.source.x:.1f} {e.source.y + e.source.height:.1f}v14", f"M{x:.1f} {y - 14:.1f}V{y:.1f}"))  # fmt: skip
        far, near = _number(e.target), _number(e.source)
        beside = 30 * [o for o in edges if o.cut and o.source is e.source].index(e)
        below = e.source.y + e.source.height + 13
        return [out, into, _link(e.source.x + 3 + beside, below, far), _link(x + 3, y - 7, near)]
    path = f"M{e.source.x:.1f} {e.source.y + e.source.height:.1f}V{e.source.floor:.1f}"
    at = (e.source.x, e.source.floor)
    for b in e.through:
        path += _curve(at, (b.x, b.y)) + f"V{b.floor:.1f}"
        at = (b.x, b.floor)
    return [f'<path class="edge" d="{path}{_curve(at, (x, y))}">{tip}</path>']


def arrival(e: Carried, edges: list[Carried]) -> float:
    """Where along the top of its target an edge ends: side by side in the order in which they come."""
    others = sorted((o for o in edges if o.target is e.target), key=lambda o: o.stops[-2].x)
    step = min(30.0 if any(o.cut for o in others) else 16.0, e.target.width / (len(others) + 0.5))
    return e.target.x + (others.index(e) - (len(others) - 1) / 2) * step


def _curve(a: tuple[float, float], b: tuple[float, float]) -> str:
    middle = (a[1] + b[1]) / 2
    return f"C{a[0]:.1f} {middle:.1f} {b[0]:.1f} {middle:.1f} {b[0]:.1f} {b[1]:.1f}"


def _number(b: Box) -> int:
    return b.number if isinstance(b, Drawn) else -1


def _link(x: float, y: float, number: int) -> str:
    return f'<a href="#n{number}"><text x="{x:.1f}" y="{y:.1f}">#{number}</text></a>'
