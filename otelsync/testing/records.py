"""A span and a log record as a test sees them: plain values, whatever they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from otelsync.vocabulary import SERVICE_NAME, SYNC_OUTCOME


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
