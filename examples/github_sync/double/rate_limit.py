"""GitHub's primary rate limits: so many requests, or points, a window for each token and each kind of resource."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

ANONYMOUS = ""
ANONYMOUS_LIMIT = 60

Resource = Literal["core", "graphql", "search"]
RESOURCES: tuple[Resource, ...] = ("core", "graphql", "search")

_SEARCH_LIMIT = 30
_SEARCH_WINDOW = 60


@dataclass(slots=True)
class Quota:
    """What one token has used of its window for one resource; `reset` is in epoch seconds."""

    limit: int
    used: int
    reset: int
    resource: Resource = "core"

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
            ("X-RateLimit-Resource", self.resource),
        ]


class RateLimits:
    """The quotas of every token that has been seen; safe to use from many threads.

    `limit` (requests, and points of GraphQL where `graphql_limit` does not say otherwise) and `window` (seconds) hold
    for tokens; requests without one share 60 a window, as on api.github.com. Searches have 30 a minute.
    """

    def __init__(
        self,
        limit: int = 5000,
        window: int = 3600,
        clock: Callable[[], float] = time.time,
        *,
        graphql_limit: int | None = None,
    ) -> None:
        self._limits: dict[Resource, int] = {
            "core": limit,
            "graphql": limit if graphql_limit is None else graphql_limit,
            "search": _SEARCH_LIMIT,
        }
        self._windows: dict[Resource, int] = {"core": window, "graphql": window, "search": min(window, _SEARCH_WINDOW)}
        self._quotas: dict[tuple[str, Resource], Quota] = {}
        self._lock = threading.Lock()
        self.clock = clock

    def look(self, token: str, resource: Resource = "core") -> Quota:
        """A copy of the token's quota now; costs nothing."""
        with self._lock:
            return replace(self._current(token, resource))

    def spend(self, token: str, resource: Resource = "core", cost: int = 1) -> tuple[bool, Quota]:
        """Count a request of that cost; False when less was left to spend."""
        with self._lock:
            quota = self._current(token, resource)
            allowed = quota.used + cost <= quota.limit
            quota.used += cost if allowed else 0
            return allowed, replace(quota)

    def exhaust(self, token: str, seconds: float, resource: Resource = "core") -> None:
        """Use up the token's window; a new one begins after about `seconds` (GitHub tells whole seconds only)."""
        with self._lock:
            quota = self._current(token, resource)
            quota.used = quota.limit
            quota.reset = int(self.clock() + max(1.0, seconds))

    def _current(self, token: str, resource: Resource) -> Quota:
        now = self.clock()
        quota = self._quotas.get((token, resource))
        if quota is None or now >= quota.reset:
            limit = self._limits[resource]
            limit = limit if token != ANONYMOUS else min(ANONYMOUS_LIMIT, limit)
            quota = Quota(limit, 0, int(now) + self._windows[resource], resource)
            self._quotas[token, resource] = quota
        return quota
