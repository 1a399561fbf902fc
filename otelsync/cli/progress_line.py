"""One line on a terminal's standard error that says how far a command is, for as long as it works."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Final

from otelsync.hooks.room_to_write import has_room
from otelsync.text.printable import cut

_PATIENCE: Final = 0.7
"""Seconds: what takes less needs no line."""
_EVERY: Final = 0.2
"""Seconds."""
_BAR: Final = 24
"""Cells."""
_CLEAR: Final = "\r\x1b[K"


class ProgressLine:
    """The line, for the length of a ``with`` block; nothing where standard error is no terminal.

    It holds up nothing: a terminal that takes no text gets none. Its cursor rests at the beginning of the line, so that
    a message in between goes over it.
    """

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = time.monotonic() + _PATIENCE
        self._is_there = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_there:
            self._write(_CLEAR)

    def show(self, what: str, done: int, whole: int, unit: str = "") -> None:
        """Say how far it is, if it is time to. `whole`: 0 if that is not known."""
        if not self.is_shown or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY
        done = min(done, whole)
        full = _BAR * done // whole if whole else 0
        figures = f"  [{'#' * full}{' ' * (_BAR - full)}] {done:,} of {whole:,}{unit}" if whole else " ..."
        with suppress(OSError, ValueError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            self._write(f"{_CLEAR}{cut(what + figures, columns - 1)}\r")
            self._is_there = True

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError, ValueError):
            if has_room(sys.stderr, len(text) * 4) is not False:
                sys.stderr.write(text)
                sys.stderr.flush()
