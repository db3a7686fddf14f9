"""Every exception of minimx: one base, ``MXError``, and a subclass for each thing a user may want to catch.

Each subclass also derives from the Python class that a user would catch anyway (ValueError, TypeError, IndexError...).
Standard library only: this is the lowest layer and everything may import it. The C++ side raises ``minimx::Error``
(csrc/common/error.h), which the bind layer turns into one of these classes.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "AutogradError",
    "CompileError",
    "DTypeError",
    "DeviceError",
    "EngineError",
    "FileFormatError",
    "FileMissing",
    "GraphError",
    "IndexOutOfBounds",
    "MXError",
    "MXNetError",
    "MissingExtra",
    "NameNotFound",
    "NotSupported",
    "OutOfMemory",
    "ShapeError",
    "TimedOut",
    "WorkerError",
]


class MXError(Exception):
    """Base of all errors: reads ``<where>: expected <rule>, got <values>. <Way out>.``

    ``where`` names the function, operator or file; ``expected`` is the rule that was broken; ``got`` holds the
    offending values (a string, or any object, shown with ``str``); ``way_out`` says what to do. All four stay as
    attributes and survive pickling. A finished sentence may be given alone, as ``MXError("text")``: that is how C++
    raises.

    >>> str(ShapeError("dot", "inner sizes that agree", "(2, 3) and (4, 5)", "Transpose one operand"))
    'dot: expected inner sizes that agree, got (2, 3) and (4, 5). Transpose one operand.'
    """

    def __init__(self, where: str, expected: str = "", got: Any = None, way_out: str = "") -> None:
        self.where, self.expected, self.got, self.way_out = where, expected, got, way_out
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The whole sentence, as ``str(error)`` gives it."""
        if not self.expected:
            return self.where
        text = f"{self.where}: expected {self.expected}, got {self.got}"
        return ". ".join(part.rstrip(".") for part in (text, self.way_out) if part) + "."

    def __str__(self) -> str:  # KeyError and OSError have forms of their own
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.expected, self.got, self.way_out), self.__dict__


MXNetError = MXError  # as Gluon code knows it


def annotate(error: BaseException, note: str) -> None:
    """Adds a line to what is printed of an error (PEP 678), once: an error may be raised to several readers."""
    notes = error.__dict__.setdefault("__notes__", [])
    if note not in notes:
        notes.append(note)


class ArgumentError(MXError, ValueError):
    """An argument has the right type and a value that is not allowed."""


class ArgumentTypeError(MXError, TypeError):
    """An argument is of a Python type that is not accepted, or has a name that nothing takes."""


class ShapeError(MXError, ValueError):
    """Shapes, axes or numbers of dimensions do not fit together."""


class DTypeError(MXError, TypeError):
    """An element type is unknown, not supported by an operator, or would be cast unsafely."""


class DeviceError(MXError, ValueError):
    """Arrays live on different devices, or a device does not exist."""


class IndexOutOfBounds(MXError, IndexError):
    """An index or slice lies outside its axis, dataset or sequence."""


class NameNotFound(MXError, KeyError):
    """A parameter, operator, optimizer, metric or other registered name does not exist."""


class OutOfMemory(MXError, MemoryError):
    """An allocation failed, on the host or on a device."""


class NotSupported(MXError, NotImplementedError):
    """The request has a meaning, and minimx does not do it."""


class GraphError(MXError, RuntimeError):
    """Code cannot be traced into a graph (a branch on data, a non-hybrid child) or a graph is malformed."""


class AutogradError(MXError, RuntimeError):
    """The tape cannot give a gradient: nothing recorded, a saved array overwritten, a graph already freed."""


class EngineError(MXError, RuntimeError):
    """The dependency engine was misused, or has been stopped."""


class CompileError(MXError, RuntimeError):
    """Generated code did not compile; the message holds the numbered source and the options."""


class FileMissing(MXError, FileNotFoundError):
    """A file or folder that was asked for is not there."""


class FileFormatError(MXError, ValueError):
    """A file is there, but cut short, of another format, or damaged."""


class MissingExtra(MXError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class WorkerError(MXError, RuntimeError):
    """A worker process died, or raised something that could not be sent back whole."""


class TimedOut(MXError, TimeoutError):
    """Something did not answer within the time given."""
