"""Append finished telemetry to this process's journal: memory-mapped files that outlive the process.

A byte that was copied into a shared mapping belongs to the kernel: it survives SIGKILL, ``os._exit`` and the OOM
killer (not a power failure). Appending never blocks on I/O, never raises and never loses count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Final

from otelsync.hooks.host_errors import has_entered
from otelsync.hooks.own_messages import own_logger
from otelsync.journal import forks
from otelsync.journal.format import DROP_REASONS, LOG, RESOURCE, SCOPE, SPAN, SPAN_END
from otelsync.journal.mapped import Record
from otelsync.journal.native import Place
from otelsync.journal.room import Room
from otelsync.journal.series import Series

if TYPE_CHECKING:
    from otelsync.journal.segment import Segment

MOST_SCOPES: Final = 0x10000

_log = own_logger("otelsync.journal")

_pack_u16 = Struct("<H").pack


class Journal(Place):
    """The writer of one process's series of journal files.

    Threads share it; after a fork, whoever forked, the child goes on in a series of its own. A signal handler that
    records while the same thread is in the middle of an append is no deadlock: its records wait until that append is
    through. What a signal handler raises comes out of whatever was called, and what was recorded is not lost for it.

    Args:
        directory: Where the files go; made with mode 0700 when first needed.
        max_bytes: Bound on what one process may have waiting, in bytes.
        max_directory_bytes: Bound on the directory, in bytes.
        spool: Where the files go if the directory is another user's (see `otelsync.journal.spool`).
    """

    segment: Segment | None
    """The file in use; it may be the one of the process that has forked this one."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        max_directory_bytes: int = 1024 * 1024 * 1024,
        spool: Path | None = None,
    ) -> None:
        self.directory = Path(directory).absolute()
        self._bounds = (max_bytes, max_directory_bytes)
        self._spool = spool
        self._definitions: list[Record] = []
        self._resources = 0
        self._scopes = 0
        self.segment = None
        self.on_look: Callable[[], object] | None = None
        """Is called some times a second while records are appended, and may append. It must not raise."""
        self.say: Callable[[str], object] = _warn
        """Is told what is wrong with the journal; by default it logs that."""
        self._of_process: dict[int, Series] = {}

    def _own(self) -> Series:
        """Return this process's series. A forked child begins one, with a lock that no thread of the parent's holds."""
        number = forks.generation()
        series = self._of_process.get(number)
        if series is None:
            room = Room(self.directory, *self._bounds)
            fresh = Series(self, self.directory, self._definitions, room, self._spool)
            series = self._of_process.setdefault(number, fresh)  # of two threads, the first
            self._of_process = {number: series}
        return series

    @property
    def path(self) -> Path | None:
        """The file that is being written, if there is one."""
        segment = self.segment
        return segment.path if segment is not None and segment.generation == forks.generation() else None

    @property
    def series(self) -> str:
        """The part of the file names that this process's files share; empty before the first record."""
        return self._own().name

    def name_series(self) -> str:
        """Return the same, also before the first record."""
        return self._own().take_name()

    @property
    def dropped(self) -> dict[str, tuple[int, int]]:
        """Numbers of (spans, log records) that this process has dropped, by reason."""
        counts = self._own().dropped
        pairs = {reason: (counts[i * 2], counts[i * 2 + 1]) for i, reason in enumerate(DROP_REASONS)}
        return {reason: pair for reason, pair in pairs.items() if any(pair)}

    @property
    def uncounted(self) -> tuple[int, int]:
        """Numbers of dropped (spans, log records) that stand in no file, as none could be made since."""
        series = self._own()
        with series.lock:
            counts = series.uncounted
        return sum(counts[0::2]), sum(counts[1::2])

    def resource(self, body: bytes) -> int:
        """Define a resource, in the form of ``ResourceSpans`` field 1, and return its number."""
        with self._own().lock:
            number = self._resources
            definitions = [(RESOURCE, number, body)]
            # One step for signal handlers: there is no call in it.
            self._definitions += definitions
            self._resources += 1

            return number

    def scope(self, resource: int, body: bytes) -> int:
        """Define a scope of a resource, in the form of ``ScopeSpans`` fields 1 and 3, and return its number.

        There is room for 65,536; all further ones share the last.
        """
        with self._own().lock:
            number = self._scopes
            if number >= MOST_SCOPES:
                return MOST_SCOPES - 1
            definitions = [(SCOPE, number, _pack_u16(resource) + body)]
            # One step for signal handlers: there is no call in it.
            self._definitions += definitions
            self._scopes += 1

            return number

    def append(self, kind: int, ref: int, body: bytes) -> None:
        """Append a record; waits for nothing but another thread's change of files.

        It raises nothing but what a signal handler does, and then the record was recorded or counted all the same.

        Args:
            kind: SPAN, SPAN_START, SPAN_END, LOG, SPAN_VERDICT, SPAN_RELEASED or SPAN_PENDING.
            ref: The number of its scope.
            body: The record, tagged and length-prefixed as ``ScopeSpans`` or ``ScopeLogs`` want it.
        """
        segment = self.segment
        try:
            if segment is not None and segment.append(kind, ref, body):
                return
        except BaseException:
            self.make_sure(kind, ref, body)
            raise
        untaken = [(kind, ref, body)]
        try:
            self._append_in_turn(untaken)
        except BaseException:
            self._append_in_turn(untaken)
            raise

    def make_sure(self, kind: int, ref: int, body: bytes) -> None:
        """Append a record, unless it stands in the journal: for whom an exception left in doubt of that.

        The arguments are those of :meth:`append`.
        """
        record = (kind, ref, body)
        series = self._own()
        with series.lock:
            if not series.holds(record):
                series.waiting.append(record)
            series.work()
        self._after(series)

    def has_taken(self, record: Record, error: BaseException) -> bool:
        """Return whether a record stands in the journal, or was counted, where `error` came out of appending it.

        Whatever :meth:`append` itself raises, it has done its work; the C extension may have done it before.
        """
        series = self._own()
        with series.lock:
            return has_entered(error, self.append) or series.holds(record)

    def _append_in_turn(self, untaken: list[Record]) -> None:
        series = self._own()
        with series.lock:
            if untaken:
                # One step for signal handlers: there is no call in it. From here on the record is taken.
                series.waiting += untaken
                del untaken[0]

            series.work()
        self._after(series)

    def _after(self, series: Series) -> None:
        """Say what is to be said, and let others look; no lock is held."""
        while series.unsaid:
            try:
                message = series.unsaid.pop(0)
            except IndexError:  # another thread says it
                break
            self.say(message)
        if self.on_look is not None:
            self.on_look()

    def drop(self, reason: int, kind: int) -> None:
        """Count a record that could not be recorded: `reason` is an index into DROP_REASONS."""
        if kind not in (SPAN, SPAN_END, LOG):
            return
        uncounted = [reason * 2 + (kind == LOG)]
        try:
            self._count(uncounted)
        except BaseException:
            self._count(uncounted)
            raise

    def _count(self, uncounted: list[int]) -> None:
        series = self._own()
        with series.lock:
            if uncounted:
                # One step for signal handlers: there is no call in it.
                series.dropped[uncounted[0]] += 1
                del uncounted[0]

            series.work()

    def look(self) -> None:
        """Notice at once whether somebody removed the file; then it is written again."""
        series = self._own()
        with series.lock:
            series.wants_look = True
            series.work()
        self._after(series)

    def close(self) -> None:
        """End the series: its last file shrinks to what it holds. A later append begins a further file."""
        series = self._own()
        with series.lock:
            series.wants_end = True
            series.work()
        self._after(series)


def _warn(message: str) -> None:
    _log.warning("recording: %s", message)
