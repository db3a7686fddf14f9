"""Counts and times by name: what ``dumps`` prints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .records import STREAMS, Record, Records

COLUMNS = ("total", "avg", "min", "max", "count", "name")
TITLES = {
    "operator": "Operators",
    "program": "Hybridized code",
    "step": "Steps of hybridized code",
    "device": "On GPUs",
    "communication": "Communication between GPUs",
    "stall": "Waits of a GPU's streams",
    "wait": "Waits",
    "user": "Scopes",
    "memory": "Memory",
}


@dataclass
class Row:
    """A line: times in milliseconds; of memory, bytes. ``bytes``: copied or summed."""

    name: str
    count: int
    total: float
    min: float
    max: float
    bytes: int = 0

    @property
    def bandwidth(self) -> float:
        """GB/s, over all."""
        return self.bytes / self.total / 1e6 if self.total else 0.0

    @property
    def avg(self) -> float:
        """The mean."""
        return self.total / self.count


def aggregate(records: Records, sort_by: str = "total", ascending: bool = False) -> dict[str, list[Row]]:
    """Rows by category, sorted."""
    rows: dict[str, dict[str, Row]] = {title: {} for title in TITLES}
    for r in records.shown:
        if (value := _value(r)) is None:
            continue
        name = _name(r)
        row = rows[r.category].setdefault(name, Row(name, 0, 0.0, value, value))
        row.count, row.total = row.count + 1, row.total + value
        row.min, row.max = min(row.min, value), max(row.max, value)
        row.bytes += r.bytes if r.kind == "device" else 0
    order = {
        k: sorted(v.values(), key=lambda row: getattr(row, sort_by), reverse=not ascending) for k, v in rows.items()
    }
    return {k: v for k, v in order.items() if v}


def _value(r: Record) -> float | None:
    """What is added up, or None for what takes no time."""
    if r.category == "memory":
        return r.value
    return None if r.kind in ("push", "mark", "counter") else (r.end - r.begin) / 1e6


def _name(r: Record) -> str:
    if r.category == "memory":
        return "cpu" if r.gpu < 0 else f"gpu({r.gpu})"
    if r.kind == "stall":
        return f"{STREAMS[r.stream]}: {r.name}"
    return f"{r.name}: {r.members}" if r.members else r.name


def as_json(found: dict[str, list[Row]]) -> str:
    """{"Time": {title: {name: {"Count": ...}}}, "Memory": {...}, "Unit": {...}}."""

    def entry(row: Row) -> dict[str, Any]:
        found = {"Count": row.count, "Total": row.total, "Min": row.min, "Max": row.max, "Avg": row.avg}
        return found | ({"Bytes": row.bytes, "GB/s": row.bandwidth} if row.bytes else {})

    times = {TITLES[k]: {row.name: entry(row) for row in rows} for k, rows in found.items() if k != "memory"}
    memory = {row.name: {"Count": row.count, "Min": row.min, "Max": row.max} for row in found.get("memory", [])}
    return json.dumps({"Time": times, "Memory": memory, "Unit": {"Time": "ms", "Memory": "bytes"}})


def as_text(found: dict[str, list[Row]], dropped: int) -> str:
    """The tables."""
    lines = ["Profile statistics" + (f" ({dropped} older records made room)" if dropped else "")]
    for category, rows in found.items():
        memory, moved = category == "memory", any(row.bytes for row in rows)
        width = max(24, *(min(len(row.name), 60) for row in rows))
        heads = ["Min (MiB)", "Max (MiB)"] if memory else ["Total (ms)", "Avg (ms)", "Min (ms)", "Max (ms)"]
        heads += ["MiB", "GB/s"] if moved else []
        lines += ["", TITLES[category], f"{'Name':<{width}} {'Count':>8}" + "".join(f" {h:>12}" for h in heads)]
        lines.append("-" * len(lines[-1]))
        for row in rows:
            numbers = [row.min / 2**20, row.max / 2**20] if memory else [row.total, row.avg, row.min, row.max]
            numbers += [row.bytes / 2**20, row.bandwidth] if moved else []
            name = row.name if len(row.name) <= 60 else row.name[:57] + "..."
            lines.append(f"{name:<{width}} {row.count:>8}" + "".join(f" {x:>12.4f}" for x in numbers))
    return "\n".join(lines) + "\n"
