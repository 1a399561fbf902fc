"""Processes that write journals in a directory, as the names of their files tell."""

from __future__ import annotations

import os
from pathlib import Path

from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer


def living_writers(directory: Path) -> set[Writer]:
    """Return the living processes, other than this one, that have a journal in the directory."""
    segments = [segment for series in list_segments(directory).values() for segment in series]
    found = {Writer(segment.pid, segment.start_ticks, bytes(16)) for segment in segments}
    return {writer for writer in found if writer.pid != os.getpid() and writer.alive()}


def anyone_writing(directory: Path) -> bool:
    """Return whether there is such a process."""
    return bool(living_writers(directory))
