"""Turning the profiler on and off, and getting at what it has seen. Settings hold for the process, not for a thread."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, ArgumentTypeError
from ..libraries import import_core
from . import tables
from .records import KINDS, read
from .timeline import timeline

_core = import_core()


@dataclass(frozen=True)
class Config:
    """What ``set_config`` sets; the names are MXNet's, but for ``max_records`` and ``step_by_step``."""

    filename: str | os.PathLike = "profile.json"
    profile_all: bool = False
    profile_symbolic: bool = False
    profile_imperative: bool = False
    profile_memory: bool = False
    profile_api: bool = False
    aggregate_stats: bool = True
    continuous_dump: bool = False
    dump_period: float = 1.0
    profile_process: str = "worker"
    max_records: int = 1 << 18
    step_by_step: bool = False

    @property
    def kinds(self) -> set[str]:
        """Kinds of records (records.py) that are shown. With no ``profile_*`` set, that is all."""
        chosen = {name for name in KINDS if getattr(self, f"profile_{name}")}
        if self.profile_all or not chosen:
            chosen = set(KINDS)
        return {"user"}.union(*(KINDS[name] for name in chosen))


_config = Config()
_state = "stop"  # or "run" or "pause"
_writing = threading.Lock()
_run = 0  # starts so far that dump continuously
_finished = False  # by a dump: the next start begins afresh


def set_config(**settings: Any) -> None:
    """Sets, before ``start``, where ``dump`` writes and what is shown. What is not named stays as it was.

    ``filename``: of ``dump``, "profile.json" at first. ``profile_symbolic``: runs of hybridized code and the steps in
    them. ``profile_imperative``: all other operators. ``profile_memory``: bytes in use on each device.
    ``profile_api``: waits with their cause, those of a GPU's streams too, and when calls were queued. ``profile_all``:
    all of these, as when none is set. ``aggregate_stats``: whether ``dumps`` gives tables (default True).
    ``continuous_dump``: writes the file every ``dump_period`` seconds while it runs. ``profile_process``: "worker", the
    only kind there is. ``max_records``: how many each thread and each stream keeps; then the oldest make room (default
    262144, some 150 bytes each). ``step_by_step``: while it records, programs of a GPU are not run as captured graphs,
    so that each step has its own bar and times, at the price of a launch for each.
    """
    global _config
    if _state == "run":
        raise ArgumentError("profiler.set_config", "a profiler that is stopped", "one that runs", "Call stop() first")
    known = Config.__dataclass_fields__
    for name, value in settings.items():
        if name not in known:
            way_out = f"Known are {', '.join(known)}"
            raise ArgumentTypeError("profiler.set_config", "known keywords", repr(name), way_out)
        want: Any = {"filename": (str, os.PathLike), "profile_process": (str,)}.get(name, (bool, int, float))
        if not isinstance(value, want):
            types = " or ".join(t.__name__ for t in want)
            raise ArgumentTypeError("profiler.set_config", f"{name} of type {types}", repr(value))
        if name in ("max_records", "dump_period") and value <= 0:
            raise ArgumentError("profiler.set_config", f"{name} above 0", value)
        if name == "profile_process" and value != "worker":
            way_out = "There are no servers to profile: each process profiles itself"
            raise ArgumentError("profiler.set_config", "profile_process 'worker'", repr(value), way_out)
    changes: dict[str, Any] = settings
    _config = replace(_config, **changes)


def set_state(state: str = "stop") -> None:
    """ "run" begins to record, or goes on; "stop" ends it. A start after a finished ``dump`` forgets what was."""
    global _state, _finished, _run
    if state not in ("run", "stop"):
        raise ArgumentError("profiler.set_state", "'run' or 'stop'", repr(state))
    if state == "run":
        if _finished:
            _core.profile_clear()
        _finished = False
        _core.profile_start(int(_config.max_records), "memory" in _config.kinds, bool(_config.step_by_step))
        if _config.continuous_dump and _state == "stop":
            _run += 1
            threading.Thread(target=_dump_often, args=(_run,), name="profiler's dumps", daemon=True).start()
    elif _state == "run":
        _core.profile_stop()
    _state = state


def state() -> str:
    """ "run", "stop" or "pause"."""
    return _state


def start() -> None:
    """``set_state("run")``."""
    set_state("run")


def stop() -> None:
    """``set_state("stop")``."""
    set_state("stop")


def pause() -> None:
    """Records nothing until ``resume``. Nothing happens unless the profiler runs."""
    global _state
    if _state == "run":
        _core.profile_stop()
        _state = "pause"


def resume() -> None:
    """Ends a ``pause``."""
    if _state == "pause":
        set_state("run")


def dump(finished: bool = True) -> None:
    """Writes the timeline to the file of ``set_config``, after all work that was queued. ``finished``: stops, too.

    What was recorded stays for ``dumps``, until ``dumps(reset=True)`` or a new start. An error that nobody has seen is
    raised once the file is written, as by ``mx.waitall()``.
    """
    global _finished
    unseen = _wait()
    if finished:
        set_state("stop")
        _finished = True
    _write()
    if unseen is not None:
        raise unseen


def dumps(reset: bool = False, format: str = "table", sort_by: str = "total", ascending: bool = False) -> str:
    """Tables of counts and times by name, as text ("table") or as JSON ("json"); times in milliseconds.

    ``sort_by``: "total", "avg", "min", "max", "count" or "name". ``reset`` forgets what was recorded.
    """
    if format not in ("table", "json"):
        raise ArgumentError("profiler.dumps", "format 'table' or 'json'", repr(format))
    if sort_by not in tables.COLUMNS:
        raise ArgumentError("profiler.dumps", f"sort_by one of {', '.join(tables.COLUMNS)}", repr(sort_by))
    if not _config.aggregate_stats:
        way_out = "Call set_config(aggregate_stats=True)"
        raise ArgumentError("profiler.dumps", "aggregate_stats to be set", "False", way_out)
    unseen = _wait()
    found = tables.aggregate(read(_config.kinds), sort_by, ascending)
    text = tables.as_json(found) if format == "json" else tables.as_text(found, _core.profile_dropped())
    if reset:
        _core.profile_clear()
    if unseen is not None:
        raise unseen
    return text


@contextlib.contextmanager
def profile(filename: str | os.PathLike | None = None, **settings: Any) -> Iterator[None]:
    """``with`` block that is recorded and, however it ends, dumped. ``settings`` are those of ``set_config``."""
    set_config(**settings, **({} if filename is None else {"filename": filename}))
    start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the block's own error is the one to see
            dump()
        raise
    dump()


def _dump_often(run: int) -> None:
    """Dumps while the run lasts that began it: another begins its own thread."""
    while True:
        time.sleep(_config.dump_period)
        if _state == "stop" or run != _run:
            return
        _write()


def _write() -> None:
    """What is recorded by now, to the file."""
    text = json.dumps(timeline(read(_config.kinds), _core.profile_threads(), _core.profile_dropped()))
    path = Path(_config.filename)
    part = path.with_name(path.name + ".part")  # so that a reader never finds half a file
    with _writing:
        part.write_text(text)
        part.replace(path)


def _wait() -> Exception | None:
    """What is queued belongs to the profile. An error of it that nobody has seen."""
    try:
        if _state == "run":
            _core.wait_all()
    except Exception as error:
        return error
    return None


def _begin_empty() -> None:
    """In a forked child: the engine has stopped listening there, and what the parent recorded is the parent's."""
    global _state, _finished, _writing
    _state, _finished, _writing = "stop", False, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_empty)
