"""The loader's end of its worker processes: start them, hand out tasks, collect batches, notice deaths, clean up.

Workers are fresh interpreters started with ``subprocess`` (worker.py). Batches come through nameless shared memory
(shared.py), tasks and small messages through one pipe per worker. Not thread-safe: one loader, one thread.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing import connection, spawn
from typing import Any

import numpy as np

from ...errors import MXError, TimedOut, WorkerError
from . import shared, worker
from .fetch import Batch, Source, Task

_BOOT = (
    "import sys, importlib.util as u; s = u.spec_from_file_location('minimx_data_worker', sys.argv[1]);"
    "m = u.module_from_spec(s); s.loader.exec_module(m); m.start(int(sys.argv[2]))"
)


class Worker:
    """One process, its pipe and its slots: shared files that each carry one batch at a time."""

    def __init__(self, slots: int, source_fd: int) -> None:
        # Every descriptor is made before the process, which inherits these and no others.
        self.pipe, theirs = connection.Pipe()
        self.slots = [shared.SharedFile(shared.open_nameless()) for _ in range(slots)]
        self.free = list(range(slots))
        self.running: dict[int, int] = {}  # ticket -> slot
        fds = [theirs.fileno(), source_fd, *(slot.fd for slot in self.slots)]
        command = [sys.executable, *_interpreter_flags(), "-c", _BOOT, worker.__file__, str(theirs.fileno())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # parallel are the workers
        self.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=environment)
        theirs.close()

    def send(self, message: Any) -> None:
        """Send without complaint to a worker that has died: its death is reported when its answer is awaited."""
        try:
            self.pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def obituary(self) -> str:
        """How the process ended, for an error message."""
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"


class WorkerPool:
    """``num_workers`` processes that make batches of ``source``. ``convert`` copies a numpy array out of a slot."""

    def __init__(self, source: Source, num_workers: int, slots: int, convert: Callable[[np.ndarray], Any]) -> None:
        self._convert = convert
        self._waiting: deque[tuple[int, Task]] = deque()
        self._results: dict[int, Batch | BaseException] = {}
        self._forgotten: set[int] = set()
        self._next_ticket = 0
        process = _process_setup(source)
        source_fd, sizes = shared.write_object(source)
        self._workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, _shut_down, self._workers, os.getpid())
        try:
            for _ in range(num_workers):
                self._workers.append(Worker(slots, source_fd))
            for w in self._workers:
                slot_fds = [slot.fd for slot in w.slots]
                w.send({"process": process, "source": source_fd, "sizes": sizes, "slots": slot_fds})
        except BaseException:
            self.close()
            raise
        finally:
            os.close(source_fd)

    @property
    def alive(self) -> bool:
        """False once closed, by the loader or by a failure."""
        return bool(self._finalizer.alive)

    def submit(self, task: Task) -> int:
        """Queue a task; gives the ticket to collect its batch with."""
        ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
        self._waiting.append((ticket, task))
        self._hand_out()
        return ticket

    def result(self, ticket: int, timeout: float | None) -> Batch:
        """Wait for a batch. Raises what the worker raised, WorkerError if one died, TimedOut after ``timeout`` s.

        After a death or a time-out the pool is closed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while ticket not in self._results:
                self._collect(deadline, timeout)
        except BaseException:  # also Ctrl-C: a message may be half read
            self.close()
            raise
        outcome = self._results.pop(ticket)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def forget(self, ticket: int) -> None:
        """The batch of this ticket is not wanted any more."""
        self._waiting = deque(item for item in self._waiting if item[0] != ticket)
        if self._results.pop(ticket, None) is None and any(ticket in w.running for w in self._workers):
            self._forgotten.add(ticket)

    def close(self) -> None:
        """End the workers, now, whatever they are doing, and free the shared memory."""
        self._finalizer()
        self._waiting.clear()
        self._results.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            idlest = max(self._workers, key=lambda w: len(w.free))
            if not idlest.free:
                return
            ticket, task = self._waiting.popleft()
            slot = idlest.free.pop()
            idlest.running[ticket] = slot
            idlest.send((ticket, slot, task))

    def _collect(self, deadline: float | None, timeout: float | None) -> None:
        """Wait for at least one message and take in all that have come."""
        pipes = {w.pipe: w for w in self._workers}
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = connection.wait(list(pipes), left)
        if not ready:
            raise TimedOut(
                "DataLoader",
                f"a batch within {timeout} seconds",
                "none",
                "Give a larger timeout=, or look for a transform or a disk that hangs",
            )
        for pipe in ready:
            w = pipes[pipe]  # type: ignore[index]
            try:
                self._take_in(w, pickle.loads(w.pipe.recv_bytes()))
            except (EOFError, ConnectionResetError):
                raise WorkerError(
                    "DataLoader",
                    f"its {len(self._workers)} worker processes to live",
                    f"one that {w.obituary()}",
                    "SIGKILL and SIGBUS usually mean too little memory: fewer workers, less prefetch or smaller "
                    "batches; SIGSEGV a faulty native library in the dataset. num_workers=0 shows it in this process",
                ) from None
        self._hand_out()

    def _take_in(self, w: Worker, message: tuple[Any, ...]) -> None:
        kind, ticket, *content = message
        if ticket is None:
            raise _remote_error(*content)
        slot = w.running.pop(ticket)
        wanted = ticket not in self._forgotten
        self._forgotten.discard(ticket)
        if wanted and kind == "failed":
            self._results[ticket] = _remote_error(*content)
        elif wanted:
            size, tree, broken = content
            self._results[ticket] = Batch(shared.read_tree(w.slots[slot], size, tree, self._convert), broken)
        w.free.append(slot)


def _remote_error(error: BaseException | None, text: str) -> BaseException:
    """The worker's own exception with its traceback as cause; a WorkerError where it could not be sent."""
    remote = WorkerError(f"DataLoader: a worker process raised\n\n{text}")
    if error is None:
        return remote
    error.__cause__ = remote
    return error


def _process_setup(source: Source) -> dict[str, Any]:
    """What ``multiprocessing`` tells a new process, less the user's script where nothing of it is needed.

    So a script without ``if __name__ == "__main__":`` works, as long as its dataset's classes come from modules.
    Raises PicklingError where ``source`` cannot be sent to another process.
    """
    try:
        head = pickle.dumps(source, protocol=5, buffer_callback=lambda _: None)
    except (AttributeError, TypeError) as error:
        raise pickle.PicklingError(str(error)) from error
    setup: dict[str, Any] = dict(spawn.get_preparation_data("DataLoader worker"))
    setup.pop("authkey", None)  # its own pipe needs none
    keys: tuple[str, ...] = ("init_main_from_name", "init_main_from_path")
    script = {key: setup.pop(key) for key in keys if key in setup}
    if b"__main__" in head:
        if not script:
            raise pickle.PicklingError("it uses names of __main__, which is not a file (a notebook or python -c)")
        setup.update(script)
    return setup


def _interpreter_flags() -> list[str]:
    """Options such as -W error and -X dev, as multiprocessing passes them on."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]


def _shut_down(workers: list[Worker], owner: int) -> None:
    """Close the pipes, which ends the workers, and free everything. In a forked child only the copies are closed."""
    for w in workers:
        w.pipe.close()
        for slot in w.slots:
            slot.close()
    for w in workers:
        if os.getpid() != owner:
            w.process.returncode = 0  # not this process's child
        else:
            try:
                w.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                w.process.kill()
                w.process.wait()
    workers.clear()


def refuse_in_worker() -> None:
    """Raise where a worker, importing the user's script, is about to start workers of its own."""
    if worker.active:
        raise MXError(
            "DataLoader",
            "a script whose work stands under `if __name__ == '__main__':` (its workers import it to find the dataset)",
            "one that iterates a loader when imported",
            "Add that line, move the dataset's class to a module, or use thread_pool=True",
        )
