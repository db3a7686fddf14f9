"""Writing a file so that a crash leaves the old one or the new one, never half of it.

Not a lock: two writers of one path both succeed and the later one stays. minimx/serialization.py uses it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import IO

__all__ = ["atomic_write"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; when the block ends well, flush it to the disk and rename it to ``path``.

    An exception removes the temporary file and leaves ``path`` as it was. Links are followed. Yields a binary file.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(os.path.join(folder, "log.json")) as out:
    ...         _ = out.write(b"{}")
    ...     os.listdir(folder)
    ['log.json']
    """
    target = os.path.realpath(os.fspath(path))
    temporary = f"{target}.{secrets.token_hex(6)}.tmp"
    # O_EXCL: never follow or overwrite a file that somebody put there; 0o666 leaves the mode to the umask.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Put the rename itself on the disk; systems that cannot open a folder go without."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
