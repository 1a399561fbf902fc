"""Decode journalled OTLP bodies to the values that the local store keeps.

Most of the cost of reading a span in Python is its attributes, and most attributes of a sync repeat. So spans and log
records are parsed with message types that have OTLP's field numbers but leave each attribute as bytes: what protobuf
allows by its wire format. The bytes are looked up in a table of JSON fragments. What is out of the ordinary (a status,
events, links, trace state) is parsed again with opentelemetry-proto's own types.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

LARGEST: Final = 2**63 - 1
"""SQLite's largest integer; OTLP's times reach further, and are cut off here."""
STATUS_ERROR: Final = 2
"""OTLP's status code of a span that failed."""


Plain = tuple[str, str, str, str, int, int, int, int, str, int, int]
"""A span without status, events, links and trace state: the first eleven fields of `Detailed`.

A bare tuple, because there are millions: sqlite3 takes a third longer over a NamedTuple.
"""


class Detailed(NamedTuple):
    """A span with more than most have. Empty strings stand for nothing."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    flags: int
    attributes: str
    resource: int
    scope: int
    status: int
    status_message: str
    events: str
    links: str
    trace_state: str

    @classmethod
    def from_plain(cls, span: Plain) -> Detailed:
        """The same span with nothing more to say."""
        return cls(*span, 0, "", "", "", "")


class Log(NamedTuple):
    """A log record."""

    trace_id: str
    span_id: str
    time_ns: int
    severity: int
    level: str
    logger: str
    event: str
    attributes: str
    resource: int
    sync_id: str
    """Empty where it has none."""


class _Memory(dict[bytes, str]):
    """The texts of bytes that come again and again, as long as they are short and not too many."""

    MOST = 4096
    LONGEST = 256

    def keep(self, encoded: bytes, text: str) -> str:
        if len(encoded) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[encoded] = text
        return text


class _Fragments(_Memory):
    """The JSON of each KeyValue message: ``"key":value``."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[bytes, str] = {}

    def __missing__(self, encoded: bytes) -> str:
        # Numbers, words and ids as short strings are put together by hand, which takes a fifth of the time.
        if 6 <= len(encoded) < 128:
            value = encoded[1] + 2
            text = encoded[value + 4 :]
            if encoded[value : value + 4] == _STRING_HEADS[len(text)] and text.isalnum():
                head = self._heads.get(encoded[:value]) or self._head(encoded[:value])
                if head:
                    return self.keep(encoded, f'{head}"{text.decode()}"')
        return self.keep(encoded, _fragment(encoded))

    def _head(self, field: bytes) -> str:
        """The JSON of a key, with its colon, from field 1 of a KeyValue; empty if that is not what it is."""
        if field[0] != 0x0A or len(self._heads) >= self.MOST:
            return ""
        try:
            head = to_json(field[2:].decode()) + ":"
        except UnicodeDecodeError:
            return ""
        return self._heads.setdefault(field, head)


class _Names(_Memory):
    """Names as text, whatever bytes they are."""

    def __missing__(self, encoded: bytes) -> str:
        return self.keep(encoded, encoded.decode("utf-8", "replace"))


class _Hex(_Memory):
    """Ids that many spans share in hexadecimal."""

    def __missing__(self, encoded: bytes) -> str:
        return self.keep(encoded, encoded.hex())


class Decoder:
    """Decodes bodies in the form in which the journal holds them (see `otelsync.journal.batch`).

    What cannot be decoded is left out and counted in `undecodable`.
    """

    def __init__(self) -> None:
        self.undecodable = 0
        self._fragments = _Fragments()
        self._names = _Names()
        self._hex = _Hex()

    def spans(self, bodies: Sequence[bytes], resource: int, scope: int) -> tuple[list[Plain], list[Detailed]]:
        """The spans in `bodies`, recorded by the resource and the scope with these numbers in the store."""
        plain: list[Plain] = []
        detailed: list[Detailed] = []
        fragment, names, hexadecimal = self._fragments.__getitem__, self._names, self._hex
        add = plain.append
        for body, span in self._parse(_Spans, bodies):
            if span.status or span.events or span.links or span.trace_state:
                detailed += self._detailed(body, resource, scope)
                continue
            start, end = span.start, span.end
            add(
                (
                    hexadecimal[span.trace_id],
                    span.span_id.hex(),
                    hexadecimal[span.parent_span_id],
                    names[span.name],
                    span.kind,
                    start if start <= LARGEST else LARGEST,
                    end if end <= LARGEST else LARGEST,
                    span.flags,
                    "{" + ",".join(map(fragment, span.attributes)) + "}",
                    resource,
                    scope,
                )
            )
        return plain, detailed

    def logs(self, bodies: Sequence[bytes], resource: int, logger: str) -> list[Log]:
        """The log records in `bodies`."""
        fragment = self._fragments.__getitem__
        records = []
        for _, record in self._parse(_Logs, bodies):
            attributes = "{" + ",".join(map(fragment, record.attributes)) + "}"
            records.append(
                Log(
                    record.trace_id.hex(),
                    record.span_id.hex(),
                    min(record.time or record.observed, LARGEST),
                    record.severity_number,
                    record.severity_text.decode("utf-8", "replace"),
                    logger,
                    _text(record.body),
                    attributes,
                    resource,
                    # Quotation marks inside a value are escaped, so this cannot be found in one.
                    attributes.partition('"sync.id":"')[2].partition('"')[0],
                )
            )
        return records

    def _detailed(self, body: bytes, resource: int, scope: int) -> Iterator[Detailed]:
        try:
            spans = ScopeSpans.FromString(body).spans
        except DecodeError:  # text that is not UTF-8, which only the stricter types mind
            self.undecodable += 1
            return
        for span in spans:
            yield Detailed(
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.name,
                span.kind,
                min(span.start_time_unix_nano, LARGEST),
                min(span.end_time_unix_nano, LARGEST),
                span.flags,
                to_json({pair.key: value_of(pair.value) for pair in span.attributes}),
                resource,
                scope,
                span.status.code,
                span.status.message,
                _events(span),
                _links(span),
                span.trace_state,
            )

    def _parse(self, kind: Any, bodies: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        """Each body with its record: all in one go, or one by one where one of them is not what it should be."""
        try:
            records = kind.FromString(b"".join(bodies)).records
        except DecodeError:
            records = ()
        if len(records) == len(bodies):
            return zip(bodies, records, strict=True)
        return self._parse_each(kind, bodies)

    def _parse_each(self, kind: Any, bodies: Sequence[bytes]) -> Iterator[tuple[bytes, Any]]:
        for body in bodies:
            try:
                (record,) = kind.FromString(body).records
            except (DecodeError, ValueError):
                self.undecodable += 1
            else:
                yield body, record


class LeanSpan(Protocol):
    """What is quickly read of a span; what is inside its attributes, events, links and status stays bytes."""

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
    """What is quickly read of a log record."""

    trace_id: bytes
    span_id: bytes
    severity_number: int
    attributes: Sequence[bytes]
    flags: int


def lean_spans(bodies: Sequence[bytes]) -> list[LeanSpan | None]:
    """The spans in `bodies`; None for one that cannot be read."""
    return _lean(_Spans, bodies)


def lean_logs(bodies: Sequence[bytes]) -> list[LeanLog | None]:
    """The log records in `bodies`; None for one that cannot be read."""
    return _lean(_Logs, bodies)


def _lean(kind: Any, bodies: Sequence[bytes]) -> list[Any]:
    try:
        records = kind.FromString(b"".join(bodies)).records
    except DecodeError:
        records = ()
    return list(records) if len(records) == len(bodies) else [_only(kind, body) for body in bodies]


def _only(kind: Any, body: bytes) -> Any:
    try:
        (record,) = kind.FromString(body).records
    except (DecodeError, ValueError):
        return None
    return record


def resource_attributes(body: bytes) -> dict[str, object]:
    """The attributes of a resource (``ResourceSpans`` field 1); none where it was lost."""
    try:
        resource: Resource = ResourceSpans.FromString(body).resource
    except DecodeError:
        return {}
    return {pair.key: value_of(pair.value) for pair in resource.attributes}


def scope_name(body: bytes) -> tuple[str, str]:
    """Name and version of an instrumentation scope (``ScopeSpans`` field 1); empty where it was lost."""
    try:
        scope = ScopeLogs.FromString(body).scope
    except DecodeError:
        return "", ""
    return scope.name, scope.version


def value_of(value: AnyValue) -> object:
    """An attribute's value as JSON can hold it: bytes as base64, NaN and infinities as strings, as in OTLP/JSON."""
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


def to_json(value: object) -> str:
    """Compact JSON."""
    return orjson.dumps(value).decode()


def _fragment(encoded: bytes) -> str:
    try:
        pair = KeyValue.FromString(encoded)
    except DecodeError:
        return to_json({"otelsync.undecodable": base64.b64encode(encoded).decode()})[1:-1]
    return to_json({pair.key: value_of(pair.value)})[1:-1]


_STRING_HEADS: Final = [bytes((0x12, n + 2, 0x0A, n)) for n in range(126)] + [b"?"] * 2
"""What goes before a string of n bytes in field 2 of a KeyValue."""


def _text(body: bytes) -> str:
    """A log record's body: the event's name, or JSON if it is not a string."""
    try:
        value = value_of(AnyValue.FromString(body))
    except DecodeError:
        return body.decode("utf-8", "replace")
    return value if isinstance(value, str) else "" if value is None else to_json(value)


def _events(span: Span) -> str:
    events = [
        {
            "timeUnixNano": str(event.time_unix_nano),
            "name": event.name,
            "attributes": {pair.key: value_of(pair.value) for pair in event.attributes},
        }
        for event in span.events
    ]
    return to_json(events) if events else ""


def _links(span: Span) -> str:
    links = [
        {
            "traceId": link.trace_id.hex(),
            "spanId": link.span_id.hex(),
            "traceState": link.trace_state,
            "attributes": {pair.key: value_of(pair.value) for pair in link.attributes},
        }
        for link in span.links
    ]
    return to_json(links) if links else ""


def _lean_types() -> tuple[type[Message], type[Message]]:
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
    file = descriptor_pb2.FileDescriptorProto(name="otelsync/lean.proto", package="otelsync.lean", syntax="proto3")
    for name, fields in (("Span", span), ("Log", log)):
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


_Spans, _Logs = _lean_types()
