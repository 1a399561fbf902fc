"""Ownership of a journal directory: one process ships it, by an advisory lock that no child inherits."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

from otelsync.journal import forks
from otelsync.journal.belonging import hand_over_open

NAME = "shipper.lock"
_FLOCK = struct.Struct("@hhqqi")
"""Linux's ``struct flock``: type, whence, start, length, pid."""


class Ownership:
    """The lock of one directory. It is not held until `acquire` says so, and may be lost with the directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._fd = -1
        self._identity: tuple[int, int] | None = None

    def acquire(self) -> bool:
        """Return whether this object now owns the directory, and not another one; False if it cannot be written."""
        if self.held():
            return True
        with _guard:
            # A process's locks all end when it closes any descriptor of the file, so a second descriptor must not be.
            if _identity(self._path) in _owned:
                return False
            try:
                return self._lock()
            except OSError:
                return False

    def held(self) -> bool:
        """Return whether this object owns the directory that is now at the path."""
        if self._identity is None:
            return False
        if _identity(self._path) == self._identity:
            return True
        self.release()
        return False

    def release(self) -> None:
        """Let another process own the directory. A second call does nothing."""
        with _guard:
            _owned.discard(self._identity)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor, as a forked child does with what is its parent's."""
        fd, self._fd, self._identity = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def _lock(self) -> bool:
        import fcntl  # which not every system has

        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        hand_over_open(fd, self._path.parent)  # by no other descriptor: to close that would end the lock
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        status = os.fstat(fd)
        self._fd, self._identity = fd, (status.st_dev, status.st_ino)
        _owned.add(self._identity)
        return True


def owner(directory: Path) -> int | None:
    """The process that ships a directory; 0 if it has no number here (another container), None if there is none.

    Linux with 64 bits; elsewhere, or where one may not look, None.
    """
    import fcntl

    path = directory / NAME
    with _guard:
        if _identity(path) in _owned:  # to open and close the file would end the lock
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            kind, *_, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)))
        except OSError:
            return None
        finally:
            os.close(fd)
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)  # noqa: PTH116  (Path.lstat costs twice as much, each step)
    except OSError:
        return None
    return status.st_dev, status.st_ino


_guard = threading.Lock()
_owned: set[tuple[int, int] | None] = set()


def _begin_in_child() -> None:
    global _guard
    _guard = threading.Lock()
    _owned.clear()


forks.in_child(_begin_in_child)
