"""Positions: how far journals are written, and whether whoever ships them has come that far. For any process."""

from __future__ import annotations

from pathlib import Path

from otelsync.journal.header import JournalError, process_alive
from otelsync.journal.names import list_segments
from otelsync.journal.process_identity import Writer
from otelsync.journal.reader import JournalReader
from otelsync.shipping.checkpoint import STAGES, Checkpoint, CheckpointError, load


def positions(directory: Path, writer: Writer | None = None) -> dict[str, int]:
    """The offset up to which each journal file is written; of all files, or of those of one process."""
    found: dict[str, int] = {}
    for segments in list_segments(directory).values():
        for segment in segments:
            if writer is not None and (segment.pid, segment.start_ticks) != (writer.pid, writer.start_ticks):
                continue
            committed = _committed(directory / segment.name)
            if committed is not None:
                found[segment.name] = committed
    return found


def arrived(directory: Path, targets: dict[str, int]) -> bool:
    """Return whether every sink of the directory's owner has passed the offsets in `targets`, by journal file.

    A file that is gone has been taken by all.
    """
    if not targets:
        return True
    try:
        checkpoint = load(directory)
    except CheckpointError:
        return False
    return checkpoint is not None and all(
        _passed(directory, checkpoint, name, target) for name, target in targets.items()
    )


def _passed(directory: Path, checkpoint: Checkpoint, name: str, target: int) -> bool:
    if name in checkpoint.retired:
        return True
    progress = checkpoint.files.get(name)
    if progress is None:
        return not (directory / name).exists()
    return all(progress.cursor(sink) >= target for sink in (STAGES, *checkpoint.sinks))


def _committed(path: Path) -> int | None:
    """The end of the last record; None for a file that cannot be read, or not while its process writes it."""
    try:
        reader = JournalReader(path)
    except (OSError, JournalError):
        return None
    header = reader.header
    reader.close()
    return None if header.damaged and process_alive(header) else header.committed
