"""A worker process of the loader: started afresh (never forked), it runs on numpy alone.

This file is first run as a script by the new interpreter, before the package exists there (``start``); it then imports
itself as a module (``serve``). ``import minimx`` is made lazy, so that unpickling a dataset does not load the engine;
a transform that does ask for ``mx.np`` gets it, at the cost of loading it. The loader's end is pool.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import types
from multiprocessing import connection, spawn
from typing import Any

active = False  # True in a worker process


class _LazyPackage(types.ModuleType):
    """A package whose ``__init__`` runs only when a name is asked of it; its submodules import without that."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = types.ModuleType  # type: ignore[assignment]  # from here on an ordinary module
        self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


def _install_lazy(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations is not None
    package = _LazyPackage(name)
    package.__spec__, package.__file__, package.__package__ = spec, spec.origin, name
    package.__path__ = spec.submodule_search_locations
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def start(fd: int) -> None:
    """Entry of the new process. ``fd`` is its end of the pipe; the first message says everything else."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loader's to handle
    pipe = connection.Connection(fd)
    try:
        setup = pipe.recv()
        sys.path[:] = setup["process"]["sys_path"]
        _install_lazy("minimx")
        _install_lazy("minimx.gluon")
        from minimx.gluon.data import worker

        worker.active = True
        spawn.prepare(setup["process"])  # working folder, arguments, and __main__ where the dataset's class is there
        worker.serve(pipe, setup)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the loader has gone
    except BaseException as error:
        with contextlib.suppress(OSError):
            pipe.send(("failed", None, *_describe(error)))


def serve(pipe: connection.Connection, setup: dict[str, Any]) -> None:
    """Answer ``(ticket, slot, task)`` with ``("done", ticket, slot's size, message, broken)`` until the pipe closes."""
    from . import shared

    source = shared.read_object(setup["source"], setup["sizes"])
    slots = [shared.SharedFile(fd) for fd in setup["slots"]]
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()
    while True:
        ticket, slot, task = tasks.get()
        try:
            _seed_libraries(task)
            batch = source.fetch(task)
            size, message = shared.write_tree(slots[slot], batch.data)
            answer = ("done", ticket, size, message, batch.broken)
            packed = pickle.dumps(answer)
        except Exception as error:
            packed = pickle.dumps(("failed", ticket, *_describe(error)))
        pipe.send_bytes(packed)


def _receive(pipe: connection.Connection, tasks: queue.SimpleQueue[Any]) -> None:
    """Keep the pipe empty, so that neither end ever blocks on the other; leave at once when the loader has gone."""
    try:
        while True:
            tasks.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _seed_libraries(task: Any) -> None:
    """Python's and numpy's global generators, for user code that draws from them: a function of the batch alone."""
    import random

    import numpy as np

    words = np.random.SeedSequence([task.seed, task.epoch, task.number]).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))


def _describe(error: BaseException) -> tuple[BaseException | None, str]:
    """The exception itself, where it survives pickling, and its traceback as text."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        twin = pickle.loads(pickle.dumps(error))
        return (error, text) if type(twin) is type(error) and str(twin) == str(error) else (None, text)
    except Exception:
        return None, text
