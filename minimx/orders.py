"""Debugging of what depends on luck: checked mode, and orders of operators that are recorded, replayed or shuffled.

Public as ``mx.engine.checked`` and so on. Essay: docs/engine.md, "Checked mode and replayed orders". What is looked for
is in csrc/runtime/checked.cc, orders are in csrc/engine/order.cc.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import EngineError, FileFormatError
from .libraries import import_core

_core = import_core()
_KINDS = {"p": "push", "s": "start", "c": "call", "e": "end", "w": "wait"}


class Order:
    """What the engine did, in order: ``events`` are tuples (kind, key, name).

    ``kind`` is "push", "start" (by one of the engine's threads), "call" (a start by whoever pushed it), "end", or
    "wait" (a wait that is over). ``key`` says which operator: "1.17" is the 17th thing that the first thread did,
    "1.17/2" the second that the function of that operator did.
    """

    def __init__(self, events: Sequence[tuple[str, str, str]] = ()) -> None:
        self.events = [tuple(e) for e in events]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and self.events == other.events

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return f"Order of {len(self)} events"

    def save(self, path: str | Path) -> None:
        """Writes one line an event: kind, key, name."""
        Path(path).write_text("".join(" ".join(e) + "\n" for e in self.events), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Order:
        """Reads what ``save`` wrote. Raises FileFormatError for another file."""
        events = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            parts = line.split(" ", 2)
            if len(parts) < 3 or parts[0] not in _KINDS.values():
                raise FileFormatError(f"{path}:{number}", "an event as Order.save writes it", repr(line))
            events.append(tuple(parts))
        return cls(events)  # type: ignore[arg-type]


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """``with`` block in which operators and callbacks are held to what they declare. For debugging: it is slow.

    Raises EngineError, with the operator, the line that pushed it, the array and a way out, for

    - a write to an array that the operator only reads, or by nobody who declares one;
    - a read or write, inside a callback, of an array that is not declared and was not made there;
    - a change of shared memory (NumPy, DLPack) while an operator that uses it is queued or runs;
    - elements that are read before anyone has written them, or left unwritten in what is written whole;
    - writes beside an array, and to one that was freed;
    - on a GPU, work on memory that is in no order with what another stream does there.

    Errors come as those of any operator do: where its results are read, in ``waitall``, or at the end of the block.
    Everything in flight is waited for when the block begins and ends; other threads' operators are checked as well.

    >>> import minimx as mx
    >>> with mx.engine.checked():
    ...     y = mx.np.ones(3) + 1
    """
    _core.wait_all()
    _core.checked_begin()
    try:
        yield
        _core.wait_all()
    except BaseException:
        with contextlib.suppress(Exception):
            _core.wait_all()
        with contextlib.suppress(Exception):
            _core.checked_end()
        raise
    _core.checked_end()


@contextlib.contextmanager
def record_order() -> Iterator[Order]:
    """``with`` block that records in which order operators are pushed, start and end, and waits end. Gives an Order,
    which is filled when the block ends, also by an error: that is the one to replay.

    >>> import minimx as mx
    >>> with mx.engine.record_order() as order:
    ...     y = (mx.np.ones(3) + 1).sum().item()
    >>> with mx.engine.replay_order(order):
    ...     y = (mx.np.ones(3) + 1).sum().item()
    """
    _core.wait_all()
    _core.order_record()
    with _ordered(Order()) as order:
        yield order


@contextlib.contextmanager
def replay_order(order: Order | str | Path) -> Iterator[None]:
    """``with`` block in which all that was recorded happens again in exactly that order: an operator starts once
    everything before its start has happened. ``order``: what record_order or shuffle_order gave, or a file of it.

    Raises EngineError where the program does another thing than the one that was recorded. Threads are told apart by
    the order in which they first use the engine.
    """
    recorded = order if isinstance(order, Order) else Order.load(order)
    codes = {name: code for code, name in _KINDS.items()}
    _core.wait_all()
    _core.order_replay([(codes[kind], key, name) for kind, key, name in recorded.events])
    with _ordered(Order()):
        yield


@contextlib.contextmanager
def shuffle_order(seed: int) -> Iterator[Order]:
    """``with`` block in which ``seed`` decides what the engine is free to choose: which of the operators that may run
    goes next, and which small ones run at once. They run one at a time, while the program waits for the engine.

    So what is declared gives the same as ever, and what depends on luck shows itself for some seeds, each time again.
    Gives an Order, as record_order does.

    >>> import minimx as mx
    >>> with mx.engine.shuffle_order(7) as order:
    ...     y = (mx.np.ones(3) + 1).sum().item()
    """
    _core.wait_all()
    _core.order_shuffle(seed % 2**64)
    with _ordered(Order()) as order:
        yield order


@contextlib.contextmanager
def _ordered(order: Order) -> Iterator[Order]:
    """Ends what has begun; fills ``order``."""
    failed = True
    try:
        yield order
        _core.wait_all()
        failed = False
    except BaseException:
        _core.order_give_up()
        with contextlib.suppress(Exception):
            _core.wait_all()
        raise
    finally:
        events, why = _core.order_end()
        order.events = [(_KINDS[kind], key, name) for kind, key, name in events]
        if why and not failed:
            raise EngineError(why)
