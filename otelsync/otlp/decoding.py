"""Decode OTLP bytes: the one place that knows how spans, log records, resources and scopes lie in them.

Most of the cost of reading a span in Python is its attributes. So spans and log records are parsed with message types
that have OTLP's field numbers but leave each attribute as bytes: what protobuf allows by its wire format.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans


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


def lean_spans(bodies: Sequence[bytes]) -> list[LeanSpan | None]:
    """Return the spans in `bodies`; None for one that cannot be read."""
    return _lean(LeanSpans, bodies)


def lean_logs(bodies: Sequence[bytes]) -> list[LeanLog | None]:
    """Return the log records in `bodies`; None for one that cannot be read."""
    return _lean(LeanLogs, bodies)


def _lean(kind: Any, bodies: Sequence[bytes]) -> list[Any]:
    return [record for _, record in parsed(kind, bodies)]


def parsed(kind: Any, bodies: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
    """Pair each body with its record, or with None where it cannot be read.

    All are read in one go, or one by one where one of them is not what it should be.

    Args:
        kind: `LeanSpans` or `LeanLogs`.
        bodies: Records as the journal holds them.
    """
    try:
        records = kind.FromString(b"".join(bodies)).records
    except DecodeError:
        records = ()
    if len(records) == len(bodies):
        return zip(bodies, records, strict=True)
    return ((body, _only(kind, body)) for body in bodies)


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
    return {pair.key: value_of(pair.value) for pair in resource.attributes}


def scope_name(body: bytes) -> tuple[str, str]:
    """Return name and version of an instrumentation scope (``ScopeSpans`` field 1); empty where it was lost."""
    try:
        scope = ScopeLogs.FromString(body).scope
    except DecodeError:
        return "", ""
    return scope.name, scope.version


def value_of(value: AnyValue) -> object:
    """Return a value as JSON can hold it: bytes as base64, NaN and infinities as strings, as in OTLP/JSON."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    if kind == "array_value":
        return [value_of(item) for item in held.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in held.values}
    if kind == "bytes_value":
        return base64.b64encode(held).decode()
    if kind == "double_value" and not math.isfinite(held):
        return "NaN" if math.isnan(held) else "Infinity" if held > 0 else "-Infinity"
    return held


def _lean_types() -> tuple[Any, Any]:
    """Messages with the field numbers of ScopeSpans and ScopeLogs that leave everything inside as bytes.

    Source: opentelemetry-proto 1.x, trace/v1/trace.proto and logs/v1/logs.proto.
    """
    field = descriptor_pb2.FieldDescriptorProto
    text, number, fixed32, fixed64 = field.TYPE_BYTES, field.TYPE_INT32, field.TYPE_FIXED32, field.TYPE_FIXED64
    span = {
        "trace_id": (1, text),
        "span_id": (2, text),
        "trace_state": (3, text),
        "parent_span_id": (4, text),
        "name": (5, text),
        "kind": (6, number),
        "start": (7, fixed64),
        "end": (8, fixed64),
        "attributes": (9, text),
        "events": (11, text),  # repeated there, singular here: only whether there is one is asked
        "links": (13, text),
        "status": (15, text),
        "flags": (16, fixed32),
    }
    log = {
        "time": (1, fixed64),
        "severity_number": (2, number),
        "severity_text": (3, text),
        "body": (5, text),
        "attributes": (6, text),
        "flags": (8, fixed32),
        "trace_id": (9, text),
        "span_id": (10, text),
        "observed": (11, fixed64),
    }
    return _messages(Span=span, Log=log)


def _messages(**kinds: Mapping[str, tuple[int, Any]]) -> tuple[Any, Any]:
    """Make each kind of message, and return the types that hold many of them in field 2."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="otelsync/lean.proto", package="otelsync.lean", syntax="proto3")
    for name, fields in kinds.items():
        message = file.message_type.add(name=name)
        for key, (tag, kind) in fields.items():
            label = field.LABEL_REPEATED if key == "attributes" else field.LABEL_OPTIONAL
            message.field.add(name=key, number=tag, type=kind, label=label)
        group = file.message_type.add(name=f"{name}s")
        kind = field.TYPE_MESSAGE
        group.field.add(
            name="records", number=2, type=kind, type_name=f".otelsync.lean.{name}", label=field.LABEL_REPEATED
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    spans, logs = (pool.FindMessageTypeByName(f"otelsync.lean.{name}") for name in ("Spans", "Logs"))
    return message_factory.GetMessageClass(spans), message_factory.GetMessageClass(logs)


LeanSpans, LeanLogs = _lean_types()
