"""Room in a stream: whether a write to it would return at once, or wait for somebody who reads."""

from __future__ import annotations

import io
import os
import select
import stat
from array import array
from typing import Any, Final

from otelsync.hooks.host_errors import hand_back

_BUFFERED: Final = io.DEFAULT_BUFFER_SIZE
"""Bytes that the program may have written before, and that go out together with ours."""


def has_room(stream: Any, size: int) -> bool | None:
    """Return whether a stream takes `size` bytes at once; None: it does not tell.

    The flags of its descriptor stay as they are: it may be shared with other processes.
    """
    if stream is None or isinstance(stream, io.StringIO | io.BytesIO):
        return True
    try:
        number = int(stream.fileno())
        kind = os.fstat(number).st_mode
        if stat.S_ISREG(kind):
            return True
        return _takes_more(number) and (not stat.S_ISFIFO(kind) or _has_pages(number, size))
    except io.UnsupportedOperation:
        return True if isinstance(getattr(stream, "buffer", None), io.BytesIO) else None
    except (OSError, ValueError) as error:  # closed: the write fails at once
        hand_back(error)
        return True
    except Exception as error:  # of the program's own making
        hand_back(error)
        return None


def _takes_more(number: int) -> bool:
    if hasattr(select, "poll"):  # eventlet takes it away
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        return bool(poll.poll(0))
    return bool(select.select([], [number], [], 0)[1])


def _has_pages(number: int, size: int) -> bool:
    """Return whether a pipe has room for what is about to be written.

    It is made of pages that need not be full: a write that does not fit the rest of the last page begins another one,
    so what is unread may take up to twice its size (Linux, ``fs/pipe.c``).
    """
    try:
        import fcntl
        import termios

        unread = array("i", [0])
        fcntl.ioctl(number, termios.FIONREAD, unread)
        capacity = fcntl.fcntl(number, fcntl.F_GETPIPE_SZ)
    except (ImportError, AttributeError, OSError) as error:  # another operating system
        hand_back(error)
        return True
    return not unread[0] or 2 * unread[0] + size + _BUFFERED <= capacity
