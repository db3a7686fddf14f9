"""One training step as a timeline: imperative, bulk-fused, replayed, hybridized. Where its time goes, in tables too.

Writes a timeline for each way (JSON: open it at https://ui.perfetto.dev) and one picture of all four on one scale
(timeline.svg: open it in a browser, and rest the pointer on a bar). See docs/profiler.md.
"""

import argparse
import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import minimx as mx
from minimx import autograd, gluon, np, profiler
from minimx.gluon import nn
from minimx.graph import bulk

WIDTH, ROW, LEFT = 1200, 18, 150  # pixels: the time axis, a bar, the names of rows
COLOURS = {
    "operator": "#f3c26b",
    "program": "#7fb98f",
    "step": "#bfe0c6",
    "fused": "#d6e08c",
    "device": "#8fb3e0",
    "wait": "#e0a0a8",
    "scope": "#d5c6ea",
}
STYLE = (
    "text{font:11px ui-monospace,Menlo,monospace;fill:#1c2733}.head{font-weight:600}rect{stroke:#fff;stroke-width:.3}"
)


class Residual(gluon.HybridBlock):
    """x + scale * gelu(dense(x)), the last two written out: a chain of pointwise operators behind a product."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.dense = nn.Dense(units, in_units=units)
        self.scale = gluon.Parameter(shape=(units,), init="ones")

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = self.dense(x)
        y = 0.5 * y * (1 + np.tanh(0.79788456 * (y + 0.044715 * y * y * y)))
        return x + self.scale.data() * y


def training_step(units: int, hybridize: bool) -> Callable[[], None]:
    """A step of a net of two residual blocks, ready to be timed: it has run before."""
    net = nn.HybridSequential()
    net.add(Residual(units), Residual(units), nn.Dense(10))
    net.initialize(mx.init.Xavier())
    if hybridize:
        net.hybridize(static_alloc=True)
    loss_fn = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam")
    data, label = np.random.normal(size=(16 * units, units)), np.zeros((16 * units,), dtype="int32")

    def step() -> None:
        with profiler.scope("forward"), autograd.record():
            loss = loss_fn(net(data), label).mean()
        with profiler.scope("backward"):
            loss.backward()
        with profiler.scope("update"):
            trainer.step(1)
        loss.wait_to_read()
        mx.waitall()

    for _ in range(4):
        step()
    bulk.wait()  # until what repeats itself is compiled
    mx.rtc.wait()
    for _ in range(8):
        step()
    return step


def timeline(path: Path, step: Callable[[], None]) -> list[dict[str, Any]]:
    """Records a few steps; keeps the shortest. The timeline's events."""
    texts = []
    for _ in range(5):
        with profiler.profile(path):
            step()
        texts.append(path.read_text())
    shortest = min(texts, key=lambda text: length([e for e in json.loads(text)["traceEvents"] if e["ph"] == "X"]))
    path.write_text(shortest)
    return json.loads(shortest)["traceEvents"]


def length(bars: list[dict[str, Any]]) -> float:
    """From the first begin to the last end, in microseconds."""
    return max(e["ts"] + e["dur"] for e in bars) - min(e["ts"] for e in bars)


def rows_of(events: list[dict[str, Any]]) -> list[tuple[str, list[tuple[int, dict[str, Any]]]]]:
    """By thread or stream: its name, and its bars with how deep they lie in others."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    rows = []
    for key, name in names.items():
        bars: list[tuple[int, dict[str, Any]]] = []
        around: list[float] = []  # ends of the bars that the next may lie in
        mine = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == key]
        for e in sorted(mine, key=lambda e: (e["ts"], -e["dur"])):
            while around and around[-1] <= e["ts"]:
                around.pop()
            bars.append((len(around), e))
            around.append(e["ts"] + e["dur"])
        if bars:
            rows.append((name, bars))
    return rows


def label(e: dict[str, Any], width: float, groups: dict[str, str]) -> str:
    """A bar's name where there is room for it. For a fused group, whose members need more, a letter, the same for the
    same members.
    """
    members, room = e["args"].get("members"), int((width - 4) / 6.6)
    if members and room:
        return groups.setdefault(members, chr(ord("A") + len(groups)))
    return e["name"] if len(e["name"]) <= room else ""


def tip(e: dict[str, Any]) -> str:
    """What is shown where the pointer rests: members of a fused group or a captured graph, a wait's cause, the line."""
    args = e["args"]
    inside = args.get("members") or args.get("waits_for") or "\n".join(["", *args.get("steps", [])])
    return f"{e['name']} {inside}\n{e['dur']:.1f} us\n{args.get('line', '').removeprefix(f'{Path.cwd()}/')}"


def picture(panels: dict[str, list[dict[str, Any]]]) -> str:
    """All timelines below one another, on one scale."""
    spans = {k: [e for e in events if e["ph"] == "X"] for k, events in panels.items()}
    first = {k: min(e["ts"] for e in bars) for k, bars in spans.items()}
    scale = WIDTH / max(map(length, spans.values()))
    lines, y = [], 24.0
    groups: dict[str, str] = {}
    for title, events in panels.items():
        lines.append(
            f'<text class="head" x="8" y="{y:.0f}">{escape(title)}: {length(spans[title]) / 1e3:.2f} ms</text>'
        )
        y += 8
        for name, bars in rows_of(events):
            lines.append(f'<text x="8" y="{y + 13:.0f}">{escape(name[:20])}</text>')
            for depth, e in bars:
                x, width = LEFT + (e["ts"] - first[title]) * scale, max(e["dur"] * scale, 0.4)
                place = f'x="{x:.1f}" y="{y + depth * ROW:.0f}" width="{width:.1f}" height="{ROW - 2}"'
                colour = COLOURS["fused" if e["args"].get("members") else e["cat"] if e["cat"] in COLOURS else "scope"]
                lines.append(f'<rect {place} fill="{colour}"><title>{escape(tip(e))}</title></rect>')
                if text := label(e, width, groups):
                    lines.append(f'<text x="{x + 2:.1f}" y="{y + depth * ROW + 12:.0f}">{escape(text)}</text>')
            y += ROW * (1 + max(depth for depth, _ in bars)) + 4
        y += 26
    for i, (name, colour) in enumerate(COLOURS.items()):
        lines.append(f'<rect x="{LEFT + 100 * i}" y="{y - 18:.0f}" width="14" height="14" fill="{colour}"/>')
        lines.append(f'<text x="{LEFT + 100 * i + 18}" y="{y - 7:.0f}">{name}</text>')
    for members, letter in groups.items():
        lines.append(f'<text x="{LEFT}" y="{y + 15:.0f}">{letter}: {escape(members)}</text>')
        y += ROW
    size = f'width="{WIDTH + LEFT + 20}" height="{y + 10:.0f}"'
    paper = f'<rect {size} fill="#fff"/>'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", paper, *lines, "</svg>\n"]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a small net")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--out", type=Path, default=Path("timelines"), help="folder for what is written")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    units = 32 if args.tiny else 128
    panels = {}
    for title, size in (("imperative", 0), ("bulk-fused", 64), ("replayed", 0), ("hybridized", 0)):
        with mx.Device(args.device), mx.engine.bulk(size), mx.engine.replay(title == "replayed"):
            step = training_step(units, title == "hybridized")
            panels[title] = timeline(args.out / f"{title.replace(' ', '_')}.json", step)
        operators = sum(e.get("cat") in ("operator", "program") for e in panels[title])
        print(f"{title}: {operators} operators of the engine")
    print(profiler.dumps())  # of the last
    (args.out / "timeline.svg").write_text(picture(panels))
    print(f"open {args.out}/timeline.svg, or a .json file there at https://ui.perfetto.dev")
