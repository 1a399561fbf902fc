"""The journal's format: a header, then records with checksums, of which those before `committed` count.

One series of files per process, named ``{pid}-{start ticks}-{nonce}-{sequence}.journal``. All integers little-endian.
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
    9     SPAN_PENDING  a span that has ended, and of which other processes may know more: the shipper writes its
                        SPAN_END when it has read what they recorded
    ====  ============  ==================================================================================
"""

from __future__ import annotations

from struct import Struct
from typing import Final

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
SPAN_PENDING: Final = 9

OPEN: Final = 0
SEALED: Final = 1
CLOSED: Final = 2

DROP_REASONS: Final = ("journal_full", "disk", "too_large", "encode_error")
JOURNAL_FULL, DISK, TOO_LARGE, ENCODE_ERROR = range(4)

SUFFIX: Final = ".journal"
FIRST_SEGMENT: Final = 256 * 1024
LARGEST_SEGMENT: Final = 8 * 1024 * 1024
LARGEST_RECORD: Final = 4 * 1024 * 1024
