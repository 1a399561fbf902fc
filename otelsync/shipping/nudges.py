"""Nudges: whoever records tells whoever ships that it is waited for, through a FIFO in the journal directory.

A nudge that nobody gets does no harm: the shipper looks at the directory by itself, some times a second.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME: Final = "shipper.nudge"
_MOST: Final = 4096


def nudge(directory: Path) -> bool:
    """Tell the shipper of a directory that somebody waits for it; False if none listens. Never waits."""
    try:
        fd = os.open(directory / NAME, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        os.write(fd, b"!")
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def listen(directory: Path, react: Callable[[], object]) -> None:
    """Call `react` at each nudge, in a thread that ends with the process. Raises OSError where no FIFO can be."""
    path = directory / NAME
    with suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # Reading and writing: so it has a writer at any time, and does not end with the last one that nudged.
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    threading.Thread(target=_listen, args=(fd, react), name="otelsync-nudges", daemon=True).start()


def _listen(fd: int, react: Callable[[], object]) -> None:
    while os.read(fd, _MOST):
        react()
