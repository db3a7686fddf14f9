"""What C++ has recorded (csrc/runtime/profile.h), as Python sees it, joined by operator.

Times are nanoseconds of one steady clock. An operator leaves a "push" (when it was called, its line, its bytes), a
"run" (when and where it ran), a "step" for each kernel of hybridized code, and on a GPU a "device" record. Where a
stream of a GPU is told to wait for another there is a "stall": from when it could have gone on to when it did.
"""

from __future__ import annotations

import bisect
import itertools
import os
from typing import NamedTuple

from ..libraries import import_core

_core = import_core()

KINDS = {  # by the keyword of set_config that asks for them
    "imperative": {"operator", "device", "communication"},
    "symbolic": {"program", "step", "device", "communication"},
    "memory": {"memory"},
    "api": {"push", "wait", "stall"},
}


STREAMS = ("compute stream", "copy stream", "communication stream")


class Record(NamedTuple):
    """One record. ``gpu`` is -1 for the CPU; ``stream`` is an index of STREAMS. ``value``: of a counter; of what GPUs
    compute together, how many they are; of a stall, the stream that is waited for. ``note``: of a fused group its
    members; of a captured graph a line for each step; of the user's records their domain.
    """

    kind: str
    name: str
    thread: int
    op: int
    begin: int
    end: int
    gpu: int
    stream: int
    program: bool
    failed: bool
    bytes: int
    value: float
    note: str
    site: str
    variables: list[int]

    @property
    def bandwidth(self) -> float:
        """GB/s of what was copied or summed, 0 for all else: bytes on one GPU over the time."""
        return self.bytes / (self.end - self.begin) if self.kind == "device" and self.end > self.begin else 0.0

    @property
    def members(self) -> str:
        """Of a step that is a fused group, on the CPU or on a stream."""
        return self.note if self.kind in ("step", "device") and "\n" not in self.note else ""

    @property
    def steps(self) -> list[str]:
        """Of a captured graph, briefly: "fused: sin, add (net.py:12)". Equal neighbours are one entry."""
        if self.kind != "device" or self.members:
            return []
        runs = [(text, len(list(same))) for text, same in itertools.groupby(map(_step, self.note.splitlines()))]
        return [text if times == 1 else f"{times} x {text}" for text, times in runs]

    @property
    def category(self) -> str:
        """The kind, with runs told apart by what ran, and the user's own records all in one."""
        if self.kind == "run":
            return "program" if self.program else "operator"
        if self.kind == "device" and self.value:
            return "communication"
        if self.kind == "counter" and not self.note:
            return "memory"
        return "user" if self.kind in ("span", "counter", "mark") else self.kind


def _step(line: str) -> str:
    name, members, site = line.split("\t")
    return name + (f": {members}" if members else "") + (f" ({os.path.basename(site)})" if site else "")


class Records:
    """Records in the order of their begin, those of one operator and of one variable at hand."""

    def __init__(self, records: list[Record], kinds: set[str]) -> None:
        records.sort(key=lambda r: (r.begin, -r.end))
        self.pushes = {r.op: r for r in records if r.kind == "push"}
        self.runs = {r.op: r for r in records if r.kind == "run"}
        self._on_streams: dict[tuple[int, int], list[Record]] = {}
        for r in records:
            if r.kind == "device":
                self._on_streams.setdefault((r.gpu, r.stream), []).append(r)
        self.shown = [r for r in records if r.category in kinds and self._wanted(r, kinds)]
        self._writers: dict[int, list[Record]] = {}
        for r in self.pushes.values():
            for variable in r.variables:
                self._writers.setdefault(variable, []).append(r)

    def _wanted(self, r: Record, kinds: set[str]) -> bool:
        """Of device records, those of operators that are shown."""
        run = self.runs.get(r.op)
        return r.kind != "device" or run is None or run.category in kinds

    def site(self, r: Record) -> str:
        """The user's line, or ""."""
        push = self.pushes.get(r.op) if r.category != "user" else None
        return r.site or (push.site if push else "")

    def holdup(self, stall: Record) -> Record | None:
        """What the stream that a stall waits for did last before the stall was over."""
        work = self._on_streams.get((stall.gpu, int(stall.value)), [])
        at = bisect.bisect_right(work, stall.end, key=lambda r: r.begin)
        return work[at - 1] if at else None

    def cause(self, wait: Record) -> Record | None:
        """The push of the operator that a wait waits for: the last before it that writes the variable."""
        writers = self._writers.get(wait.variables[0], []) if wait.variables else []
        at = bisect.bisect_right(writers, wait.begin, key=lambda r: r.begin)
        return writers[at - 1] if at else None


def read(kinds: set[str]) -> Records:
    """All that is recorded; ``shown`` holds what is of these kinds."""
    return Records([Record(*r) for r in _core.profile_records()], kinds)
