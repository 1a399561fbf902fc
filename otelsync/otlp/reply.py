"""An OTLP endpoint's answer to one request, in words that http and grpc share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONGEST_REASON = 200
"""Characters of a server's own words that are shown."""
LONGEST_THROTTLE = 300.0
"""Seconds. A server that asks for a longer pause gets this one: the hint of a broken server must not stop shipping."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: Literal["ok", "retry", "timeout", "untried", "too_large", "refused", "broken", "denied"]
    """ok: taken, see `content` for what was rejected; retry: not now; timeout: not now, and a smaller request may be
    done in time; untried: there was no time for a request; too_large: smaller requests may be taken; refused: these
    records never; broken: it failed at them, by its own fault or by theirs; denied: no records at all, as long as
    address, credentials or quota are what they are."""
    content: bytes = b""
    """The encoded response message."""
    after: float | None = None
    """Seconds that the endpoint asked to be left alone."""
    reason: str = ""
    """For people, made safe to print."""


def throttle(seconds: float) -> float | None:
    """A server's hint in seconds, within bounds; None where it makes no sense."""
    return min(seconds, LONGEST_THROTTLE) if seconds >= 0 else None
