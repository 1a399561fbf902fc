"""Decode journalled OTLP bodies to the values that the local store keeps.

Most attributes of a sync repeat, so their bytes are looked up in a table of JSON fragments. What is out of the ordinary
(a status, events, links, trace state) is parsed again with opentelemetry-proto's own types.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from otelsync.otlp.decoding import LeanLogs, LeanSpans, parsed, value_of, values_of
from otelsync.store.schema import LARGEST
from otelsync.vocabulary import SYNC_ID

_SYNC_ID: Final = bytes((0x0A, len(SYNC_ID))) + SYNC_ID.encode()
"""Beginning of that attribute as it is encoded."""

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


@dataclass(slots=True)
class Records:
    """A batch, decoded."""

    plain: list[Plain] = field(default_factory=list)
    detailed: list[Detailed] = field(default_factory=list)
    started: list[Detailed] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)

    @property
    def traces(self) -> set[str]:
        """The ids of the traces that they are of."""
        finished = {span[0] for spans in (self.plain, self.detailed) for span in spans}
        return finished | {span.trace_id for span in self.started} | {log.trace_id for log in self.logs}


class _Memory(dict[bytes, str]):
    """The texts that `make` makes of bytes that come again and again; kept if they are short and not too many."""

    MOST = 4096
    LONGEST = 256

    def __init__(self, make: Callable[[bytes], str]) -> None:
        self._make = make

    def __missing__(self, encoded: bytes) -> str:
        return self.keep(encoded, self._make(encoded))

    def keep(self, encoded: bytes, text: str) -> str:
        if len(encoded) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[encoded] = text
        return text


class _Fragments(_Memory):
    """The JSON of each KeyValue message: ``"key":value``."""

    def __init__(self) -> None:
        super().__init__(_fragment)
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
        return super().__missing__(encoded)

    def _head(self, field: bytes) -> str:
        """The JSON of a key, with its colon, from field 1 of a KeyValue; empty if that is not what it is."""
        if field[0] != 0x0A or len(self._heads) >= self.MOST:
            return ""
        try:
            head = to_json(field[2:].decode()) + ":"
        except UnicodeDecodeError:
            return ""
        return self._heads.setdefault(field, head)


class Decoder:
    """Decodes bodies in the form in which the journal holds them (see `otelsync.journal.batch`).

    What cannot be decoded is left out and counted in `undecodable`.
    """

    def __init__(self) -> None:
        self.undecodable = 0
        self._fragments = _Fragments()
        self._names = _Memory(lambda name: name.decode("utf-8", "replace"))
        self._hex = _Memory(bytes.hex)

    def spans(self, bodies: Sequence[bytes], resource: int, scope: int) -> tuple[list[Plain], list[Detailed]]:
        """The spans in `bodies`, recorded by the resource and the scope with these numbers in the store."""
        plain: list[Plain] = []
        detailed: list[Detailed] = []
        fragment, names, hexadecimal = self._fragments.__getitem__, self._names, self._hex
        add = plain.append
        for body, span in parsed(LeanSpans, bodies):
            if span is None:
                self.undecodable += 1
                continue
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
        for _, record in parsed(LeanLogs, bodies):
            if record is None:
                self.undecodable += 1
                continue
            attributes = "{" + ",".join(map(fragment, record.attributes)) + "}"
            records.append(
                Log(
                    record.trace_id.hex(),
                    record.span_id.hex(),
                    min(record.time or record.observed, LARGEST),
                    record.severity_number,
                    record.severity_text.decode("utf-8", "replace"),
                    logger,
                    record.event_name.decode("utf-8", "replace") or _text(record.body),
                    attributes,
                    resource,
                    self._sync_id(record.attributes),
                )
            )
        return records

    def _sync_id(self, attributes: Iterable[bytes]) -> str:
        """Return the run that a record says it is of: an attribute of its own, and nothing inside of one."""
        for encoded in attributes:
            if encoded.startswith(_SYNC_ID):
                return self._fragments[encoded].partition(':"')[2].partition('"')[0]
        return ""

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
                to_json(values_of(span.attributes)),
                resource,
                scope,
                span.status.code,
                span.status.message,
                _events(span),
                _links(span),
                span.trace_state,
            )


def to_json(value: object) -> str:
    """Compact JSON."""
    return orjson.dumps(value).decode()


def _fragment(encoded: bytes) -> str:
    try:
        pair = KeyValue.FromString(encoded)
    except DecodeError:
        return to_json({"otelsync.undecodable": base64.b64encode(encoded).decode()})[1:-1]
    return to_json(values_of([pair]))[1:-1]


_STRING_HEADS: Final = [bytes((0x12, n + 2, 0x0A, n)) for n in range(126)] + [b"?"] * 2
"""Bytes before a string of n bytes in field 2 of a KeyValue."""


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
            "attributes": values_of(event.attributes),
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
            "attributes": values_of(link.attributes),
        }
        for link in span.links
    ]
    return to_json(links) if links else ""
