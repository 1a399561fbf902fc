"""The header of a journal file, checked."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from otelsync.journal.format import (
    CLOSED,
    COMMITTED_AT,
    DROP_REASONS,
    DROPPED_AT,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    OPEN,
    SEALED,
    VERSION,
)
from otelsync.journal.names import SegmentName
from otelsync.journal.process_identity import Writer

MAX_SEGMENT: Final = 64 * 1024 * 1024
"""Bytes. The writer's segments end at 8 MiB; what lies beyond this in a file is not looked at."""
MOST_DROPPED: Final = 1 << 40
"""Nobody drops so many records in one file: a larger counter is damage, and their sums must stay within 64 bits."""

_PROGRESS: Final = struct.Struct("<QQ")
_DROPPED: Final = struct.Struct("<16Q")


class JournalError(Exception):
    """A file cannot be read as a journal."""


class UnknownVersionError(JournalError):
    """The file is a journal of another format version: it belongs to another release of otelsync."""


class JournalHeader(NamedTuple):
    """The fixed part at the beginning of a journal file, as it was when it was read."""

    writer: Writer
    sequence: int
    created: int
    """Unix nanoseconds."""
    committed: int
    """Offset in bytes of the end of the last complete record, never beyond the end of the file."""
    missing: int
    """Bytes that were committed and are not in the file, as far as that is known."""
    state: int
    dropped: dict[str, dict[str, int]]
    """Signal (span, log) to reason to how many records the writer dropped. Reasons without a drop are left out."""
    damaged: bool = False
    """The header cannot be read: `writer` is what the file's name says, and `committed` is the file's size."""

    @property
    def final(self) -> bool:
        """True if the writer said that it will write no more to this file."""
        return self.state in (SEALED, CLOSED)


def process_alive(header: JournalHeader) -> bool:
    """Return whether the process that writes the journal still runs. A zombie does not."""
    return header.writer.alive()


def parse_header(raw: bytes, size: int, segment: SegmentName) -> JournalHeader:
    """Read a header from its bytes; of a damaged one nothing is believed.

    Raises:
        UnknownVersionError: The file belongs to another release.
    """
    if len(raw) < HEADER_SIZE:  # cut off, and with it all that it has held
        return _damaged_header(size, segment)._replace(missing=HEADER_SIZE - len(raw))
    magic, version, header_size, pid, sequence, ticks, boot, created = HEADER.unpack_from(raw)
    committed, state = _PROGRESS.unpack_from(raw, COMMITTED_AT)
    if magic == MAGIC and version != VERSION:
        raise UnknownVersionError(f"format version {version}, this release reads version 1")
    if magic != MAGIC or header_size != HEADER_SIZE or committed < HEADER_SIZE:
        return _damaged_header(size, segment)
    return JournalHeader(
        writer=Writer(pid, ticks, boot),
        sequence=sequence,
        created=created,
        committed=min(committed, size),
        missing=max(0, min(committed, MAX_SEGMENT) - size),
        state=state,
        dropped=_dropped(_DROPPED.unpack_from(raw, DROPPED_AT)),
    )


def empty_header(segment: SegmentName) -> JournalHeader:
    """Return the header of a file that its process has made, and not begun: it may have been killed meanwhile."""
    return _damaged_header(HEADER_SIZE, segment)._replace(damaged=False)


def _damaged_header(size: int, segment: SegmentName) -> JournalHeader:
    writer = Writer(segment.pid, segment.start_ticks, bytes(16))
    return JournalHeader(writer, segment.sequence, 0, size, 0, OPEN, {"span": {}, "log": {}}, damaged=True)


def _dropped(counters: tuple[int, ...]) -> dict[str, dict[str, int]]:
    return {
        signal: {
            reason: counters[2 * index + offset]
            for index, reason in enumerate(DROP_REASONS)
            if 0 < counters[2 * index + offset] <= MOST_DROPPED
        }
        for offset, signal in enumerate(("span", "log"))
    }
