"""Rate limits in a response: what its headers and its body say, and whether it refuses for a limit, and for which.

All functions here are pure, and this is the one place that judges a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from otelsync.stages.header_values import Clock, clock_of, wait
from otelsync.stages.rate_limit import Observation, RateLimit
from otelsync.stages.rate_limit_graphql import read_body
from otelsync.stages.rate_limit_headers import MOST_HEADERS, limits_in, usual_limit

_OTHERS: Final = frozenset(("retry-after", "x-github-request-id"))
_REASONS: Final = ("ratelimit-reason", "stripe-rate-limited-reason", "x-ratelimit-scope", "x-ratelimit-global")
"""Headers of refusals that name a limit, whatever remains of others."""
_LONGEST_BODY: Final = 8192
_LONGEST_NAMES: Final = 4096
"""Characters in the names of a response's headers that are worth remembering."""
_NOTHING: Final = Observation()


def read_response(status: int, headers: Mapping[str, str], now: float, body: bytes = b"") -> Observation:
    """Read the limits in a response of any HTTP API.

    Args:
        status: Its status code.
        headers: Its headers, in any case.
        now: The present, in epoch seconds.
        body: As much of its body as is at hand; it matters for 403 and 429 alone.
    """
    told = _told(headers)
    if not told and status not in (403, 429):
        return _NOTHING
    clock = _clock(now, headers)
    if status < 400 and (limit := usual_limit(told, clock)) is not None:
        return Observation(limits=(limit,))
    limits = tuple(limits_in(told, clock))
    retry_after = wait(told["retry-after"], clock) if "retry-after" in told else None
    return Observation(
        limits=limits, retry_after=retry_after, refused=_refusal(status, told, limits, retry_after, body)
    )


def read_graphql(body: object, now: float, headers: Mapping[str, str] | None = None) -> Observation:
    """Read the decoded body of a GraphQL response, whose `headers` say what time it is there."""
    return read_body(body, _clock(now, headers or {}))


def _clock(now: float, headers: Mapping[str, str]) -> Clock:
    date = _either(headers, "Date")
    clock = clock_of(now, date)
    return clock_of(now, date, _either(headers, "Age")) if clock.skew else clock  # a cache may have kept it


def seconds_to_wait(text: str, now: float) -> float | None:
    """Read ``Retry-After``, in seconds: a number of them, or an HTTP date (RFC 9110, section 10.2.3).

    >>> seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT", 1445412450)
    30.0
    """
    return wait(text, clock_of(now))


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say something of limits, with names in lower case."""
    names = tuple(headers)
    about = _about_limits(names) if len("".join(names)) <= _LONGEST_NAMES else _about_limits.__wrapped__(names)
    return {lower: headers[name] for name, lower in about}


@lru_cache(256)
def _about_limits(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pick the headers that say something of limits. Most responses of an API have the same ones."""
    lower = [(name, name.lower()) for name in names]
    return tuple(pair for pair in lower if "limit" in pair[1] or pair[1] in _OTHERS)[:MOST_HEADERS]


def _either(headers: Mapping[str, str], name: str) -> str:
    """Return a header from a mapping that takes names in any case, or as the server has sent them."""
    return headers.get(name) or headers.get(name.lower()) or ""


def _refusal(
    status: int, told: Mapping[str, str], limits: tuple[RateLimit, ...], retry_after: float | None, body: bytes
) -> str:
    """Return the kind of limit that a 403 or 429 is about. Secondary limits are GitHub's; others know one kind."""
    if status not in (403, 429):
        return ""
    text = body[:_LONGEST_BODY].lower()
    if b"secondary rate limit" in text or b"abuse detection" in text:
        return "secondary"
    if any(limit.remaining == 0 for limit in limits) or b"rate limit exceeded" in text:
        return "primary"
    is_github = "x-github-request-id" in told or "gh-limited-by" in told
    if status == 429 or retry_after is not None or any(name in told for name in _REASONS):
        return "secondary" if is_github else "primary"
    return ""
