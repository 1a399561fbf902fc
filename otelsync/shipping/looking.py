"""Looking into journals without shipping them: their records go into a store of the viewer's own.

Nothing is moved, deleted or locked, and whoever ships the directory finds everything as it was. The ends of stages
whose process is gone are written as the shipper would write them, into that store alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from otelsync.journal.batch import Batch, Group
from otelsync.journal.format import HEADER_SIZE
from otelsync.journal.names import list_segments
from otelsync.journal.segment import make_private
from otelsync.otlp.request import Run
from otelsync.shipping import checkpoint as checkpoints
from otelsync.shipping.backlog import Backlog, Segment
from otelsync.shipping.checkpoint import SIGNALS, STAGES, Checkpoint, CheckpointError
from otelsync.shipping.ownership import owner
from otelsync.shipping.stage_ends import StageEnds
from otelsync.store.writing import StoreSink

_MAX_BYTES = 1024 * 1024
_MAX_RECORDS = 4096


def is_being_stored(directory: Path) -> bool:
    """Return whether somebody ships this directory into the local store at this moment."""
    with suppress(CheckpointError):
        checkpoint = checkpoints.load(directory)
        return checkpoint is not None and "store" in checkpoint.sinks and owner(directory) is not None
    return False


class Look:
    """Reads the journals of one directory into a store beside the local one.

    Args:
        directory: The journal directory.
        sink: That store.
        memory: Directory that holds how far earlier looks have come, with what they knew of open stages; None: there
            were none.
    """

    def __init__(self, directory: Path, sink: StoreSink, memory: Path | None) -> None:
        self._sink = sink
        self._memory = memory
        self._ends: list[Run] = []
        self._backlog = Backlog(directory, {"store": SIGNALS}, patience=0.0)
        self._stage_ends = StageEnds(directory, self._backlog, write=self._keep, grace=0.0)
        present = {segment.name for series in list_segments(directory).values() for segment in series}
        checkpoint = self._checkpoint(directory)
        # What has been shipped and deleted since the checkpoint was written has not vanished.
        checkpoint.files = {name: progress for name, progress in checkpoint.files.items() if name in present}
        checkpoint.sinks = {}
        self._backlog.checkpoint = checkpoint
        self._stage_ends.resume()

    def read(self, deadline: float) -> bool:
        """Read what is there now; False if that takes longer than until `deadline`, ``time.monotonic()``.

        Raises:
            StoreError: The viewer's store cannot be written.
        """
        try:
            self._backlog.scan()
            while self._read_all(deadline) or self._end_stages():
                if time.monotonic() >= deadline:
                    return False
            return True
        finally:
            self._remember()
            self._backlog.close()

    def _checkpoint(self, directory: Path) -> Checkpoint:
        for place in (self._memory, directory):
            with suppress(CheckpointError):
                if place is not None and (found := checkpoints.load(place)) is not None:
                    return found
        return Checkpoint()

    def _read_all(self, deadline: float) -> bool:
        """Read each file to its end; True if there was anything."""
        moved = False
        for segments in self._backlog.in_turn():
            for segment in segments:
                while time.monotonic() < deadline and self._read_from(segment):
                    moved = True
        return moved

    def _read_from(self, segment: Segment) -> bool:
        """Take the next batch for the store, and for what is known of open stages. They stand apart only at first."""
        name = segment.name.name
        stored, noted = self._sink.position(name), segment.progress.cursor(STAGES)
        start = min(max(stored, HEADER_SIZE), noted)
        if start >= segment.header.committed:
            return False
        ahead = max(stored, noted)
        batch = self._batch(segment, start, limit=ahead if start < ahead and stored != noted else None)
        if batch is None or batch.end <= start:
            return False
        if batch.end > stored:
            self._sink.deliver(batch)
        if batch.start >= noted:
            self._stage_ends.note([batch])
        return True

    def _batch(self, segment: Segment, start: int, *, limit: int | None) -> Batch | None:
        size = _MAX_BYTES if limit is None else min(_MAX_BYTES, limit - start)
        return self._backlog.read(segment, start, max(size, 1), _MAX_RECORDS)

    def _end_stages(self) -> bool:
        """Write the ends that nobody else writes; True if there were any."""
        if not self._stage_ends.write():
            return False
        ends, self._ends = self._ends, []
        groups = [Group(resource, scope, spans=[*bodies], ended=[*bodies]) for resource, scope, bodies in ends]
        batch = Batch(f"look-{os.urandom(8).hex()}", 0, 1, groups)
        self._sink.deliver(batch)
        self._sink.forget(batch.journal)
        self._stage_ends.note([batch])
        return True

    def _keep(self, ends: Sequence[Run]) -> bool:
        self._ends += ends
        return True

    def _remember(self) -> None:
        if self._memory is None:
            return
        checkpoint = self._backlog.checkpoint
        checkpoint.files = {name: segment.progress for name, segment in self._backlog.segments.items()}
        with suppress(OSError):  # then all is read once more
            make_private(self._memory)
            checkpoints.save(self._memory, checkpoint)
