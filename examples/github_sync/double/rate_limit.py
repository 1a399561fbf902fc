"""GitHub's primary rate limit: a number of requests a window, counted for each token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

ANONYMOUS = ""
ANONYMOUS_LIMIT = 60


@dataclass(slots=True)
class Quota:
    """What one token has used of its window; `reset` is in epoch seconds."""

    limit: int
    used: int
    reset: int

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def headers(self) -> list[tuple[str, str]]:
        """The headers that every answer of the API carries."""
        return [
            ("X-RateLimit-Limit", str(self.limit)),
            ("X-RateLimit-Remaining", str(self.remaining)),
            ("X-RateLimit-Reset", str(self.reset)),
            ("X-RateLimit-Used", str(self.used)),
            ("X-RateLimit-Resource", "core"),
        ]


class RateLimits:
    """The quota of every token that has been seen; safe to use from many threads.

    `limit` and `window` (seconds) hold for tokens; requests without one share 60 a window, as on api.github.com.
    """

    def __init__(self, limit: int = 5000, window: int = 3600, clock: Callable[[], float] = time.time) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._quotas: dict[str, Quota] = {}
        self._lock = threading.Lock()

    def look(self, token: str) -> Quota:
        """A copy of the token's quota now; costs nothing."""
        with self._lock:
            return self._copy(self._current(token))

    def spend(self, token: str) -> tuple[bool, Quota]:
        """Count one request; False when nothing was left to spend."""
        with self._lock:
            quota = self._current(token)
            allowed = quota.used < quota.limit
            quota.used += allowed
            return allowed, self._copy(quota)

    def exhaust(self, token: str, seconds: float) -> None:
        """Use up the token's window; a new one begins after about `seconds` (GitHub tells whole seconds only)."""
        with self._lock:
            quota = self._current(token)
            quota.used = quota.limit
            quota.reset = int(self._clock() + max(1.0, seconds))

    def _current(self, token: str) -> Quota:
        now = self._clock()
        quota = self._quotas.get(token)
        if quota is None or now >= quota.reset:
            limit = self._limit if token != ANONYMOUS else min(ANONYMOUS_LIMIT, self._limit)
            quota = self._quotas[token] = Quota(limit, 0, int(now) + self._window)
        return quota

    @staticmethod
    def _copy(quota: Quota) -> Quota:
        return Quota(quota.limit, quota.used, quota.reset)
