"""Windows of rate limits in which nothing new is to be said: most responses change nothing but what is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from otelsync import vocabulary
from otelsync.stages.header_values import count
from otelsync.stages.rate_limit import RateLimit
from otelsync.stages.rate_limit_headers import sole_group

LONGEST: Final = 60.0
"""Seconds after which a response is read as a whole again: clocks drift, and settings change."""
_LONGEST_NAMES: Final = 4096
_LONGEST_COUNT: Final = 12
_MOST: Final = 256


class Names(NamedTuple):
    """Names, as sent, of the headers that tell of a limit; empty where there is none."""

    limit: str
    remaining: str
    reset: str
    used: str
    resource: str


class Window:
    """A limit that was told of as a whole, and how far it may change before something is to be said of it.

    Args:
        limit: As it was told.
        names: The headers that tell of it.
        above: What is left is more than this.
        below: And less than this.
        now: When it was told, in epoch seconds.
        context: What it was read under: what it stands for, and the settings in force.
    """

    __slots__ = ("_above", "_begins", "_below", "_ends", "_names", "context", "limit", "remaining", "seen", "used")

    def __init__(
        self, limit: RateLimit, names: Names, *, above: float, below: float, now: float, context: tuple[object, ...]
    ) -> None:
        self.limit = limit
        self._names = names
        self._above = math.floor(above) + 1
        self._below = math.ceil(below) - 1
        self._begins = self.seen = now
        self._ends = min(now + LONGEST, limit.reset if limit.reset is not None else now)
        self.context = context
        self.remaining, self.used = limit.remaining, limit.used

    def takes(self, headers: Mapping[str, str], now: float) -> bool:
        """Take note of a response, if it says nothing but what is left, and that has changed by little."""
        text = headers[self._names.remaining]
        if not self._begins <= now < self._ends or len(text) > _LONGEST_COUNT:
            return False
        left = int(text) if text.isascii() and text.isdecimal() else -1
        if not self._above < left < self._below:
            return False
        self.remaining, self.seen = left, now
        if self._names.used:
            self.used = count(headers[self._names.used])
        return True


class Windows:
    """The windows of many limits, by host, token, and what the headers say that does not change."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Window] = {}

    def begin(self, host: str, token: str, headers: Mapping[str, str], window: Window, names: Names) -> None:
        """Take note of a window."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[_key(host, token, names, headers)] = window

    def find(self, host: str, token: str, headers: Mapping[str, str]) -> Window | None:
        """Return the window that a response may stand in."""
        names = names_in(headers)
        return self._known.get(_key(host, token, names, headers)) if names is not None else None

    def all(self) -> list[tuple[str, str, Window]]:
        """Return those that are known, with host and token."""
        return [(host, token, window) for (host, token, *_), window in list(self._known.items())]


def attributes_in(window: Window, host: str, token: str) -> dict[str, Any]:
    """Return what the span of a response says of its limit, as :func:`~otelsync.stages.rate_limits.attributes_of`."""
    limit = window.limit
    said: dict[str, Any] = {
        vocabulary.SYNC_RATE_LIMIT_LIMIT: limit.limit,
        vocabulary.SYNC_RATE_LIMIT_REMAINING: window.remaining,
    }
    if window.used is not None:
        said[vocabulary.SYNC_RATE_LIMIT_USED] = window.used
    if limit.reset is not None:
        said[vocabulary.SYNC_RATE_LIMIT_RESET] = int(limit.reset)
    if limit.resource:
        said[vocabulary.SYNC_RATE_LIMIT_RESOURCE] = limit.resource
    if host:
        said[vocabulary.SYNC_RATE_LIMIT_HOST] = host
    if token:
        said[vocabulary.SYNC_RATE_LIMIT_TOKEN] = token
    return said


def _key(host: str, token: str, names: Names, headers: Mapping[str, str]) -> tuple[str, ...]:
    return host, token, headers[names.limit], headers[names.reset], headers[names.resource] if names.resource else ""


def names_in(headers: Mapping[str, str]) -> Names | None:
    """Return the names of headers that tell of one limit alone, as those of most APIs do; None if these do not."""
    names = tuple(headers)
    return _names(names) if len("".join(names)) <= _LONGEST_NAMES else None


@lru_cache(256)
def _names(names: tuple[str, ...]) -> Names | None:
    sent = {name.lower(): name for name in names}
    about = tuple(name for name in sent if "limit" in name)
    group = sole_group(about)
    if group is None or "retry-after" in sent or len(sent) < len(names):
        return None
    found = (group.limit, group.remaining, group.reset, group.used, group.name)
    return Names(*(sent.get(name, "") for name in found))
