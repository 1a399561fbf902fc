"""Journal files for tests: written by hand, byte for byte, so that they can be damaged in any way."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelsync.journal.format import LOG, RESOURCE, SCOPE, SPAN, SPAN_END, SPAN_RELEASED, SPAN_START, SPAN_VERDICT
from otelsync.journal.process_identity import boot_id, start_ticks

TRACE_ID = bytes(range(16))
BEGIN = 1_700_000_000_000_000_000
"""Unix nanoseconds: when the spans of tests begin."""
DEAD_PID = 4_194_305
"""Above the largest process id of Linux, so no such process can live."""


def field(tag: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, prefix = len(content), bytearray([tag])
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + content


def resource(service: str = "sync") -> bytes:
    """A resource, as the journal holds it."""
    attributes = [KeyValue(key="service.name", value=AnyValue(string_value=service))]
    return field(0x0A, Resource(attributes=attributes).SerializeToString())


def scope(name: str = "otelsync") -> bytes:
    """A scope, as the journal holds it."""
    return field(0x0A, InstrumentationScope(name=name, version="1").SerializeToString())


def span(number: int, *, name: str = "sync.pr", parent: int = 0, ended: bool = True, padding: int = 0) -> bytes:
    """Span `number`, which takes one microsecond, as the journal holds it."""
    head = field(0x0A, TRACE_ID)
    if parent:
        head += field(0x22, parent.to_bytes(8, "big"))
    head += field(0x12, number.to_bytes(8, "big"))
    rest = Span(name=name, start_time_unix_nano=BEGIN + number, kind=Span.SPAN_KIND_INTERNAL)
    if ended:
        rest.end_time_unix_nano = BEGIN + number + 1000
    if padding:
        rest.attributes.append(KeyValue(key="padding", value=AnyValue(string_value="x" * padding)))
    return field(0x12, head + rest.SerializeToString())


def log(number: int, *, event: str = "sync.started") -> bytes:
    """Log record `number`, as the journal holds it."""
    record = LogRecord(time_unix_nano=BEGIN + number, body=AnyValue(string_value=event), severity_text="INFO")
    record.attributes.append(KeyValue(key="number", value=AnyValue(int_value=number)))
    return field(0x12, record.SerializeToString())


def record(kind: int, ref: int, body: bytes, *, flags: int = 0) -> bytes:
    """One record with its frame."""
    return struct.pack("<IIBBH", len(body), zlib.crc32(body, kind | ref << 8), kind, flags, ref) + body


class JournalFile:
    """A journal file, put together record by record.

    Args:
        directory: Where it goes.
        alive: Whether its process is this one (alive), or one that is gone.
    """

    def __init__(
        self, directory: Path, *, alive: bool = True, sequence: int = 0, nonce: str = "0123abcd", state: int = 0
    ) -> None:
        self.pid = os.getpid() if alive else DEAD_PID
        self.ticks = start_ticks(self.pid) if alive else 1
        self.series = f"{self.pid}-{self.ticks}-{nonce}"
        self.path = directory / f"{self.series}-{sequence:06d}.journal"
        self.sequence = sequence
        self.state = state
        self.magic = b"OTELSYNC"
        self.version = 1
        self.boot_id = boot_id()
        self.dropped = [0] * 16
        self.records = bytearray()
        self.committed: int | None = None
        self.define(0, resource(), 0, scope())

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def end(self) -> int:
        """The offset behind the last record."""
        return 512 + len(self.records)

    def define(self, resource_number: int, resource: bytes, scope_number: int, scope: bytes) -> None:
        """Define a resource and a scope of it."""
        self.add(RESOURCE, resource_number, resource)
        self.add(SCOPE, scope_number, struct.pack("<H", resource_number) + scope)

    def add(self, kind: int, ref: int, body: bytes, *, flags: int = 0) -> int:
        """Append a record, and return its offset."""
        offset = self.end
        self.records += record(kind, ref, body, flags=flags)
        return offset

    def spans(self, count: int, *, first: int = 1, ref: int = 0, padding: int = 0) -> JournalFile:
        """Append finished spans, numbered from `first`."""
        for number in range(first, first + count):
            self.add(SPAN, ref, span(number, padding=padding))
        return self

    def logs(self, count: int, *, first: int = 1, ref: int = 0) -> JournalFile:
        """Append log records, numbered from `first`."""
        for number in range(first, first + count):
            self.add(LOG, ref, log(number))
        return self

    def begin(self, number: int, *, name: str = "sync.repo", parent: int = 0) -> JournalFile:
        """Append the start of span `number`."""
        self.add(SPAN_START, 0, span(number, name=name, parent=parent, ended=False))
        return self

    def finish(self, number: int, *, name: str = "sync.repo", parent: int = 0) -> JournalFile:
        """Append the end of span `number`."""
        self.add(SPAN_END, 0, span(number, name=name, parent=parent))
        return self

    def judge(self, number: int, outcome: str = "failure", *, trace_id: bytes = TRACE_ID) -> JournalFile:
        """Append a verdict on span `number`, which ended 5,000 ns after it began."""
        end = Span(end_time_unix_nano=BEGIN + number + 5000)
        end.attributes.append(KeyValue(key="sync.outcome", value=AnyValue(string_value=outcome)))
        ids = field(0x0A, trace_id) + field(0x12, number.to_bytes(8, "big"))
        self.add(SPAN_VERDICT, 0, field(0x12, ids + end.SerializeToString()))
        return self

    def release(self, number: int) -> JournalFile:
        """Append that span `number` is ended by another process."""
        self.add(SPAN_RELEASED, 0, field(0x12, field(0x0A, TRACE_ID) + field(0x12, number.to_bytes(8, "big"))))
        return self

    def header(self) -> bytes:
        """The header, as it stands now."""
        raw = bytearray(512)
        struct.pack_into(
            "<8sIIIIQ16sQ", raw, 0, self.magic, self.version, 512, self.pid, self.sequence, self.ticks,
            self.boot_id, BEGIN,
        )  # fmt: skip
        committed = self.end if self.committed is None else self.committed
        struct.pack_into("<QQ", raw, 64, committed, self.state)
        struct.pack_into("<16Q", raw, 128, *self.dropped)
        return bytes(raw)

    def write(self, *, size: int = 0) -> JournalFile:
        """Write the file as it stands now, padded with zeros to `size` bytes."""
        content = self.header() + self.records
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.write(content.ljust(size, b"\0"))
        return self

    def change(self, offset: int, content: bytes) -> None:
        """Damage the written file."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(content)
