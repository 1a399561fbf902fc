"""Following journals while they are written: what each process is doing, kept up from look to look.

Whoever looks only reads, takes no lock, and moves no cursor of a shipper's. What is damaged, or vanishes meanwhile, is
left out.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from otelsync.journal.header import JournalError, process_alive
from otelsync.journal.names import SegmentName, list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.shipping import checkpoint as checkpoints
from otelsync.shipping.checkpoint import Checkpoint, CheckpointError
from otelsync.views.process_now import ProcessNow

MOST_PROCESSES: Final = 256
"""Of one directory, the latest; further ones are not looked at."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one process that are read at the first look: its first file, and its last ones."""
_TRIES: Final = 3


class _Series:
    """The journal of one process, read to its present end."""

    def __init__(self, directory: Path, segments: list[SegmentName]) -> None:
        self.now = ProcessNow(segments[0].pid)
        self._directory = directory
        self._reader: JournalReader | None = None
        self._cursor = 0
        self._sequence = -1
        """Of the last file that was read."""

    def close(self) -> None:
        """Close its file."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def first_look(self, segments: list[SegmentName], checkpoint: Checkpoint | None) -> None:
        """Read what tells how the process stands. Raises OSError if a file has vanished meanwhile."""
        if checkpoint is not None and segments[0].series in checkpoint.open:
            self.now.begin_with(checkpoint.open[segments[0].series])
        for segment in _worth_reading(self._directory, segments):
            self._go_on_in(segment)

    def look(self, segments: list[SegmentName]) -> bool:
        """Read what has come since; False if some of it was shipped and deleted before it was read."""
        if not self.now.alive:
            return True  # nothing can come any more
        self._read()
        for segment in segments:
            if segment.sequence <= self._sequence:
                continue
            if segment.sequence > self._sequence + 1:
                return False
            try:
                self._go_on_in(segment)
            except OSError:
                return False
        return True

    def _go_on_in(self, segment: SegmentName) -> None:
        self.close()
        self._sequence, self._cursor = segment.sequence, 0
        try:
            self._reader = JournalReader(path_of(self._directory, segment.name), patience=0.0)
        except JournalError:
            return
        self._read()

    def _read(self) -> None:
        reader = self._reader
        if reader is None:
            return
        alive = self.now.alive
        try:
            alive = process_alive(reader.refresh())
            if not alive:
                reader.refresh()  # it may have written its last between the two looks
            elif reader.header.damaged:
                return
            while (batch := reader.read(self._cursor)) is not None and batch.end > self._cursor:
                self._cursor = batch.end
                self.now.take(batch)
        except (OSError, JournalError):
            alive = process_alive(reader.header)
        self.now.alive = alive
        if not alive:
            self.close()


class LivingJournals:
    """The processes that record into some directories: those that there are at each moment."""

    def __init__(self, directories: Callable[[], Sequence[Path]]) -> None:
        self._directories = directories
        self._series: dict[tuple[Path, str], _Series] = {}

    def close(self) -> None:
        """Close all files."""
        for series in self._series.values():
            series.close()
        self._series.clear()

    def look(self) -> list[ProcessNow]:
        """Return what the processes are doing at this moment, the living and those whose journals are still there."""
        gone: list[tuple[Path, str]] = []
        for directory in self._directories():
            listed = list_segments(directory)
            # By when each began a file last; a mapped file's own time of change tells no more.
            begun = {name: _status(directory, segments[-1]).st_mtime for name, segments in listed.items()}
            latest = heapq.nlargest(MOST_PROCESSES, listed, key=begun.__getitem__)
            known = [name for place, name in self._series if place == directory]
            for name in dict.fromkeys([*latest, *known]):
                if name in listed:
                    self._look_at(directory, name, listed[name])
                else:  # all its files have been shipped and deleted: it is read to its end, for the last time
                    self._series[directory, name].look([])
                    gone.append((directory, name))
        seen = [series.now for series in self._series.values()]
        for key in gone:
            self._series.pop(key).close()
        return seen

    def _look_at(self, directory: Path, name: str, segments: list[SegmentName]) -> None:
        series = self._series.get((directory, name))
        if series is not None and series.look(segments):
            return
        if series is not None:
            series.close()
        for _ in range(_TRIES):
            # The checkpoint first: of a file that is deleted before it is read, it is too old, and so tried again.
            checkpoint = None
            with suppress(CheckpointError):
                checkpoint = checkpoints.load(directory)
            segments = list_segments(directory).get(name, [])
            self._series.pop((directory, name), None)
            if not segments:
                return
            series = self._series[directory, name] = _Series(directory, segments)
            try:
                series.first_look(segments, checkpoint)
            except OSError:
                series.close()
                continue
            return


def _worth_reading(directory: Path, segments: list[SegmentName]) -> list[SegmentName]:
    """The last files within the bound, and before them the first, where the run began."""
    last = [segments[-1]]
    read = sum(_status(directory, segment).st_size for segment in (segments[0], segments[-1]))
    for segment in reversed(segments[1:-1]):
        read += _status(directory, segment).st_size
        if read > MOST_BYTES:
            break
        last.insert(0, segment)
    return last if segments[0] in last else [segments[0], *last]


def _status(directory: Path, segment: SegmentName) -> os.stat_result:
    """Return size and time of a file; of one that has vanished, zeros."""
    try:
        return path_of(directory, segment.name).stat()
    except OSError:
        return os.stat_result((0,) * 10)
