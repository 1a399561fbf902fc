"""Append finished telemetry to this process's journal: memory-mapped files that outlive the process.

A byte that was copied into a shared mapping belongs to the kernel: it survives SIGKILL, ``os._exit`` and the OOM
killer (not a power failure). Appending never blocks on I/O, never raises and never loses count.

One series of files a process, named ``{pid}-{start ticks}-{nonce}-{sequence}.journal``. All integers little-endian.
The header has 512 bytes:

    ======  =====  ==========================================================================================
    offset  type   meaning
    ======  =====  ==========================================================================================
    0       8s     magic, ``OTELSYNC``
    8       u32    version, 1
    12      u32    header size, 512
    16      u32    process id
    20      u32    sequence of this file in its series
    24      u64    start time of the process, in clock ticks since boot (``/proc/self/stat``, field 22; else 0)
    32      16s    boot id (else zeros)
    48      u64    created, nanoseconds since the epoch
    64      u64    committed: offset of the end of the last complete record
    72      u64    state: 0 open, 1 sealed (the series goes on in another file), 2 closed (the series has ended)
    128     16u64  records of this file's time that were dropped: index = reason * 2 + signal (0 span, 1 log)
    ======  =====  ==========================================================================================

A record is ``u32 length | u32 crc32 | u8 kind | u8 flags | u16 ref | body``; the checksum covers the body and is seeded
with ``kind | ref << 8``. A record counts once `committed` lies behind it, so a reader never sees half of one.

    ====  ============  ==================================================================================
    kind  name          body
    ====  ============  ==================================================================================
    1     RESOURCE      ``ResourceSpans`` field 1; its number is the ref
    2     SCOPE         u16 number of its resource, ``ScopeSpans`` fields 1 and 3; its number is the ref
    3     SPAN          a span that has ended, as ``ScopeSpans`` field 2; the ref is its scope, here and below
    4     SPAN_START    a span that has begun: the same without an end
    5     SPAN_END      a span that has ended, of which there is a SPAN_START in the same series
    6     LOG           a log record, as ``ScopeLogs`` field 2
    7     SPAN_VERDICT  what ended another process's span: trace id, span id, and the end, attributes and
                        status that go into the span, should that process die without ending it
    8     SPAN_RELEASED trace id and span id of a span that has begun here and is ended by another process
    ====  ============  ==================================================================================
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import secrets
import time
import weakref
from _thread import RLock
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

from otelsync.journal.native import Place

MAGIC: Final = b"OTELSYNC"
VERSION: Final = 1
HEADER_SIZE: Final = 512
HEADER: Final = Struct("<8sIIIIQ16sQ")
"""magic, version, header size, pid, sequence, start ticks, boot id, created."""
COMMITTED_AT: Final = 64
STATE_AT: Final = 72
DROPPED_AT: Final = 128
FRAME: Final = Struct("<IIBBH")
"""length of the body, checksum, kind, flags, ref."""
FRAME_SIZE: Final = FRAME.size

RESOURCE: Final = 1
SCOPE: Final = 2
SPAN: Final = 3
SPAN_START: Final = 4
SPAN_END: Final = 5
LOG: Final = 6
SPAN_VERDICT: Final = 7
SPAN_RELEASED: Final = 8

OPEN: Final = 0
SEALED: Final = 1
CLOSED: Final = 2

DROP_REASONS: Final = ("journal_full", "disk", "too_large", "encode_error")
JOURNAL_FULL, DISK, TOO_LARGE, ENCODE_ERROR = range(4)

SUFFIX: Final = ".journal"
FIRST_SEGMENT: Final = 256 * 1024
LARGEST_SEGMENT: Final = 8 * 1024 * 1024
LARGEST_RECORD: Final = 4 * 1024 * 1024
LOOK_EVERY_NS: Final = 100_000_000
"""How often a writer looks whether its file is still there."""
RETRY_NS: Final = 1_000_000_000
"""How long a writer that could not open a file waits before it tries again."""

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

_log = logging.getLogger("otelsync.journal")

_pack_frame = FRAME.pack
_pack_u16 = Struct("<H").pack
_u64 = Struct("<Q")


@cache
def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where there is no ``/proc``.

    Source: proc_pid_stat(5), field 22. The name in field 2 may hold anything, so fields count from its last bracket.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[19])


@cache
def boot_id() -> bytes:
    """What tells this boot of the kernel from every other, 16 bytes; zeros where it cannot be had."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


def make_private(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone.

    Raises:
        OSError: It cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def _reserve(fd: int, size: int) -> None:
    """Let the disk set aside `size` bytes, or say now that it cannot. Where there is no such call, write them."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    for start in range(0, size, 65536):
        os.pwrite(fd, bytes(min(65536, size - start)), start)


class Segment:
    """One mapped journal file.

    Args:
        path: A file that does not exist yet.
        sequence: Its place in the series.
        size: How many bytes to reserve: a hole would turn a full disk into SIGBUS.

    Raises:
        OSError: It could not be made; nothing is left behind.
    """

    def __init__(self, path: Path, sequence: int, size: int) -> None:
        self.path = path
        self.size = size
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _reserve(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            path.unlink(missing_ok=True)
            raise
        pid = os.getpid()
        self.map[: HEADER.size] = HEADER.pack(
            MAGIC, VERSION, HEADER_SIZE, pid, sequence, start_ticks(pid), boot_id(), time.time_ns()
        )
        self._view = memoryview(self.map)
        self.committed = self._view[COMMITTED_AT : COMMITTED_AT + 8].cast("Q")
        self.committed[0] = HEADER_SIZE

    def harm(self) -> str:
        """What somebody did to the file: "" (nothing), "removed" or "shortened"."""
        status = os.fstat(self.fd)
        if status.st_size < self.size:
            return "shortened"
        return "" if status.st_nlink else "removed"

    def add_dropped(self, index: int, count: int) -> None:
        """Add to a counter of dropped records; `index` is reason * 2 + signal."""
        at = DROPPED_AT + index * 8
        self.map[at : at + 8] = _u64.pack(_u64.unpack_from(self.map, at)[0] + count)

    def set_state(self, state: int) -> None:
        """Tell readers whether more will come: OPEN, SEALED or CLOSED."""
        self.map[STATE_AT : STATE_AT + 8] = _u64.pack(state)

    def release(self, shrink_to: int | None = None) -> None:
        """Unmap and close the file, cut to `shrink_to` bytes if given."""
        self.committed.release()
        self._view.release()
        self.map.close()
        try:
            if shrink_to is not None:
                os.ftruncate(self.fd, shrink_to)
        finally:
            os.close(self.fd)


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
        self._max_bytes = max_bytes
        self._max_directory_bytes = max_directory_bytes
        self._definitions: list[tuple[int, int, bytes]] = []
        self._resources = 0
        self._scopes = 0
        self._segment: Segment | None = None
        self.on_look: Callable[[], object] | None = None
        """Is called some times a second while records are appended, and may append. It must not raise."""
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
        self._series = ""
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
        self._records = [0] * (SPAN_RELEASED + 1)
        self._defined = 0
        self._next_look = 0

    @property
    def series(self) -> str:
        """The part of the file names that this process's files share; empty before the first record."""
        return self._series

    @property
    def path(self) -> Path | None:
        """The file that is being written, if there is one."""
        return self._segment.path if self._segment else None

    @property
    def dropped(self) -> dict[str, tuple[int, int]]:
        """How many (spans, log records) this process has dropped, by reason."""
        counts = self._dropped
        pairs = {reason: (counts[i * 2], counts[i * 2 + 1]) for i, reason in enumerate(DROP_REASONS)}
        return {reason: pair for reason, pair in pairs.items() if any(pair)}

    @property
    def uncounted(self) -> tuple[int, int]:
        """How many of the dropped (spans, log records) no file says, as none could be made since."""
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

    def append(self, kind: int, ref: int, body: bytes, now: int) -> None:
        """Append a record; never raises, and waits for nothing but another thread's change of files.

        Between reading the offset and committing there is no call, so CPython can neither switch threads there nor
        run a signal handler: both happen only after calls, at function entry and on backward jumps (a test holds
        the byte code to that). This spares a lock, the dearest part of an append. Builds without the GIL take one.

        Args:
            kind: SPAN, SPAN_START, SPAN_END, LOG, SPAN_VERDICT or SPAN_RELEASED.
            ref: The number of its scope.
            body: The record, tagged and length-prefixed as ``ScopeSpans`` or ``ScopeLogs`` want it.
            now: About the present time, nanoseconds since the epoch.
        """
        frame = _pack_frame(len(body), crc32(body, kind | ref << 8), kind, 0, ref) + body
        length = len(frame)
        if now < self._next_look and ref < self._known_scopes:
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

    def look_if_due(self) -> None:
        """Do what the next append would do, if that brings the present time: see whether the file is still whole."""
        if time.time_ns() >= self._next_look:
            self.look()

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
            self._look(time.time_ns())
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
        now = time.time_ns()
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
            self._retry_at = time.time_ns() + RETRY_NS
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
        now = time.time_ns()
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
        make_private(self.directory)
        if not self._series:
            self._series = f"{os.getpid()}-{start_ticks(os.getpid())}-{secrets.token_hex(4)}"
        segment = self._largest_possible(size, smallest)
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

    def _largest_possible(self, size: int, smallest: int) -> Segment:
        """A new file of `size` bytes, or of less on a disk that is nearly full. Raises OSError."""
        path = self.directory / f"{self._series}-{self._sequence:06d}{SUFFIX}"
        while True:
            try:
                return Segment(path, self._sequence, size)
            except OSError as error:
                if error.errno not in _NO_ROOM or size // 2 < max(smallest, FIRST_SEGMENT):
                    raise
                size //= 2

    def _bytes_left(self) -> int:
        """What the bounds leave for one more file, in bytes."""
        own = everything = 0
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX):
                        size = _size(entry)
                        everything += size
                        own += size if self._series and entry.name.startswith(self._series) else 0
        except FileNotFoundError:
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
            _log.warning("recording: %s", self._unsaid.pop(0))


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
