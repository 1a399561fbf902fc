"""One rate limit, and what one response says of limits: checked values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One limit: of `limit` calls or points in a window, `remaining` are left until `reset`, in epoch seconds."""

    resource: str = ""
    limit: int | None = None
    remaining: int | None = None
    used: int | None = None
    reset: float | None = None
    window: float | None = field(default=None, compare=False)
    """Length of the window in seconds, where the API tells it."""
    assumed: bool = False
    """True if nobody has told when it is reset, and the usual wait is assumed."""

    @property
    def left(self) -> float:
        """The part of the limit that remains, from 0 to 1; 1 where it is not known."""
        if self.remaining is None:
            return 1.0
        return min(1.0, self.remaining / self.limit) if self.limit else float(self.remaining > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Limits in one response. `retry_after` is in seconds; `refused` is ``primary``, ``secondary`` or empty."""

    limits: tuple[RateLimit, ...] = ()
    retry_after: float | None = None
    refused: str = ""

    @property
    def tightest(self) -> RateLimit | None:
        """The limit of which least is left."""
        return min(self.limits, key=lambda limit: limit.left, default=None)

    def __bool__(self) -> bool:
        return bool(self.limits or self.refused or self.retry_after is not None)
