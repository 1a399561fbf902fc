"""Files in a host that may have closed any descriptor: 0 to 2 stay with those who write there without looking."""

from __future__ import annotations

import os
from typing import Final

_STANDARD: Final = 3
"""Descriptors below are standard input, output and error, also where the program was started without them."""


def open_above(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """Open a file, but no symbolic link, and return a descriptor above 2.

    Where standard error is closed, the next file that is opened becomes it, and the host's messages go there.

    Raises:
        OSError: It cannot be opened.
    """
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    if fd >= _STANDARD:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STANDARD)
    finally:
        os.close(fd)


def read_above(path: str | os.PathLike[str], most: int) -> bytes:
    """Return the content of a file, at most so many bytes.

    Raises:
        OSError: It cannot be read.
    """
    fd = open_above(path, os.O_RDONLY)
    try:
        parts = []
        while most > 0 and (part := os.read(fd, most)):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
