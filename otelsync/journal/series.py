"""The files of one process: what waits is written to them one by one, in whatever state an interruption has left that.

An exception of a signal handler can come out of every call. So a change of state is either one step, several statements
without a call between which nothing comes, or it may be repeated: a record is *taken* by standing in `waiting`, and
leaves it in the step that writes or counts it; a file is in use by standing in ``place.segment``; one that is full
stands in `_finished` until it was sealed; what was dropped is counted first, and then shown in the file's header.
"""

from __future__ import annotations

import errno
import os
from _thread import RLock
from pathlib import Path
from time import monotonic_ns
from typing import Final

from otelsync.journal import disk_errors, forks
from otelsync.journal.belonging import hand_over
from otelsync.journal.format import (
    CLOSED,
    DISK,
    FIRST_SEGMENT,
    FRAME_SIZE,
    HEADER_SIZE,
    JOURNAL_FULL,
    LARGEST_RECORD,
    LOG,
    SCOPE,
    SEALED,
    SPAN,
    SPAN_END,
    SUFFIX,
    TOO_LARGE,
)
from otelsync.journal.mapped import Record
from otelsync.journal.native import Place
from otelsync.journal.process_identity import start_ticks
from otelsync.journal.room import Room
from otelsync.journal.segment import COUNTERS, Segment, make_private
from otelsync.journal.spool import in_spool, is_needed

LOOK_EVERY_NS: Final = 100_000_000
"""Nanoseconds after which a writer looks again whether its file is still there."""
RETRY_NS: Final = 1_000_000_000
"""Nanoseconds that a writer that could not open a file waits before it tries again."""

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_COUNTED: Final = {SPAN: 0, SPAN_END: 0, LOG: 1}
"""The signal, as a counter's last bit, of the records that are counted."""


class Series:
    """Writes the records of one process. Its methods are called by whoever holds `lock`.

    Args:
        place: The journal, whose `segment` is the file in use.
        directory: Where the files go.
        definitions: Of resources and scopes, in order; whoever defines more appends here.
        room: The bounds on the directory.
        spool: Where the files go if the directory is another user's.
    """

    def __init__(
        self, place: Place, directory: Path, definitions: list[Record], room: Room, spool: Path | None = None
    ) -> None:
        self.generation = forks.generation()
        self.lock = RLock()
        self.name = ""
        """The part of the file names that this process's files share; empty before the first record, as a rule."""
        self.waiting: list[Record] = []
        """Records that were taken, and are neither written nor counted yet."""
        self.dropped = [0] * COUNTERS
        self.unsaid: list[str] = []
        """Messages for the log, once the lock is released: a log handler may itself be waiting to record."""
        self.wants_look = False
        self.wants_end = False
        self._place = place
        self._directory = directory
        self._spool = spool
        self._definitions = definitions
        self._room = room
        self._counted: list[int] = [0] * COUNTERS
        self._finished: list[tuple[Segment, int | None]] = []
        self._sequence = 0
        self._said: frozenset[str] = frozenset()
        self._retry_at = 0
        self._obstacle = DISK
        self._is_busy = False

    @property
    def uncounted(self) -> list[int]:
        """Of the records that were dropped, by counter, those that stand in no file."""
        segment = self._segment()
        counted = self._counted if segment is None else segment.counted_so_far()
        return [count - held for count, held in zip(self.dropped, counted, strict=True)]

    def holds(self, record: Record) -> bool:
        """Return whether a record waits here, or stands in the file in use."""
        segment = self._segment()
        return record in self.waiting or (segment is not None and segment.holds(*record))

    def work(self) -> None:
        """Write what waits, and do what is wanted. Called in the middle of that, it leaves it to the one underneath."""
        while not self._is_busy and self._is_ours() and self._has_work():
            self._is_busy = True
            try:
                self._work()
            finally:
                self._is_busy = False

    def _has_work(self) -> bool:
        if self.waiting or self.wants_look or self.wants_end:
            return True
        segment = self._segment()
        return segment is not None and not segment.shows(self.dropped)

    def _is_ours(self) -> bool:
        """Return whether this is still the process; a signal handler may have forked in the middle of its work."""
        return forks.mark[0] == self.generation

    def _segment(self) -> Segment | None:
        segment: Segment | None = self._place.segment
        return segment if segment is not None and segment.generation == self.generation else None

    def _work(self) -> None:
        segment = self._segment()
        if segment is not None:
            segment.known_scopes = 0  # from here on every other thread comes to the lock
        self._finish()
        self._look()
        while self.waiting and self._is_ours():
            self._settle_first()
        if self.wants_end:
            self._end()
        segment = self._segment()
        if segment is not None:
            segment.show_dropped(self.dropped)
            segment.known_scopes = self._defined_scopes(segment)

    def _settle_first(self) -> None:
        """Write the first record that waits, or count it as dropped."""
        kind, _, body = self.waiting[0]
        needed = FRAME_SIZE + len(body)
        reason = self._make_room(needed)
        segment = self._segment()
        if reason is None and segment is not None and segment.take(self.waiting):
            return
        if not self._is_ours():
            return  # the parent writes it
        index = 2 * (DISK if reason is None else reason) + _COUNTED.get(kind, 0)
        # One step: there is no call in it.
        del self.waiting[0]
        if kind in _COUNTED:
            self.dropped[index] += 1

    def _make_room(self, needed: int) -> int | None:
        """Let the file in use have room for a record, and its definitions; return why not."""
        if needed > LARGEST_RECORD:
            self._say(
                "too large",
                f"a record of {needed:,} bytes is over the bound of {LARGEST_RECORD:,}; it is dropped",
            )
            return TOO_LARGE
        segment = self._segment()
        if segment is None or segment.offset + needed + self._undefined_bytes(segment) > segment.size:
            if monotonic_ns() < self._retry_at:
                return self._obstacle
            self.wants_look = True  # what was removed is put back before it is too late
            self._look()
            try:
                if not self._rotate(needed):
                    return JOURNAL_FULL
            except OSError as error:
                disk_errors.expect(error)
                self._fail(error)
                return DISK
            segment = self._segment()
        if segment is None:
            return DISK
        for definition in self._definitions[segment.defined :]:
            if not segment.define(*definition):
                return DISK
        return None

    def _fail(self, error: OSError) -> None:
        self._obstacle = DISK
        self._retry_at = monotonic_ns() + RETRY_NS
        self._say("disk", f"cannot write to {self._directory}: {error}; records are dropped and counted")

    def _defined_scopes(self, segment: Segment) -> int:
        return sum(kind == SCOPE for kind, _, _ in self._definitions[: segment.defined])

    def _undefined_bytes(self, segment: Segment | None) -> int:
        defined = 0 if segment is None else segment.defined
        return sum(FRAME_SIZE + len(body) for _, _, body in self._definitions[defined:])

    def _look(self) -> None:
        """Notice that the file was removed or shortened; a write behind the end of a mapped file is SIGBUS."""
        segment = self._segment()
        now = monotonic_ns()
        if segment is None or not (self.wants_look or self.wants_end or now >= segment.next_look):
            self.wants_look = False
            return
        try:
            harm = segment.harm()
            segment.is_missing = harm == "removed"
            if segment.is_missing:
                self._put_back(segment)
                self._say("removed", f"somebody removed {segment.path}; it is written again with all that it held")
        except OSError as error:
            disk_errors.expect(error)
            self._fail(error)  # it stays mapped, and is put back as soon as that can be done
        else:
            if harm == "shortened":
                self._lose(segment)
                self._say("shortened", f"somebody shortened {segment.path}; what was not yet shipped of it is lost")
        segment = self._segment()
        if segment is not None:
            segment.next_look = now + LOOK_EVERY_NS
        self.wants_look = False

    def _put_back(self, removed: Segment) -> None:
        """Write the removed file again, whole and under its name: nothing of it is lost, and no cursor moves."""
        if removed.path.parent == self._directory:
            make_private(self._directory)
        again = Segment(removed.path, self._sequence - 1, removed.size, self.generation, removed.counted)
        again.continue_from(removed)
        self._room.made(again.path)
        finished = [*self._finished, (removed, None)]
        # One step: there is no call in it.
        self._place.segment = again
        self._finished = finished

    def _lose(self, segment: Segment) -> None:
        """Count all that the file held as dropped (at most that is lost) and go on in another."""
        spans, logs = segment.lost(is_lost=True)
        counted = segment.counted_so_far()
        # One step: there is no call in it.
        self._place.segment = None
        self._counted = counted
        self.dropped[2 * DISK] += spans
        self.dropped[2 * DISK + 1] += logs

    def _rotate(self, needed: int) -> bool:
        """Go on in a new file; False where a bound forbids it. Raises OSError."""
        smallest = HEADER_SIZE + self._undefined_bytes(None) + needed
        size = min(max(FIRST_SEGMENT << min(self._sequence, 5), smallest), self._room.left())
        if size < smallest:
            self._obstacle = JOURNAL_FULL
            self._retry_at = monotonic_ns() + RETRY_NS
            self._say(
                "full",
                f"the journal in {self._directory} is full; records are dropped and counted until some are shipped",
            )
            return False
        spool = self._spool if is_needed(self._directory, self._spool) else None
        if spool is None:
            make_private(self._directory)
        self.take_name()
        last: Segment | None = self._place.segment  # in a child the parent's, which it unmaps
        segment = self._largest_possible(spool, size, smallest)
        hand_over(segment.path)
        segment.next_look = monotonic_ns() + LOOK_EVERY_NS
        self._room.made(segment.path)
        finished = self._finished if last is None else [*self._finished, (last, SEALED)]
        spans, logs = (0, 0) if last is None else last.lost()
        said = self._said - {"full", "disk"}
        # One step: there is no call in it.
        self._place.segment = segment
        self._sequence += 1
        self._finished = finished
        self._said = said
        self.dropped[2 * DISK] += spans
        self.dropped[2 * DISK + 1] += logs

        self._finish()
        return True

    def take_name(self) -> str:
        """Return the name, which it is given now if it has none."""
        if not self.name:
            self.name = f"{os.getpid()}-{start_ticks(os.getpid())}-{os.urandom(4).hex()}"
        return self.name

    def _largest_possible(self, spool: Path | None, size: int, smallest: int) -> Segment:
        """A new file of `size` bytes, or of less on a disk that is nearly full. Raises OSError."""
        name = f"{self.name}-{self._sequence:06d}{SUFFIX}"
        path = self._directory / name if spool is None else in_spool(spool, name)
        last = self._segment()
        if last is not None:
            last.show_dropped(self.dropped)
        counted = self._counted if last is None else last.counted_so_far()
        free = _free_bytes(path.parent)
        least = max(smallest, FIRST_SEGMENT)
        while size > free and size // 2 >= least:
            size //= 2
        while True:
            try:
                return Segment(path, self._sequence, size, self.generation, counted)
            except OSError as error:
                disk_errors.expect(error)
                if error.errno not in _NO_ROOM or size // 2 < least:
                    raise
                size //= 2

    def _end(self) -> None:
        """End the series, but for a further file that a later record begins."""
        segment = self._segment()
        if segment is not None:
            segment.show_dropped(self.dropped)
            counted = segment.counted_so_far()
            finished = [*self._finished, (segment, CLOSED)]
            spans, logs = segment.lost()
            # One step: there is no call in it.
            self._place.segment = None
            self._counted = counted
            self._finished = finished
            self.dropped[2 * DISK] += spans
            self.dropped[2 * DISK + 1] += logs

            self._finish()
        self.wants_end = False

    def _finish(self) -> None:
        """Seal, unmap and cut the files that are no longer in use."""
        while self._finished and self._is_ours():
            segment, state = self._finished[0]
            try:
                segment.finish(state)
            except OSError as error:
                disk_errors.expect(error)
                self._say("close", f"the journal file {segment.path} could not be closed: {error}")
            del self._finished[0]

    def _say(self, subject: str, message: str) -> None:
        """Say something once, until it is over."""
        if subject not in self._said:
            self.unsaid.append(message)
            self._said |= {subject}


def _free_bytes(directory: Path) -> int:
    """Return at most how many bytes the file system has; to ask is quicker than to try to reserve them."""
    try:
        status = os.statvfs(directory)
    except OSError as error:
        disk_errors.expect(error)
        return 1 << 62
    return status.f_bfree * status.f_frsize if status.f_blocks else 1 << 62
