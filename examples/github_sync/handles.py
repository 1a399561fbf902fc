"""The handle of a stage, as far as the application uses it."""

from __future__ import annotations

from typing import Protocol


class Handle(Protocol):
    """What ``with otelsync.api_call(...) as call`` gives, and every other stage."""

    def set(self, **attributes: object) -> None:
        """Set attributes."""

    def count(self, **items: int) -> None:
        """Count items that have no span of their own."""

    def fail(self, reason: str | BaseException) -> None:
        """Let it fail."""

    def event(self, name: str, /, **fields: object) -> None:
        """Record an event."""
