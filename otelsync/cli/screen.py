"""A terminal that is drawn anew now and then, and given back as it was."""

from __future__ import annotations

import io
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import NoReturn

from otelsync.text.paint import Line, Piece, painter

_ENTER = "\x1b[?1049h\x1b[?25l"
"""To the other screen, without a cursor."""
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """The whole terminal, for the length of a ``with`` block. Keys are read without Enter, where there are any."""

    def __init__(self) -> None:
        self._restore = ExitStack()
        self._keys = -1

    def __enter__(self) -> Screen:
        before = signal.signal(signal.SIGTERM, _leave)
        self._restore.callback(signal.signal, signal.SIGTERM, before)
        if sys.stdin is not None and sys.stdin.isatty():
            self._keys = sys.stdin.fileno()
            attributes = termios.tcgetattr(self._keys)
            self._restore.callback(termios.tcsetattr, self._keys, termios.TCSADRAIN, attributes)
            tty.setcbreak(self._keys)
        self._restore.callback(_write, _LEAVE)
        _write(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, as many as there is room for."""
        columns, rows = shutil.get_terminal_size()
        if len(lines) > rows:
            left_out = len(lines) - rows + 1
            lines = [*lines[: rows - 1], [Piece(f"... and {left_out} lines more", "dim")]]
        frame = io.StringIO()
        draw = painter(width=max(columns, 20), color=True, file=frame)
        for line in lines:
            draw(line)
        drawn = frame.getvalue().rstrip("\n").replace("\n", "\x1b[K\n")
        _write(f"\x1b[H{drawn}\x1b[K\x1b[J")

    def key_within(self, seconds: float) -> str:
        """The key that is pressed next; empty if none is for so long."""
        if self._keys < 0:
            time.sleep(seconds)
            return ""
        if not select.select([self._keys], [], [], seconds)[0]:
            return ""
        pressed = os.read(self._keys, 32)
        if not pressed:  # the terminal has gone
            self._keys = -1
        return pressed.decode("ascii", "replace")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def until(key: str, screen: Screen, seconds: float, frame: Callable[[], Sequence[Line] | None]) -> None:
    """Draw `frame` every so often, until it is None or `key` is pressed."""
    while (lines := frame()) is not None:
        screen.draw(lines)
        if key in screen.key_within(seconds):
            return
