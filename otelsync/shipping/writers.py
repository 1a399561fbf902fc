"""Processes that write journals in a directory, as the names of their files tell."""

from __future__ import annotations

import os
from pathlib import Path

from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer


def anyone_writing(directory: Path) -> bool:
    """Return whether a living process, other than this one, has a journal in the directory."""
    ours = os.getpid()
    return any(
        segment.pid != ours and Writer(segment.pid, segment.start_ticks, bytes(16)).alive()
        for segments in list_segments(directory).values()
        for segment in segments
    )
