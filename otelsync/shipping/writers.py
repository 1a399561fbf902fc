"""Processes that write journals in a directory, or have announced that their children may."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from otelsync.journal.belonging import make_file
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer, own_writer

_ANNOUNCED: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,20})\.here", re.ASCII)


def announce(directory: Path) -> None:
    """Let this process count as one that writes there, until it withdraws or is gone. Raises OSError."""
    make_file(_announcement(directory))


def withdraw(directory: Path) -> None:
    """Let this process count no more, but for the files that it writes."""
    with suppress(OSError):
        _announcement(directory).unlink()


def living_writers(directory: Path) -> set[Writer]:
    """Return the living processes, other than this one, that have a journal in the directory, or are announced."""
    segments = [segment for series in list_segments(directory).values() for segment in series]
    found = {Writer(segment.pid, segment.start_ticks, bytes(16)) for segment in segments} | _announced(directory)
    return {writer for writer in found if writer.pid != os.getpid() and writer.alive()}


def anyone_writing(directory: Path) -> bool:
    """Return whether there is such a process."""
    return bool(living_writers(directory))


def _announced(directory: Path) -> set[Writer]:
    """Those that are announced. What a process that is gone has left is removed."""
    found = set()
    with suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208  (Path.iterdir costs six times as much, some times a second)
            match = _ANNOUNCED.fullmatch(name)
            if match is None:
                continue
            writer = Writer(int(match[1]), int(match[2]), bytes(16))
            if writer.alive():
                found.add(writer)
            else:
                with suppress(OSError):
                    (directory / name).unlink()
    return found


def _announcement(directory: Path) -> Path:
    ours = own_writer()
    return directory / f"{ours.pid}-{ours.start_ticks}.here"
