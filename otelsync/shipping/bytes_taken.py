"""Bytes of journals that all sinks have taken, as of those that were there at the beginning; for whoever waits."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.header import JournalError
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.shipping.checkpoint import CheckpointError, load


class BytesTaken:
    """Progress of shipping, read from the checkpoints of whoever ships. It changes nothing.

    Args:
        directories: The journal directories, as they are now.
    """

    def __init__(self, directories: Iterable[Path]) -> None:
        self._there_were: dict[Path, dict[str, int]] = {each: dict(_bytes_in(each)) for each in directories}
        self.at_first = sum(self._left(directory) for directory in self._there_were)
        """Bytes that had not been taken."""

    @property
    def taken(self) -> int:
        """Bytes that have been taken since."""
        return self.at_first - sum(self._left(directory) for directory in self._there_were)

    def _left(self, directory: Path) -> int:
        try:
            checkpoint = load(directory)
        except CheckpointError:
            checkpoint = None
        left = 0
        for name, there_were in self._there_were[directory].items():
            if not path_of(directory, name).exists():
                continue  # a file goes when all have taken it
            progress = checkpoint.files.get(name) if checkpoint is not None else None
            if checkpoint is None or progress is None:
                left += there_were
            else:
                cursor = min((progress.cursor(sink) for sink in checkpoint.sinks), default=HEADER_SIZE)
                left += max(there_were - max(cursor - HEADER_SIZE, 0), 0)
        return left


def _bytes_in(directory: Path) -> Iterable[tuple[str, int]]:
    for series in list_segments(directory).values():
        for segment in series:
            with (
                suppress(OSError, JournalError),
                closing(JournalReader(path_of(directory, segment.name), patience=0)) as reader,
            ):
                yield segment.name, max(reader.header.committed - HEADER_SIZE, 0)
