"""A batch: consecutive records of one journal file, grouped by resource and scope, on their way to a sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_OURS: Final = b"\x0a\x08otelsync"
"""The name of our own scope, in its message."""


@dataclass(slots=True)
class Group:
    """Records of one resource and one scope.

    Bodies stay in the form in which the journal holds them: already tagged and length-prefixed, so that joining them
    makes the repeated field of an OTLP ``ScopeSpans`` or ``ScopeLogs`` message.
    """

    resource: bytes
    """``ResourceSpans`` field 1: tag, length, Resource message; empty where its definition was lost."""
    scope: bytes
    """``ScopeSpans`` field 1 (tag, length, InstrumentationScope message), then field 3 where a schema URL is known;
    empty where its definition was lost."""
    spans: list[bytes] = field(default_factory=list)
    """Finished spans, each as ``ScopeSpans`` field 2."""
    started: list[bytes] = field(default_factory=list)
    """Spans that have begun and not ended, in the same form, without an end time."""
    logs: list[bytes] = field(default_factory=list)
    """Log records, each as ``ScopeLogs`` field 2."""
    ended: list[bytes] = field(default_factory=list)
    """Those of `spans` whose beginning was recorded too."""
    verdicts: list[bytes] = field(default_factory=list)
    """Ends of other processes' spans, in the same form: ids, and the fields that their ends are made of."""
    released: list[bytes] = field(default_factory=list)
    """The ids, in the same form, of spans of this series that other processes end."""
    pending: list[bytes] = field(default_factory=list)
    """Spans that have ended, in the same form, of which the shipper writes the end that counts."""

    @property
    def is_ours(self) -> bool:
        """Return whether its scope is otelsync's own, in which stages are recorded."""
        return _OURS in self.scope

    @property
    def closed(self) -> list[bytes]:
        """All that says that a span of this series is no longer open."""
        return [*self.ended, *self.released, *self.pending]


@dataclass(slots=True)
class Batch:
    """The records of `journal` from offset `start` to offset `end`, in bytes."""

    journal: str
    start: int
    end: int
    groups: list[Group] = field(default_factory=list)
    corrupted_bytes: int = 0
    """Bytes in the range that hold no readable record."""

    @property
    def spans(self) -> int:
        """Number of finished spans in the batch."""
        return sum(len(group.spans) for group in self.groups)

    @property
    def logs(self) -> int:
        """Number of log records in the batch."""
        return sum(len(group.logs) for group in self.groups)
