"""The whole terminal, drawn anew now and then by rich, with keys that are read without Enter."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Group
from rich.live import Live

from otelsync.text.paint import Line, Piece, console_on, styled


class Screen:
    """The whole terminal, for the length of a ``with`` block."""

    def __init__(self) -> None:
        self._restore = ExitStack()
        self._keys = -1
        self._console = console_on(sys.stdout)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)

    def __enter__(self) -> Screen:
        before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        self._restore.callback(signal.signal, signal.SIGTERM, before)
        if sys.stdin is not None and sys.stdin.isatty():
            self._keys = sys.stdin.fileno()
            import termios  # which not every system has
            import tty

            attributes = termios.tcgetattr(self._keys)
            self._restore.callback(termios.tcsetattr, self._keys, termios.TCSADRAIN, attributes)
            tty.setcbreak(self._keys)
        self._restore.enter_context(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, as many as there is room for."""
        columns, rows = self._console.size
        if len(lines) > rows:
            left_out = len(lines) - rows + 1
            lines = [*lines[: rows - 1], [Piece(f"... and {left_out} lines more", "dim")]]
        self._live.update(Group(*(styled(line, columns) for line in lines)), refresh=True)

    def key_within(self, seconds: float) -> str:
        """Return the key that is pressed next; empty if none is for so long."""
        if self._keys < 0:
            time.sleep(seconds)
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        pressed = os.read(self._keys, 32)
        if not pressed:  # the terminal has gone
            self._keys = -1
        return pressed.decode("ascii", "replace")
