"""A timeline in the Trace Event Format, which Perfetto and Chrome open: a process for the host with a row for each
thread, and one for each GPU with a row for each stream.

The format: "Trace Event Format", Google, 2016. Times there are microseconds, here from the first record on.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from .records import STREAMS, Record, Records

HOST = 1  # the process of the host; that of GPU i is HOST + 1 + i
ON_STREAMS = ("device", "stall")  # kinds of records whose row is that of a stream


def timeline(records: Records, threads: list[tuple[int, int, str]], dropped: int) -> dict[str, Any]:
    """The file's contents. ``threads``: (number, the system's number, role)."""
    zero = records.shown[0].begin if records.shown else 0
    events = [event for r in records.shown for event in _events(r, records, zero)]
    used = {r.thread for r in records.shown if r.thread}
    return {
        "traceEvents": [*_rows([t for t in threads if t[0] in used], records.shown), *events],
        "displayTimeUnit": "ms",
        "otherData": {"framework": "minimx", "pid": os.getpid(), "dropped_records": dropped},
    }


def _rows(threads: list[tuple[int, int, str]], shown: list[Record]) -> list[dict[str, Any]]:
    """Names of processes and rows."""
    python = {t.native_id: t.name for t in threading.enumerate()}
    titles = {"worker": "engine's worker", "host": "engine's host thread {}", "caller": "thread {}"}
    rows = [_name("process_name", HOST, 0, "minimx")]
    for number, native_id, role in threads:
        title = python.get(native_id, "thread {}") if role == "caller" else titles[role]
        rows.append(_name("thread_name", HOST, number, title.format(number)))
    for gpu, stream in sorted({(r.gpu, r.stream) for r in shown if r.kind in ON_STREAMS}):
        rows.append(_name("process_name", HOST + 1 + gpu, 0, f"gpu({gpu})"))
        rows.append(_name("thread_name", HOST + 1 + gpu, stream + 1, STREAMS[stream]))
    return rows


def _name(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _events(r: Record, records: Records, zero: int) -> list[dict[str, Any]]:
    """The events of a record: one, but for what begins and ends on rows of its own."""
    event: dict[str, Any] = {
        "name": r.name,
        "cat": r.category,
        "ph": "X",
        "pid": HOST,
        "tid": r.thread,
        "ts": (r.begin - zero) / 1e3,
        "args": _arguments(r, records),
    }
    if r.kind in ON_STREAMS:
        event |= {"pid": HOST + 1 + r.gpu, "tid": r.stream + 1}
    if r.kind == "counter":
        name = f"memory of {_device(r)}" if r.category == "memory" else f"{r.note}: {r.name}"
        value = int(r.value) if r.category == "memory" else r.value
        return [event | {"name": name, "ph": "C", "args": {"bytes" if r.category == "memory" else "value": value}}]
    if r.kind == "mark":
        return [event | {"ph": "i", "s": "p"}]
    if r.kind == "push":
        return [event | {"name": f"call {r.name}", "ph": "i", "s": "t"}]
    if r.op and r.kind == "span":  # a task: may begin and end on different threads, and cross others
        both = event | {"cat": r.note, "id": r.op}
        return [both | {"ph": "b"}, both | {"ph": "e", "ts": (r.end - zero) / 1e3}]
    return [event | {"dur": (r.end - r.begin) / 1e3}]


def _device(r: Record) -> str:
    return "cpu" if r.gpu < 0 else f"gpu({r.gpu})"


def _arguments(r: Record, records: Records) -> dict[str, Any]:
    """What a click on the event shows; empty entries are left out."""
    found: dict[str, Any] = {"line": records.site(r)}
    if r.kind in ("run", "step", "device", "push"):
        found["operator"] = r.op
    if r.kind in ("run", "step", "device"):
        found["device"] = _device(r)
    if r.kind == "run":
        push = records.pushes.get(r.op)
        found |= {"bytes": push.bytes, "queued_us": max(r.begin - push.begin, 0) / 1e3} if push else {}
        found["failed"] = r.failed
    elif r.kind == "push":
        found["bytes"] = r.bytes
    elif r.kind == "device" and r.bytes:
        found |= {"bytes": r.bytes, "GB/s": float(f"{r.bandwidth:.4g}"), "gpus": int(r.value)}
    elif r.kind == "stall" and (holdup := records.holdup(r)) is not None:
        found |= {"waits_for": holdup.name, "called_at": records.site(holdup), "operator": holdup.op}
    elif r.kind in ("step", "device"):
        found |= {"members": r.members, "steps": r.steps}
    elif r.kind == "wait" and (cause := records.cause(r)) is not None:
        found |= {"waits_for": cause.name, "called_at": cause.site, "operator": cause.op}
    elif r.category == "user":
        found["domain"] = r.note
    return {k: v for k, v in found.items() if v or v == 0 and v is not False}
