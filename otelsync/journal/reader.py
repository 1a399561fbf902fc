"""Reading journals: one file's records from an offset on, as batches, whatever the state of the file.

The format is described in ``journal/format.py``. A journal is read while its process writes to it,
and after that process has died in any way, so nothing in a file is believed until it has been checked.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from otelsync.journal.batch import Batch, Group
from otelsync.journal.format import (
    FRAME_SIZE,
    HEADER_SIZE,
    LARGEST_RECORD,
    LOG,
    RESOURCE,
    SCOPE,
    SPAN,
    SPAN_END,
    SPAN_PENDING,
    SPAN_RELEASED,
    SPAN_START,
    SPAN_VERDICT,
)
from otelsync.journal.header import MAX_SEGMENT, JournalError, JournalHeader, empty_header, parse_header, process_alive
from otelsync.journal.names import parse_name
from otelsync.journal.spool import name_of

MAX_BODY = LARGEST_RECORD + 4096
"""Bytes. The writer refuses longer records, so a longer one is damage."""


_RECORD = struct.Struct("<III")
"""Length, crc, and kind, flags and ref as one number: equal numbers go the same way."""
_PLAUSIBLE = re.compile(
    rb"(?=..[\x00-\x40]\x00....(?:[\x03-\x08]\x00..\x12|\x01\x00..\x0a|\x02\x00....\x0a))", re.DOTALL
)
_RESYNC_BUDGET = 256 * 1024 * 1024
"""Bytes that may be checksummed in search of the next record, so that a hostile file cannot hold the shipper."""


class JournalReader:
    """Reads one journal file. It keeps the file open, so that a file removed meanwhile can be read to its end.

    Raises JournalError, or OSError, when the file cannot be opened as a journal.
    """

    def __init__(self, path: Path, *, patience: float = 1.0) -> None:
        """`patience`: seconds that an unreadable record of a living process may take to become readable."""
        segment = parse_name(name_of(path))
        if segment is None:
            raise JournalError(f"not the name of a journal: {path.name!r}")
        self.segment = segment
        self._patience = patience
        self._stuck: tuple[int, float] = (-1, 0.0)
        self._resources: dict[int, bytes] = {}
        self._scopes: dict[int, tuple[int, bytes]] = {}
        self._learned = HEADER_SIZE
        self._hidden: bool | None = None
        self.removed = False
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise JournalError(f"not a regular file: {path.name}")
            self.header = self.refresh()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def refresh(self) -> JournalHeader:
        """Read the header again, and return it. Raises UnknownVersionError and OSError."""
        header, size = self._look()
        is_over = header.final
        if not is_over and header.committed < size and not process_alive(header):
            header, size = self._look()  # between the first look and its end, the writer may have gone on
            is_over = True
        if is_over and header.committed < size and self._hides(header, size):
            header = header._replace(committed=size, damaged=True)
        self.header = header
        return self.header

    def _look(self) -> tuple[JournalHeader, int]:
        status = os.fstat(self._fd)
        self.removed = status.st_nlink == 0
        size = min(status.st_size, MAX_SEGMENT)
        raw = os.pread(self._fd, HEADER_SIZE, 0)
        if not (status.st_mode & stat.S_IWUSR or any(raw)):
            return empty_header(self.segment), size
        return parse_header(raw, size, self.segment), size

    def _hides(self, header: JournalHeader, size: int) -> bool:
        """Return whether records stand behind `committed` in a file that nobody writes any more.

        Then that offset is damaged, or its writer was killed in the one moment between a record and its commit.
        """
        if self._hidden is None:
            rest = os.pread(self._fd, size - header.committed, header.committed)
            self._hidden = any(rest) and _next_record(rest, 0) is not None
        return self._hidden

    def read(
        self,
        start: int,
        *,
        limit: int | None = None,
        max_bytes: int = 1024 * 1024,
        max_records: int = 4096,
    ) -> Batch | None:
        """The next records from offset `start`, at most to `limit` (default: all that is committed).

        A record longer than `max_bytes` comes alone. None: there is nothing to read, or not yet. Raises OSError.
        """
        end = self.header.committed if limit is None else min(limit, self.header.committed)
        start = max(start, HEADER_SIZE)
        if start > self._learned:
            self._learn(start)
        if start >= end:
            return None
        return self._parse(start, end, max_bytes, max_records)

    def _learn(self, start: int) -> None:
        """Collect the definitions before `start`."""
        end = min(start, self.header.committed)
        while self._learned < end:
            self._parse(self._learned, end, 1024 * 1024, 65536, patient=False)

    def _parse(self, start: int, end: int, max_bytes: int, max_records: int, *, patient: bool = True) -> Batch | None:
        chunk = os.pread(self._fd, min(max_bytes, end - start), start)
        batch = Batch(self.segment.name, start, start)
        routes = _Routes(self._resources, self._scopes, batch)
        position, bad = _take(chunk, routes, max_records)
        if position == 0 and not bad:
            chunk = self._whole_record(start, end, chunk)
            position, bad = _take(chunk, routes, 1)
            bad = position == 0
        batch.end = start + position
        if position == 0 and bad:
            if patient and not self._is_corrupt(start):
                return None
            batch.end = self._resynchronise(start, end)
            batch.corrupted_bytes += self._lost(start, batch.end)
        routes.clear()  # else they keep themselves, and with them the batch, until the next garbage collection
        self._learned = max(self._learned, batch.end)
        return batch

    def _whole_record(self, start: int, end: int, chunk: bytes) -> bytes:
        """The bytes of the record at `start`, as far as they are there."""
        if len(chunk) < FRAME_SIZE:
            chunk = os.pread(self._fd, min(FRAME_SIZE, end - start), start)
            if len(chunk) < FRAME_SIZE:
                return b""
        length = FRAME_SIZE + _RECORD.unpack_from(chunk)[0]
        if length > MAX_BODY + FRAME_SIZE or start + length > end:
            return b""
        return os.pread(self._fd, length, start)

    def _is_corrupt(self, offset: int) -> bool:
        """Return whether the unreadable record at `offset` is damage, and not a write which is not yet visible."""
        if self.header.final or self.header.damaged or not process_alive(self.header):
            return True
        now = time.monotonic()
        if self._stuck[0] != offset:
            self._stuck = (offset, now)
        return now - self._stuck[1] >= self._patience

    def _resynchronise(self, start: int, end: int) -> int:
        """The offset of the next record with a right checksum after `start`, or `end`."""
        found = _next_record(os.pread(self._fd, end - start, start), 1)
        return end if found is None else start + found

    def _lost(self, start: int, end: int) -> int:
        """Return the bytes lost from `start` to `end`; zeros behind a damaged header were never written."""
        if not self.header.damaged:
            return end - start
        return len(os.pread(self._fd, end - start, start).rstrip(b"\0"))


class _Routes(dict[int, tuple[int, Callable[[bytes], None]]]):
    """For each (kind, flags, ref) as one number: the checksum's seed, and what takes such a body."""

    def __init__(self, resources: dict[int, bytes], scopes: dict[int, tuple[int, bytes]], batch: Batch) -> None:
        self._resources = resources
        self._scopes = scopes
        self._batch = batch
        self._groups: dict[int, Group] = {}

    def __missing__(self, tag: int) -> tuple[int, Callable[[bytes], None]]:
        route = self[tag] = (_seed(tag), self._taker(tag & 0xFFFF, tag >> 16))
        return route

    def _taker(self, kind: int, ref: int) -> Callable[[bytes], None]:
        if kind == RESOURCE:
            return lambda body: self._define_resource(ref, body)
        if kind == SCOPE:
            return lambda body: self._define_scope(ref, body)
        if not SPAN <= kind <= SPAN_PENDING:
            return self._skip
        group = self._group(ref)
        if kind == SPAN_END:
            return lambda body: _append_ended(group, body)
        bodies = {
            SPAN: group.spans,
            SPAN_START: group.started,
            LOG: group.logs,
            SPAN_VERDICT: group.verdicts,
            SPAN_RELEASED: group.released,
            SPAN_PENDING: group.pending,
        }
        return bodies[kind].append

    def _group(self, ref: int) -> Group:
        group = self._groups.get(ref)
        if group is None:
            resource, scope = self._scopes.get(ref, (-1, b""))
            group = self._groups[ref] = Group(self._resources.get(resource, b""), scope)
            self._batch.groups.append(group)
        return group

    def _define_resource(self, ref: int, body: bytes) -> None:
        if self._resources.get(ref) != body:
            self._resources[ref] = body
            self._forget_groups()

    def _define_scope(self, ref: int, body: bytes) -> None:
        definition = (int.from_bytes(body[:2], "little"), body[2:])
        if self._scopes.get(ref) != definition:
            self._scopes[ref] = definition
            self._forget_groups()

    def _forget_groups(self) -> None:
        self._groups.clear()
        self.clear()

    def _skip(self, body: bytes) -> None:
        """A kind or a flag of a later release: intact, but not for us."""
        self._batch.corrupted_bytes += FRAME_SIZE + len(body)


def _append_ended(group: Group, body: bytes) -> None:
    group.spans.append(body)
    group.ended.append(body)


_YIELD_MASK = 127


def _take(chunk: bytes, routes: _Routes, max_records: int) -> tuple[int, bool]:
    """Give the records of `chunk` to their routes. Returns how many bytes that was, and whether it ended at damage.

    The shipper spends its time here, hence the local names and the one number for kind, flags and ref.
    """
    unpack, crc32 = _RECORD.unpack_from, zlib.crc32
    size = len(chunk)
    position = 0
    last, seed = -1, 0
    take: Callable[[bytes], None] = routes._skip
    has_others = threading.active_count() > 1
    for count in range(max_records):
        if has_others and not count & _YIELD_MASK:
            time.sleep(0)  # give up the GIL: else the host may wait for a whole switch interval, 5 ms
        body_at = position + 12
        if body_at > size:
            break
        length, crc, tag = unpack(chunk, position)
        after = body_at + length
        if after > size:
            return position, length > MAX_BODY
        body = chunk[body_at:after]
        if tag != last:
            # Looked up anew after a definition too, as its tag differs from those of the records that use it.
            seed, take = routes[tag]
            last = tag
        if crc32(body, seed) != crc:
            return position, True
        take(body)
        position = after
    return position, False


def _next_record(content: bytes, start: int) -> int | None:
    """The position of the next record with a right checksum; None if there is none, or it is too hard to find."""
    budget = _RESYNC_BUDGET
    # Zeros match nothing; to leave them out spares the slow search of what was reserved and never written.
    for candidate in _PLAUSIBLE.finditer(content, start, len(content.rstrip(b"\0"))):
        position = candidate.start()
        length, crc, tag = _RECORD.unpack_from(content, position)
        body = content[position + FRAME_SIZE : position + FRAME_SIZE + length]
        if len(body) == length and zlib.crc32(body, _seed(tag)) == crc:
            return position
        budget -= length
        if budget < 0:
            break
    return None


def _seed(tag: int) -> int:
    """The checksum covers kind and ref too: kind | ref << 8. Kind 0 gets a seed with which zeros are not a record."""
    kind = tag & 0xFF
    return kind | (tag >> 16) << 8 if kind else 0xFFFFFFFF
