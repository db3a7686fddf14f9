"""Compiled kernels on disk: a shared object or a cubin for each, under the digest of all that it depends on.

The folder is private to the user (mode 0700) and refused if it is somebody else's, since what lies in it is executed.
A file ends with the digest of its content, so a damaged one is noticed and made again. Files appear by rename, and the
least recently used go when the folder outgrows its bound. Not here: compiling (compile.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

SUFFIX = ".so"
DIGEST = 32  # bytes at the end of a file


def digest(*parts: str) -> str:
    """The name of what depends on ``parts``."""
    h = hashlib.sha256()
    for part in parts:
        h.update(f"{len(part)}:".encode() + part.encode())
    return h.hexdigest()


class Cache:
    """A folder of compiled kernels. ``problem`` says why the wanted folder is not used, if so; then a fresh one is.

    Caches with different suffixes may share a folder, and then its bound.
    """

    def __init__(self, folder: Path, limit_bytes: int, suffix: str = SUFFIX) -> None:
        self.limit_bytes, self.suffix, self.problem = limit_bytes, suffix, ""
        self.grown = limit_bytes  # bytes stored since the folder was last looked through
        try:
            self.folder = private(folder)
        except OSError as error:
            self.problem = f"{folder}: {error.strerror or error}"
            self.folder = Path(tempfile.mkdtemp(prefix="minimx-rtc-"))

    def path(self, key: str) -> Path:
        """Where the kernel of a key lies, if it is there."""
        return self.folder / (key + self.suffix)

    def find(self, key: str) -> Path | None:
        """The kernel's file if it is there and whole; a damaged one is removed."""
        return None if self.read(key) is None else self.path(key)

    def read(self, key: str) -> bytes | None:
        """The same, but what was stored."""
        path = self.path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data[:-DIGEST]).digest() == data[-DIGEST:]:
            with contextlib.suppress(OSError):
                os.utime(path)  # used just now
            return data[:-DIGEST]
        path.unlink(missing_ok=True)
        return None

    def store(self, keys: list[str], data: bytes) -> None:
        """Takes a compiler's output in, under every key whose kernel it holds."""
        temporary = self.temporary(self.suffix)
        temporary.write_bytes(data + hashlib.sha256(data).digest())
        for key in keys:
            link = self.temporary(self.suffix)
            os.link(temporary, link)
            os.replace(link, self.path(key))
        temporary.unlink()
        self.grown += len(data)
        if self.grown > self.limit_bytes // 64:  # looking at every file takes longer than storing one
            self.grown = 0
            self.prune()

    def temporary(self, suffix: str) -> Path:
        """A new name for a file that is not finished."""
        return self.folder / f"tmp-{secrets.token_hex(8)}{suffix}"

    def prune(self) -> None:
        """Removes the least recently used kernels beyond the bound, and what crashed processes left behind."""
        found = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):
                s = entry.stat(follow_symlinks=False)
                found.append((s.st_mtime, s.st_size / s.st_nlink, entry.path))
        newest = max((t for t, _, _ in found), default=0)
        total = sum(size for _, size, _ in found)
        for when, size, path in sorted(found):
            left_behind = os.path.basename(path).startswith("tmp-") and newest - when > 3600
            if total <= self.limit_bytes and not left_behind:
                continue
            if when == newest and not left_behind:
                break  # what was stored just now stays
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size


def private(folder: Path) -> Path:
    """The folder, made if need be, open to its owner only. PermissionError if it is somebody else's, or a link."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    s = os.lstat(folder)
    if not stat.S_ISDIR(s.st_mode):
        raise PermissionError(0, "expected a folder, got a link or a file")
    if s.st_uid != os.geteuid():
        raise PermissionError(0, f"expected a folder of user {os.geteuid()}, got one of user {s.st_uid}")
    if s.st_mode & 0o077:
        os.chmod(folder, 0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(0, "expected a folder that may be written to")
    return folder
