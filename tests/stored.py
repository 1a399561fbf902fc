"""Put spans and log records into a local store, through the sink and as real OTLP, with fixed ids and times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otelsync.journal.batch import Batch, Group
from otelsync.store.writing import StoreSink

TRACE = "765151e9" + "0" * 23 + "1"
SYNC_ID = "202508022027-SYNC-765151E9"
START = 1_754_166_420_000_000_000
"""2025-08-02 20:27:00 UTC"""
MS = 1_000_000

Value = str | int | float | bool


def span(
    name: str,
    own: int,
    parent: int = 0,
    start: float = 0,
    end: float | None = 1,
    *,
    error: str | None = None,
    trace: str = TRACE,
    sync: str | None = SYNC_ID,
    kind: int = 1,
    events: Sequence[Span.Event] = (),
    links: Sequence[Span.Link] = (),
    **attributes: Value,
) -> bytes:
    """A span as the journal holds it. Times in milliseconds after `START`; two underscores stand for a dot."""
    message = Span(
        trace_id=bytes.fromhex(trace),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        span_id=own.to_bytes(8, "big"),
        name=name,
        kind=Span.SpanKind.ValueType(kind),
        start_time_unix_nano=START + int(start * MS),
        end_time_unix_nano=0 if end is None else START + int(end * MS),
        attributes=pairs({**({"sync__id": sync} if sync else {}), **attributes}),
        status=None if error is None else Status(code=Status.STATUS_CODE_ERROR, message=error),
        events=events,
        links=links,
    )
    return ScopeSpans(spans=[message]).SerializeToString()


def log(
    event: str,
    own: int = 0,
    at: float = 0,
    *,
    level: str = "INFO",
    severity: int = 9,
    trace: str = TRACE,
    **attributes: Value,
) -> bytes:
    """A log record as the journal holds it, written inside the span with id `own`."""
    record = LogRecord(
        time_unix_nano=START + int(at * MS),
        severity_number=severity,  # type: ignore[arg-type]
        severity_text=level,
        body=AnyValue(string_value=event),
        trace_id=bytes.fromhex(trace),
        span_id=own.to_bytes(8, "big") if own else b"",
        attributes=pairs({"sync__id": SYNC_ID, **attributes}),
    )
    return ScopeLogs(log_records=[record]).SerializeToString()


def pairs(attributes: dict[str, Value]) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [KeyValue(key=key.replace("__", "."), value=_any(value)) for key, value in attributes.items()]


def group(
    *spans: bytes, started: Sequence[bytes] = (), logs: Sequence[bytes] = (), service: str = "github-sync"
) -> Group:
    """Records of one service, recorded by ``otelsync``."""
    resource = ResourceSpans(resource=Resource(attributes=pairs({"service__name": service})))
    scope = ScopeSpans(scope=InstrumentationScope(name="otelsync", version="0.1.0"))
    return Group(resource.SerializeToString(), scope.SerializeToString(), list(spans), list(started), list(logs))


def batch(
    *spans: bytes,
    started: Sequence[bytes] = (),
    logs: Sequence[bytes] = (),
    start: int = 0,
    end: int = 1,
    journal: str = "1-1-aaaaaaaa-000000.journal",
) -> Batch:
    """A batch of one group."""
    return Batch(journal, start, end, [group(*spans, started=started, logs=logs)])


def store(path: Path, *batches: Batch) -> Path:
    """A store that has taken these batches; each follows the one before it."""
    sink = StoreSink(path)
    for number, one in enumerate(batches):
        one.start, one.end = number, number + 1
        sink.deliver(one)
    sink.close()
    return path


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)
