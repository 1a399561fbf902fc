"""Decode OTLP bytes: the one place that knows how spans, log records, resources and scopes lie in them.

Most of the cost of reading a span in Python is its attributes. So spans and log records are parsed with message types
that have OTLP's field numbers but leave each attribute as bytes: what protobuf allows by its wire format.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

if TYPE_CHECKING:
    from otelsync.journal.batch import Group


def untagged(body: bytes) -> bytes:
    """Return the message in a length-delimited field with a tag of one byte."""
    at = 1
    while at < min(len(body), 11) and body[at] & 0x80:
        at += 1
    return body[at + 1 :]


def span_id(body: bytes) -> str | None:
    """Return the span id in hexadecimal of a span as the journal holds it; None where there is none."""
    message = untagged(body)
    # The writer begins every span with trace id, parent (if any) and span id.
    if message[:2] == b"\x0a\x10":
        at = 28 if message[18:20] == b"\x22\x08" else 18
        if message[at : at + 2] == b"\x12\x08" and len(message) >= at + 10:
            return message[at + 2 : at + 10].hex()
    return None


class LeanSpan(Protocol):
    """A span as it is quickly read; what is inside its attributes, events, links and status stays bytes."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: bytes
    kind: int
    start: int
    """Unix nanoseconds, as is `end`."""
    end: int
    attributes: Sequence[bytes]
    status: bytes
    flags: int


class LeanLog(Protocol):
    """A log record as it is quickly read."""

    trace_id: bytes
    span_id: bytes
    severity_number: int
    attributes: Sequence[bytes]
    flags: int
    event_name: bytes


def lean_spans(bodies: Sequence[bytes]) -> list[LeanSpan | None]:
    """Return the spans in `bodies`; None for one that cannot be read."""
    return [span for _, span in parsed(LeanSpans, bodies)]


def lean_logs(bodies: Sequence[bytes]) -> list[LeanLog | None]:
    """Return the log records in `bodies`; None for one that cannot be read."""
    return [log for _, log in parsed(LeanLogs, bodies)]


def parsed(kind: Any, bodies: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
    """Pair each body with its record of `kind`, `LeanSpans` or `LeanLogs`; with None where it cannot be read.

    All are read in one go, or one by one where one of them is not what it should be.
    """
    try:
        records = kind.FromString(b"".join(bodies)).records
    except DecodeError:
        records = ()
    if len(records) == len(bodies):
        return zip(bodies, records, strict=True)
    return ((body, _only(kind, body)) for body in bodies)


def latest(group: Group) -> int:
    """Return the latest time in a group, Unix nanoseconds; 0 if there is none.

    Records are appended as they happen, so the last ones of each kind tell.
    """
    times = [0]
    for span in lean_spans([*group.spans[-1:], *group.started[-1:]]):
        times += (span.start, span.end) if span else ()
    for _, log in parsed(LeanLogs, group.logs[-1:]):
        times += (log.time, log.observed) if log else ()
    return max(times)


def _only(kind: Any, body: bytes) -> Any:
    try:
        (record,) = kind.FromString(body).records
    except (DecodeError, ValueError):
        return None
    return record


def resource_attributes(body: bytes) -> dict[str, object]:
    """Return the attributes of a resource (``ResourceSpans`` field 1); none where it was lost."""
    try:
        resource: Resource = ResourceSpans.FromString(body).resource
    except DecodeError:
        return {}
    return values_of(resource.attributes)


def scope_name(body: bytes) -> tuple[str, str]:
    """Return name and version of an instrumentation scope (``ScopeSpans`` field 1); empty where it was lost."""
    try:
        scope = ScopeLogs.FromString(body).scope
    except DecodeError:
        return "", ""
    return scope.name, scope.version


def values_of(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Return attributes as JSON can hold them; see `value_of`."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> object:
    """Return a value as JSON can hold it: bytes as base64, NaN and infinities as strings, as in OTLP/JSON."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    if kind == "array_value":
        return [value_of(item) for item in held.values]
    if kind == "kvlist_value":
        return values_of(held.values)
    if kind == "bytes_value":
        return base64.b64encode(held).decode()
    if kind == "double_value" and not math.isfinite(held):
        return "NaN" if math.isnan(held) else "Infinity" if held > 0 else "-Infinity"
    return held


_FIELD = descriptor_pb2.FieldDescriptorProto
_BYTES, _NUMBER, _FIXED32, _FIXED64 = _FIELD.TYPE_BYTES, _FIELD.TYPE_INT32, _FIELD.TYPE_FIXED32, _FIELD.TYPE_FIXED64
# Source of the fields' numbers: opentelemetry-proto 1.x, trace/v1/trace.proto and logs/v1/logs.proto.
_SPAN = {
    "trace_id": (1, _BYTES),
    "span_id": (2, _BYTES),
    "trace_state": (3, _BYTES),
    "parent_span_id": (4, _BYTES),
    "name": (5, _BYTES),
    "kind": (6, _NUMBER),
    "start": (7, _FIXED64),
    "end": (8, _FIXED64),
    "attributes": (9, _BYTES),
    "events": (11, _BYTES),  # repeated there, singular here: only whether there is one is asked
    "links": (13, _BYTES),
    "status": (15, _BYTES),
    "flags": (16, _FIXED32),
}
_LOG = {
    "time": (1, _FIXED64),
    "severity_number": (2, _NUMBER),
    "severity_text": (3, _BYTES),
    "body": (5, _BYTES),
    "attributes": (6, _BYTES),
    "flags": (8, _FIXED32),
    "trace_id": (9, _BYTES),
    "span_id": (10, _BYTES),
    "observed": (11, _FIXED64),
    "event_name": (12, _BYTES),
}


def _holder_of(name: str, fields: Mapping[str, tuple[int, Any]]) -> Any:
    """Return the type of a message with records in field 2, as ScopeSpans and ScopeLogs have them.

    What is inside a record's fields stays bytes.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"otelsync/{name}.proto", package="otelsync", syntax="proto3")
    record = file.message_type.add(name=name)
    for key, (number, kind) in fields.items():
        label = _FIELD.LABEL_REPEATED if key == "attributes" else _FIELD.LABEL_OPTIONAL
        record.field.add(name=key, number=number, type=kind, label=label)
    many, kind = _FIELD.LABEL_REPEATED, _FIELD.TYPE_MESSAGE
    holder = file.message_type.add(name=f"{name}s")
    holder.field.add(name="records", number=2, type=kind, type_name=f".otelsync.{name}", label=many)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"otelsync.{name}s"))


LeanSpans, LeanLogs = _holder_of("LeanSpan", _SPAN), _holder_of("LeanLog", _LOG)
