"""Lines on standard error of commands that ship: they hold up nothing, though nobody reads them."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial

import click

from otelsync.hooks.own_messages import speak
from otelsync.hooks.room_to_write import has_room


def announce(line: str) -> None:
    """Write a line that begins with our name."""
    if line:
        speak(partial(_is_taken, len(line) * 4), partial(_write, line))


def _is_taken(size: int) -> bool:
    return has_room(sys.stderr, size) is not False


def _write(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        click.echo(f"otelsync: {line}", err=True)
