"""Parts of an OTLP log record as bytes: severity, body, the event's name and id, and the ids of its span."""

from __future__ import annotations

import logging
from binascii import hexlify
from typing import Any, Final

import opentelemetry.context as context_api
from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from otelsync.levels import CRITICAL, DEBUG, ERROR, INFO, WARNING, level_name
from otelsync.logs import events
from otelsync.otlp import encoding as otlp
from otelsync.recording.runtime_context import CURRENT, current_scope
from otelsync.recording.scope import EMPTY, LOG_TAG, SyncScope, scope_of
from otelsync.vocabulary import EVENT_ID

_SEVERITIES: Final = {DEBUG: 5, INFO: 9, WARNING: 13, ERROR: 17, CRITICAL: 21}
"""OTLP severity numbers; source: opentelemetry-specification, logs data model."""

_ENCODED_SEVERITIES: Final = {
    level: bytes((0x10, number)) + otlp.text(0x1A, level_name(level)) for level, number in _SEVERITIES.items()
}
"""Fields 2 and 3 of a LogRecord: severity number and text."""
_HEADS: Final = (
    *(bytes((0x12, n)) for n in range(0x80)),
    *(bytes((0x12, n & 0x7F | 0x80, n >> 7)) for n in range(0x80, 4096)),
)
"""Tag and length of a record of n bytes in ``ScopeLogs``."""
_BODIES: Final = tuple(
    b"\x2a" + otlp.varint(n + 1 + len(otlp.varint(n))) + b"\x0a" + otlp.varint(n) for n in range(512)
)
"""Tags and lengths of a body of n bytes of text in a LogRecord."""


def id_of(event: str) -> str:
    """The id of an event that stands in a catalogue, else an empty text."""
    known = events.known.get(event)
    return known.id if known is not None else ""


def in_scope_logs(body: bytes) -> bytes:
    """A LogRecord as it stands in ``ScopeLogs``."""
    length = len(body)
    return (_HEADS[length] if length < 4096 else b"\x12" + otlp.varint(length)) + body


def otlp_head(level: int, event: str, said: str | None = None) -> bytes:
    """Severity, body, event name and the event's id, as an attribute, of a LogRecord.

    `said`: the body, where that is not the event.
    """
    raw = event.encode("utf-8", "replace")
    text = raw if said is None else said.encode("utf-8", "replace")
    body = _BODIES[len(text)] + text if len(text) < len(_BODIES) else otlp.field(0x2A, otlp.field(0x0A, text))
    severity = _ENCODED_SEVERITIES.get(level)
    if severity is None:
        severity_number = next((n for limit, n in sorted(_SEVERITIES.items(), reverse=True) if level >= limit), 1)
        severity = bytes((0x10, severity_number)) + otlp.text(0x1A, logging.getLevelName(level))
    head = severity + body
    if " " not in event and 0 < len(event) <= 128 and not any(character.isspace() for character in event):
        head += otlp.field(0x62, raw)  # it has the look of an event's name
    number = id_of(event)
    return head + otlp.field(LOG_TAG, otlp.key_value(EVENT_ID, number)) if number else head


_NOWHERE: Final = ("", "", b"", EMPTY)


def ids_in(span: Span | None) -> tuple[str, str, bytes, SyncScope]:
    """Trace id, span id and scope of the current span, or of `span`: as text, and as fields of a LogRecord."""
    current: Any = CURRENT.get() if span is None else span
    trace = getattr(current, "trace", None)
    if trace is not None:
        return trace.hex, current.id_bytes.hex(), trace.log_head + current.id_bytes, current.scope or EMPTY
    if current is None and not context_api.get_current():
        return _NOWHERE
    context = (span or get_current_span()).get_span_context()
    scope = scope_of(span) or current_scope()
    if not context.is_valid:
        return "", "", b"", scope
    fields = b"\x45" + int(context.trace_flags).to_bytes(4, "little")
    fields += b"\x4a\x10" + context.trace_id.to_bytes(16, "big") + b"\x52\x08" + context.span_id.to_bytes(8, "big")
    return format_trace_id(context.trace_id), format_span_id(context.span_id), fields, scope


def encoded_ids_in(span: Span | None) -> tuple[bytes, bytes, bytes, SyncScope]:
    """The same as :func:`ids_in`, with the text encoded."""
    current: Any = CURRENT.get() if span is None else span
    trace = getattr(current, "trace", None)
    if trace is not None:
        raw = current.id_bytes
        return trace.hex_bytes, hexlify(raw), trace.log_head + raw, current.scope or EMPTY
    trace_id, span_id, fields, scope = ids_in(span)
    return trace_id.encode(), span_id.encode(), fields, scope
