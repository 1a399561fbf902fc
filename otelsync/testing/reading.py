"""Spans and log records as a test sees them, read back from journals, a local store, or a home with both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.trace.v1 import trace_pb2 as wire

from otelsync.errors import RunNotFoundError
from otelsync.journal.batch import Batch
from otelsync.journal.header import JournalError
from otelsync.journal.names import list_segments
from otelsync.journal.reader import JournalReader
from otelsync.journal.spool import path_of
from otelsync.otlp.decoding import span_id
from otelsync.shipping.open_accounts import OpenAccounts
from otelsync.store.runs import open_store
from otelsync.vocabulary import SERVICE_NAME, SYNC_OUTCOME

STATUSES: Final = {0: "", 1: "OK", 2: "ERROR"}

_SPANS: Final = (
    "SELECT spans.name AS name, trace_id, span_id, parent_span_id AS parent_id, start_ns AS start, end_ns AS end, kind,"
    " status, coalesce(status_message, '') AS message, spans.attributes AS attributes,"
    " coalesce(events, '[]') AS events, coalesce(links, '[]') AS links, coalesce(scopes.name, '') AS scope,"
    " coalesce(resources.attributes, '{}') AS resource, coalesce(trace_state, '') AS trace_state, flags FROM spans"
    " LEFT JOIN scopes ON scopes.id = scope LEFT JOIN resources ON resources.id = resource ORDER BY spans.rowid"
)
_LOGS: Final = (
    "SELECT level, logger, event, trace_id, span_id, time_ns AS time, logs.attributes AS attributes,"
    " coalesce(resources.attributes, '{}') AS resource FROM logs"
    " LEFT JOIN resources ON resources.id = resource ORDER BY time_ns, logs.id"
)
_JSON: Final = frozenset(("attributes", "events", "links", "resource"))


class Kind(IntEnum):
    """The kinds of spans, by their numbers in OTLP (opentelemetry-proto, trace/v1/trace.proto)."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True)
class Span:
    """A span as it was recorded."""

    name: str
    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits."""
    parent_id: str
    """Empty for a root."""
    start: int
    """Unix nanoseconds, as is `end`."""
    end: int | None = None
    """None: it has begun, and has not ended."""
    kind: Kind = Kind.INTERNAL
    status: str = ""
    """Empty, ``OK`` or ``ERROR``."""
    message: str = ""
    """The status's message."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Name and attributes of each."""
    links: Sequence[str] = ()
    """The ids of the spans that it points to."""
    scope: str = ""
    """The library that recorded it."""
    resource: Mapping[str, Any] = field(default_factory=dict)
    trace_state: str = ""
    flags: int = 0

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return self.end is not None

    @property
    def failed(self) -> bool:
        """True if its status is an error."""
        return self.status == "ERROR"

    @property
    def outcome(self) -> str:
        """Its ``sync.outcome``; empty if it has none."""
        return str(self.attributes.get(SYNC_OUTCOME, ""))

    @property
    def service(self) -> str:
        """The service that recorded it."""
        return str(self.resource.get(SERVICE_NAME, ""))


@dataclass(frozen=True)
class Log:
    """A log record as it was recorded."""

    level: str
    """Such as ``INFO``."""
    logger: str
    event: str
    trace_id: str
    """Empty outside any span, as is `span_id`."""
    span_id: str
    time: int
    """Unix nanoseconds."""
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


def spans_in(home: Path) -> list[Span]:
    """All spans of a home (``OTELSYNC_HOME``), by their start: in the journals of every service, and in the store.

    Raises:
        JournalError: A journal is damaged.
        StoreError: The store cannot be read.
    """
    # The journals first: what a shipper takes away from them meanwhile is in the store by then.
    found: dict[tuple[str, str], Span] = {}
    spans = [span for directory in _journals(home) for span in spans_in_journal(directory)]
    for span in spans + spans_in_store(home / "store.db"):
        known = found.get((span.trace_id, span.span_id))
        if known is None or not known.ended:
            found[span.trace_id, span.span_id] = span
    return sorted(found.values(), key=lambda span: span.start)


def logs_in(home: Path) -> list[Log]:
    """All log records of a home, by time. Raises as :func:`spans_in` does."""
    logs = [log for directory in _journals(home) for log in _logs_in_journal(directory)]
    logs += [Log(**row) for row in _rows(home / "store.db", _LOGS)]
    found = {(log.time, log.trace_id, log.span_id, log.logger, log.event): log for log in logs}
    return sorted(found.values(), key=lambda log: log.time)


def spans_in_journal(directory: Path) -> list[Span]:
    """The spans of all journals in a directory, as they ended; then those that have begun and not ended.

    Raises:
        JournalError: A journal is damaged.
    """
    ended: list[Span] = []
    begun: list[Span] = []
    pending: list[Span] = []
    accounts = OpenAccounts()
    read = list(batches(directory))
    accounts.take(read)
    held = {span_id(body) or "": body for batch in read for group in batch.groups for body in group.pending}
    ends = {key: accounts.complete(held[key], is_pending=True) for key in accounts.by_end(held)}
    for group in (group for batch in read for group in batch.groups):
        resource, scope = resource_of(group.resource), scope_of(group.scope)
        completed = [ends[span_id(body) or ""] for body in group.pending]
        for bodies, into in ((group.spans, ended), (group.started, begun), (completed, pending)):
            message = wire.ScopeSpans.FromString(b"".join(bodies))
            into += [span_of(span, scope, resource) for span in message.spans]
    ids = {span.span_id for span in ended}
    if len(ids) != len(ended):
        raise JournalError(f"a span in {directory} was recorded twice")
    ended += [span for span in pending if span.span_id not in ids]
    ids = {span.span_id for span in ended}
    return ended + [span for span in begun if span.span_id not in ids]


def _logs_in_journal(directory: Path) -> Iterator[Log]:
    for batch in batches(directory):
        for group in batch.groups:
            scope, resource = scope_of(group.scope), resource_of(group.resource)
            for record in ScopeLogs.FromString(b"".join(group.logs)).log_records:
                yield log_of(record, scope, resource)


def spans_in_store(path: Path) -> list[Span]:
    """The spans of a local store, as they came in; none if there is no store yet.

    Raises:
        StoreError: It cannot be read.
    """
    return [
        Span(
            **row
            | {
                "kind": Kind(row["kind"]),
                "status": STATUSES[row["status"]],
                "events": [(event["name"], event.get("attributes", {})) for event in row["events"]],
                "links": [link["spanId"] for link in row["links"]],
            }
        )
        for row in _rows(path, _SPANS)
    ]


def _rows(path: Path, query: str) -> list[dict[str, Any]]:
    """The rows of a query by column, those in JSON as what they say."""
    try:
        with open_store(path) as store:
            cursor = store.execute(query)
            names = [name for name, *_ in cursor.description]
            return [
                {name: json.loads(value) if name in _JSON else value for name, value in zip(names, row, strict=True)}
                for row in cursor
            ]
    except RunNotFoundError:
        return []


def batches(directory: Path) -> Iterator[Batch]:
    """Everything that the journals in `directory` hold. One that is taken away meanwhile was shipped, and is left out.

    Raises:
        JournalError: Something in them is damaged.
    """
    for segments in list_segments(directory).values():
        for segment in segments:
            try:
                reader = JournalReader(path_of(directory, segment.name))
            except FileNotFoundError:
                continue
            with closing(reader):
                position = 0
                while batch := reader.read(position):
                    if batch.corrupted_bytes:
                        raise JournalError(f"{segment.name} is damaged at {batch.start}")
                    yield batch
                    position = batch.end


def plain(value: AnyValue) -> Any:
    """Return the plain value of an AnyValue."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return fields(value.kvlist_value.values)
    return getattr(value, kind)


def fields(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as a dictionary.

    Raises:
        JournalError: A key comes twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        if pair.key in found:
            raise JournalError(f"the attribute {pair.key} stands there twice")
        found[pair.key] = plain(pair.value)
    return found


def log_of(record: LogRecord, scope: str, resource: Mapping[str, Any]) -> Log:
    """A log record of OTLP."""
    return Log(
        level=record.severity_text,
        logger=scope,
        event=record.event_name or record.body.string_value,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        time=record.time_unix_nano,
        attributes=fields(record.attributes),
        resource=resource,
    )


def resource_of(body: bytes) -> dict[str, Any]:
    """The attributes of a group's resource."""
    return fields(wire.ResourceSpans.FromString(body).resource.attributes)


def scope_of(body: bytes) -> str:
    """The name of a group's scope."""
    return wire.ScopeSpans.FromString(body).scope.name


def _journals(home: Path) -> list[Path]:
    return sorted((home / "journals").glob("*/"))


def span_of(span: wire.Span, scope: str, resource: Mapping[str, Any]) -> Span:
    """A span of OTLP."""
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano or None,
        kind=Kind(span.kind),
        status=STATUSES[span.status.code],
        message=span.status.message,
        attributes=fields(span.attributes),
        events=[(event.name, fields(event.attributes)) for event in span.events],
        links=[link.span_id.hex() for link in span.links],
        scope=scope,
        resource=resource,
        trace_state=span.trace_state,
        flags=span.flags,
    )
