"""The spans of a made-up sync, byte for byte as the recorder journals them, at times of the test's choosing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journal_files import JournalFile, resource, scope
from journal_files import field as encoded
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

from otelsync.journal.batch import Batch, Group
from otelsync.journal.format import SPAN, SPAN_END, SPAN_START

TRACE = bytes.fromhex("765151e9000000000000000000000001")
MS = 1_000_000
NOON = 1_754_136_000_000_000_000
SERIES = "4194305-1-0123abcd"


def body(
    number: int,
    name: str,
    parent: int = 0,
    *,
    start: float = 0,
    took: float | None = 10,
    failed: bool = False,
    kind: Span.SpanKind.ValueType = Span.SPAN_KIND_INTERNAL,
    flags: int = 0,
    trace: bytes = TRACE,
    **attributes: str,
) -> bytes:
    """A span as the journal holds it; `start` and `took` in milliseconds, None where it has not ended."""
    head = encoded(0x0A, trace) + (encoded(0x22, parent.to_bytes(8, "big")) if parent else b"")
    rest = Span(name=name, kind=kind, flags=flags, start_time_unix_nano=NOON + int(start * MS))
    if took is not None:
        rest.end_time_unix_nano = rest.start_time_unix_nano + int(took * MS)
    for key, value in attributes.items():
        rest.attributes.append(KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=value)))
    if failed:
        rest.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="boom"))
    return encoded(0x12, head + encoded(0x12, number.to_bytes(8, "big")) + rest.SerializeToString())


@dataclass
class Sync:
    """The records of one process, in their order."""

    records: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Each with its scope and its kind: started, spans (a finished one), ended (one whose beginning is there too)."""
    number: int = 0
    clock: float = 0

    def begin(self, name: str, parent: int = 0, **options: Any) -> int:
        """A stage begins; returns its number."""
        self.number += 1
        self.clock += 1
        start = body(self.number, name, parent, start=self.clock, took=None, **options)
        self.records.append(("otelsync", "started", start))
        return self.number

    def end(self, number: int, name: str, parent: int = 0, **options: Any) -> None:
        """A stage ends."""
        self.clock += 1
        took = self.clock - number
        span = body(number, name, parent, start=number, took=took, **options)
        self.records.append(("otelsync", "ended", span))

    def span(
        self, name: str, parent: int = 0, *, took: float = 1, own: int = 0, scope: str = "otelsync", **options: Any
    ) -> int:
        """A span that does not say that it begins has ended; returns its number."""
        self.number += not own
        own = own or self.number
        self.clock += 1
        self.records.append((scope, "spans", body(own, name, parent, start=self.clock - took, took=took, **options)))
        return own

    def reserve(self) -> int:
        """A number for a span to come."""
        self.number += 1
        return self.number

    def journal(self, directory: Path, **options: Any) -> JournalFile:
        """The records as a journal file, by default of a process that is gone."""
        file = JournalFile(directory, **{"alive": False, **options})
        numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name, _, _ in self.records), 1)}
        for name, number in numbers.items():
            file.define(number, resource(), number, scope(name))
        for name, kind, content in self.records:
            file.add({"started": SPAN_START, "ended": SPAN_END, "spans": SPAN}[kind], numbers[name], content)
        return file.write()

    def batches(self, cuts: Iterable[int] = ()) -> Iterator[Batch]:
        """The records as a reader gives them out, cut into batches before the records with these numbers."""
        at = 0
        for cut in [*sorted({cut for cut in cuts if 0 < cut < len(self.records)}), len(self.records)]:
            yield batch(self.records[at:cut], at, cut)
            at = cut


def batch(records: Iterable[tuple[str, str, bytes]], start: int = 0, end: int = 1) -> Batch:
    """Records as a reader gives them out: those of one scope together."""
    groups: dict[str, Group] = {}
    for name, kind, content in records:
        group = groups.setdefault(name, Group(resource(), scope(name)))
        if kind == "ended":
            group.spans.append(content)
            group.ended.append(content)
        else:
            getattr(group, kind).append(content)
    return Batch(f"{SERIES}-000000.journal", start, end, list(groups.values()))


def read(batch: Batch) -> list[Span]:
    """The spans of a batch."""
    return [span for group in batch.groups for content in group.spans for span in ScopeSpans.FromString(content).spans]


def number_of(span: Span) -> int:
    """The number of a span."""
    return int.from_bytes(span.span_id, "big")


def attributes_of(span: Span) -> dict[str, object]:
    """Its attributes; that a key comes twice is an error."""
    found: dict[str, object] = {}
    for pair in span.attributes:
        assert pair.key not in found
        found[pair.key] = getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
    return found
