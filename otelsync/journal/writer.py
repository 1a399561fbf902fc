"""Append finished telemetry to this process's journal: memory-mapped files that outlive the process.

A byte that was copied into a shared mapping belongs to the kernel: it survives SIGKILL, ``os._exit`` and the OOM
killer (not a power failure). Appending never blocks on I/O, never raises and never loses count.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import weakref
from _thread import RLock
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from time import monotonic_ns
from typing import Final
from zlib import crc32

from otelsync.journal.belonging import hand_over
from otelsync.journal.format import (
    CLOSED,
    DISK,
    DROP_REASONS,
    FIRST_SEGMENT,
    FRAME,
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    JOURNAL_FULL,
    LARGEST_RECORD,
    LOG,
    RESOURCE,
    SCOPE,
    SEALED,
    SPAN,
    SPAN_END,
    SPAN_PENDING,
    SUFFIX,
    TOO_LARGE,
)
from otelsync.journal.native import Place
from otelsync.journal.process_identity import start_ticks
from otelsync.journal.segment import Segment, make_private
from otelsync.journal.spool import in_spool, is_needed

LOOK_EVERY_NS: Final = 100_000_000
"""Nanoseconds after which a writer looks again whether its file is still there."""
RETRY_NS: Final = 1_000_000_000
"""Nanoseconds that a writer that could not open a file waits before it tries again."""

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

_log = logging.getLogger("otelsync.journal")

_pack_frame = FRAME.pack
_pack_u16 = Struct("<H").pack


class Journal(Place):
    """The writer of one process's series of journal files.

    Threads share it through one short lock; after ``fork()`` the child goes on in a series of its own. A signal
    handler that records while the same thread is in the middle of an append is no deadlock: its records wait until
    that append is through.

    Args:
        directory: Where the files go; made with mode 0700 when first needed.
        max_bytes: Bound on what one process may have waiting, in bytes.
        max_directory_bytes: Bound on the directory, in bytes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        max_directory_bytes: int = 1024 * 1024 * 1024,
    ) -> None:
        self.directory = Path(directory)
        self.spool: Path | None = None
        """A place for the files if the directory is another user's (see `otelsync.journal.spool`)."""
        self._max_bytes = max_bytes
        self._max_directory_bytes = max_directory_bytes
        self._definitions: list[tuple[int, int, bytes]] = []
        self._resources = 0
        self._scopes = 0
        self._segment: Segment | None = None
        self.on_look: Callable[[], object] | None = None
        """Is called some times a second while records are appended, and may append. It must not raise."""
        self.say: Callable[[str], object] = _warn
        """Is told what is wrong with the journal; by default it logs that."""
        self._begin()
        _journals.add(self)

    def _begin(self) -> None:
        """Start over with no file, as a new process does."""
        self._lock = RLock()
        self._writing = False
        self._waiting: list[tuple[int, int, bytes]] = []
        self._unsaid: list[str] = []
        self._said: set[str] = set()
        self._dropped = [0] * 16
        self._homeless = [0] * 16
        self.series = ""
        """The part of the file names that this process's files share; empty before the first record."""
        self._sequence = 0
        self._retry_at = 0
        self._use(None)

    def _use(self, segment: Segment | None, offset: int = HEADER_SIZE) -> None:
        """Write to `segment` from now on. Its parts are kept at hand, as every append needs them.

        The slow path has closed the fast one before it calls this.
        """
        self._known_scopes = 0
        self._segment = segment
        self._map = segment.map if segment else None
        self._committed = segment.committed if segment else None
        self._size = segment.size if segment else 0
        self._offset = offset
        self._records = [0] * (SPAN_PENDING + 1)
        self._defined = 0
        self._next_look = 0

    @property
    def path(self) -> Path | None:
        """The file that is being written, if there is one."""
        return self._segment.path if self._segment else None

    @property
    def dropped(self) -> dict[str, tuple[int, int]]:
        """Numbers of (spans, log records) that this process has dropped, by reason."""
        counts = self._dropped
        pairs = {reason: (counts[i * 2], counts[i * 2 + 1]) for i, reason in enumerate(DROP_REASONS)}
        return {reason: pair for reason, pair in pairs.items() if any(pair)}

    @property
    def uncounted(self) -> tuple[int, int]:
        """Numbers of dropped (spans, log records) that stand in no file, as none could be made since."""
        return sum(self._homeless[0::2]), sum(self._homeless[1::2])

    def resource(self, body: bytes) -> int:
        """Define a resource, in the form of ``ResourceSpans`` field 1, and return its number."""
        with self._lock:
            self._definitions.append((RESOURCE, self._resources, body))
            self._resources += 1
            return self._resources - 1

    def scope(self, resource: int, body: bytes) -> int:
        """Define a scope of a resource, in the form of ``ScopeSpans`` fields 1 and 3, and return its number.

        There is room for 65,536; all further ones share the last.
        """
        with self._lock:
            if self._scopes > 0xFFFF:
                return 0xFFFF
            self._definitions.append((SCOPE, self._scopes, _pack_u16(resource) + body))
            self._scopes += 1
            return self._scopes - 1

    def append(self, kind: int, ref: int, body: bytes) -> None:
        """Append a record; never raises, and waits for nothing but another thread's change of files.

        Between reading the offset and committing there is no call, so CPython can neither switch threads there nor
        run a signal handler: both happen only after calls, at function entry and on backward jumps (a test holds
        the byte code to that). This spares a lock, the dearest part of an append. Builds without the GIL take one.

        Args:
            kind: SPAN, SPAN_START, SPAN_END, LOG, SPAN_VERDICT, SPAN_RELEASED or SPAN_PENDING.
            ref: The number of its scope.
            body: The record, tagged and length-prefixed as ``ScopeSpans`` or ``ScopeLogs`` want it.
        """
        frame = _pack_frame(len(body), crc32(body, kind | ref << 8), kind, 0, ref) + body
        length = len(frame)
        if monotonic_ns() < self._next_look and ref < self._known_scopes:
            end = self._offset + length
            if end <= self._size and length <= LARGEST_RECORD:
                self._map[self._offset : end] = frame  # a size above 0 means a map
                self._offset = end
                self._committed[0] = end  # type: ignore[index]
                self._records[kind] += 1
                return
        self._append_in_turn(kind, ref, body)

    def _append_in_turn(self, kind: int, ref: int, body: bytes) -> None:
        with self._lock:
            if self._writing:  # a signal handler, in the middle of this thread's own change of files
                self._waiting.append((kind, ref, body))
                return
            self._writing = True
            try:
                self._append_slowly(kind, ref, body)
                while self._waiting:
                    self._append_slowly(*self._waiting.pop(0))
            finally:
                self._writing = False
        if self._unsaid:
            self._speak()
        if self.on_look is not None:
            self.on_look()

    def drop(self, reason: int, kind: int) -> None:
        """Count a record that could not be recorded: `reason` is an index into DROP_REASONS."""
        with self._lock:
            self._count_dropped(reason, kind)

    def look(self) -> None:
        """Notice at once whether somebody removed the file; then it is written again."""
        with self._lock:
            if self._segment is not None and not self._writing:
                self._look_safely()
        self._speak()
        if self.on_look is not None:
            self.on_look()

    def close(self) -> None:
        """End the series: its last file shrinks to what it holds. A later append begins a further file."""
        with self._lock:
            if self._segment is None or self._writing:
                return
            self._look_safely()
            segment, offset = self._segment, self._offset
            self._use(None)
            try:
                if segment is not None:
                    segment.set_state(CLOSED)
                    segment.release(shrink_to=offset)
            except OSError as error:
                self._say("close", f"the journal file {segment.path} could not be closed: {error}")
        self._speak()

    def _look_safely(self) -> None:
        self._known_scopes = 0  # from here on every other thread comes to the lock
        try:
            self._look(monotonic_ns())
        except OSError as error:
            self._say("disk", f"cannot write to {self.directory}: {error}; records are dropped and counted")
        finally:
            self._known_scopes = self._defined_scopes() if self._segment else 0

    # What follows happens once a file, a few times a second, or when something is wrong.

    def _append_slowly(self, kind: int, ref: int, body: bytes) -> None:
        needed = FRAME_SIZE + len(body)
        if needed > LARGEST_RECORD:
            self._count_dropped(TOO_LARGE, kind)
            self._say(
                "too large",
                f"a record of {needed:,} bytes is over the bound of {LARGEST_RECORD:,}; it is dropped",
            )
            return
        now = monotonic_ns()
        if now < self._retry_at and self._offset + needed > self._size:
            self._count_dropped(JOURNAL_FULL if "full" in self._said else DISK, kind)
            return
        self._known_scopes = 0  # from here on every other thread comes to the lock
        try:
            self._look(now)
            if self._offset + needed + self._undefined_bytes() > self._size and not self._rotate(needed):
                self._count_dropped(JOURNAL_FULL if "full" in self._said else DISK, kind)
                return
            for definition in self._definitions[self._defined :]:
                self._write(*definition)
                self._defined += 1
            self._write(kind, ref, body)
        except (OSError, ValueError) as error:
            self._retry_at = monotonic_ns() + RETRY_NS
            self._count_dropped(DISK, kind)
            self._say("disk", f"cannot write to {self.directory}: {error}; records are dropped and counted")
        finally:
            self._known_scopes = self._defined_scopes() if self._segment else 0

    def _defined_scopes(self) -> int:
        return sum(kind == SCOPE for kind, _, _ in self._definitions[: self._defined])

    def _undefined_bytes(self) -> int:
        return sum(FRAME_SIZE + len(body) for _, _, body in self._definitions[self._defined :])

    def _write(self, kind: int, ref: int, body: bytes) -> None:
        assert self._map is not None
        assert self._committed is not None
        end = self._offset + FRAME_SIZE + len(body)
        self._map[self._offset : end] = _pack_frame(len(body), crc32(body, kind | ref << 8), kind, 0, ref) + body
        self._offset = end
        self._committed[0] = end
        self._records[kind] += 1

    def _look(self, now: int) -> None:
        """Notice that the file was removed or shortened; a write behind the end of a mapped file is SIGBUS."""
        self._next_look = now + LOOK_EVERY_NS
        segment = self._segment
        harm = segment.harm() if segment else ""
        if segment is None or not harm:
            return
        if harm == "removed":
            try:
                self._put_back(segment)
            except OSError:
                self._lose_file()
                raise
            self._say(
                "removed",
                f"somebody removed {segment.path}; it is written again with all that it held",
            )
        else:
            self._lose_file()
            self._say("shortened", f"somebody shortened {segment.path}; what was not yet shipped of it is lost")

    def _put_back(self, removed: Segment) -> None:
        """Write the removed file again, whole and under its name: nothing of it is lost, and no cursor moves."""
        make_private(self.directory)
        again = Segment(removed.path, self._sequence - 1, removed.size)
        offset, records, defined = self._offset, self._records, self._defined
        again.map[HEADER.size : offset] = removed.map[HEADER.size : offset]
        self._use(again, offset)
        self._records, self._defined = records, defined
        removed.release()

    def _lose_file(self) -> None:
        """Count all that the file held as dropped (at most that is lost) and go on in another."""
        for kind in (SPAN, SPAN_END, LOG):
            self._count_dropped(DISK, kind, self._records[kind], into_file=False)
        self._use(None)

    def _rotate(self, needed: int) -> bool:
        """Go on in a new file; False where a bound forbids it, or an earlier try is too recent."""
        now = monotonic_ns()
        if now < self._retry_at:
            return False
        smallest = HEADER_SIZE + sum(FRAME_SIZE + len(body) for _, _, body in self._definitions) + needed
        size = min(max(FIRST_SEGMENT << min(self._sequence, 5), smallest), self._bytes_left())
        if size < smallest:
            self._retry_at = now + RETRY_NS
            self._say(
                "full",
                f"the journal in {self.directory} is full; records are dropped and counted until some are shipped",
            )
            return False
        spool = self.spool if is_needed(self.directory, self.spool) else None
        if spool is None:
            make_private(self.directory)
        if not self.series:
            self.series = f"{os.getpid()}-{start_ticks(os.getpid())}-{secrets.token_hex(4)}"
        segment = self._largest_possible(spool, size, smallest)
        hand_over(segment.path)
        self._sequence += 1
        self._said -= {"full", "disk"}
        last = self._segment
        self._use(segment)
        self._next_look = now + LOOK_EVERY_NS
        for index, count in enumerate(self._homeless):
            if count:
                segment.add_dropped(index, count)
        self._homeless = [0] * 16
        if last:
            last.set_state(SEALED)
            last.release()
        return True

    def _largest_possible(self, spool: Path | None, size: int, smallest: int) -> Segment:
        """A new file of `size` bytes, or of less on a disk that is nearly full. Raises OSError."""
        name = f"{self.series}-{self._sequence:06d}{SUFFIX}"
        path = self.directory / name if spool is None else in_spool(spool, name)
        while True:
            try:
                return Segment(path, self._sequence, size)
            except OSError as error:
                if error.errno not in _NO_ROOM or size // 2 < max(smallest, FIRST_SEGMENT):
                    raise
                size //= 2

    def _bytes_left(self) -> int:
        """Return the bytes that the bounds leave for one more file."""
        own = everything = 0
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX):
                        size = _size(entry)
                        everything += size
                        own += size if self.series and entry.name.startswith(self.series) else 0
        except (FileNotFoundError, PermissionError):
            pass
        return min(self._max_bytes - own, self._max_directory_bytes - everything)

    def _count_dropped(self, reason: int, kind: int, count: int = 1, *, into_file: bool = True) -> None:
        if kind not in (SPAN, SPAN_END, LOG):
            return
        index = reason * 2 + (kind == LOG)
        self._dropped[index] += count
        if self._segment and into_file:
            self._segment.add_dropped(index, count)
        else:
            self._homeless[index] += count

    def _say(self, subject: str, message: str) -> None:
        """Say something once, after the lock is released: a log handler may itself be waiting to record."""
        if subject not in self._said:
            self._said.add(subject)
            self._unsaid.append(message)

    def _speak(self) -> None:
        while self._unsaid:
            self.say(self._unsaid.pop(0))


def _warn(message: str) -> None:
    _log.warning("recording: %s", message)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _begin_in_child() -> None:
    """After a fork: the files, the lock and the counts are the parent's."""
    for journal in list(_journals):
        segment = journal._segment
        journal._begin()
        if segment:
            segment.release()


os.register_at_fork(after_in_child=_begin_in_child)
