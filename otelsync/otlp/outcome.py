"""The outcome of an attempt to hand records to a sink."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Outcome:
    """The fate of the records that were given to a sink at one time."""

    accepted: int = 0
    rejected: int = 0
    """Refused for good by the endpoint, with a status that must not be retried."""
    expired: int = 0
    """Given up, as the endpoint has been taking no records at all for too long."""
    partial: int = 0
    """Rejected by the endpoint in an otherwise successful answer."""
    retry: bool = False
    """Nothing counts as done: all records must be given again. Of some the sink may know that they have arrived, others
    may have arrived unnoticed (at-least-once)."""
    denied: bool = False
    """True for a retry that is of no use before somebody changes the address, the credentials or the endpoint."""
    tried: bool = True
    """False where no request was made, as the time for it was up: that says nothing of the endpoint."""
    retry_after: float | None = None
    """Seconds that the endpoint asked to be left alone."""
    reason: str = ""
    """The reason for a rejection or a retry, or else a warning of the endpoint's; safe to print."""
