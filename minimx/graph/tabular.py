"""A FusionReport as text and as HTML: totals, a line for each kernel, and what stayed apart."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from .apart import Apart

if TYPE_CHECKING:
    from .report import FusionReport, Half, Kernel

MOST_APART = 8  # reasons that are shown
MOST_KERNELS = 48  # that are shown one by one
WIDE = 44  # letters of what a kernel does


def as_text(r: FusionReport) -> str:
    """The report for a terminal."""
    lines = [f"Fusion report: {r.title}", "", *aligned(totals(r)), "", *aligned(forms(r))]
    for h in r.halves:
        lines += ["", f"{h.name}:", *aligned(kernel_table(h, r.copy_speed))]
    for h in r.halves:
        if h.apart:
            lines += ["", f"{h.name}, not fused and why:", *(f"  {line}" for line in reasons(h.apart))]
    return "\n".join(lines)


def as_html(r: FusionReport) -> str:
    """The report for a notebook; a kernel's text opens with a click."""
    parts = [f"<h4>Fusion report: {escape(r.title)}</h4>", html_table(totals(r)), html_table(forms(r))]
    for h in r.halves:
        parts += [f"<h5>{h.name}</h5>", html_table(kernel_table(h, r.copy_speed))]
        parts += ["<ul>", *(f"<li>{escape(line)}</li>" for line in reasons(h.apart)), "</ul>"] if h.apart else []
        texts = {k.name: k.source for k in h.kernels if k.form in ("pointwise", "rows", "fold")}
        parts += [f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
                  for name, text in texts.items()]  # fmt: skip
    return "\n".join(parts)


def totals(r: FusionReport) -> list[list[str]]:
    """Launches, bytes and time, before and after. Ideal: what goes in and comes out, once."""
    table = [["", "launches", "moved", "ideal", "moved/ideal", *timing(r.copy_speed)]]
    table.append(["every operator alone", str(r.before[0]), *against(r.before[1], r.ideal)])
    for h in r.halves:
        table.append([h.name, str(h.launches), *against(h.moved, h.ideal), *spent(h.kernels, r.copy_speed)])
    if len(r.halves) > 1:
        launches, moved = sum(h.launches for h in r.halves), sum(h.moved for h in r.halves)
        table.append(["together", str(launches), *against(moved, r.ideal), *spent(r.kernels, r.copy_speed)])
    return [row + [""] * (len(table[0]) - len(row)) for row in table]


def against(moved: int, ideal: int) -> list[str]:
    """Bytes, the least possible, and their ratio."""
    return [size(moved), size(ideal), f"{moved / ideal:.2f}" if ideal else ""]


def forms(r: FusionReport) -> list[list[str]]:
    """What each form of kernel has of it."""
    by_form: dict[str, list[Kernel]] = {}
    for k in r.kernels:
        by_form.setdefault(k.form, []).append(k)
    table = [["form", "launches", "moved", *timing(r.copy_speed)]]
    for form, kernels in sorted(by_form.items(), key=lambda item: -sum(k.ns or k.moved for k in item[1])):
        launches, moved = sum(k.launches for k in kernels), sum(k.moved for k in kernels)
        table.append([form, str(launches), size(moved), *spent(kernels, r.copy_speed)])
    return table


def timing(copy_speed: float | None) -> list[str]:
    """Titles of what ``spent`` says."""
    return [] if copy_speed is None else ["us", "GB/s", "of a copy's"]


def spent(kernels: list[Kernel], copy_speed: float | None) -> list[str]:
    """Microseconds and GB/s of some, where they were timed, and the share of what a large copy reaches."""
    if copy_speed is None:
        return []
    ns = sum(k.ns or 0 for k in kernels)
    reached = sum(k.moved for k in kernels) / ns if ns else 0
    return [f"{ns / 1e3:.1f}", f"{reached:.1f}", f"{reached / copy_speed:.0%}"]


def kernel_table(h: Half, copy_speed: float | None) -> list[list[str]]:
    """A line for each kernel in the order in which they run; where they are many, for each kind, the largest first."""
    titles = ["#", "kernel", "form", "computes", "output", "read", "written", "of least", *timing(copy_speed)]
    if len(h.kernels) <= MOST_KERNELS:
        return [titles, *([str(i), *kernel_line([k], copy_speed)] for i, k in enumerate(h.kernels))]
    kinds: dict[tuple, list[Kernel]] = {}
    for k in h.kernels:
        kinds.setdefault((k.name, k.form, k.output, k.read), []).append(k)
    ranked = sorted(kinds.values(), key=lambda same: -sum(k.ns or k.moved for k in same))
    return [["runs", *titles[1:]], *([str(len(same)), *kernel_line(same, copy_speed)] for same in ranked)]


def kernel_line(same: list[Kernel], copy_speed: float | None) -> list[str]:
    """Kernels of one kind, in sum."""
    k, moved, least = same[0], sum(k.moved for k in same), sum(k.least for k in same)
    name = k.name + (f" ({k.launches} launches)" if k.launches > 1 else "")
    read, written = size(sum(k.read for k in same)), size(sum(k.written for k in same))
    line = [name, k.form, does(k), k.output, read, written, f"{moved / least:.2f}" if least else "1.00"]
    return line + spent(same, copy_speed)


def does(k: Kernel) -> str:
    """The rows of a kernel, cut where they are many."""
    text = ", ".join(k.members)
    return text if len(text) <= WIDE else f"{text[: WIDE - 12].rsplit(', ', 1)[0]}, ... ({len(k.members)})"


def reasons(edges: list[Apart]) -> list[str]:
    """Edges by reason: those that move most come first, each with its largest edge."""
    by_reason: dict[str, list[Apart]] = {}
    for a in edges:
        by_reason.setdefault(a.why, []).append(a)
    ranked = sorted(by_reason.items(), key=lambda item: -sum(a.bytes for a in item[1]))
    lines = []
    for why, found in ranked[:MOST_APART]:
        first = found[0]
        count = f"{len(found)} times, " if len(found) > 1 else ""
        total = size(sum(a.bytes for a in found))
        lines.append(f"{first.producer} -> {first.reader}, {first.type} ({count}{total}): {why}")
    rest = sum(len(found) for _, found in ranked[MOST_APART:])
    return lines + ([f"... and {rest} more (report.halves[i].apart)"] if rest else [])


def size(n: float) -> str:
    """``1.5 MB``, powers of ten."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= one:
            return f"{n / one:.4g} {unit}" if n >= 100 * one else f"{n / one:.3g} {unit}"
    return f"{n:.0f} B"


def aligned(table: list[list[str]]) -> list[str]:
    """Columns of text; numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    right = [i > 0 and all(row[i][:1].isdigit() or not row[i] for row in table[1:]) for i in range(len(widths))]
    cells = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)] for row in table]
    return ["  " + "  ".join(row).rstrip() for row in cells]


def html_table(table: list[list[str]]) -> str:
    """The same as HTML."""
    head = "".join(f"<th>{escape(c)}</th>" for c in table[0])
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in table[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
