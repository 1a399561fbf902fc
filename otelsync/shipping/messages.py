"""Messages of a shipper that has no output of its own: lines of a small file, which its program logs as its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import orjson

NAME: Final = "shipper.log"
RECOVERED: Final = "works again after"
"""The beginning of what is said of a sink, behind its name, when an outage is over."""
_MOST_BYTES: Final = 256 * 1024


class Message(NamedTuple):
    """One message."""

    seconds: float
    """Unix time."""
    level: int
    logger: str
    text: str


class MessageFile(logging.Handler):
    """Writes log records into the file of a journal directory, which is begun anew when it has grown too large."""

    waits_for_nobody = True

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._path = directory / NAME

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line. A message that cannot be written is lost: there is nobody to tell."""
        with suppress(OSError, ValueError):
            text = self.format(record)
            line = orjson.dumps([record.created, record.levelno, record.name, text]) + b"\n"
            if _size(self._path) + len(line) > _MOST_BYTES:
                self._path.unlink(missing_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)


class Messages:
    """Messages of a directory's shipper that come from now on."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._offset = _size(self._path)

    def read(self) -> list[Message]:
        """Return those that have come since the last time. Never raises."""
        size = _size(self._path)
        if size == self._offset:
            return []
        start = self._offset if size > self._offset else 0
        lines, self._offset = _lines(self._path, start)
        return list(_parsed(lines))


def latest(directory: Path, most: int = 20) -> list[Message]:
    """Return the last messages in the file of a journal directory, oldest first."""
    return list(_parsed(_lines(directory / NAME, 0)[0]))[-most:]


def _lines(path: Path, start: int) -> tuple[bytes, int]:
    """Whole lines from an offset on, and where they end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b"", start
    try:
        text = os.pread(fd, 2 * _MOST_BYTES, start)
    except OSError:
        text = b""
    finally:
        os.close(fd)
    text = text[: text.rfind(b"\n") + 1]
    return text, start + len(text)


def _parsed(lines: bytes) -> Iterator[Message]:
    for line in lines.splitlines():
        with suppress(ValueError, TypeError):
            seconds, level, logger, text = orjson.loads(line)
            yield Message(float(seconds), int(level), str(logger), str(text))


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116  (Path.lstat costs twice as much)
    except OSError:
        return 0
