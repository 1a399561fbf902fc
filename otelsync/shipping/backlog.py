"""The backlog: the journal files of a directory, what each sink has yet to take of them, and their end."""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from otelsync.hooks.own_messages import own_logger
from otelsync.journal.batch import Batch
from otelsync.journal.format import CLOSED, HEADER_SIZE
from otelsync.journal.header import JournalError, JournalHeader, UnknownVersionError, process_alive
from otelsync.journal.names import OTHER_VERSION, SegmentName, list_segments
from otelsync.journal.process_identity import Writer
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.shipping import checkpoint as checkpoints
from otelsync.shipping.checkpoint import SIGNALS, STAGES, Checkpoint, CheckpointError, FileProgress
from otelsync.shipping.saying import Saying

MOST_READERS = 128
"""Files that are kept open at a time."""

_log = own_logger("otelsync.shipping")


@dataclass(slots=True)
class Segment:
    """One journal file with something to ship, or whose process may still write."""

    name: SegmentName
    header: JournalHeader
    progress: FileProgress
    listed: bool = True
    """True if the directory still shows it."""
    checked: bool = False
    """True if the store's own account of its position has been compared with its cursor."""

    def caught_up(self, sink: str) -> bool:
        """Return whether `sink` has taken all that is committed."""
        return self.progress.cursor(sink) >= self.header.committed


def _youngest_first(name: SegmentName) -> tuple[int, int, int]:
    """Sort children before parents: where a record of a child is seen, so is what its parent wrote before it."""
    return -name.start_ticks, -name.pid, name.sequence


class Backlog:
    """The files of one directory, which may vanish, and the checkpoint that says what has been taken of them.

    Args:
        directory: The journal directory.
        sinks: The sinks in use, each with the signals (span, log) that it takes.
        patience: Seconds that an unreadable record of a living process may take to become readable.
        deleted: Called with the name of each file that has been deleted.
    """

    def __init__(
        self,
        directory: Path,
        sinks: Mapping[str, Sequence[str]],
        *,
        patience: float = 1.0,
        deleted: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = directory
        self.segments: dict[str, Segment] = {}
        self.checkpoint = Checkpoint()
        self._sinks = {sink: list(signals) for sink, signals in sinks.items()}
        self._patience = patience
        self._deleted = deleted or (lambda _: None)
        self._readers: OrderedDict[str, JournalReader] = OrderedDict()
        self._saying = Saying(_log)
        self._foreign: dict[SegmentName, str] = {}
        self._changed = True
        self._turn = 0

    def resume(self) -> bool:
        """Go on from the checkpoint in the directory. Where there is none (False), what this object knows stays."""
        try:
            loaded = checkpoints.load(self.directory)
        except CheckpointError as error:
            self._set_aside(error)
            loaded = Checkpoint()
        if loaded is not None:
            self.close()
            self.segments.clear()
            self.checkpoint = loaded
        self.checkpoint.sinks = dict(self._sinks)
        self._changed = True
        return loaded is not None

    def _set_aside(self, error: CheckpointError) -> None:
        try:
            kept = f"it was moved to {checkpoints.set_aside(self.directory)}"
        except OSError as obstacle:
            kept = f"it cannot be moved aside ({obstacle.strerror})"
        self.say(f"{error}; {kept}, and what the journals still hold is delivered again")

    def close(self) -> None:
        """Close all files."""
        while self._readers:
            self._readers.popitem()[1].close()

    def scan(self) -> None:
        """Look at the directory again: new files, new records, files that are gone."""
        names = {name.name: name for series in list_segments(self.directory).values() for name in series}
        for segment_name in sorted(names.values(), key=_youngest_first):
            if segment_name.name not in self.checkpoint.retired:
                self._refresh(segment_name)
        for segment in [segment for name, segment in self.segments.items() if name not in names]:
            self._outlive(segment)
        for lost in [name for name in self.checkpoint.files if name not in names and name not in self.segments]:
            self.say(f"{lost} vanished before all of it was shipped")
            self._account(lost, self.checkpoint.files[lost], None)

    def in_turn(self) -> Iterator[list[Segment]]:
        """The segments of each series, in order; another series is first each time, so that none is starved."""
        series: dict[str, list[Segment]] = {}
        for segment in self.segments.values():
            series.setdefault(segment.name.series, []).append(segment)
        names = sorted(series)
        self._turn += 1
        turn = self._turn % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            yield sorted(series[name], key=lambda segment: segment.name.sequence)

    def unfinished(self, sink: str) -> set[str] | None:
        """The series whose processes may write more; None as long as `sink` has yet to take what is there."""
        segments = sorted(self.segments.values(), key=lambda segment: segment.name.sequence)
        if not all(segment.caught_up(sink) for segment in segments):
            return None
        last = {segment.name.series: segment.header for segment in segments}
        return {series for series, header in last.items() if header.state != CLOSED and process_alive(header)}

    def read(self, segment: Segment, start: int, max_bytes: int, max_records: int) -> Batch | None:
        """The next batch of a file from `start`; None when there is nothing to read, or not yet."""
        if segment.header.damaged and process_alive(segment.header):
            return None
        try:
            reader = self._reader(segment.name)
            return reader.read(start, max_bytes=max_bytes, max_records=max_records)
        except (OSError, JournalError) as error:
            self.say(f"cannot read {segment.name.name}: {error}")
            return None

    def take(self, sink: str, batch: Batch) -> None:
        """Note that `sink` has taken `batch`."""
        segment = self.segments.get(batch.journal)
        if segment is None:
            return
        taken = segment.progress.taken.setdefault(sink, {})
        for signal, count in (("span", batch.spans), ("log", batch.logs)):
            taken[signal] = taken.get(signal, 0) + count
        segment.progress.cursors[sink] = batch.end
        if sink == STAGES and batch.corrupted_bytes:
            self.checkpoint.corrupted_bytes += batch.corrupted_bytes
            self.say(f"bytes of {batch.journal} are damaged and lost; the ledger counts them")
        self.changed()

    def move(self, sink: str, segment: Segment, position: int) -> None:
        """Put a cursor where the sink's own checkpoint is, and count what lies between as delivered, or as not."""
        position = max(position, HEADER_SIZE)
        if position == segment.progress.cursor(sink):
            return
        counts = dict.fromkeys(SIGNALS, 0)
        at = HEADER_SIZE
        reader = self._reader(segment.name)
        while at < position and (batch := reader.read(at, limit=position)) is not None:
            counts["span"] += batch.spans
            counts["log"] += batch.logs
            at = batch.end
        for signal in SIGNALS:
            difference = counts[signal] - segment.progress.count(sink, signal)
            self.checkpoint.add(sink, signal, "shipped", difference)
        segment.progress.taken[sink] = counts
        segment.progress.cursors[sink] = at
        self.changed()

    def changed(self) -> None:
        """Note that the checkpoint must be written."""
        self._changed = True

    def save(self) -> bool:
        """Write the checkpoint if it has changed; False if that fails, which is said once."""
        if not self._changed:
            return True
        try:
            checkpoints.save(self.directory, self.checkpoint)
        except FileNotFoundError:
            return False  # the directory is gone; it may come back
        except OSError as error:
            self.say(f"cannot write the checkpoint in {self.directory}: {error.strerror}")
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Deleting what is accounted for makes the room. A crash just now would lose the account, no record.
                self._delete_retired()
            return False
        self._changed = False
        return True

    def retire(self) -> None:
        """Account for the files that every sink has taken and nobody writes any more, then delete them."""
        done = [segment for segment in self.segments.values() if self._is_done(segment)]
        for segment in done:
            self._account(segment.name.name, segment.progress, segment.header)
            del self.segments[segment.name.name]
            self._drop_reader(segment.name.name)
            if segment.listed:
                self.checkpoint.retired.append(segment.name.name)
        if self.save():
            self._delete_retired()
        self._move_foreign()

    def say(self, message: str) -> None:
        """Log something once until it changes."""
        self._saying.say(f"shipping: {message}")

    def _refresh(self, name: SegmentName) -> None:
        known = self.segments.get(name.name)
        if known is not None:
            known.listed = True
            if known.header.final:
                return
        try:
            reader = self._reader(name)
            header = reader.refresh()
            if reader.removed:  # its writer has put it back as another file, with the same records
                self._drop_reader(name.name)
                header = self._reader(name).header
        except UnknownVersionError as error:
            self._foreign[name] = str(error)
        except (OSError, JournalError) as error:
            if not isinstance(error, FileNotFoundError):
                self.say(f"cannot read {name.name}: {error}")
        else:
            if known is not None:
                known.header = header
            else:
                progress = self.checkpoint.files.setdefault(name.name, FileProgress())
                self.segments[name.name] = Segment(name, header, progress)
                self.changed()
                self._note_damage(name, header)

    def _note_damage(self, name: SegmentName, header: JournalHeader) -> None:
        if header.damaged and not process_alive(header):
            found = "what can be found in it is shipped" if header.committed > HEADER_SIZE else "it holds nothing"
            self.say(f"the header of {name.name} is damaged: {found}")

    def _move_foreign(self) -> None:
        """Give files of other releases another name, once nobody writes them: they count towards no bound any more."""
        for name, reason in self._foreign.items():
            if Writer(name.pid, name.start_ticks, bytes(16)).alive():
                self.say(f"{name.name} is left alone as long as its process runs: {reason}")
                continue
            aside, path = name.name + OTHER_VERSION, path_of(self.directory, name.name)
            try:
                path.rename(path.with_name(aside))
            except OSError as error:
                self.say(f"{name.name} is left alone: {reason}; it cannot be renamed: {error.strerror}")
            else:
                self.say(f"{name.name} was set aside as {aside}: {reason}")
        self._foreign.clear()

    def _outlive(self, segment: Segment) -> None:
        """Go on with a file that was deleted by others, as long as it is open here; else write it off."""
        segment.listed = False
        reader = self._readers.get(segment.name.name)
        if reader is None:
            del self.segments[segment.name.name]
            return
        try:
            segment.header = reader.refresh()
        except (OSError, JournalError):
            del self.segments[segment.name.name]
            self._drop_reader(segment.name.name)

    def _is_done(self, segment: Segment) -> bool:
        sinks = [STAGES, *self._sinks]
        if not all(map(segment.caught_up, sinks)):
            return False
        if not segment.header.final and process_alive(segment.header):
            return False
        # Look again: the last record may have come between the look at the offset and the end of the process.
        try:
            segment.header = self._reader(segment.name).refresh()
        except (OSError, JournalError):
            return False
        return all(map(segment.caught_up, sinks))

    def _account(self, name: str, progress: FileProgress, header: JournalHeader | None) -> None:
        """Add to the totals what a file held, as it is gone from now on."""
        checkpoint = self.checkpoint
        for signal in SIGNALS:
            recorded = progress.count(STAGES, signal)
            if header is None:
                recorded = max([recorded, *(progress.count(sink, signal) for sink in progress.taken)])
            checkpoint.recorded[signal] = checkpoint.recorded.get(signal, 0) + recorded
            for sink in (progress.cursors.keys() | self._sinks.keys()) - {STAGES}:
                taken = progress.count(sink, signal)
                # A sink that is not in use any more answers only for what it has taken.
                checkpoint.add(sink, signal, "recorded", recorded if sink in self._sinks else taken)
                if header is None and sink in self._sinks:
                    checkpoint.add(sink, signal, "vanished", recorded - taken)
            if header is not None:
                self._add_dropped(signal, header.dropped[signal])
        checkpoint.corrupted_bytes += header.missing if header else 0
        checkpoint.files.pop(name, None)
        self.changed()

    def _add_dropped(self, signal: str, dropped: Mapping[str, int]) -> None:
        counts = self.checkpoint.dropped.setdefault(signal, {})
        for reason, count in dropped.items():
            counts[reason] = counts.get(reason, 0) + count

    def _delete_retired(self) -> None:
        remaining = []
        for name in self.checkpoint.retired:
            try:
                path_of(self.directory, name).unlink(missing_ok=True)
            except OSError as error:
                self.say(f"cannot delete {name}: {error.strerror}")
                remaining.append(name)
            else:
                self._deleted(name)
        if remaining != self.checkpoint.retired:
            self.checkpoint.retired = remaining
            self.changed()

    def _reader(self, name: SegmentName) -> JournalReader:
        """The open reader of a file. Raises OSError and JournalError."""
        reader = self._readers.get(name.name)
        if reader is None:
            reader = JournalReader(path_of(self.directory, name.name), patience=self._patience)
            self._readers[name.name] = reader
            while len(self._readers) > MOST_READERS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(name.name)
        return reader

    def _drop_reader(self, name: str) -> None:
        reader = self._readers.pop(name, None)
        if reader is not None:
            reader.close()
