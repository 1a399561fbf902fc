"""Copies of what journals hold, of which one is current, and others may still be read by another command.

Each is a directory of its own with a random name, locked by the commands that use it. A new one is made beside the
others and becomes the current one when it is whole; one that nobody uses any more is removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from otelsync.journal.belonging import hand_over
from otelsync.journal.segment import make_private

_CURRENT: Final = "current"
"""The file that holds the name of the current one."""


@contextmanager
def alone(copies: Path, *, waits: bool = True) -> Iterator[None]:
    """Let one command at a time change what is in the directory of copies.

    Raises:
        OSError: That cannot be, or another command is at it and this one does not wait.
    """
    import fcntl  # where there is none, there are no journals either

    fd = os.open(copies.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


def current(copies: Path) -> Path | None:
    """Return the current copy; None if there is none."""
    with suppress(OSError, ValueError):
        name = (copies / _CURRENT).read_text(encoding="ascii")
        if name.isalnum() and (copies / name).is_dir():
            return copies / name
    return None


def make_current(copy: Path) -> None:
    """Let a copy be what the next command uses. Raises OSError."""
    draft = copy.parent / f"{_CURRENT}.tmp"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(copy.name)
    hand_over(draft)
    draft.replace(copy.parent / _CURRENT)


def new(copies: Path) -> Path:
    """Return a new copy, which is empty. Raises OSError."""
    copy = copies / secrets.token_hex(8)
    make_private(copy)
    return copy


def held(copy: Path) -> int:
    """Return a descriptor that keeps a copy from being removed until it is closed. Raises OSError."""
    import fcntl

    fd = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def sweep(copies: Path, *, but: Path | None = None) -> None:
    """Remove the copies that nobody uses, but for one; without that, the directory goes if nothing is left in it.

    Raises:
        OSError: The directory cannot be read.
    """
    kept = {but.name, _CURRENT} if but is not None else set()
    for found in [*copies.iterdir()]:
        if found.name not in kept:
            _remove(found)
    if but is None:
        with suppress(OSError):
            copies.rmdir()


def _remove(found: Path) -> None:
    """Remove a copy unless it is in use, or a file of an earlier version."""
    import fcntl

    with suppress(OSError):
        if found.is_symlink() or not found.is_dir():
            return found.unlink()
        fd = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(found, ignore_errors=True)
        finally:
            os.close(fd)
    return None
