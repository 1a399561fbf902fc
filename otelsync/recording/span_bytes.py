"""Parts of a span as OTLP bytes: the trace's ids, status, events and links."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from otelsync.bounds import LONGEST_NAME, MOST_BESIDE
from otelsync.otlp.encoding import AttributeEncoder, field, text, varint
from otelsync.recording.clock import offset_now

END_TIME: Final = 0x41
"""Tag of ``end_time_unix_nano``, a fixed64."""
_pack_time: Final = Struct("<BQ").pack
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
LOCAL_FLAGS: Final = b"\x85\x01" + _HAS_IS_REMOTE.to_bytes(4, "little")
REMOTE_FLAGS: Final = b"\x85\x01" + (_HAS_IS_REMOTE | _IS_REMOTE).to_bytes(4, "little")
"""Field 16 of a Span, where the parent is not remote, and where it is."""


class Trace:
    """The common part of the spans of one trace.

    Args:
        trace_id: Its id.
        flags: Of its spans.
        state: Of its spans.
        offset: The clock of its spans, as nanoseconds that it is ahead of the monotonic one; by default it is set by
            the wall clock now.
    """

    __slots__ = ("flags", "head", "hex", "hex_bytes", "id", "log_head", "offset", "state", "tail")

    def __init__(self, trace_id: int, flags: TraceFlags, state: TraceState, offset: int | None = None) -> None:
        raw = trace_id.to_bytes(16, "big")
        self.id = trace_id
        self.hex = raw.hex()
        self.hex_bytes = self.hex.encode()
        self.head = b"\x0a\x10" + raw
        """Field 1 of a Span."""
        self.log_head = b"\x45" + int(flags).to_bytes(4, "little") + b"\x4a\x10" + raw + b"\x52\x08"
        """Fields 8 and 9 of a LogRecord, and how field 10 begins: flags, trace id, and the span id that follows."""
        self.flags = flags
        self.state = state
        self.offset = offset_now() if offset is None else offset
        self.tail = text(0x1A, state.to_header()) if state else b""
        """Field 3 of a Span."""

    def is_like(self, flags: TraceFlags, state: TraceState) -> bool:
        """Return whether a child with these flags and this state shares everything."""
        return flags == self.flags and (state is self.state or state == self.state)


def encode_verdict(context: SpanContext, end_time: int, attributes: bytes, error: Status | None) -> bytes:
    """A partial span as ``ScopeSpans`` field 2: whose it is, and how it ended."""
    ids = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    status = status_field(error.status_code, error.description or "") if error else b""
    return field(0x12, ids + _pack_time(END_TIME, end_time) + attributes + status)


def status_field(code: StatusCode, description: str) -> bytes:
    return field(0x7A, (text(0x12, description) if description else b"") + count_field(0x18, code.value))


def count_field(tag: int, number: int) -> bytes:
    return bytes((tag,)) + varint(number) if number else b""


def encode_events(events: Iterable[Event], encoder: AttributeEncoder, redact: Callable[[str], str]) -> list[bytes]:
    """Encode the events of a span. Where they would make it too large, the later ones lose what they hold."""
    parts: list[bytes] = []
    left = MOST_BESIDE
    for event in events:
        name = redact(event.name)
        body = _pack_time(0x09, event.timestamp) + text(0x12, name if len(name) < left else name[:LONGEST_NAME])
        held = _held(event, encoder, 0x20, left - len(body))
        left -= len(body) + len(held)
        parts.append(field(0x5A, body + held))
    return parts


def encode_links(links: Iterable[Link], encoder: AttributeEncoder) -> list[bytes]:
    """Encode the links of a span, in the same way."""
    parts: list[bytes] = []
    left = MOST_BESIDE
    for link in links:
        context = link.context
        flags = _HAS_IS_REMOTE | (_IS_REMOTE if context.is_remote else 0)
        body = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
        held = _held(link, encoder, 0x28, left)
        left -= len(held)
        parts.append(field(0x6A, body + held + b"\x35" + flags.to_bytes(4, "little")))
    return parts


def _held(record: Event | Link, encoder: AttributeEncoder, dropped: int, left: int) -> bytes:
    """Attributes of an event or a link, and how many were dropped: all of them where there are no bytes left."""
    attributes = record.attributes or {}
    encoded = encoder.encode(attributes)
    if len(encoded) <= left:
        return encoded + count_field(dropped, record.dropped_attributes)
    return count_field(dropped, record.dropped_attributes + len(attributes))
